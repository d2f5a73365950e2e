//! WAL that is missing, and when nobody has to do anything about it any more.

use highwater_wal::{Lsn, SegmentSize, TimelineId};

use crate::unreachable::Hole;
use crate::{Backup, Branch, Inventory, Path};

/// A stretch of WAL that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The timeline on which it begins.
    pub timeline: TimelineId,
    /// Its first byte.
    pub from: Lsn,
    /// Behind its last byte; that may lie on a later timeline.
    pub to: Lsn,
}

impl Gap {
    /// Whether all of another one lies in this one.
    pub fn holds(&self, other: &Gap) -> bool {
        self.timeline == other.timeline && self.from <= other.from && other.to <= self.to
    }

    /// Whether it is over for a cluster that has come along `path`, by a complete and sound base backup behind it: what happens now is
    /// reached from that one. What lies between stays lost.
    pub fn is_answered_by(&self, backup: &Backup, path: &Path) -> bool {
        let behind = match path.leg(self.timeline) {
            Some(leg) => leg.end.map_or(self.to, |end| self.to.min(end)),
            // The cluster has left that timeline's ancestor in front of it, or it would be on the path.
            None => path.legs().last().map_or(self.to, |leg| leg.begin),
        };
        path.covers(backup.timeline, backup.stop) && backup.start >= behind
    }
}

impl Hole {
    /// What is missing of it.
    pub fn gap(&self, size: SegmentSize) -> Gap {
        let to = self.was_there_until.unwrap_or(self.last.end(size));
        Gap { timeline: self.first.timeline, from: self.begins(size), to }
    }
}

/// A hole, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldHole<'a> {
    /// The timeline whose path it lies on.
    pub timeline: TimelineId,
    /// The hole.
    pub hole: &'a Hole,
    /// Nobody has to do anything about it: a base backup lies behind it ([`Gap::is_answered_by`]).
    pub is_answered: bool,
}

/// The holes in the windows, each once: on the newest timeline's path where it lies on several.
pub fn told_holes<'a>(inventory: &Inventory, branches: &'a [Branch]) -> Vec<ToldHole<'a>> {
    let mut told: Vec<ToldHole<'a>> = Vec::new();
    let newest = branches.iter().find(|branch| branch.is_newest);
    for branch in newest.into_iter().chain(branches.iter().filter(|branch| !branch.is_newest)) {
        for (number, window) in branch.windows.iter().enumerate() {
            let Some(hole) = window.hole_after.as_ref() else { continue };
            if told.iter().any(|other| other.hole == hole) {
                continue;
            }
            // Whatever begins a window later on this path is such a backup.
            let is_answered = number + 1 < branch.windows.len()
                || newest.is_some_and(|newest| answers(inventory, newest, hole));
            told.push(ToldHole { timeline: branch.timeline, hole, is_answered });
        }
    }
    told
}

/// Whether one of the backups that can be used on a branch answers a hole.
fn answers(inventory: &Inventory, branch: &Branch, hole: &Hole) -> bool {
    let Some(path) = inventory.path(branch.timeline) else { return false };
    let gap = hole.gap(inventory.segment_size);
    let mut usable = branch.windows.iter().flat_map(|window| &window.backups);
    let backup = |label: &String| inventory.backups.iter().find(|backup| backup.label == *label);
    usable.any(|label| backup(label).is_some_and(|backup| gap.is_answered_by(backup, &path)))
}

#[cfg(test)]
mod tests {
    use highwater_wal::{SegmentName, SystemId, TimelineHistory, Timestamp};

    use super::*;
    use crate::Window;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName::from_number(tli(timeline), number, SIZE)
    }

    fn lsn(segment: u64) -> Lsn {
        Lsn(segment * SIZE.bytes())
    }

    fn backup(label: &str, timeline: u32, start: u64) -> Backup {
        Backup {
            label: label.to_owned(),
            timeline: tli(timeline),
            start: lsn(start) + 100,
            stop: lsn(start) + 200,
            start_time: Timestamp(0),
            stop_time: Timestamp(0),
            size_bytes: 1,
            stored_bytes: 1,
            parent: None,
            id: String::new(),
        }
    }

    /// Timeline 2 has left the first at the middle of segment 10.
    fn history() -> TimelineHistory {
        TimelineHistory::parse(tli(2), "1\t0/A800000\tx\n").unwrap()
    }

    #[test]
    fn a_gap_is_over_when_a_backup_lies_behind_it_where_the_cluster_lives_now() {
        let (first, second) = (Path::root(tli(1)), Path::from_history(&history()));
        let gap = |timeline, from, to| Gap { timeline: tli(timeline), from: lsn(from) + 50, to: lsn(to) };
        for (path, gap, on, start, expected) in [
            (&first, gap(1, 4, 6), 1, 3, false),
            (&first, gap(1, 4, 6), 1, 5, false),
            (&first, gap(1, 4, 6), 1, 6, true),
            // Promoted since: a backup on either timeline, where it lies on the way.
            (&second, gap(1, 4, 6), 1, 6, true),
            (&second, gap(1, 4, 6), 2, 11, true),
            (&second, gap(1, 4, 6), 1, 12, false),
            // The gap runs over the fork, or lies behind it: what the old timeline had there is not lived on.
            (&second, gap(1, 9, 20), 1, 9, false),
            (&second, gap(1, 9, 20), 2, 11, true),
            (&second, gap(1, 14, 20), 1, 6, false),
            (&second, gap(1, 14, 20), 2, 11, true),
            (&second, gap(2, 14, 20), 2, 11, false),
            (&second, gap(2, 14, 20), 2, 20, true),
            // A timeline that the way does not run over.
            (&second, gap(3, 14, 20), 1, 6, false),
            (&second, gap(3, 14, 20), 2, 11, true),
        ] {
            let is_over = gap.is_answered_by(&backup("b", on, start), path);
            assert_eq!(is_over, expected, "{gap:?}, a backup on {on} at {start}");
        }
    }

    fn window(backup: &Backup, until: u64, hole_after: Option<Hole>) -> Window {
        Window {
            from: backup.stop,
            from_time: Timestamp(0),
            until: lsn(until),
            until_time: Timestamp(0),
            last_commit: None,
            last_segment: segment(1, until - 1),
            backups: vec![backup.label.clone()],
            hole_after,
            cut_off: None,
        }
    }

    fn branch(timeline: u32, is_newest: bool, windows: Vec<Window>) -> Branch {
        let path = if timeline == 1 { Path::root(tli(1)) } else { Path::from_history(&history()) };
        Branch {
            timeline: tli(timeline),
            path: path.legs().to_vec(),
            is_newest,
            parent: None,
            windows,
            broken: Vec::new(),
            doubted: Vec::new(),
            unreached: None,
            left_out: None,
        }
    }

    #[test]
    fn a_hole_is_told_once_and_is_no_alarm_with_a_backup_behind_it() {
        let hole = |timeline, number| Hole::of(segment(timeline, number), segment(timeline, number), 1);
        let gone = Hole { was_there_until: Some(lsn(13) + 7), ..hole(1, 13) };
        let (old, later, on_second) = (backup("old", 1, 2), backup("later", 1, 6), backup("second", 2, 12));
        let shared = || window(&old, 4, Some(hole(1, 4)));
        for (case, branches, expected) in [
            ("nothing is missing", vec![branch(1, true, vec![window(&old, 4, None)])], vec![]),
            ("nothing lies behind it", vec![branch(1, true, vec![shared()])], vec![(1, 4, false)]),
            (
                "a backup lies behind it, and another hole behind that",
                vec![branch(1, true, vec![shared(), window(&later, 8, Some(hole(1, 8)))])],
                vec![(1, 4, true), (1, 8, false)],
            ),
            (
                "it lies on both paths, and only the newer has a backup behind it",
                vec![
                    branch(1, false, vec![shared()]),
                    branch(2, true, vec![shared(), window(&on_second, 14, None)]),
                ],
                vec![(2, 4, true)],
            ),
            (
                "it lies on both paths, and only the older has a backup behind it",
                vec![
                    branch(1, false, vec![shared(), window(&backup("beyond", 1, 12), 14, None)]),
                    branch(2, true, vec![shared()]),
                ],
                vec![(2, 4, false)],
            ),
            (
                "the old timeline's end has gone, and nobody has taken a backup since",
                vec![
                    branch(1, false, vec![window(&old, 13, Some(gone.clone()))]),
                    branch(2, true, vec![window(&old, 14, None)]),
                ],
                vec![(1, 13, false)],
            ),
            (
                "the old timeline's end has gone, and the cluster lives on with a backup of its own",
                vec![
                    branch(1, false, vec![window(&old, 13, Some(gone.clone()))]),
                    branch(2, true, vec![window(&old, 11, None), window(&on_second, 14, None)]),
                ],
                vec![(1, 13, true)],
            ),
        ] {
            let mut inventory = Inventory::empty("main", SystemId(7), SIZE);
            inventory.add_history(history());
            [&old, &later, &on_second].into_iter().for_each(|backup| inventory.add_backup(backup.clone()));
            inventory.add_segment(segment(1, 2));
            let told = told_holes(&inventory, &branches);
            let told: Vec<(u32, u64, bool)> = told
                .iter()
                .map(|told| (told.timeline.get(), told.hole.first.number(SIZE), told.is_answered))
                .collect();
            assert_eq!(told, expected, "{case}");
        }
    }
}
