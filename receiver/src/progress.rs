//! What has been received, what is durable, what may be acknowledged (R17), and what is to be put next. No I/O, no clock.

use std::time::Duration;

use highwater_wal::Lsn;

/// When received WAL is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// WAL waits no longer than this before it is put.
    pub flush_interval: Duration,
    /// As soon as so many bytes wait, they are put.
    pub flush_bytes: u64,
    /// WAL is put at once: somebody waits for it.
    pub synchronous: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { flush_interval: Duration::from_secs(1), flush_bytes: 16 << 20, synchronous: false }
    }
}

/// What is to be put into the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// A piece of an unfinished segment.
    Piece {
        /// Its first byte.
        from: Lsn,
        /// Behind its last byte.
        to: Lsn,
    },
    /// A segment that has come whole.
    Segment {
        /// Its first byte.
        start: Lsn,
    },
}

/// How far one timeline's WAL has come. Times are measured from any one moment.
///
/// At most one piece and one segment are on their way at a time, so that what arrives meanwhile is put together in the next piece.
/// Without [`Policy::synchronous`] the two take turns, and what a whole segment brings is not put as a piece before: at full
/// speed no byte is put twice.
#[derive(Clone, Debug)]
pub struct Progress {
    segment_bytes: u64,
    policy: Policy,
    /// What was in the repository when the stream began: it is compared with what comes, not believed to be the same.
    stored: Lsn,
    received: Lsn,
    /// All before it is durable, as pieces or whole segments.
    durable: Lsn,
    /// All segments before it are there whole. What comes behind it is in memory.
    whole: Lsn,
    piece: Option<(Lsn, Lsn)>,
    is_segment_on_its_way: bool,
    /// When the first byte came that is neither durable nor on its way.
    waiting_since: Option<Duration>,
    flush_now: bool,
}

impl Progress {
    /// Begins to receive at `begin`, a segment's start. What is in the repository goes on from there up to `stored`.
    pub fn new(segment_bytes: u64, policy: Policy, begin: Lsn, stored: Lsn) -> Progress {
        Progress {
            segment_bytes,
            policy,
            stored: stored.max(begin),
            received: begin,
            durable: stored.max(begin),
            whole: begin,
            piece: None,
            is_segment_on_its_way: false,
            waiting_since: None,
            flush_now: false,
        }
    }

    /// Behind the last byte that has come.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// The start of the first segment that is not there whole.
    pub fn whole(&self) -> Lsn {
        self.whole
    }

    /// All that was received before this is durable.
    pub fn durable(&self) -> Lsn {
        self.durable.min(self.received)
    }

    /// Up to where the repository has something, also what it had before and what is still to be compared.
    pub fn in_repository(&self) -> Lsn {
        self.durable
    }

    /// What the server may be told to be durable. Nothing before all that the repository had has come again and was compared:
    /// another server's WAL may have the same numbers.
    pub fn acknowledged(&self) -> Option<Lsn> {
        (self.received >= self.stored).then(|| self.durable())
    }

    /// Whether more may be received: the segment that comes and the one before it are in memory, and no more.
    pub fn has_room(&self) -> bool {
        self.received.0 < self.whole.0 + 2 * self.segment_bytes
    }

    /// So many bytes have come.
    pub fn receive(&mut self, bytes: u64, now: Duration) {
        self.received = self.received + bytes;
        if self.received > self.claimed() {
            self.waiting_since.get_or_insert(now);
        }
    }

    /// All that has come by now is put without waiting for more: the server, or the user, wants to stop.
    pub fn flush_now(&mut self) {
        self.flush_now = self.received > self.durable;
    }

    /// Whether all that has come is durable.
    pub fn is_durable(&self) -> bool {
        self.received <= self.durable
    }

    /// Whether all is done that can be done: nothing is on its way, and no segment waits to be put whole.
    pub fn is_settled(&self) -> bool {
        let complete = self.received.0 >= self.whole.0 + self.segment_bytes;
        self.is_durable() && self.piece.is_none() && !self.is_segment_on_its_way && !complete
    }

    /// What is to be put now. Each answer counts as begun; ask until there is none.
    pub fn next(&mut self, now: Duration) -> Option<Put> {
        let may_put = !self.is_segment_on_its_way && (self.policy.synchronous || self.piece.is_none());
        if may_put && self.received.0 >= self.whole.0 + self.segment_bytes {
            self.is_segment_on_its_way = true;
            return Some(Put::Segment { start: self.whole });
        }
        let (from, to) = self.piece_to_put()?;
        if !self.is_due(from, to, now) {
            return None;
        }
        self.piece = Some((from, to));
        if self.received == to {
            self.waiting_since = None;
        }
        Some(Put::Piece { from, to })
    }

    /// The piece that could be put.
    fn piece_to_put(&self) -> Option<(Lsn, Lsn)> {
        if self.piece.is_some() || self.received <= self.durable {
            return None;
        }
        let from = self.durable;
        let segment = from.0 - from.0 % self.segment_bytes;
        let to = Lsn(self.received.0.min(segment + self.segment_bytes));
        // A segment that has come whole is put so, and nothing behind it before.
        let is_alone = segment == self.whole.0 && !self.is_segment_on_its_way;
        (self.policy.synchronous || is_alone).then_some((from, to))
    }

    fn is_due(&self, from: Lsn, to: Lsn, now: Duration) -> bool {
        let waited = self.waiting_since.is_some_and(|since| now >= since + self.policy.flush_interval);
        self.policy.synchronous || self.flush_now || waited || to.bytes_since(from) >= self.policy.flush_bytes
    }

    /// When [`Progress::next`] should be asked again, if nothing else happens before.
    pub fn deadline(&self) -> Option<Duration> {
        self.piece_to_put()?;
        self.waiting_since.map(|since| since + self.policy.flush_interval)
    }

    /// What was begun is durable.
    pub fn done(&mut self, put: Put) {
        match put {
            Put::Piece { to, .. } => {
                self.piece = None;
                self.durable = self.durable.max(to);
            }
            Put::Segment { start } => {
                self.is_segment_on_its_way = false;
                self.whole = self.whole.max(start + self.segment_bytes);
                self.durable = self.durable.max(self.whole);
            }
        }
        if self.received <= self.claimed() {
            self.waiting_since = None;
        }
        self.flush_now &= self.received > self.durable;
    }

    /// What is durable or on its way as a piece.
    fn claimed(&self) -> Lsn {
        self.piece.map_or(self.durable, |(_, to)| to.max(self.durable))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEGMENT: u64 = 64;

    fn policy(synchronous: bool) -> Policy {
        Policy { flush_interval: Duration::from_secs(1), flush_bytes: 40, synchronous }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn piece(from: u64, to: u64) -> Option<Put> {
        Some(Put::Piece { from: Lsn(from), to: Lsn(to) })
    }

    #[test]
    fn what_waits_is_put_after_the_interval_or_when_it_is_much() {
        let mut progress = Progress::new(SEGMENT, policy(false), Lsn(64), Lsn(64));
        progress.receive(10, seconds(5));
        assert_eq!((progress.next(seconds(5)), progress.deadline()), (None, Some(seconds(6))));
        assert_eq!(progress.acknowledged(), Some(Lsn(64)));
        assert_eq!(progress.next(seconds(6)), piece(64, 74));
        // What comes meanwhile waits for the next one, however long it takes.
        progress.receive(5, seconds(7));
        progress.receive(1, seconds(9));
        assert_eq!((progress.next(seconds(20)), progress.deadline()), (None, None));
        progress.done(Put::Piece { from: Lsn(64), to: Lsn(74) });
        assert_eq!(progress.acknowledged(), Some(Lsn(74)));
        assert_eq!(progress.next(seconds(20)), piece(74, 80));
        progress.done(Put::Piece { from: Lsn(74), to: Lsn(80) });
        progress.receive(40, seconds(21));
        assert_eq!(progress.next(seconds(21)), piece(80, 120), "it is much");
    }

    #[test]
    fn a_segment_that_comes_whole_at_once_is_put_once() {
        let mut progress = Progress::new(SEGMENT, policy(false), Lsn(0), Lsn(0));
        progress.receive(70, seconds(0));
        assert_eq!(progress.next(seconds(9)), Some(Put::Segment { start: Lsn(0) }));
        assert_eq!(progress.next(seconds(9)), None, "nothing behind it before it is there");
        progress.done(Put::Segment { start: Lsn(0) });
        assert_eq!((progress.acknowledged(), progress.next(seconds(9))), (Some(Lsn(64)), piece(64, 70)));
    }

    #[test]
    fn r17_nothing_is_acknowledged_before_it_was_compared() {
        let mut progress = Progress::new(SEGMENT, policy(false), Lsn(64), Lsn(90));
        assert_eq!(progress.acknowledged(), None);
        progress.receive(25, seconds(0));
        assert_eq!((progress.acknowledged(), progress.durable()), (None, Lsn(89)));
        progress.receive(1, seconds(0));
        assert_eq!((progress.acknowledged(), progress.next(seconds(9))), (Some(Lsn(90)), None));
        progress.receive(1, seconds(0));
        assert_eq!(progress.next(seconds(9)), piece(90, 91));
    }

    #[test]
    fn a_flush_that_is_asked_for_takes_all_that_has_come() {
        let mut progress = Progress::new(SEGMENT, policy(false), Lsn(0), Lsn(0));
        progress.receive(70, seconds(0));
        progress.flush_now();
        assert_eq!(progress.next(seconds(0)), Some(Put::Segment { start: Lsn(0) }));
        progress.done(Put::Segment { start: Lsn(0) });
        assert_eq!(progress.next(seconds(0)), piece(64, 70));
        assert!(!progress.is_settled());
        progress.done(Put::Piece { from: Lsn(64), to: Lsn(70) });
        assert!(progress.is_settled() && progress.acknowledged() == Some(Lsn(70)));
        progress.receive(1, seconds(0));
        assert_eq!(progress.next(seconds(0)), None, "what comes afterwards waits again");
    }

    #[test]
    fn a_synchronous_stream_does_not_wait_for_whole_segments() {
        let mut progress = Progress::new(SEGMENT, policy(true), Lsn(0), Lsn(0));
        progress.receive(10, seconds(0));
        assert_eq!(progress.next(seconds(0)), piece(0, 10));
        progress.receive(60, seconds(0));
        assert_eq!(progress.next(seconds(0)), Some(Put::Segment { start: Lsn(0) }));
        assert_eq!(progress.next(seconds(0)), None);
        progress.done(Put::Piece { from: Lsn(0), to: Lsn(10) });
        assert_eq!(progress.next(seconds(0)), piece(10, 64));
        progress.done(Put::Piece { from: Lsn(10), to: Lsn(64) });
        assert_eq!(progress.next(seconds(0)), piece(64, 70), "the segment is still on its way");
        progress.done(Put::Segment { start: Lsn(0) });
        assert_eq!((progress.whole(), progress.acknowledged()), (Lsn(64), Some(Lsn(64))));
    }

    proptest! {
        /// Whatever comes when, and in whatever order puts end: what is acknowledged is durable, durable has no gap, memory is
        /// bounded, and in the end everything is there.
        #[test]
        fn r17_acknowledged_is_durable_and_all_gets_there(
            steps in prop::collection::vec((0_u8..4, 1_u64..100, 0_u64..3), 1..400),
            synchronous in any::<bool>(),
            stored in 0_u64..130,
        ) {
            let mut progress = Progress::new(SEGMENT, policy(synchronous), Lsn(0), Lsn(stored));
            let mut there: Vec<bool> = vec![true; stored as usize];
            let mut on_its_way: Vec<Put> = Vec::new();
            let mut acknowledged = Lsn(0);
            let mut now = Duration::ZERO;
            let finish = steps.len();
            for (number, (kind, amount, pass)) in steps.into_iter().chain(std::iter::repeat_n((9, 0, 5), 2000)).enumerate() {
                now += Duration::from_millis(400 * pass);
                match kind {
                    0 | 1 if progress.has_room() => progress.receive(amount, now),
                    2 => progress.flush_now(),
                    _ => {}
                }
                while let Some(put) = progress.next(now) {
                    on_its_way.push(put);
                }
                prop_assert!(on_its_way.len() <= 2);
                if (kind >= 3 || amount % 3 == 0) && !on_its_way.is_empty() {
                    let put = on_its_way.remove(amount as usize % on_its_way.len());
                    let (from, to) = match put {
                        Put::Piece { from, to } => (from.0, to.0),
                        Put::Segment { start } => (start.0, start.0 + SEGMENT),
                    };
                    prop_assert!(to <= progress.received().0);
                    there.resize(there.len().max(to as usize), false);
                    there[from as usize..to as usize].fill(true);
                    progress.done(put);
                }
                if let Some(now_acknowledged) = progress.acknowledged() {
                    prop_assert!(now_acknowledged >= acknowledged);
                    acknowledged = now_acknowledged;
                    prop_assert!(there.iter().take(acknowledged.0 as usize).all(|is| *is));
                    prop_assert!(acknowledged.0 as usize <= there.len());
                }
                prop_assert!(progress.received().0 - progress.whole().0 < 2 * SEGMENT + 100);
                if number > finish + 1000 {
                    prop_assert!(progress.is_settled());
                }
            }
            prop_assert_eq!(progress.durable(), progress.received());
        }
    }
}
