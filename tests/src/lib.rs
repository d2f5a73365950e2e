//! The harness of Highwater's tests: real servers, started for one test and ended with it, in a small vocabulary,
//! so that a journey in `tests/` reads as a story.
//!
//! It uses none of Highwater's own crates, so that each of them may use it in its tests, and journeys run the
//! binaries as users do. What it starts listens on Unix sockets or 127.0.0.1, lives in a temporary folder, and is
//! ended by its process id, also when the test panics or is killed. Run by root, servers and programs run as the
//! account `postgres`. Nothing is installed here: `scripts/setup` does that.
//!
//! Failures of the harness itself are panics: in a test that is the right answer.
//!
//! ```no_run
//! use highwater_tests::{Postgres, StopMode};
//!
//! let server = Postgres::builder().version(17).wal_segment_size_mb(1).start();
//! server.sql("create table t as select generate_series(1, 10) as n");
//! server.stop(StopMode::Fast);
//! let again = Postgres::from_data_dir(server.data_dir()).start();
//! assert_eq!(again.value("select count(*) from t"), "10");
//! ```

mod account;
mod build;
mod clock;
mod disk;
mod guardian;
mod kits;
mod load;
/// PostgreSQL servers.
pub mod postgres;
mod program;
mod proxy;
mod s3;
mod scratch;
mod server;
mod site;
mod tls;
mod wait;

pub use account::{as_server_account, give_to_server_account, is_root};
pub use build::binary;
pub use clock::Clock;
pub use disk::SmallDisk;
pub use kits::{VERSIONS, cache_folder, client_program, server_program};
pub use load::{History, Load, assert_load_is_whole};
pub use postgres::{FailedStart, Postgres, Rows, Session, SqlError, StopMode};
pub use program::{Output, Program, Running, highwater};
pub use proxy::{Fault, Proxy};
pub use s3::S3;
pub use scratch::{KEEP, Scratch};
pub use site::{CLUSTER, Site};
pub use wait::{PATIENCE, free_port, holds_within, wait_until};
