//! What a person asks for: the moment to come back to.

use highwater_wal::{Lsn, TimelineId, Timestamp};
use serde::Serialize;

use crate::Hole;
use crate::log::TablePattern;

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
    /// Just before a transaction, told by what it did.
    Before(Box<Before>),
}

/// A moment just before a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Before {
    /// What it did.
    pub what: BeforeWhat,
    /// Which one that was. The catalog looks for it before there can be a plan.
    pub found: Option<Loss>,
    /// Segments that are missing behind that, the newest first: a later drop of the table may lie in them. Told in the plan's notes.
    #[serde(skip)]
    pub holes: Vec<Hole>,
}

impl std::fmt::Display for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.found, &self.what) {
            (Some(loss), _) => write!(f, "the moment before {loss}"),
            (None, BeforeWhat::Drop { table, .. }) => {
                write!(f, "the moment before {table} was dropped or truncated")
            }
            (None, BeforeWhat::Transaction { xid }) => write!(f, "the moment before transaction {xid} ended"),
        }
    }
}

/// What a transaction did that a target lies just before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeforeWhat {
    /// It dropped or truncated a table.
    Drop {
        /// The table.
        table: TablePattern,
        /// Of several such transactions the last is meant.
        last: bool,
    },
    /// It has this number.
    Transaction {
        /// The number.
        xid: u32,
    },
}

/// A transaction that is to be undone, with all that came after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The record that recovery stops in front of: the transaction's end, or, of one that dropped a database, the first that does harm.
    pub stop: Lsn,
    /// Where the record of its end begins.
    pub lsn: Lsn,
    /// When it ended, by the server's clock.
    pub time: Timestamp,
    /// Its number.
    pub xid: u32,
    /// The timeline that it lies on.
    pub timeline: TimelineId,
    /// It had been prepared: just before it was committed the cluster holds it as prepared.
    pub prepared: bool,
    /// What it did, as a clause without its subject.
    pub what: String,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "transaction {} {} at {} (LSN {})", self.xid, self.what, self.time, self.lsn)
    }
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
            Target::Before(before) => before.fmt(f),
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
