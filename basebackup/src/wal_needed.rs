//! Which segments a backup needs.

use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineId};

use crate::server_manifest::WalRange;

/// Segments of one timeline, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    timeline: TimelineId,
    first: u64,
    /// Behind the last.
    end: u64,
}

/// The segments that a backup needs, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeededWal {
    size: SegmentSize,
    stretches: Vec<Stretch>,
    stop: Lsn,
}

impl NeededWal {
    /// For the ranges of the server's manifest, oldest first. There is more than one when a standby followed a promotion
    /// during the backup: the segment in which a timeline branches off is needed of the new one only, which begins it with
    /// a copy of the old.
    pub(crate) fn new(ranges: &[WalRange], size: SegmentSize) -> NeededWal {
        let number = |lsn: Lsn| lsn.0 / size.bytes();
        let mut stretches: Vec<Stretch> = Vec::new();
        for range in ranges {
            let first = number(range.start);
            if let Some(before) = stretches.last_mut() {
                before.end = before.end.min(first);
            }
            let last = number(Lsn(range.end.0.saturating_sub(1))).max(first);
            stretches.push(Stretch { timeline: range.timeline, first, end: last + 1 });
        }
        let stop = ranges.iter().map(|range| range.end).max().unwrap_or_default();
        NeededWal { size, stretches, stop }
    }

    /// How many they are.
    pub(crate) fn count(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.end.saturating_sub(stretch.first)).sum()
    }

    /// Their names, in the order in which recovery reads them.
    pub(crate) fn names(&self) -> impl Iterator<Item = SegmentName> {
        self.stretches.iter().flat_map(|stretch| {
            (stretch.first..stretch.end)
                .map(|number| SegmentName::from_number(stretch.timeline, number, self.size))
        })
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Option<SegmentName> {
        let stretch = self.stretches.iter().rev().find(|stretch| stretch.end > stretch.first)?;
        Some(SegmentName::from_number(stretch.timeline, stretch.end - 1, self.size))
    }

    /// Where the backup ends.
    pub(crate) fn stop(&self) -> Lsn {
        self.stop
    }

    /// Their size.
    pub(crate) fn size(&self) -> SegmentSize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ranges: &[(u32, u64, u64)]) -> Vec<String> {
        let range = |(timeline, start, end): &(u32, u64, u64)| WalRange {
            timeline: TimelineId::new(*timeline).unwrap(),
            start: Lsn(*start),
            end: Lsn(*end),
        };
        let ranges: Vec<WalRange> = ranges.iter().map(range).collect();
        let needed = NeededWal::new(&ranges, SegmentSize::new(1 << 20).unwrap());
        let names: Vec<String> = needed.names().map(|name| name.to_string()).collect();
        assert_eq!(needed.count(), names.len() as u64);
        assert_eq!(needed.last().map(|name| name.to_string()), names.last().cloned());
        names
    }

    #[test]
    fn r09_every_segment_from_start_to_stop_is_needed() {
        let one = ["000000010000000000000002"];
        let two = ["000000010000000000000002", "000000010000000000000003"];
        assert_eq!(names(&[(1, 0x20_0028, 0x20_0100)]), one);
        // A stop at the very end of a segment needs no byte of the next.
        assert_eq!(names(&[(1, 0x20_0028, 0x30_0000)]), one);
        assert_eq!(names(&[(1, 0x20_0028, 0x30_0001)]), two);
        assert_eq!(names(&[(1, 0x20_0028, 0x20_0028)]), one);
        let over_a_log = ["000000010000000000000FFF", "000000010000000100000000"];
        assert_eq!(names(&[(1, 0xFFFF_FFFF, 0x1_0000_0001)]), over_a_log);
    }

    #[test]
    fn r09_the_segment_in_which_a_timeline_branches_off_is_needed_of_the_new_one() {
        assert_eq!(
            names(&[(1, 0x20_0028, 0x40_0100), (2, 0x40_0100, 0x50_0100)]),
            [
                "000000010000000000000002",
                "000000010000000000000003",
                "000000020000000000000004",
                "000000020000000000000005",
            ]
        );
        assert_eq!(
            names(&[(1, 0x20_0028, 0x20_0100), (2, 0x20_0100, 0x20_0200)]),
            ["000000020000000000000002"]
        );
        // Timelines that branch off in the same segment, one after another.
        assert_eq!(
            names(&[(1, 0x10_0028, 0x20_0100), (2, 0x20_0100, 0x20_0200), (3, 0x20_0200, 0x20_0300)]),
            ["000000010000000000000001", "000000030000000000000002"]
        );
    }
}
