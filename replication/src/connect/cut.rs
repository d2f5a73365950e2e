//! Ending a connection from beside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{Shutdown, shutdown};

/// Ends a connection for whoever uses it and for the server, though its user may be held up by something else.
#[derive(Debug)]
pub struct Cut(OwnedFd);

impl Cut {
    /// What ends the connection of a socket.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn of(socket: &impl AsFd) -> io::Result<Cut> {
        socket.as_fd().try_clone_to_owned().map(Cut)
    }

    /// Both ends find the connection closed from now on.
    pub fn now(&self) {
        // One that has ended already is as it should be.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}
