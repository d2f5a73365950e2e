//! What a log holds, from what its segments hold.

use highwater_wal::{CommitPoint, Joined, RestorePoint, SegmentName, Summary, Timestamp, Unfinished};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::segment_of;
use crate::wal_object::WalHead;

/// How many restore points are named: the head of an index object is to fit into the first read of it.
pub const MAX_LISTED_POINTS: usize = 16;

/// What the segments of one log hold, all in all: enough to tell whether any of them is worth a look.
///
/// What it says of times, transactions and restore points covers the records that run over a border between two of the
/// segments, but for those that are counted in [`LogSummary::unclear`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LogSummary {
    /// Number of whole records.
    pub records: u64,
    /// Number of commit records.
    pub commits: u64,
    /// Number of abort records.
    pub aborts: u64,
    /// The first commit in WAL order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_commit: Option<CommitPoint>,
    /// The last commit in WAL order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<CommitPoint>,
    /// The smallest time of a commit or abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_time: Option<Timestamp>,
    /// The largest time of a commit or abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Timestamp>,
    /// The smallest number of a transaction that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_xid: Option<u32>,
    /// The largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_xid: Option<u32>,
    /// How many ends of transactions run over a border inside the log, so that no segment counts them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ends_between: u64,
    /// Borders inside the log of which only the records tell all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unclear: u64,
    /// Segments whose records could not be read when they were archived: they may hold anything.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread: u64,
    /// The first restore points, 16 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_points: Vec<RestorePoint>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_restore_points: u64,
    /// Number of checkpoints.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checkpoints: u64,
    /// Number of relation files that vanished or were cut to nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// Number of relation files that were made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub created: u64,
    /// Number of databases that were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub databases_dropped: u64,
    /// Number of tablespaces that were dropped, as far as the summaries list them: those of version 2 do not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tablespaces_dropped: u64,
    /// Borders inside the log over which a record runs that makes or drops files, or may do so. No list has it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hidden: u64,
    /// Segments whose summary does not list the files that were made and the databases that were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u64,
    /// Entries that the segments' own lists have left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// The latest time that any record names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_until: Option<Timestamp>,
    /// The latest time at which the server wrote into one of the segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Timestamp>,
    /// The beginning of the first segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<LogEdge>,
    /// The end of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<LogEdge>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What the first or the last segment says of a record that runs over the border of the log. The fields are those of
/// [`Summary`]; the edge where the log begins has the first two, the one where it ends the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogEdge {
    /// The segment.
    pub segment: SegmentName,
    /// Bytes at its beginning that belong to a record of the segment before.
    #[serde(default, skip_serializing_if = "is_none_continued")]
    pub continued: u32,
    /// The first bytes of what runs in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runs_in: String,
    /// The record that runs over its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
    /// The first bytes of that record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runs_out: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_none_continued(number: &u32) -> bool {
    *number == 0
}

impl LogSummary {
    /// What segments hold that follow one another, given by what stands in front of each.
    pub fn of<'a>(heads: impl IntoIterator<Item = &'a WalHead>) -> LogSummary {
        let mut log = LogSummary::default();
        let mut before: Option<&Summary> = None;
        for head in heads {
            log.written = log.written.max(head.archived.written);
            let Some(summary) = &head.summary else {
                log.unread += 1;
                before = None;
                continue;
            };
            let segment = segment_of(head);
            if log.begins.is_none() {
                log.begins = segment.map(|segment| LogEdge::of_beginning(segment, summary));
            }
            log.ends = segment.map(|segment| LogEdge::of_end(segment, summary));
            if let Some(before) = before {
                log.add_border(before, summary);
            }
            log.add(summary);
            before = Some(summary);
        }
        log
    }

    /// Whether it is certain that nothing was dropped or truncated in these segments, nor by a record that runs over a border
    /// inside the log: what [`LogEdge::hides_files`] tells of the border behind it.
    pub fn has_no_drops(&self) -> bool {
        let found = self.dropped + self.databases_dropped + self.tablespaces_dropped;
        found + self.hidden + self.unlisted + self.left_out + self.unread == 0
    }

    fn add(&mut self, summary: &Summary) {
        self.records += summary.records;
        self.commits += summary.commits;
        self.aborts += summary.aborts;
        self.first_commit = self.first_commit.or(summary.first_commit);
        self.last_commit = summary.last_commit.or(self.last_commit);
        self.widen_times(summary.min_time, summary.max_time);
        self.widen_xids(summary.min_xid, summary.max_xid);
        self.unread += u64::from(!summary.is_covered());
        for point in &summary.restore_points {
            if self.restore_points.len() < MAX_LISTED_POINTS {
                self.restore_points.push(point.clone());
            } else {
                self.more_restore_points += 1;
            }
        }
        self.checkpoints += summary.checkpoints.len() as u64;
        self.dropped += summary.dropped.len() as u64;
        self.created += summary.created.len() as u64;
        self.databases_dropped += summary.databases_dropped.len() as u64;
        self.tablespaces_dropped += summary.tablespaces_dropped.len() as u64;
        self.unlisted += u64::from(!summary.lists_created());
        self.left_out += summary.left_out + summary.created_left_out;
        self.told_until = self.told_until.max(summary.latest_time());
    }

    /// The record that runs from one segment into the next.
    fn add_border(&mut self, before: &Summary, next: &Summary) {
        self.hidden += u64::from(before.hides_files(next));
        match before.joined_with(next) {
            Joined::Nothing => {}
            Joined::Unclear => self.unclear += 1,
            Joined::Finish(time) => {
                self.ends_between += 1;
                self.widen_times(Some(time), Some(time));
                self.told_until = self.told_until.max(Some(time));
                match before.xid_joined_with(next) {
                    Some(xid) => self.widen_xids(Some(xid), Some(xid)),
                    None => self.unclear += 1,
                }
            }
        }
    }

    fn widen_times(&mut self, smallest: Option<Timestamp>, largest: Option<Timestamp>) {
        self.min_time = smaller(self.min_time, smallest);
        self.max_time = self.max_time.max(largest);
    }

    fn widen_xids(&mut self, smallest: Option<u32>, largest: Option<u32>) {
        self.min_xid = smaller(self.min_xid, smallest);
        self.max_xid = self.max_xid.max(largest);
    }
}

fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl LogEdge {
    /// Where a log begins.
    pub fn of_beginning(segment: SegmentName, summary: &Summary) -> LogEdge {
        LogEdge {
            segment,
            continued: summary.continued,
            runs_in: summary.runs_in.clone(),
            unfinished: None,
            runs_out: String::new(),
        }
    }

    /// Where a log ends.
    pub fn of_end(segment: SegmentName, summary: &Summary) -> LogEdge {
        LogEdge {
            segment,
            continued: 0,
            runs_in: String::new(),
            unfinished: summary.unfinished,
            runs_out: summary.runs_out.clone(),
        }
    }

    /// What the record is that runs over the border of two logs, or into a segment: this edge is where a log ends, `next` where what
    /// is behind it begins. With the transaction that it ends, where that can be told.
    pub fn joined_with(&self, next: &LogEdge) -> (Joined, Option<u32>) {
        let (this, next) = (self.as_summary(), next.as_summary());
        (this.joined_with(&next), this.xid_joined_with(&next))
    }

    /// Whether the record that runs over this border makes or drops files, or may do so; as in [`LogEdge::joined_with`].
    pub fn hides_files(&self, next: &LogEdge) -> bool {
        self.as_summary().hides_files(&next.as_summary())
    }

    /// A summary of which only the border is known.
    fn as_summary(&self) -> Summary {
        // Neither the size nor the version counts where a border is judged.
        let size = highwater_wal::SegmentSize::DEFAULT;
        let system_id = highwater_wal::SystemId(0);
        let mut summary = Summary::new(self.segment, size, system_id, 0, self.continued);
        summary.runs_in.clone_from(&self.runs_in);
        summary.unfinished = self.unfinished;
        summary.runs_out.clone_from(&self.runs_out);
        summary
    }
}
