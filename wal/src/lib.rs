//! PostgreSQL's write-ahead log, as data: names, positions, pages, records.
//!
//! Pure: no I/O, no async, no clock.

mod error;
mod ids;
mod lsn;
mod segment;
mod timestamp;

pub use error::Error;
pub use ids::{SystemId, TimelineId};
pub use lsn::Lsn;
pub use segment::{SegmentName, SegmentSize};
pub use timestamp::Timestamp;
