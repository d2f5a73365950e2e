//! Targets that are a place in the WAL: consistency, its end, an LSN, a transaction, a restore point.

use std::collections::{BTreeSet, HashMap};

use highwater_wal::Lsn;

use super::moment::too_early;
use super::reach::reach;
use super::way::{Found, Way};
use super::{Stop, Unsettled};
use crate::facts::{Crossing, LogFacts, RestorePoint};
use crate::unreachable::{Hole, Unreached, holes_as_hint};
use crate::{Backup, Request, Target, Unreachable};

/// The newest backup, as soon as it is consistent.
pub(super) fn immediate<'a>(way: &Way<'a>, candidates: &[&'a Backup]) -> Result<Found<'a>, Unsettled> {
    let backup = newest(candidates)?;
    let run_end = way.run(backup)?;
    let last_segment = way.number(Lsn(backup.stop.0.saturating_sub(1)));
    Ok(Found { backup, stop: Stop::Consistent, last_segment, run_end })
}

/// Everything that is archived.
pub(super) fn latest<'a>(way: &Way<'a>, candidates: &[&'a Backup]) -> Result<Found<'a>, Unsettled> {
    let backup = newest(candidates)?;
    let run_end = way.run(backup)?;
    // Who names the timeline asks for what is there of it: its end may be what nobody has any more.
    let went_on = || way.request.timeline.is_none() && way.went_on(run_end).is_some();
    if way.hole_after(run_end).is_some() || way.unreached(run_end).is_some() || went_on() {
        return Err(behind(way, backup, run_end)?.into());
    }
    end_of(way, backup, run_end)
}

/// The last whole record of an unbroken run.
pub(super) fn end_of<'a>(way: &Way<'a>, backup: &'a Backup, run_end: u64) -> Result<Found<'a>, Unsettled> {
    let first = way.first_number(backup);
    let consistent_at = way.number(Lsn(backup.stop.0.saturating_sub(1)));
    let mut number = run_end;
    loop {
        if let Some(&lsn) = way.records(number)?.records.last().filter(|&&lsn| lsn >= backup.stop) {
            return Ok(Found {
                backup,
                stop: Stop::Record { lsn, inclusive: true },
                last_segment: run_end,
                run_end,
            });
        }
        if number == first || number <= consistent_at {
            // Nothing was written after the backup became consistent.
            return Ok(Found { backup, stop: Stop::Consistent, last_segment: run_end, run_end });
        }
        number -= 1;
    }
}

/// A position in the WAL: the first record at or behind it.
pub(super) fn at_lsn<'a>(way: &Way<'a>, candidates: &[&'a Backup], lsn: Lsn) -> Result<Found<'a>, Unsettled> {
    let (backup, run_end) = leading_to(way, candidates, lsn)?;
    for number in way.number(lsn)..=run_end {
        let decoded = way.records(number)?;
        if let Some(&record) = decoded.records.iter().find(|&&record| record >= lsn) {
            return Ok(stop_at(way, backup, record, run_end));
        }
    }
    Err(behind(way, backup, run_end)?.into())
}

/// Just in front of the record at a position.
pub(super) fn before<'a>(way: &Way<'a>, candidates: &[&'a Backup], lsn: Lsn) -> Result<Found<'a>, Unsettled> {
    let mut found = at_lsn(way, candidates, lsn)?;
    if let Stop::Record { inclusive, .. } = &mut found.stop {
        *inclusive = false;
    }
    Ok(found)
}

/// A transaction that nobody has looked for in the records.
pub(super) fn not_looked_for(way: &Way<'_>) -> Unreachable {
    not_found(way, "`highwater log` shows what happened")
}

/// The end of a transaction. Ids come again after 4 billion transactions: the latest of that id is taken.
pub(super) fn at_xid<'a>(way: &Way<'a>, candidates: &[&'a Backup], xid: u32) -> Result<Found<'a>, Unsettled> {
    let mut until = None;
    // Runs overlap: an older backup's often goes on into a newer one's. What was looked at is not looked at again, but for
    // the segment that the newer backup starts in the middle of.
    for backup in candidates {
        let Ok(run_end) = way.run(backup) else { continue };
        let first = way.first_number(backup);
        let last = until.map_or(run_end, |seen: u64| run_end.min(seen));
        if let Some(lsn) = end_of_xid(way, backup, first, last, xid)? {
            let (backup, run_end) = leading_to(way, candidates, lsn)?;
            return Ok(stop_at(way, backup, lsn, run_end));
        }
        until = Some(first);
    }
    let hint = "subtransactions and transactions that were still open have no end of their own; \
                `highwater window` shows what can be reached";
    Err(not_found_in(way, candidates, hint).into())
}

/// What is missing behind a position and in which a search of what can be reached has not looked, the oldest first.
pub(super) fn missing_behind(way: &Way<'_>, candidates: &[&Backup], lsn: Lsn) -> Vec<Hole> {
    let ends: BTreeSet<u64> = candidates.iter().filter_map(|backup| way.run(backup).ok()).collect();
    let ends = ends.into_iter().filter(|run_end| way.end_of(*run_end) > lsn);
    ends.filter_map(|run_end| way.hole_behind(run_end)).collect()
}

/// Where the last transaction of an id ends, in the segments from `last` down to `first`.
fn end_of_xid(
    way: &Way<'_>,
    backup: &Backup,
    first: u64,
    last: u64,
    xid: u32,
) -> Result<Option<Lsn>, Unsettled> {
    let holds = |xids: Option<(u32, u32)>| xids.is_some_and(|(low, high)| (low..=high).contains(&xid));
    let over = |crossing: Crossing, ended: Option<u32>| match crossing {
        Crossing::None => false,
        Crossing::Time(_) => ended.is_none_or(|ended| ended == xid),
        Crossing::Unknown => true,
    };
    let mut next = Some(last).filter(|last| *last >= first);
    while let Some(number) = next {
        let Some(number) = way.skip_back(number, first, |log| holds(log.xids), over)? else { break };
        let facts = way.facts(number, first)?;
        if holds(facts.xids) || over(facts.crossing, facts.crossing_xid) {
            let mut ends = way.records(number)?.transactions.iter().rev();
            if let Some(end) = ends.find(|t| t.xid == xid && t.lsn >= backup.start) {
                return Ok(Some(end.lsn));
            }
        }
        next = number.checked_sub(1).filter(|number| *number >= first);
    }
    Ok(None)
}

/// A named restore point.
pub(super) fn at_name<'a>(
    way: &Way<'a>,
    candidates: &[&'a Backup],
    name: &str,
) -> Result<Found<'a>, Unsettled> {
    let mut found: Vec<RestorePoint> = Vec::new();
    // From which segment on the WAL up to a run's end was searched. Backups whose WAL ends there too have more before it at most.
    let mut searched: HashMap<u64, u64> = HashMap::new();
    for backup in candidates {
        let Ok(run_end) = way.run(backup) else { continue };
        let first = way.first_number(backup);
        let last = searched.get(&run_end).copied().unwrap_or(run_end);
        if first > last {
            continue;
        }
        searched.insert(run_end, first);
        let in_log = |log: &LogFacts| {
            log.restore_points.as_ref().is_none_or(|points| points.iter().any(|point| point == name))
        };
        let over = |crossing: Crossing, _| crossing == Crossing::Unknown;
        let mut next = way.skip(first, last, in_log, over)?;
        while next <= last {
            let number = next;
            let facts = way.facts(number, last)?;
            let points = match facts.crossing {
                Crossing::Unknown => &way.records(number)?.restore_points,
                Crossing::None | Crossing::Time(_) => &facts.restore_points,
            };
            for point in points.iter().filter(|point| point.name == name && point.lsn >= backup.start) {
                if !found.iter().any(|other| other.lsn == point.lsn) {
                    found.push(point.clone());
                }
            }
            next = way.skip(number + 1, last, in_log, over)?;
        }
    }
    found.sort_by_key(|point| point.lsn);
    match found.as_slice() {
        [] => Err(not_found_in(way, candidates, "`highwater window` shows what can be reached").into()),
        [point] => {
            let (backup, run_end) = leading_to(way, candidates, point.lsn)?;
            Ok(stop_at(way, backup, point.lsn, run_end))
        }
        several => {
            let at = several.iter().map(|point| (point.lsn, point.time)).collect();
            Err(Unreachable::Ambiguous { name: name.to_owned(), at }.into())
        }
    }
}

/// The newest backup that is consistent at `lsn`, and the last segment of the unbroken WAL that leads from it there.
fn leading_to<'a>(
    way: &Way<'a>,
    candidates: &[&'a Backup],
    lsn: Lsn,
) -> Result<(&'a Backup, u64), Unsettled> {
    let mut broken = None;
    for backup in candidates.iter().filter(|backup| backup.stop <= lsn) {
        match way.run(backup) {
            Ok(run_end) if run_end >= way.number(lsn) => return Ok((backup, run_end)),
            // An older backup's WAL runs into this one's and ends at the same place.
            Ok(run_end) => return Err(behind(way, backup, run_end)?.into()),
            Err(reason) => broken = broken.or(Some(reason)),
        }
    }
    Err(broken.unwrap_or_else(|| too_early(way, candidates)).into())
}

/// Why what lies behind the end of a run cannot be reached.
pub(super) fn behind(way: &Way<'_>, backup: &Backup, run_end: u64) -> Result<Unreachable, Unsettled> {
    let reach = reach(way, backup, run_end)?;
    Ok(match (way.hole_after(run_end), way.unreached(run_end)) {
        (Some(hole), _) if hole.was_there_until.is_some() => {
            let last = match end_of(way, backup, run_end)?.stop {
                Stop::Record { lsn, .. } => Some(lsn),
                Stop::Consistent => None,
            };
            Unreachable::EndLost { target: way.target(), hole: Box::new(hole), reach, last }
        }
        (Some(hole), _) => Unreachable::Hole { target: way.target(), hole: Box::new(hole), reach },
        (None, Some(unreached)) => {
            let instead = instead_of(way, &unreached)?.map(Box::new);
            Unreachable::ForkUnreached { target: way.target(), unreached, instead }
        }
        (None, None) => match way.went_on(run_end) {
            Some(hole) => Unreachable::Hole { target: way.target(), hole: Box::new(hole), reach },
            None => Unreachable::TooLate {
                target: way.target(),
                reach,
                timeline: way.path.timeline(),
                is_received: way.inventory.unfinished_end(way.name(run_end)).is_some(),
            },
        },
    })
}

/// What can be asked for where nothing behind the WAL that is there is wanted. Not simply for the parent's end: what the parent wrote
/// behind the fork may be the very thing that the cluster went back for. Only where the parent's WAL ends before the fork that is all.
fn instead_of(way: &Way<'_>, unreached: &Unreached) -> Result<Option<Request>, Unsettled> {
    let latest = Request {
        timeline: Some(unreached.parent),
        backup: way.request.backup.clone(),
        ..Request::new(Target::Latest)
    };
    let before_fork = Request { target: Target::Lsn(unreached.fork), exclusive: true, ..latest.clone() };
    for request in [before_fork, latest] {
        match super::decide(way.inventory, &request, way.known) {
            Ok(_) => return Ok(Some(request)),
            Err(Unsettled::Unreachable(_)) => {}
            Err(need) => return Err(need),
        }
    }
    Ok(None)
}

fn newest<'a>(candidates: &[&'a Backup]) -> Result<&'a Backup, Unreachable> {
    candidates.first().copied().ok_or(Unreachable::NoBackup)
}

fn stop_at<'a>(way: &Way<'a>, backup: &'a Backup, lsn: Lsn, run_end: u64) -> Found<'a> {
    // The record may run into the next segment: recovery reads it to its end before it can stop at it.
    let last_segment = (way.number(lsn) + 1).min(run_end);
    Found { backup, stop: Stop::Record { lsn, inclusive: !way.request.exclusive }, last_segment, run_end }
}

fn not_found(way: &Way<'_>, hint: &str) -> Unreachable {
    Unreachable::NotFound { target: way.target(), timeline: way.path.timeline(), hint: hint.to_owned() }
}

/// The same, where it may lie in what is missing.
fn not_found_in(way: &Way<'_>, candidates: &[&Backup], hint: &str) -> Unreachable {
    let missing = missing_behind(way, candidates, Lsn::INVALID);
    not_found(way, &(holes_as_hint(&missing) + hint))
}
