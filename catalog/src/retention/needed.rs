//! Which WAL has to stay (R19).

use std::collections::{BTreeMap, BTreeSet};

use highwater_wal::{SegmentName, TimelineId};

use crate::{Backup, Inventory, Path};

/// The segment numbers that are needed, for each timeline. What arrives later is needed as well: the ranges of timelines that go
/// on have no end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NeededWal {
    /// Nothing may go.
    everything: bool,
    /// Timelines of which nothing may go: nobody can say where they came from.
    whole: BTreeSet<TimelineId>,
    /// First and last number of each range.
    ranges: BTreeMap<TimelineId, Vec<(u64, u64)>>,
    /// The timelines that were known when this was decided; of others nothing goes.
    known: BTreeSet<TimelineId>,
}

impl NeededWal {
    pub(super) fn nothing(inventory: &Inventory) -> NeededWal {
        let known: BTreeSet<TimelineId> = inventory.timelines().into_iter().collect();
        let whole = known.iter().copied().filter(|timeline| inventory.path(*timeline).is_none()).collect();
        NeededWal { everything: false, whole, ranges: BTreeMap::new(), known }
    }

    pub(super) fn everything() -> NeededWal {
        NeededWal { everything: true, ..NeededWal::default() }
    }

    /// Whether a segment, or what belongs to it (`.partial`, `.backup`), has to stay.
    pub fn needs(&self, timeline: TimelineId, number: u64) -> bool {
        let in_range =
            |ranges: &Vec<(u64, u64)>| ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
        self.everything
            || self.whole.contains(&timeline)
            || !self.known.contains(&timeline)
            || self.ranges.get(&timeline).is_some_and(in_range)
    }

    /// The archived segments that nothing needs, in the order of their names.
    pub fn not_needed<'a>(&'a self, inventory: &'a Inventory) -> impl Iterator<Item = SegmentName> + 'a {
        inventory.timelines().into_iter().flat_map(move |timeline| {
            let runs = inventory.segments_on(timeline).into_iter().flat_map(|set| set.runs());
            let numbers = runs.flatten().filter(move |number| !self.needs(timeline, *number));
            numbers.map(move |number| SegmentName::from_number(timeline, number, inventory.segment_size))
        })
    }

    /// Everything along a path from a number to another, with both sides of each fork: of the segment in which a timeline left
    /// another one, both have a copy.
    pub(super) fn add_path(&mut self, path: &Path, inventory: &Inventory, first: u64, last: u64) {
        let size = inventory.segment_size.bytes();
        for leg in path.legs() {
            let begin = (leg.begin.0 / size).max(first);
            let end = leg.end.map_or(u64::MAX, |end| end.0 / size).min(last);
            if begin <= end {
                self.ranges.entry(leg.timeline).or_default().push((begin, end));
            }
        }
    }

    /// What makes a backup consistent, whichever timeline it is restored along.
    pub(super) fn add_backup(&mut self, backup: &Backup, inventory: &Inventory) {
        let size = inventory.segment_size.bytes();
        let (first, last) = (backup.start.0 / size, backup.stop.0.saturating_sub(1) / size);
        let mut has_path = false;
        for path in inventory.timelines().into_iter().filter_map(|timeline| inventory.path(timeline)) {
            if path.covers(backup.timeline, backup.stop) {
                self.add_path(&path, inventory, first, last);
                has_path = true;
            }
        }
        if !has_path {
            // Its history is lost: any timeline may hold what it needs.
            for timeline in self.known.clone() {
                self.ranges.entry(timeline).or_default().push((first, last));
            }
        }
    }
}
