//! Which files of the archive a log is read from, along a path.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use highwater_wal::{Lsn, SegmentName, WalFile};

use crate::{Inventory, Path};

/// What there is of a segment that the path would take and that is not there: another file with its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// A `.partial` file, or the same segment of the timeline that was left inside it.
    pub file: WalFile,
    /// Its name without `.partial`.
    pub segment: SegmentName,
    /// What lies behind is not on the path.
    pub until: Lsn,
}

/// The files along a path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stock {
    /// The unbroken runs of segments, by number, oldest first. One of which only a part is there ends its run.
    pub runs: Vec<RangeInclusive<u64>>,
    /// Segments of which only a part is there, by number.
    pub parts: BTreeMap<u64, Part>,
    /// Segments that are there in pieces, by number, with how many bytes of them are.
    pub in_pieces: BTreeMap<u64, u64>,
}

impl Stock {
    /// What is there of a path.
    pub fn of(inventory: &Inventory, path: &Path) -> Stock {
        let size = inventory.segment_size;
        let is_on = |name: &SegmentName| path.segment(name.number(size), size) == *name;
        let in_pieces = inventory.in_pieces().filter(|(name, _)| is_on(name));
        let mut stock = Stock {
            runs: runs(inventory, path),
            parts: parts(inventory, path),
            in_pieces: in_pieces.map(|(name, bytes)| (name.number(size), bytes)).collect(),
        };
        let is_cut_short = |number: u64| inventory.unfinished_end(path.segment(number, size)).is_some();
        for number in stock.parts.keys() {
            let at = stock.runs.partition_point(|run| run.start() < number);
            match at.checked_sub(1).map(|before| &mut stock.runs[before]) {
                Some(run) if *run.end() + 1 == *number && !is_cut_short(*run.end()) => {
                    *run = *run.start()..=*number;
                }
                _ => stock.runs.insert(at, *number..=*number),
            }
        }
        stock
    }

    /// The first segment behind a run that is not there whole.
    pub fn missing_behind(&self, run: &RangeInclusive<u64>) -> u64 {
        run.end() + u64::from(!self.parts.contains_key(run.end()))
    }
}

/// The unbroken runs of segments along a path, by number, oldest first.
fn runs(inventory: &Inventory, path: &Path) -> Vec<RangeInclusive<u64>> {
    let mut runs = Vec::new();
    let mut next = path.next_from(inventory, 0);
    // It ends: each run begins behind the one before, and there are as many as there are holes.
    while let Some((first, last)) = next.and_then(|first| Some((first, path.run_from(inventory, first)?))) {
        runs.push(first..=last);
        next = path.next_from(inventory, last + 1);
    }
    runs
}

/// The segments of the path that are not there and whose beginning another file has: where a timeline ended without a whole segment, and
/// where the next one was lost before it had archived its copy.
fn parts(inventory: &Inventory, path: &Path) -> BTreeMap<u64, Part> {
    let size = inventory.segment_size;
    let forks = path.legs().iter().filter_map(|leg| Some(leg.end?.0 / size.bytes()));
    let partials = inventory.partials().map(|partial| partial.number(size));
    let lost = forks.chain(partials).filter(|number| !inventory.has(path.segment(*number, size)));
    let part = |number: u64| {
        path.legs().iter().rev().find_map(|leg| {
            let segment = SegmentName::from_number(leg.timeline, number, size);
            let until = leg.end.unwrap_or(Lsn(u64::MAX)).min(segment.end(size));
            let file = match inventory.has(segment) {
                true => WalFile::Segment(segment),
                false => {
                    inventory.partials_of(number).find(|partial| *partial == segment).map(WalFile::Partial)?
                }
            };
            let is_on_path = leg.begin < segment.end(size) && until > segment.start(size);
            is_on_path.then_some(Part { file, segment, until })
        })
    };
    lost.filter_map(|number| Some((number, part(number)?))).collect()
}

/// What other timelines hold that the path does not.
pub(super) fn beside(inventory: &Inventory, path: &Path) -> Vec<String> {
    let size = inventory.segment_size;
    let mut notes = Vec::new();
    for timeline in inventory.timelines() {
        let Some(other) = inventory.path(timeline).filter(|_| timeline != path.timeline()) else { continue };
        let parts = path.parts_from(&other);
        let first = parts.0 / size.bytes();
        let count = inventory.segments_on(timeline).map_or(0, |set| {
            set.runs().map(|run| (*run.end() + 1).saturating_sub((*run.start()).max(first))).sum::<u64>()
        });
        // Of a timeline that the path left, the segment with the fork is on the path as a copy.
        let beside = if path.leg(timeline).is_some() || other.covers(path.timeline(), parts) {
            count.saturating_sub(1)
        } else {
            count
        };
        if beside > 0 {
            let segments = if beside == 1 { "segment" } else { "segments" };
            notes.push(format!(
                "timeline {timeline} parts from this path at {parts} and has {beside} more {segments}; --timeline {timeline} tells what \
                 happened there"
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use highwater_wal::{Ancestor, SegmentSize, SystemId, TimelineHistory, TimelineId};

    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName::from_number(TimelineId::new(timeline).unwrap(), number, SIZE)
    }

    /// Timeline 2 left 1 inside segment 5.
    fn inventory(segments: &[(u32, u64)], partials: &[(u32, u64)]) -> Inventory {
        let mut inventory = Inventory::empty("main", SystemId(1), SIZE);
        let ancestor =
            Ancestor { timeline: TimelineId::FIRST, switch_point: Lsn(0x0500_1000), reason: String::new() };
        inventory.add_history(TimelineHistory {
            timeline: TimelineId::new(2).unwrap(),
            ancestors: vec![ancestor],
        });
        segments.iter().for_each(|(timeline, number)| inventory.add_segment(segment(*timeline, *number)));
        partials.iter().for_each(|(timeline, number)| inventory.add_partial(segment(*timeline, *number)));
        inventory
    }

    #[test]
    fn the_beginning_of_a_segment_is_taken_from_what_there_is_of_it() {
        let shared = [(1, 3), (1, 4)];
        let of = |more: &[(u32, u64)], partials: &[(u32, u64)], timeline: u32| {
            let inventory = inventory(&[&shared, more].concat(), partials);
            let path = inventory.path(TimelineId::new(timeline).unwrap()).unwrap();
            let Stock { runs, parts, .. } = Stock::of(&inventory, &path);
            let parts = parts.values().map(|part| format!("{} < {}", part.file, part.until));
            (runs, parts.collect::<Vec<String>>().join(", "))
        };
        let five = segment(1, 5);
        for (what, more, partials, timeline, runs, parts) in [
            ("nothing", &[][..], &[][..], 2, vec![3..=4], String::new()),
            (
                "its end was never archived whole",
                &[(2, 5)],
                &[(1, 5)],
                1,
                vec![3..=5],
                format!("{five}.partial < 0/6000000"),
            ),
            ("the copy is there", &[(2, 5)], &[(1, 5)], 2, vec![3..=5], String::new()),
            ("the copy was lost", &[], &[(1, 5)], 2, vec![3..=5], format!("{five}.partial < 0/5001000")),
            (
                "and the whole one is there",
                &[(1, 5)],
                &[(1, 5)],
                2,
                vec![3..=5],
                format!("{five} < 0/5001000"),
            ),
            ("the whole one wins", &[(1, 5)], &[(1, 5)], 1, vec![3..=5], String::new()),
            (
                "more behind it",
                &[(2, 6)],
                &[(1, 5)],
                2,
                vec![3..=5, 6..=6],
                format!("{five}.partial < 0/5001000"),
            ),
            ("of a timeline that is elsewhere by then", &[], &[(1, 7)], 2, vec![3..=4], String::new()),
            (
                "behind a hole",
                &[],
                &[(2, 7)],
                2,
                vec![3..=4, 7..=7],
                format!("{}.partial < 0/8000000", segment(2, 7)),
            ),
        ] {
            assert_eq!(of(more, partials, timeline), (runs, parts), "{what}");
        }
        let stock = Stock { runs: vec![3..=5], ..Stock::default() };
        assert_eq!(stock.missing_behind(&(3..=5)), 6);
        let part = Part { file: WalFile::Partial(five), segment: five, until: Lsn(0x0500_1000) };
        assert_eq!(Stock { parts: [(5, part)].into(), ..stock }.missing_behind(&(3..=5)), 5);
    }
}
