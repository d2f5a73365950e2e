//! R4: what stands at the end of a segment, and where timelines begin.

use super::tests::{check, reason, switched};
use super::*;
use crate::testing::{PAGE, Wal, mib, tli};

#[test]
fn r04_whatever_follows_a_switch_is_taken() {
    let mut wal = Wal::new();
    wal.commit(1, 2);
    let switch = wal.switch();
    let behind = switch.bytes_since(wal.start) as usize + 24;
    wal.bytes[behind + PAGE..].fill(0xA5);
    let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
    assert_eq!((summary.switch, summary.records), (Some(switch), 2));
}

#[test]
fn r04_a_switch_record_may_begin_in_the_segment_before() {
    for room in [8, 16] {
        let mut wal = Wal::new();
        wal.fill_up_to(room);
        let switch = wal.switch();
        let segments = wal.segments();
        assert_eq!(segments.len(), 2);
        let first = check(segments[0].0, segments[0].1, SegmentKind::Complete).unwrap();
        assert_eq!(first.unfinished, Some(Unfinished { lsn: Some(switch), remaining: 24 - room as u32 }));
        let second = check(segments[1].0, segments[1].1, SegmentKind::Complete).unwrap();
        assert_eq!((second.switch, second.records, second.is_covered()), (Some(switch), 0, true));
        let mut damaged = segments[1].1.to_vec();
        damaged[100] = 1;
        assert!(check(segments[1].0, &damaged, SegmentKind::Complete).is_err(), "not a switch: WAL goes on");
    }
}

#[test]
fn r04_a_record_cut_off_by_a_crash_and_overwritten_is_taken() {
    let mut wal = Wal::new();
    let last = wal.commit(1, 2);
    let cut = wal.filler(4 * PAGE);
    let overwrite = wal.overwrite(2, cut, last);
    wal.commit(3, 4);
    wal.switch();
    let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
    assert_eq!((summary.overwritten[0].lsn, summary.overwritten[0].record), (overwrite, cut));
    assert_eq!((summary.commits, summary.records), (2, 4));
    // The page of the record that was cut off may hold anything, its own page header aside.
    let mut torn = wal.bytes.clone();
    torn[PAGE + 24..2 * PAGE].fill(0x5A);
    assert_eq!(check(wal.name(), &torn, SegmentKind::Complete).unwrap(), summary);
}

#[test]
fn r04_an_overwritten_record_may_begin_in_the_segment_before() {
    let mut wal = Wal::new();
    let last = wal.commit(1, 2);
    wal.fill_up_to(1000);
    let last = wal.last.max(last);
    let cut = wal.filler(4 * PAGE);
    wal.overwrite(128, cut, last);
    wal.switch();
    for (name, bytes) in wal.segments() {
        let summary = check(name, bytes, SegmentKind::Complete).unwrap();
        assert!(summary.is_covered());
        assert_eq!(summary.overwritten.len(), usize::from(name != wal.name()));
    }
}

#[test]
fn r04_an_overwrite_that_recovery_would_refuse_is_refused() {
    let wal = |named: fn(Lsn) -> Lsn| {
        let mut wal = Wal::new();
        let last = wal.commit(1, 2);
        let cut = wal.filler(4 * PAGE);
        wal.overwrite(2, named(cut), last);
        wal.switch();
        wal
    };
    let good = wal(|cut| cut);
    assert!(check(good.name(), &good.bytes, SegmentKind::Complete).is_ok());
    let other = wal(|cut| cut + 8);
    assert_eq!(reason(check(other.name(), &other.bytes, SegmentKind::Complete)).1, Reason::Overwrite);
    let mut unflagged = good.bytes.clone();
    unflagged[2 * PAGE + 2] = 0;
    assert!(check(good.name(), &unflagged, SegmentKind::Complete).is_err());
    let mut flagged = switched();
    flagged.bytes[2] |= 0x08;
    assert!(check(flagged.name(), &flagged.bytes, SegmentKind::Complete).is_err());
}

#[test]
fn r04_a_complete_segment_that_ends_in_zeros_is_refused() {
    let mut wal = Wal::new();
    wal.commit(1, 2);
    wal.filler(3 * PAGE);
    let end = wal.position();
    wal.zeros();
    let refused = reason(check(wal.name(), &wal.bytes, SegmentKind::Complete));
    let missing = (1 << 20) - end.bytes_since(wal.start);
    assert_eq!(refused, (end.bytes_since(wal.start), Reason::Ends { missing }));
    // The same where the last page was never written.
    let mut lost = switched();
    lost.bytes[10 * PAGE..].fill(0);
    assert!(matches!(reason(check(lost.name(), &lost.bytes, SegmentKind::Complete)).1, Reason::Ends { .. }));
    // A later timeline's history says that this one ended there.
    let kind = SegmentKind::Ended(end);
    assert_eq!(check(wal.name(), &wal.bytes, kind).unwrap().end, Some(end));
    assert!(!check(wal.name(), &wal.bytes, kind).unwrap().is_covered());
    assert!(check(wal.name(), &wal.bytes, SegmentKind::Ended(Lsn(8))).is_ok());
    let behind = SegmentKind::Ended(wal.start + (9 << 20));
    assert_eq!(reason(check(wal.name(), &wal.bytes, behind)), refused);
    let later = SegmentKind::Ended(end + 8);
    assert_eq!(reason(check(wal.name(), &wal.bytes, later)).1, Reason::Ends { missing: 8 });
}

#[test]
fn r04_a_partial_file_may_have_old_bytes_behind_its_end() {
    let mut wal = Wal::new();
    let commit = wal.commit(1, 2);
    let end = wal.position();
    wal.zeros();
    for old in [0, 0xA5] {
        wal.bytes[end.bytes_since(wal.start) as usize..].fill(old);
        let summary = check(wal.name(), &wal.bytes, SegmentKind::Partial).unwrap();
        assert_eq!((summary.last_commit.unwrap().lsn, summary.end), (commit, Some(end)));
        assert!(!summary.is_covered());
    }
    let other = wal.name().next(mib());
    assert!(check(other, &wal.bytes, SegmentKind::Partial).is_err(), "its first page must be right");
    wal.bytes[16] = 3;
    assert!(check(wal.name(), &wal.bytes, SegmentKind::Partial).is_err());
}

#[test]
fn r04_a_new_timeline_begins_with_a_copy_of_the_old_one() {
    let mut wal = Wal::new();
    wal.commit(1, 2);
    wal.filler(5 * PAGE);
    wal.timeline = tli(3);
    wal.end_of_recovery(3, 1);
    wal.filler(5 * PAGE);
    wal.switch();
    let name = wal.name();
    assert_eq!(check(name, &wal.bytes, SegmentKind::Complete).unwrap().end_of_recovery.len(), 1);
    let lower = reason(check(name.on(tli(2)), &wal.bytes, SegmentKind::Complete));
    assert!(matches!(lower.1, Reason::Timeline { found: 3, .. }));
    let mut back = wal.bytes.clone();
    back[9 * PAGE + 4] = 2;
    assert_eq!(
        reason(check(name, &back, SegmentKind::Complete)),
        (9 * PAGE as u64, Reason::TimelineGoesBack { found: 2, before: 3 })
    );
}

#[test]
fn r04_a_timeline_may_begin_on_the_last_page() {
    // The end of recovery lies on the last page, runs over its end, or has no whole header there.
    for room in [64, 40, 16, 8] {
        let mut wal = Wal::new();
        wal.fill_up_to(room);
        wal.end_of_recovery(2, 1);
        wal.filler(1000);
        let name = wal.name().on(tli(2));
        assert!(
            check(name, &wal.bytes[..1 << 20], SegmentKind::Complete).is_ok(),
            "{room} bytes before the end"
        );
    }
    let mut wal = Wal::new();
    wal.fill_up_to(64);
    wal.filler(1000);
    wal.bytes.truncate(1 << 20);
    let named = check(wal.name().on(tli(2)), &wal.bytes, SegmentKind::Complete);
    assert_eq!(reason(named).1, Reason::OtherTimeline { found: 1, named: tli(2) });
}
