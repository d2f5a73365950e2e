//! A time, turned into a record.
//!
//! PostgreSQL stops before the first commit or abort record, in WAL order from where it began to replay, whose time is later
//! than the target (not before it, where the target is exclusive): `recoveryStopsBefore`, xlogrecovery.c, PostgreSQL 15.
//! The same record is found here and given to it as an LSN, so that it cannot be missed. Where no later record exists PostgreSQL would
//! end in "recovery ended before configured recovery target was reached"; here the last record of the archive is the stop,
//! provided that the archive is known to cover the moment.

use highwater_wal::{Lsn, Timestamp};

use super::reach::covered_until;
use super::way::{Found, Way};
use super::{Stop, Unsettled, position};
use crate::facts::{Crossing, LogFacts, Transaction};
use crate::{Backup, Unreachable};

/// The stop for a time, from the newest backup that ended by then.
pub(super) fn at_time<'a>(
    way: &Way<'a>,
    candidates: &[&'a Backup],
    time: Timestamp,
) -> Result<Found<'a>, Unsettled> {
    let mut broken = None;
    for backup in candidates.iter().copied().filter(|backup| backup.stop_time <= time) {
        let run_end = match way.run(backup) {
            Ok(run_end) => run_end,
            Err(reason) => {
                broken.get_or_insert(reason);
                continue;
            }
        };
        match first_later(way, backup, run_end, time)? {
            // A clock that runs ahead or was set back can put later times in front of the backup's end.
            Some(later) if later.lsn < backup.stop => {}
            Some(later) => return Ok(before(way, backup, run_end, later)),
            None => return silent_end(way, backup, run_end, time),
        }
    }
    if let Some(reason) = broken {
        return Err(reason.into());
    }
    Err(too_early(way, candidates).into())
}

/// The earliest moment that can be reached, as the reason why an earlier one cannot.
pub(super) fn too_early(way: &Way<'_>, candidates: &[&Backup]) -> Unreachable {
    match candidates.iter().min_by_key(|backup| backup.stop) {
        Some(first) => Unreachable::TooEarly {
            target: way.target(),
            earliest: first.stop_time,
            lsn: first.stop,
            backup: first.label.clone(),
        },
        None => Unreachable::NoBackup,
    }
}

fn before<'a>(way: &Way<'a>, backup: &'a Backup, run_end: u64, later: Transaction) -> Found<'a> {
    let last_segment = way.number(Lsn(later.end.0.saturating_sub(1))).min(run_end);
    Found { backup, stop: Stop::Record { lsn: later.lsn, inclusive: false }, last_segment, run_end }
}

/// No transaction ended later than `time`: all of the run is applied, if the run is known to cover that moment.
fn silent_end<'a>(
    way: &Way<'a>,
    backup: &'a Backup,
    run_end: u64,
    time: Timestamp,
) -> Result<Found<'a>, Unsettled> {
    if time <= covered_until(way, backup, run_end)? {
        return position::end_of(way, backup, run_end);
    }
    Err(position::behind(way, backup, run_end)?.into())
}

/// The first end of a transaction, from where recovery of the backup begins, that is too late for `time`.
fn first_later(
    way: &Way<'_>,
    backup: &Backup,
    run_end: u64,
    time: Timestamp,
) -> Result<Option<Transaction>, Unsettled> {
    let too_late = |at: Timestamp| if way.request.exclusive { at >= time } else { at > time };
    let over = |crossing: Crossing, _| match crossing {
        Crossing::None => false,
        Crossing::Time(at) => too_late(at),
        Crossing::Unknown => true,
    };
    let in_log = |log: &LogFacts| log.times.is_some_and(|(_, latest)| too_late(latest));
    let mut number = way.skip(way.first_number(backup), run_end, in_log, over)?;
    while number <= run_end {
        let facts = way.facts(number, run_end)?;
        let inside = facts.times.is_some_and(|(_, latest)| too_late(latest));
        if inside || over(facts.crossing, None) {
            let decoded = way.records(number)?;
            let found = decoded.transactions.iter().find(|t| t.lsn >= backup.start && too_late(t.time));
            if let Some(transaction) = found {
                return Ok(Some(*transaction));
            }
        }
        number = way.skip(number + 1, run_end, in_log, over)?;
    }
    Ok(None)
}
