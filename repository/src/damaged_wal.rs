//! Segments that verifications have found damaged, as their events tell it: whole, and within a bound.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use highwater_wal::TimelineId;
use serde::{Deserialize, Serialize};

/// Segments that were found damaged: timeline → the first and last number of each run of them.
///
/// There are no more than [`DamagedWal::MOST_RUNS`] runs of a timeline. Of more, those with the fewest segments between them count as one:
/// then some are in it that nothing is known against, and none is left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DamagedWal(BTreeMap<u32, Vec<(u64, u64)>>);

impl DamagedWal {
    /// As many runs of a timeline are told apart.
    pub const MOST_RUNS: usize = 1000;

    /// All of these segments, by timeline and number.
    pub fn of(segments: impl IntoIterator<Item = (TimelineId, u64)>) -> DamagedWal {
        let mut segments: Vec<(u32, u64)> =
            segments.into_iter().map(|(timeline, number)| (timeline.get(), number)).collect();
        segments.sort_unstable();
        let mut all: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for (timeline, number) in segments {
            let runs = all.entry(timeline).or_default();
            match runs.last_mut() {
                Some((_, last)) if number <= last.saturating_add(1) => *last = number,
                _ => runs.push((number, number)),
            }
        }
        all.values_mut().for_each(|runs| join_nearest(runs, DamagedWal::MOST_RUNS));
        DamagedWal(all)
    }

    /// Whether it tells of none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a segment is among them.
    pub fn contains(&self, timeline: TimelineId, number: u64) -> bool {
        self.runs_on(timeline).any(|run| run.contains(&number))
    }

    /// The runs of one timeline.
    pub fn runs_on(&self, timeline: TimelineId) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.0.get(&timeline.get()).into_iter().flatten().map(|(first, last)| *first..=*last)
    }
}

/// Makes one of those with the fewest numbers between them, until there are `most` runs at most.
fn join_nearest(runs: &mut Vec<(u64, u64)>, most: usize) {
    let Some(excess) = runs.len().checked_sub(most).filter(|excess| *excess > 0) else { return };
    let mut gaps: Vec<(u64, usize)> =
        runs.windows(2).enumerate().map(|(at, pair)| (pair[1].0 - pair[0].1, at + 1)).collect();
    gaps.sort_unstable();
    let mut joined: Vec<usize> = gaps.into_iter().take(excess).map(|(_, at)| at).collect();
    joined.sort_unstable();
    for at in joined.into_iter().rev() {
        runs[at - 1].1 = runs[at].1;
        runs.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(timeline: u32, numbers: &[u64]) -> DamagedWal {
        let timeline = TimelineId::new(timeline).unwrap();
        DamagedWal::of(numbers.iter().map(|number| (timeline, *number)))
    }

    #[test]
    fn r12_damaged_segments_are_told_as_runs() {
        let damaged = of(2, &[9, 3, 4, 4, 5, 7]);
        assert_eq!(serde_json::to_string(&damaged).unwrap(), r#"{"2":[[3,5],[7,7],[9,9]]}"#);
        assert!(damaged.contains(TimelineId::new(2).unwrap(), 4));
        assert!(!damaged.contains(TimelineId::new(2).unwrap(), 6));
        assert!(!damaged.contains(TimelineId::FIRST, 4));
        assert!(DamagedWal::of([]).is_empty() && !damaged.is_empty());
    }

    proptest! {
        #[test]
        fn r12_none_is_left_out_however_many_there_are(
            numbers in prop::collection::btree_set(0_u64..500, 1..60),
            most in 1_usize..20,
        ) {
            let mut runs: Vec<(u64, u64)> = Vec::new();
            for number in &numbers {
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == *number => *last = *number,
                    _ => runs.push((*number, *number)),
                }
            }
            let before = runs.clone();
            join_nearest(&mut runs, most);
            prop_assert!(runs.len() <= most);
            prop_assert!(before.len() > most || runs == before);
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let is_told = |number: &u64| runs.iter().any(|(first, last)| (*first..=*last).contains(number));
            prop_assert!(numbers.iter().all(is_told));
        }
    }
}
