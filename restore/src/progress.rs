//! Telling how far a restore has come.

/// What a restore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It reads the manifest and proves the plan; nothing has been written.
    Proving,
    /// It writes files.
    Files,
    /// It waits until the disk has everything.
    Syncing,
}

/// Who wants to know how far a restore has come. All calls come from the task that restores.
pub trait Progress: Send + Sync {
    /// The next step begins.
    fn step(&self, _step: Step) {}
    /// So many files with so many bytes are going to be written.
    fn total(&self, _files: u64, _bytes: u64) {}
    /// So many more bytes are written, or were written before the restore was interrupted.
    fn written(&self, _bytes: u64) {}
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
