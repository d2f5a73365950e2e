//! What is asked of the log, and what it tells.

use std::ops::ControlFlow;

use highwater_wal::{SegmentName, TimelineId};

use crate::Hole;
use crate::log::{LogFilter, LogLine};

/// What to tell of the log, and of which WAL.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// What is wanted.
    pub filter: LogFilter,
    /// The timeline whose path is followed; the newest where nothing was said.
    pub timeline: Option<TimelineId>,
}

/// Something that the log tells. The newest comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A transaction, or a restore point.
    Line(Box<LogLine>),
    /// Segments that are not in the archive although later ones are: what happened in them is not told.
    Hole(Hole),
    /// A segment that is damaged: what happened in it is told up to the damage at best.
    Damaged {
        /// The segment.
        segment: SegmentName,
        /// What was read of it: its name in the repository.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// WAL that was read: bytes by the time of the transaction's end behind them, and those behind the last.
    Written(Vec<(highwater_wal::Timestamp, u64)>, u64),
}

/// How far the search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogProgress {
    /// Segments that were looked at, or passed over by what their summaries say.
    pub segments: u64,
    /// Segments in the range.
    pub of_segments: u64,
    /// Segments that were read.
    pub segments_read: u64,
    /// Bytes of WAL that were read.
    pub bytes_read: u64,
    /// Where the search is.
    pub at: Option<SegmentName>,
}

/// What the log has told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogReport {
    /// How much was looked at and read.
    pub progress: LogProgress,
    /// Damaged segments.
    pub damaged: u64,
    /// Holes.
    pub holes: u64,
    /// What else there is to know: WAL of other timelines, what is damaged. Sentences.
    pub notes: Vec<String>,
}

/// Takes what the log tells. [`ControlFlow::Break`] ends the search.
pub trait LogSink {
    /// The next item.
    fn item(&mut self, item: LogItem) -> ControlFlow<()>;
    /// How far the search is.
    fn progress(&mut self, progress: &LogProgress);
}
