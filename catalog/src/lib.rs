//! The catalog of a cluster: which timelines, backups and segments the repository holds, which moments they reach, and how.
//!
//! The decisions ([`plan()`], [`windows`]) are plain functions over plain data: no I/O, no async. Where one has to know what a
//! segment holds it says so ([`Need`]) and is asked again. Feature `load` (on by default) adds the part that reads
//! the repository and answers those needs.
//!
//! It never writes data objects and never restores anything.
//!
//! - `inventory`: what is there, as plain data
//! - `segments`: sets of segments as unbroken runs
//! - `path`: how the WAL runs along timelines
//! - `origin`: why a timeline came to be
//! - `facts`: what is known of a segment's content
//! - `target`, `plan`, `unreachable`: a moment, the way to it, or why there is none
//! - `time_text`: times as people write them
//! - `names`: which relation a file was at some LSN
//! - `window`: which moments can be reached
//! - `gap`: when WAL that is missing is nothing to act upon any more
//! - `log`: what happened, transaction by transaction
//! - [`retention`]: what may go
//! - `load`: all of this for a real repository
//!
//! ```
//! use highwater_catalog::{Inventory, Known, Request, Target, Unreachable, Unsettled, plan};
//! use highwater_wal::{SegmentSize, SystemId};
//!
//! let nothing = Inventory::empty("main", SystemId(7), SegmentSize::DEFAULT);
//! let answer = plan(&nothing, &Request::new(Target::Latest), &Known::default());
//! assert_eq!(answer, Err(Unsettled::Unreachable(Unreachable::NoBackup)));
//! ```

mod facts;
mod gap;
mod inventory;
#[cfg(feature = "load")]
mod load;
mod log;
mod names;
mod origin;
mod path;
mod plan;
pub mod retention;
mod segments;
mod target;
mod time_text;
mod unreachable;
mod window;

pub use facts::{
    Crossing, Decoded, Joint, Known, LogFacts, LogJoint, Need, RestorePoint, SegmentFacts, Transaction,
};
pub use gap::{Gap, ToldHole, told_holes};
pub use inventory::{Backup, DamagedBackup, ExpiredBackup, Inventory, LostEnd, Unfinished};
#[cfg(feature = "load")]
pub use load::{
    Catalog, LogItem, LogProgress, LogQuery, LogReport, LogSink, Made, NameBook, NearNames, PlanError,
    RestoreSpeed, Windows, newest_system,
};
pub use log::{
    Bucket, Chart, Database as LoggedDatabase, Fate, LogFilter, LogLine, Rows, Table, TableLine,
    TablePattern, Unit as ChartUnit,
};
pub use names::{
    Around, Named, NamedRelation, Names, NamesAt, NamesTable, RelationKind, Unknown, names_around,
};
pub use origin::{Cause, Fork};
pub use path::{Leg, Path};
pub use plan::{ClockStep, Plan, Replay, SegmentRun, Stop, TimelineStep, Unsettled, plan};
pub use segments::SegmentSet;
pub use target::{Before, BeforeWhat, Loss, Request, Target};
pub use time_text::{ParsedTime, TimeError, parse_time};
pub use unreachable::{Hole, OnTimeline, Reach, Unreachable, Unreached};
pub use window::{Branch, Broken, CutOff, Doubted, LeftOut, Stretch, Window, windows};
