//! Whether WAL has gone from the end of a timeline, where nothing behind it would show that.

use highwater_wal::{Lsn, TimelineId};

use crate::error::Result;
use crate::finding::Finding;
use crate::run::Run;
use crate::verdict::{Bad, verdict};

impl Run<'_> {
    /// Compares the end of each timeline with the marks of how far its WAL was there; with `may_write` the next comparison has this
    /// end to go by.
    pub(crate) async fn ends(&mut self, may_write: bool) -> Result<()> {
        let size = self.there.inventory.segment_size;
        let mut timelines = self.there.inventory.timelines();
        timelines.extend(self.there.tails.keys().map(|segment| segment.timeline));
        timelines.sort_unstable();
        timelines.dedup();
        timelines.retain(|timeline| self.wants_timeline(*timeline));
        for timeline in timelines {
            let Some(end) = self.there.end_of(timeline) else { continue };
            let marked = self.there.marks.get(&timeline).and_then(|marks| marks.last()).copied();
            if marked.is_some_and(|marked| marked > end)
                && let Some(known) = self.cluster.lost_behind(timeline, end, size).await?
            {
                self.lost_end(timeline, end, known);
            } else if may_write && !self.options.is_narrow() && marked.is_none_or(|marked| marked < end) {
                self.cluster.mark_reached(timeline, end).await?;
            }
        }
        Ok(())
    }

    /// Reads marks: the last one of each timeline, or with everything all of them.
    pub(crate) async fn marks_of_ends(&mut self) -> Result<()> {
        let marks = self.there.marks.iter();
        let all = marks.flat_map(|(timeline, marks)| {
            let last = if self.options.deep { usize::MAX } else { 1 };
            marks.iter().rev().take(last).map(|lsn| (*timeline, *lsn))
        });
        for (timeline, lsn) in all.collect::<Vec<_>>() {
            self.looked.other_objects += 1;
            match self.cluster.prove_mark(timeline, lsn).await.err().map(verdict).transpose()? {
                Some(Bad::Damaged(reason)) => {
                    self.findings.push(Finding::damage(self.cluster.reached_key(timeline, lsn), reason));
                }
                // A later one stands for it.
                Some(Bad::Missing) | None => {}
            }
        }
        Ok(())
    }

    fn lost_end(&mut self, timeline: TimelineId, end: Lsn, known: Lsn) {
        let inventory = &self.there.inventory;
        let left = inventory.timelines().into_iter().find(|newer| {
            let left_at = inventory.history(*newer).and_then(|history| history.left_at(timeline));
            left_at.is_some_and(|left_at| left_at <= end)
        });
        let key = self.cluster.reached_key(timeline, known);
        let what = format!(
            "the repository had the WAL of timeline {timeline} up to {known}, and has it up to {end} now: segments, or pieces of one, \
             have gone from its end"
        );
        let finding = match left {
            Some(newer) => Finding::note(key, format!("{what}; timeline {newer} left it before that")),
            None => Finding {
                moments: Some(format!("behind LSN {end} on timeline {timeline}")),
                ..Finding::damage(key, what)
            },
        };
        self.findings.push(finding);
    }
}
