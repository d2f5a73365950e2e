//! Records in pieces: cut anywhere, they are the same.

use super::*;
use crate::testing::{PAGE, SYSTEM, Wal, mib, tli};
use proptest::prelude::*;

/// Four segments: records over borders, an overwritten one, a switch in the third, a new timeline in the fourth.
fn wal() -> Wal {
    let mut wal = Wal::new();
    wal.commit(1, 1);
    wal.fill_up_to(64);
    wal.filler(3000);
    let last = wal.commit(2, 2);
    let cut = wal.filler(4 * PAGE);
    let page = wal.bytes.len() / PAGE;
    wal.overwrite(page, cut, last);
    wal.fill_up_to(16);
    wal.filler(24);
    wal.commit(3, 3);
    wal.switch();
    wal.filler(2 * PAGE);
    wal.timeline = tli(2);
    wal.end_of_recovery(2, 1);
    wal.filler(PAGE);
    wal.commit(4, 4);
    wal.switch();
    assert_eq!(wal.segments().len(), 4);
    wal
}

fn read_all(wal: &Wal) -> Vec<Record> {
    let mut records = Records::new(mib(), Some(SYSTEM));
    let mut all = Vec::new();
    for (number, (name, bytes)) in wal.segments().into_iter().enumerate() {
        records.push_segment(name.on(tli(if number < 3 { 1 } else { 2 })), bytes).unwrap();
        all.extend(records.by_ref().map(Result::unwrap));
    }
    assert_eq!(records.end(), Some(wal.start + (4 << 20)));
    assert_eq!(records.unfinished(), None);
    all
}

#[test]
fn records_cross_pages_segments_and_timelines() {
    let wal = wal();
    let all = read_all(&wal);
    let commits: Vec<_> = all.iter().filter(|record| matches!(record.kind, Kind::Commit(_))).collect();
    assert_eq!(commits.len(), 4);
    assert_eq!(all.iter().filter(|record| record.kind == Kind::Switch).count(), 2);
    assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].lsn && pair[1].header.previous == pair[0].lsn));
    let crossing = all.iter().filter(|record| record.lsn.0 >> 20 != (record.end.0 - 1) >> 20).count();
    assert_eq!(crossing, 2, "one over each border without a switch");
}

/// A standby that is promoted right behind a segment that its primary has switched away from: the fork is the segment's end.
#[test]
fn a_timeline_may_begin_with_a_segment() {
    let mut wal = Wal::new();
    wal.commit(1, 1);
    wal.switch();
    wal.timeline = tli(2);
    wal.end_of_recovery(2, 1);
    wal.commit(2, 2);
    wal.switch();
    let mut records = Records::new(mib(), Some(SYSTEM));
    let mut commits = 0;
    for (number, (name, bytes)) in wal.segments().into_iter().enumerate() {
        records.push_segment(name.on(tli(number as u32 + 1)), bytes).unwrap();
        let read = records.by_ref().map(Result::unwrap);
        commits += read.filter(|record| matches!(record.kind, Kind::Commit(_))).count();
    }
    assert_eq!(commits, 2);
}

#[test]
fn bodies_are_whole_also_across_pages() {
    let mut wal = Wal::new();
    let lsn = wal.filler(3 * PAGE);
    let mut records = Records::new(mib(), None);
    records.push(tli(1), wal.start, &wal.bytes[..]).unwrap();
    let raw = records.next_raw().unwrap().unwrap();
    assert_eq!((raw.lsn, raw.body.len(), raw.kind()), (lsn, 3 * PAGE - 24, Some(Kind::Other)));
    let main = raw.parts().unwrap().main();
    assert!(main.iter().enumerate().all(|(index, byte)| *byte == ((index + 5) % 251) as u8));
}

#[test]
fn what_does_not_come_next_is_refused() {
    let wal = wal();
    let mut records = Records::new(mib(), None);
    let refusal = records.push(tli(1), wal.start + 8192, &wal.bytes[..100]).unwrap_err();
    assert_eq!(refusal.reason, Reason::OutOfOrder { expected: wal.start });
    records.push(tli(1), wal.start, &wal.bytes[..100]).unwrap();
    assert!(records.push(tli(1), wal.start + 101, &wal.bytes[101..200]).is_err());
    assert!(records.push(tli(1), wal.start, &wal.bytes[..100]).is_err());
    records.push(tli(1), wal.start + 100, &wal.bytes[100..200]).unwrap();
}

#[test]
fn behind_a_switch_the_next_segment_may_follow_at_once() {
    let mut wal = Wal::new();
    wal.commit(1, 1);
    let switch = wal.switch();
    let next = wal.commit(2, 2);
    let mut records = Records::new(mib(), None);
    let upto = switch.bytes_since(wal.start) as usize + 24;
    records.push(tli(1), wal.start, &wal.bytes[..upto]).unwrap();
    assert_eq!(records.by_ref().count(), 2);
    records.push(tli(1), wal.start + (1 << 20), &wal.bytes[1 << 20..]).unwrap();
    assert_eq!(records.next().unwrap().unwrap().lsn, next);
}

#[test]
fn after_a_refusal_there_is_nothing_more() {
    let mut wal = Wal::new();
    wal.commit(1, 1);
    let bad = wal.filler(100);
    wal.commit(2, 2);
    let offset = bad.bytes_since(wal.start) as usize;
    wal.bytes[offset + 50] ^= 1;
    let mut records = Records::new(mib(), None);
    records.push(tli(1), wal.start, wal.bytes.clone()).unwrap();
    assert!(records.next().unwrap().is_ok());
    let refusal = records.next().unwrap().unwrap_err();
    assert_eq!((refusal.lsn, refusal.segment), (bad, wal.name()));
    assert!(matches!(refusal.reason, Reason::Crc { .. }));
    assert!(records.next().is_none());
    assert_eq!(records.push(tli(1), wal.position(), vec![0]), Err(refusal));
}

#[test]
fn another_clusters_wal_is_refused() {
    let wal = wal();
    let mut records = Records::new(mib(), Some(SystemId(3)));
    records.push(tli(1), wal.start, &wal.bytes[..]).unwrap();
    assert!(matches!(records.next().unwrap().unwrap_err().reason, Reason::SystemId { .. }));
    let mut records = Records::new(SegmentSize::DEFAULT, None);
    records.push(tli(1), Lsn(0), &wal.bytes[..]).unwrap();
    assert!(matches!(records.next().unwrap().unwrap_err().reason, Reason::PageAddress { .. }));
}

#[test]
fn the_end_of_what_was_pushed_is_known() {
    let mut wal = Wal::new();
    wal.commit(1, 1);
    let long = wal.filler(PAGE);
    let mut records = Records::new(mib(), None);
    records.push(tli(1), wal.start, &wal.bytes[..PAGE]).unwrap();
    assert_eq!(records.by_ref().count(), 1);
    let remaining = long.bytes_since(wal.start) as u32;
    assert_eq!(records.unfinished(), Some(Unfinished { lsn: Some(long), remaining }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn records_cut_anywhere_are_the_same(lengths in proptest::collection::vec(1usize..20_000, 1..40)) {
        let wal = wal();
        let mut records = Records::new(mib(), Some(SYSTEM));
        let (mut all, mut at) = (Vec::new(), 0);
        for length in lengths.iter().cycle() {
            let piece = &wal.bytes[at..(at + length).min(wal.bytes.len())];
            let timeline = tli(if at < 3 << 20 { 1 } else { 2 });
            // A piece may begin on the old timeline and end on the new one: a stream is cut at the fork.
            let piece = if at < 3 << 20 { &piece[..piece.len().min((3 << 20) - at)] } else { piece };
            records.push(timeline, wal.start + at as u64, piece.to_vec()).unwrap();
            all.extend(records.by_ref().map(Result::unwrap));
            at += piece.len();
            if at == wal.bytes.len() {
                break;
            }
        }
        prop_assert_eq!(all, read_all(&wal));
    }

    #[test]
    fn arbitrary_bytes_never_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..5)) {
        let mut wal = Wal::new();
        wal.page_header(0, 0);
        let mut records = Records::new(mib(), None);
        let mut at = wal.position();
        records.push(tli(1), wal.start, wal.bytes.clone()).unwrap();
        for piece in pieces {
            let length = piece.len() as u64;
            if records.push(tli(1), at, piece).is_err() {
                break;
            }
            at = at + length;
            prop_assert!(records.by_ref().count() <= 1);
        }
    }
}
