//! Every version's WAL: what this crate reads in it is what the server itself says of it.

use std::collections::BTreeMap;
use std::fs;

use crate::support::exercise;
use highwater_tests::{Postgres, VERSIONS};
use highwater_wal::{Kind, Lsn, PgVersion, Record, Records, SegmentName, SegmentSize, rmgr};

const MIB: u64 = 1 << 20;
const RFC_3339: &str = r#"YYYY-MM-DD"T"HH24:MI:SS.US"Z""#;

fn server(version: u32) -> Postgres {
    // Recycled segments would be gone from pg_wal before they are read.
    let builder =
        Postgres::builder().version(version).wal_segment_size_mb(1).setting("wal_keep_size", "900MB");
    builder.archive_command("true").start()
}

/// The oldest segment that the server still has: initdb's first ones are gone.
fn oldest_segment(server: &Postgres) -> SegmentName {
    let files = server.column("select name from pg_ls_waldir() order by name");
    files.iter().find_map(|file| file.parse().ok()).unwrap()
}

/// All records up to `end`, off the server's own `pg_wal`.
fn records(server: &Postgres, end: Lsn) -> Vec<Record> {
    let size = SegmentSize::new(MIB).unwrap();
    let mut records = Records::new(size, None);
    let mut found = Vec::new();
    let mut name = oldest_segment(server);
    while name.start(size) < end {
        let bytes = fs::read(server.data_dir().join("pg_wal").join(name.to_string())).unwrap();
        // What lies behind the end is old.
        let length = end.bytes_since(name.start(size)).min(MIB) as usize;
        records.push_segment(name, bytes[..length].to_vec()).unwrap();
        found.extend(records.by_ref().map(Result::unwrap));
        name = name.next(size);
    }
    found
}

fn flushed(server: &Postgres) -> Lsn {
    server.value("select pg_current_wal_flush_lsn()").parse().unwrap()
}

#[test]
fn every_version_is_told_by_its_pages_and_agrees_on_commit_times() {
    for version in VERSIONS {
        let server = server(version);
        exercise(&server);
        let records = records(&server, flushed(&server));
        let mut times = BTreeMap::new();
        for record in &records {
            if let Kind::Commit(finished) = &record.kind {
                times.insert(finished.xid, finished.time.to_string());
            }
        }
        let segment = server.data_dir().join("pg_wal").join(oldest_segment(&server).to_string());
        let segment = fs::read(segment).unwrap();
        let magic = u16::from_le_bytes([segment[0], segment[1]]);
        assert_eq!(PgVersion::from_page_magic(magic).map(PgVersion::major), Some(version));
        let xids: Vec<_> = times.keys().map(u32::to_string).collect();
        let known = server.rows(&format!(
            "select x, to_char(pg_xact_commit_timestamp(x::text::xid) at time zone 'UTC', '{RFC_3339}')
             from unnest('{{{}}}'::int[]) x",
            xids.join(",")
        ));
        let mut compared = 0;
        for row in known {
            let (xid, time) = (row[0].as_ref().unwrap().parse::<u32>().unwrap(), row[1].as_ref());
            // initdb's transactions ran without track_commit_timestamp.
            if let Some(time) = time {
                assert_eq!(&times[&xid], time, "{version}: transaction {xid}");
                compared += 1;
            }
        }
        assert!(compared > 40, "{version}: only {compared} commit times were compared");
        let drops = records
            .iter()
            .filter(|r| matches!(&r.kind, Kind::Commit(f) if f.prepared && !f.dropped.is_empty()));
        assert_eq!(drops.count(), 1, "{version}: the table was dropped by a prepared transaction");
    }
}

#[test]
fn pg_walinspect_agrees_on_every_record() {
    // 14 doesn't have it yet.
    for version in VERSIONS.into_iter().filter(|version| *version >= 15) {
        let server = server(version);
        server.sql("create extension pg_walinspect");
        exercise(&server);
        let end = flushed(&server);
        let found = records(&server, end);
        let first = found.first().unwrap().lsn;
        let rows = server.rows(&format!(
            "select start_lsn, end_lsn, prev_lsn, xid, resource_manager, record_length
             from pg_get_wal_records_info('{first}', '{end}')"
        ));
        assert!(rows.len() > 10_000, "{version}: only {} records", rows.len());
        assert_eq!(found.len(), rows.len(), "{version}");
        for (record, row) in found.iter().zip(rows) {
            let column = |index: usize| row[index].as_deref().unwrap();
            assert_eq!(record.lsn, column(0).parse().unwrap(), "{version}");
            assert_eq!(record.end, column(1).parse().unwrap(), "{version}: the end of {}", record.lsn);
            assert_eq!(record.header.previous, column(2).parse().unwrap(), "{version}");
            assert_eq!(record.header.xid.to_string(), column(3), "{version}");
            assert_eq!(rmgr::name(record.header.rmgr), column(4), "{version}");
            assert_eq!(record.header.length.to_string(), column(5), "{version}");
        }
    }
}

#[test]
fn truncate_names_the_relations_for_logical_decoding() {
    for version in VERSIONS {
        let builder =
            Postgres::builder().version(version).wal_segment_size_mb(1).setting("wal_level", "logical");
        let server = builder.setting("wal_keep_size", "900MB").start();
        server.sql("create table t (n int); create table u (n int)");
        server.sql("truncate t, u");
        let oids = server.column("select oid from pg_class where relname in ('t', 'u') order by relname");
        let oids: Vec<u32> = oids.iter().map(|oid| oid.parse().unwrap()).collect();
        let truncated: Vec<_> = records(&server, flushed(&server))
            .into_iter()
            .filter_map(|record| match record.kind {
                Kind::Truncate { relations, .. } => Some(relations),
                _ => None,
            })
            .collect();
        assert_eq!(truncated, [oids], "{version}");
    }
}
