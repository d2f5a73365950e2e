//! Receives a cluster's WAL over the replication protocol and puts it into the repository, for months.
//!
//! What is durable is what the server is told (R17): pieces of the unfinished segment every second or so, segments whole as they come.
//! It holds no state of its own: killed at any moment, it goes on where the repository ends (R18). Its memory is bounded by two
//! segments and what they are compressed to, whatever the store does: when that does not take more, nothing more is read.
//!
//! It never removes anything but pieces of segments that are there whole (R2), and never holds up a server that shuts down longer
//! than a repository that answers needs for the last piece.
//!
//! | module | what it is |
//! | --- | --- |
//! | `receiver` | the service: session after session → [`Receiver`] |
//! | `preparation` | which server this is, whether it may be received, where to begin |
//! | `session` | one connection to the server |
//! | `held_up` | lets go of the server when a session hangs |
//! | `origin` | where the repository ends |
//! | `presence` | which segments it has, and what it lacks in front of a place |
//! | `rest` | when what comes is let lie for a moment: no I/O, no clock |
//! | `progress` | what has come, what is durable, what is put next: no I/O, no clock |
//! | `engine`, `buffer` | bytes in, puts out |
//! | `target` | where it goes: all repositories |
//! | `packing` | the thread that compresses |
//! | `state`, `state_file`, `lag`, `notify` | what it says of itself: `receive.json`, systemd |
//! | `alarms`, `over` | what somebody has to look at, and when that is over |
//! | `recovery` | a server that has not come as far as the repository yet is waited for |
//! | `whole` | the segments that were put whole just now, for who archives beside it |
//!
//! ```no_run
//! use highwater_receiver::{Notifier, Policy, Receiver, Settings, Stop};
//!
//! # async fn example(settings: Settings) -> Result<(), highwater_receiver::Error> {
//! let (stop, told) = Stop::new();
//! let receiver = Receiver::new(settings, Notifier::of_environment(), |line| eprintln!("{line}"));
//! // stop.send(true) ends it in order.
//! receiver.run(told).await
//! # }
//! ```

mod alarms;
mod buffer;
mod engine;
#[cfg(test)]
mod engine_tests;
mod error;
mod held_up;
mod lag;
#[cfg(test)]
mod mending_tests;
mod notify;
mod origin;
mod over;
#[cfg(test)]
mod over_tests;
mod packing;
mod preparation;
mod presence;
mod progress;
mod receiver;
mod recovery;
mod rest;
mod session;
#[cfg(test)]
mod simulation;
mod state;
mod state_file;
mod target;
mod whole;

pub use error::{Error, Result};
pub use notify::Notifier;
pub use progress::Policy;
pub use receiver::{Receiver, Settings, Stop};
pub use state::{Phase, State};
pub use whole::WholeSegments;
