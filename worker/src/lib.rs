//! A process that a short-lived command keeps beside it, and how the two find and trust each other.
//!
//! PostgreSQL starts its commands anew for every segment. What is worth keeping between two calls (connections, work done
//! ahead) is kept by a worker: the same binary, started by a call, reached over a Unix socket, ended when nobody has asked for
//! a while. It has no state on disk but the socket. A service that runs anyway can be one as well, beside its own work.
//!
//! Everything here may fail at any time, and then the command does its work itself: so errors are plain [`io::Error`]s
//! that only say why there is no help. This crate knows nothing of WAL or repositories, never decides what a command
//! answers, and never lets a process of another user or of other settings speak for a command.
//!
//! | module | what it is |
//! | --- | --- |
//! | `fingerprint` | what a worker must have in common with its callers: build, user, settings |
//! | `place` | the folder that only this user can enter |
//! | `connection` | messages, signs of life, a handed-over file |
//! | `client` | finding a worker, starting one |
//! | `server` | being one |
//! | `background` | what its requests run on |
//! | `shared` | a state that its callers wait for |
//! | `contained` | a panic that takes nothing else with it |
//!
//! ```
//! use std::time::Duration;
//! use highwater_worker::{Fingerprint, Place, Server, State};
//!
//! # let folder = tempfile::tempdir()?;
//! let place = Place::below(folder.path())?;
//! let fingerprint = Fingerprint::of_process("example").and(b"settings");
//! let server = Server::open(&place, &fingerprint)?.expect("there is no other one");
//! let worker = std::thread::spawn(move || {
//!     server.serve(Duration::from_millis(500), || State::Waiting, |mut connection| {
//!         if let Ok(question) = connection.receive::<String>(Duration::from_secs(5)) {
//!             let _ = connection.send(&format!("{question} yourself"));
//!         }
//!     })
//! });
//! let mut connection = highwater_worker::connect(&place, &fingerprint)?;
//! connection.send(&"hello")?;
//! assert_eq!(connection.receive::<String>(Duration::from_secs(5))?, "hello yourself");
//! worker.join().expect("it does not panic")?;
//! assert!(highwater_worker::connect(&place, &fingerprint).is_err(), "it was idle and has ended");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [`io::Error`]: std::io::Error

mod background;
mod client;
mod connection;
mod contained;
mod fingerprint;
mod place;
mod server;
mod shared;

pub use background::Background;
pub use client::{connect, start};
pub use connection::{Connection, SIGN_OF_LIFE, SILENCE};
pub use contained::{HELPER_THREAD, contain_panics, has_panicked};
pub use fingerprint::Fingerprint;
pub use place::Place;
pub use server::{Server, State};
pub use shared::Shared;
