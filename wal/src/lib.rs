//! PostgreSQL's write-ahead log, as data: names, positions, pages, records.
//!
//! Pure: no I/O, no async, no clock.

mod border;
mod bytes;
mod check;
mod error;
mod file;
mod history;
mod ids;
mod kind;
mod lsn;
mod page;
mod record;
mod records;
mod refusal;
mod segment;
mod summary;
#[cfg(test)]
mod testing;
mod timestamp;
mod walker;

pub use border::Joined;
pub use check::{Check, SegmentKind, check_first_page, check_segment};
pub use error::Error;
pub use file::WalFile;
pub use history::{Ancestor, PathStretch, TimelineHistory};
pub use ids::{SystemId, TimelineId};
pub use kind::{Checkpoint, EndOfRecovery, Finished, Kind};
pub use lsn::Lsn;
pub use page::{LongHeader, PageHeader, PgVersion};
pub use record::{BlockRef, RecordBody, RecordHeader, RelationFile, rmgr};
pub use records::{RawRecord, Record, Records};
pub use refusal::{Reason, Refusal};
pub use segment::{SegmentName, SegmentSize};
pub use summary::{
    CheckpointPoint, CommitPoint, Dropped, EndOfRecoveryPoint, MAX_LISTED, Overwritten, RestorePoint,
    SUMMARY_VERSION, Summary, Unfinished,
};
pub use timestamp::Timestamp;
