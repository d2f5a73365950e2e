//! Retention carried out: `highwater expire`.
//!
//! What may go is decided by [`highwater_catalog::retention`]; here it is found out what there is, and what was decided is done
//! (R19, R20). Nothing is removed that the decision does not name, and each step leaves a repository in which everything that
//! stays can be restored: a run that is killed is gone on with by the next one.
//!
//! 1. A mark is taken back from what the rules keep again.
//! 2. What no rule keeps is marked as expired: from now on no backup builds on it and no plan uses it.
//! 3. What was marked a grace ago is claimed, so that nobody can hold it any more; then its manifest goes: from that moment the
//!    backup does not exist.
//! 4. Packs go that no manifest names any more, then the rest of its folder, its mark last.
//! 5. WAL goes that nothing needs: of each log first its index, then its segments.
//!
//! It never removes histories of timelines, relation names and events.
//!
//! - `expiry`: one run, from the listing to the note of what it did
//! - `survey`: what is there: backups, marks, holds
//! - `packs`: which manifests name which packs
//! - `wal`: removing WAL
//! - `empty_strips`: what a receiver that was killed has left, which tells no age
//! - `options`, `report`, `progress`, `error`
//!
//! ```
//! use highwater_catalog::retention::{Clock, DAY, Rules};
//! use highwater_expire::{Error, Expiry, Options};
//! use highwater_repository::{Repository, RepositoryConfig};
//! use highwater_wal::{SegmentSize, SystemId, Timestamp};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # let folder = tempfile::tempdir()?;
//! # let url = format!("file://{}/repository", folder.path().display());
//! # runtime.block_on(async {
//! let (repository, _) = Repository::init(&RepositoryConfig::from_url(&url)).await?;
//! let cluster = repository.cluster(&"main".parse()?, SystemId(7301927410293));
//! cluster.register(SegmentSize::DEFAULT, 15).await?;
//!
//! let expiry = Expiry::open(cluster.clone(), &()).await?;
//! let clock = Clock { here: Timestamp(0), archive: expiry.newest_moment() };
//! let options = Options::new(Rules { window: Some(14 * DAY), ..Rules::default() }, clock);
//! let report = expiry.run(&options, &()).await?;
//! assert!(report.verdicts.is_empty() && !report.is_applied);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod empty_strips;
mod error;
mod expiry;
mod options;
mod packs;
mod progress;
mod report;
mod survey;
mod wal;

pub use error::{Error, Result};
pub use expiry::Expiry;
pub use options::{Options, rules};
pub use progress::{Phase, Progress};
pub use report::{Gone, Report};
