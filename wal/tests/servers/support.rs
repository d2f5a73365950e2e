//! Real WAL for the tests: a server that does everything that matters, its archive, and what `pg_waldump` says of it.

use std::path::{Path, PathBuf};

use highwater_tests::{Postgres, Program, client_program};
use highwater_wal::{
    Check, Lsn, Refusal, SegmentKind, SegmentName, SegmentSize, Summary, WalFile, check_segment,
};

/// Copies into the folder `archive` beside the data directory.
pub const ARCHIVE_COMMAND: &str = "mkdir -p ../archive && cp %p ../archive/%f";

/// What [`ARCHIVE_COMMAND`] has copied, by name.
pub fn archived(folder: &Path) -> Vec<(WalFile, PathBuf)> {
    let entries = folder.join("archive").read_dir().expect("something was archived");
    let path = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path();
    let mut files: Vec<_> = entries.map(path).map(|path| (name_of(&path), path)).collect();
    files.sort();
    files
}

/// The archived segments of one timeline, in order.
pub fn archived_segments(folder: &Path, timeline: u32) -> Vec<(SegmentName, PathBuf)> {
    let segment = |(file, path)| match file {
        WalFile::Segment(name) if name.timeline.get() == timeline => Some((name, path)),
        _ => None,
    };
    archived(folder).into_iter().filter_map(segment).collect()
}

pub fn name_of(path: &Path) -> WalFile {
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// A segment that is as long as its cluster's are.
pub fn check(name: SegmentName, bytes: &[u8], kind: SegmentKind) -> Result<Summary, Refusal> {
    let size = SegmentSize::new(bytes.len() as u64).unwrap();
    check_segment(name, size, None, bytes, Check::Full, kind)
}

/// Everything that the records of interest come from: commits, subtransactions, prepared transactions, records over
/// many pages, full-page images, drops, truncations, restore points, switches.
pub fn exercise(server: &Postgres) {
    server.sql("create table t (n int primary key, word text)");
    server.sql("insert into t select n, repeat(md5(n::text), 3) from generate_series(1, 4000) n");
    let mut session = server.session();
    for round in 1..=30 {
        session.rows(&format!(
            "begin; insert into t values (-{round}, 'kept'); savepoint a; insert into t values (-1000 - {round}, 'lost');
             rollback to a; insert into t values (-2000 - {round}, 'kept'); release a; commit"
        ));
    }
    session.rows("begin; insert into t values (-5000, ''); prepare transaction 'one'");
    session.rows("begin; insert into t values (-5001, ''); prepare transaction 'two'");
    session.rows("insert into t values (-5002, '')");
    session.rows("commit prepared 'two'");
    session.rows("rollback prepared 'one'");
    session.rows("begin; insert into t values (-5003, ''); rollback");
    server.sql("select pg_create_restore_point('before the switch')");
    session.rows("begin; create table made_and_cut (n int); truncate made_and_cut; commit");
    session.rows("begin; create table never (n int); rollback");
    server.sql("select pg_switch_wal()");
    server.sql("checkpoint");
    server.sql("update t set word = word || '!'");
    server.sql("create table dropped as select * from t; create index on dropped (word)");
    session.rows("begin; drop table dropped; prepare transaction 'three'");
    session.rows("commit prepared 'three'");
    server.sql("create table emptied as select * from t");
    server.sql("truncate emptied");
    server.sql("select pg_logical_emit_message(false, 'test', repeat('x', 3000000))");
    let subtransactions: String =
        (1..=300).map(|n| format!("savepoint s{n}; insert into t values ({}, ''); ", 100_000 + n)).collect();
    session.rows(&format!("begin; {subtransactions} commit"));
    server.sql("delete from t where n > 50");
    session.rows("vacuum t");
    session.rows("vacuum full t");
    server.sql("checkpoint");
    server.sql("update t set word = word || '?'");
    server.archive_now();
}

/// A line of `pg_waldump`.
#[derive(Debug)]
pub struct Dumped {
    pub rmgr: String,
    pub record_length: usize,
    pub total_length: usize,
    pub xid: u32,
    pub lsn: Lsn,
    pub previous: Lsn,
    pub description: String,
}

/// What `pg_waldump` of this version prints for a segment, or from one segment to another.
pub fn dump(version: u32, segments: &[&Path]) -> Vec<Dumped> {
    let output =
        Program::new(client_program(version, "pg_waldump"), segments).env("TZ", "UTC").as_tester().run();
    output.stdout.lines().map(dumped_line).collect()
}

/// `rmgr: Heap        len (rec/tot):     54/   150, tx:        740, lsn: 0/0167E8F8, prev 0/0167E8C0, desc: …`
fn dumped_line(line: &str) -> Dumped {
    let after = |text: &str| {
        let at = line.find(text).unwrap_or_else(|| panic!("no {text:?} in {line}"));
        line[at + text.len()..].trim_start()
    };
    let word = |text: &str| after(text).split([' ', ',']).next().unwrap().to_owned();
    let (record, total) = after("len (rec/tot):").split_once('/').unwrap();
    Dumped {
        rmgr: word("rmgr:"),
        record_length: record.trim().parse().unwrap(),
        total_length: total.split(',').next().unwrap().trim().parse().unwrap(),
        xid: word("tx:").parse().unwrap(),
        lsn: word("lsn:").parse().unwrap(),
        previous: word("prev").parse().unwrap(),
        description: after("desc:").to_owned(),
    }
}

impl Dumped {
    /// The word that names the record, as in `COMMIT`.
    pub fn name(&self) -> &str {
        self.description.split(' ').next().unwrap()
    }

    /// Whether it is a record of this resource manager and name.
    pub fn is(&self, rmgr: &str, names: &[&str]) -> bool {
        self.rmgr == rmgr && names.contains(&self.name())
    }

    pub fn commits(&self) -> bool {
        self.is("Transaction", &["COMMIT", "COMMIT_PREPARED"])
    }

    pub fn aborts(&self) -> bool {
        self.is("Transaction", &["ABORT", "ABORT_PREPARED"])
    }

    /// The transaction that a commit or abort ends: a prepared one's number stands in front of the time.
    pub fn finished_xid(&self) -> u32 {
        let second = self.description.split(' ').nth(1).unwrap();
        second.strip_suffix(':').map_or(self.xid, |xid| xid.parse().unwrap())
    }

    /// The first time in the description, as RFC 3339.
    pub fn time(&self) -> String {
        let words: Vec<_> = self.description.split([' ', ';']).collect();
        let at = words.iter().position(|word| *word == "UTC").unwrap();
        format!("{}T{}Z", words[at - 2], words[at - 1])
    }

    /// The files in `rels: base/5/16384 base/5/16387`, as tablespace, database, file.
    pub fn dropped(&self) -> Vec<(u32, u32, u32)> {
        let Some(rest) = self.description.split("rels: ").nth(1) else { return Vec::new() };
        let file = |path: &str| {
            let parts: Vec<_> = path.strip_prefix("base/").unwrap().split('/').collect();
            (1663, parts[0].parse().unwrap(), parts[1].parse().unwrap())
        };
        rest.split(';').next().unwrap().split_whitespace().map(file).collect()
    }
}
