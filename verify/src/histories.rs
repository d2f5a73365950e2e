//! Whether timelines' histories agree with each other and with the segments. Pure.

use highwater_catalog::Inventory;
use highwater_wal::TimelineId;

/// The timelines whose history contradicts something, with what.
pub(crate) fn contradictions(inventory: &Inventory) -> Vec<(TimelineId, String)> {
    let mut found = Vec::new();
    for timeline in inventory.timelines() {
        let Some(history) = inventory.history(timeline) else { continue };
        for (number, ancestor) in history.ancestors.iter().enumerate() {
            let Some(other) = inventory.history(ancestor.timeline) else { continue };
            let mine = history.ancestors[..number].iter().map(|line| (line.timeline, line.switch_point));
            let theirs = other.ancestors.iter().map(|line| (line.timeline, line.switch_point));
            if !mine.eq(theirs) {
                let name = ancestor.timeline.history_name();
                found.push((
                    timeline,
                    format!("it tells another way to timeline {} than {name} does", ancestor.timeline),
                ));
            }
        }
        let begins =
            history.ancestors.last().map(|line| line.switch_point.0 / inventory.segment_size.bytes());
        let first = inventory.segments_on(timeline).and_then(|set| set.first());
        if let (Some(begins), Some(first)) = (begins, first)
            && first < begins
        {
            let reason = format!(
                "it says that timeline {timeline} begins in segment number {begins}, and segment number {first} of that timeline is there"
            );
            found.push((timeline, reason));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use highwater_wal::{SegmentName, SegmentSize, SystemId, TimelineHistory};

    use super::*;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn of(histories: &[(u32, &str)], first: u64) -> Vec<u32> {
        let mut inventory = Inventory::empty("main", SystemId(7), SegmentSize::DEFAULT);
        for (timeline, text) in histories {
            inventory.add_history(TimelineHistory::parse(tli(*timeline), text).unwrap());
        }
        inventory.add_segment(SegmentName::from_number(tli(3), first, SegmentSize::DEFAULT));
        contradictions(&inventory).into_iter().map(|(timeline, _)| timeline.get()).collect()
    }

    #[test]
    fn histories_tell_the_same_way_and_segments_lie_behind_their_fork() {
        let second = (2, "1\t0/5000100\tx\n");
        assert_eq!(of(&[second, (3, "1\t0/5000100\tx\n2\t0/8000100\ty\n")], 8), [0; 0]);
        assert_eq!(of(&[second, (3, "1\t0/5000100\tx\n2\t0/8000100\ty\n")], 7), [3]);
        assert_eq!(of(&[second, (3, "1\t0/5000200\tx\n2\t0/8000100\ty\n")], 8), [3]);
        assert_eq!(of(&[second, (3, "2\t0/8000100\ty\n")], 8), [3]);
        assert_eq!(of(&[(3, "1\t0/5000200\tx\n2\t0/8000100\ty\n")], 9), [0; 0]);
    }
}
