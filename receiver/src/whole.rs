//! The segments that were put whole just now, for whoever is to archive the same files beside the receiver.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_repository::Plain;
use highwater_wal::{SegmentName, SystemId};

/// As many segments are remembered.
const MOST: usize = 64;
/// What was put longer ago is the repository's to tell: retention, or somebody, may have removed it.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// A segment that is being put is waited for so long: to put it beside that would be no quicker.
const PUT_LIMIT: Duration = Duration::from_secs(5);
/// A segment later than any that was put is waited for so long: PostgreSQL has it archived in the very moment in which the
/// receiver gets the rest of it.
const ARRIVAL_LIMIT: Duration = Duration::from_millis(500);

/// Which segment of which system.
type Name = (SystemId, SegmentName);

/// The segments that a receiver has put whole: checked (R4), durable in every repository (R1), with this content.
///
/// What is in here was durable a minute ago at most. Whoever builds on it knows no less than somebody who asked the repository
/// then.
#[derive(Debug, Default)]
pub struct WholeSegments {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    put: VecDeque<(Name, Plain, Instant)>,
    putting: Option<Name>,
    newest: Option<Name>,
}

impl State {
    fn find(&self, name: Name) -> Option<Plain> {
        let found = self.put.iter().rev().find(|(put, _, at)| *put == name && at.elapsed() < GOOD_FOR);
        found.map(|(_, plain, _)| *plain)
    }

    /// How long a segment is waited for that was not put.
    fn patience(&self, name: Name) -> Option<Duration> {
        match self.newest {
            _ if self.putting == Some(name) => Some(PUT_LIMIT),
            Some((system_id, newest)) if system_id == name.0 && newest < name.1 => Some(ARRIVAL_LIMIT),
            _ => None,
        }
    }
}

impl WholeSegments {
    /// Length and digest of a segment, when it was put whole; waits a moment for one that is about to be.
    pub fn find(&self, system_id: SystemId, segment: SegmentName) -> Option<Plain> {
        let (name, begun) = ((system_id, segment), Instant::now());
        let mut state = self.lock();
        loop {
            if let Some(found) = state.find(name) {
                return Some(found);
            }
            let left = state.patience(name)?.checked_sub(begun.elapsed())?;
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A segment is about to be put.
    pub(crate) fn begin(self: &Arc<Self>, system_id: SystemId, segment: SegmentName) -> Putting {
        self.lock().putting = Some((system_id, segment));
        self.changed.notify_all();
        Putting { of: Arc::clone(self), name: (system_id, segment) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is behind it is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A segment that is being put. When this is dropped it is no longer.
#[derive(Debug)]
pub(crate) struct Putting {
    of: Arc<WholeSegments>,
    name: Name,
}

impl Putting {
    /// It is durable in every repository, with this content.
    pub(crate) fn done(self, plain: Plain) {
        let mut state = self.of.lock();
        state.put.push_back((self.name, plain, Instant::now()));
        if state.put.len() > MOST {
            state.put.pop_front();
        }
        state.newest = Some(self.name);
    }
}

impl Drop for Putting {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        // The next one may have begun.
        if state.putting == Some(self.name) {
            state.putting = None;
        }
        drop(state);
        self.of.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_wal::{SegmentSize, TimelineId};
    use std::thread;

    const SYSTEM: SystemId = SystemId(7);

    fn segment(number: u64) -> SegmentName {
        SegmentName::from_number(TimelineId::FIRST, number, SegmentSize::DEFAULT)
    }

    fn plain(number: u64) -> Plain {
        Plain::of(&number.to_le_bytes())
    }

    #[test]
    fn what_was_put_is_remembered_as_far_as_there_is_room() {
        let whole = Arc::new(WholeSegments::default());
        for number in 0..MOST as u64 + 3 {
            whole.begin(SYSTEM, segment(number)).done(plain(number));
        }
        assert_eq!(whole.find(SYSTEM, segment(2)), None);
        assert_eq!(whole.find(SYSTEM, segment(3)), Some(plain(3)));
        assert_eq!(whole.find(SystemId(8), segment(3)), None, "another system");
        assert_eq!(whole.lock().put.len(), MOST);
    }

    #[test]
    fn r01_what_was_put_long_ago_or_failed_is_not_told() {
        let whole = Arc::new(WholeSegments::default());
        whole.begin(SYSTEM, segment(1)).done(plain(1));
        drop(whole.begin(SYSTEM, segment(0)));
        assert_eq!(whole.find(SYSTEM, segment(0)), None);
        let long_ago = Instant::now().checked_sub(GOOD_FOR).unwrap();
        whole.lock().put[0].2 = long_ago;
        assert_eq!(whole.find(SYSTEM, segment(1)), None);
    }

    #[test]
    fn a_segment_that_is_about_to_be_put_is_waited_for() {
        let whole = Arc::new(WholeSegments::default());
        let begun = Instant::now();
        assert_eq!(whole.find(SYSTEM, segment(9)), None);
        assert!(begun.elapsed() < ARRIVAL_LIMIT, "nothing was received yet");
        whole.begin(SYSTEM, segment(1)).done(plain(1));
        thread::scope(|scope| {
            let waits = scope.spawn(|| whole.find(SYSTEM, segment(2)));
            let putting = whole.begin(SYSTEM, segment(2));
            thread::sleep(Duration::from_millis(50));
            assert!(!waits.is_finished());
            putting.done(plain(2));
            assert_eq!(waits.join().unwrap(), Some(plain(2)));
        });
        let begun = Instant::now();
        assert_eq!(whole.find(SYSTEM, segment(3)), None);
        assert!((ARRIVAL_LIMIT..PUT_LIMIT).contains(&begun.elapsed()), "it does not come");
    }
}
