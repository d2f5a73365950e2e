//! Which segments a repository has, and what it lacks in front of a place.

use std::collections::BTreeSet;

use highwater_catalog::{Gap, Path};
use highwater_repository::ClusterRepository;
use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineId, WalFile};

use crate::error::Result;

/// The last segment that is there whole, of those that count. Logs are looked through downwards.
pub(crate) async fn last_whole(
    cluster: &ClusterRepository,
    timeline: TimelineId,
    newest_log: u32,
    counts: impl Fn(SegmentName) -> bool,
) -> Result<Option<SegmentName>> {
    let first = cluster.first_wal(timeline, None, |file| matches!(file, WalFile::Segment(_))).await?;
    let Some(WalFile::Segment(first)) = first else { return Ok(None) };
    for log in (first.log..=newest_log.max(first.log)).rev() {
        let whole = whole_of_log(cluster, timeline, log).await?;
        let last = whole.into_iter().rev().find(|segment| counts(*segment));
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

/// The segments of a log that are there whole.
async fn whole_of_log(
    cluster: &ClusterRepository,
    timeline: TimelineId,
    log: u32,
) -> Result<BTreeSet<SegmentName>> {
    let (mut whole, mut after) = (BTreeSet::new(), None);
    loop {
        let page = cluster.list_wal(timeline, Some(log), after.as_deref()).await?;
        whole.extend(page.files.iter().filter_map(|(file, _)| match file {
            WalFile::Segment(segment) => Some(*segment),
            _ => None,
        }));
        after = page.next;
        if after.is_none() {
            return Ok(whole);
        }
    }
}

/// Which segments a repository has: of neighbours the names are listed once.
pub(crate) struct Presence<'a> {
    cluster: &'a ClusterRepository,
    size: SegmentSize,
    listed: Option<((TimelineId, u32), BTreeSet<SegmentName>)>,
}

impl<'a> Presence<'a> {
    pub(crate) fn new(cluster: &'a ClusterRepository, size: SegmentSize) -> Presence<'a> {
        Presence { cluster, size, listed: None }
    }

    /// Whether a segment is there up to `end`: whole, or in pieces.
    pub(crate) async fn has(&mut self, name: SegmentName, end: Lsn) -> Result<bool> {
        let log = (name.timeline, name.log);
        let whole = match self.listed.take() {
            Some((listed, whole)) if listed == log => whole,
            _ => whole_of_log(self.cluster, name.timeline, name.log).await?,
        };
        let is_whole = whole.contains(&name);
        self.listed = Some((log, whole));
        let needed = end.bytes_since(name.start(self.size)).min(self.size.bytes());
        Ok(is_whole || self.cluster.tail(name).await?.reach() >= needed)
    }
}

/// What a repository lacks in front of `begin`, a segment's start, on the way there, as far back as the log goes in which the segment
/// before lies: the part that is missing last. `None` where that is nothing, and where there is nothing before it: the repository's
/// WAL begins there.
pub(crate) async fn gap_before(
    cluster: &ClusterRepository,
    path: &Path,
    begin: Lsn,
    size: SegmentSize,
) -> Result<Option<Gap>> {
    let mut presence = Presence::new(cluster, size);
    let Some(newest) = (begin.0 / size.bytes()).checked_sub(1) else { return Ok(None) };
    let numbers = size.numbers_of_log(path.segment(newest, size).log);
    for number in (*numbers.start()..=newest).rev() {
        let name = path.segment(number, size);
        if !presence.has(name, name.end(size)).await? {
            return gap_up_to(cluster, path, name, size).await;
        }
    }
    Ok(None)
}

/// The gap that ends with a segment that is not there.
async fn gap_up_to(
    cluster: &ClusterRepository,
    path: &Path,
    last: SegmentName,
    size: SegmentSize,
) -> Result<Option<Gap>> {
    let to = last.end(size);
    for leg in path.legs().iter().rev().filter(|leg| leg.timeline <= last.timeline) {
        let ends = leg.end.map_or(to, |end| to.min(end));
        let newest_log = SegmentName::containing(leg.timeline, ends, size).log;
        let is_before = |segment: SegmentName| segment.start(size) < ends;
        let whole = last_whole(cluster, leg.timeline, newest_log, is_before).await?;
        let mut from = whole.map(|segment| segment.end(size));
        let tails = cluster.tail_segments(leg.timeline).await?;
        for segment in tails.into_iter().rev().filter(|name| is_before(*name)) {
            let reach = cluster.tail(segment).await?.reach();
            if reach > 0 {
                from = from.max(Some(segment.start(size) + reach));
                break;
            }
        }
        if let Some(from) = from.map(|from| from.min(ends)) {
            let gap = Gap { timeline: leg.timeline, from, to };
            return Ok(Some(gap).filter(|gap| gap.from < gap.to));
        }
    }
    Ok(None)
}
