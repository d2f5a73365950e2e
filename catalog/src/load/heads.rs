//! What stands in front of segments, and of logs: out of index objects where there are any, else out of the segments' own objects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use highwater_repository::{ClusterRepository, Error, LogHeads, LogIndex, LogSummary, WalHead};
use highwater_wal::{SegmentName, SegmentSize, TimelineId, WalFile};

use super::inventory::IndexedLogs;

/// How many heads are read side by side.
const READS_AT_ONCE: usize = 16;
/// How much text of whole logs is kept, beside the log read last: some eighty logs of segments of 16 MiB.
const KEPT_TEXT_BYTES: usize = 24 << 20;
/// How many heads of single segments are kept.
const KEPT_HEADS: usize = 8192;

/// A log of a timeline.
pub(super) type LogName = (TimelineId, u32);

/// Reads heads, and keeps some.
#[derive(Debug)]
pub(super) struct Heads {
    cluster: ClusterRepository,
    segment_size: SegmentSize,
    indexed: IndexedLogs,
    /// What was read of logs as a whole. A million segments have some four thousand.
    logs: BTreeMap<LogName, Arc<LogSummary>>,
    /// Logs read last, the newest at the end.
    kept_logs: VecDeque<(LogName, Arc<LogIndex>)>,
    kept_heads: BTreeMap<SegmentName, Arc<WalHead>>,
    /// Of segments in pieces of which one is damaged: what the pieces in front of it give.
    shortened: BTreeMap<SegmentName, Arc<WalHead>>,
    damaged: BTreeMap<SegmentName, String>,
    /// Logs whose index objects are not built on any more.
    distrusted: BTreeSet<LogName>,
    /// Logs of which a segment was to be read and is gone.
    gone: BTreeSet<LogName>,
    notes: Vec<String>,
    /// Index objects are put until the store has said that this machine may not.
    may_write: bool,
}

impl Heads {
    pub(super) fn new(cluster: ClusterRepository, segment_size: SegmentSize, indexed: IndexedLogs) -> Heads {
        Heads {
            cluster,
            segment_size,
            indexed,
            logs: BTreeMap::new(),
            kept_logs: VecDeque::new(),
            kept_heads: BTreeMap::new(),
            shortened: BTreeMap::new(),
            damaged: BTreeMap::new(),
            distrusted: BTreeSet::new(),
            gone: BTreeSet::new(),
            notes: Vec::new(),
            may_write: true,
        }
    }

    /// Segments that were found damaged, with what is wrong.
    pub(super) fn damaged(&self) -> &BTreeMap<SegmentName, String> {
        &self.damaged
    }

    /// Sentences about index objects that were passed over.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn is_indexed(&self, (timeline, log): LogName) -> bool {
        self.indexed.get(&timeline).is_some_and(|logs| logs.contains(&log))
    }

    /// Whether only an index object has spoken of what is in a log, whatever became of it.
    pub(super) fn was_indexed(&self, name: LogName) -> bool {
        self.is_indexed(name) || self.distrusted.contains(&name)
    }

    /// The logs of which a segment was to be read and is gone, once.
    pub(super) fn take_gone(&mut self) -> BTreeSet<LogName> {
        std::mem::take(&mut self.gone)
    }

    /// Builds no more on the index object of a log, and says why.
    pub(super) fn distrust(&mut self, (timeline, log): LogName, reason: impl Into<String>) {
        if self.indexed.get_mut(&timeline).is_some_and(|logs| logs.remove(&log)) {
            self.notes.push(reason.into());
            self.distrusted.insert((timeline, log));
        }
        self.logs.remove(&(timeline, log));
        self.kept_logs.retain(|(name, _)| *name != (timeline, log));
    }

    /// What stands in front of these segments, in their order.
    pub(super) async fn of(&mut self, segments: &[SegmentName]) -> Result<Vec<Arc<WalHead>>, Error> {
        let mut found: BTreeMap<SegmentName, Arc<WalHead>> = BTreeMap::new();
        for name in segments.iter().map(|s| (s.timeline, s.log)).collect::<BTreeSet<LogName>>() {
            let Some(index) = self.index(name).await? else { continue };
            let in_log = segments.iter().filter(|segment| (segment.timeline, segment.log) == name);
            found.extend(in_log.filter_map(|segment| Some((*segment, index.head(*segment)?.clone()))));
        }
        let head = |segment| self.shortened.get(segment).or_else(|| self.kept_heads.get(segment));
        let kept = segments.iter().filter_map(|s| Some((*s, head(s)?.clone())));
        found.extend(kept);
        let missing: BTreeSet<SegmentName> =
            segments.iter().filter(|segment| !found.contains_key(segment)).copied().collect();
        found.extend(self.read(missing).await?);
        let vanished = |segment: &SegmentName| {
            Error::damaged(self.cluster.section().wal(WalFile::Segment(*segment)), "it has no head")
        };
        segments.iter().map(|s| found.get(s).cloned().ok_or_else(|| vanished(s))).collect()
    }

    /// Reads the heads of single segments.
    async fn read(
        &mut self,
        segments: BTreeSet<SegmentName>,
    ) -> Result<BTreeMap<SegmentName, Arc<WalHead>>, Error> {
        let cluster = &self.cluster;
        let reads = stream::iter(segments).map(|segment| async move {
            let head = match cluster.head_of_listed_wal(WalFile::Segment(segment)).await {
                // There are pieces of it.
                Err(error) if error.is_not_found() => cluster.segment_head(segment, Some(0)).await,
                head => head,
            };
            Ok((segment, Arc::new(head.map_err(|error| (segment, error))?)))
        });
        let read: Result<BTreeMap<_, _>, _> = reads.buffer_unordered(READS_AT_ONCE).try_collect().await;
        let read = read.map_err(|(segment, error)| self.note_damage(segment, error))?;
        if self.kept_heads.len() + read.len() > KEPT_HEADS {
            self.kept_heads.clear();
        }
        self.kept_heads.extend(read.iter().map(|(segment, head)| (*segment, Arc::clone(head))));
        Ok(read)
    }

    /// Of a segment in pieces only that much can be read.
    pub(super) fn shorten(&mut self, segment: SegmentName, head: WalHead) {
        self.shortened.insert(segment, Arc::new(head));
    }

    pub(super) fn shortened(&self, segment: SegmentName) -> Option<&WalHead> {
        self.shortened.get(&segment).map(Arc::as_ref)
    }

    pub(super) fn note_damage(&mut self, segment: SegmentName, error: Error) -> Error {
        if let Error::Damaged { key, reason } = &error {
            self.damaged.insert(segment, format!("{key}: {reason}"));
        }
        if error.is_not_found() {
            self.gone.insert((segment.timeline, segment.log));
        }
        error
    }

    /// All of the index object of a log; `None` where it has none that can be read.
    async fn index(&mut self, name: LogName) -> Result<Option<Arc<LogIndex>>, Error> {
        if let Some((_, index)) = self.kept_logs.iter().find(|(kept, _)| *kept == name) {
            return Ok(Some(Arc::clone(index)));
        }
        if !self.is_indexed(name) {
            return Ok(None);
        }
        let (timeline, log) = name;
        match self.cluster.log_index(timeline, log).await {
            Ok(index) => Ok(Some(self.keep(name, index))),
            Err(error) => self.pass_over(name, error).map(|()| None),
        }
    }

    fn keep(&mut self, name: LogName, index: LogIndex) -> Arc<LogIndex> {
        let index = Arc::new(index);
        let mut bytes = index.text_bytes;
        bytes += self.kept_logs.iter().map(|(_, kept)| kept.text_bytes).sum::<usize>();
        while bytes > KEPT_TEXT_BYTES
            && let Some((_, oldest)) = self.kept_logs.pop_front()
        {
            bytes -= oldest.text_bytes;
        }
        self.kept_logs.push_back((name, Arc::clone(&index)));
        index
    }

    /// An index object that is damaged, or has just been removed, is passed over: the segments tell the same.
    fn pass_over(&mut self, name: LogName, error: Error) -> Result<(), Error> {
        match error {
            Error::Damaged { key, reason } => {
                let note = format!("{key} is damaged ({reason}) and is passed over: it can be removed");
                self.distrust(name, note);
            }
            // Damage in the header of an encrypted object looks like another key's. Where it is one, the segments' heads say so.
            Error::Locked { key, .. } => {
                let note = format!(
                    "{key} cannot be decrypted and is passed over: if the segments can, it can be removed"
                );
                self.distrust(name, note);
            }
            error if error.is_not_found() => {
                let (timeline, log) = name;
                let key = self.cluster.section().index(timeline, log);
                self.distrust(name, format!("{key} was removed while it was to be read"));
            }
            other => return Err(other),
        }
        Ok(())
    }

    /// What these logs hold, all in all; every segment of them is there.
    pub(super) async fn logs(&mut self, names: &BTreeSet<LogName>) -> Result<(), Error> {
        let unread: Vec<LogName> =
            names.iter().filter(|name| !self.logs.contains_key(name)).copied().collect();
        let (indexed, others): (Vec<_>, Vec<_>) = unread.into_iter().partition(|name| self.is_indexed(*name));
        let cluster = &self.cluster;
        let reads = stream::iter(indexed)
            .map(|name: LogName| async move { (name, cluster.log_head(name.0, name.1).await) });
        let read: Vec<_> = reads.buffer_unordered(READS_AT_ONCE).collect().await;
        let mut others = others;
        for (name, head) in read {
            match head {
                Ok(head) => {
                    self.logs.insert(name, Arc::new(head.summary));
                }
                Err(error) => {
                    self.pass_over(name, error)?;
                    others.push(name);
                }
            }
        }
        for name in others {
            self.read_log(name).await?;
        }
        Ok(())
    }

    /// What a log holds, where [`Heads::logs`] has read it.
    pub(super) fn log(&self, name: LogName) -> Option<&Arc<LogSummary>> {
        self.logs.get(&name)
    }

    /// Reads a log segment by segment; with that at hand, its index object is put.
    async fn read_log(&mut self, name: LogName) -> Result<(), Error> {
        let (timeline, log) = name;
        let read = self.cluster.read_log(timeline, log, self.segment_size).await;
        let heads: LogHeads = read.map_err(|(segment, error)| self.note_damage(segment, error))?;
        self.logs.insert(name, Arc::new(heads.index().summary.clone()));
        if self.may_write {
            // Nothing that was asked depends on it: where it fails the next one tries again.
            self.may_write = self.cluster.put_index(&heads).await.is_ok();
        }
        self.keep(name, heads.into_index());
        Ok(())
    }
}
