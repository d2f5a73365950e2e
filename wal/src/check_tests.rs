//! R4, rule by rule, on WAL made for it.

use super::*;
use crate::body::RelationFile;
use crate::kind::xlog;
use crate::testing::{PAGE, SYSTEM, Wal, mib, relation_file, tli, with_main};
use crate::{PgVersion, Timestamp};
use proptest::prelude::*;

pub(super) fn check(name: SegmentName, bytes: &[u8], kind: SegmentKind) -> Result<Summary, Refusal> {
    check_segment(name, mib(), Some(SYSTEM), bytes, Check::Full, kind)
}

/// A segment of many records, some across pages, ended by a switch.
pub(super) fn switched() -> Wal {
    let mut wal = Wal::new();
    for round in 0..200 {
        wal.filler(40 + round * 37 % 3000);
        wal.commit(1000 + round as u32, 1_000_000 - round as i64);
        wal.abort(2000 + round as u32, 2_000_000);
    }
    wal.filler(5 * PAGE);
    wal.switch();
    wal
}

pub(super) fn reason(result: Result<Summary, Refusal>) -> (u64, Reason) {
    let refusal = result.unwrap_err();
    assert!(refusal.to_string().contains("hint: "), "{refusal}");
    assert!(refusal.to_string().contains(&format!("offset {}", refusal.offset)), "{refusal}");
    assert_eq!(refusal.lsn.0 % mib().bytes(), refusal.offset);
    (refusal.offset, refusal.reason)
}

#[test]
fn r04_the_summary_tells_what_is_in_the_segment() {
    let wal = switched();
    let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
    assert_eq!((summary.records, summary.commits, summary.aborts), (602, 200, 200));
    assert_eq!(summary.first_record, Some(wal.start + 40));
    assert_eq!(summary.switch, summary.last_record);
    assert_eq!(summary.end, Some(wal.start + (1 << 20)));
    let (first, last) = (summary.first_commit.unwrap(), summary.last_commit.unwrap());
    assert_eq!(
        (first.xid, first.time, last.xid, last.time),
        (1000, Timestamp(1_000_000), 1199, Timestamp(999_801))
    );
    assert_eq!((summary.min_time, summary.max_time), (Some(Timestamp(999_801)), Some(Timestamp(2_000_000))));
    assert_eq!((summary.min_xid, summary.max_xid), (Some(1000), Some(2199)));
    assert_eq!((summary.continued, summary.unfinished, summary.left_out), (0, None, 0));
    assert!(summary.is_covered());
}

#[test]
fn r04_every_version_is_known_by_its_magic() {
    for version in PgVersion::ALL {
        let mut wal = Wal { version, ..Wal::new() };
        wal.commit(1, 2);
        wal.switch();
        let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
        assert_eq!((summary.pg_version, summary.page_magic), (Some(version), version.page_magic()));
    }
}

#[test]
fn r04_every_fact_lands_in_its_list() {
    let mut wal = Wal::new();
    let (redo, file) = (wal.start, RelationFile { tablespace: 1663, database: 5, relation: 16_400 });
    let mut checkpoint = Vec::new();
    checkpoint.extend_from_slice(&redo.0.to_le_bytes());
    checkpoint.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
    checkpoint.extend_from_slice(&[0xEE; 48]);
    checkpoint.extend_from_slice(&946_684_801_i64.to_le_bytes());
    checkpoint.extend_from_slice(&[0; 16]);
    let online = wal.record(rmgr::XLOG, xlog::CHECKPOINT_ONLINE, 0, &checkpoint);
    let mut name = [0; 72];
    name[..8].copy_from_slice(&77_i64.to_le_bytes());
    name[8..13].copy_from_slice("avant".as_bytes());
    let named = wal.record(rmgr::XLOG, xlog::RESTORE_POINT, 0, &name);
    let named_end = wal.position();
    let recovered = wal.end_of_recovery(1, 1);
    let mut commit = 88_i64.to_le_bytes().to_vec();
    commit.extend_from_slice(&0x4_u32.to_le_bytes());
    commit.extend_from_slice(&1_u32.to_le_bytes());
    commit.extend_from_slice(&relation_file(file));
    let dropped = wal.record(rmgr::TRANSACTION, 0x80, 44, &commit);
    let cut = [&0_u32.to_le_bytes()[..], &relation_file(file), &1_u32.to_le_bytes()].concat();
    let truncated = wal.record(rmgr::STORAGE, 0x20, 45, &cut);
    let shorter = [&9_u32.to_le_bytes()[..], &relation_file(file), &1_u32.to_le_bytes()].concat();
    wal.record(rmgr::STORAGE, 0x20, 45, &shorter);
    let create = |fork: u32| [&relation_file(file)[..], &fork.to_le_bytes()].concat();
    let created = wal.record(rmgr::STORAGE, 0x10, 46, &create(0));
    wal.record(rmgr::STORAGE, 0x10, 46, &create(3));
    let drop = [20_000_u32, 1, 1663].map(u32::to_le_bytes).concat();
    let gone = wal.record(rmgr::DATABASE, 0x20, 47, &drop);
    wal.record(rmgr::DATABASE, 0x20, 0, &drop);
    wal.record(
        rmgr::TABLESPACE,
        0x00,
        48,
        &[20_001_u32.to_le_bytes().to_vec(), b"/place\0".to_vec()].concat(),
    );
    let emptied = wal.record(rmgr::TABLESPACE, 0x10, 48, &20_001_u32.to_le_bytes());
    wal.switch();
    let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
    assert_eq!(summary.checkpoints.len(), 1);
    let point = summary.checkpoints[0];
    assert_eq!(
        (point.lsn, point.redo, point.time, point.shutdown),
        (online, redo, Timestamp(1_000_000), false)
    );
    let point = &summary.restore_points[0];
    assert_eq!(
        (point.lsn, point.end, point.time, &point.name[..]),
        (named, named_end, Timestamp(77), "avant")
    );
    assert_eq!(summary.end_of_recovery[0].lsn, recovered);
    let drops: Vec<_> = summary.dropped.iter().map(|d| (d.lsn, d.xid, d.relation, d.truncated)).collect();
    assert_eq!(drops, [(dropped, 44, 16_400, false), (truncated, 45, 16_400, true)]);
    let made: Vec<_> = summary.created.iter().map(|c| (c.lsn, c.xid, c.relation)).collect();
    assert_eq!(made, [(created, 46, 16_400)]);
    let databases: Vec<_> = summary.databases_dropped.iter().map(|d| (d.lsn, d.xid, d.database)).collect();
    assert_eq!(databases, [(gone, 47, 20_000)], "the other one has only moved");
    let tablespaces: Vec<_> =
        summary.tablespaces_dropped.iter().map(|d| (d.lsn, d.xid, d.tablespace)).collect();
    assert_eq!(tablespaces, [(emptied, 48, 20_001)]);
}

#[test]
fn r04_lists_are_bounded_and_say_so() {
    let mut wal = Wal::new();
    for number in 0..1100_u32 {
        let name = [&0_i64.to_le_bytes()[..], &number.to_le_bytes(), &[0; 60]].concat();
        wal.record(rmgr::XLOG, xlog::RESTORE_POINT, 0, &name);
    }
    wal.switch();
    let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
    assert_eq!((summary.restore_points.len(), summary.left_out), (crate::MAX_LISTED, 1100 - 1024));
}

#[test]
fn r04_a_file_of_another_length_or_name_or_cluster_is_refused() {
    let wal = switched();
    let name = wal.name();
    let complete = SegmentKind::Complete;
    for length in [0, 1, 24, 39, 40, PAGE, (1 << 20) - 1] {
        let found = reason(check(name, &wal.bytes[..length], complete));
        assert_eq!(found, (0, Reason::Length { found: length as u64, expected: 1 << 20 }));
    }
    let longer = [&wal.bytes[..], &[0]].concat();
    assert!(matches!(reason(check(name, &longer, complete)), (0, Reason::Length { .. })));
    let found = reason(check(name.next(mib()), &wal.bytes, complete));
    assert_eq!(found, (0, Reason::PageAddress { found: wal.start }));
    let found = reason(check(name.on(tli(2)), &wal.bytes, complete));
    assert_eq!(found, (0, Reason::OtherTimeline { found: 1, named: tli(2) }));
    let mut second = Wal { timeline: tli(2), ..Wal::new() };
    second.switch();
    let found = reason(check(name, &second.bytes, complete));
    assert_eq!(found, (0, Reason::Timeline { found: 2, named: tli(1) }));
    let other = check_segment(name, mib(), Some(SystemId(5)), &wal.bytes, Check::Full, complete);
    assert_eq!(reason(other), (0, Reason::SystemId { found: SYSTEM, expected: SystemId(5) }));
    let beyond = SegmentName { segment: 4096, ..name };
    assert!(matches!(reason(check(beyond, &wal.bytes, complete)), (0, Reason::Name(_))));
    let two = SegmentSize::new(2 << 20).unwrap();
    let doubled = [&wal.bytes[..], &wal.bytes].concat();
    let name = SegmentName::containing(tli(1), Lsn(2 << 20), two);
    assert!(check_segment(name, two, None, &doubled, Check::Full, complete).is_err());
}

#[test]
fn r04_a_changed_byte_in_a_record_is_refused_with_its_offset() {
    let mut wal = Wal::new();
    wal.commit(1, 1);
    let small = wal.filler(100);
    let large = wal.filler(3 * PAGE);
    wal.switch();
    let offset = |lsn: Lsn| lsn.bytes_since(wal.start) as usize;
    for (record, length) in [(small, 100), (large, 2 * PAGE)] {
        for at in (offset(record)..offset(record) + length).step_by(13) {
            let mut bytes = wal.bytes.clone();
            if (20..24).contains(&(at % PAGE)) {
                // The padding of a page header means nothing.
                continue;
            }
            bytes[at] ^= 0x10;
            let (found, reason) = reason(check(wal.name(), &bytes, SegmentKind::Complete));
            // A changed length shows on the next page only, which then names the record.
            let named = matches!(reason, Reason::Continuation { record: lsn, .. } if lsn == record);
            let page = (at - at % PAGE) as u64;
            assert!(
                named || found == offset(record) as u64 || found == page,
                "byte {at}: {reason} at {found}"
            );
        }
    }
}

#[test]
fn r04_a_changed_field_of_any_page_header_is_refused() {
    let wal = switched();
    let used = wal.bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for page in 0..=used / PAGE {
        let fields: &[usize] = if page == 0 { &[0, 2, 4, 8, 16, 24, 32, 36] } else { &[0, 2, 4, 8, 16] };
        for at in fields {
            let mut bytes = wal.bytes.clone();
            // The third flag means nothing; every other bit of these bytes does.
            for bit in [0, 1, 3, 5, 7] {
                bytes[page * PAGE + at] ^= 1 << bit;
                let result = check(wal.name(), &bytes, SegmentKind::Complete);
                assert!(result.is_err(), "page {page}, byte {at}, bit {bit}");
                bytes[page * PAGE + at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn r04_the_last_segment_that_there_can_be_is_read_like_any() {
    let size = SegmentSize::DEFAULT;
    let mut wal = Wal { size, start: Lsn(u64::MAX << 24), ..Wal::new() };
    wal.last = Lsn(wal.start.0 - 64);
    wal.commit(1, 2);
    let switch = wal.switch();
    let name: SegmentName = "00000001FFFFFFFF000000FF".parse().unwrap();
    assert_eq!(wal.name(), name);
    let summary = check_segment(name, size, None, &wal.bytes, Check::Full, SegmentKind::Complete).unwrap();
    assert_eq!((summary.records, summary.switch), (2, Some(switch)));
    let mut records = crate::Records::new(size, None);
    records.push_segment(name, &wal.bytes[..]).unwrap();
    assert_eq!(records.by_ref().filter(Result::is_ok).count(), 2);
    let mut full = Wal { size, start: wal.start, ..Wal::new() };
    full.last = Lsn(wal.start.0 - 64);
    full.fill_up_to(104);
    full.filler(100);
    let _ = check_segment(name, size, None, &full.bytes, Check::Full, SegmentKind::Complete);
}

#[test]
fn r04_records_that_run_over_the_borders_are_passed_over() {
    let mut wal = Wal::new();
    wal.fill_up_to(64);
    let crossing = wal.filler(1000);
    let commit = wal.commit(5, 6);
    wal.fill_up_to(200);
    let long = wal.filler((1 << 20) + 5000);
    let behind = wal.commit(7, 8);
    wal.switch();
    let segments = wal.segments();
    let kind = SegmentKind::Complete;
    let summaries: Vec<_> = segments.iter().map(|(name, bytes)| check(*name, bytes, kind).unwrap()).collect();
    let [first, second, third, fourth] = &summaries[..] else { panic!("{summaries:?}") };
    assert_eq!(first.unfinished, Some(Unfinished { lsn: Some(crossing), remaining: 1000 - 64 }));
    assert_eq!((second.continued, second.first_commit.unwrap().lsn), (1000 - 64, commit));
    assert_eq!(second.unfinished.unwrap().lsn, Some(long));
    assert_eq!((third.records, third.first_record, third.end), (0, None, None));
    assert_eq!(third.continued, second.unfinished.unwrap().remaining);
    assert_eq!(third.unfinished, Some(Unfinished { lsn: None, remaining: fourth.continued }));
    assert_eq!(fourth.last_commit.unwrap().lsn, behind);
    assert!(summaries.iter().all(Summary::is_covered));
}

#[test]
fn r04_a_changed_length_does_not_hide_a_record_as_one_that_runs_over_the_border() {
    let mut wal = Wal::new();
    wal.fill_up_to(800);
    let commit = wal.commit(5, 6);
    wal.filler(100);
    wal.fill_up_to(16);
    wal.filler(24);
    let offset = commit.bytes_since(wal.start) as usize;
    let bytes = &mut wal.bytes[..1 << 20];
    check(SegmentName::containing(tli(1), commit, mib()), bytes, SegmentKind::Complete).unwrap();
    for byte in 1..4 {
        for bit in 4..6 {
            bytes[offset + byte] ^= 1 << bit;
            let refused =
                reason(check(SegmentName::containing(tli(1), commit, mib()), bytes, SegmentKind::Complete));
            assert!(matches!(refused, (at, Reason::RecordLength(_)) if at == offset as u64), "{refused:?}");
            bytes[offset + byte] ^= 1 << bit;
        }
    }
}

#[test]
fn r04_a_record_may_end_exactly_with_the_segment() {
    let mut wal = Wal::new();
    wal.fill_up_to(104);
    wal.filler(100);
    assert_eq!(wal.bytes.len(), 1 << 20);
    let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
    assert_eq!((summary.end, summary.unfinished), (Some(wal.start + (1 << 20)), None));
    assert!(summary.is_covered());
}

#[test]
fn r04_a_lower_check_takes_what_cannot_be_read() {
    let lower = |wal: &Wal, bytes: &[u8]| {
        check_segment(wal.name(), mib(), Some(SYSTEM), bytes, Check::Header, SegmentKind::Complete)
    };
    let wal = switched();
    let mut encrypted = wal.bytes.clone();
    for byte in &mut encrypted[PAGE..] {
        *byte ^= 0xC3;
    }
    let summary = lower(&wal, &encrypted).unwrap();
    assert!(summary.records > 0 && !summary.is_covered());
    assert_eq!(
        lower(&wal, &wal.bytes).unwrap(),
        check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap()
    );
    let mut later = wal.bytes.clone();
    later[0] = 0xFF;
    let summary = lower(&wal, &later).unwrap();
    assert_eq!((summary.pg_version, summary.page_magic, summary.records), (None, 0xD1FF, 0));
    assert_eq!(reason(check(wal.name(), &later, SegmentKind::Complete)), (0, Reason::Magic(0xD1FF)));
    assert!(lower(&wal, &wal.bytes[1..]).is_err());
    later[24] ^= 1;
    assert!(lower(&wal, &later).is_err(), "another cluster's");
}

#[test]
fn r04_a_record_of_unknown_layout_is_refused() {
    let mut wal = Wal::new();
    wal.record(rmgr::TRANSACTION, 0x00, 4, &[1, 2, 3]);
    wal.switch();
    assert!(matches!(
        reason(check(wal.name(), &wal.bytes, SegmentKind::Complete)),
        (40, Reason::Layout { .. })
    ));
}

#[test]
fn r04_extensions_records_are_taken_from_15_on() {
    for (version, custom, taken) in [
        (PgVersion::V14, 128, false),
        (PgVersion::V15, 128, true),
        (PgVersion::V18, 255, true),
        (PgVersion::V18, 22, false),
    ] {
        let mut wal = Wal { version, ..Wal::new() };
        wal.record(custom, 0, 4, &[1, 2, 3]);
        wal.switch();
        let result = check(wal.name(), &wal.bytes, SegmentKind::Complete);
        assert_eq!(result.is_ok(), taken, "{version}, resource manager {custom}: {result:?}");
    }
}

#[test]
fn r04_page_sizes_other_than_8_kib_are_read() {
    // A server built with another WAL block size can't be had; its first page header must at least not mislead.
    let mut wal = switched();
    wal.bytes[36..40].copy_from_slice(&3000_u32.to_le_bytes());
    assert_eq!(reason(check(wal.name(), &wal.bytes, SegmentKind::Complete)), (0, Reason::PageSize(3000)));
    wal.bytes[36..40].copy_from_slice(&16_384_u32.to_le_bytes());
    assert!(check(wal.name(), &wal.bytes, SegmentKind::Complete).is_err());
}

#[test]
fn r04_a_length_out_of_bounds_allocates_nothing() {
    let mut wal = Wal::new();
    wal.commit(1, 2);
    let record = wal.position();
    wal.raw(
        &[&0x3FFF_FFFF_u32.to_le_bytes()[..], &[0; 4], &wal.last.0.to_le_bytes(), &[0, 1, 0, 0], &[0; 4]]
            .concat(),
    );
    wal.zeros();
    let refused = reason(check(wal.name(), &wal.bytes, SegmentKind::Complete));
    assert_eq!(refused.0, PAGE as u64, "the next page doesn't go on with it");
    let offset = record.bytes_since(wal.start) as usize;
    wal.bytes[offset + 3] = 0x40;
    let refused = reason(check(wal.name(), &wal.bytes, SegmentKind::Complete));
    assert_eq!(refused, (offset as u64, Reason::RecordLength(0x40FF_FFFF)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn r04_a_changed_segment_gives_the_same_summary_or_a_refusal(
        at in 0usize..1 << 20, bit in 0u32..8, length in 1usize..3 * PAGE,
    ) {
        let wal = switched();
        let summary = check(wal.name(), &wal.bytes, SegmentKind::Complete).unwrap();
        let mut bytes = wal.bytes.clone();
        bytes[at] ^= 1 << bit;
        if let Ok(found) = check(wal.name(), &bytes, SegmentKind::Complete) {
            prop_assert_eq!(&found, &summary);
        }
        let mut bytes = wal.bytes.clone();
        let end = (at + length).min(bytes.len());
        bytes[at..end].fill(0);
        if let Ok(found) = check(wal.name(), &bytes, SegmentKind::Complete) {
            prop_assert_eq!(found, summary);
        }
    }

    #[test]
    fn r04_arbitrary_bytes_behind_a_good_header_never_panic(seed in proptest::collection::vec(any::<u8>(), 1..500)) {
        let mut wal = Wal::new();
        wal.page_header(0, 0);
        let rest = (1 << 20) - wal.bytes.len();
        let bytes: Vec<u8> = wal.bytes.iter().chain(seed.iter().cycle().take(rest)).copied().collect();
        let _ = check(wal.name(), &bytes, SegmentKind::Complete);
        prop_assert!(check(wal.name(), &bytes, SegmentKind::Partial).is_ok());
    }

    #[test]
    fn record_bodies_of_arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200), info: u8, rmgr in 0u8..12) {
        for version in PgVersion::ALL {
            let header = RecordHeader { length: 0, xid: 1, previous: Lsn(0), info, rmgr, crc: 0 };
            let _ = Kind::decode(version, &header, &body);
            let _ = Kind::decode(version, &header, &with_main(&body));
        }
    }
}

#[test]
fn r07_the_first_page_alone_tells_which_segment_it_is() {
    let wal = switched();
    let page = |name, system| check_first_page(name, mib(), Some(system), &wal.bytes[..64]);
    assert_eq!(page(wal.name(), SYSTEM), Ok(()));
    let next = page(wal.name().next(mib()), SYSTEM).unwrap_err();
    assert_eq!(next.reason, Reason::PageAddress { found: wal.start });
    let other = page(wal.name(), SystemId(1)).unwrap_err();
    assert_eq!(other.reason, Reason::SystemId { found: SYSTEM, expected: SystemId(1) });
    assert!(check_first_page(wal.name(), SegmentSize::DEFAULT, None, &wal.bytes[..64]).is_err());
    assert!(check_first_page(wal.name(), mib(), None, &wal.bytes[..39]).is_err());
}

#[test]
fn r04_in_pieces_it_is_the_same_segment() {
    let complete = switched();
    let mut unfinished = Wal::new();
    unfinished.filler(mib().bytes() as usize * 3 / 4);
    unfinished.filler(mib().bytes() as usize / 2);
    let mut short = switched();
    let length = short.bytes.len();
    short.bytes[length / 3..].fill(0);
    for (wal, bytes) in [
        (&complete, complete.bytes.clone()),
        (&unfinished, unfinished.bytes.clone()),
        (&short, short.bytes.clone()),
    ] {
        let bytes = &bytes[..(mib().bytes() as usize).min(bytes.len())];
        for kind in
            [SegmentKind::Complete, SegmentKind::Partial, SegmentKind::Ended(wal.start + 3 * PAGE as u64)]
        {
            let whole = check_segment(wal.name(), mib(), Some(SYSTEM), bytes, Check::Full, kind);
            for pages in [1, 3, 127, 128] {
                let check =
                    SegmentCheck::new(wal.name(), mib(), Some(SYSTEM), bytes.len() as u64, Check::Full, kind);
                let in_pieces = check.and_then(|mut check| {
                    bytes.chunks(pages * PAGE).for_each(|piece| check.push(piece));
                    check.finish()
                });
                assert_eq!(in_pieces, whole, "{kind:?}, {pages} pages at a time");
            }
        }
    }
    let check =
        SegmentCheck::new(complete.name(), mib(), None, mib().bytes(), Check::Full, SegmentKind::Complete);
    let mut check = check.unwrap();
    check.push(&complete.bytes[..PAGE]);
    assert!(matches!(check.finish().unwrap_err().reason, Reason::Length { found: 8192, .. }));
}
