//! The service: session after session, until it is told to stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_catalog::Gap;
use highwater_replication::SlotName;
use highwater_repository::{ClusterName, Repository};
use highwater_wal::{Check, Lsn, TimelineId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::alarms::{Alarm, Alarms};
use crate::error::{Error, Result};
use crate::lag::Lag;
use crate::notify::Notifier;
use crate::over::{Ends, Outlook, Over};
use crate::progress::Policy;
use crate::session::{Ended, now};
use crate::state::{Phase, State};
use crate::state_file::{STATE_INTERVAL, Snapshot, StateFile, Tell};
use crate::whole::WholeSegments;

/// How long is waited before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest wait between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A stream that lasted so long was a good one: the next try waits as after a first failure.
const GOOD_STREAM: Duration = Duration::from_secs(60);
/// A failure of the same kind is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// As many places are remembered where the server had no WAL any more.
const MAX_LOST: usize = 64;
/// While there are alarms it is looked so often whether they are over.
const OVER_INTERVAL: Duration = Duration::from_secs(10);

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
    /// Where the segments are noted that were put whole.
    pub whole: Arc<WholeSegments>,
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
    pub(crate) tell: Tell,
    pub(crate) state_file: Option<StateFile>,
    pub(crate) lag: Lag,
    pub(crate) alarms: Alarms,
    /// What looks whether they are over, between looks, and the look that is under way.
    outlook: Option<Outlook>,
    looking: JoinSet<(Outlook, Result<Ends>)>,
    looked: Option<Instant>,
    /// Whether the events of earlier receivers were looked through.
    pub(crate) has_read_alarms: bool,
    /// Where the server had no WAL any more.
    pub(crate) lost: BTreeSet<(TimelineId, Lsn)>,
    /// Where the slot began, where we have made it: nothing up to there was acknowledged to it.
    pub(crate) slot_began: Option<Lsn>,
    told: Option<(String, Instant)>,
    ticked: Option<Instant>,
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
            tell: Arc::new(tell),
            state_file: None,
            lag: Lag::default(),
            alarms: Alarms::default(),
            outlook: None,
            looking: JoinSet::new(),
            looked: None,
            has_read_alarms: false,
            lost: BTreeSet::new(),
            slot_began: None,
            told: None,
            ticked: None,
        }
    }

    /// Receives until `stop` says so; then all that has come is durable.
    ///
    /// # Errors
    /// What trying again cannot mend, when it is met before any WAL has come; and [`Error::NotSettled`]. Everything else is told and
    /// tried again.
    pub async fn run(mut self, mut stop: Stop) -> Result<()> {
        let path = self.settings.state_file.clone();
        self.state_file = path.map(|path| StateFile::new(path, self.snapshot(), Arc::clone(&self.tell)));
        let ended = self.sessions(&mut stop).await;
        if let Some(file) = self.state_file.take() {
            file.end().await;
        }
        ended
    }

    async fn sessions(&mut self, stop: &mut Stop) -> Result<()> {
        let mut failures = 0_u32;
        let mut has_streamed = false;
        loop {
            self.change(Phase::Connecting, None, "");
            let begun = Instant::now();
            let result = match stop.is_told() {
                true => Ok(Ended::Stopped),
                false => self.session(stop).await,
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
            self.lose(*timeline, *lsn);
        }
        self.change(Phase::Waiting, Some(error.to_string()), &format!("{error}; trying again"));
    }

    /// Remembers that the server has no WAL any more at a place.
    pub(crate) fn lose(&mut self, timeline: TimelineId, lsn: Lsn) {
        self.lost.insert((timeline, lsn));
        if self.lost.len() > MAX_LOST {
            self.lost.pop_first();
        }
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
        self.publish();
    }

    /// Says how it is at once.
    pub(crate) fn publish(&mut self) {
        self.ticked = None;
        self.tick();
    }

    /// Notes what somebody has to look at, unless that was told.
    pub(crate) fn alarm(&mut self, alarm: Alarm) {
        let line = format!("ALARM: {}", alarm.text);
        if self.alarms.raise(alarm) {
            (self.tell)(&line);
            self.state.alarms = self.alarms.texts();
        }
    }

    /// Lets alarms go that are over, and tells of each.
    pub(crate) fn end_alarms(&mut self, over: &[(Gap, Over)]) {
        for (gap, why) in over {
            if self.alarms.end(gap) {
                let Gap { timeline, from, to } = gap;
                (self.tell)(&format!(
                    "the alarm for WAL from {from} to {to} on timeline {timeline} is over: {why}"
                ));
            }
        }
        self.state.alarms = self.alarms.texts();
    }

    /// Where it is looked from now on whether alarms are over.
    pub(crate) fn watch(&mut self, outlook: Outlook) {
        // A look at another way of the server's counts no more.
        self.looking = JoinSet::new();
        (self.outlook, self.looked) = (Some(outlook), Some(Instant::now()));
    }

    /// Looks beside everything else whether alarms are over.
    fn look_for_ends(&mut self) {
        if let Some(Ok((outlook, over))) = self.looking.try_join_next() {
            self.outlook = Some(outlook);
            // A repository that does not answer is told where WAL is put.
            self.end_alarms(&over.unwrap_or_default());
        }
        let gaps = self.alarms.gaps();
        let is_time = self.looked.is_none_or(|looked| looked.elapsed() >= OVER_INTERVAL);
        if !gaps.is_empty()
            && is_time
            && let Some(mut outlook) = self.outlook.take()
        {
            self.looked = Some(Instant::now());
            self.looking.spawn(async move {
                let over = outlook.over(&gaps).await;
                (outlook, over)
            });
        }
    }

    /// How far the server's WAL goes, and how far the repository's.
    pub(crate) fn note_lag(&mut self, server_end: Lsn, in_repository: Option<Lsn>) {
        self.state.server_end = Some(server_end);
        self.state.durable = in_repository;
        let missing = |durable: Lsn| if server_end > durable { server_end.bytes_since(durable) } else { 0 };
        self.state.lag_bytes = in_repository.map(missing);
        self.lag.stored(in_repository.unwrap_or(Lsn::INVALID));
    }

    /// When [`Receiver::tick`] has something to do.
    pub(crate) fn next_tick(&self) -> Instant {
        let interval =
            self.notifier.interval().map_or(STATE_INTERVAL, |interval| interval.min(STATE_INTERVAL));
        self.ticked.map_or_else(Instant::now, |ticked| ticked + interval)
    }

    /// Says how it is, and tells the service manager that we are alive, when it is time.
    pub(crate) fn tick(&mut self) {
        if self.ticked.is_some() && Instant::now() < self.next_tick() {
            return;
        }
        self.ticked = Some(Instant::now());
        self.look_for_ends();
        self.notifier.alive();
        if let Some(file) = &self.state_file {
            file.publish(self.snapshot());
        }
    }

    fn snapshot(&self) -> Snapshot {
        (self.state.clone(), self.lag.waiting_since())
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
            whole: Arc::default(),
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
