//! What can be reached now and has to stay so: which backups and which WAL that takes (R19).

use highwater_wal::{TimelineId, Timestamp};

use super::rules::{Rules, before};
use crate::facts::Known;
use crate::plan::{Unsettled, is_consistent_by, run_end, run_reaches};
use crate::{Backup, Inventory, Path};

/// From when on every moment was promised at the moment `at`, by the backups that had ended by then. `None` where there are no
/// good backups.
///
/// It is never later than the end of the newest good backup: whatever the rules say, what happens now can be reached.
pub(super) fn promised_from(good: &[Backup], rules: &Rules, at: Timestamp) -> Option<Timestamp> {
    let mut ends: Vec<Timestamp> =
        good.iter().map(|backup| backup.stop_time).filter(|end| *end <= at).collect();
    ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
    let counted = (rules.backups.max(1) as usize).min(ends.len());
    let from = match counted {
        0 => good.iter().map(|backup| backup.stop_time).min()?,
        counted => ends[counted - 1],
    };
    Some(rules.window.map_or(from, |window| from.min(before(at, window))))
}

/// What a promise takes along one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnPath {
    pub(super) path: Path,
    /// The number of the first segment that is needed; everything behind it is.
    pub(super) first: u64,
    /// The backups from which the first promised moments are reached.
    pub(super) bases: Vec<String>,
    /// The backups behind them.
    pub(super) within: Vec<String>,
}

/// What takes it that every moment from `from` on that can be reached now with the inventory's backups can be reached later:
/// for each path of timelines that reaches there.
pub(super) fn on_paths(
    inventory: &Inventory,
    from: Timestamp,
    known: &Known,
) -> Result<Vec<OnPath>, Unsettled> {
    let paths = inventory.timelines().into_iter().filter_map(|timeline| inventory.path(timeline));
    let found = paths.map(|path| on_path(inventory, path, from, known));
    found.filter_map(Result::transpose).collect()
}

fn on_path(
    inventory: &Inventory,
    path: Path,
    from: Timestamp,
    known: &Known,
) -> Result<Option<OnPath>, Unsettled> {
    let size = inventory.segment_size.bytes();
    let covered = inventory.backups.iter().filter(|backup| path.covers(backup.timeline, backup.stop));
    // In the order of their stops, each with the end of its unbroken WAL.
    let backups: Vec<(&Backup, u64)> =
        covered.filter_map(|backup| Some((backup, run_end(inventory, &path, backup)?))).collect();
    let serves = |backup: &Backup| -> Result<bool, Unsettled> {
        Ok(backup.stop_time <= from && is_consistent_by(inventory, &path, backup, from, known)?)
    };
    let mut bases: Vec<&Backup> = Vec::new();
    for run in backups.chunk_by(|(_, one), (_, other)| one == other) {
        let mut begin = 0;
        for (n, (backup, _)) in run.iter().enumerate().rev() {
            if serves(backup)? {
                begin = n;
                break;
            }
        }
        // Where a clock went back, backups of the promised time lie in front of it.
        let early = run.iter().position(|(backup, _)| backup.stop_time >= from);
        let staying = run.get(early.map_or(begin, |early| early.min(begin))..).unwrap_or_default();
        let Some(&(base, end)) = staying.first() else { continue };
        // Only WAL that stays tells how far the run reaches: in front of it may lie later moments, and they go.
        let earliest = staying.iter().map(|(backup, _)| *backup).min_by_key(|backup| backup.start);
        if early.is_none() && !run_reaches(inventory, &path, earliest.unwrap_or(base), end, from, known)? {
            continue;
        }
        bases.push(base);
    }
    if bases.is_empty() {
        return Ok(None);
    }
    // The WAL behind it may be broken before the promised time; what is missing there may be found again.
    for (backup, _) in backups.iter().rev() {
        if serves(backup)? {
            bases.push(backup);
            break;
        }
    }
    let oldest = bases.iter().map(|backup| backup.stop).min().unwrap_or_default();
    let first = bases.iter().map(|backup| backup.start.0 / size).min().unwrap_or(0);
    let labels = |backup: &Backup| backup.label.clone();
    let bases: Vec<String> = bases.into_iter().map(labels).collect();
    let behind = backups.iter().map(|(backup, _)| *backup).filter(|backup| backup.stop >= oldest);
    let within = behind.map(labels).filter(|label| !bases.contains(label)).collect();
    Ok(Some(OnPath { path, first, bases, within }))
}

impl OnPath {
    pub(super) fn timeline(&self) -> TimelineId {
        self.path.timeline()
    }
}
