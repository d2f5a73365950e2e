//! Segments of real servers: what this crate reads in them is what `pg_waldump` reads in them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{ARCHIVE_COMMAND, Dumped, archived_segments, check, dump, exercise};
use highwater_tests::{Postgres, StopMode};
use highwater_wal::{Kind, Records, SegmentKind, SegmentName, SegmentSize, Summary, rmgr};

/// A cluster's archive after everything that matters has happened, and the server's folder with it.
fn archive(version: u32, segment_size_mb: u32, settings: &[(&str, &str)]) -> Postgres {
    let mut builder = Postgres::builder().version(version).wal_segment_size_mb(segment_size_mb);
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    let server = builder.archive_command(ARCHIVE_COMMAND).start();
    exercise(&server);
    server.stop(StopMode::Fast);
    server
}

/// Compares every archived segment by itself, then all of them as one stream. Answers how many records ran over a
/// segment's end.
fn compare(server: &Postgres) -> usize {
    let segments = archived_segments(server.folder(), 1);
    let mut seen = BTreeSet::new();
    for (name, path) in &segments {
        let bytes = std::fs::read(path).unwrap();
        let summary = check(*name, &bytes, SegmentKind::Complete).unwrap();
        let lines = dump(server.version(), &[path]);
        compare_segment(&summary, &lines);
        seen.extend(lines.iter().map(|line| format!("{} {}", line.rmgr, line.name())));
    }
    for expected in [
        "Transaction COMMIT",
        "Transaction ABORT",
        "Transaction COMMIT_PREPARED",
        "Transaction ABORT_PREPARED",
        "Storage TRUNCATE",
        "XLOG CHECKPOINT_ONLINE",
        "XLOG CHECKPOINT_SHUTDOWN",
        "XLOG RESTORE_POINT",
        "XLOG SWITCH",
        "XLOG FPI",
        "LogicalMessage MESSAGE",
    ] {
        assert!(seen.contains(expected), "the servers wrote no {expected}: {seen:?}");
    }
    compare_stream(server.version(), &segments)
}

pub fn compare_segment(summary: &Summary, lines: &[Dumped]) {
    assert_eq!(summary.records, lines.len() as u64, "{}", summary.start);
    assert_eq!(summary.first_record, lines.first().map(|line| line.lsn));
    assert_eq!(summary.last_record, lines.last().map(|line| line.lsn));
    assert_eq!(summary.left_out, 0);
    let commits: Vec<_> = lines.iter().filter(|line| line.commits()).collect();
    assert_eq!(summary.commits, commits.len() as u64);
    for (point, line) in [(summary.first_commit, commits.first()), (summary.last_commit, commits.last())] {
        assert_eq!(point.map(|p| (p.lsn, p.xid)), line.map(|line| (line.lsn, line.finished_xid())));
        assert_eq!(point.map(|p| p.time.to_string()), line.map(|line| line.time()));
    }
    let aborts = lines.iter().filter(|line| line.aborts());
    assert_eq!(summary.aborts, aborts.clone().count() as u64);
    let finished: Vec<_> = commits.iter().copied().chain(aborts).collect();
    assert_eq!(summary.min_time.map(|time| time.to_string()), finished.iter().map(|line| line.time()).min());
    assert_eq!(summary.max_time.map(|time| time.to_string()), finished.iter().map(|line| line.time()).max());
    assert_eq!(summary.min_xid, finished.iter().map(|line| line.finished_xid()).min());
    assert_eq!(summary.max_xid, finished.iter().map(|line| line.finished_xid()).max());
    let named = |rmgr, names: &[&str]| lines.iter().filter(|line| line.is(rmgr, names)).collect::<Vec<_>>();
    let checkpoints = named("XLOG", &["CHECKPOINT_ONLINE", "CHECKPOINT_SHUTDOWN"]);
    assert_eq!(summary.checkpoints.len(), checkpoints.len());
    for (point, line) in summary.checkpoints.iter().zip(checkpoints) {
        assert_eq!((point.lsn, point.shutdown), (line.lsn, line.name() == "CHECKPOINT_SHUTDOWN"));
        let redo = line.description.split([' ', ';']).nth(2).unwrap();
        assert_eq!(point.redo, redo.parse().unwrap());
        assert!(line.description.contains(&format!("tli {};", point.timeline)));
    }
    let points: Vec<_> =
        summary.restore_points.iter().map(|p| (p.lsn, format!("RESTORE_POINT {}", p.name))).collect();
    let lines_of_points = named("XLOG", &["RESTORE_POINT"]);
    assert_eq!(points, lines_of_points.iter().map(|l| (l.lsn, l.description.clone())).collect::<Vec<_>>());
    assert_eq!(summary.switch, named("XLOG", &["SWITCH"]).last().map(|line| line.lsn));
    let overwritten: Vec<_> = summary.overwritten.iter().map(|o| o.lsn).collect();
    assert_eq!(
        overwritten,
        named("XLOG", &["OVERWRITE_CONTRECORD"]).iter().map(|l| l.lsn).collect::<Vec<_>>()
    );
    let dropped = summary.dropped.iter().filter(|drop| !drop.truncated);
    let dropped: Vec<_> = dropped.map(|d| (d.lsn, (d.tablespace, d.database, d.relation))).collect();
    let expected = commits.iter().flat_map(|line| line.dropped().into_iter().map(|file| (line.lsn, file)));
    assert_eq!(dropped, expected.collect::<Vec<_>>());
    let created = summary.created.iter().map(|c| (c.lsn, format!("base/{}/{}", c.database, c.relation)));
    let lines = named("Storage", &["CREATE"]);
    let expected = lines.iter().map(|line| (line.lsn, line.description.replace("CREATE ", "")));
    let main_forks = expected.filter(|(_, path)| !path.contains('_'));
    assert_eq!(created.collect::<Vec<_>>(), main_forks.collect::<Vec<_>>());
}

/// Every record of all segments together, those over borders too, header by header and body by body.
pub fn compare_stream(version: u32, segments: &[(SegmentName, std::path::PathBuf)]) -> usize {
    let (first, last) = (segments.first().unwrap(), segments.last().unwrap());
    let lines = dump(version, &[&first.1, Path::new(last.1.file_name().unwrap())]);
    let size = std::fs::metadata(&first.1).unwrap().len();
    let mut records = Records::new(SegmentSize::new(size).unwrap(), None);
    let mut expected = lines.iter();
    let mut over_borders = 0;
    for (name, path) in segments {
        records.push_segment(*name, std::fs::read(path).unwrap()).unwrap();
        while let Some(record) = records.next_raw() {
            let record = record.unwrap();
            let line = expected.next().expect("pg_waldump ends before");
            assert_eq!((record.lsn, record.header.previous), (line.lsn, line.previous));
            assert_eq!(record.header.length as usize, line.total_length, "{line:?}");
            assert_eq!((record.header.xid, &*rmgr::name(record.header.rmgr)), (line.xid, &line.rmgr[..]));
            let images = record.parts().unwrap().image_length();
            assert_eq!(images, line.total_length - line.record_length, "{line:?}");
            let kind = record.kind().unwrap();
            assert_eq!(matches!(kind, Kind::Commit(_)), line.commits(), "{line:?}");
            assert_eq!(matches!(kind, Kind::Abort(_)), line.aborts(), "{line:?}");
            if let Kind::Commit(finished) | Kind::Abort(finished) = kind {
                assert_eq!((finished.time.to_string(), finished.xid), (line.time(), line.finished_xid()));
                let files = finished.dropped.iter().map(|f| (f.tablespace, f.database, f.relation));
                assert_eq!(files.collect::<Vec<_>>(), line.dropped(), "{line:?}");
            }
            over_borders += usize::from(record.lsn.0 / size != (record.end.0 - 1) / size);
        }
    }
    assert_eq!(expected.count(), 0, "pg_waldump goes on");
    over_borders
}

#[test]
fn full_page_images_as_they_are_in_large_segments() {
    compare(&archive(15, 16, &[("wal_compression", "off")]));
}

#[test]
fn full_page_images_with_pglz_in_the_smallest_segments() {
    assert!(compare(&archive(15, 1, &[("wal_compression", "pglz")])) > 3);
}

#[test]
fn full_page_images_with_lz4_and_logical_decoding() {
    assert!(compare(&archive(15, 1, &[("wal_compression", "lz4"), ("wal_level", "logical")])) > 3);
}

#[test]
fn full_page_images_with_zstd_and_consistency_checks() {
    compare(&archive(15, 2, &[("wal_compression", "zstd"), ("wal_consistency_checking", "all")]));
}

#[test]
fn postgresql_18() {
    assert!(compare(&archive(18, 1, &[("wal_compression", "pglz")])) > 3);
    compare(&archive(18, 4, &[("wal_level", "logical")]));
}
