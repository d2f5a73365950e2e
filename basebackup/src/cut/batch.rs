//! Batches: as much as a thread takes at a time.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_repository::pack::MAX_EXTENT_BYTES;
use highwater_repository::{Entry, manifest};

use crate::parent::Known;

/// The most plain bytes in a batch: one extent of the longest kind, or eight of a relation.
pub(crate) const BATCH_BYTES: usize = MAX_EXTENT_BYTES;
/// The most steps in a batch, for files without content, folders and links.
const BATCH_STEPS: usize = 1024;

/// Some of the backup's bytes, and what is to be done with them, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) steps: Vec<Step>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// These bytes of the batch are the next extent of the file.
    Extent {
        /// Where they lie in the batch.
        range: Range<usize>,
        /// What the parent has around this place of the file.
        known: Option<Arc<Known>>,
    },
    /// The file has all its extents.
    End(manifest::File),
    /// A folder or a link.
    Other(Entry),
}

impl Batch {
    /// Whether so many more bytes can be added.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= BATCH_BYTES && self.steps.len() < BATCH_STEPS
    }
}

/// Buffers of batches that have been dealt with, to be used again: fresh ones would each cost the kernel's zeroing of
/// pages.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer with room for a batch.
    pub(crate) fn take(&self) -> Vec<u8> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        used.unwrap_or_else(|| Vec::with_capacity(BATCH_BYTES))
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}
