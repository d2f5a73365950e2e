//! Records laid out byte by byte. What servers write is compared with the servers in the crate's tests.

use super::*;
use crate::change::opcode;
use crate::record::RecordHeader;
use crate::testing::{fields, relation_file, with_main};
use crate::{PgVersion, RawRecord, rmgr};
use proptest::prelude::*;

const CLASS: RelationFile = RelationFile { tablespace: 1663, database: 5, relation: 1259 };

/// Feeds records one behind the other.
struct Feed {
    catalogs: CatalogRows,
    version: PgVersion,
    last: Lsn,
}

impl Feed {
    fn new(version: PgVersion) -> Feed {
        Feed { catalogs: CatalogRows::default(), version, last: Lsn(64) }
    }

    fn feed(&mut self, rmgr: u8, info: u8, body: &[u8]) -> Vec<CatalogRow> {
        let header = RecordHeader { length: 24, xid: 700, previous: self.last, info, rmgr, crc: 0 };
        self.last = self.last + 64;
        let lsn = self.last;
        let mut rows = Vec::new();
        let record = RawRecord { lsn, end: lsn, header, version: self.version, body };
        self.catalogs.feed(&record, |row| rows.push(row));
        rows
    }

    fn insert(&mut self, file: RelationFile, block: u32, number: u16, columns: &[u8]) -> Vec<CatalogRow> {
        let main = fields(&[&number.to_le_bytes(), &[0]]);
        self.feed(rmgr::HEAP, opcode::INSERT, &about(file, block, &logged(columns), &main))
    }

    /// An update on the page that keeps so many bytes at the beginning and at the end.
    fn update(&mut self, old: u16, new: u16, prefix: u16, suffix: u16, columns: &[u8]) -> Vec<CatalogRow> {
        let shared = fields(&[&prefix.to_le_bytes(), &suffix.to_le_bytes()]);
        let data = fields(&[&shared, &logged(columns)]);
        let main = fields(&[&[0; 4], &old.to_le_bytes(), &[0, 0x60], &[0; 4], &new.to_le_bytes()]);
        self.feed(rmgr::HEAP, opcode::HOT_UPDATE, &about(CLASS, 3, &data, &main))
    }
}

fn about(file: RelationFile, block: u32, data: &[u8], main: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16).to_le_bytes();
    let parts = [&[0, 0x20], &length[..], &relation_file(file), &block.to_le_bytes(), &with_main(main)[..2]];
    fields(&[&fields(&parts), data, main])
}

/// A row as it stands in a record, with a null bitmap of one byte.
fn logged(columns: &[u8]) -> Vec<u8> {
    fields(&[&[1, 0, 2, 0, 24], &[0xFF], columns])
}

fn class_row(version: PgVersion, oid: u32, name: &str, file: u32, rewrites: u32) -> Vec<u8> {
    let mut row = oid.to_le_bytes().to_vec();
    row.extend_from_slice(name.as_bytes());
    row.resize(68, 0);
    for number in [2200_u32, 1, 2, 3, 4, file, 0, 0, 0, 0] {
        row.extend_from_slice(&number.to_le_bytes());
    }
    if version == PgVersion::V18 {
        row.extend_from_slice(&[0; 4]);
    }
    row.extend_from_slice(&16_500_u32.to_le_bytes());
    row.extend_from_slice(b"\x01\x00pr");
    row.extend_from_slice(&[0; 12]);
    row.extend_from_slice(&rewrites.to_le_bytes());
    row
}

fn names(rows: &[CatalogRow]) -> Vec<String> {
    let name = |row: &CatalogRow| match row {
        CatalogRow::Class(row) => row.name.clone(),
        CatalogRow::Namespace(row) => row.name.clone(),
        CatalogRow::Untold(row) => row.reason.to_string(),
    };
    rows.iter().map(name).collect()
}

#[test]
fn a_row_is_told_and_completed() {
    for version in PgVersion::ALL {
        let mut feed = Feed::new(version);
        let columns = class_row(version, 16_384, "plain", 16_384, 0);
        let rows = feed.insert(CLASS, 3, 7, &columns);
        let [CatalogRow::Class(row)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.oid, &row.name[..], row.namespace), (16_384, "plain", 2200));
        assert_eq!(row.file, Some(RelationFile { relation: 16_384, ..CLASS }));
        assert_eq!((row.kind, row.persistence, row.toast, row.rewrites), ('r', 'p', 16_500, 0));
        let origin = RowOrigin { lsn: Lsn(128), xid: 700, database: 5, change: RowChange::Inserted };
        assert_eq!(row.origin, origin);
        let rows = feed.update(7, 8, 4, columns.len() as u16 - 9, b"x-ray");
        assert_eq!(names(&rows), ["x-ray"]);
        let rows = feed.update(8, 9, 4, columns.len() as u16 - 5, b"y");
        assert_eq!(names(&rows), ["y-ray"], "of a row that was completed itself");
        // The file's number stands behind the name and five others.
        let rows = feed.update(9, 10, 88, columns.len() as u16 - 92, &17_000_u32.to_le_bytes());
        let [CatalogRow::Class(row)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            [row.file, row.was],
            [17_000, 16_384].map(|relation| Some(RelationFile { relation, ..CLASS }))
        );
    }
}

#[test]
fn a_row_in_whose_place_is_another_is_forgotten() {
    let version = PgVersion::V16;
    let mut feed = Feed::new(version);
    let columns = class_row(version, 16_384, "plain", 16_384, 0);
    feed.insert(CLASS, 3, 7, &columns);
    // It was removed, and what comes into its place was never seen.
    let rows = feed.update(20, 7, 4, 4, b"x");
    assert!(matches!(rows[..], [CatalogRow::Untold(_)]), "{rows:?}");
    let rows = feed.update(7, 8, 4, columns.len() as u16 - 9, b"x-ray");
    assert!(matches!(rows[..], [CatalogRow::Untold(_)]), "{rows:?}");
}

#[test]
fn what_is_not_known_is_said() {
    let untold = |rows: Vec<CatalogRow>| match rows[..] {
        [CatalogRow::Untold(row)] => row.reason,
        _ => panic!("{rows:?}"),
    };
    let mut feed = Feed::new(PgVersion::V15);
    assert_eq!(untold(feed.update(7, 8, 4, 4, b"x")), Untold::NotSeen);
    assert_eq!(untold(feed.insert(CLASS, 3, 7, &[0; 80])), Untold::Layout, "the row is too short");
    assert_eq!(untold(feed.update(7, 8, 81, 0, b"x")), Untold::NotSeen, "more than there was");
    let no_main = about(CLASS, 3, &logged(&[0; 200]), &[1]);
    assert_eq!(untold(feed.feed(rmgr::HEAP, opcode::INSERT, &no_main)), Untold::Layout);
    // An image that can't be unpacked, in a record without data.
    let mut body = fields(&[&[0, 0x10, 0, 0], &5_u16.to_le_bytes(), &[0, 0, 0x0A], &relation_file(CLASS)]);
    body.extend_from_slice(&[3, 0, 0, 0, 255, 3, 9, 9, 9, 9, 9, 1, 0, 0]);
    let reason = untold(feed.feed(rmgr::HEAP, opcode::INSERT, &body));
    assert!(matches!(reason, Untold::Image(_)), "{reason:?}");
    // A bound that holds few rows.
    let mut feed = Feed { catalogs: CatalogRows::within(1000), ..Feed::new(PgVersion::V15) };
    for block in 0..10 {
        feed.insert(CLASS, block, 1, &class_row(PgVersion::V15, 16_384, "t", 0, 0));
    }
    assert_eq!(untold(feed.update(1, 2, 4, 4, b"x")), Untold::Forgotten);
}

#[test]
fn catalogs_are_followed_where_they_go() {
    let version = PgVersion::V16;
    let mut feed = Feed::new(version);
    let schema = |name: &str| {
        let mut row = 20_000_u32.to_le_bytes().to_vec();
        row.extend_from_slice(name.as_bytes());
        row.resize(72, 0);
        row
    };
    let at = |database, relation| RelationFile { tablespace: 1663, database, relation };
    let row = class_row(version, 30_000, "t", 30_000, 0);
    assert_eq!(names(&feed.insert(at(5, 2615), 0, 1, &schema("a"))), ["a"]);
    assert!(feed.insert(at(5, 40_000), 0, 1, &row).is_empty(), "some table");
    // pg_class is copied: the copy's row has no file, which is numbered by its OID then.
    feed.insert(CLASS, 0, 1, &class_row(version, 40_000, "pg_temp_1259", 0, 1259));
    assert_eq!(names(&feed.insert(at(5, 40_000), 0, 1, &row)), ["t"]);
    let map = |file: u32| {
        let map = [5, 1663, 16, 0x59_2717, 1, 1259, file].map(u32::to_le_bytes).concat();
        with_main(&map)
    };
    feed.feed(rmgr::RELATION_MAP, 0, &map(40_000));
    feed.feed(rmgr::DATABASE, 0, &with_main(&[6_u32, 1663, 5, 1663].map(u32::to_le_bytes).concat()));
    assert_eq!(names(&feed.insert(at(6, 40_000), 0, 1, &row)), ["t"], "in the copied database");
    feed.feed(rmgr::RELATION_MAP, 0, &map(50_000));
    assert_eq!(names(&feed.insert(at(5, 50_000), 0, 1, &row)), ["t"]);
    assert!(feed.insert(at(5, 40_000), 0, 1, &row).is_empty(), "moved again");
    // pg_namespace is where its row in pg_class says.
    feed.insert(at(5, 50_000), 0, 2, &class_row(version, 2615, "pg_namespace", 60_000, 0));
    assert_eq!(names(&feed.insert(at(5, 60_000), 0, 1, &schema("b"))), ["b"]);
    feed.feed(rmgr::DATABASE, 0x20, &with_main(&[5_u32, 1, 1663].map(u32::to_le_bytes).concat()));
    assert!(feed.insert(at(5, 60_000), 0, 1, &schema("b")).is_empty(), "the database is gone");
    feed.catalogs.locate(Catalog::Class, at(9, 70_000));
    assert_eq!(names(&feed.insert(at(9, 70_000), 0, 1, &row)), ["t"], "told from elsewhere");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_told_as_unreadable(
        records in prop::collection::vec(
            (any::<u8>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..400), prop::collection::vec(any::<u8>(), 1..20)),
            1..8,
        ),
        version in prop::sample::select(PgVersion::ALL.to_vec()),
    ) {
        let mut feed = Feed::new(version);
        for (info, second, data, main) in records {
            let rmgr = if second { rmgr::HEAP2 } else { rmgr::HEAP };
            feed.feed(rmgr, info & 0xF0, &about(CLASS, 3, &data, &main));
            // The page's image, whatever it is.
            let mut body = fields(&[&[0, 0x10, 0, 0], &8192_u16.to_le_bytes(), &[0, 0, 0], &relation_file(CLASS), &[0; 4]]);
            let begin = body.len();
            body.extend(data.iter().cycle().take(if data.is_empty() { 0 } else { 8192 }));
            body.resize(begin + 8192, 0);
            body[begin + 18..begin + 20].copy_from_slice(&8196_u16.to_le_bytes());
            feed.feed(rmgr::XLOG, 0xB0, &body);
        }
    }
}
