//! For how long the server's WAL has been waiting to get into the repository. No clock of its own.

use std::collections::VecDeque;
use std::time::Duration;

use highwater_wal::Lsn;
use tokio::time::Instant;

/// What was written within so long counts as written at its beginning.
const RESOLUTION: Duration = Duration::from_millis(100);
/// As many places are remembered; of more, every second one is let go.
const MOST: usize = 4096;

/// When the server's WAL was heard of that is not in the repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lag {
    /// Since when there has been WAL up to where, both rising.
    heard: VecDeque<(Instant, Lsn)>,
}

impl Lag {
    /// The server's WAL goes up to `end`.
    pub(crate) fn heard_of(&mut self, end: Lsn, now: Instant) {
        match self.heard.back_mut() {
            Some((_, known)) if *known >= end => {}
            Some((at, known)) if now.duration_since(*at) < RESOLUTION => *known = end,
            _ => self.heard.push_back((now, end)),
        }
        if self.heard.len() > MOST {
            let pairs: Vec<(Instant, Lsn)> = self.heard.drain(..).collect();
            self.heard.extend(pairs.chunks(2).map(|pair| (pair[0].0, pair[pair.len() - 1].1)));
        }
    }

    /// The server's WAL ends at `end`, perhaps before what another server had.
    pub(crate) fn ends_at(&mut self, end: Lsn, now: Instant) {
        let mut since = now;
        while let Some((at, _)) = self.heard.pop_back_if(|(_, known)| *known > end) {
            since = at;
        }
        self.heard_of(end, since);
    }

    /// It is in the repository up to `durable`.
    pub(crate) fn stored(&mut self, durable: Lsn) {
        while self.heard.pop_front_if(|(_, end)| *end <= durable).is_some() {}
    }

    /// Since when there has been WAL that is not in the repository; `None` where there is none.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.heard.front().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_longest_counts_whatever_gets_through() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut lag = Lag::default();
        assert_eq!(lag.waiting_since(), None);
        for (seconds, end) in [(1, 100), (2, 100), (3, 200), (4, 300)] {
            lag.heard_of(Lsn(end), at(seconds));
        }
        lag.heard_of(Lsn(310), at(4) + Duration::from_millis(50));
        assert_eq!(lag.waiting_since(), Some(at(1)));
        lag.stored(Lsn(99));
        assert_eq!(lag.waiting_since(), Some(at(1)), "a part of it is not all");
        lag.stored(Lsn(250));
        assert_eq!(lag.waiting_since(), Some(at(4)));
        lag.stored(Lsn(310));
        assert_eq!(lag.waiting_since(), None);
        // Another server, which has come less far.
        lag.heard_of(Lsn(500), at(5));
        lag.ends_at(Lsn(400), at(9));
        assert_eq!(lag.waiting_since(), Some(at(5)));
        lag.stored(Lsn(400));
        assert_eq!(lag.waiting_since(), None);
        for number in 0..100_000_u64 {
            lag.heard_of(Lsn(1000 + number), at(10 + number));
        }
        assert!(lag.heard.len() <= MOST);
        assert_eq!(lag.waiting_since(), Some(at(10)));
        lag.stored(Lsn(50_000));
        assert!(lag.waiting_since().is_some_and(|since| since <= at(49_011)), "never less than it is");
    }
}
