//! The server's tar archives, taken apart as they arrive.
//!
//! Bytes are pushed in as the network brings them, and come out as members and pieces of their content, which are
//! slices of what was pushed: nothing is copied and nothing but a header is kept. (The crate `tar` pulls from a
//! blocking reader, which would take a thread, a queue and two more copies of each byte, and for formats that
//! PostgreSQL never writes.)

mod header;
mod splitter;

pub use header::{Kind, Member};
pub use splitter::{Piece, Splitter};

/// An archive that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A header that makes no sense.
    #[error("the member \"{name}\" cannot be read: {reason}")]
    Header {
        /// The member's name as far as it can be told.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Something follows the zeros that end an archive.
    #[error("something follows its end")]
    Trailing,
    /// The archive ends within a member or a header.
    #[error("it ends too early, {missing} bytes are missing at least")]
    Truncated {
        /// How many bytes would have completed what was begun.
        missing: u64,
    },
}

impl Fault {
    fn header(name: &[u8], reason: impl Into<String>) -> Fault {
        Fault::Header { name: String::from_utf8_lossy(name).into_owned(), reason: reason.into() }
    }
}
