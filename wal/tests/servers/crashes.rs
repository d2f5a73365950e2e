//! What servers leave after they were killed: it is archived, and says what happened.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use highwater_tests::{Postgres, StopMode, VERSIONS, give_to_server_account};
use highwater_wal::{Kind, Lsn, Records, SegmentKind, SegmentName, SegmentSize, Summary, TimelineId};

use crate::agrees_with_pg_waldump::{compare_segment, compare_stream};
use crate::support::{archived_segments, check, dump};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 8192;

/// Archives nothing before the folder is there.
const ARCHIVE_WHEN_TOLD: &str = "test -d ../archive && cp %p ../archive/%f";

fn server(version: u32) -> Postgres {
    let builder = Postgres::builder().version(version).wal_segment_size_mb(1);
    builder.archive_command(ARCHIVE_WHEN_TOLD).start()
}

fn start_archiving(server: &Postgres) {
    let folder = server.folder().join("archive");
    fs::create_dir(&folder).unwrap();
    give_to_server_account(&folder);
}

/// Takes away all WAL from `lsn` on, as a machine does that dies before it was written.
fn lose_wal_from(server: &Postgres, lsn: Lsn) {
    let size = SegmentSize::new(MIB).unwrap();
    let cut = SegmentName::containing(TimelineId::FIRST, lsn, size);
    let wal = server.data_dir().join("pg_wal");
    for entry in wal.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().parse::<SegmentName>().ok() else {
            continue;
        };
        if name >= cut {
            let offset = if name == cut { lsn.0 % MIB } else { 0 };
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&vec![0; (MIB - offset) as usize], offset).unwrap();
            // A segment is marked as ready when all of it is on disk.
            let _ = fs::remove_file(wal.join("archive_status").join(format!("{name}.ready")));
        }
    }
}

/// A server on which a record of 3 MB was cut off, so many bytes behind its segment's start, and its archive.
fn cut_record(version: u32, cut: u64) -> (Postgres, Vec<(SegmentName, PathBuf)>) {
    let server = server(version);
    server.sql("create table t (n int)");
    server.sql("select pg_switch_wal()");
    server.sql("insert into t values (1)");
    let segment = server.value("select pg_current_wal_insert_lsn()").parse::<Lsn>().unwrap().0 / MIB;
    server.sql("select pg_logical_emit_message(false, 'test', repeat('x', 3000000))");
    server.sql("insert into t values (2)");
    server.kill9();
    lose_wal_from(&server, Lsn(segment * MIB + cut));
    start_archiving(&server);
    server.start_again().unwrap();
    assert_eq!(server.column("select n from t"), ["1"]);
    server.sql("insert into t values (3)");
    server.archive_now();
    server.stop(StopMode::Fast);
    let archived = archived_segments(server.folder(), 1);
    (server, archived)
}

fn summaries(segments: &[(SegmentName, PathBuf)]) -> Vec<Summary> {
    let checked = |(name, path): &(SegmentName, PathBuf)| {
        check(*name, &fs::read(path).unwrap(), SegmentKind::Complete)
            .unwrap_or_else(|refusal| panic!("{refusal}"))
    };
    segments.iter().map(checked).collect()
}

#[test]
fn a_record_cut_off_by_a_crash_is_overwritten_in_its_segment_or_the_next() {
    for version in VERSIONS {
        let cuts: &[u64] = if version == 15 { &[20 * PAGE, MIB, MIB + 7 * PAGE] } else { &[MIB] };
        for &cut in cuts {
            let (server, segments) = cut_record(version, cut);
            let summaries = summaries(&segments);
            let overwritten: Vec<_> = summaries.iter().flat_map(|summary| &summary.overwritten).collect();
            assert_eq!(overwritten.len(), 1, "{version}, cut at {cut}");
            let before =
                summaries.iter().find(|s| s.unfinished.is_some_and(|u| u.lsn == Some(overwritten[0].record)));
            assert_eq!(before.is_some(), cut >= MIB, "{version}, cut at {cut}");
            if matches!(version, 15 | 18) {
                for ((_, path), summary) in segments.iter().zip(&summaries) {
                    compare_segment(summary, &dump(version, &[path]));
                }
                compare_stream(version, &segments);
            }
            drop(server);
        }
    }
}

#[test]
fn zeros_where_wal_should_be_are_refused() {
    let server = server(15);
    server.sql("create table t as select generate_series(1, 30000) as n");
    start_archiving(&server);
    server.archive_now();
    server.stop(StopMode::Fast);
    let segments = archived_segments(server.folder(), 1);
    let (name, path) = &segments[0];
    let whole = fs::read(path).unwrap();
    for page in [1, 2, 60, 127] {
        let mut lost = whole.clone();
        lost[page * PAGE as usize..].fill(0);
        let refusal = check(*name, &lost, SegmentKind::Complete).unwrap_err();
        assert!(refusal.to_string().contains("only zeros follow"), "{refusal}");
        assert!(refusal.offset <= page as u64 * PAGE, "{refusal}");
    }
}

/// Writes records of up to some hundred kilobytes until the server is gone.
fn load(mut session: highwater_tests::Session, seed: u64) {
    for round in seed.. {
        let length = round * 7919 % 300_000;
        let message = format!("select pg_logical_emit_message(true, 'load', repeat('x', {length}))");
        let insert = "insert into t select generate_series(1, 50)";
        if session.try_rows(&format!("begin; {insert}; {message}; commit")).is_err() {
            return;
        }
    }
}

#[test]
fn servers_killed_again_and_again_leave_segments_that_are_taken() {
    let server = server(15);
    server.sql("create table t (n int)");
    start_archiving(&server);
    for round in 0..8 {
        let clients = (0..3).map(|client| (server.session(), round * 1000 + client * 97));
        let clients: Vec<_> =
            clients.map(|(session, seed)| thread::spawn(move || load(session, seed))).collect();
        let begun = server.value("select pg_current_wal_lsn()").parse::<Lsn>().unwrap();
        let enough = format!("select pg_current_wal_lsn() - '{begun}' > 3 * {MIB} + {}", round * 100_000);
        server.wait_for(&enough, Duration::from_secs(60));
        if round % 2 == 0 {
            server.kill9()
        } else {
            server.stop(StopMode::Immediate)
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        server.start_again().unwrap();
    }
    server.archive_now();
    server.stop(StopMode::Fast);
    let segments = archived_segments(server.folder(), 1);
    assert!(segments.len() > 24, "only {} segments", segments.len());
    let summaries = summaries(&segments);
    let mut records = Records::new(SegmentSize::new(MIB).unwrap(), None);
    let mut commits = 0;
    for (name, path) in &segments {
        records.push_segment(*name, fs::read(path).unwrap()).unwrap();
        commits += records
            .by_ref()
            .filter(|record| matches!(record.as_ref().unwrap().kind, Kind::Commit(_)))
            .count();
    }
    let over_borders = commits as u64 - summaries.iter().map(|summary| summary.commits).sum::<u64>();
    assert!(over_borders < segments.len() as u64);
    for ((_, path), summary) in segments.iter().zip(&summaries) {
        compare_segment(summary, &dump(15, &[path]));
    }
}
