//! The index: what stands in front of all segments of one log (4 GiB of WAL), in one object.
//!
//! Whoever looks for a moment in a million segments would have to ask the store a million times. So the heads of all
//! segments of a log are kept once more, together, as soon as all are there: by whoever notices first. In front of them
//! stands what decides whether they are needed at all ([`LogSummary`]), so that a search reads the beginnings of some
//! thousand objects and few of them whole.
//!
//! An index object says nothing that the segments' own heads do not say: each line is the text of one, byte for byte.
//! It can be removed at any time, and one that is damaged is passed over. It also says that each segment of its log was there
//! when it was made, so it has to go before the first of them does ([`crate::ClusterRepository::remove_index`]).
//!
//! - `summary`: what a log holds, from what its segments hold
//! - `object`: index objects made, read, removed

mod object;
mod summary;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use highwater_wal::{SegmentName, SegmentSize, SystemId, TimelineId, WalFile};
use serde::{Deserialize, Serialize};

use crate::wal_object::WalHead;

pub use object::{Indexed, LogHeads};
pub use summary::{LogEdge, LogSummary};

/// What stands in front of an index object.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LogHead {
    /// Version of these fields and of the lines: 1.
    pub version: u32,
    /// Whose WAL it is.
    pub timeline: TimelineId,
    /// Which 4 GiB of it: the upper half of its positions.
    pub log: u32,
    /// The cluster.
    pub system_id: SystemId,
    /// Bytes in a segment.
    pub segment_size: SegmentSize,
    /// How many lines there are: one for each segment of the log.
    pub segments: u32,
    /// Length and digest of the Zstandard frame with the lines.
    pub lines: crate::manifest::ManifestPart,
    /// What the segments hold, all in all.
    #[serde(flatten)]
    pub summary: LogSummary,
}

impl LogHead {
    /// Version of the fields that this program writes, and the newest that it reads.
    pub const VERSION: u32 = 1;
}

/// What stands in front of all segments of a log, in order.
#[derive(Clone, Debug)]
pub struct LogIndex {
    /// What they hold, all in all.
    pub summary: LogSummary,
    /// One for each segment.
    pub heads: Vec<Arc<WalHead>>,
    /// How many bytes of text they were read from: a measure of the memory that they take.
    pub text_bytes: usize,
}

impl LogIndex {
    /// The head of a segment, if it is one of this log.
    pub fn head(&self, segment: SegmentName) -> Option<&Arc<WalHead>> {
        let of = |head: &Arc<WalHead>| segment_of(head);
        let at = self.heads.binary_search_by_key(&Some(segment), of).ok()?;
        self.heads.get(at)
    }
}

/// The segment that a head stands in front of.
fn segment_of(head: &WalHead) -> Option<SegmentName> {
    match head.file {
        WalFile::Segment(segment) => Some(segment),
        _ => None,
    }
}
