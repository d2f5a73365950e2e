//! One connection to the server: from looking where the repository ends until the connection does.

use std::sync::Arc;
use std::time::Duration;

use highwater_replication::{
    Client, StandbyStatus, StartReplication, Started, StreamMessage, WalEvent, WalStream,
};
use highwater_repository::ClusterRepository;
use highwater_wal::{Lsn, TimelineHistory, TimelineId, Timestamp, WalFile};
use tokio::time::{Instant, sleep_until, timeout};

use crate::engine::{Engine, Place, Taking};
use crate::error::{Error, Result};
use crate::held_up::{Hangs, HeldUp};
use crate::notify::Notifier;
use crate::packing::Packing;
use crate::progress::Progress;
use crate::receiver::{Receiver, Stop};
use crate::rest::{PASS_BYTES, Pass, rest_after};
use crate::state::Phase;
use crate::state_file::StateFile;
use crate::target::{Repositories, Strips};

/// How often the server hears of us when nothing else is to be said, and has to answer.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How long a server that wants to know that its WAL is durable, as one does that shuts down, or one that could send more, is held up
/// by a repository that does not take it.
const HOLD_UP_LIMIT: Duration = Duration::from_secs(20);
/// How long everything that has come is given to get into the repository when the receiver is told to stop, or a timeline ends.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// For saying goodbye to the server.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// How a session ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// We were told to stop, and all that had come is durable.
    Stopped,
    /// The server was shut down, and all of its WAL is durable.
    Shutdown,
}

/// What a turn at the stream has brought.
enum Taken {
    Some(Pass),
    TimelineEnd,
    Shutdown,
}

/// How the stream of one timeline ended.
enum StreamEnd {
    Timeline,
    Ended(Ended),
}

impl Receiver {
    /// Receives until the connection ends.
    pub(crate) async fn session(&mut self, stop: &mut Stop) -> Result<Ended> {
        let notifier = Arc::clone(&self.notifier);
        let (mut client, found, mut place) = tokio::select! {
            prepared = alive_while(&notifier, self.prepare()) => prepared?,
            () = stop.wait() => return Ok(Ended::Stopped),
        };
        let target = Arc::new(Repositories {
            clusters: found.clusters.clone(),
            size: found.size,
            system_id: found.system_id,
            check: self.settings.check,
            damaged: place.damaged.clone(),
            strips: Strips::default(),
            whole: Arc::clone(&self.settings.whole),
            packing: Packing::start(),
        });
        let (size, system_id) = (found.size, found.system_id);
        let taking = Taking { size, system_id, check: self.settings.check, policy: self.settings.policy };
        loop {
            let timeline = place.timeline;
            let started = tokio::select! {
                started = alive_while(&notifier, self.begin(client, &found.clusters, &place)) => started?,
                () = stop.wait() => return Ok(Ended::Stopped),
            };
            let next = match started {
                Started::Over { next, client: back } => {
                    client = back;
                    next
                }
                Started::Streaming(mut stream) => {
                    self.tell_streaming(&place);
                    let mut engine = Engine::new(taking, Arc::clone(&target), place.clone());
                    let ended = self.stream(&mut stream, &mut engine, stop).await;
                    match ended {
                        Ok(StreamEnd::Timeline) => {}
                        Ok(StreamEnd::Ended(ended)) => {
                            // The server would find it odd, and no worse, if it were not told.
                            let _ = timeout(GOODBYE_LIMIT, stream.finish()).await;
                            return Ok(ended);
                        }
                        Err(error) => {
                            // The server is let go before the repository is waited for.
                            drop(stream);
                            alive_while(&notifier, engine.let_end()).await;
                            return Err(at(error, timeline, place.begin));
                        }
                    }
                    let (next, back) = stream.finish().await?;
                    client = back;
                    match next {
                        Some(next) => next,
                        None => return Ok(Ended::Shutdown),
                    }
                }
            };
            alive_while(&notifier, self.follow(&mut client, &found, next.timeline)).await?;
            let begin = Lsn(next.switch_point.0 - next.switch_point.0 % size.bytes());
            place = alive_while(&notifier, self.place_on(&found, next.timeline, begin)).await?;
        }
    }

    /// Asks for the WAL from a place on; the timeline's history is put before.
    async fn begin(
        &self,
        mut client: Client,
        clusters: &[ClusterRepository],
        place: &Place,
    ) -> Result<Started> {
        put_histories(&mut client, clusters, place.timeline).await?;
        let slot = self.settings.slot.clone();
        let start = StartReplication { slot, start: place.begin, timeline: place.timeline };
        let started = client.start_replication(&start).await;
        started.map_err(|error| at(error.into(), place.timeline, place.begin))
    }

    /// Takes what comes, until it ends.
    async fn stream(
        &mut self,
        stream: &mut WalStream,
        engine: &mut Engine<Repositories>,
        stop: &mut Stop,
    ) -> Result<StreamEnd> {
        let mut said = self.said(stream)?;
        let mut held_up: Option<(Instant, Lsn)> = None;
        let mut rest: Option<Instant> = None;
        loop {
            engine.begin_puts();
            self.report(stream, engine.progress(), &mut said).await?;
            self.note_progress(engine, &said);
            let has_room = engine.has_room();
            let durable = engine.progress().durable();
            let is_waited_for = !has_room || (said.is_awaited && !engine.progress().is_durable());
            // A repository that is slow and takes something is not away.
            held_up = held_up.filter(|(_, before)| is_waited_for && *before == durable);
            if is_waited_for {
                held_up.get_or_insert_with(|| (Instant::now(), durable));
            }
            if held_up.is_some_and(|(since, _)| since.elapsed() >= HOLD_UP_LIMIT) {
                return Err(Error::StoreTooSlow { limit: HOLD_UP_LIMIT });
            }
            let mut wake = said.next_status();
            wake = wake.min(self.next_tick()).min(held_up.map_or(wake, |(since, _)| since + HOLD_UP_LIMIT));
            wake = engine.deadline().map_or(wake, |deadline| wake.min(deadline));
            rest = rest.filter(|until| Instant::now() < *until);
            wake = rest.map_or(wake, |until| wake.min(until));
            tokio::select! {
                // In this order: what is to be put is begun by waiting for it, and a server that sends without end must not hold it up.
                biased;
                result = engine.finished() => result?,
                () = stop.wait() => {
                    self.settle(stream, engine, &mut said).await?;
                    return Ok(StreamEnd::Ended(Ended::Stopped));
                }
                event = stream.next(), if has_room && rest.is_none() => {
                    let policy = self.settings.policy;
                    match self.take_all(stream, engine, event?, &mut said).await? {
                        Taken::Some(pass) => if let Some(length) = rest_after(&policy, pass) {
                            stream.rest()?;
                            rest = Some(Instant::now() + length);
                        },
                        Taken::TimelineEnd => {
                            self.settle(stream, engine, &mut said).await?;
                            return Ok(StreamEnd::Timeline);
                        }
                        Taken::Shutdown => {
                            engine.settle(SETTLE_LIMIT).await?;
                            self.note_progress(engine, &said);
                            return Ok(StreamEnd::Ended(Ended::Shutdown));
                        }
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Nothing is said and heard yet. Where the session itself hangs, its end is told from beside.
    fn said(&self, stream: &WalStream) -> Result<Said> {
        let (tell, states) = (Arc::clone(&self.tell), self.state_file.as_ref().map(StateFile::sender));
        let tell_hanging = move |what| {
            let error = match what {
                Hangs::StillWaiting => Error::StoreHangs,
                Hangs::LetGo => Error::StoreTooSlow { limit: HOLD_UP_LIMIT },
            };
            tell(&error.to_string());
            if let Some(states) = &states {
                states.send_modify(|(state, _)| {
                    state.error = Some(error.to_string());
                    // How far the server has come meanwhile is not known.
                    state.lag_bytes = None;
                });
            }
        };
        let session = HeldUp::new(stream.cut()?, HOLD_UP_LIMIT, tell_hanging);
        Ok(Said { flushed: Lsn::INVALID, at: None, server_end: Lsn::INVALID, is_awaited: false, session })
    }

    /// Takes an event, and what has come with it: not more than is done in one turn.
    async fn take_all(
        &mut self,
        stream: &mut WalStream,
        engine: &mut Engine<Repositories>,
        first: WalEvent,
        said: &mut Said,
    ) -> Result<Taken> {
        let begun = engine.progress().received();
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                WalEvent::Message(message) => self.take(engine, message, said)?,
                WalEvent::TimelineEnd => return Ok(Taken::TimelineEnd),
                WalEvent::Shutdown => return Ok(Taken::Shutdown),
            }
            let is_much = engine.progress().received().bytes_since(begun) >= PASS_BYTES;
            if is_much || !engine.has_room() || said.is_awaited {
                return Ok(Taken::Some(said.pass(engine.progress(), false)));
            }
            next = stream.next_now().await?;
        }
        Ok(Taken::Some(said.pass(engine.progress(), true)))
    }

    fn take(
        &mut self,
        engine: &mut Engine<Repositories>,
        message: StreamMessage,
        said: &mut Said,
    ) -> Result<()> {
        match message {
            StreamMessage::Wal { start, server_end, bytes, .. } => {
                said.server_end = said.server_end.max(server_end);
                engine.receive(start, &bytes)
            }
            StreamMessage::Keepalive { server_end, wants_reply, .. } => {
                said.server_end = said.server_end.max(server_end);
                if wants_reply {
                    // A server that shuts down asks so, and waits until all of its WAL is durable.
                    engine.flush_now();
                    said.is_awaited = true;
                    said.at = None;
                }
                Ok(())
            }
        }
    }

    /// Puts all that has come while the server hears of it, and says the last of it.
    async fn settle(
        &mut self,
        stream: &mut WalStream,
        engine: &mut Engine<Repositories>,
        said: &mut Said,
    ) -> Result<()> {
        let limit = Instant::now() + SETTLE_LIMIT;
        loop {
            engine.end_now();
            engine.begin_puts();
            self.report(stream, engine.progress(), said).await?;
            self.note_progress(engine, said);
            if engine.is_settled() {
                return Ok(());
            }
            tokio::select! {
                result = engine.finished() => result?,
                () = sleep_until(said.next_status().min(self.next_tick())) => {}
                () = sleep_until(limit) => return Err(Error::NotSettled { limit: SETTLE_LIMIT }),
            }
        }
    }

    /// Tells the server what is new, or that we are alive.
    async fn report(&mut self, stream: &mut WalStream, progress: &Progress, said: &mut Said) -> Result<()> {
        said.session.goes_on();
        let flushed = progress.acknowledged().unwrap_or(Lsn::INVALID);
        let is_time = said.next_status() <= Instant::now();
        if flushed == said.flushed && !is_time {
            return Ok(());
        }
        let status = StandbyStatus { written: progress.received(), flushed, wants_reply: is_time };
        stream.report(&status, now()).await?;
        (said.flushed, said.at) = (flushed, Some(Instant::now()));
        said.is_awaited &= !progress.is_durable();
        Ok(())
    }

    fn note_progress(&mut self, engine: &Engine<Repositories>, said: &Said) {
        let progress = engine.progress();
        let (received, in_repository) = (progress.received(), progress.in_repository());
        let server_end = said.server_end.max(received);
        self.state.received = Some(received);
        self.state.last_commit = engine.last_commit().or(self.state.last_commit);
        self.lag.heard_of(server_end, Instant::now());
        self.note_lag(server_end, Some(in_repository));
        self.tick();
    }

    fn tell_streaming(&mut self, place: &Place) {
        self.state.timeline = Some(place.timeline);
        let slot = self.settings.slot.as_ref().map(|slot| format!(" with slot {slot}")).unwrap_or_default();
        let line = format!("WAL comes from {} on, timeline {}{slot}", place.begin, place.timeline);
        self.change(Phase::Streaming, None, &line);
        self.notifier.ready();
    }
}

/// What the server was told last, and has told.
#[derive(Debug)]
pub(crate) struct Said {
    flushed: Lsn,
    at: Option<Instant>,
    server_end: Lsn,
    /// The server waits to hear that all of its WAL is durable.
    is_awaited: bool,
    /// Looks whether anything can be said.
    session: HeldUp,
}

impl Said {
    fn pass(&self, progress: &Progress, is_drained: bool) -> Pass {
        let is_behind = self.server_end > progress.received();
        Pass { is_drained, is_behind, is_awaited: self.is_awaited }
    }

    fn next_status(&self) -> Instant {
        self.at.map_or_else(Instant::now, |at| at + STATUS_INTERVAL)
    }
}

/// A failure of the stream, as the loss of WAL where it is one.
fn at(error: Error, timeline: TimelineId, lsn: Lsn) -> Error {
    match error {
        Error::Server(error) if error.is_wal_removed() => Error::Removed { timeline, lsn },
        error => error,
    }
}

/// Lets the service manager know that we are alive while something is waited for that has limits of its own.
async fn alive_while<T>(notifier: &Notifier, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        let pause = notifier.interval().unwrap_or(STATUS_INTERVAL);
        match timeout(pause, &mut work).await {
            Ok(done) => return done,
            Err(_) => notifier.alive(),
        }
    }
}

/// Puts the history of a timeline, and those of its ancestors, before anything of its WAL.
async fn put_histories(
    client: &mut Client,
    clusters: &[ClusterRepository],
    timeline: TimelineId,
) -> Result<()> {
    if timeline == TimelineId::FIRST {
        return Ok(());
    }
    let Some(file) = client.timeline_history(timeline).await? else { return Ok(()) };
    let parsed = TimelineHistory::parse(timeline, &file.content)
        .map_err(|error| highwater_replication::Error::Protocol { reason: error.to_string() })?;
    for ancestor in parsed.ancestors.iter().filter(|ancestor| ancestor.timeline != TimelineId::FIRST) {
        if let Some(older) = client.timeline_history(ancestor.timeline).await? {
            put_history_file(clusters, ancestor.timeline, &older.content).await?;
        }
    }
    put_history_file(clusters, timeline, &file.content).await
}

async fn put_history_file(
    clusters: &[ClusterRepository],
    timeline: TimelineId,
    content: &[u8],
) -> Result<()> {
    for cluster in clusters {
        cluster.put_wal(WalFile::History(timeline), content, None).await?;
    }
    Ok(())
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_datetime(time::OffsetDateTime::now_utc())
}
