//! Archives the files of a server's `pg_wal`: checked (R4), from a data directory that may archive (R5), into every
//! repository (R1); the same file again is a success, other content under its name is not (R3).
//!
//! It never changes or removes anything, neither in a repository nor in a data directory, and it has no state on disk: whatever
//! becomes of it, PostgreSQL keeps the file and asks again until the answer is yes.
//!
//! A call does everything itself, or finds somebody who keeps connections and has worked ahead: the receive service, or a
//! worker of its own. A call makes its own checks first, and does the work itself whenever nobody is there, or is of another
//! release or build or of other settings, is slow or fails. Nobody says that a file is durable but for the very file that
//! the call has before it: by what the file system says of it, else by its digest.
//!
//! Segments that are on their way at the same time become objects in PostgreSQL's order: the end of each is held back
//! until the one before is durable ([`Gate`](highwater_storage::Gate)). So the archive never has a hole because of work
//! ahead, also when the machine is lost: a hole would stop a standby and every restore to the end of the archive (R6).
//!
//! | module | what it is |
//! | --- | --- |
//! | `job` | what is looked at before, for every file anew → [`Job`] |
//! | `source` | the file |
//! | `data_directory` | where it comes from (R5) |
//! | `check` | whether it is what its name says (R4) |
//! | `put` | into every repository (R1) → [`archive`] |
//! | `error` | why not |
//! | `ask` | whom a call asks first → [`ask()`] |
//! | `worker` | being a process beside the command → [`work`] |
//! | `service` | answering calls within another program → [`Service`] |
//! | `uploads` | what is on its way and what is durable |
//! | `order` | what to begin with next: decided, not done |
//! | `connected` | the repositories, kept open |
//! | `encoders` | how many files are compressed at once |
//!
//! ```no_run
//! use highwater_archive::{Job, archive};
//! use highwater_repository::Config;
//!
//! let config = Config::load(None)?;
//! let job = Job::new(config.cluster(None)?, "pg_wal/00000001000000000000002A".as_ref())?;
//! for answer in archive(&job, &config.repositories)? {
//!     println!("{}: {:?}", answer.repository, answer.result?);
//! }
//! # Ok::<(), highwater_archive::Error>(())
//! ```

mod ask;
mod check;
mod connected;
mod data_directory;
mod encoders;
mod error;
mod job;
#[cfg(test)]
mod lab;
mod order;
mod put;
mod service;
mod source;
#[cfg(test)]
mod tests;
mod uploads;
mod worker;

pub use ask::{Call, Helper, ask, is_of_use};
pub use error::Error;
pub use job::Job;
pub use put::{Answer, archive};
pub use service::Service;
pub use uploads::Received;
pub use worker::work;
