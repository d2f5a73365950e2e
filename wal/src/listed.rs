//! What a summary lists: places in a segment, and what is there.

use serde::{Deserialize, Serialize};

use crate::{Lsn, TimelineId, Timestamp};

/// A record that runs over the segment's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Where it starts; `None` if that lies in an earlier segment.
    pub lsn: Option<Lsn>,
    /// Bytes of it that are missing: the next segment's [`continued`](crate::Summary::continued), unless that overwrites it.
    pub remaining: u32,
}

/// A commit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitPoint {
    /// Where it starts: what `recovery_target_lsn` must be to stop right behind it.
    pub lsn: Lsn,
    /// The LSN behind it.
    pub end: Lsn,
    /// Its time, by the server's clock.
    pub time: Timestamp,
    /// The transaction.
    pub xid: u32,
}

/// A checkpoint record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPoint {
    /// Where it starts.
    pub lsn: Lsn,
    /// Where recovery from it starts.
    pub redo: Lsn,
    /// When, by the server's clock, in whole seconds.
    pub time: Timestamp,
    /// Its timeline.
    pub timeline: TimelineId,
    /// Whether the server was being shut down, or recovery ended.
    pub shutdown: bool,
}

/// A named restore point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Where its record starts.
    pub lsn: Lsn,
    /// The LSN behind it.
    pub end: Lsn,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// Its name; not unique.
    pub name: String,
}

/// The end of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndOfRecoveryPoint {
    /// Where its record starts.
    pub lsn: Lsn,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// The timeline that begins.
    pub timeline: TimelineId,
    /// The timeline that it leaves.
    pub previous: TimelineId,
}

/// A relation's file that vanished: `DROP`, but also whatever gives a table a new file (`TRUNCATE`, `VACUUM FULL`,
/// `CLUSTER`, some forms of `ALTER TABLE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Where the record starts: the transaction's commit, or the truncation.
    pub lsn: Lsn,
    /// The transaction; 0 for none (`VACUUM`).
    pub xid: u32,
    /// OID of the tablespace.
    pub tablespace: u32,
    /// OID of the database.
    pub database: u32,
    /// The file's number (`pg_class.relfilenode`).
    pub relation: u32,
    /// The file stays, but was cut to nothing.
    pub truncated: bool,
}

/// A relation's file that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Where the record starts.
    pub lsn: Lsn,
    /// The transaction, possibly a subtransaction.
    pub xid: u32,
    /// OID of the tablespace.
    pub tablespace: u32,
    /// OID of the database; 0 for shared relations.
    pub database: u32,
    /// The file's number (`pg_class.relfilenode`).
    pub relation: u32,
}

/// A database that was dropped, with all its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDropped {
    /// Where the record starts.
    pub lsn: Lsn,
    /// The transaction. If it is a `CREATE DATABASE` that fails, it is rolled back.
    pub xid: u32,
    /// OID of the database.
    pub database: u32,
}

/// A tablespace that was dropped. It was empty: no relation goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceDropped {
    /// Where the record starts.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: u32,
    /// OID of the tablespace.
    pub tablespace: u32,
}

/// A record cut off by a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overwritten {
    /// Where the record starts that says so.
    pub lsn: Lsn,
    /// Where the record that was cut off starts; perhaps in an earlier segment.
    pub record: Lsn,
    /// When the server found that out, by its clock.
    pub time: Timestamp,
}
