//! Index objects: made, read, removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use highwater_storage::Key;
use highwater_wal::{SegmentName, SegmentSize, TimelineId, WalFile};

use super::{LogHead, LogIndex, LogSummary};
use crate::cluster::ClusterRepository;
use crate::codec::{LineWriter, decode_small, read_skippable, write_skippable};
use crate::digest::Plain;
use crate::envelope::MAX_HEAD_BYTES;
use crate::manifest::ManifestPart;
use crate::repository::MAX_PAGES;
use crate::wal_object::{WalHead, parse_head};
use crate::{Error, Result, keys};

/// The longest text that the heads of a log can have together in an index object. The usual log has some 300 KiB; one of
/// segments that each list a thousand drops would fill memory, and is read segment by segment instead.
const MAX_TEXT_BYTES: usize = 32 << 20;
/// The longest that an index object can be.
const MAX_INDEX_BYTES: u64 = MAX_TEXT_BYTES as u64 + MAX_HEAD_BYTES as u64 + (1 << 20);
/// How many heads are read side by side.
const READS_AT_ONCE: usize = 16;

/// What became of an index object that was to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indexed {
    /// This call put it there.
    Created,
    /// Somebody else had.
    There,
    /// Not every segment of the log is there, so it gets none.
    Incomplete,
    /// The heads are too long to lie in one object.
    TooLong,
}

/// What stands in front of all segments of a log, as it was read from the segments, with the texts.
#[derive(Clone, Debug)]
pub struct LogHeads {
    timeline: TimelineId,
    log: u32,
    segment_size: SegmentSize,
    /// The text of each head.
    texts: Vec<Bytes>,
    index: LogIndex,
}

impl LogHeads {
    /// What an index object of this log would say.
    pub fn index(&self) -> &LogIndex {
        &self.index
    }

    /// The same without the texts.
    pub fn into_index(self) -> LogIndex {
        self.index
    }
}

impl ClusterRepository {
    /// The logs that have index objects.
    pub async fn indexed_logs(&self) -> Result<BTreeMap<TimelineId, BTreeSet<u32>>> {
        let prefix = self.section().indexes();
        let mut found: BTreeMap<TimelineId, BTreeSet<u32>> = BTreeMap::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page = self.repository().store().list(&prefix, after.as_deref(), false).await?;
            for (timeline, log) in page.entries.iter().filter_map(|entry| keys::log_of_index(&entry.key)) {
                found.entry(timeline).or_default().insert(log);
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
        Err(self.repository().endless(&prefix))
    }

    /// What stands in front of the index object of a log, by a ranged read. It has to be there: an earlier reading may be
    /// taken out of the cache.
    ///
    /// # Errors
    /// [`Error::Damaged`]: then the segments' own heads tell the same.
    pub async fn log_head(&self, timeline: TimelineId, log: u32) -> Result<LogHead> {
        let key = self.section().index(timeline, log);
        let parse = |json: &Bytes| self.parse_log_head(&key, json, timeline, log);
        self.repository().read_listed_head(&key, parse).await
    }

    /// What stands in front of all segments of a log, from its index object, verified. It has to be there, as for
    /// [`ClusterRepository::log_head`].
    pub async fn log_index(&self, timeline: TimelineId, log: u32) -> Result<LogIndex> {
        let key = self.section().index(timeline, log);
        let parse = |content: &Bytes| self.parse_index(&key, content, timeline, log);
        self.repository().read_listed_object(&key, MAX_INDEX_BYTES, parse).await
    }

    /// The same from the heads of the segments themselves, all of which have to be there. The error comes with the segment that
    /// could not be read.
    pub async fn read_log(
        &self,
        timeline: TimelineId,
        log: u32,
        segment_size: SegmentSize,
    ) -> Result<LogHeads, (SegmentName, Error)> {
        let names = segment_size.numbers_of_log(log);
        let names = names.map(|number| SegmentName::from_number(timeline, number, segment_size));
        let reads = stream::iter(names).map(|segment| async move {
            self.listed_wal_head(WalFile::Segment(segment)).await.map_err(|error| (segment, error))
        });
        let read: Vec<(Bytes, WalHead)> = reads.buffered(READS_AT_ONCE).try_collect().await?;
        let (texts, heads): (Vec<Bytes>, Vec<WalHead>) = read.into_iter().unzip();
        let text_bytes = texts.iter().map(Bytes::len).sum();
        let index = LogIndex {
            summary: LogSummary::of(&heads),
            heads: heads.into_iter().map(Arc::new).collect(),
            text_bytes,
        };
        Ok(LogHeads { timeline, log, segment_size, texts, index })
    }

    /// Puts the index object of a log, unless there is one.
    ///
    /// It says that every segment is there, so the log is listed once more behind the put: where a segment has gone
    /// meanwhile, the object is removed again.
    ///
    /// # Errors
    /// Those of the store; where this machine may not write, they can be passed over.
    pub async fn put_index(&self, log: &LogHeads) -> Result<Indexed> {
        if log.index.text_bytes + log.texts.len() > MAX_TEXT_BYTES {
            return Ok(Indexed::TooLong);
        }
        let key = self.section().index(log.timeline, log.log);
        let body = self.index_body(log)?;
        let put = self.repository().store().put_if_absent(&key, &body).await?;
        if !self.has_whole_log(log.timeline, log.log, log.segment_size).await? {
            self.remove_index(log.timeline, log.log).await?;
            return Ok(Indexed::Incomplete);
        }
        Ok(match put {
            highwater_storage::Put::Created => Indexed::Created,
            highwater_storage::Put::Exists => Indexed::There,
        })
    }

    /// Removes the index object of a log, if there is one.
    ///
    /// Whoever removes segments calls this for their log before the first of them goes, so that no index speaks of a segment that is
    /// not there, and once more when the last of them has gone: somebody may have listed the log before and put the
    /// object in between. (Whoever puts one later lists the log later, and sees the hole.)
    pub async fn remove_index(&self, timeline: TimelineId, log: u32) -> Result<()> {
        let key = self.section().index(timeline, log);
        self.repository().forget(&key);
        Ok(self.repository().store().delete(&key).await?)
    }

    /// Whether every segment of a log is there.
    pub async fn has_whole_log(&self, timeline: TimelineId, log: u32, size: SegmentSize) -> Result<bool> {
        let mut missing = size.numbers_of_log(log);
        self.list_logs(timeline, Some(log), Some(log), |file, _| {
            if let WalFile::Segment(segment) = file
                && segment.fits(size)
                && missing.clone().next() == Some(segment.number(size))
            {
                missing.next();
            }
        })
        .await?;
        Ok(missing.is_empty())
    }

    /// Lists the files of a timeline that lie in the logs from `from` to `until`, both included, in order of their names, each
    /// with the length of its object. Without `from` it begins with the timeline's history, without `until` it goes on to
    /// the last file.
    pub async fn list_logs(
        &self,
        timeline: TimelineId,
        from: Option<u32>,
        until: Option<u32>,
        mut each: impl FnMut(WalFile, u64),
    ) -> Result<()> {
        let of_log = |log: u32| self.section().wal_of_log(timeline, log);
        let last = until.map(of_log);
        // The names of one log have a beginning of their own: then nothing that lies behind it is listed in vain.
        let (prefix, mut after) = match from {
            Some(from) if until == Some(from) => (of_log(from), None),
            from => (self.section().wal_of(timeline), from.map(of_log)),
        };
        for _ in 0..MAX_PAGES {
            let page = self.repository().store().list(&prefix, after.as_deref(), false).await?;
            for entry in &page.entries {
                let name = entry.key.as_str();
                if last.as_deref().is_some_and(|last| name > last && !name.starts_with(last)) {
                    return Ok(());
                }
                if let Ok(file) = entry.key.name().parse() {
                    each(file, entry.size);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
        Err(self.repository().endless(&prefix))
    }

    fn index_body(&self, log: &LogHeads) -> Result<highwater_storage::Body> {
        let mut lines = LineWriter::new().map_err(Error::Codec)?;
        for text in &log.texts {
            lines.write(text).and_then(|()| lines.write(b"\n")).map_err(Error::Codec)?;
        }
        let frame = lines.finish().map_err(Error::Codec)?.into_vec();
        let Plain { length, digest } = Plain::of_pieces(&frame);
        let head = LogHead {
            version: LogHead::VERSION,
            timeline: log.timeline,
            log: log.log,
            system_id: self.system_id(),
            segment_size: log.segment_size,
            segments: log.texts.len() as u32,
            lines: ManifestPart { bytes: length, digest },
            summary: log.index.summary.clone(),
        };
        let json = serde_json::to_vec(&head).map_err(|error| Error::Codec(error.into()))?;
        let mut pieces = vec![Bytes::from(write_skippable(&json))];
        pieces.extend(frame);
        self.repository().seal(pieces, Plain::of_pieces)
    }

    fn parse_log_head(&self, key: &Key, json: &[u8], timeline: TimelineId, log: u32) -> Result<LogHead> {
        let head: LogHead = serde_json::from_slice(json)
            .map_err(|error| Error::damaged(key, format!("its head: {error}")))?;
        if head.version > LogHead::VERSION {
            return Err(Error::damaged(key, format!("it has version {}, which is not known", head.version)));
        }
        if (head.timeline, head.log, head.system_id) != (timeline, log, self.system_id()) {
            let of = format!("timeline {}, log {:08X}, cluster {}", head.timeline, head.log, head.system_id);
            return Err(Error::damaged(key, format!("it says that it is of {of}")));
        }
        let numbers = head.segment_size.numbers_of_log(log);
        if u64::from(head.segments) != numbers.end() - numbers.start() + 1 {
            return Err(Error::damaged(key, format!("a log does not have {} segments", head.segments)));
        }
        Ok(head)
    }

    fn parse_index(&self, key: &Key, content: &Bytes, timeline: TimelineId, log: u32) -> Result<LogIndex> {
        let (json, frame) = read_skippable(content, MAX_HEAD_BYTES).map_err(|fault| fault.of(key))?;
        let head = self.parse_log_head(key, json, timeline, log)?;
        let Plain { length, digest } = Plain::of(frame);
        if (ManifestPart { bytes: length, digest }) != head.lines {
            return Err(Error::damaged(key, "its lines do not have the digest that its head names"));
        }
        let text = decode_small(frame, MAX_TEXT_BYTES).map_err(|fault| fault.of(key))?;
        let mut numbers = head.segment_size.numbers_of_log(log);
        let mut heads = Vec::with_capacity(head.segments as usize);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(number) = numbers.next() else {
                return Err(Error::damaged(key, "it has more lines than the log has segments"));
            };
            let segment = SegmentName::from_number(timeline, number, head.segment_size);
            let of_segment = self.section().wal(WalFile::Segment(segment));
            let parsed = parse_head(&of_segment, line)
                .map_err(|error| Error::damaged(key, format!("the line of segment {segment}: {error}")))?;
            heads.push(Arc::new(parsed));
        }
        if heads.len() != head.segments as usize {
            return Err(Error::damaged(key, format!("it has {} lines, not {}", heads.len(), head.segments)));
        }
        Ok(LogIndex { summary: head.summary, heads, text_bytes: text.len() })
    }
}
