//! What the catalog does about index objects: sees whether they still say the truth, and makes those that are missing.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use highwater_repository::{Error, Indexed};
use highwater_wal::{Lsn, SegmentName, WalFile};

use super::Catalog;
use super::heads::LogName;
use crate::{Branch, Inventory, Plan};

/// Logs that are listed one behind the other; the stretches are listed side by side.
const LOGS_IN_STRETCH: u32 = 64;
/// How many stretches are listed side by side.
const LISTINGS_AT_ONCE: usize = 16;

/// Logs that windows have listed, the newest ones: 2 TiB of WAL. Of a larger archive the rest is told by index objects alone, or the answer
/// would take minutes from a store far away.
const MAX_LISTED_FOR_WINDOWS: usize = 512;

/// What became of the logs that had no index object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Made {
    /// They have one now, by this call or somebody else's.
    pub indexed: u64,
    /// Segments of theirs are damaged or have gone meanwhile, or their summaries are too long to lie together.
    pub passed_over: u64,
}

/// Logs of one timeline that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    timeline: highwater_wal::TimelineId,
    first: u32,
    last: u32,
}

impl Catalog {
    /// Lists the logs that a plan builds on and that only index objects speak of so far. `true` where segments are missing: the
    /// inventories know it then, and the plan has to be made anew.
    pub(super) async fn list_again(&mut self, plan: &Plan, inventory: &mut Inventory) -> Result<bool, Error> {
        let mut logs: BTreeSet<LogName> = BTreeSet::new();
        for run in &plan.wal {
            logs.extend((run.first.log..=run.last.log).map(|log| (run.first.timeline, log)));
        }
        self.list_logs_again(logs, inventory).await
    }

    /// The same with the logs that windows promise.
    pub(super) async fn list_windows(
        &mut self,
        branches: &[Branch],
        inventory: &mut Inventory,
    ) -> Result<bool, Error> {
        let size = inventory.segment_size;
        let mut logs: BTreeSet<LogName> = BTreeSet::new();
        for branch in branches {
            let Some(path) = inventory.path(branch.timeline) else { continue };
            for window in &branch.windows {
                let of_window = inventory.backups.iter().filter(|b| window.backups.contains(&b.label));
                let start = of_window.map(|backup| backup.start).min().unwrap_or(window.from);
                let (first, last) = (start.0 / size.bytes(), window.last_segment.number(size));
                for leg in path.legs() {
                    let begin = (leg.begin.0 / size.bytes()).max(first);
                    let end = leg.end.map_or(u64::MAX, |end| end.0 / size.bytes()).min(last);
                    let log = |number| SegmentName::from_number(leg.timeline, number, size).log;
                    if begin <= end {
                        logs.extend((log(begin)..=log(end)).map(|log| (leg.timeline, log)));
                    }
                }
            }
        }
        logs.retain(|name| self.heads.is_indexed(*name));
        let (newest, left_out) = newest_logs(logs, MAX_LISTED_FOR_WINDOWS);
        self.unlisted_logs = left_out;
        self.list_logs_again(newest, inventory).await
    }

    /// The same with the logs of which a segment was to be read and was not there.
    pub(super) async fn list_gone(&mut self, inventory: &mut Inventory) -> Result<bool, Error> {
        let logs = self.heads.take_gone();
        self.list_logs_again(logs, inventory).await
    }

    /// How many logs [`Catalog::windows`] has taken index objects' word for, because there are too many to list.
    pub fn unlisted_logs(&self) -> usize {
        self.unlisted_logs
    }

    /// Lists logs that only index objects speak of so far. `true` where segments are missing.
    async fn list_logs_again(
        &mut self,
        mut logs: BTreeSet<LogName>,
        inventory: &mut Inventory,
    ) -> Result<bool, Error> {
        logs.retain(|name| self.heads.was_indexed(*name) && !self.listed.contains(name));
        let cluster = &self.cluster;
        let listings = stream::iter(stretches(&logs)).map(|Stretch { timeline, first, last }| async move {
            let mut found = Vec::new();
            cluster
                .list_logs(timeline, Some(first), Some(last), |file, _| {
                    if let WalFile::Segment(segment) = file {
                        found.push(segment);
                    }
                })
                .await?;
            Ok::<Vec<SegmentName>, Error>(found)
        });
        let mut there = Inventory::empty("", inventory.system_id, inventory.segment_size);
        let mut listings = listings.buffer_unordered(LISTINGS_AT_ONCE);
        while let Some(found) = listings.try_next().await? {
            found.into_iter().for_each(|segment| there.add_segment(segment));
        }
        drop(listings);
        let mut is_missing = false;
        for (timeline, log) in logs {
            self.listed.insert((timeline, log));
            if there.has_whole_log(timeline, log) {
                continue;
            }
            is_missing = true;
            let key = self.cluster.section().index(timeline, log);
            let says_so = self.cluster.log_head(timeline, log).await.is_ok();
            self.heads.distrust(
                (timeline, log),
                format!("{key} speaks of segments that are not there, and is passed over: it can be removed"),
            );
            for inventory in [&mut self.inventory, &mut *inventory] {
                inventory.remove_log(timeline, log);
                let names = inventory.segment_size.numbers_of_log(log);
                let end = names.end().saturating_add(1).saturating_mul(there.segment_size.bytes());
                let names = names.map(|n| SegmentName::from_number(timeline, n, there.segment_size));
                names.filter(|name| there.has(*name)).for_each(|name| inventory.add_segment(name));
                // The index object says that all of them were there; one that cannot be read says nothing.
                if says_so {
                    inventory.add_lost_end(timeline, Lsn(end));
                }
            }
        }
        Ok(is_missing)
    }

    /// How many logs are whole and have no index object.
    pub fn unindexed_logs(&self) -> usize {
        self.unindexed().len()
    }

    fn unindexed(&self) -> Vec<LogName> {
        let timelines = self.inventory.timelines().into_iter();
        let whole = timelines
            .flat_map(|timeline| self.inventory.whole_logs(timeline).map(move |log| (timeline, log)));
        whole.filter(|name| !self.heads.is_indexed(*name)).collect()
    }

    /// Puts the index objects that are missing, at most `limit`, the newest first. `each` is told how many logs have been
    /// looked at.
    ///
    /// # Errors
    /// Those of the repository: one that cannot be written, say. A damaged segment is none, see [`Made::passed_over`].
    pub async fn index_logs(&mut self, limit: usize, mut each: impl FnMut(usize)) -> Result<Made, Error> {
        let mut made = Made::default();
        let logs = self.unindexed();
        for (number, (timeline, log)) in logs.into_iter().rev().take(limit).enumerate() {
            let read = self.cluster.read_log(timeline, log, self.inventory.segment_size).await;
            let indexed = match read {
                Ok(heads) => {
                    matches!(self.cluster.put_index(&heads).await?, Indexed::Created | Indexed::There)
                }
                Err((_, error)) if error.is_damaged() || error.is_not_found() => false,
                Err((_, error)) => return Err(error),
            };
            match indexed {
                true => made.indexed += 1,
                false => made.passed_over += 1,
            }
            each(number + 1);
        }
        Ok(made)
    }
}

/// The logs with the highest numbers, at most `limit`, and how many there are beside them.
fn newest_logs(logs: BTreeSet<LogName>, limit: usize) -> (BTreeSet<LogName>, usize) {
    let mut logs: Vec<LogName> = logs.into_iter().collect();
    logs.sort_unstable_by_key(|(timeline, log)| std::cmp::Reverse((*log, *timeline)));
    let left_out = logs.len().saturating_sub(limit);
    logs.truncate(limit);
    (logs.into_iter().collect(), left_out)
}

/// Logs gathered into stretches of at most [`LOGS_IN_STRETCH`].
fn stretches(logs: &BTreeSet<LogName>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for &(timeline, log) in logs {
        match stretches.last_mut() {
            Some(stretch)
                if stretch.timeline == timeline
                    && stretch.last.checked_add(1) == Some(log)
                    && log - stretch.first < LOGS_IN_STRETCH =>
            {
                stretch.last = log;
            }
            _ => stretches.push(Stretch { timeline, first: log, last: log }),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use highwater_wal::TimelineId;

    use super::*;

    #[test]
    fn of_too_many_logs_the_newest_are_listed() {
        let name = |(timeline, log): (u32, u32)| (TimelineId::new(timeline).unwrap(), log);
        let logs = |of: &[(u32, u32)]| of.iter().copied().map(name).collect::<BTreeSet<LogName>>();
        let all = logs(&[(1, 3), (1, 4), (1, 5), (2, 4), (2, 5)]);
        assert_eq!(newest_logs(all.clone(), 9), (all.clone(), 0));
        assert_eq!(newest_logs(all.clone(), 3), (logs(&[(1, 5), (2, 5), (2, 4)]), 2));
        assert_eq!(newest_logs(all, 0), (logs(&[]), 5));
    }

    #[test]
    fn logs_that_follow_one_another_are_listed_together_up_to_a_limit() {
        let tli = |number| TimelineId::new(number).unwrap();
        let logs: BTreeSet<LogName> =
            (0..100).map(|log| (tli(1), log)).chain([(tli(1), 105), (tli(2), 106), (tli(2), 107)]).collect();
        let found: Vec<(u32, u32, u32)> =
            stretches(&logs).iter().map(|s| (s.timeline.get(), s.first, s.last)).collect();
        assert_eq!(found, [(1, 0, 63), (1, 64, 99), (1, 105, 105), (2, 106, 107)]);
    }
}
