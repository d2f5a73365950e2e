//! What there is to decide about.

use highwater_wal::Timestamp;

use crate::Backup;

/// The backups of one system identifier, as retention sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Backups whose manifest can be read, marked as expired or not.
    pub complete: Vec<Complete>,
    /// Backups whose manifest is there and cannot be read.
    pub damaged: Vec<Damaged>,
    /// Backups without a manifest: running, or cut off.
    pub incomplete: Vec<Incomplete>,
    /// Backups whose removal has begun, by label: nothing brings them back.
    pub remains: Vec<String>,
}

/// A complete backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// The backup.
    pub backup: Backup,
    /// When it was marked as expired, if it was.
    pub marked_at: Option<Timestamp>,
    /// Why somebody holds it, if anybody does.
    pub hold: Option<String>,
    /// Why nothing can be restored from it, apart from its WAL: packs that are missing. `None` where nothing is known against it.
    pub defect: Option<String>,
    /// What a verification has found damaged of it and nobody has seen mended since. `None` where nothing is known against it.
    pub found_damaged: Option<String>,
}

/// A backup whose manifest is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its label.
    pub label: String,
    /// What is wrong.
    pub reason: String,
    /// When it was begun, where that can be read.
    pub begun_at: Option<Timestamp>,
    /// When it was marked as expired, if it was.
    pub marked_at: Option<Timestamp>,
    /// Why somebody holds it, if anybody does.
    pub hold: Option<String>,
}

/// A backup without a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// Its label.
    pub label: String,
    /// When it was begun, where that can be read.
    pub begun_at: Option<Timestamp>,
    /// The host that began it, where that can be read.
    pub host: Option<String>,
    /// The backup from which it takes extents over.
    pub builds_on: Option<String>,
    /// When it was marked as abandoned, if it was.
    pub marked_at: Option<Timestamp>,
}

/// What time it is: by the clock of whoever asks, and by the newest moment that the cluster's servers told of. Where the two
/// disagree, things are taken to be as young as either makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// By the clock of this machine.
    pub here: Timestamp,
    /// The newest moment that the archive and the backups tell of; `None` where they tell of none.
    pub archive: Option<Timestamp>,
}

impl Clock {
    /// The moment from which ages are counted back: a clock that is ahead makes nothing old, and while nothing is archived nothing
    /// gets older.
    pub fn now(&self) -> Timestamp {
        self.archive.map_or(self.here, |archive| archive.min(self.here))
    }

    /// The moment that is noted for what happens now: a clock that is behind makes no time go by when it is mended.
    pub fn to_note(&self) -> Timestamp {
        self.archive.map_or(self.here, |archive| archive.max(self.here))
    }
}
