//! What is known of segments' contents while a question is being answered.
//!
//! The decisions of this crate do no I/O. What they need to know of a segment they ask of [`Known`]; where it is not known
//! yet they end with a [`Need`], and whoever carries them out reads it from the repository and asks again.

use std::collections::BTreeMap;

use highwater_wal::{Lsn, SegmentName, TimelineId, Timestamp};
use serde::Serialize;

/// The end of a transaction as recovery sees it: the record at which it can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Transaction {
    /// Where its commit or abort record begins: what `recovery_target_lsn` compares with.
    pub lsn: Lsn,
    /// Where the record ends.
    pub end: Lsn,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// Its id; that of the prepared transaction for `COMMIT PREPARED` and `ROLLBACK PREPARED`.
    pub xid: u32,
    /// Committed, or aborted.
    pub committed: bool,
}

/// A named restore point (`pg_create_restore_point`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePoint {
    /// Where its record begins.
    pub lsn: Lsn,
    /// When it was made, by the server's clock.
    pub time: Timestamp,
    /// Its name.
    pub name: String,
}

/// What the record is that runs over a segment's end, as far as the two segments' summaries tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// No record runs over the end, or one of no interest.
    None,
    /// It ends a transaction at this time.
    Time(Timestamp),
    /// Only the record itself tells.
    Unknown,
}

/// What the summary of a segment says, as far as finding a moment goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The first record that lies whole in it.
    pub first_record: Option<Lsn>,
    /// The last record that lies whole in it.
    pub last_record: Option<Lsn>,
    /// The smallest and largest time of its commit and abort records.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Its last commit in WAL order.
    pub last_commit: Option<Transaction>,
    /// Its first commit in WAL order.
    pub first_commit: Option<Transaction>,
    /// The smallest and largest xid that ended in it, as plain numbers.
    pub xids: Option<(u32, u32)>,
    /// The restore points in it.
    pub restore_points: Vec<RestorePoint>,
    /// The latest moment that anything in it tells: whatever was acknowledged by then lies in this segment or before it.
    pub covers_until: Option<Timestamp>,
    /// The record that runs over its end into the next segment.
    pub crossing: Crossing,
    /// The transaction that this record ends, where the summaries tell.
    pub crossing_xid: Option<u32>,
}

/// What is known of all segments of one log (4 GiB of WAL) of a timeline: enough to pass over it as a whole.
///
/// It covers the records that run over borders inside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFacts {
    /// Whether what follows is all there is to know: no segment is unread, no border unclear. Otherwise each segment has to be looked at.
    pub is_clear: bool,
    /// Whether any transaction may have committed in it.
    pub has_commits: bool,
    /// The smallest and largest time of commit and abort records.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The smallest and largest xid that ended in it, as plain numbers.
    pub xids: Option<(u32, u32)>,
    /// The names of the restore points in it; `None` where there are too many to tell.
    pub restore_points: Option<Vec<String>>,
    /// The latest moment that anything in it tells.
    pub covers_until: Option<Timestamp>,
    /// The record that runs over the end of the log.
    pub crossing: Crossing,
    /// The transaction that this record ends, where the summaries tell.
    pub crossing_xid: Option<u32>,
}

/// The decoded records of one segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decoded {
    /// Where each record that begins in the segment begins, in order; only records that could be read to their end.
    pub records: Vec<Lsn>,
    /// The ends of transactions among them, in order.
    pub transactions: Vec<Transaction>,
    /// The restore points among them, in order.
    pub restore_points: Vec<RestorePoint>,
}

/// A segment, and the one that follows it on the path in question: a record that runs over its end goes on there. Where the
/// next one is not archived such a record cannot be read, and neither can recovery read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Joint {
    /// The segment.
    pub segment: SegmentName,
    /// The segment after it on the path, where that is archived.
    pub next: Option<SegmentName>,
}

/// All segments of a log of a timeline, and the segment that follows on the path in question, as in [`Joint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogJoint {
    /// Whose WAL it is.
    pub timeline: TimelineId,
    /// The log.
    pub log: u32,
    /// The segment behind the log on the path, where that is archived.
    pub next: Option<SegmentName>,
}

/// Something that has to be read from the repository before the question can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// What the summaries of these segments say.
    Facts(Vec<Joint>),
    /// What the segments of these logs say, all in all. Every segment of them is there.
    Logs(Vec<LogJoint>),
    /// The records that begin in this segment. The segments after it on the same path complete its last record.
    Records(Joint),
}

/// What has been read so far.
#[derive(Debug, Clone, Default)]
pub struct Known {
    facts: BTreeMap<Joint, SegmentFacts>,
    logs: BTreeMap<LogJoint, LogFacts>,
    records: BTreeMap<Joint, Decoded>,
}

impl Known {
    /// Adds what the summary of a segment says.
    pub fn add_facts(&mut self, joint: Joint, facts: SegmentFacts) {
        self.facts.insert(joint, facts);
    }

    /// Adds what the segments of a log say, all in all.
    pub fn add_log(&mut self, joint: LogJoint, facts: LogFacts) {
        self.logs.insert(joint, facts);
    }

    /// What the segments of a log say, if it was read.
    pub fn log(&self, joint: LogJoint) -> Option<&LogFacts> {
        self.logs.get(&joint)
    }

    /// Adds the decoded records of a segment.
    pub fn add_records(&mut self, joint: Joint, decoded: Decoded) {
        self.records.insert(joint, decoded);
    }

    /// What the summary of a segment says, if it was read.
    pub fn facts(&self, joint: Joint) -> Option<&SegmentFacts> {
        self.facts.get(&joint)
    }

    /// Forgets what was read of a segment, and over its borders.
    pub(crate) fn forget(&mut self, segment: SegmentName) {
        let is_other = |joint: &Joint| joint.segment != segment && joint.next != Some(segment);
        self.facts.retain(|joint, _| is_other(joint));
        self.records.retain(|joint, _| is_other(joint));
    }

    /// The decoded records of a segment, if they were read.
    pub fn records(&self, joint: Joint) -> Option<&Decoded> {
        self.records.get(&joint)
    }
}
