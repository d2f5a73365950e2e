//! The state for monitors, written beside everything else: a store that hangs keeps nobody from seeing that it does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::session::now;
use crate::state::State;

/// The state is written so often, and when something has changed.
pub(crate) const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the last state is waited for.
const END_LIMIT: Duration = Duration::from_secs(5);

/// What tells a line to whoever looks.
pub(crate) type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// The state, and since when WAL has been waiting.
pub(crate) type Snapshot = (State, Option<Instant>);

/// Writes what it is given.
pub(crate) struct StateFile {
    sender: watch::Sender<Snapshot>,
    task: JoinHandle<()>,
}

impl StateFile {
    /// Writes into `path` from now on.
    pub(crate) fn new(path: PathBuf, first: Snapshot, tell: Tell) -> StateFile {
        let (sender, receiver) = watch::channel(first);
        StateFile { sender, task: tokio::spawn(write(path, receiver, tell)) }
    }

    /// This is the state now.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.sender.send_replace(snapshot);
    }

    /// For whoever knows more than the last state while nobody can say it.
    pub(crate) fn sender(&self) -> watch::Sender<Snapshot> {
        self.sender.clone()
    }

    /// Sees that the last state is written.
    pub(crate) async fn end(self) {
        drop(self.sender);
        // Whoever looks sees an old state then, and was told why.
        let _ = timeout(END_LIMIT, self.task).await;
    }
}

async fn write(path: PathBuf, mut receiver: watch::Receiver<Snapshot>, tell: Tell) {
    let mut told = None;
    loop {
        let (mut state, waiting_since) = receiver.borrow_and_update().clone();
        state.updated_at = now();
        state.lag_seconds = state.lag_bytes.map(|bytes| match bytes {
            0 => 0.0,
            _ => waiting_since.map_or(0.0, |since| since.elapsed().as_secs_f64()),
        });
        let to = path.clone();
        let written = tokio::task::spawn_blocking(move || state.write(&to)).await;
        if let Ok(Err(error)) = written {
            let line = format!("{}: {error}; hint: monitors see an old state", path.display());
            if told.as_ref() != Some(&line) {
                tell(&line);
                told = Some(line);
            }
        }
        match timeout(STATE_INTERVAL, receiver.changed()).await {
            Ok(Err(_)) if !receiver.has_changed().unwrap_or(false) => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_written_while_nobody_says_anything_and_the_last_one_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(State::FILE_NAME);
        let mut state = State::new("main", now());
        state.lag_bytes = Some(7);
        let tell: Tell = Arc::new(|line: &str| panic!("{line}"));
        let file = StateFile::new(path.clone(), (state.clone(), Some(Instant::now())), tell);
        let seen = || State::read(&path).ok().and_then(|state| state.lag_seconds).unwrap_or_default();
        let limit = Instant::now() + Duration::from_secs(60);
        // Nothing is published: it grows by itself.
        while seen() < 1.0 {
            assert!(Instant::now() < limit, "nothing is written");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        state.lag_bytes = None;
        file.publish((state, None));
        file.end().await;
        let last = State::read(&path).unwrap();
        assert_eq!((last.lag_bytes, last.lag_seconds), (None, None));
    }
}
