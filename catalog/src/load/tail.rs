//! Segments of which there are pieces, and no more yet; and what was there behind the end of a timeline's WAL.

use highwater_repository::{ClusterRepository, Error};
use highwater_wal::{Lsn, SegmentName, SegmentSize};

use crate::Inventory;

/// A segment of which there are pieces.
#[derive(Debug)]
pub(super) struct Tail {
    segment: SegmentName,
    /// Where those end that can be read, one behind the other.
    end: Lsn,
    /// Where they ended, as far as is known: further than `end` where one is missing or damaged.
    known: Lsn,
}

/// All of them, in the order of timelines and segments.
pub(super) async fn read(cluster: &ClusterRepository, size: SegmentSize) -> Result<Vec<Tail>, Error> {
    let mut tails = Vec::new();
    for timeline in cluster.tail_timelines().await? {
        for segment in cluster.tail_segments(timeline).await? {
            let pieces = cluster.tail(segment).await?;
            let start = segment.start(size);
            let end = match pieces.end(Some(0)).await {
                Ok(head) => head.and_then(|head| head.received).unwrap_or(start),
                // Who cannot read them goes by their names, and those that were removed since have come whole.
                Err(Error::Locked { .. }) => start + pieces.reach(),
                Err(error) if error.is_not_found() => start + pieces.reach(),
                Err(error) => return Err(error),
            };
            let known = pieces.known(size);
            if known > 0 {
                tails.push(Tail { segment, end, known: start + known });
            }
        }
    }
    Ok(tails)
}

/// Adds them. What is missing of one, or damaged, shows that its timeline went on.
pub(super) fn add(tails: &[Tail], inventory: &mut Inventory) {
    let size = inventory.segment_size;
    for tail in tails.iter().filter(|tail| tail.end > tail.segment.start(size)) {
        inventory.add_tail(tail.segment, tail.end);
    }
    for tail in tails.iter().filter(|tail| tail.end < tail.known) {
        inventory.add_lost_end(tail.segment.timeline, tail.known);
    }
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
    use std::sync::Arc;

    use highwater_repository::{Repository, RepositoryConfig, TailPiece};
    use highwater_storage::memory::MemoryStore;
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
            let tails: Vec<Tail> = tails
                .iter()
                .map(|(number, end)| Tail { segment: one(*number), end: *end, known: *end })
                .collect();
            add(&tails, &mut inventory);
            let path = Path::root(TimelineId::FIRST);
            assert_eq!(path.run_from(&inventory, 1), Some(reached), "{whole:?} {tails:?}");
            assert_eq!(path.next_from(&inventory, reached + 1), next, "{whole:?} {tails:?}");
            assert!(
                tails.iter().all(|tail| inventory.end_of(tail.segment) == tail.end),
                "{whole:?} {tails:?}"
            );
            assert_eq!(inventory.lost_end(TimelineId::FIRST), None);
        }
    }

    #[tokio::test]
    async fn r06_a_strip_that_is_cut_or_spoilt_to_its_end_may_have_held_more_than_is_there() {
        let size = SegmentSize::DEFAULT;
        let one = |number: u64| SegmentName::from_number(TimelineId::FIRST, number, size);
        let start = one(2).start(size);
        let store = Arc::new(MemoryStore::default());
        let config = RepositoryConfig::from_url("memory");
        let cluster = Repository::with_store(store.clone(), &config).unwrap();
        let cluster = cluster.cluster(&"main".parse().unwrap(), SystemId(7));
        let mut strip = cluster.begin_strip(one(2)).await.unwrap().unwrap();
        for (from, to) in [(0, 1000), (1000, 3000)] {
            let piece = TailPiece::new(one(2), from, to);
            assert!(strip.put(piece, size, &vec![7; (to - from) as usize][..], None).await.unwrap());
        }
        let key = store.names("strip-").remove(0);
        let whole = store.objects()[&key].clone();
        let second =
            (64..whole.len()).step_by(64).filter(|at| whole[*at..].starts_with(b"HWSTRIP1")).nth(1).unwrap();
        let mut garbage = whole.to_vec();
        garbage[second..].iter_mut().for_each(|byte| *byte = !*byte);
        for (content, end, lost) in [
            (whole.clone(), 3000, false),
            (whole.slice(..0), 0, true),
            (whole.slice(..second + 70), 1000, true),
            (whole.slice(..1 << 20), 3000, true),
            (garbage.into(), 1000, true),
        ] {
            let what = format!("{} bytes, up to {end}", content.len());
            store.spoil(&key, content);
            let mut inventory = Inventory::empty("main", SystemId(7), size);
            inventory.add_segment(one(1));
            add(&read(&cluster, size).await.unwrap(), &mut inventory);
            assert_eq!(inventory.end_on(TimelineId::FIRST), Some(start + end), "{what}");
            let found = inventory.lost_end(TimelineId::FIRST).map(|lost| (lost.reached, lost.known));
            assert_eq!(found, lost.then_some((start + end, start + end + 1)), "{what}");
        }
    }

    #[test]
    fn r06_what_is_missing_between_pieces_or_damaged_shows_that_the_timeline_went_on() {
        let size = SegmentSize::DEFAULT;
        let one = |number: u64| SegmentName::from_number(TimelineId::FIRST, number, size);
        let start = one(2).start(size);
        for (whole, end, known, lost) in [
            (vec![1], 100, 100, None),
            (vec![1], 100, 200, Some((start + 100, start + 200))),
            // Nothing of it can be read.
            (vec![1], 0, 200, Some((start, start + 200))),
            // It has come whole, or what lies behind it shows the same.
            (vec![1, 2], 100, 200, None),
            (vec![1, 3], 100, 200, None),
        ] {
            let mut inventory = Inventory::empty("main", SystemId(7), size);
            whole.iter().for_each(|number| inventory.add_segment(one(*number)));
            let tail = Tail { segment: one(2), end: start + end, known: start + known };
            add(&[tail], &mut inventory);
            let found = inventory.lost_end(TimelineId::FIRST).map(|lost| (lost.reached, lost.known));
            assert_eq!(found, lost, "{whole:?} {end} {known}");
            assert_eq!(inventory.has(one(2)), end > 0 || whole.contains(&2));
            // A mark that knows less takes nothing back.
            inventory.add_lost_end(TimelineId::FIRST, start + 150);
            let now = inventory.lost_end(TimelineId::FIRST).map(|lost| lost.known);
            assert_eq!(now.filter(|_| lost.is_some()), lost.map(|(_, known)| known));
        }
    }
}
