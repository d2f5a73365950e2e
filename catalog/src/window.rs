//! Windows: which moments can be reached, along which path, and what is in the way.

use highwater_wal::{Lsn, SegmentName, TimelineId, Timestamp};
use serde::Serialize;

use crate::facts::{Known, Transaction};
use crate::plan::{RunCoverage, Unsettled, left_out_of, run_coverage};
use crate::unreachable::{Hole, Unreached};
use crate::{Backup, Fork, Inventory, Leg, Path};

/// An unbroken range of moments along one path of timelines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Where it begins: the end of its first backup.
    pub from: Lsn,
    /// When that was.
    pub from_time: Timestamp,
    /// The end of the unbroken WAL.
    pub until: Lsn,
    /// The last moment it covers: an idle cluster's archive reaches further than its last commit.
    pub until_time: Timestamp,
    /// The last commit in it.
    pub last_commit: Option<Transaction>,
    /// Its last segment.
    pub last_segment: SegmentName,
    /// The backups that lie in it, oldest first.
    pub backups: Vec<String>,
    /// What is missing behind it, where later segments exist.
    pub hole_after: Option<Hole>,
    /// What nobody can reach for want of that.
    pub cut_off: Option<CutOff>,
}

/// What a hole costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CutOff {
    /// Where the next window begins: nothing between the hole and there can be reached. `None` where no window follows.
    pub until: Option<Lsn>,
    /// When that is.
    pub until_time: Option<Timestamp>,
    /// The backups that the hole makes unusable.
    pub backups: Vec<String>,
}

/// What can be reached on one path of timelines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// The timeline that the path leads to.
    pub timeline: TimelineId,
    /// The path to it, oldest first.
    pub path: Vec<Leg>,
    /// Whether it is the newest: the one that is followed where no other is named.
    pub is_newest: bool,
    /// The timeline it forked off, where and why.
    pub parent: Option<Fork>,
    /// The windows along the path, in the order of the WAL.
    pub windows: Vec<Window>,
    /// Backups on the path that cannot be made consistent, with what is missing.
    pub broken: Vec<Broken>,
    /// Backups on the path that a verification has found damaged: no window begins with one.
    pub doubted: Vec<Doubted>,
    /// The timeline on the path that the archived WAL does not reach.
    pub unreached: Option<Unreached>,
    /// What the path to the newest timeline leaves out of this one; `None` where that is nothing, and for the newest itself.
    pub left_out: Option<LeftOut>,
}

/// What the path to the newest timeline leaves out of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Where the two part.
    pub from: Lsn,
    /// The last commit that is left out.
    pub last_commit: Transaction,
}

/// A backup whose own WAL is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The backup.
    pub backup: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// A backup that a verification has found damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doubted {
    /// The backup.
    pub backup: String,
    /// What was found, and when, in a sentence.
    pub reason: String,
    /// The moments that could be reached from it, and from no other backup; `None` where there are none.
    pub lost: Option<Stretch>,
}

/// A stretch of moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Where it begins.
    pub from: Lsn,
    /// When that was.
    pub from_time: Timestamp,
    /// Where it ends.
    pub until: Lsn,
    /// When that was.
    pub until_time: Timestamp,
    /// The backup that ended there, with which a window begins; `None` where the stretch ends with the WAL.
    pub then: Option<String>,
}

/// Which moments can be reached, for every timeline whose origin is known.
///
/// # Errors
/// [`Unsettled::Need`] where something has to be read first.
pub fn windows(inventory: &Inventory, known: &Known) -> Result<Vec<Branch>, Unsettled> {
    let paths = inventory.timelines().into_iter().filter_map(|timeline| inventory.path(timeline));
    let newest = inventory.newest_timeline().and_then(|timeline| inventory.path(timeline));
    paths.map(|path| branch(inventory, &path, newest.as_ref(), known)).collect()
}

fn branch(
    inventory: &Inventory,
    path: &Path,
    newest: Option<&Path>,
    known: &Known,
) -> Result<Branch, Unsettled> {
    let mut windows: Vec<(u64, Window)> = Vec::new();
    let mut unreached = None;
    let mut broken = Vec::new();
    let mut doubted = Vec::new();
    for backup in inventory.backups.iter().filter(|backup| path.covers(backup.timeline, backup.stop)) {
        let run = match run_coverage(inventory, path, backup, known) {
            Ok(run) => run,
            Err(Unsettled::Unreachable(reason)) => {
                broken.push(Broken { backup: backup.label.clone(), reason: reason.to_string() });
                continue;
            }
            Err(need) => return Err(need),
        };
        if let Some(reason) = inventory.found_damaged.get(&backup.label) {
            doubted.push((backup, run, reason));
            continue;
        }
        match windows.iter_mut().find(|(end, _)| *end == run.last_number) {
            Some((_, window)) => window.backups.push(backup.label.clone()),
            None => {
                windows.push((run.last_number, window(inventory, path, backup, &run)));
                unreached = run.unreached.filter(|_| run.hole_after.is_none());
            }
        }
    }
    let doubted = doubted.into_iter().map(|(backup, run, reason)| Doubted {
        backup: backup.label.clone(),
        reason: reason.clone(),
        lost: lost(backup, &run, windows.iter().find(|(end, _)| *end == run.last_number)),
    });
    let doubted = doubted.collect();
    let timeline = path.timeline();
    let parent = inventory.history(timeline).and_then(Fork::of_history);
    let left_out = match newest {
        Some(newest) => left_out_of(inventory, newest, path, known)?,
        None => None,
    };
    let left_out = left_out.map(|(from, last_commit)| LeftOut { from, last_commit });
    let mut windows: Vec<Window> = windows.into_iter().map(|(_, window)| window).collect();
    tell_cut_off(inventory, &mut windows, &broken);
    let is_newest = newest.is_some_and(|newest| newest.timeline() == timeline);
    let path = path.legs().to_vec();
    Ok(Branch { timeline, path, is_newest, parent, windows, broken, doubted, unreached, left_out })
}

/// What is lost with a damaged backup, where `sound` is the window of the same WAL.
fn lost(backup: &Backup, run: &RunCoverage, sound: Option<&(u64, Window)>) -> Option<Stretch> {
    let (until, until_time, then) = match sound {
        Some((_, window)) => (window.from, window.from_time, window.backups.first().cloned()),
        None => (run.end, run.until, None),
    };
    let (from, from_time) = (backup.stop, backup.stop_time);
    (from < until).then_some(Stretch { from, from_time, until, until_time, then })
}

fn window(inventory: &Inventory, path: &Path, backup: &Backup, run: &RunCoverage) -> Window {
    let last_segment = path.segment(run.last_number, inventory.segment_size);
    Window {
        from: backup.stop,
        from_time: backup.stop_time,
        until: run.end,
        until_time: run.until,
        last_commit: run.last_commit,
        last_segment,
        backups: vec![backup.label.clone()],
        hole_after: run.hole_after.clone(),
        cut_off: None,
    }
}

/// Says of each hole what lies behind it up to the next window.
fn tell_cut_off(inventory: &Inventory, windows: &mut [Window], broken: &[Broken]) {
    let begins: Vec<(Lsn, Timestamp)> =
        windows.iter().map(|window| (window.from, window.from_time)).collect();
    for window in windows.iter_mut().filter(|window| window.hole_after.is_some()) {
        let next = begins.iter().copied().filter(|(from, _)| *from > window.until).min();
        let is_between =
            |backup: &&Backup| backup.stop > window.until && next.is_none_or(|(from, _)| backup.stop <= from);
        let is_broken = |backup: &&Backup| broken.iter().any(|broken| broken.backup == backup.label);
        let backups = inventory.backups.iter().filter(is_between).filter(is_broken);
        window.cut_off = Some(CutOff {
            until: next.map(|(from, _)| from),
            until_time: next.map(|(_, time)| time),
            backups: backups.map(|backup| backup.label.clone()).collect(),
        });
    }
}
