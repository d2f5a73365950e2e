//! The service: session after session, until it is told to stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_replication::SlotName;
use highwater_repository::{ClusterName, Repository};
use highwater_wal::{Check, Lsn, TimelineId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::notify::Notifier;
use crate::progress::Policy;
use crate::session::{Ended, now};
use crate::state::{Phase, State};

/// How long is waited before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest wait between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A stream that lasted so long was a good one: the next try waits as after a first failure.
const GOOD_STREAM: Duration = Duration::from_secs(60);
/// How often the state is written, at most.
const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// A failure of the same kind is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// As many places are remembered where the server had no WAL any more.
const MAX_LOST: usize = 64;
/// The alarms that are kept; older ones are in the repository's events.
const MAX_ALARMS: usize = 16;

/// What to receive, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the server is reached.
    pub connection: highwater_replication::Config,
    /// The cluster's name in the repositories.
    pub cluster: ClusterName,
    /// Where WAL goes: into each of them (R1).
    pub repositories: Vec<Repository>,
    /// How WAL is checked (R4).
    pub check: Check,
    /// The replication slot that keeps WAL on the server until it is in the repository.
    pub slot: Option<SlotName>,
    /// Whether the slot is made where it is not there.
    pub create_slot: bool,
    /// When received WAL is made durable.
    pub policy: Policy,
    /// The server's data directory, where it is on this machine: it tells whether this is a clone (R5).
    pub data_directory: Option<PathBuf>,
    /// Where the state is written for monitors.
    pub state_file: Option<PathBuf>,
}

/// Told to stop, or not yet.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// What tells to stop, and what is told.
    pub fn new() -> (watch::Sender<bool>, Stop) {
        let (sender, receiver) = watch::channel(false);
        (sender, Stop(receiver))
    }

    /// Waits until it is time to stop.
    pub(crate) async fn wait(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left who could say so.
            std::future::pending().await
        }
    }

    fn is_told(&self) -> bool {
        *self.0.borrow()
    }
}

/// Receives a cluster's WAL for as long as it is let.
pub struct Receiver {
    pub(crate) settings: Settings,
    pub(crate) state: State,
    pub(crate) notifier: Arc<Notifier>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
    /// Where the server had no WAL any more.
    pub(crate) lost: BTreeSet<(TimelineId, Lsn)>,
    pub(crate) told_lost: Option<((TimelineId, Lsn), Lsn)>,
    told: Option<(String, Instant)>,
    written: Option<Instant>,
    behind_since: Option<Instant>,
    was_durable: Lsn,
}

impl Receiver {
    /// A receiver that tells each change of what it does by a line to `tell`.
    pub fn new(
        settings: Settings,
        notifier: Notifier,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> Receiver {
        let state = State::new(settings.cluster.as_str(), now());
        Receiver {
            settings,
            state,
            notifier: Arc::new(notifier),
            tell: Box::new(tell),
            lost: BTreeSet::new(),
            told_lost: None,
            told: None,
            written: None,
            behind_since: None,
            was_durable: Lsn::INVALID,
        }
    }

    /// Receives until `stop` says so; then all that has come is durable.
    ///
    /// # Errors
    /// What trying again cannot mend, when it is met before any WAL has come; and [`Error::NotSettled`]. Everything else is told and
    /// tried again.
    pub async fn run(mut self, mut stop: Stop) -> Result<()> {
        let mut failures = 0_u32;
        let mut has_streamed = false;
        loop {
            self.change(Phase::Connecting, None, "");
            let begun = Instant::now();
            let result = match stop.is_told() {
                true => Ok(Ended::Stopped),
                false => self.session(&mut stop).await,
            };
            has_streamed |= self.state.received.is_some();
            match result {
                Ok(Ended::Stopped) => {
                    self.notifier.stopping();
                    // What a session had received that failed is not in memory any more.
                    if let Some(error) = self.not_stored() {
                        self.change(Phase::Stopped, Some(error.to_string()), &error.to_string());
                        return Err(error);
                    }
                    self.change(Phase::Stopped, None, "stopped");
                    return Ok(());
                }
                Ok(Ended::Shutdown) => {
                    failures = 0;
                    self.change(
                        Phase::Waiting,
                        None,
                        "the server was shut down; all of its WAL is in the repository",
                    );
                }
                Err(error) if stop.is_told() => {
                    self.notifier.stopping();
                    self.change(Phase::Stopped, Some(error.to_string()), &error.to_string());
                    return Err(error);
                }
                Err(error) if error.is_final() && !has_streamed => {
                    self.change(Phase::Stopped, Some(error.to_string()), "");
                    return Err(error);
                }
                Err(error) => {
                    failures = if begun.elapsed() >= GOOD_STREAM { 1 } else { failures + 1 };
                    self.note_failure(&error);
                }
            }
            tokio::select! {
                () = self.pause(failures) => {}
                () = stop.wait() => {}
            }
        }
    }

    /// What has come and is not in the repository, as a failure.
    fn not_stored(&self) -> Option<Error> {
        let (received, durable) = (self.state.received?, self.state.durable?);
        (received > durable).then_some(Error::NotStored { received, durable })
    }

    fn note_failure(&mut self, error: &Error) {
        if let Error::Removed { timeline, lsn } = error {
            self.lost.insert((*timeline, *lsn));
            if self.lost.len() > MAX_LOST {
                self.lost.pop_first();
            }
        }
        self.change(Phase::Waiting, Some(error.to_string()), &format!("{error}; trying again"));
    }

    async fn pause(&mut self, failures: u32) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
        // Apart from others that lost the same server.
        let pause = doubled.min(LONGEST_PAUSE).mul_f64(rand::random_range(0.5..1.0));
        let end = Instant::now() + pause;
        while Instant::now() < end {
            sleep((end - Instant::now()).min(STATE_INTERVAL)).await;
            self.tick();
        }
    }

    /// Notes what is done now, and tells it once.
    pub(crate) fn change(&mut self, phase: Phase, error: Option<String>, line: &str) {
        if self.state.phase != phase {
            self.state.since = now();
        }
        self.state.phase = phase;
        // While it looks again, what was wrong still is.
        if phase != Phase::Connecting {
            self.state.error = error;
        }
        let is_new = self.told.as_ref().is_none_or(|(told, at)| told != line || at.elapsed() >= TELL_AGAIN);
        if !line.is_empty() && is_new {
            (self.tell)(line);
            self.notifier.status(line);
            self.told = Some((line.to_owned(), Instant::now()));
        }
        self.written = None;
        self.tick();
    }

    /// Notes what somebody has to look at.
    pub(crate) fn alarm(&mut self, alarm: String) {
        (self.tell)(&format!("ALARM: {alarm}"));
        self.state.alarms.push(alarm);
        if self.state.alarms.len() > MAX_ALARMS {
            self.state.alarms.remove(0);
        }
    }

    /// For how long WAL has been waiting that is not in the repository.
    pub(crate) fn note_lag(&mut self) {
        let durable = self.state.durable.unwrap_or(Lsn::INVALID);
        if self.state.lag_bytes == 0 {
            self.behind_since = None;
        } else if self.behind_since.is_none() || durable > self.was_durable {
            self.behind_since = Some(Instant::now());
        }
        self.was_durable = durable;
        self.state.lag_seconds = self.behind_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
    }

    /// When [`Receiver::tick`] has something to do.
    pub(crate) fn next_tick(&self) -> Instant {
        let interval =
            self.notifier.interval().map_or(STATE_INTERVAL, |interval| interval.min(STATE_INTERVAL));
        self.written.map_or_else(Instant::now, |written| written + interval)
    }

    /// Writes the state and tells the service manager that we are alive, when it is time.
    pub(crate) fn tick(&mut self) {
        if self.written.is_some() && Instant::now() < self.next_tick() {
            return;
        }
        self.written = Some(Instant::now());
        self.notifier.alive();
        self.state.updated_at = now();
        if let Some(path) = self.settings.state_file.clone()
            && let Err(error) = self.state.write(&path)
        {
            let line = format!("{}: {error}; hint: monitors see an old state", path.display());
            if self.told.as_ref().is_none_or(|(told, _)| *told != line) {
                (self.tell)(&line);
                self.told = Some((line, Instant::now()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver that was told to stop before it reached the server, after a session that got so far.
    async fn stopped(received: Option<Lsn>, durable: Option<Lsn>) -> Result<()> {
        let settings = Settings {
            connection: highwater_replication::Config::parse("host=/nowhere user=nobody").unwrap(),
            cluster: "main".parse().unwrap(),
            repositories: Vec::new(),
            check: Check::Full,
            slot: None,
            create_slot: false,
            policy: Policy::default(),
            data_directory: None,
            state_file: None,
        };
        let mut receiver = Receiver::new(settings, Notifier::of_environment(), |_| {});
        (receiver.state.received, receiver.state.durable) = (received, durable);
        let (stop, told) = Stop::new();
        stop.send(true).unwrap();
        receiver.run(told).await
    }

    #[tokio::test]
    async fn r18_a_stop_while_the_repository_takes_nothing_is_no_success() {
        assert!(stopped(None, None).await.is_ok());
        assert!(stopped(Some(Lsn(100)), Some(Lsn(100))).await.is_ok());
        let error = stopped(Some(Lsn(100)), Some(Lsn(60))).await.unwrap_err();
        assert!(matches!(error, Error::NotStored { received: Lsn(100), durable: Lsn(60) }), "{error}");
    }
}
