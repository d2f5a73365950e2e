//! Which segments of a timeline are there, kept as unbroken runs: a million segments without a hole are one run.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A set of segment numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentSet {
    /// First number of each run → last number of it. Runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
}

impl SegmentSet {
    /// Adds one segment number.
    pub fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let mut first = number;
        let mut last = number;
        if let Some((&before, &end)) = self.runs.range(..number).next_back()
            && end.checked_add(1) == Some(number)
        {
            first = before;
        }
        if let Some(next) = number.checked_add(1)
            && let Some(end) = self.runs.remove(&next)
        {
            last = end;
        }
        self.runs.insert(first, last);
    }

    /// Adds all numbers from the first to the last of a range.
    pub fn insert_range(&mut self, numbers: RangeInclusive<u64>) {
        let (first, last) = numbers.into_inner();
        if first > last {
            return;
        }
        // Every run that overlaps or touches the range becomes part of it.
        let mut merged = (first, last);
        let until = last.saturating_add(1);
        while let Some((&begin, &end)) = self.runs.range(..=until).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&begin);
            merged = (merged.0.min(begin), merged.1.max(end));
        }
        self.runs.insert(merged.0, merged.1);
    }

    /// Takes one segment number out.
    pub fn remove(&mut self, number: u64) {
        let Some(last) = self.run_at(number) else { return };
        let run = self.runs.range(..=number).next_back().map(|(&first, _)| first);
        let Some(first) = run.and_then(|first| self.runs.remove(&first).map(|_| first)) else { return };
        if first < number {
            self.runs.insert(first, number - 1);
        }
        if number < last {
            self.runs.insert(number + 1, last);
        }
    }

    /// Whether this segment is there.
    pub fn contains(&self, number: u64) -> bool {
        self.run_at(number).is_some()
    }

    /// The last number of the unbroken run that `number` lies in.
    pub fn run_at(&self, number: u64) -> Option<u64> {
        self.runs.range(..=number).next_back().map(|(_, &last)| last).filter(|&last| last >= number)
    }

    /// The smallest number at or above `number` that is there.
    pub fn next_from(&self, number: u64) -> Option<u64> {
        if self.contains(number) {
            return Some(number);
        }
        self.runs.range(number..).next().map(|(&first, _)| first)
    }

    /// The largest number of all.
    pub fn last(&self) -> Option<u64> {
        self.runs.values().next_back().copied()
    }

    /// The smallest number of all.
    pub fn first(&self) -> Option<u64> {
        self.runs.keys().next().copied()
    }

    /// The unbroken runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.runs.iter().map(|(&first, &last)| first..=last)
    }

    /// Those whose numbers lie in a range, in order.
    pub fn within(&self, range: RangeInclusive<u64>) -> impl Iterator<Item = u64> {
        let (first, last) = range.into_inner();
        let runs = self.runs().skip_while(move |run| *run.end() < first);
        let runs = runs.take_while(move |run| *run.start() <= last);
        runs.flat_map(move |run| first.max(*run.start())..=last.min(*run.end()))
    }

    /// How many segments there are.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

impl FromIterator<u64> for SegmentSet {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> SegmentSet {
        let mut set = SegmentSet::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(
            numbers in prop::collection::vec(0_u64..40, 0..60),
            removed in prop::collection::vec(0_u64..40, 0..4),
            ranges in prop::collection::vec((0_u64..40, 0_u64..9), 0..4),
            probe in 0_u64..45,
        ) {
            let mut plain: BTreeSet<u64> = numbers.iter().copied().filter(|number| !removed.contains(number)).collect();
            let mut set: SegmentSet = numbers.into_iter().collect();
            for number in removed {
                set.remove(number);
            }
            for (first, more) in ranges {
                set.insert_range(first..=first + more);
                plain.extend(first..=first + more);
            }
            prop_assert_eq!(set.count(), plain.len() as u64);
            prop_assert_eq!(set.contains(probe), plain.contains(&probe));
            prop_assert_eq!(set.next_from(probe), plain.range(probe..).next().copied());
            let part: Vec<u64> = set.within(probe..=probe + 7).collect();
            prop_assert_eq!(part, plain.range(probe..=probe + 7).copied().collect::<Vec<_>>());
            prop_assert_eq!(set.last(), plain.last().copied());
            prop_assert_eq!(set.first(), plain.first().copied());
            let run = plain.contains(&probe).then(|| (probe..).take_while(|n| plain.contains(n)).last()).flatten();
            prop_assert_eq!(set.run_at(probe), run);
            let spelled: Vec<u64> = set.runs().flatten().collect();
            prop_assert_eq!(spelled, plain.into_iter().collect::<Vec<_>>());
        }
    }
}
