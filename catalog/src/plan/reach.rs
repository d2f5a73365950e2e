//! How far an unbroken run of segments reaches in time.

use highwater_wal::Timestamp;

use super::Unsettled;
use super::way::Way;
use crate::facts::{Crossing, Known, Transaction};
use crate::unreachable::{Hole, Reach, Unreached};
use crate::{Backup, Inventory, Path, Request, Target};

/// The last moment that the run from a backup to segment `run_end` covers.
pub(super) fn reach(way: &Way<'_>, backup: &Backup, run_end: u64) -> Result<Reach, Unsettled> {
    let end = way.name(run_end).end(way.inventory.segment_size);
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
    let end = way.name(last_number).end(inventory.segment_size);
    Ok(RunCoverage {
        last_number,
        until: covered_until(&way, backup, last_number)?,
        last_commit: way.commit_before(backup, end, last_number)?,
        hole_after: way.hole_after(last_number),
        unreached: way.unreached(last_number),
    })
}
