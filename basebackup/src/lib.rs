//! Base backups: a running server sends all its files over the replication protocol, and they become packs and a manifest
//! in the repository.
//!
//! A backup exists when its manifest does, and that is put last (R9): after every pack is durable, after each file was
//! matched with the server's own `backup_manifest`, and after the WAL from the backup's start to its stop was found in the
//! archive and read. It writes nothing into the server's data directory and nothing but temporary files on its own host,
//! knows nothing of restoring, and takes as much memory for a large cluster as for a small one (R11).
//!
//! ```text
//! server ─▶ tar ─▶ cut ──▶ pool ──▶ store ──▶ packs           then: server_manifest ─▶ archive ─▶ manifest
//!             │     ▲     (threads)   └─────▶ manifest
//!             ▼     └── parent: what the backup before holds
//!        server_manifest
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | `run` | a backup from its beginning to its end |
//! | [`advice`] | what in a server's settings would hurt |
//! | `options`, `progress`, `report`, `error` | what goes in and what comes out |
//! | `server`, `preconditions` | what is to be known of the server, its clock (R10), and what must be so before |
//! | `pipeline`: `receive`, `pool`, `store` | receiving and cutting; digesting and compressing; putting |
//! | `relation_names` | which table a number in the WAL means, as the server tells it |
//! | [`tar`] | the server's archives, taken apart as they arrive |
//! | `layout`, `cut` | what a path says about a file; files cut into extents |
//! | `parent` | the backup before, whose unchanged extents are taken over |
//! | [`server_manifest`], `matching`, `backup_label` | what the server says it has sent |
//! | `wal_needed`, `wal_proof`, `archive` | the WAL that the backup needs: which, whether it is the right one, waiting for it |
//!
//! ```no_run
//! use highwater_basebackup::{Options, run};
//! use highwater_replication::Config;
//! use highwater_repository::{Repository, RepositoryConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let repository = Repository::open(&RepositoryConfig::from_url("file:///var/lib/highwater")).await?;
//! let server = Config::parse("host=/run/postgresql user=backup")?;
//! let report = run(&Options::new(server, "main".parse()?), &repository, &()).await?;
//! println!("{}: {} files, consistent from {}", report.label, report.files, report.stop_lsn);
//! # Ok(())
//! # }
//! ```

pub mod advice;
mod archive;
mod backup_label;
mod cut;
mod error;
mod layout;
mod matching;
mod options;
mod parent;
mod pipeline;
mod pool;
mod preconditions;
mod progress;
mod receive;
mod relation_names;
mod report;
mod run;
mod server;
pub mod server_manifest;
mod store;
pub mod tar;
mod wal_needed;
mod wal_proof;

pub use error::{Error, Result};
pub use options::Options;
pub use progress::{Amount, Phase, Progress};
pub use relation_names::{NAMES_LIMIT, NamesReport, take_names};
pub use report::Report;
pub use run::{put_history, run, run_until};
