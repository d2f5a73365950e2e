//! Bytes in, puts out: carries out what [`Progress`] decides, for one timeline.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_repository::{Plain, TailPiece};
use highwater_wal::{
    Check, CommitPoint, GrowingSummary, Lsn, SegmentName, SegmentSize, Summary, SystemId, TimelineId,
};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::buffer::{Chunks, SegmentBuffer};
use crate::error::{Error, Result};
use crate::progress::{Policy, Progress, Put};
use crate::target::Target;

/// Where to begin on a timeline, and what the repository has from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) timeline: TimelineId,
    /// A segment's start.
    pub(crate) begin: Lsn,
    /// Up to where the repository has pieces.
    pub(crate) stored: Lsn,
    /// Those pieces, to be compared with what comes.
    pub(crate) pieces: Vec<(TailPiece, Plain)>,
    /// Pieces that are damaged: what they held has to come again.
    pub(crate) damaged: BTreeSet<TailPiece>,
}

/// How segments are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taking {
    pub(crate) size: SegmentSize,
    pub(crate) system_id: SystemId,
    pub(crate) check: Check,
    pub(crate) policy: Policy,
}

/// What came of a piece, and the summary that was lent for it.
type PieceDone = (Result<Option<CommitPoint>>, GrowingSummary<Bytes>);

/// A piece on its way.
enum PiecePut {
    Task(JoinHandle<PieceDone>),
    /// Put by whoever waits for it.
    Here(Pin<Box<dyn Future<Output = PieceDone> + Send>>),
}

impl Future for PiecePut {
    type Output = Result<PieceDone>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<PieceDone>> {
        match self.get_mut() {
            PiecePut::Task(task) => Pin::new(task).poll(context).map_err(|_| Error::Task),
            PiecePut::Here(put) => put.as_mut().poll(context).map(Ok),
        }
    }
}

/// The end of what is durable is marked so often, where it has moved: what goes from the end of the repository is noticed up to there.
const MARK_INTERVAL: Duration = Duration::from_secs(60);

/// The longest message of WAL that a server sends: `MAX_SEND_SIZE` in `walsender.c` (PostgreSQL 18).
const LONGEST_MESSAGE_BYTES: u64 = 128 << 10;

/// One timeline's WAL on its way into the repository.
pub(crate) struct Engine<T> {
    taking: Taking,
    timeline: TimelineId,
    target: Arc<T>,
    progress: Progress,
    buffers: VecDeque<SegmentBuffer>,
    /// Memory of a segment that is put.
    space: BytesMut,
    /// Pieces that are still to be compared, in order of their ends.
    expected: VecDeque<(TailPiece, Plain)>,
    piece: Option<(Put, PiecePut)>,
    segment: Option<(Put, JoinHandle<Result<Summary>>)>,
    /// Segments whose pieces are to be removed, and the one that is being removed.
    to_remove: VecDeque<SegmentName>,
    removal: Option<JoinHandle<Result<()>>>,
    last_commit: Option<CommitPoint>,
    mark: Mark,
    begun: Instant,
}

/// What of the timeline is marked as being there.
struct Mark {
    reached: Lsn,
    /// When that was.
    at: Option<Instant>,
    /// Whatever comes is marked without waiting: there may be nobody to do it later.
    now: bool,
    task: Option<JoinHandle<Result<()>>>,
}

impl<T: Target> Engine<T> {
    pub(crate) fn new(taking: Taking, target: Arc<T>, place: Place) -> Engine<T> {
        let mut expected = place.pieces;
        let size = taking.size;
        expected.sort_by_key(|(piece, _)| piece.end(size));
        Engine {
            taking,
            timeline: place.timeline,
            target,
            progress: Progress::new(size.bytes(), taking.policy, place.begin, place.stored),
            buffers: VecDeque::new(),
            space: BytesMut::new(),
            expected: expected.into(),
            piece: None,
            segment: None,
            to_remove: VecDeque::new(),
            removal: None,
            last_commit: None,
            mark: Mark { reached: place.begin, at: None, now: false, task: None },
            begun: Instant::now(),
        }
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether more may be received. There is memory for two segments: that of one that was put serves the one after the next, once no
    /// piece holds it.
    pub(crate) fn has_room(&self) -> bool {
        let needs_space = self.buffers.back().is_none_or(|last| last.missing() < LONGEST_MESSAGE_BYTES);
        let is_held = match self.piece {
            Some((Put::Piece { from, .. }, _)) => from < self.progress.whole(),
            _ => false,
        };
        self.progress.has_room() && !(needs_space && (is_held || self.buffers.len() > 1))
    }

    /// The last commit that is known to be in the repository.
    pub(crate) fn last_commit(&self) -> Option<CommitPoint> {
        self.last_commit
    }

    pub(crate) fn flush_now(&mut self) {
        self.progress.flush_now();
    }

    /// All that has come is put, and marked: there comes no more.
    pub(crate) fn end_now(&mut self) {
        self.flush_now();
        self.mark.now = true;
    }

    /// Takes WAL that begins at `start`.
    ///
    /// # Errors
    /// When it is not what comes next, or not what the repository has.
    pub(crate) fn receive(&mut self, start: Lsn, bytes: &[u8]) -> Result<()> {
        let expected = self.progress.received();
        if start != expected {
            return Err(Error::NotNext { expected, found: start });
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let buffer = self.open_buffer();
            let length =
                usize::try_from(buffer.missing()).map_or(rest.len(), |missing| missing.min(rest.len()));
            let (now, later) = rest.split_at(length);
            buffer.push(now);
            rest = later;
            self.progress.receive(length as u64, self.begun.elapsed());
        }
        self.compare()
    }

    /// The segment that the next byte belongs to.
    fn open_buffer(&mut self) -> &mut SegmentBuffer {
        let Taking { size, system_id, .. } = self.taking;
        if self.buffers.back().is_none_or(|last| last.missing() == 0) {
            let name = SegmentName::containing(self.timeline, self.progress.received(), size);
            let space = std::mem::take(&mut self.space);
            self.buffers.push_back(SegmentBuffer::new(name, size, system_id, space));
        }
        let last = self.buffers.len() - 1;
        &mut self.buffers[last]
    }

    fn compare(&mut self) -> Result<()> {
        let size = self.taking.size;
        while let Some((piece, plain)) =
            self.expected.pop_front_if(|(piece, _)| piece.end(size) <= self.progress.received())
        {
            let (from, to) = (piece.segment.start(size) + u64::from(piece.from), piece.end(size));
            let found = self.slice(from, to).map(|bytes| bytes.digest());
            if found.is_some_and(|found| found != plain.digest) {
                return Err(Error::OtherWal { timeline: self.timeline, lsn: to });
            }
        }
        Ok(())
    }

    fn buffer_of(&mut self, lsn: Lsn) -> Option<&mut SegmentBuffer> {
        self.buffers.iter_mut().find(|buffer| buffer.start() <= lsn && lsn < buffer.end())
    }

    fn slice(&mut self, from: Lsn, to: Lsn) -> Option<Chunks> {
        self.buffer_of(from).map(|buffer| buffer.slice(from, to))
    }

    /// Begins what is to be put now.
    pub(crate) fn begin_puts(&mut self) {
        while let Some(put) = self.progress.next(self.begun.elapsed()) {
            match put {
                Put::Piece { from, to } => self.begin_piece(put, from, to),
                Put::Segment { start } => self.begin_segment(put, start),
            }
        }
        let (size, piece) = (self.taking.size, self.piece.as_ref().map(|(put, _)| *put));
        // A piece that is still on its way would come behind the removal.
        let is_over = |name: &SegmentName| match piece {
            Some(Put::Piece { from, .. }) => from >= name.end(size),
            _ => true,
        };
        if self.removal.is_none()
            && let Some(name) = self.to_remove.pop_front_if(|name| is_over(name))
        {
            let target = Arc::clone(&self.target);
            self.removal = Some(tokio::spawn(async move { target.remove_pieces(name).await }));
        }
        self.begin_mark();
    }

    /// What is durable and not marked yet.
    fn unmarked(&self) -> Option<Lsn> {
        self.progress.acknowledged().filter(|lsn| *lsn > self.mark.reached)
    }

    fn begin_mark(&mut self) {
        let is_time = self.mark.now || self.mark.at.is_none_or(|at| at.elapsed() >= MARK_INTERVAL);
        if let Some(lsn) = self.unmarked().filter(|_| is_time && self.mark.task.is_none()) {
            let (target, timeline) = (Arc::clone(&self.target), self.timeline);
            self.mark.task = Some(tokio::spawn(async move { target.mark(timeline, lsn).await }));
            (self.mark.reached, self.mark.at) = (lsn, Some(Instant::now()));
        }
    }

    fn begin_piece(&mut self, put: Put, from: Lsn, to: Lsn) {
        let (target, check) = (Arc::clone(&self.target), self.taking.check);
        let (size, is_awaited) = (self.taking.size, self.taking.policy.synchronous);
        let Some(buffer) = self.buffer_of(from) else { return };
        let bytes = buffer.slice(from, to);
        let Some((mut growing, unseen)) = buffer.lend_summary(to) else { return };
        let start = buffer.start();
        let piece = TailPiece::new(buffer.name, from.bytes_since(start) as u32, to.bytes_since(start) as u32);
        debug_assert!(u64::from(piece.to) <= size.bytes());
        let task = async move {
            for chunk in unseen.pieces() {
                growing.push(chunk.clone());
            }
            if let Some(refusal) = growing.refusal().filter(|_| check == Check::Full) {
                return (Err(refusal.clone().into()), growing);
            }
            let summary = growing.summary().filter(|_| growing.refusal().is_none()).cloned();
            let commit = summary.as_ref().and_then(|summary| summary.last_commit);
            (target.put_piece(piece, bytes, summary, is_awaited).await.map(|()| commit), growing)
        };
        let on_its_way = match is_awaited && self.target.is_quick(piece) {
            true => PiecePut::Here(Box::pin(task)),
            false => PiecePut::Task(tokio::spawn(task)),
        };
        self.piece = Some((put, on_its_way));
    }

    fn begin_segment(&mut self, put: Put, start: Lsn) {
        let end = start + self.taking.size.bytes();
        let target = Arc::clone(&self.target);
        let Some(buffer) = self.buffer_of(start) else { return };
        let (name, bytes) = (buffer.name, buffer.slice(start, end));
        self.segment = Some((put, tokio::spawn(async move { target.put_segment(name, bytes).await })));
    }

    /// Waits until something that was begun is done; for ever where nothing was. Its future can be dropped.
    ///
    /// # Errors
    /// Why it could not be put.
    pub(crate) async fn finished(&mut self) -> Result<()> {
        let Engine { piece, segment, removal, mark, .. } = self;
        tokio::select! {
            answer = done(piece.as_mut().map(|(_, put)| put)) => {
                let Some((put, _)) = self.piece.take() else { return Ok(()) };
                let (result, growing) = answer?;
                self.piece_is_done(put, result, growing)
            }
            answer = done(segment.as_mut().map(|(_, task)| task)) => {
                let Some((put, _)) = self.segment.take() else { return Ok(()) };
                self.segment_is_done(put, ended(answer)??)
            }
            answer = done(removal.as_mut()) => {
                self.removal = None;
                // What is left of pieces does no harm, and is looked at when the receiver starts.
                let _ = ended(answer)?;
                Ok(())
            }
            answer = done(mark.task.as_mut()) => {
                self.mark.task = None;
                // The next one stands for it as well.
                let _ = ended(answer)?;
                Ok(())
            }
        }
    }

    fn piece_is_done(
        &mut self,
        put: Put,
        result: Result<Option<CommitPoint>>,
        growing: GrowingSummary<Bytes>,
    ) -> Result<()> {
        let commit = result?;
        if let Put::Piece { from, .. } = put
            && let Some(buffer) = self.buffer_of(from)
        {
            buffer.take_back(growing);
        }
        self.note_commit(commit);
        self.progress.done(put);
        Ok(())
    }

    fn segment_is_done(&mut self, put: Put, summary: Summary) -> Result<()> {
        self.note_commit(summary.last_commit);
        self.progress.done(put);
        let whole = self.progress.whole();
        while let Some(buffer) =
            self.buffers.pop_front_if(|buffer| buffer.missing() == 0 && buffer.end() <= whole)
        {
            self.to_remove.push_back(buffer.name);
            self.space = buffer.into_space();
        }
        Ok(())
    }

    fn note_commit(&mut self, commit: Option<CommitPoint>) {
        let is_later = |known: CommitPoint| commit.is_some_and(|commit| commit.lsn > known.lsn);
        if self.last_commit.is_none_or(is_later) {
            self.last_commit = commit.or(self.last_commit);
        }
    }

    /// When [`Engine::begin_puts`] should be called again, at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.progress.deadline().map(|deadline| self.begun + deadline)
    }

    /// Whether nothing is on its way and nothing waits.
    pub(crate) fn is_settled(&self) -> bool {
        let is_marked = self.mark.task.is_none() && !(self.mark.now && self.unmarked().is_some());
        self.progress.is_settled() && self.removal.is_none() && self.to_remove.is_empty() && is_marked
    }

    /// Puts all that has come.
    ///
    /// # Errors
    /// Why it could not, or that it took longer than `limit`.
    pub(crate) async fn settle(&mut self, limit: Duration) -> Result<()> {
        let settling = async {
            loop {
                self.end_now();
                self.begin_puts();
                if self.is_settled() {
                    return Ok(());
                }
                self.finished().await?;
            }
        };
        tokio::time::timeout(limit, settling).await.map_err(|_| Error::NotSettled { limit })?
    }

    /// Waits for what was begun, whatever comes of it: it counts when the repository is looked at again.
    pub(crate) async fn let_end(mut self) {
        while self.piece.is_some() || self.segment.is_some() {
            // What failed is begun anew by the next session.
            let _ = self.finished().await;
        }
    }
}

impl<T> Drop for Engine<T> {
    fn drop(&mut self) {
        if let Some(removal) = &self.removal {
            removal.abort();
        }
    }
}

async fn done<F: Future + Unpin>(begun: Option<&mut F>) -> F::Output {
    match begun {
        Some(begun) => begun.await,
        None => std::future::pending().await,
    }
}

fn ended<R>(answer: std::result::Result<R, JoinError>) -> Result<R> {
    answer.map_err(|_| Error::Task)
}
