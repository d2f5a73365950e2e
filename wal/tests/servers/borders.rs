//! Records at the very end of a segment, put there on purpose: what servers then write is taken.

use std::fs;

use highwater_tests::{Postgres, StopMode};
use highwater_wal::{Joined, Lsn, SegmentKind, Summary};

use crate::agrees_with_pg_waldump::{compare_segment, compare_stream};
use crate::support::{ARCHIVE_COMMAND, archived_segments, check, dump};

const MIB: u64 = 1 << 20;
/// The server may write a record of its own in between, so that another try is needed.
const TRIES: usize = 20;

fn insert_position(server: &Postgres) -> u64 {
    server.value("select pg_current_wal_insert_lsn()").parse::<Lsn>().unwrap().0
}

fn write(server: &Postgres, length: u64) {
    server.sql(&format!("select pg_logical_emit_message(false, 'x', repeat('y', {length}))"));
}

/// Writes WAL up to `room` bytes before a segment's end.
fn write_up_to(server: &Postgres, room: u64) {
    for _ in 0..TRIES {
        server.sql("select pg_switch_wal()");
        write(server, 1000);
        let before = insert_position(server);
        write(server, 1000);
        // With so many bytes to write, a record takes some more: its header and what alignment adds.
        let overhead = insert_position(server) - before - 1000;
        write(server, MIB - 20_000 - 1000 - insert_position(server) % MIB);
        while insert_position(server) % MIB < MIB - 7000 {
            write(server, 2000);
        }
        let missing = MIB - insert_position(server) % MIB - room;
        write(server, missing - overhead);
        if insert_position(server) % MIB == MIB - room {
            return;
        }
    }
    panic!("no record ended {room} bytes before a segment's end in {TRIES} tries");
}

/// A server on which the query `then` wrote a record so many bytes before a segment's end.
struct Border {
    server: Postgres,
    /// What the query answered.
    answer: String,
    before: Summary,
    behind: Summary,
}

fn archive(version: u32, room: u64, then: &str) -> Border {
    let builder = Postgres::builder().version(version).wal_segment_size_mb(1);
    let server = builder.archive_command(ARCHIVE_COMMAND).start();
    server.sql("create table t (n int)");
    write_up_to(&server, room);
    let border = insert_position(&server).next_multiple_of(MIB);
    let answer = server.value(then);
    server.sql("insert into t values (2)");
    server.archive_now();
    server.stop(StopMode::Fast);
    let segments = archived_segments(server.folder(), 1);
    let mut summaries = Vec::new();
    for (name, path) in &segments {
        let summary = check(*name, &fs::read(path).unwrap(), SegmentKind::Complete);
        summaries.push(summary.unwrap_or_else(|refusal| panic!("{version}, {room} bytes: {refusal}")));
    }
    compare_stream(version, &segments);
    let at = summaries.iter().position(|summary| summary.start == Lsn(border)).unwrap();
    let (before, behind) = (summaries[at - 1].clone(), summaries[at].clone());
    // pg_waldump can't read a segment that holds nothing but the end of a switch record.
    if behind.records > 0 {
        compare_segment(&behind, &dump(version, &[&segments[at].1]));
    }
    Border { server, answer, before, behind }
}

#[test]
fn a_switch_record_that_runs_over_the_border_leaves_the_next_segment_unused() {
    for version in [15, 18] {
        for room in [8, 16] {
            let Border { before, behind, .. } = archive(version, room, "select pg_switch_wal()");
            assert_eq!(before.unfinished.unwrap().remaining, 24 - room as u32);
            assert_eq!((behind.records, behind.continued), (0, 24 - room as u32));
            assert_eq!(behind.switch, before.unfinished.unwrap().lsn);
            assert!(before.is_covered() && behind.is_covered());
        }
    }
}

#[test]
fn a_commit_record_that_runs_over_the_border_is_known_by_its_time() {
    for room in [8, 16, 24, 32] {
        let Border { server, answer: xid, before, behind } = archive(15, room, "select txid_current()");
        assert_eq!(before.unfinished.unwrap().lsn, Some(Lsn(behind.start.0 - room)));
        server.start_again().unwrap();
        let time = server.value(&format!(
            "select to_char(pg_xact_commit_timestamp('{xid}') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        ));
        let Joined::Finish(found) = before.joined_with(&behind) else { panic!("{room}: not told") };
        assert_eq!(found.to_string(), time, "{room} bytes before the end");
    }
}

#[test]
fn a_record_that_ends_with_its_segment_leaves_nothing_to_the_next() {
    let message = "select pg_logical_emit_message(false, '', repeat('y', 46))";
    let Border { before, behind, .. } = archive(15, 104, message);
    assert_eq!((before.end, before.unfinished), (Some(behind.start), None));
    assert!(before.is_covered());
    assert_eq!((behind.continued, behind.first_record), (0, Some(behind.start + 40)));
}
