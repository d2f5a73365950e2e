//! Segments of which there are pieces, and no more yet; and what was there behind the end of a timeline's WAL.

use highwater_repository::{ClusterRepository, Error};
use highwater_wal::{Lsn, SegmentName, SegmentSize};

use crate::Inventory;

/// A segment of which there are pieces, and where they end.
pub(super) type Tail = (SegmentName, Lsn);

/// All of them, in the order of timelines and segments.
pub(super) async fn read(cluster: &ClusterRepository, size: SegmentSize) -> Result<Vec<Tail>, Error> {
    let mut tails = Vec::new();
    for timeline in cluster.tail_timelines().await? {
        for segment in cluster.tail_segments(timeline).await? {
            if let Some(reach) = cluster.tail_reach(segment).await? {
                tails.push((segment, segment.start(size) + reach));
            }
        }
    }
    Ok(tails)
}

/// How far each timeline's WAL is known to have been there, where that is further than it is.
pub(super) async fn read_lost(cluster: &ClusterRepository, inventory: &mut Inventory) -> Result<(), Error> {
    for timeline in cluster.reached_timelines().await? {
        let Some(end) = inventory.end_on(timeline) else { continue };
        if let Some(known) = cluster.lost_behind(timeline, end, inventory.segment_size).await? {
            inventory.add_lost_end(timeline, known);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use highwater_wal::{SystemId, TimelineId};

    use crate::Path;

    use super::*;

    #[test]
    fn r12_nothing_goes_on_behind_an_unfinished_segment() {
        let size = SegmentSize::DEFAULT;
        let one = |number: u64| SegmentName::from_number(TimelineId::FIRST, number, size);
        let whole_end = |number: u64| one(number).end(size);
        for (whole, tails, reached, next) in [
            (vec![1], vec![(2, Lsn(0x200_0100))], 2, None),
            // What lies behind it is not reached, and what is there of it is.
            (vec![1, 3], vec![(2, Lsn(0x200_0100))], 2, Some(3)),
            (vec![1, 4], vec![(2, Lsn(0x200_0100))], 2, Some(4)),
            (vec![1, 3], vec![(2, whole_end(2))], 3, None),
            (vec![1], vec![(2, whole_end(2)), (3, Lsn(0x300_0100))], 3, None),
            (vec![1], vec![(2, Lsn(0x200_0100)), (3, Lsn(0x300_0100))], 2, Some(3)),
        ] {
            let mut inventory = Inventory::empty("main", SystemId(7), size);
            whole.iter().for_each(|number| inventory.add_segment(one(*number)));
            tails.iter().for_each(|(number, end)| inventory.add_tail(one(*number), *end));
            let path = Path::root(TimelineId::FIRST);
            assert_eq!(path.run_from(&inventory, 1), Some(reached), "{whole:?} {tails:?}");
            assert_eq!(path.next_from(&inventory, reached + 1), next, "{whole:?} {tails:?}");
            let ends: Vec<Option<Lsn>> = tails
                .iter()
                .map(|(number, end)| inventory.unfinished_end(one(*number)).or(Some(*end)))
                .collect();
            assert_eq!(ends, tails.iter().map(|(_, end)| Some(*end)).collect::<Vec<_>>());
        }
    }
}
