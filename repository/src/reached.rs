//! Marks of how far a timeline's WAL was there: without them nobody would miss what goes from its end.
//!
//! A mark says nothing that is not in its name, so that looking for one costs one listing. Whoever receives WAL puts one now and then,
//! and every verification does; retention removes it with the WAL that it speaks of, and a receiver those that a later one stands for.

use highwater_storage::{Key, Put};
use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineId, Timestamp, WalFile};
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterRepository;
use crate::facts::{PROGRAM, host_name, now};
use crate::repository::MAX_PAGES;
use crate::{Result, keys};

/// What a mark holds. Readers go by its name.
#[derive(Serialize, Deserialize)]
struct Reached {
    version: u32,
    timeline: TimelineId,
    lsn: Lsn,
    host: String,
    time: Timestamp,
    program: String,
}

impl ClusterRepository {
    /// Notes that a timeline's WAL is there up to `lsn`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mark_reached(&self, timeline: TimelineId, lsn: Lsn) -> Result<()> {
        let mark = Reached {
            version: 1,
            timeline,
            lsn,
            host: host_name(),
            time: now(),
            program: PROGRAM.to_owned(),
        };
        let body = self.repository().small_object(&mark)?;
        // Whoever noted the same before has said all there is to say.
        let (Put::Created | Put::Exists) =
            self.repository().store().put_if_absent(&self.section().reached_at(timeline, lsn), &body).await?;
        Ok(())
    }

    /// Reads a mark and sees that it says what its name does.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] where it does not; a store error of kind not-found where it is not there.
    pub async fn prove_mark(&self, timeline: TimelineId, lsn: Lsn) -> Result<()> {
        let key = self.reached_key(timeline, lsn);
        let mark: Reached = self.repository().read_small(&key).await?;
        if (mark.timeline, mark.lsn) == (timeline, lsn) {
            return Ok(());
        }
        Err(crate::Error::damaged(&key, format!("it says timeline {} and {}", mark.timeline, mark.lsn)))
    }

    /// The timelines that have marks, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reached_timelines(&self) -> Result<Vec<TimelineId>> {
        let folders = self.repository().folders(&self.section().reached()).await?;
        Ok(folders.iter().filter_map(|folder| keys::timeline_of_folder(folder)).collect())
    }

    /// A timeline's marks behind `after`, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reached_behind(&self, timeline: TimelineId, after: Option<Lsn>) -> Result<Vec<Lsn>> {
        let prefix = self.section().reached_of(timeline);
        let mut after = after.map(|lsn| self.section().reached_at(timeline, lsn).to_string());
        let mut marks = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = self.repository().store().list(&prefix, after.as_deref(), false).await?;
            marks.extend(page.entries.iter().filter_map(|entry| keys::lsn_of_mark(&entry.key)));
            after = page.next;
            if after.is_none() {
                return Ok(marks);
            }
        }
        Err(self.repository().endless(&prefix))
    }

    /// Removes marks: of WAL that goes, or for which a later one stands.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_marks(&self, timeline: TimelineId, marks: &[Lsn]) -> Result<()> {
        let keys: Vec<Key> = marks.iter().map(|lsn| self.reached_key(timeline, *lsn)).collect();
        Ok(self.repository().store().delete_all(&keys).await?)
    }

    /// How far a timeline's WAL was there, where that is further than it is now: `end` is where a listing saw it end. What came since that
    /// listing counts as there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn lost_behind(
        &self,
        timeline: TimelineId,
        end: Lsn,
        size: SegmentSize,
    ) -> Result<Option<Lsn>> {
        let Some(known) = self.reached_behind(timeline, Some(end)).await?.pop() else { return Ok(None) };
        let segment = SegmentName::ending_at(timeline, known, size);
        // The pieces first: they go when the whole segment has come.
        let pieces = self.tail(segment).await?;
        let is_there = pieces.reach() >= known.bytes_since(segment.start(size))
            || self.has_wal(WalFile::Segment(segment)).await?;
        Ok((!is_there).then_some(known))
    }

    /// The key of a mark, for messages.
    pub fn reached_key(&self, timeline: TimelineId, lsn: Lsn) -> Key {
        self.section().reached_at(timeline, lsn)
    }
}
