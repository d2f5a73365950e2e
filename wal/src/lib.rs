//! PostgreSQL's write-ahead log, as data: names, positions, pages, records.
//!
//! Pure: no I/O, no async, no clock.

mod error;
mod file;
mod history;
mod ids;
mod lsn;
mod segment;
mod timestamp;

pub use error::Error;
pub use file::WalFile;
pub use history::{Ancestor, PathStretch, TimelineHistory};
pub use ids::{SystemId, TimelineId};
pub use lsn::Lsn;
pub use segment::{SegmentName, SegmentSize};
pub use timestamp::Timestamp;
