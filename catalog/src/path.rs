//! A path of timelines: how the WAL runs from timeline 1 to the one that was named.

use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineHistory, TimelineId};
use serde::Serialize;

use crate::Inventory;

/// One stretch of a path: the WAL of `timeline` from `begin` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Whose WAL it is.
    pub timeline: TimelineId,
    /// Where the timeline began: its parent's switch point, or 0 for timeline 1.
    pub begin: Lsn,
    /// Where the next timeline of the path left it; `None` for the last.
    pub end: Option<Lsn>,
}

/// The legs from the oldest ancestor to the timeline that was named. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    timeline: TimelineId,
    legs: Vec<Leg>,
}

impl Path {
    /// The path that a timeline's history file describes.
    pub fn from_history(history: &TimelineHistory) -> Path {
        let stretches = history.path().into_iter();
        let legs = stretches
            .map(|stretch| Leg { timeline: stretch.timeline, begin: stretch.begin, end: stretch.end })
            .collect();
        Path { timeline: history.timeline, legs }
    }

    /// The path of a timeline that has no history: it has no ancestors.
    pub fn root(timeline: TimelineId) -> Path {
        Path { timeline, legs: vec![Leg { timeline, begin: Lsn::INVALID, end: None }] }
    }

    /// The timeline that the path leads to.
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Its legs, oldest first.
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// The leg of a timeline, if the path runs over it.
    pub fn leg(&self, timeline: TimelineId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.timeline == timeline)
    }

    /// Where another path parts from this one: both have the same WAL before that position, and not from there on.
    pub fn parts_from(&self, other: &Path) -> Lsn {
        let mut at = Lsn::INVALID;
        for (mine, theirs) in self.legs.iter().zip(&other.legs) {
            if mine.timeline != theirs.timeline {
                break;
            }
            let end = |leg: &Leg| leg.end.unwrap_or(Lsn(u64::MAX));
            at = end(mine).min(end(theirs));
            if mine.end != theirs.end {
                break;
            }
        }
        at
    }

    /// Whether the path holds what was written on `timeline` up to `lsn`.
    pub fn covers(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        self.leg(timeline).is_some_and(|leg| leg.end.is_none_or(|end| lsn <= end))
    }

    /// The segment that recovery along this path takes for a segment number: that of the newest timeline that had begun by
    /// its end. Where a timeline forks off inside a segment, the new timeline's copy holds both sides.
    ///
    /// PostgreSQL would fall back to the parent's segment when the newer one is missing (`XLogFileReadAnyTLI`, xlogrecovery.c,
    /// PostgreSQL 15) and replay what the parent wrote after the fork; a plan never builds on that.
    pub fn segment(&self, number: u64, size: SegmentSize) -> SegmentName {
        let leg =
            self.legs.iter().rev().find(|leg| leg.begin.0 / size.bytes() <= number).unwrap_or(&self.legs[0]);
        SegmentName::from_number(leg.timeline, number, size)
    }

    /// The last number of the unbroken run of archived segments along the path that starts at `number`;
    /// `None` where that very segment is missing.
    pub fn run_from(&self, inventory: &Inventory, number: u64) -> Option<u64> {
        let size = inventory.segment_size;
        let mut at = number;
        let mut reached = None;
        loop {
            let timeline = self.segment(at, size).timeline;
            let last_of_leg = self.last_number_on(timeline, size);
            let Some(run) = inventory.segments_on(timeline).and_then(|set| set.run_at(at)) else {
                return reached;
            };
            // Behind the last piece of an unfinished segment something is missing, whatever lies behind it.
            let unfinished = inventory.first_unfinished(timeline, at).filter(|number| *number <= run);
            if let Some(number) = unfinished.filter(|number| last_of_leg.is_none_or(|last| *number <= last)) {
                return Some(number);
            }
            match last_of_leg {
                Some(last) if run >= last => {
                    reached = Some(last);
                    at = last + 1;
                }
                _ => return Some(run),
            }
        }
    }

    /// The smallest archived segment number along the path at or above `number`.
    pub fn next_from(&self, inventory: &Inventory, number: u64) -> Option<u64> {
        let size = inventory.segment_size;
        let mut at = number;
        loop {
            let timeline = self.segment(at, size).timeline;
            let last_of_leg = self.last_number_on(timeline, size);
            let found = inventory.segments_on(timeline).and_then(|set| set.next_from(at));
            match (found, last_of_leg) {
                (Some(found), Some(last)) if found > last => at = last + 1,
                (Some(found), _) => return Some(found),
                (None, Some(last)) => at = last + 1,
                (None, None) => return None,
            }
        }
    }

    /// The last segment number that the path takes from a timeline; `None` for the newest timeline, which has no end.
    fn last_number_on(&self, timeline: TimelineId, size: SegmentSize) -> Option<u64> {
        let later = self.legs.iter().skip_while(|leg| leg.timeline != timeline).skip(1);
        // Several timelines can begin in one segment: the path leaves `timeline` where the first of them does.
        later.map(|leg| leg.begin.0 / size.bytes()).min().map(|begins_in| begins_in.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use highwater_wal::{Ancestor, SystemId};

    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    /// Timeline 2 left 1 inside segment 5, timeline 3 left 2 inside segment 8.
    fn three() -> Path {
        let ancestor = |timeline, lsn| Ancestor {
            timeline: tli(timeline),
            switch_point: Lsn(lsn),
            reason: String::new(),
        };
        let ancestors = vec![ancestor(1, 0x0500_1000), ancestor(2, 0x0800_2000)];
        Path::from_history(&TimelineHistory { timeline: tli(3), ancestors })
    }

    fn inventory(segments: &[(u32, std::ops::RangeInclusive<u64>)]) -> Inventory {
        let mut inventory = Inventory::empty("main", SystemId(1), SIZE);
        for (timeline, numbers) in segments {
            for number in numbers.clone() {
                inventory.add_segment(SegmentName::from_number(tli(*timeline), number, SIZE));
            }
        }
        inventory
    }

    #[test]
    fn a_forked_segment_is_taken_from_the_newer_timeline() {
        let path = three();
        let taken: Vec<u32> = (3..=9).map(|number| path.segment(number, SIZE).timeline.get()).collect();
        assert_eq!(taken, [1, 1, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn runs_cross_forks() {
        let path = three();
        let whole = inventory(&[(1, 1..=5), (2, 5..=8), (3, 8..=11)]);
        assert_eq!(path.run_from(&whole, 1), Some(11));
        let fork_missing = inventory(&[(1, 1..=6), (2, 6..=7), (3, 8..=11)]);
        assert_eq!(
            path.run_from(&fork_missing, 1),
            Some(4),
            "the parent's copy of segment 5 holds what came after the fork"
        );
        assert_eq!(path.next_from(&fork_missing, 5), Some(6));
        assert_eq!(path.run_from(&fork_missing, 5), None);
        let later_hole = inventory(&[(1, 1..=4), (2, 5..=7), (3, 9..=11)]);
        assert_eq!(path.run_from(&later_hole, 2), Some(7));
        assert_eq!(path.next_from(&later_hole, 8), Some(9));
    }

    #[test]
    fn two_forks_inside_one_segment() {
        let ancestor = |timeline, lsn| Ancestor {
            timeline: tli(timeline),
            switch_point: Lsn(lsn),
            reason: String::new(),
        };
        let history = TimelineHistory {
            timeline: tli(3),
            ancestors: vec![ancestor(1, 0x0500_1000), ancestor(2, 0x0500_2000)],
        };
        let path = Path::from_history(&history);
        assert_eq!(path.segment(5, SIZE).timeline, tli(3));
        assert_eq!(path.run_from(&inventory(&[(1, 1..=4), (3, 5..=6)]), 1), Some(6));
    }

    #[test]
    fn paths_part_where_the_first_of_them_leaves_the_common_timeline() {
        let to = |timeline, ancestors: &[(u32, u64)]| {
            let ancestors = ancestors.iter().map(|(timeline, lsn)| Ancestor {
                timeline: tli(*timeline),
                switch_point: Lsn(*lsn),
                reason: String::new(),
            });
            Path::from_history(&TimelineHistory { timeline: tli(timeline), ancestors: ancestors.collect() })
        };
        for (other, expected) in [
            (to(1, &[]), 0x0500_1000),
            (to(2, &[(1, 0x0500_1000)]), 0x0800_2000),
            (to(4, &[(1, 0x0500_1000), (2, 0x0700_0000)]), 0x0700_0000),
            (to(4, &[(1, 0x0500_1000), (2, 0x0900_0000)]), 0x0800_2000),
            (to(4, &[(1, 0x0400_0000)]), 0x0400_0000),
            (to(4, &[(1, 0x0500_1000), (2, 0x0800_2000), (3, 0x0900_0000)]), 0x0900_0000),
            (to(5, &[(4, 0x0300_0000)]), 0),
        ] {
            assert_eq!(three().parts_from(&other), Lsn(expected), "{other:?}");
            assert_eq!(other.parts_from(&three()), Lsn(expected), "{other:?}");
        }
    }

    #[test]
    fn a_backup_behind_the_fork_is_not_on_the_path() {
        let path = three();
        assert!(path.covers(tli(1), Lsn(0x0500_1000)));
        assert!(!path.covers(tli(1), Lsn(0x0500_1001)));
        assert!(path.covers(tli(3), Lsn(u64::MAX)));
        assert!(!path.covers(tli(4), Lsn(1)));
    }
}
