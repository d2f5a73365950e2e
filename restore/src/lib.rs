//! Rebuilds a data directory by a plan.
//!
//! [`restore()`] takes a proven [`Plan`](highwater_catalog::Plan) and fills a folder, such that a PostgreSQL server started over it
//! recovers to the plan's stop. It does not choose where to stop, never writes outside the folders it was given (R16), never into one
//! that is in use (R13), and leaves nothing behind that PostgreSQL would start before it is whole (R14).
//!
//! | module | what it is |
//! | --- | --- |
//! | `restore` | the order of it all |
//! | `options`, `report`, `progress` | what is asked, what was done, how far it is |
//! | `target` | whether the folders will do: empty, not in use, apart from each other |
//! | `survey`, `proof`, `space` | what is seen to before anything is written (R12) |
//! | `places`, `tablespaces` | which entry of a manifest goes where |
//! | `root` | a folder that is written below, and never left (R16) |
//! | `mark`, `foreign` | the file that says how far an interrupted restore has come; what else lies there (R13) |
//! | `fill` | the files: ranged reads, verified, written at their place |
//! | `settings` | `postgresql.auto.conf` |
//! | `owner`, `sync` | whose the files are; making them outlast a crash |
//!
//! ```no_run
//! use highwater_catalog::{Inventory, Known, Request, Target, plan};
//! use highwater_repository::{ClusterRepository, Config, Repository};
//! use highwater_restore::{Options, RestoreCommand, Silent, restore};
//!
//! # async fn example(inventory: Inventory, cluster: ClusterRepository) -> Result<(), Box<dyn std::error::Error>> {
//! let plan = plan(&inventory, &Request::new(Target::Latest), &Known::default()).map_err(|_| "no way")?;
//! let command = RestoreCommand::beside_this_program(["--cluster", "main"])?;
//! let report = restore(&cluster, &plan, &Options::new("/var/lib/postgresql/restored", command), &Silent).await?;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```

mod error;
mod fill;
mod foreign;
mod mark;
mod options;
mod owner;
mod places;
mod progress;
mod proof;
mod report;
mod restore;
mod root;
mod settings;
mod space;
mod survey;
mod sync;
mod tablespaces;
mod target;

pub use error::{Error, Result};
pub use highwater_repository::marker::Kind;
pub use options::{Action, Options, Role};
pub use owner::Owner;
pub use progress::{Progress, Silent, Step};
pub use report::{Report, RestoredTablespace};
pub use restore::{prove, restore};
pub use settings::{RestoreCommand, settings_of_a_clone, settings_of_a_target};
pub use tablespaces::TablespaceMapping;
