//! The server's own `backup_manifest`: kept aside as it arrives, read as a stream, matched with what was received.
//!
//! <https://www.postgresql.org/docs/18/backup-manifest-format.html>
//!
//! It has a line for each file, so it grows with their number and is never held whole (R11): it goes into a temporary
//! file, and whether both sides name the same files is told by two sums ([`Tally`]). Only when these differ, both are
//! read once more to name the files ([`differences()`]).

mod differences;
mod parse;
mod sent;
mod spool;
mod tally;

pub use differences::{Difference, differences};
pub use parse::{Summary, WalRange, read};
pub use sent::SentFiles;
pub use spool::{Spool, Spooled};
pub use tally::{FileFacts, Tally};

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Its own checksum says that it is not what the server wrote.
    #[error("its checksum is {found}, and it says {written}")]
    Checksum {
        /// What it says.
        written: String,
        /// What it is.
        found: String,
    },
    /// It is longer than the files that were sent can make it.
    #[error("it is too long: {0}")]
    TooLong(&'static str),
    /// The temporary file that holds it.
    #[error("temporary file: {0}")]
    Io(#[from] std::io::Error),
}
