//! Objects that grow while they are written: the one exception from "put once, as a whole".

use std::fmt::Debug;

use async_trait::async_trait;

use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};

/// An object that grows: who made it adds to it, and nobody else, and never after having let go of it.
///
/// # Contract
///
/// It has its full length from the beginning, all zeros, and every reader sees what was added up to some place and zeros behind
/// it. What was added is never changed. A reader may see bytes before they are durable, and the last of them in part.
///
/// After any failure, and after the future of a call was dropped, nothing can be added any more: whether the bytes arrived is not
/// known, and a system that has once failed to write may say the next time that all is well. What was not answered for has
/// to be put elsewhere.
#[async_trait]
pub trait Growing: Debug + Send {
    /// Adds `body`, and answers when it, and all before it, is durable (R1). Then adds `behind`, which nothing waits for: it is
    /// durable with the next append, or about a second later.
    async fn append(&mut self, body: Body, behind: Body) -> Result<()>;

    /// How many bytes can still be added.
    fn room(&self) -> u64;
}

/// The error for adding to an object that somebody has removed or moved.
pub(crate) fn gone(key: &str) -> Error {
    let message = "it is not in its place any more. hint: nobody else may remove or move what lies there";
    Error::new(ErrorKind::NotFound, "append to", key, message)
}

/// The error for adding to an object that nothing can be added to any more.
pub(crate) fn given_up(key: &str) -> Error {
    Error::new(
        ErrorKind::Other,
        "append to",
        key,
        "an earlier append to it failed. hint: this is a fault in the program, report it",
    )
}

/// The error for adding more than there is room for.
pub(crate) fn no_room(key: &str, length: u64, room: u64) -> Error {
    Error::new(
        ErrorKind::Invalid,
        "append to",
        key,
        format!(
            "{length} bytes are more than the {room} that it has room for. hint: this is a fault in the program, report it"
        ),
    )
}

/// The error for making an object of a name that is taken.
pub(crate) fn taken(key: &str) -> Error {
    let message = "there is an object of this name, and what grows is made anew. hint: try again";
    Error::new(ErrorKind::Unavailable, "make", key, message)
}
