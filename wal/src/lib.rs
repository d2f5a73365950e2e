//! PostgreSQL's write-ahead log, as data: names, positions, timelines, pages, records, for PostgreSQL 14 to 18.
//!
//! The crate turns bytes into facts and refuses bytes that aren't WAL. It never touches a file, a socket or a clock, has
//! no async, and stores nothing. It reads WAL and doesn't write any. Of the records only those are decoded that archiving
//! and recovery turn on (commits and aborts, checkpoints, switches, ends of recovery, restore points, dropped and
//! truncated relation files), and those that tell what happened to rows, relations and databases. Indexes are left out.
//!
//! | module | what it knows |
//! | --- | --- |
//! | `lsn`, `ids`, `segment`, `timestamp` | positions, timelines, system identifiers, segments and their names, times |
//! | `file` | the names of all files that are archived |
//! | `history` | timeline histories, and which timeline has the WAL at an LSN |
//! | `page`, `record`, `body`, `kind` | page headers, record headers and checksums, parts of a record, what it says |
//! | `change` | what a record does to rows, relations and databases |
//! | `catalogs` | names of relations and schemas, out of the rows written into `pg_class` and `pg_namespace` |
//! | `image` | full-page images, unpacked |
//! | `walker` | how records lie across pages, and what a crash or a new timeline does to them |
//! | `check`, `first_page` | whether a segment may be archived (R4) |
//! | `summary`, `listed`, `border` | what it holds, and what lies between two |
//! | `records`, `walk` | records off contiguous WAL that comes in pieces, or segment by segment beside their summaries |
//! | `fit` | whether a summary can be its segment's, and whether segments fit together |
//! | `growing` | what a segment holds while it is still being received |
//! | `refusal`, `error` | what is wrong with a piece of WAL, or with a name |
//!
//! What a segment holds is known from one pass over it:
//!
//! ```no_run
//! use highwater_wal::{Check, SegmentKind, SegmentName, SegmentSize, check_segment};
//!
//! let name: SegmentName = "00000001000000000000002A".parse()?;
//! let bytes = std::fs::read(format!("pg_wal/{name}"))?;
//! let summary = check_segment(name, SegmentSize::DEFAULT, None, &bytes, Check::Full, SegmentKind::Complete)?;
//! if let Some(last) = summary.last_commit {
//!     println!("{name}: {} commits, the last at {}, {}", summary.commits, last.lsn, last.time);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
mod border;
mod bytes;
mod catalogs;
mod change;
mod check;
mod error;
mod file;
mod first_page;
mod fit;
mod growing;
mod history;
mod ids;
mod image;
mod kind;
mod listed;
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
mod walk;
mod walker;

pub use body::{BlockRef, RecordBody, RelationFile};
pub use border::Joined;
pub use catalogs::{
    Catalog, CatalogPlace, CatalogRow, CatalogRows, ClassRow, MappedFile, NamespaceRow, RowChange, RowOrigin,
    Untold, UntoldRow,
};
pub use change::Change;
pub use check::{Check, SegmentCheck, SegmentKind, check_first_page, check_segment};
pub use error::Error;
pub use file::WalFile;
pub use growing::GrowingSummary;
pub use history::{Ancestor, PathStretch, TimelineHistory};
pub use ids::{SystemId, TimelineId};
pub use image::{Compression, Image, ImageError};
pub use kind::{Checkpoint, EndOfRecovery, Finished, Kind};
pub use listed::{
    CheckpointPoint, CommitPoint, Created, DatabaseDropped, Dropped, EndOfRecoveryPoint, Overwritten,
    RestorePoint, TablespaceDropped, Unfinished,
};
pub use lsn::Lsn;
pub use page::{LongHeader, PageHeader, PgVersion};
pub use record::{RecordHeader, rmgr};
pub use records::{RawRecord, Record, Records};
pub use refusal::{Reason, Refusal};
pub use segment::{SegmentName, SegmentSize};
pub use summary::{MAX_LISTED, SUMMARY_VERSION, Summary};
pub use timestamp::Timestamp;
pub use walk::{Walk, Walked};
