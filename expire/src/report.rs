//! What a run found, and what it did.

use highwater_catalog::retention::Verdict;
use highwater_wal::Timestamp;
use serde::Serialize;

/// What goes, or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Gone {
    /// Packs.
    pub packs: u64,
    /// Their bytes as stored.
    pub pack_bytes: u64,
    /// Files of WAL.
    pub wal_files: u64,
    /// Their bytes as stored.
    pub wal_bytes: u64,
    /// Bytes of manifests and what else lies in the folders of backups.
    pub other_bytes: u64,
}

impl Gone {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.pack_bytes + self.wal_bytes + self.other_bytes
    }
}

/// What a run found and did. Its serialisation is for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The cluster.
    pub cluster: String,
    /// Its system identifier.
    pub system_id: highwater_wal::SystemId,
    /// Whether it was carried out.
    pub is_applied: bool,
    /// The moment from which ages were counted back.
    pub now: Timestamp,
    /// From when on every moment that can be reached stays so.
    pub promised_from: Option<Timestamp>,
    /// What comes of each backup.
    pub verdicts: Vec<Verdict>,
    /// What is removed by this run; without `--apply`, what would be.
    pub removed: Gone,
    /// What else to know.
    pub notes: Vec<String>,
}
