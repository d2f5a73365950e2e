//! How far a run is.

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// What there is, is listed.
    Listing,
    /// The manifest of a backup is read.
    Manifest(String),
    /// It is decided what goes.
    Deciding,
    /// Backups are marked, or marks taken back.
    Marking,
    /// A backup is removed.
    Removing(String),
    /// Packs are removed: how many are done, of how many.
    Packs(u64, u64),
    /// WAL is looked through, and removed where that was asked for; where.
    Wal(String),
}

/// Who wants to know.
pub trait Progress: Sync {
    /// Something else is being done now.
    fn phase(&self, phase: &Phase);
    /// Something that the user should know.
    fn note(&self, text: &str);
}

/// Nobody.
impl Progress for () {
    fn phase(&self, _: &Phase) {}
    fn note(&self, _: &str) {}
}
