//! Stretches of WAL, joined from the newest to the oldest.

use std::collections::VecDeque;

use highwater_wal::Lsn;

use super::assembler::{End, Stretch, is_from};

/// Ends that wait at most until their transactions' beginnings are found.
const MAX_WAITING: usize = 100_000;

/// Lets transactions go in the order newest first, each as soon as all that it did is known.
///
/// A transaction can have begun long before it ended. Its end waits until an older stretch tells that it began behind
/// it: a running-transactions record gives the next number there, and whatever has a number from that on began later
/// (`LogStandbySnapshot`, standby.c).
#[derive(Debug, Default)]
pub struct Backwards {
    /// Newest first.
    waiting: VecDeque<End>,
}

impl Backwards {
    /// Adds the stretch that ends where the one before began.
    pub fn add(&mut self, mut stretch: Stretch) {
        for end in self.waiting.iter_mut().filter(|end| !end.is_whole) {
            for xid in std::iter::once(&end.xid).chain(&end.subtransactions) {
                if let Some(deeds) = stretch.open.remove(xid) {
                    end.deeds.join(deeds, true);
                }
            }
            let begun_here = stretch.begun_from.is_some_and(|from| is_from(end.xid, from));
            end.is_whole = begun_here && !stretch.is_overfull;
        }
        self.waiting.extend(stretch.ends.into_iter().rev());
    }

    /// The next that is whole, if it is its turn; or that has waited for too long: because too many wait behind it.
    pub fn next(&mut self) -> Option<End> {
        let first = self.waiting.front()?;
        if first.is_whole || self.waiting.len() > MAX_WAITING { self.waiting.pop_front() } else { None }
    }

    /// The LSN of the newest that waits.
    pub fn waiting_since(&self) -> Option<Lsn> {
        self.waiting.front().map(|end| end.lsn)
    }

    /// The next that waits, whole or not, where it lies at or behind `lsn`: nothing older is going to be read for it.
    pub fn give_up(&mut self, lsn: Lsn) -> Option<End> {
        self.waiting.pop_front_if(|end| end.lsn >= lsn)
    }
}
