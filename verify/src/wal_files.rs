//! Files of WAL: segments, histories, partial segments, labels of backups.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use highwater_catalog::{Catalog, Inventory};
use highwater_repository::{WalHead, WalObject};
use highwater_wal::{
    Check, SegmentKind, SegmentName, Summary, TimelineHistory, TimelineId, WalFile, Walk, check_segment,
};

use crate::error::{Error, Result};
use crate::finding::Finding;
use crate::run::{self, Run};
use crate::verdict::{Bad, verdict};

/// As many heads are asked for at once where nothing else of the segments is read.
const HEADS_AT_ONCE: usize = 512;
/// Segments that are being read take at most so many bytes, or are two.
const MOST_BYTES: u64 = 128 << 20;
/// A sample takes so many segments in a row, so that records that run over their borders are in it.
const SAMPLE_SEGMENTS: u64 = 16;

/// Segments of one timeline that are looked at one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) timeline: TimelineId,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The stretches of segments that are wanted, in order.
pub(crate) fn stretches(inventory: &Inventory, is_wanted: impl Fn(TimelineId, u64) -> bool) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    for timeline in inventory.timelines() {
        let Some(set) = inventory.segments_on(timeline) else { continue };
        for run in set.runs() {
            let mut open: Option<Stretch> = None;
            for number in run {
                match (&mut open, is_wanted(timeline, number)) {
                    (Some(stretch), true) => stretch.last = number,
                    (None, true) => open = Some(Stretch { timeline, first: number, last: number }),
                    (_, false) => found.extend(open.take()),
                }
            }
            found.extend(open);
        }
    }
    found
}

/// The number that segments which are taken into a sample together have in common.
pub(crate) fn sample_name(timeline: TimelineId, number: u64) -> String {
    format!("{timeline}/{}", number / SAMPLE_SEGMENTS)
}

/// The segment in front of a stretch, where it is there: a record can run over from it.
fn prior(inventory: &Inventory, stretch: Stretch) -> Option<SegmentName> {
    let size = inventory.segment_size;
    let number = stretch.first.checked_sub(1)?;
    let same = SegmentName::from_number(stretch.timeline, number, size);
    let on_path = inventory.path(stretch.timeline).map(|path| path.segment(number, size));
    let found = [Some(same), on_path].into_iter().flatten().find(|name| inventory.has(*name));
    found.filter(|name| !inventory.is_in_pieces(*name))
}

/// What is to be known of a segment to judge its neighbours.
struct Neighbour {
    name: SegmentName,
    summary: Summary,
}

impl Run<'_> {
    /// Reads histories and puts them into the inventory.
    pub(crate) async fn histories(&mut self) -> Result<()> {
        let histories = self.there.other_wal.iter().filter_map(|file| match file {
            WalFile::History(timeline) => Some(*timeline),
            _ => None,
        });
        for timeline in histories.collect::<Vec<_>>() {
            let file = WalFile::History(timeline);
            let key = self.cluster.section().wal(file);
            let read = self.cluster.prove_wal(file).await.and_then(|object| {
                TimelineHistory::parse(timeline, &object.bytes)
                    .map_err(|error| highwater_repository::Error::damaged(&key, error.to_string()))
            });
            self.looked.other_wal_files += 1;
            match read {
                Ok(history) => self.there.inventory.add_history(history),
                Err(error) => match verdict(error)? {
                    Bad::Damaged(reason) => {
                        self.there.inventory.add_damaged_history(timeline, reason.clone());
                        let what = format!("{reason}; nobody can say where timeline {timeline} forked off");
                        self.findings.push(Finding::damage(key, what));
                    }
                    Bad::Missing => self.gone.push(key),
                },
            }
        }
        Ok(())
    }

    /// Other files of WAL, where everything is read.
    pub(crate) async fn other_wal(&mut self) -> Result<()> {
        for file in self.there.other_wal.clone() {
            if matches!(file, WalFile::History(_)) || !self.wants_timeline(file.timeline()) {
                continue;
            }
            let key = self.cluster.section().wal(file);
            self.looked.other_wal_files += 1;
            match self.cluster.prove_wal(file).await {
                Ok(object) => {
                    if let Some(wrong) = self.wrong_with(file, &object) {
                        self.findings.push(Finding::damage(key, wrong));
                    }
                }
                Err(error) => match verdict(error)? {
                    Bad::Damaged(reason) => self.findings.push(Finding::damage(key, reason)),
                    Bad::Missing => self.gone.push(key),
                },
            }
        }
        Ok(())
    }

    /// What is wrong with a file of WAL whose digest is right.
    fn wrong_with(&self, file: WalFile, object: &WalObject) -> Option<String> {
        let size = self.there.inventory.segment_size;
        match file {
            WalFile::Partial(name) => {
                let summary = object.head.summary.as_ref()?;
                let found = check_segment(
                    name,
                    size,
                    Some(self.cluster.system_id()),
                    &object.bytes,
                    Check::Full,
                    SegmentKind::Partial,
                );
                match found {
                    Ok(found) if found.records == summary.records && found.end == summary.end => None,
                    Ok(found) => Some(format!(
                        "its summary tells of {} records, and it holds {}",
                        summary.records, found.records
                    )),
                    Err(_) if summary.pg_version.is_none() => None,
                    Err(refusal) => Some(refusal.clause()),
                }
            }
            WalFile::BackupLabel { .. } if !object.bytes.starts_with(b"START WAL LOCATION: ") => {
                Some("it does not begin as the label of a backup does".to_owned())
            }
            _ => None,
        }
    }

    /// Segments, whole or only what stands in front of them.
    pub(crate) async fn segments(&mut self, stretches: &[Stretch]) -> Result<()> {
        for stretch in stretches {
            let before = prior(&self.there.inventory, *stretch);
            if self.options.deep {
                self.read_stretch(*stretch, before).await?;
            } else {
                self.look_at_stretch(*stretch, before).await?;
            }
        }
        Ok(())
    }

    async fn look_at_stretch(&mut self, stretch: Stretch, before: Option<SegmentName>) -> Result<()> {
        let size = self.there.inventory.segment_size;
        if self.catalog.is_none() {
            self.catalog = Some(Catalog::open(self.cluster.clone()).await?);
        }
        let mut previous: Option<Neighbour> = None;
        let names = before.into_iter().chain(
            (stretch.first..=stretch.last).map(|n| SegmentName::from_number(stretch.timeline, n, size)),
        );
        let names: Vec<SegmentName> = names.collect();
        for chunk in names.chunks(HEADS_AT_ONCE) {
            let heads = match &mut self.catalog {
                Some(catalog) => catalog.heads(chunk).await.ok(),
                None => None,
            };
            let heads = match heads {
                Some(heads) => heads.into_iter().map(Ok).collect(),
                None => self.heads_one_by_one(chunk).await,
            };
            for (name, head) in chunk.iter().zip(heads) {
                let is_before = Some(*name) == before;
                previous = self.neighbour(*name, head, previous, is_before)?;
                self.looked.segments_read += u64::from(!is_before);
            }
            self.tick("segments", None);
        }
        Ok(())
    }

    /// The same where one of them is bad: which one, and why.
    async fn heads_one_by_one(
        &self,
        names: &[SegmentName],
    ) -> Vec<highwater_repository::Result<Arc<WalHead>>> {
        let cluster = self.cluster;
        let heads = stream::iter(names.to_vec())
            .map(|name| async move { cluster.wal_head(WalFile::Segment(name)).await.map(Arc::new) });
        heads.buffered(16).collect().await
    }

    async fn read_stretch(&mut self, stretch: Stretch, before: Option<SegmentName>) -> Result<()> {
        let size = self.there.inventory.segment_size;
        let cluster = self.cluster.clone();
        let names = before.into_iter().chain(
            (stretch.first..=stretch.last).map(move |n| SegmentName::from_number(stretch.timeline, n, size)),
        );
        let at_once = (MOST_BYTES / size.bytes()).clamp(2, self.options.reads.max(2) as u64) as usize;
        let reads = stream::iter(names).map(move |name| {
            let cluster = cluster.clone();
            async move { (name, cluster.prove_wal(WalFile::Segment(name)).await) }
        });
        let mut reads = std::pin::pin!(reads.buffered(at_once));
        let mut walk = Walk::new(size, self.cluster.system_id());
        let mut previous: Option<Neighbour> = None;
        while let Some((name, read)) = reads.next().await {
            let is_before = Some(name) == before;
            let (head, bytes) = match read {
                Ok(WalObject { head, bytes }) => (Ok(Arc::new(head)), bytes),
                Err(error) => (Err(error), Vec::new()),
            };
            let length = bytes.len() as u64;
            if let (Ok(head), false) = (&head, is_before) {
                self.compare_with_index(name, head).await?;
            }
            previous = self.neighbour(name, head, previous, is_before)?;
            match &previous {
                Some(neighbour) if neighbour.summary.pg_version.is_some() => {
                    let summary = neighbour.summary.clone();
                    let (walked, again) = run::compute(move || {
                        let walked = walk.read(name, bytes, &summary);
                        (walked, walk)
                    })
                    .await?;
                    walk = again;
                    self.looked.records += if is_before { 0 } else { walked.records };
                    if let Some(wrong) = walked.wrong {
                        self.damaged_segment(name, wrong);
                    }
                }
                Some(_) => {
                    walk.begin_anew();
                    self.unproven.insert(
                        "records of WAL that a version of PostgreSQL wrote which this program does not know"
                            .to_owned(),
                    );
                }
                None => walk.begin_anew(),
            }
            if !is_before {
                self.looked.segments_read += 1;
                self.looked.bytes += length;
                self.proven_segment(name);
                self.checkpoint().await?;
            }
            self.tick("segments", Some(length));
        }
        Ok(())
    }

    /// Judges a segment by what stands in front of it. It becomes the neighbour of the next one, unless it is bad.
    fn neighbour(
        &mut self,
        name: SegmentName,
        head: highwater_repository::Result<Arc<WalHead>>,
        previous: Option<Neighbour>,
        is_before: bool,
    ) -> Result<Option<Neighbour>> {
        let key = self.cluster.section().wal(WalFile::Segment(name));
        let bad = match head {
            Ok(head) => match head.summary.clone() {
                Some(summary) => match self.wrong_summary(name, &summary) {
                    None => {
                        let fits = previous.as_ref().map(|previous| previous.summary.goes_on_in(&summary));
                        if let (Some(Err(reason)), Some(previous)) = (fits, &previous) {
                            let reason = format!("{reason} ({})", previous.name);
                            self.damaged_segment(name, reason);
                        }
                        let goes_on = self.there.inventory.has(name.next(self.there.inventory.segment_size));
                        if let (true, false, Err(reason)) = (goes_on, is_before, summary.leads_on()) {
                            self.damaged_segment(name, reason);
                        }
                        return Ok(Some(Neighbour { name, summary }));
                    }
                    Some(reason) => Bad::Damaged(reason),
                },
                None => Bad::Damaged("it has no summary".to_owned()),
            },
            Err(error) => verdict(error)?,
        };
        match bad {
            Bad::Damaged(reason) => self.damaged_segment(name, reason),
            Bad::Missing => self.gone.push(key),
        }
        Ok(None)
    }

    /// What a summary says that cannot be true of this cluster.
    fn wrong_summary(&self, name: SegmentName, summary: &Summary) -> Option<String> {
        let size = self.there.inventory.segment_size;
        if let Err(reason) = summary.is_of(name, size, self.cluster.system_id()) {
            return Some(reason);
        }
        match summary.pg_version {
            Some(version) if self.pg_version != 0 && version.major() != self.pg_version => Some(format!(
                "PostgreSQL {} wrote it, and cluster.json says {}",
                version.major(),
                self.pg_version
            )),
            _ => None,
        }
    }

    /// Notes damage in a segment. What depends on it is told in the end.
    fn damaged_segment(&mut self, name: SegmentName, reason: String) {
        self.damaged_segments.entry(name).or_default().insert(reason);
    }
}

/// Waits for a computation beside.
impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Error {
        Error::Internal(error.to_string())
    }
}
