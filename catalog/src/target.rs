//! What a person asks for: the moment to come back to.

use highwater_wal::{Lsn, TimelineId, Timestamp};
use serde::Serialize;

/// A moment to come back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Target {
    /// Everything that is archived.
    Latest,
    /// The moment at which the newest backup is consistent.
    Immediate,
    /// A time by the server's clock.
    Time(Timestamp),
    /// A position in the WAL.
    Lsn(Lsn),
    /// The end of a transaction.
    Xid(u32),
    /// A named restore point.
    Name(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Latest => f.write_str("the latest moment"),
            Target::Immediate => f.write_str("the end of the newest backup"),
            Target::Time(time) => write!(f, "{time}"),
            Target::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Target::Xid(xid) => write!(f, "transaction {xid}"),
            Target::Name(name) => write!(f, "restore point \"{name}\""),
        }
    }
}

/// A target, and what was said about the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The moment.
    pub target: Target,
    /// The timeline to follow; the newest where nothing was said.
    pub timeline: Option<TimelineId>,
    /// Stop just before the target instead of just after it (`recovery_target_inclusive = off`).
    pub exclusive: bool,
    /// Start from this backup instead of the newest that serves.
    pub backup: Option<String>,
}

impl Request {
    /// A request with nothing but a target.
    pub fn new(target: Target) -> Request {
        Request { target, timeline: None, exclusive: false, backup: None }
    }
}
