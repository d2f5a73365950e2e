//! What came of a backup.

use std::time::Duration;

use highwater_repository::{ClusterName, Event, Label, NamesId, Outcome};
use highwater_wal::{Lsn, TimelineId, Timestamp};

use crate::run::ACTION;

/// A complete backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub label: Label,
    /// The backup whose extents were taken over, if any were looked for.
    pub parent: Option<Label>,
    /// The timeline on which it starts.
    pub timeline: TimelineId,
    /// Where WAL is needed from.
    pub start_lsn: Lsn,
    /// Where it is consistent.
    pub stop_lsn: Lsn,
    /// When it started, by the server's clock (R10).
    pub start_time: Timestamp,
    /// When it ended, by the server's clock: moments from here on can be reached with it.
    pub stop_time: Timestamp,
    /// Number of files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes of packs that were put, as they are in the store.
    pub stored_bytes: u64,
    /// Bytes of files that an earlier backup holds.
    pub reused_bytes: u64,
    /// Bytes of files that are zeros and not stored.
    pub zero_bytes: u64,
    /// Segments that it needs, all of them in the archive.
    pub segments: u64,
    /// Whether every record of that WAL was read; without an identity for an encrypted repository, or with `archive-check =
    /// "header"`, it was not.
    pub wal_was_read: bool,
    /// The names object that tells which tables the WAL behind the backup speaks of; or why none was taken, which does not make the
    /// backup any less complete.
    pub names: Result<NamesId, String>,
    /// Databases of which the names could not be read, and why, in a clause.
    pub unnamed: Vec<(String, String)>,
    /// How long it took.
    pub duration: Duration,
}

impl Report {
    /// What is noted of it in the repository.
    pub(crate) fn event(&self, cluster: &ClusterName) -> Event {
        let event = Event::new(ACTION, Some(cluster), Outcome::Done)
            .with("label", self.label.as_str())
            .with("stop-lsn", self.stop_lsn.to_string())
            .with("stop-time", self.stop_time.to_string())
            .with("files", self.files)
            .with("bytes", self.bytes)
            .with("stored-bytes", self.stored_bytes)
            .with("reused-bytes", self.reused_bytes)
            .with("seconds", self.duration.as_secs());
        match &self.names {
            Ok(id) => event.with("names", id.to_string()),
            Err(reason) => event.with("names-missing", reason.as_str()),
        }
    }
}
