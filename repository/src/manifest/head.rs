//! The head of a manifest: the facts of a backup.

use highwater_wal::{Lsn, SegmentSize, SystemId, TimelineId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::Label;

/// The facts of a backup. Fields that a later version adds are passed over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManifestHead {
    /// Version of these fields and of the lines: 1.
    pub version: u32,
    /// The backup's name.
    pub label: Label,
    /// The machine that made it.
    pub host: String,
    /// The program that made it.
    pub program: String,
    /// When it was begun, by that machine's clock.
    pub begun_at: Timestamp,
    /// When the manifest was made, by that machine's clock.
    pub finished_at: Timestamp,
    /// The backup whose extents were taken over, where there was one. It need not be there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Label>,
    /// How much it is.
    pub totals: Totals,
    /// The parts that come before the lines in `manifest` itself, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ManifestPart>,
    /// For a backup of PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresBackup>,
}

/// The head as it stands in front of the last lines.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredHead {
    #[serde(flatten)]
    pub(crate) head: ManifestHead,
    /// The frame with the lines that follow. It is compared before a line is handed on.
    pub(crate) lines: ManifestPart,
}

/// How much a backup is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes of the packs that were put for this backup, as they are in the store.
    pub stored_bytes: u64,
    /// Number of these packs.
    pub packs: u64,
}

/// One part of a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManifestPart {
    /// Length of the part before encryption: of its Zstandard frame.
    pub bytes: u64,
    /// Digest of these bytes.
    pub digest: Digest,
}

/// What makes a backup one of PostgreSQL. Times and positions are the server's (R10).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PostgresBackup {
    /// The cluster.
    pub system_id: SystemId,
    /// The server's version as `server_version_num` gives it, such as 150006.
    pub server_version: u32,
    /// Size of the cluster's WAL segments in bytes.
    pub segment_size: SegmentSize,
    /// The timeline on which the backup starts.
    pub timeline: TimelineId,
    /// Where WAL is needed from: the redo position of the backup's checkpoint.
    pub start_lsn: Lsn,
    /// The checkpoint record.
    pub checkpoint_lsn: Lsn,
    /// When the backup started, by the server's clock.
    pub start_time: Timestamp,
    /// The timeline on which the backup ended; another one when a standby was promoted meanwhile.
    pub stop_timeline: TimelineId,
    /// Where the backup is consistent: no earlier moment can be reached with it.
    pub stop_lsn: Lsn,
    /// When the backup ended, by the server's clock.
    pub stop_time: Timestamp,
    /// Whether it was taken from a standby.
    #[serde(default)]
    pub from_standby: bool,
    /// The tablespaces beside the default ones. Their files stand in the manifest below `pg_tblspc/<oid>/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<Tablespace>,
}

/// A tablespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its OID.
    pub oid: u32,
    /// The folder in which it lay on the server.
    pub location: String,
}

impl ManifestHead {
    /// The version that this program writes, and the newest that it reads.
    pub const VERSION: u32 = 1;
}
