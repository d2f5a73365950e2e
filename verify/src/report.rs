//! What a verification tells.

use highwater_wal::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Weight};

/// How much was looked at, of how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Looked {
    /// Complete backups.
    pub backups: u64,
    /// Backups whose manifests were read.
    pub backups_read: u64,
    /// Files in these manifests.
    pub files: u64,
    /// Segments.
    pub segments: u64,
    /// Segments whose summaries or contents were read.
    pub segments_read: u64,
    /// Other files of WAL: histories, partial segments, backup labels.
    pub other_wal_files: u64,
    /// WAL records whose checksums were compared.
    pub records: u64,
    /// Packs.
    pub packs: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Extents that were read, each once.
    pub extents: u64,
    /// Pages whose checksums were compared.
    pub pages: u64,
    /// Relation names, index objects, keys.
    pub other_objects: u64,
    /// Events.
    pub events: u64,
    /// Events that were read.
    pub events_read: u64,
    /// Plain bytes that were proven.
    pub bytes: u64,
    /// Bytes that the packs take in the store.
    pub stored_bytes: u64,
}

/// What was looked at, and what was found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The cluster.
    pub cluster: String,
    /// Its system identifier.
    pub system_id: String,
    /// The repository.
    pub repository: String,
    /// Whether everything was read.
    pub deep: bool,
    /// What was looked at, in words.
    pub scope: String,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// How much was looked at.
    pub looked: Looked,
    /// What was found: damage first.
    pub findings: Vec<Finding>,
    /// Damages that are not among the findings, because there are too many.
    pub more_damage: u64,
    /// Notes that are not among the findings.
    pub more_notes: u64,
    /// What this verification does not prove.
    pub unproven: Vec<String>,
}

impl Report {
    /// Whether nothing is damaged or missing.
    pub fn is_well(&self) -> bool {
        self.damage() == 0
    }

    /// How many damages there are.
    pub fn damage(&self) -> u64 {
        self.findings.iter().filter(|finding| finding.weight == Weight::Damage).count() as u64
            + self.more_damage
    }

    /// How many notes there are.
    pub fn notes(&self) -> u64 {
        self.findings.iter().filter(|finding| finding.weight == Weight::Note).count() as u64 + self.more_notes
    }
}
