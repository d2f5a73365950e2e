//! How far an unbroken run of segments reaches in time.

use highwater_wal::{Lsn, Timestamp};

use super::Unsettled;
use super::way::Way;
use crate::facts::{Crossing, Known, LogFacts, SegmentFacts, Transaction};
use crate::unreachable::{Hole, Reach, Unreached};
use crate::{Backup, Inventory, Path, Request, Target};

/// The last moment that the run from a backup to segment `run_end` covers.
pub(super) fn reach(way: &Way<'_>, backup: &Backup, run_end: u64) -> Result<Reach, Unsettled> {
    let end = way.end_of(run_end);
    let last_commit = way.commit_before(backup, end, run_end)?.map(|commit| commit.time);
    Ok(Reach { lsn: end, time: Some(covered_until(way, backup, run_end)?), last_commit })
}

/// The moment until which the run tells everything: the newest that any of its last segments names, and never before the
/// backup's own end.
pub(super) fn covered_until(way: &Way<'_>, backup: &Backup, run_end: u64) -> Result<Timestamp, Unsettled> {
    let first = way.first_number(backup);
    let mut number = run_end;
    let over = |crossing: Crossing, _| matches!(crossing, Crossing::Time(_));
    loop {
        let found = way.skip_back(number, first, |log| log.covers_until.is_some(), over)?;
        let Some(at) = found.filter(|at| *at >= first) else { return Ok(backup.stop_time) };
        number = at;
        let facts = way.facts(number, first)?;
        let crossing = match facts.crossing {
            Crossing::Time(time) if number < run_end => Some(time),
            _ => None,
        };
        if let Some(time) = facts.covers_until.max(crossing) {
            return Ok(time.max(backup.stop_time));
        }
        if number == first {
            return Ok(backup.stop_time);
        }
        number -= 1;
    }
}

/// How far the WAL behind one backup goes.
pub(crate) struct RunCoverage {
    /// The number of its last segment.
    pub last_number: u64,
    /// Where it ends.
    pub end: Lsn,
    /// The last moment it covers.
    pub until: Timestamp,
    /// The last commit in it.
    pub last_commit: Option<Transaction>,
    /// What is missing behind it.
    pub hole_after: Option<Hole>,
    /// The fork on the path that it does not reach.
    pub unreached: Option<Unreached>,
}

/// Follows the unbroken WAL behind a backup along a path.
pub(crate) fn run_coverage(
    inventory: &Inventory,
    path: &Path,
    backup: &Backup,
    known: &Known,
) -> Result<RunCoverage, Unsettled> {
    let request = Request::new(Target::Latest);
    let way = Way { inventory, path, request: &request, known };
    let last_number = way.run(backup)?;
    let end = way.end_of(last_number);
    Ok(RunCoverage {
        last_number,
        end,
        until: covered_until(&way, backup, last_number)?,
        last_commit: way.commit_before(backup, end, last_number)?,
        hole_after: way.hole_after(last_number),
        unreached: way.unreached(last_number),
    })
}

/// The number of the last segment of the unbroken WAL behind a backup; `None` where not even the backup's own is there.
pub(crate) fn run_end(inventory: &Inventory, path: &Path, backup: &Backup) -> Option<u64> {
    let request = Request::new(Target::Latest);
    Way { inventory, path, request: &request, known: &Known::default() }.run(backup).ok()
}

/// Whether the unbroken WAL behind a backup, up to segment `run_end`, tells of the moment `from` or of any later one. Where a clock
/// went back, that need not be at its end.
pub(crate) fn run_reaches(
    inventory: &Inventory,
    path: &Path,
    backup: &Backup,
    run_end: u64,
    from: Timestamp,
    known: &Known,
) -> Result<bool, Unsettled> {
    let request = Request::new(Target::Latest);
    let way = Way { inventory, path, request: &request, known };
    if covered_until(&way, backup, run_end)? >= from {
        return Ok(true);
    }
    let inside = |log: &LogFacts| log.times.is_some_and(|(_, latest)| latest >= from);
    let over = |crossing: Crossing, _| match crossing {
        Crossing::None => false,
        Crossing::Time(at) => at >= from,
        Crossing::Unknown => true,
    };
    let mut number = way.skip(way.first_number(backup), run_end, inside, over)?;
    while number <= run_end {
        if way.may_hold(number, run_end, |time| time >= from)? {
            return Ok(true);
        }
        number = way.skip(number + 1, run_end, inside, over)?;
    }
    Ok(false)
}

/// Whether recovery from a backup is consistent before any transaction that ended at `time` or later. Of segments whose records
/// nobody can read it is assumed that they hold nothing later than when they were written.
pub(crate) fn is_consistent_by(
    inventory: &Inventory,
    path: &Path,
    backup: &Backup,
    time: Timestamp,
    known: &Known,
) -> Result<bool, Unsettled> {
    let request = Request::new(Target::Latest);
    let way = Way { inventory, path, request: &request, known };
    let last = way.number(Lsn(backup.stop.0.saturating_sub(1)));
    let is_later = |at: Timestamp| at >= time;
    for number in way.first_number(backup)..=last {
        if !way.may_hold(number, last, is_later)? {
            continue;
        }
        let inside = |t: &&Transaction| t.lsn >= backup.start && t.lsn < backup.stop && is_later(t.time);
        if is_unreadable(way.facts(number, last)?)
            || way.records(number)?.transactions.iter().any(|t| inside(&t))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the segment's records could not be read when it was archived, so that its summary tells nothing of them.
fn is_unreadable(facts: &SegmentFacts) -> bool {
    facts.times == Some((Timestamp(i64::MIN), Timestamp(i64::MAX)))
}

impl Way<'_> {
    /// Whether the end of a transaction whose time counts begins in a segment, or may.
    fn may_hold(
        &self,
        number: u64,
        last: u64,
        counts: impl Fn(Timestamp) -> bool,
    ) -> Result<bool, Unsettled> {
        let facts = self.facts(number, last)?;
        if is_unreadable(facts) {
            return Ok(facts.covers_until.is_none_or(counts));
        }
        if facts.times.is_some_and(|(_, latest)| counts(latest)) {
            return Ok(true);
        }
        match facts.crossing {
            Crossing::None => Ok(false),
            Crossing::Time(at) => Ok(counts(at)),
            Crossing::Unknown => Ok(self.records(number)?.transactions.iter().any(|t| counts(t.time))),
        }
    }
}
