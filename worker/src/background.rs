//! What requests run on while threads work.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::HELPER_THREAD;

/// A runtime on a thread of its own, for as long as this lives: requests go on whatever its users are doing.
#[derive(Debug)]
pub struct Background {
    handle: Handle,
    _until_dropped: oneshot::Sender<()>,
}

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Background> {
        let runtime = Builder::new_current_thread().enable_all().thread_name(HELPER_THREAD).build()?;
        let handle = runtime.handle().clone();
        let (until_dropped, dropped) = oneshot::channel();
        let run = move || {
            // An error says that the other end was dropped, which is what it waits for.
            let _ = runtime.block_on(dropped);
        };
        thread::Builder::new().name(HELPER_THREAD.to_owned()).spawn(run)?;
        Ok(Background { handle, _until_dropped: until_dropped })
    }

    /// What futures are handed to.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
