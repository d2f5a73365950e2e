//! Removing WAL that nothing needs.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use highwater_catalog::Catalog;
use highwater_catalog::retention::Decision;
use highwater_repository::{ClusterRepository, Tail, TailPiece, WalHead};
use highwater_wal::{SegmentName, TimelineId, Timestamp, WalFile};

use crate::empty_strips::{self, EmptyStrips};
use crate::progress::{Phase, Progress};
use crate::report::Gone;
use crate::{Options, Result};

/// Pages of the files of one log that are listed at most: a log has 4096 segments at most, and as many other files.
const MAX_PAGES: usize = 100;
/// Objects that are looked at, or removed, at the same time.
const AT_A_TIME: usize = 16;

/// What decides which WAL goes.
pub(crate) struct Removal<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) decision: &'a Decision,
    pub(crate) options: &'a Options,
}

impl Removal<'_> {
    /// Finds the WAL that goes, and removes it where that is to be carried out. Answers how much it is.
    pub(crate) async fn run(
        &self,
        strips: &mut EmptyStrips,
        progress: &dyn Progress,
        notes: &mut Vec<String>,
    ) -> Result<Gone> {
        let Removal { catalog, decision, options } = self;
        let not_needed = decision.wal.not_needed(catalog.inventory());
        let logs: BTreeSet<(TimelineId, u32)> =
            not_needed.map(|segment| (segment.timeline, segment.log)).collect();
        let mut gone = Gone::default();
        for (timeline, log) in logs {
            progress.phase(&Phase::Wal(format!("{} {log:08X}", timeline.hex())));
            let files = going(catalog, decision, timeline, log, notes).await?;
            gone.wal_files += files.len() as u64;
            gone.wal_bytes += files.iter().map(|(_, bytes)| bytes).sum::<u64>();
            if options.apply && !files.is_empty() {
                let segments = files.iter().filter_map(|(file, _)| match file {
                    WalFile::Segment(segment) => Some(*segment),
                    _ => None,
                });
                remove_marks(catalog, timeline, &segments.collect()).await?;
                remove_files(catalog.cluster(), timeline, log, &files).await?;
            }
        }
        let cluster = catalog.cluster();
        for timeline in cluster.tail_timelines().await? {
            for segment in cluster.tail_segments(timeline).await? {
                self.remove_pieces(&cluster.tail(segment).await?, &mut gone, strips, notes).await?;
            }
        }
        Ok(gone)
    }

    /// The same for pieces of a segment that is not there whole: they are the segment. Pieces of one that is there whole are what a
    /// receiver had no time to remove.
    async fn remove_pieces(
        &self,
        tail: &Tail,
        gone: &mut Gone,
        strips: &mut EmptyStrips,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let Removal { catalog, decision, options } = self;
        let (cluster, size) = (catalog.cluster(), catalog.inventory().segment_size);
        let segment = tail.segment();
        let mut objects = tail.objects();
        let is_whole = cluster.has_wal(WalFile::Segment(segment)).await?;
        if !is_whole {
            if decision.wal.needs(segment.timeline, segment.number(size)) {
                return Ok(());
            }
            if empty_strips::is_empty(tail) {
                objects = strips.see(objects, options);
            } else if !are_old(tail, decision, notes).await? {
                return Ok(());
            }
        }
        gone.wal_files += objects.len() as u64;
        // As they are compressed is not listed with them; what they hold is more.
        gone.wal_bytes += tail.pieces().iter().map(TailPiece::length).sum::<u64>();
        match (options.apply, is_whole) {
            (false, _) => {}
            (true, true) => drop(cluster.remove_tail(segment).await?),
            // The last one first: what is left, should this be cut off, has no gap.
            (true, false) if !objects.is_empty() => {
                remove_marks(catalog, segment.timeline, &BTreeSet::from([segment])).await?;
                let deleted = cluster.repository().store().delete_all(&objects).await;
                deleted.map_err(highwater_repository::Error::from)?;
            }
            (true, false) => {}
        }
        Ok(())
    }
}

/// The marks go first that say that these segments were there: nobody is to miss them.
async fn remove_marks(
    catalog: &Catalog,
    timeline: TimelineId,
    segments: &BTreeSet<SegmentName>,
) -> Result<()> {
    let size = catalog.inventory().segment_size;
    let mut marks = catalog.cluster().reached_behind(timeline, None).await?;
    marks.retain(|lsn| segments.contains(&SegmentName::ending_at(timeline, *lsn, size)));
    Ok(catalog.cluster().remove_marks(timeline, &marks).await?)
}

/// Whether the newest of a segment's pieces is old enough to go.
async fn are_old(tail: &Tail, decision: &Decision, notes: &mut Vec<String>) -> Result<bool> {
    let Some(last) = tail.pieces().iter().max_by_key(|piece| piece.to) else { return Ok(false) };
    match tail.head(*last).await {
        Ok(head) => {
            let held = head.summary.as_ref().and_then(|summary| summary.max_time);
            Ok(held.map_or(head.archived.time, |held| held.max(head.archived.time))
                < decision.wal_untouched_from)
        }
        // The receiver has removed it, since the segment is whole by now.
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) if error.is_damaged() => {
            notes.push(format!(
                "the pieces of {} stay, since their age cannot be told: {error}",
                tail.segment()
            ));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// The files of a log that go: no range needs them, and they are old enough.
async fn going(
    catalog: &Catalog,
    decision: &Decision,
    timeline: TimelineId,
    log: u32,
    notes: &mut Vec<String>,
) -> Result<Vec<(WalFile, u64)>> {
    let cluster = catalog.cluster();
    let size = catalog.inventory().segment_size;
    let mut going = Vec::new();
    let mut after = None;
    for _ in 0..MAX_PAGES {
        let page = cluster.list_wal(timeline, Some(log), after.as_deref()).await?;
        let candidates = page.files.into_iter().filter(|(file, _)| {
            segment_of(*file).is_some_and(|segment| !decision.wal.needs(timeline, segment.number(size)))
        });
        let looks = stream::iter(candidates).map(|(file, bytes)| async move {
            match cluster.wal_head(file).await {
                Ok(head) => Ok(Some((file, bytes, Ok(age(&head))))),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) if error.is_damaged() => Ok(Some((file, bytes, Err(error.to_string())))),
                Err(error) => Err(error),
            }
        });
        let looked: Vec<_> = looks.buffered(AT_A_TIME).try_collect().await?;
        for (file, bytes, age) in looked.into_iter().flatten() {
            match age {
                Ok(moment) if moment < decision.wal_untouched_from => going.push((file, bytes)),
                Ok(_) => {}
                Err(reason) => notes.push(format!("{file} stays, since its age cannot be told: {reason}")),
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(going)
}

/// The segment that a file belongs to; histories belong to none.
fn segment_of(file: WalFile) -> Option<SegmentName> {
    match file {
        WalFile::Segment(segment) | WalFile::Partial(segment) | WalFile::BackupLabel { segment, .. } => {
            Some(segment)
        }
        WalFile::History(_) => None,
    }
}

/// The newest moment that a file tells of: what it holds, or when it was archived.
fn age(head: &WalHead) -> Timestamp {
    let held = head.summary.as_ref().and_then(|summary| summary.max_time);
    held.max(head.archived.written).map_or(head.archived.time, |held| held.max(head.archived.time))
}

/// The index of the log goes first, and again in the end: an index says that all of its log is there. Then what belongs to segments, then the segments: where
/// a run is cut off, there are segments by which the next one finds the log.
async fn remove_files(
    cluster: &ClusterRepository,
    timeline: TimelineId,
    log: u32,
    files: &[(WalFile, u64)],
) -> Result<()> {
    let store = cluster.repository().store();
    let index = cluster.section().index(timeline, log);
    store.delete(&index).await.map_err(highwater_repository::Error::from)?;
    let is_segment = |file: &&(WalFile, u64)| matches!(file.0, WalFile::Segment(_));
    for files in [
        files.iter().filter(|file| !is_segment(file)).collect(),
        files.iter().filter(is_segment).collect::<Vec<_>>(),
    ] {
        let deletes = stream::iter(files).map(|(file, _)| {
            let key = cluster.section().wal(*file);
            async move { store.delete(&key).await }
        });
        let done: std::result::Result<Vec<()>, _> = deletes.buffered(AT_A_TIME).try_collect().await;
        done.map_err(highwater_repository::Error::from)?;
    }
    // Whoever put it again meanwhile, having listed the log before, lists it once more behind the put: or it is this that sees it.
    store.delete(&index).await.map_err(highwater_repository::Error::from)?;
    Ok(())
}
