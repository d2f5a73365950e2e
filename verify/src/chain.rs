//! Where segments are missing, and who needs them. Pure.

use std::collections::BTreeMap;

use highwater_catalog::{Backup, Inventory, Path};
use highwater_wal::{SegmentName, TimelineId};

use crate::finding::Weight;

/// Segments that are missing, one behind the other on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) first: SegmentName,
    pub(crate) last: SegmentName,
    pub(crate) weight: Weight,
    /// What it means, in words.
    pub(crate) what: String,
    /// The backups that cannot be made consistent without them.
    pub(crate) backups: Vec<String>,
    /// What cannot be reached.
    pub(crate) moments: Option<String>,
}

/// All gaps on all paths. `kept` are the backups that count: those that are not about to be removed.
pub(crate) fn gaps(inventory: &Inventory, kept: &[Backup]) -> Vec<Gap> {
    let mut found: BTreeMap<(SegmentName, SegmentName), Gap> = BTreeMap::new();
    for timeline in inventory.timelines() {
        let Some(path) = inventory.path(timeline) else { continue };
        let on_path: Vec<&Backup> =
            kept.iter().filter(|backup| path.covers(backup.timeline, backup.stop)).collect();
        for (first, last) in missing(inventory, &path, &on_path) {
            let gap = judge(inventory, &path, &on_path, first, last);
            let key = (gap.first, gap.last);
            // Several paths share a stretch: the worst that it means on one of them counts.
            match found.get(&key) {
                Some(other) if other.weight <= gap.weight => {}
                _ => drop(found.insert(key, gap)),
            }
        }
    }
    found.into_values().collect()
}

/// The timelines that went on behind what is there of them, as the history of another one or a `.partial` file shows, where a backup
/// leads to them: the segment in which what is missing begins, and what it means.
pub(crate) fn short_ends(inventory: &Inventory, kept: &[Backup]) -> Vec<(SegmentName, String)> {
    let size = inventory.segment_size;
    let short = |timeline: TimelineId| {
        let number = inventory.segments_on(timeline)?.runs().last().map(|run| *run.end())?;
        let last = SegmentName::from_number(timeline, number, size);
        let shown = inventory.went_on_behind(last)?;
        let path = inventory.path(timeline)?;
        let is_led_to = kept.iter().any(|backup| path.covers(backup.timeline, backup.stop));
        let first = if inventory.unfinished_end(last).is_some() { last } else { last.next(size) };
        let what = format!(
            "timeline {timeline} went on to {shown}, and its WAL is there up to {} only: what was written between cannot be reached",
            inventory.end_of(last)
        );
        is_led_to.then_some((first, what))
    };
    inventory.timelines().into_iter().filter_map(short).collect()
}

/// The numbers of the first and the last segment that a backup cannot do without.
fn needs(inventory: &Inventory, backup: &Backup) -> (u64, u64) {
    let size = inventory.segment_size;
    let last = SegmentName::ending_at(backup.timeline, backup.stop, size);
    (backup.start.0 / size.bytes(), last.number(size))
}

/// Runs of missing segments between the first and the last that is there or that a backup needs.
fn missing(inventory: &Inventory, path: &Path, backups: &[&Backup]) -> Vec<(u64, u64)> {
    let needed = backups.iter().map(|backup| needs(inventory, backup));
    let from = needed.clone().map(|(first, _)| first).min();
    let until = needed.map(|(_, last)| last).max();
    let mut at = match (path.next_from(inventory, 0), from) {
        (Some(there), Some(needed)) => there.min(needed),
        (Some(number), None) | (None, Some(number)) => number,
        (None, None) => return Vec::new(),
    };
    let mut found = Vec::new();
    loop {
        if let Some(last) = path.run_from(inventory, at) {
            at = last + 1;
        }
        match (path.next_from(inventory, at), until) {
            (Some(next), _) => {
                found.push((at, next - 1));
                at = next;
            }
            (None, Some(until)) if until >= at => {
                found.push((at, until));
                return found;
            }
            _ => return found,
        }
    }
}

fn judge(inventory: &Inventory, path: &Path, backups: &[&Backup], first: u64, last: u64) -> Gap {
    let size = inventory.segment_size;
    let labels = |wanted: &dyn Fn(u64, u64) -> bool| -> Vec<&Backup> {
        let wanted = |backup: &&&Backup| {
            let (from, until) = needs(inventory, backup);
            wanted(from, until)
        };
        backups.iter().filter(wanted).copied().collect()
    };
    let broken = labels(&|from, until| from <= last && until >= first);
    let before = labels(&|_, until| until < first);
    let behind = labels(&|from, _| from > last);
    let next = behind.iter().min_by_key(|backup| backup.stop);
    let goes_on = path.next_from(inventory, last + 1).is_some();
    let first_name = path.segment(first, size);
    let moments = before.iter().max_by_key(|backup| backup.stop).map(|backup| {
        let lost = format!(
            "behind LSN {}, reached from backup {} and older ones",
            first_name.start(size),
            backup.label
        );
        match next {
            Some(next) => format!("{lost}, until the end of backup {} ({})", next.label, next.stop_time),
            None => lost,
        }
    });
    let (weight, what) = match (broken.is_empty(), before.is_empty(), next) {
        (false, _, _) => (Weight::Damage, "backups cannot be made consistent without it".to_owned()),
        (true, true, _) => (Weight::Note, "no backup lies before it, so nothing needs it".to_owned()),
        (true, false, Some(next)) => {
            (Weight::Note, format!("a hole between windows: backup {} lies behind it", next.label))
        }
        (true, false, None) if goes_on => {
            (Weight::Damage, "what lies behind it cannot be reached: no backup lies there".to_owned())
        }
        (true, false, None) => (Weight::Note, "nothing lies behind it".to_owned()),
    };
    let backups = broken.iter().map(|backup| backup.label.clone()).collect();
    Gap { first: first_name, last: path.segment(last, size), weight, what, backups, moments }
}

#[cfg(test)]
mod tests {
    use highwater_wal::{Lsn, SegmentSize, SystemId, TimelineHistory, Timestamp};

    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn backup(label: &str, timeline: u32, first: u64, last: u64) -> Backup {
        let timeline = TimelineId::new(timeline).unwrap();
        Backup {
            label: label.to_owned(),
            timeline,
            start: Lsn(first * SIZE.bytes() + 40),
            stop: Lsn(last * SIZE.bytes() + 300),
            start_time: Timestamp(0),
            stop_time: Timestamp(1),
            size_bytes: 1,
            stored_bytes: 1,
            parent: None,
            id: String::new(),
        }
    }

    fn found(
        segments: &[(u32, &[u64])],
        history: Option<&str>,
        backups: &[Backup],
    ) -> Vec<(String, Weight, String)> {
        let mut inventory = Inventory::empty("main", SystemId(7), SIZE);
        for (timeline, numbers) in segments {
            for number in *numbers {
                inventory.add_segment(SegmentName::from_number(
                    TimelineId::new(*timeline).unwrap(),
                    *number,
                    SIZE,
                ));
            }
        }
        let second = TimelineId::new(2).unwrap();
        if let Some(text) = history {
            inventory.add_history(TimelineHistory::parse(second, text).unwrap());
        }
        backups.iter().for_each(|backup| inventory.add_backup(backup.clone()));
        let gaps = gaps(&inventory, backups);
        let short = |gap: Gap| {
            let numbers =
                format!("{}:{}-{}", gap.first.timeline, gap.first.number(SIZE), gap.last.number(SIZE));
            (numbers, gap.weight, gap.backups.join(","))
        };
        gaps.into_iter().map(short).collect()
    }

    fn one(gap: &str, weight: Weight, backups: &str) -> Vec<(String, Weight, String)> {
        vec![(gap.to_owned(), weight, backups.to_owned())]
    }

    #[test]
    fn r19_what_a_gap_means_depends_on_who_needs_it() {
        let a = || backup("a", 1, 2, 3);
        let late = || backup("late", 1, 7, 8);
        assert_eq!(found(&[(1, &[1, 2, 3, 4])], None, &[a()]), []);
        assert_eq!(found(&[(1, &[1, 2, 4])], None, &[a()]), one("1:3-3", Weight::Damage, "a"));
        assert_eq!(
            found(&[(1, &[2])], None, &[a()]),
            one("1:3-3", Weight::Damage, "a"),
            "the newest is missing"
        );
        assert_eq!(found(&[(1, &[4, 5])], None, &[a()]), one("1:2-3", Weight::Damage, "a"));
        assert_eq!(found(&[], None, &[a()]), one("1:2-3", Weight::Damage, "a"), "none is there");
        assert_eq!(
            found(&[(1, &[2, 3, 5])], None, &[a()]),
            one("1:4-4", Weight::Damage, ""),
            "the end is cut off"
        );
        assert_eq!(
            found(&[(1, &[2, 3, 4, 6, 7, 8, 9])], None, &[a(), late()]),
            one("1:5-5", Weight::Note, ""),
            "between windows"
        );
        assert_eq!(found(&[(1, &[0, 2, 3])], None, &[a()]), one("1:1-1", Weight::Note, ""), "before all");
        assert_eq!(found(&[(1, &[1, 3])], None, &[]), one("1:2-2", Weight::Note, ""), "no backup");
    }

    #[test]
    fn r19_a_timeline_that_went_on_behind_its_last_piece_is_told() {
        let one = |number: u64| SegmentName::from_number(TimelineId::FIRST, number, SIZE);
        let kept = [backup("a", 1, 2, 3)];
        for (pieces, fork, partial, first) in [
            (None, None, None, None),
            (Some(100), None, None, None),
            (Some(100), Some("0/7000100"), None, Some(5)),
            (Some(100), None, Some(6), Some(5)),
            (Some(100), Some("0/5000200"), None, Some(5)),
            (Some(100), Some("0/5000064"), Some(5), None),
            (None, Some("0/7000100"), None, Some(5)),
            // Of that segment there is the new timeline's.
            (None, Some("0/5000100"), Some(5), None),
        ] {
            let mut inventory = Inventory::empty("main", SystemId(7), SIZE);
            (2..=4).for_each(|number| inventory.add_segment(one(number)));
            pieces.into_iter().for_each(|bytes| inventory.add_tail(one(5), one(5).start(SIZE) + bytes));
            partial.into_iter().for_each(|number| inventory.add_partial(one(number)));
            if let Some(fork) = fork {
                let text = format!("1\t{fork}\tno recovery target specified\n");
                let history = TimelineHistory::parse(TimelineId::new(2).unwrap(), text).unwrap();
                inventory.add_history(history);
            }
            let found = short_ends(&inventory, &kept);
            let firsts: Vec<SegmentName> = found.iter().map(|(first, _)| *first).collect();
            assert_eq!(
                firsts,
                first.map(one).into_iter().collect::<Vec<_>>(),
                "{pieces:?} {fork:?} {partial:?}"
            );
            assert_eq!(short_ends(&inventory, &[]), [], "no backup leads there");
        }
    }

    #[test]
    fn r19_a_gap_is_judged_on_every_path_that_it_lies_on() {
        let (a, b) = (backup("a", 1, 2, 3), backup("b", 2, 9, 9));
        let history = Some("1\t0/7000100\tno recovery target specified\n");
        // The second timeline's copy holds the segment of the fork.
        assert_eq!(found(&[(1, &[2, 3, 4, 5, 6]), (2, &[7, 8, 9])], history, &[a.clone(), b.clone()]), []);
        assert_eq!(
            found(&[(1, &[2, 3, 5, 6]), (2, &[7, 8, 9])], history, &[a.clone(), b.clone()]),
            one("1:4-4", Weight::Damage, ""),
            "on the second timeline a backup lies behind it, on the first none"
        );
        assert_eq!(
            found(&[(1, &[2, 3, 4, 5, 6, 7]), (2, &[8, 9])], history, &[a, b]),
            one("2:7-7", Weight::Note, ""),
            "the parent's copy is no way onto the second timeline"
        );
    }
}
