//! The plan: a proven answer to "how do I get to this moment".
//!
//! [`plan`] decides and does no I/O. Where it has to know what a segment holds it ends with [`Unsettled::Need`]; the caller
//! reads that, adds it to [`Known`] and asks again. It asks for less each time and settles.

mod beside;
mod clock;
mod moment;
mod position;
mod reach;
mod sound;
mod way;

use highwater_wal::{Lsn, SegmentName, TimelineId};
use serde::Serialize;

use crate::facts::{Known, Need, Transaction};
use crate::unreachable::{Hole, list_of_holes};
use crate::{Backup, Fork, Inventory, Leg, Path, Request, Target, Unreachable};
use way::Way;

pub use clock::ClockStep;

pub(crate) use beside::left_out_of;
pub(crate) use reach::{RunCoverage, is_consistent_by, run_coverage, run_end, run_reaches};

/// Where recovery stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "at")]
pub enum Stop {
    /// As soon as the backup is consistent (`recovery_target = 'immediate'`).
    Consistent,
    /// At a record (`recovery_target_lsn`), which is known to be in the archive.
    Record {
        /// Where the record begins.
        lsn: Lsn,
        /// After it, or just before it.
        inclusive: bool,
    },
}

/// An unbroken run of segments of one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentRun {
    /// The first.
    pub first: SegmentName,
    /// The last.
    pub last: SegmentName,
    /// How many.
    pub segments: u64,
}

/// How a timeline of a path came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineStep {
    /// The timeline that began.
    pub began: TimelineId,
    /// Where it left which other one, and why.
    pub fork: Fork,
}

/// The WAL that a server replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// From here: the redo position of the backup's checkpoint.
    pub from: Lsn,
    /// Up to here, as far as the stop is known: the record that is stopped at adds some bytes where it is applied.
    pub to: Lsn,
    /// The bytes between.
    pub bytes: u64,
}

/// A proven way to a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What was asked for.
    pub request: Request,
    /// The timeline to follow (`recovery_target_timeline`).
    pub timeline: TimelineId,
    /// The path of timelines to it, oldest first.
    pub path: Vec<Leg>,
    /// How each timeline of the path but the first came to be, oldest first.
    pub steps: Vec<TimelineStep>,
    /// The backup to start from.
    pub backup: Backup,
    /// The segments that recovery reads, in order.
    pub wal: Vec<SegmentRun>,
    /// Their number.
    pub segments: u64,
    /// Their size in bytes, as restored.
    pub wal_bytes: u64,
    /// What of it the server replays.
    pub replay: Replay,
    /// Where recovery stops.
    pub stop: Stop,
    /// The last commit that the restored cluster holds; `None` where none lies between the backup's start and the stop.
    pub last_before: Option<Transaction>,
    /// The first commit that it does not hold, as far as the archive goes.
    pub first_after: Option<Transaction>,
    /// Where the clock went back around the stop: a commit that is left out although an earlier one in the WAL has a later time.
    pub clock: Option<ClockStep>,
    /// Of the last segment of the unbroken run in which recovery stops only pieces are there, up to here. Whoever fetches it says where
    /// he stops: what proves that the WAL went on behind the pieces may also come later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_pieces: Option<Lsn>,
    /// What is missing behind the unbroken run of segments in which recovery stops, though the WAL went on: a server that
    /// reads ahead of what it replays would end there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hole_behind: Option<Hole>,
    /// What else to know before relying on it: commits on other timelines that it leaves out, what is damaged. Sentences.
    pub notes: Vec<String>,
}

/// Why there is no plan (yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsettled {
    /// Something has to be read first.
    Need(Need),
    /// It cannot be done.
    Unreachable(Unreachable),
}

impl From<Unreachable> for Unsettled {
    fn from(reason: Unreachable) -> Unsettled {
        Unsettled::Unreachable(reason)
    }
}

/// Finds the way to a moment: the newest backup that is consistent at or before it on the path of timelines, every segment
/// from there on, and the exact record to stop at (R12, R15).
///
/// Without a timeline in the request the newest is followed, as PostgreSQL does. A time that other timelines reach as well, with
/// other commits, is refused: only the person who asks knows which is meant. A backup that a verification has found damaged is passed over for an
/// older one, and refused where there is none, unless it is named.
///
/// # Errors
/// [`Unsettled::Need`] where something has to be read first, [`Unsettled::Unreachable`] with the reason where there is no way.
pub fn plan(inventory: &Inventory, request: &Request, known: &Known) -> Result<Plan, Unsettled> {
    let plan = decide(inventory, request, known)?;
    let mut plan = sound::prefer(inventory, request, known, plan, decide)?;
    plan.notes.extend(inventory.notes());
    Ok(plan)
}

/// The way from the newest backup that serves, whatever verifications have found.
fn decide(inventory: &Inventory, request: &Request, known: &Known) -> Result<Plan, Unsettled> {
    let path = path_for(inventory, request.timeline)?;
    let found = along(inventory, &path, request, known);
    let weighed = match request.timeline {
        Some(_) => found,
        None => beside::weigh(inventory, &path, request, known, found),
    };
    let plan = weighed?;
    if let Some((timeline, damage)) = asked_in_vain(inventory, &plan) {
        let target = request.target.clone();
        return Err(Unreachable::HistoryAskedFor { target, timeline, damage }.into());
    }
    Ok(plan)
}

/// A history that a server recovering by this plan asks for and cannot get, though its timeline is there: the command that fetches it
/// fails then (R6), and with it the server. It asks for those between the backup's timeline and the plan's
/// (`restoreTimeLineHistoryFiles`), and at its end for those behind, one after another until there is none (`findNewestTimeLine`,
/// timeline.c). Of a damaged one nobody knows whose descendant it is.
fn asked_in_vain(inventory: &Inventory, plan: &Plan) -> Option<(TimelineId, Option<String>)> {
    let damaged = inventory.damaged_histories().find(|(timeline, _)| *timeline > plan.backup.timeline);
    if let Some((timeline, damage)) = damaged {
        return Some((timeline, Some(damage.to_owned())));
    }
    let lost = inventory.lost_histories();
    let between =
        lost.iter().copied().find(|timeline| (plan.backup.timeline..plan.timeline).contains(timeline));
    let behind = || {
        let mut after = (plan.timeline.get() + 1..).map_while(TimelineId::new);
        after.find(|timeline| !inventory.has_history(*timeline)).filter(|timeline| lost.contains(timeline))
    };
    between.or_else(behind).map(|timeline| (timeline, None))
}

/// The way to the target along one path.
fn along(inventory: &Inventory, path: &Path, request: &Request, known: &Known) -> Result<Plan, Unsettled> {
    let way = Way { inventory, path, request, known };
    let candidates = candidates(inventory, path, request)?;
    let found = match &request.target {
        Target::Immediate => position::immediate(&way, &candidates)?,
        Target::Latest => position::latest(&way, &candidates)?,
        Target::Lsn(lsn) => position::at_lsn(&way, &candidates, *lsn)?,
        Target::Xid(xid) => position::at_xid(&way, &candidates, *xid)?,
        Target::Name(name) => position::at_name(&way, &candidates, name)?,
        Target::Time(time) => moment::at_time(&way, &candidates, *time)?,
        Target::Before(before) => match &before.found {
            Some(loss) => position::before(&way, &candidates, loss.stop)?,
            // Whoever asks without having looked for it has not found it.
            None => return Err(position::not_looked_for(&way).into()),
        },
    };
    let mut plan = way.finish(found)?;
    if let (Target::Name(name), Stop::Record { lsn, .. }) = (&request.target, plan.stop)
        && let missing = position::missing_behind(&way, &candidates, lsn)
        && !missing.is_empty()
    {
        plan.notes.push(format!(
            "WARNING: behind restore point \"{name}\" at {lsn} the archive has a hole: missing is {}; whether another one of that name was made \
             in there or later is not known",
            list_of_holes(&missing)
        ));
    }
    if let (Target::Latest, Some(hole)) = (&request.target, &plan.hole_behind) {
        plan.notes.push(format!(
            "WARNING: timeline {} went on behind what is there of it: missing is {hole}; what was written there is left out",
            hole.first.timeline
        ));
    }
    Ok(plan)
}

/// The path to the timeline that was named, or to the newest.
pub(crate) fn path_for(inventory: &Inventory, timeline: Option<TimelineId>) -> Result<Path, Unreachable> {
    let Some(timeline) = timeline.or_else(|| inventory.newest_timeline()) else {
        return Err(Unreachable::NoBackup);
    };
    if let Some(path) = inventory.path(timeline) {
        return Ok(path);
    }
    let known = inventory.timelines();
    Err(match known.contains(&timeline) {
        true => {
            let damage = inventory.damaged_history(timeline).map(str::to_owned);
            Unreachable::MissingHistory { timeline, damage }
        }
        false => Unreachable::UnknownTimeline { timeline, known },
    })
}

/// The backups on the path, newest first. There is at least one.
fn candidates<'a>(
    inventory: &'a Inventory,
    path: &Path,
    request: &Request,
) -> Result<Vec<&'a Backup>, Unreachable> {
    let damaged = |label| inventory.damaged_backups.iter().find(|damaged| Some(&damaged.label) == label);
    if let Some(damaged) = damaged(request.backup.as_ref()) {
        return Err(Unreachable::DamagedBackup(damaged.clone()));
    }
    let expired =
        inventory.expired.iter().find(|expired| Some(&expired.backup.label) == request.backup.as_ref());
    if let Some(expired) = expired {
        let (label, marked_at) = (expired.backup.label.clone(), expired.marked_at);
        return Err(Unreachable::ExpiredBackup { label, marked_at });
    }
    if inventory.backups.is_empty() {
        return Err(Unreachable::NoBackup);
    }
    let timeline = path.timeline();
    let on_path = |backup: &&Backup| path.covers(backup.timeline, backup.stop);
    let mut found: Vec<&Backup> = inventory.backups.iter().rev().filter(on_path).collect();
    if let Some(label) = &request.backup {
        found.retain(|backup| &backup.label == label);
        if found.is_empty() {
            return Err(Unreachable::UnknownBackup { label: label.clone(), timeline });
        }
    }
    if found.is_empty() {
        let mut backups_on: Vec<TimelineId> =
            inventory.backups.iter().map(|backup| backup.timeline).collect();
        backups_on.sort_unstable();
        backups_on.dedup();
        return Err(Unreachable::NoBackupOnPath { timeline, backups_on });
    }
    Ok(found)
}

#[cfg(test)]
pub(crate) mod tests;
