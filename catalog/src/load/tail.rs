//! Segments of which there are pieces, and no more yet: the newest of a timeline that is being received.

use highwater_repository::{ClusterRepository, Error};
use highwater_wal::{SegmentName, SegmentSize};

use crate::Inventory;

/// A segment of which there are pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    segment: SegmentName,
    /// The pieces go up to its end.
    is_complete: bool,
}

/// All of them, in the order of timelines and segments.
pub(super) async fn read(cluster: &ClusterRepository, size: SegmentSize) -> Result<Vec<Tail>, Error> {
    let mut tails = Vec::new();
    for timeline in cluster.tail_timelines().await? {
        for segment in cluster.tail_segments(timeline).await? {
            let pieces = cluster.tail_pieces(segment).await?;
            let is_complete = pieces.iter().any(|piece| u64::from(piece.to) == size.bytes());
            if !pieces.is_empty() {
                tails.push(Tail { segment, is_complete });
            }
        }
    }
    Ok(tails)
}

/// Counts them among the segments: those that are complete, and of each timeline the last one, if nothing of the timeline lies behind it.
/// An unfinished segment with WAL behind it is a hole.
pub(super) fn add(inventory: &mut Inventory, tails: &[Tail]) {
    let size = inventory.segment_size;
    let whole: Vec<bool> = tails
        .iter()
        .map(|tail| {
            let number = tail.segment.number(size);
            let set = inventory.segments_on(tail.segment.timeline);
            let has_later = set.is_some_and(|set| set.next_from(number + 1).is_some());
            let has_later_tail = tails
                .iter()
                .any(|other| other.segment.timeline == tail.segment.timeline && other.segment > tail.segment);
            tail.is_complete || !(has_later || has_later_tail)
        })
        .collect();
    for (tail, counts) in tails.iter().zip(whole) {
        if counts {
            inventory.add_tail(tail.segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_wal::SystemId;

    use super::*;

    #[test]
    fn r12_an_unfinished_segment_counts_only_where_nothing_lies_behind_it() {
        let segment = |text: &str| text.parse::<SegmentName>().unwrap();
        let one = |number: u32| segment(&format!("0000000100000000{number:08X}"));
        let tail = |segment, is_complete| Tail { segment, is_complete };
        for (whole, tails, counted) in [
            (vec![1], vec![tail(one(2), false)], vec![2]),
            (vec![1, 3], vec![tail(one(2), false)], vec![]),
            (vec![1, 3], vec![tail(one(2), true)], vec![2]),
            (vec![1], vec![tail(one(2), true), tail(one(3), false)], vec![2, 3]),
            (vec![1], vec![tail(one(2), false), tail(one(3), false)], vec![3]),
            // Another timeline's segments lie behind nothing.
            (vec![1], vec![tail(one(2), false), tail(segment("000000020000000000000003"), false)], vec![2]),
        ] {
            let mut inventory = Inventory::empty("main", SystemId(7), SegmentSize::DEFAULT);
            whole.iter().for_each(|number| inventory.add_segment(one(*number)));
            add(&mut inventory, &tails);
            for number in [2, 3] {
                let expected = counted.contains(&number) || whole.contains(&number);
                assert_eq!(inventory.has(one(number)), expected, "{whole:?} {tails:?} {number}");
            }
        }
    }
}
