//! One thread that compresses what is long.
//!
//! What a segment is compressed to takes megabytes, and the C library keeps as much for each thread that has ever compressed one. So it
//! is always the same thread; nor do the runtime's own threads stand still meanwhile.

use std::fmt;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

use crate::error::{Error, Result};

type Work = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped.
pub(crate) struct Packing(Option<Sender<Work>>);

impl Packing {
    /// Starts it. Where the system gives no thread, whoever asks does the work.
    pub(crate) fn start() -> Packing {
        let (sender, works) = channel::<Work>();
        let run = move || works.into_iter().for_each(|work| work());
        let started = std::thread::Builder::new().name("packing".to_owned()).spawn(run);
        Packing(started.is_ok().then_some(sender))
    }

    /// Without a thread: a clock that stands still would run on while one works.
    #[cfg(test)]
    pub(crate) fn in_place() -> Packing {
        Packing(None)
    }

    /// Does `work` there.
    ///
    /// # Errors
    /// [`Error::Task`] when it panics, or an earlier one has.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R> {
        let Some(sender) = &self.0 else { return Ok(work()) };
        let (answer, answered) = oneshot::channel();
        // Nobody waits any more where it cannot be sent.
        let work = move || drop(answer.send(work()));
        sender.send(Box::new(work)).map_err(|_| Error::Task)?;
        answered.await.map_err(|_| Error::Task)
    }
}

impl fmt::Debug for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Packing").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::current;

    #[tokio::test]
    async fn work_is_done_by_one_thread_and_one_that_panics_is_told() {
        let packing = Packing::start();
        let first = packing.run(|| current().id()).await.unwrap();
        assert_eq!(packing.run(|| current().id()).await.unwrap(), first);
        assert_ne!(first, current().id());
        assert!(matches!(packing.run(|| panic!("a fault")).await, Err::<(), _>(Error::Task)));
        assert!(matches!(packing.run(|| ()).await, Err(Error::Task)));
        assert_eq!(Packing::in_place().run(|| current().id()).await.unwrap(), current().id());
    }
}
