//! How far a backup has come, for whoever watches.

use std::time::{Duration, Instant};

use highwater_repository::Label;

/// Is told how a backup gets on. Calls come from the task that makes the backup, and it waits for them.
pub trait Progress: Send + Sync {
    /// Something else is being done now.
    fn phase(&self, phase: &Phase);

    /// Some more has been received; at most ten times a second.
    fn advanced(&self, amount: &Amount);

    /// Something that the user should know, though the backup goes on.
    fn note(&self, text: &str);
}

/// Nobody watches.
impl Progress for () {
    fn phase(&self, _: &Phase) {}
    fn advanced(&self, _: &Amount) {}
    fn note(&self, _: &str) {}
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting to the server and looking at it and the repository.
    Connecting,
    /// The backup has its label, and reads the manifest of its parent if it has one.
    Begun {
        /// The label.
        label: Label,
        /// The parent's.
        parent: Option<Label>,
    },
    /// The server makes a checkpoint.
    Checkpoint,
    /// Files are received and stored.
    Copying,
    /// The names of all relations are read.
    Names,
    /// What was received is compared with the server's manifest.
    Matching,
    /// The WAL that the backup needs is looked at, or waited for.
    Wal {
        /// Segments that are in the archive and verified.
        verified: u64,
        /// Segments that are needed.
        needed: u64,
        /// The one that is waited for, where one is.
        missing: Option<String>,
    },
    /// The manifest is put.
    Finishing,
}

/// How much has been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Bytes that the server has sent.
    pub bytes: u64,
    /// Bytes that it will send: its own estimate, and at least [`Amount::bytes`].
    pub total_bytes: u64,
    /// Bytes a second, over the last ten seconds or so.
    pub bytes_per_second: u64,
}

impl Amount {
    /// How long the rest takes at this rate; `None` while nothing moves.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.total_bytes.saturating_sub(self.bytes);
        (self.bytes_per_second > 0).then(|| Duration::from_secs(left / self.bytes_per_second))
    }
}

/// At least so much time lies between two calls of [`Progress::advanced`].
const INTERVAL: Duration = Duration::from_millis(100);
/// The time over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts bytes and tells a [`Progress`] of them.
pub(crate) struct Meter<'a> {
    progress: &'a dyn Progress,
    bytes: u64,
    total_bytes: u64,
    told: Instant,
    /// Where the rate is measured from.
    since: (Instant, u64),
    /// Where it will be measured from next.
    next: (Instant, u64),
}

impl<'a> Meter<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, total_bytes: u64) -> Meter<'a> {
        let now = Instant::now();
        Meter { progress, bytes: 0, total_bytes, told: now, since: (now, 0), next: (now, 0) }
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        let now = Instant::now();
        if now - self.told >= INTERVAL {
            self.tell(now);
        }
    }

    pub(crate) fn finish(mut self) {
        self.total_bytes = self.bytes;
        self.tell(Instant::now());
    }

    fn tell(&mut self, now: Instant) {
        self.told = now;
        if now - self.next.0 >= WINDOW / 2 {
            self.since = std::mem::replace(&mut self.next, (now, self.bytes));
        }
        let seconds = (now - self.since.0).as_secs_f64();
        let rate = if seconds > 0.0 { (self.bytes - self.since.1) as f64 / seconds } else { 0.0 };
        self.progress.advanced(&Amount {
            bytes: self.bytes,
            total_bytes: self.total_bytes.max(self.bytes),
            bytes_per_second: rate as u64,
        });
    }
}
