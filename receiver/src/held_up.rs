//! Lets go of a server when the session that receives from it is held up.
//!
//! An append to a strip runs in the session itself, and a disk that hangs holds up both. The server must not be held up as well when it
//! wants to shut down: it waits for us as long as the connection lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_replication::Cut;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// What is told of a session that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangs {
    /// It does, and may go on.
    StillWaiting,
    /// The server does not wait for it any longer.
    LetGo,
}

/// Sees that a session goes on, while this lives.
#[derive(Debug)]
pub(crate) struct HeldUp {
    begun: Instant,
    /// When the session was seen last, in milliseconds since it began.
    seen: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl HeldUp {
    /// Tells it when [`HeldUp::goes_on`] is not called for a quarter of `limit`; cuts the connection after all of it, and tells that.
    pub(crate) fn new(cut: Cut, limit: Duration, mut tell: impl FnMut(Hangs) + Send + 'static) -> HeldUp {
        let (begun, seen) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let last = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut told = None;
            loop {
                let seen = Duration::from_millis(last.load(Ordering::Relaxed));
                let silent = begun.elapsed().saturating_sub(seen);
                if silent >= limit {
                    cut.now();
                    return tell(Hangs::LetGo);
                }
                let is_new = silent >= limit / 4 && told.replace(seen) != Some(seen);
                if is_new {
                    tell(Hangs::StillWaiting);
                }
                let next = if silent >= limit / 4 { limit } else { limit / 4 };
                sleep((next - silent).max(Duration::from_millis(1))).await;
            }
        });
        HeldUp { begun, seen, task }
    }

    /// The session is at work.
    pub(crate) fn goes_on(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.store(now, Ordering::Relaxed);
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_is_let_go_when_a_session_hangs_and_not_before() {
        let limit = Duration::from_secs(20);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (tells, told) = std::sync::mpsc::channel();
        let tell = move |what| tells.send(what).unwrap();
        let session = HeldUp::new(Cut::of(&ours).unwrap(), limit, tell);
        for _ in 0..10 {
            sleep(limit / 5).await;
            session.goes_on();
        }
        assert!(told.try_recv().is_err(), "it goes on");
        for _ in 0..3 {
            sleep(limit * 9 / 10).await;
            session.goes_on();
        }
        sleep(limit * 9 / 10).await;
        let error = theirs.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it was slow, no more");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Hangs::StillWaiting; 4]);
        sleep(limit / 5).await;
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Hangs::LetGo]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_cut_when_the_session_is_over() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        drop(HeldUp::new(Cut::of(&ours).unwrap(), Duration::from_secs(20), |_| panic!("it is over")));
        sleep(Duration::from_secs(60)).await;
        assert!(theirs.read(&mut [0]).is_err());
    }
}
