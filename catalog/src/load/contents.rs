//! What segments hold: from their summaries, and where those do not tell, from their records.

use highwater_repository::{ClusterRepository, Error, LogEdge, LogSummary, WalHead};
use highwater_wal::{Joined, Kind, Lsn, Record, Records, SegmentName, Summary, Timestamp, WalFile};

use crate::Inventory;
use crate::facts::{Crossing, Decoded, Joint, LogFacts, RestorePoint, SegmentFacts, Transaction};

/// What the head of a segment's object says, with the head of the one behind it on the path.
pub(super) fn facts_of(head: &WalHead, next: Option<&WalHead>) -> SegmentFacts {
    let written = head.archived.written;
    match &head.summary {
        Some(summary) if summary.is_covered() || head.received.is_some() => {
            facts(summary, next.and_then(|next| next.summary.as_ref()), written)
        }
        // Its records could not be read when it was archived: whoever needs to know what it holds has to try again.
        _ => SegmentFacts {
            first_record: None,
            last_record: None,
            times: Some((Timestamp(i64::MIN), Timestamp(i64::MAX))),
            last_commit: None,
            first_commit: None,
            xids: Some((0, u32::MAX)),
            restore_points: Vec::new(),
            covers_until: written,
            crossing: Crossing::Unknown,
            crossing_xid: None,
        },
    }
}

fn facts(summary: &Summary, next: Option<&Summary>, written: Option<Timestamp>) -> SegmentFacts {
    let restore_points = summary.restore_points.iter().map(|point| RestorePoint {
        lsn: point.lsn,
        time: point.time,
        name: point.name.clone(),
    });
    let commit = |point: &highwater_wal::CommitPoint| Transaction {
        lsn: point.lsn,
        end: point.end,
        time: point.time,
        xid: point.xid,
        committed: true,
    };
    SegmentFacts {
        first_record: summary.first_record,
        last_record: summary.last_record,
        times: summary.min_time.zip(summary.max_time),
        last_commit: summary.last_commit.as_ref().map(commit),
        first_commit: summary.first_commit.as_ref().map(commit),
        xids: summary.min_xid.zip(summary.max_xid),
        restore_points: restore_points.collect(),
        covers_until: summary.latest_time().max(written),
        crossing: next.map_or(Crossing::None, |next| crossing(summary.joined_with(next))),
        crossing_xid: next.and_then(|next| summary.xid_joined_with(next)),
    }
}

/// What is known of a log, with what stands where the segment behind it begins.
pub(super) fn log_facts_of(log: &LogSummary, next: Option<&LogEdge>) -> LogFacts {
    let over = log.ends.as_ref().zip(next).map(|(ends, next)| ends.joined_with(next));
    let names = log.restore_points.iter().map(|point| point.name.clone());
    LogFacts {
        is_clear: log.unclear == 0 && log.unread == 0,
        has_commits: log.commits > 0 || log.ends_between > 0,
        times: log.min_time.zip(log.max_time),
        xids: log.min_xid.zip(log.max_xid),
        restore_points: (log.more_restore_points == 0 && log.left_out == 0).then(|| names.collect()),
        covers_until: log.told_until.max(log.written),
        crossing: over.map_or(Crossing::None, |(joined, _)| crossing(joined)),
        crossing_xid: over.and_then(|(_, xid)| xid),
    }
}

/// The record that runs over a border.
fn crossing(joined: Joined) -> Crossing {
    match joined {
        Joined::Nothing => Crossing::None,
        Joined::Finish(time) => Crossing::Time(time),
        Joined::Unclear => Crossing::Unknown,
    }
}

/// Reads the records that begin in a segment, with as many of the segments behind it as its last record needs. An error
/// comes with the segment that could not be read.
pub(super) async fn decode(
    cluster: &ClusterRepository,
    inventory: &Inventory,
    joint: Joint,
) -> Result<Decoded, (SegmentName, Error)> {
    let size = inventory.segment_size;
    let end = joint.segment.end(size);
    let mut records = Records::new(size, Some(cluster.system_id()));
    let mut decoded = Decoded::default();
    let mut next = Some(joint.segment);
    while let Some(segment) = next {
        let file = WalFile::Segment(segment);
        let object = cluster
            .get_segment(segment, size, Some(inventory.bytes_of(segment)))
            .await
            .map_err(|error| (segment, error))?;
        let read = records
            .push_segment(segment, object.bytes)
            .and_then(|()| read_until(&mut records, end, &mut decoded));
        match read {
            Ok(true) => return Ok(decoded),
            Ok(false) => {}
            // Behind the last segment there may be anything: recovery ends there as well.
            Err(_) if joint.next.is_none() => return Ok(decoded),
            Err(refusal) => {
                return Err((segment, Error::damaged(cluster.section().wal(file), refusal.clause())));
            }
        }
        next = following(joint, segment, inventory);
    }
    Ok(decoded)
}

/// The segment to read behind `segment`: a record can run over several.
fn following(joint: Joint, segment: SegmentName, inventory: &Inventory) -> Option<SegmentName> {
    if segment == joint.segment {
        return joint.next;
    }
    let is_all = inventory.unfinished_end(segment).is_none();
    Some(segment.next(inventory.segment_size)).filter(|next| is_all && inventory.has(*next))
}

/// Reads what was pushed; `true` when all that begins before `end` has been read.
fn read_until(
    records: &mut Records<Vec<u8>>,
    end: Lsn,
    decoded: &mut Decoded,
) -> Result<bool, highwater_wal::Refusal> {
    for record in records.by_ref() {
        let record = record?;
        if record.lsn >= end {
            return Ok(true);
        }
        note(decoded, &record);
    }
    Ok(records.unfinished().is_none_or(|unfinished| unfinished.lsn.is_none_or(|lsn| lsn >= end)))
}

fn note(decoded: &mut Decoded, record: &Record) {
    decoded.records.push(record.lsn);
    if let Kind::RestorePoint { time, name } = &record.kind {
        decoded.restore_points.push(RestorePoint { lsn: record.lsn, time: *time, name: name.clone() });
    }
    let (finished, committed) = match &record.kind {
        Kind::Commit(finished) => (finished, true),
        Kind::Abort(finished) => (finished, false),
        _ => return,
    };
    let Record { lsn, end, .. } = *record;
    decoded.transactions.push(Transaction { lsn, end, time: finished.time, xid: finished.xid, committed });
}
