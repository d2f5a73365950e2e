//! Records laid out byte by byte, as the headers of PostgreSQL 14 to 18 have them.

use super::*;
use crate::record::RecordHeader;
use crate::testing::{fields, relation_file, with_main};
use crate::{Lsn, PgVersion};

const FILE: RelationFile = RelationFile { tablespace: 1663, database: 5, relation: 16384 };

fn changes_by(version: PgVersion, rmgr: u8, info: u8, xid: u32, body: &[u8]) -> Option<Vec<Change>> {
    let header = RecordHeader { length: 24 + body.len() as u32, xid, previous: Lsn(8), info, rmgr, crc: 0 };
    let mut found = Vec::new();
    let record = RawRecord { lsn: Lsn(64), end: Lsn(128), header, version, body };
    record.changes(|change| found.push(change)).map(|()| found)
}

fn changes(rmgr: u8, info: u8, body: &[u8]) -> Option<Vec<Change>> {
    changes_by(PgVersion::V15, rmgr, info, 9, body)
}

/// A body about block 3 of [`FILE`], without data or image.
fn with_block(main: &[u8]) -> Vec<u8> {
    let relation = relation_file(FILE);
    fields(&[&[0, 0, 0, 0], &relation, &3_u32.to_le_bytes(), &with_main(main)])
}

fn rows(inserted: u32, updated: u32, deleted: u32) -> Option<Vec<Change>> {
    Some(vec![Change::Rows { relation: FILE, inserted, updated, deleted }])
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn rows_are_counted_by_opcode_and_flags() {
    let insert = |flags| with_block(&[1, 0, flags]);
    let delete = |flags| with_block(&[9, 0, 0, 0, 1, 0, 0, flags]);
    for info in [0x00, 0x80] {
        assert_eq!(changes(rmgr::HEAP, info, &insert(0b1000)), rows(1, 0, 0));
        assert_eq!(changes(rmgr::HEAP, info, &insert(0b0100)), Some(vec![]), "speculative: not yet");
    }
    assert_eq!(changes(rmgr::HEAP, 0x50, &with_block(&[1, 0])), rows(1, 0, 0), "and now confirmed");
    assert_eq!(changes(rmgr::HEAP, 0x10, &delete(0)), rows(0, 0, 1));
    assert_eq!(changes(rmgr::HEAP, 0x10, &delete(0b0_1000)), Some(vec![]), "it met a conflict");
    assert_eq!(changes(rmgr::HEAP, 0x10, &delete(0b1_0000)), rows(0, 0, 1), "moved to a partition");
    for info in [0x20, 0xA0, 0x40, 0xC0] {
        assert_eq!(changes(rmgr::HEAP, info, &with_block(&[0; 14])), rows(0, 1, 0));
    }
    for info in [0x60, 0x70] {
        assert_eq!(changes(rmgr::HEAP, info, &with_block(&[0; 8])), Some(vec![]), "lock, in place");
    }
    for info in [0x50, 0xD0] {
        let many = with_block(&[0, 0, 44, 1, 1, 0, 2, 0]);
        assert_eq!(changes(rmgr::HEAP2, info, &many), rows(300, 0, 0));
    }
    for info in [0x00, 0x10, 0x20, 0x30, 0x40, 0x60, 0x70] {
        assert_eq!(changes(rmgr::HEAP2, info, &with_block(&[0; 8])), Some(vec![]));
    }
}

#[test]
fn what_is_cut_short_is_not_counted() {
    assert_eq!(changes(rmgr::HEAP, 0x00, &with_block(&[1, 0])), None);
    assert_eq!(changes(rmgr::HEAP, 0x10, &with_block(&[1, 0, 0])), None);
    assert_eq!(changes(rmgr::HEAP, 0x00, &with_main(&[1, 0, 0])), None, "no block");
    assert_eq!(changes(rmgr::HEAP2, 0x50, &with_block(&[0])), None);
    assert_eq!(changes(rmgr::STANDBY, 0x10, &with_main(&words(&[3, 0, 0, 9, 8, 7, 1, 2]))), None);
    assert_eq!(changes(rmgr::RELATION_MAP, 0, &with_main(&words(&[5, 1663, 8, 0x59_2717, 1]))), None);
    assert_eq!(changes(rmgr::RELATION_MAP, 0, &with_main(&words(&[5, 1663, 8, 0x59_2718, 0]))), None);
}

#[test]
fn files_are_made_and_cut() {
    let create = |fork: u32| with_main(&fields(&[&relation_file(FILE), &fork.to_le_bytes()]));
    let created = Some(vec![Change::Created { relation: FILE }]);
    assert_eq!(changes(rmgr::STORAGE, 0x10, &create(0)), created);
    assert_eq!(changes(rmgr::STORAGE, 0x10, &create(3)), Some(vec![]), "an unlogged table's init fork");
    let cut = |forks: u32| with_main(&fields(&[&words(&[7]), &relation_file(FILE), &words(&[forks])]));
    let expected = Some(vec![Change::Cut { relation: FILE, blocks: 7 }]);
    assert_eq!(changes(rmgr::STORAGE, 0x20, &cut(7)), expected);
    assert_eq!(changes(rmgr::STORAGE, 0x20, &cut(6)), Some(vec![]));
    let truncate = with_main(&words(&[5, 2, 0, 16384, 16390]));
    let expected = Some(vec![Change::Truncated { database: 5, relations: vec![16384, 16390] }]);
    assert_eq!(changes(rmgr::HEAP, 0x30, &truncate), expected);
}

#[test]
fn databases_come_move_and_go() {
    let made = |database, copied_from| {
        Some(vec![Change::DatabaseCreated { database, tablespace: 1663, copied_from }])
    };
    let copied = with_main(&words(&[20_000, 1663, 1, 1664]));
    let moved = with_main(&words(&[20_000, 1663, 20_000, 1700]));
    let dropped = with_main(&words(&[20_000, 2, 1663, 1700]));
    let gone = Some(vec![Change::DatabaseDropped { database: 20_000, tablespaces: vec![1663, 1700] }]);
    for version in PgVersion::ALL {
        let changes = |info, xid, body| changes_by(version, rmgr::DATABASE, info, xid, body);
        assert_eq!(changes(0x00, 9, &copied), made(20_000, Some(1)));
        let expected = Change::DatabaseMoved { database: 20_000, from: 1700, to: 1663 };
        assert_eq!(changes(0x00, 9, &moved), Some(vec![expected]));
        let drop = if version == PgVersion::V14 { 0x10 } else { 0x20 };
        assert_eq!(changes(drop, 9, &dropped), gone);
        assert_eq!(changes(drop, 0, &dropped), Some(vec![]), "the old files of a database that moved");
    }
    let logged = with_main(&words(&[20_000, 1663]));
    assert_eq!(changes(rmgr::DATABASE, 0x10, &logged), made(20_000, None));
    let tablespace = with_main(&fields(&[&words(&[1700]), b"/srv/fast\0"]));
    let expected = Some(vec![Change::TablespaceCreated { tablespace: 1700 }]);
    assert_eq!(changes(rmgr::TABLESPACE, 0x00, &tablespace), expected);
    let expected = Some(vec![Change::TablespaceDropped { tablespace: 1700 }]);
    assert_eq!(changes(rmgr::TABLESPACE, 0x10, &with_main(&words(&[1700]))), expected);
}

#[test]
fn the_relation_map_is_read_at_both_lengths() {
    for length in [512, 524] {
        let mut map = words(&[0x59_2717, 2, 1259, 17_000, 1249, 1249]);
        map.resize(length, 0);
        let update = with_main(&fields(&[&words(&[5, 1663, length as u32]), &map]));
        let expected =
            Change::RelationMap { database: 5, tablespace: 1663, files: vec![(1259, 17_000), (1249, 1249)] };
        assert_eq!(changes(rmgr::RELATION_MAP, 0x00, &update), Some(vec![expected]));
    }
}

#[test]
fn transactions_and_their_parts() {
    let assigned = with_main(&words(&[700, 2, 701, 702]));
    let expected = Some(vec![Change::Subtransactions { top: 700, xids: vec![701, 702] }]);
    assert_eq!(changes(rmgr::TRANSACTION, 0x50, &assigned), expected);
    let running = with_main(&words(&[2, 1, 1, 710, 700, 709, 700, 705, 701]));
    let expected = Change::Running { next: 710, oldest: 700, xids: vec![700, 705, 701], overflowed: true };
    assert_eq!(changes(rmgr::STANDBY, 0x10, &running), Some(vec![expected]));
    for (version, length, name_length) in [(PgVersion::V14, 64, 46), (PgVersion::V15, 72, 54)] {
        let mut main = words(&[0x57F9_4534, 200, 700]);
        main.resize(length, 0);
        main[name_length] = 5;
        main.extend_from_slice(b"half\0junk");
        let found = changes_by(version, rmgr::TRANSACTION, 0x10, 700, &with_main(&main));
        assert_eq!(found, Some(vec![Change::Prepared { xid: 700, name: "half".to_owned() }]));
    }
}
