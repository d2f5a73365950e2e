//! What one WAL segment holds, in a form that is stored in front of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::body::RelationFile;
use crate::kind::{Checkpoint, Finished, Kind};
use crate::listed::{
    CheckpointPoint, CommitPoint, Created, DatabaseDropped, Dropped, EndOfRecoveryPoint, Overwritten,
    RestorePoint, TablespaceDropped, Unfinished,
};
use crate::{Lsn, PgVersion, SegmentName, SegmentSize, SystemId, TimelineId, Timestamp};

/// The version of [`Summary`] that this crate writes. Version 1 doesn't have the lists [`Summary::created`] and
/// [`Summary::databases_dropped`], version 2 not [`Summary::tablespaces_dropped`]; all else is the same.
pub const SUMMARY_VERSION: u32 = 3;

/// The first version whose summaries list files that were made and databases that were dropped.
const FIRST_WITH_CREATED: u32 = 2;

/// The first version whose summaries list tablespaces that were dropped.
const FIRST_WITH_TABLESPACES: u32 = 3;

/// How many entries each list of a [`Summary`] can have, so that it stays small whatever the segment holds.
pub const MAX_LISTED: usize = 1024;

/// What one WAL segment holds: enough to plan a recovery without the segment.
///
/// Only what lies whole in the segment is in it: a record that runs over the segment's end is in no summary.
/// [`Summary::unfinished`] tells that there is one, and [`Summary::joined_with`] whether it ends a transaction.
///
/// Fields that this version doesn't know are kept in [`Summary::other`] and written back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The version of this structure: [`SUMMARY_VERSION`].
    pub version: u32,
    /// Bytes in the segment.
    pub segment_size: SegmentSize,
    /// The cluster whose WAL it is.
    pub system_id: SystemId,
    /// What the pages begin with; tells versions that this crate doesn't know apart.
    pub page_magic: u16,
    /// The server's version; `None` for one that this crate doesn't know, whose records it hasn't read.
    #[serde(default, deserialize_with = "known_version")]
    pub pg_version: Option<PgVersion>,
    /// The timeline in the segment's name. Its beginning may be of an earlier one, where the timeline branched off.
    pub timeline: TimelineId,
    /// The LSN of the segment's first byte.
    pub start: Lsn,
    /// BLAKE3 of the segment, in hexadecimal digits; filled in by whoever stores it.
    pub digest: String,
    /// Bytes at the beginning (page headers not counted) that belong to a record of the segment before; 0 for none.
    #[serde(default)]
    pub continued: u32,
    /// The record that runs over the segment's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
    /// The first bytes of what ran into the segment, in hexadecimal digits, without page headers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runs_in: String,
    /// The first bytes of the record that runs over the segment's end, likewise. See [`Summary::joined_with`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runs_out: String,
    /// Where the first whole record starts.
    pub first_record: Option<Lsn>,
    /// Where the last whole record starts.
    pub last_record: Option<Lsn>,
    /// The LSN behind the last whole record; the segment's end behind a switch record.
    pub end: Option<Lsn>,
    /// Number of whole records.
    pub records: u64,
    /// Number of commit records, prepared transactions' included.
    pub commits: u64,
    /// Number of abort records, subtransactions' included.
    pub aborts: u64,
    /// The first commit in WAL order.
    pub first_commit: Option<CommitPoint>,
    /// The last commit in WAL order.
    pub last_commit: Option<CommitPoint>,
    /// The smallest time in a commit or abort record; times need not rise from record to record.
    pub min_time: Option<Timestamp>,
    /// The largest time in a commit or abort record.
    pub max_time: Option<Timestamp>,
    /// The smallest number of a transaction that a commit or abort record names.
    pub min_xid: Option<u32>,
    /// The largest number of a transaction that a commit or abort record names (numbers wrap around at 2³²).
    pub max_xid: Option<u32>,
    /// Checkpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointPoint>,
    /// Named restore points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_points: Vec<RestorePoint>,
    /// Where the switch record starts behind which the segment is unused. (It can start in the segment before.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Lsn>,
    /// Ends of recoveries, where new timelines begin without a checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub end_of_recovery: Vec<EndOfRecoveryPoint>,
    /// Relation files that a commit dropped, or that were cut to nothing in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
    /// Relation files that were made (main forks): for new relations of any kind, and for tables and indexes that are
    /// rewritten or truncated. See [`Summary::lists_created`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<Created>,
    /// Databases that were dropped. See [`Summary::lists_created`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases_dropped: Vec<DatabaseDropped>,
    /// Tablespaces that were dropped. See [`Summary::lists_tablespaces`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces_dropped: Vec<TablespaceDropped>,
    /// Records cut off by a crash that are overwritten here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overwritten: Vec<Overwritten>,
    /// Entries that the lists above but `created` would have had beyond [`MAX_LISTED`] each. If it isn't 0, what isn't
    /// listed may still be there: read the segment.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Entries that `created` would have had beyond [`MAX_LISTED`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub created_left_out: u64,
    /// Fields of a later version.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A version that only a later Highwater knows is none that this one knows.
fn known_version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<PgVersion>, D::Error> {
    Ok(Option::<u32>::deserialize(deserializer)?.and_then(PgVersion::from_major))
}

impl Summary {
    /// The summary of a segment of which nothing has been read but its first page's header.
    pub fn new(
        name: SegmentName,
        size: SegmentSize,
        system_id: SystemId,
        page_magic: u16,
        continued: u32,
    ) -> Summary {
        Summary {
            version: SUMMARY_VERSION,
            segment_size: size,
            system_id,
            page_magic,
            pg_version: PgVersion::from_page_magic(page_magic),
            timeline: name.timeline,
            start: name.start(size),
            digest: String::new(),
            continued,
            unfinished: None,
            runs_in: String::new(),
            runs_out: String::new(),
            first_record: None,
            last_record: None,
            end: None,
            records: 0,
            commits: 0,
            aborts: 0,
            first_commit: None,
            last_commit: None,
            min_time: None,
            max_time: None,
            min_xid: None,
            max_xid: None,
            checkpoints: Vec::new(),
            restore_points: Vec::new(),
            switch: None,
            end_of_recovery: Vec::new(),
            dropped: Vec::new(),
            created: Vec::new(),
            databases_dropped: Vec::new(),
            tablespaces_dropped: Vec::new(),
            overwritten: Vec::new(),
            left_out: 0,
            created_left_out: 0,
            other: Map::new(),
        }
    }

    /// Whether the segment is full of WAL up to its end: by records, the last of which may run on, or by a switch.
    pub fn is_covered(&self) -> bool {
        let end = self.start + self.segment_size.bytes();
        self.switch.is_some() || self.unfinished.is_some() || self.end.is_some_and(|lsn| lsn >= end)
    }

    /// Whether [`Summary::created`] and [`Summary::databases_dropped`] have all that there is, so that what isn't in
    /// them isn't in the segment. A record over a border is in no summary: [`Summary::hides_files`].
    pub fn lists_created(&self) -> bool {
        self.version >= FIRST_WITH_CREATED
            && self.pg_version.is_some()
            && self.left_out == 0
            && self.created_left_out == 0
    }

    /// Whether [`Summary::tablespaces_dropped`] has all that there is. See [`Summary::lists_created`].
    pub fn lists_tablespaces(&self) -> bool {
        self.version >= FIRST_WITH_TABLESPACES && self.pg_version.is_some() && self.left_out == 0
    }

    /// The latest time that anything in the segment tells. A checkpoint's is when it began: what was acknowledged by then
    /// lies before its record.
    pub fn latest_time(&self) -> Option<Timestamp> {
        let checkpoints = self.checkpoints.iter().map(|checkpoint| checkpoint.time);
        let points = self.restore_points.iter().map(|point| point.time);
        let ends = self.end_of_recovery.iter().map(|end| end.time);
        checkpoints.chain(points).chain(ends).chain(self.max_time).max()
    }

    /// Counts a whole record.
    pub(crate) fn count(&mut self, lsn: Lsn, end: Lsn) {
        self.records += 1;
        self.first_record.get_or_insert(lsn);
        self.last_record = Some(lsn);
        self.end = Some(end);
    }

    /// Notes what a record that was counted says.
    pub(crate) fn note(&mut self, lsn: Lsn, end: Lsn, xid: u32, kind: Kind) {
        match kind {
            Kind::Commit(finished) => {
                self.commits += 1;
                let point = CommitPoint { lsn, end, time: finished.time, xid: finished.xid };
                self.first_commit.get_or_insert(point);
                self.last_commit = Some(point);
                for file in &finished.dropped {
                    self.drop_file(lsn, finished.xid, *file, false);
                }
                self.note_finished(&finished);
            }
            Kind::Abort(finished) => {
                self.aborts += 1;
                self.note_finished(&finished);
            }
            Kind::Checkpoint(Checkpoint { redo, timeline, time, shutdown, .. }) => {
                let point = CheckpointPoint { lsn, redo, time, timeline, shutdown };
                push(&mut self.checkpoints, &mut self.left_out, point);
            }
            Kind::Switch => self.switch = Some(lsn),
            Kind::EndOfRecovery(found) => {
                let (time, timeline, previous) = (found.time, found.timeline, found.previous);
                let point = EndOfRecoveryPoint { lsn, time, timeline, previous };
                push(&mut self.end_of_recovery, &mut self.left_out, point);
            }
            Kind::RestorePoint { time, name } => {
                push(&mut self.restore_points, &mut self.left_out, RestorePoint { lsn, end, time, name });
            }
            Kind::OverwriteContrecord { overwritten, time } => {
                push(
                    &mut self.overwritten,
                    &mut self.left_out,
                    Overwritten { lsn, record: overwritten, time },
                );
            }
            Kind::StorageTruncate { relation, blocks: 0, main_fork: true } => {
                self.drop_file(lsn, xid, relation, true);
            }
            Kind::StorageCreate { relation: file, main_fork: true } => {
                let RelationFile { tablespace, database, relation } = file;
                let created = Created { lsn, xid, tablespace, database, relation };
                push(&mut self.created, &mut self.created_left_out, created);
            }
            Kind::DatabaseDrop { database, .. } => {
                let dropped = DatabaseDropped { lsn, xid, database };
                push(&mut self.databases_dropped, &mut self.left_out, dropped);
            }
            Kind::TablespaceDrop { tablespace } => {
                let dropped = TablespaceDropped { lsn, xid, tablespace };
                push(&mut self.tablespaces_dropped, &mut self.left_out, dropped);
            }
            Kind::StorageTruncate { .. }
            | Kind::StorageCreate { .. }
            | Kind::Truncate { .. }
            | Kind::BackupEnd { .. }
            | Kind::Other => {}
        }
    }

    fn note_finished(&mut self, finished: &Finished) {
        let (time, xid) = (finished.time, finished.xid);
        self.min_time = Some(self.min_time.map_or(time, |before| before.min(time)));
        self.max_time = Some(self.max_time.map_or(time, |before| before.max(time)));
        self.min_xid = Some(self.min_xid.map_or(xid, |before| before.min(xid)));
        self.max_xid = Some(self.max_xid.map_or(xid, |before| before.max(xid)));
    }

    fn drop_file(&mut self, lsn: Lsn, xid: u32, file: RelationFile, truncated: bool) {
        let RelationFile { tablespace, database, relation } = file;
        push(
            &mut self.dropped,
            &mut self.left_out,
            Dropped { lsn, xid, tablespace, database, relation, truncated },
        );
    }
}

fn push<T>(list: &mut Vec<T>, left_out: &mut u64, item: T) {
    if list.len() < MAX_LISTED {
        list.push(item);
    } else {
        *left_out += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SYSTEM, mib, tli};

    fn summary() -> Summary {
        let name = SegmentName { timeline: tli(2), log: 1, segment: 0x2A };
        let mut summary = Summary::new(name, mib(), SYSTEM, PgVersion::V17.page_magic(), 12);
        let time = Timestamp(i64::MAX);
        summary.note(Lsn(99), Lsn(120), 5, Kind::RestorePoint { time, name: "Zurück \"\\\n".to_owned() });
        summary.count(Lsn(99), Lsn(120));
        summary
    }

    #[test]
    fn a_summary_is_read_back() {
        let json = serde_json::to_string(&summary()).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary());
        assert!(json.contains(r#""pg_version":17"#) && json.contains(r#""first_record":"0/63""#), "{json}");
        assert!(
            json.contains(r#""system_id":"7000000000000000001""#),
            "numbers this large lose digits: {json}"
        );
    }

    #[test]
    fn fields_of_a_later_version_are_kept() {
        let mut value = serde_json::to_value(summary()).unwrap();
        value["version"] = 4.into();
        value["pg_version"] = 21.into();
        value["hue"] = serde_json::json!({"of": ["sea"]});
        let read: Summary = serde_json::from_value(value.clone()).unwrap();
        assert_eq!((read.version, read.pg_version, read.records), (4, None, 1));
        assert_eq!(serde_json::to_value(&read).unwrap()["hue"], value["hue"]);
    }

    #[test]
    fn files_that_are_made_are_listed_up_to_a_number_and_since_version_2() {
        let mut summary = summary();
        assert!(summary.lists_created());
        let file = RelationFile { tablespace: 1663, database: 5, relation: 16_384 };
        for lsn in 0..=MAX_LISTED as u64 {
            assert!(summary.lists_created());
            let kind = Kind::StorageCreate { relation: file, main_fork: true };
            summary.note(Lsn(lsn), Lsn(lsn + 1), 9, kind);
        }
        assert_eq!((summary.created.len(), summary.created_left_out, summary.left_out), (MAX_LISTED, 1, 0));
        assert!(!summary.lists_created());
        let mut old = super::tests::summary();
        (old.version, old.left_out) = (2, 0);
        assert!(old.lists_created() && !old.lists_tablespaces());
        old.version = 1;
        assert!(!old.lists_created() && !old.lists_tablespaces());
        assert!(super::tests::summary().lists_tablespaces());
    }

    #[test]
    fn coverage_needs_the_end_a_switch_or_a_record_that_runs_on() {
        let mut summary = summary();
        assert!(!summary.is_covered());
        summary.end = Some(summary.start + mib().bytes());
        assert!(summary.is_covered());
        summary.end = None;
        summary.switch = Some(Lsn(3));
        assert!(summary.is_covered());
        summary.switch = None;
        summary.unfinished = Some(Unfinished { lsn: None, remaining: 1 });
        assert!(summary.is_covered());
    }
}
