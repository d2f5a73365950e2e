//! Proves what is in a repository (R19, and that what is there is what was put).
//!
//! Without [`Options::deep`] it looks whether all that manifests name and windows need is there: chains of segments without holes on
//! every path, histories that agree, summaries that join up, packs as long as they must be. With it, everything is read,
//! decrypted, decompressed; digests and checksums are compared, of every WAL record across segments' borders and of every
//! page of relation files too.
//!
//! It deletes nothing and mends nothing. What it has proven it notes as an event, from which the next one goes on. Its memory does not
//! grow with the repository (R11): manifests stream, what they name is sorted on the disk.
//!
//! | module | what it is |
//! | --- | --- |
//! | `run` | a verification from its beginning to its end |
//! | `options`, `report`, `finding`, `error` | what goes in and what comes out |
//! | `record`, `past`, `ledger` | what a verification leaves for the next one, finding that, and what is known against backups |
//! | `there` | what is there, by listing |
//! | `chain`, `histories` | decisions: which holes matter to whom, which histories agree |
//! | `ends` | whether WAL has gone from the end of a timeline |
//! | `wal_files` | segments and other files of WAL, and every record in them |
//! | `backups`, `named`, `spool`, `packs`, `blame` | manifests, the extents that they name in order, packs, and who needs what is bad |
//! | `page`, `control`, `relation`, `torn` | pages' checksums, and whether replay mends a wrong one |
//! | `small` | events, keys and what else is small |
//! | `verdict` | what an error says about an object |
//!
//! ```no_run
//! use highwater_repository::{Repository, RepositoryConfig};
//! use highwater_verify::{Options, verify};
//! use highwater_wal::SystemId;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let repository = Repository::open(&RepositoryConfig::from_url("file:///var/lib/highwater")).await?;
//! let cluster = repository.cluster(&"main".parse()?, SystemId(7301927410293));
//! let report = verify(&cluster, &Options::deep(), &()).await?;
//! for finding in &report.findings {
//!     println!("{}: {}", finding.object, finding.what);
//! }
//! # Ok(())
//! # }
//! ```

mod backups;
mod blame;
mod chain;
mod control;
mod ends;
mod error;
mod finding;
mod histories;
mod ledger;
mod named;
mod options;
mod packs;
mod page;
mod past;
mod record;
mod relation;
mod report;
mod run;
mod small;
mod spool;
mod there;
mod torn;
mod verdict;
mod wal_files;

pub use error::{Error, Result};
pub use finding::{Finding, MAX_FINDINGS, Weight};
pub use options::{Options, Progress};
pub use past::last_record;
pub use record::{ACTION, Proven, Record, Seen};
pub use report::{Looked, Report};
pub use run::verify;
