//! A clock that went back.
//!
//! Recovery stops by the order of the WAL, never by the clock. Where commit times are out of order around the stop, a commit may be
//! left out whose time is at or before the one that was asked for, or be in although its time is later than that of one
//! that is left out. That is right, and has to be said.

use highwater_wal::{Lsn, Timestamp};
use serde::Serialize;

use super::Unsettled;
use super::way::Way;
use crate::Target;
use crate::facts::{Crossing, LogFacts, Transaction};

/// How many segments behind the stop are looked at: their summaries, and the records of the first that matters.
const LOOK_AHEAD: u64 = 64;
/// Times are taken before records get their place in the WAL, so that neighbours are out of order by some microseconds on any busy
/// server. Less than this, in microseconds, is no clock that went back, unless it matters for the time that was asked for.
const USUAL_DISORDER: i64 = 1_000_000;

/// Two commits around the stop, of which the one that comes first in the WAL has the later time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ClockStep {
    /// The first in the WAL.
    pub earlier_in_wal: Transaction,
    /// The one behind it, whose time is before that. The plan leaves it out.
    pub left_out: Transaction,
}

/// Where the clock went back around the first LSN that is not applied.
pub(super) fn step(
    way: &Way<'_>,
    border: Lsn,
    run_end: u64,
    last_before: Option<Transaction>,
    first_after: Option<Transaction>,
) -> Result<Option<ClockStep>, Unsettled> {
    let Some(first) = first_after else { return Ok(None) };
    if let Target::Time(asked) = way.request.target {
        let in_time = |at: Timestamp| if way.request.exclusive { at < asked } else { at <= asked };
        let left_out = first_commit_in_time(way, border, run_end, in_time)?;
        return Ok(left_out.map(|left_out| ClockStep { earlier_in_wal: first, left_out }));
    }
    let is_behind = |last: &Transaction| first.time.0.saturating_add(USUAL_DISORDER) < last.time.0;
    Ok(last_before.filter(is_behind).map(|earlier_in_wal| ClockStep { earlier_in_wal, left_out: first }))
}

/// The first commit behind the stop that the clock says belongs before it, not far behind.
fn first_commit_in_time(
    way: &Way<'_>,
    border: Lsn,
    run_end: u64,
    in_time: impl Fn(Timestamp) -> bool,
) -> Result<Option<Transaction>, Unsettled> {
    let begin = way.number(border);
    let last = run_end.min(begin.saturating_add(LOOK_AHEAD - 1));
    let over = |crossing: Crossing, _| match crossing {
        Crossing::None => false,
        Crossing::Time(at) => in_time(at),
        Crossing::Unknown => true,
    };
    let in_log = |log: &LogFacts| log.has_commits && log.times.is_none_or(|(earliest, _)| in_time(earliest));
    let mut number = way.skip(begin, last, in_log, over)?;
    while number <= last {
        let facts = way.facts(number, last)?;
        let inside =
            facts.last_commit.is_some() && facts.times.is_some_and(|(earliest, _)| in_time(earliest));
        if inside || over(facts.crossing, None) {
            let mut records = way.records(number)?.transactions.iter();
            if let Some(found) = records.find(|t| t.committed && t.lsn >= border && in_time(t.time)) {
                return Ok(Some(*found));
            }
        }
        number = way.skip(number + 1, last, in_log, over)?;
    }
    Ok(None)
}
