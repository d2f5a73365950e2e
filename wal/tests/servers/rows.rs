//! Rows changed, per transaction and relation file: what the records say is what was done, and what the servers count.

use std::collections::{BTreeMap, HashMap};

use std::path::Path;

use crate::support::{Dumped, dump};
use crate::wal_of::{builder, oldest_segment, position, read};
use highwater_tests::{PATIENCE, Postgres, Session, VERSIONS, holds_within};
use highwater_wal::{Change, Kind, Lsn, RelationFile, SegmentName, SegmentSize, TimelineId};

/// Inserted, updated, deleted.
type Counts = [u64; 3];

fn add(sum: &mut Counts, more: Counts) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// What a transaction did, in the order of the WAL.
struct Ended {
    committed: bool,
    rows: BTreeMap<RelationFile, Counts>,
}

/// All transactions that ended, each with its subtransactions' rows, rolled back ones' left out.
fn transactions(server: &Postgres, end: Lsn) -> Vec<Ended> {
    let mut pending: HashMap<u32, BTreeMap<RelationFile, Counts>> = HashMap::new();
    let mut ended = Vec::new();
    read(server, end, |record| {
        record
            .changes(|change| {
                if let Change::Rows { relation, inserted, updated, deleted } = change {
                    let counts = [inserted, updated, deleted].map(u64::from);
                    let relations = pending.entry(record.header.xid).or_default();
                    add(relations.entry(relation).or_default(), counts);
                }
            })
            .unwrap();
        let (finished, committed) = match record.kind().unwrap() {
            Kind::Commit(finished) => (finished, true),
            Kind::Abort(finished) => (finished, false),
            _ => return,
        };
        let mut rows: BTreeMap<RelationFile, Counts> = BTreeMap::new();
        for xid in [finished.xid].iter().chain(&finished.subtransactions) {
            for (file, counts) in pending.remove(xid).unwrap_or_default() {
                add(rows.entry(file).or_default(), counts);
            }
        }
        ended.push(Ended { committed, rows });
    });
    ended
}

/// A statement, or several as one transaction, and what it does to each table.
type Step = (&'static str, &'static [(&'static str, Counts)]);

const TABLES: &str =
    "create table t (n int primary key, word text) with (fillfactor = 50, autovacuum_enabled = false);
    create table wide (n int primary key, word text) with (autovacuum_enabled = false);
    alter table wide alter word set storage external;
    create table parts (n int, word text) partition by range (n);
    create table low partition of parts for values from (0) to (100);
    create table high partition of parts for values from (100) to (1000);
    create table parent (n int primary key); create table child (n int references parent on delete cascade)";

const STEPS: &[Step] = &[
    ("insert into t values (0, 'one')", &[("t", [1, 0, 0])]),
    ("insert into t select n, n::text from generate_series(1, 1000) n", &[("t", [1000, 0, 0])]),
    ("copy t from program 'seq -f \"%.0f\tcopied\" 2001 4500'", &[("t", [2500, 0, 0])]),
    ("copy t from program 'seq -f \"%.0f\tone\" 5001 5001'", &[("t", [1, 0, 0])]),
    ("update t set word = word || '!' where n < 300", &[("t", [0, 300, 0])]),
    ("update t set n = -n where n between 1 and 50", &[("t", [0, 50, 0])]),
    ("update t set word = 'hot' where n = 500", &[("t", [0, 1, 0])]),
    ("delete from t where n > 4000", &[("t", [0, 0, 501])]),
    ("begin; insert into t values (6001, ''); savepoint a; insert into t values (6002, ''), (6003, ''); delete from t where n = 500;
      rollback to a; insert into t values (6004, ''); savepoint b; delete from t where n = 501; release b; commit",
     &[("t", [2, 0, 1])]),
    ("begin; insert into t values (6100, ''); select * from t where n < 100 for update; select * from t where n < 200 for share; commit",
     &[("t", [1, 0, 0])]),
    // Conflicts: found before anything is written.
    ("insert into t values (6001, 'again'), (7000, 'new') on conflict do nothing", &[("t", [1, 0, 0])]),
    ("insert into t values (6001, 'again'), (7001, 'new') on conflict (n) do update set word = excluded.word", &[("t", [1, 1, 0])]),
    ("insert into wide select n, repeat(n::text, 3000) from generate_series(1, 20) n", &[("wide", [20, 0, 0])]),
    ("update wide set word = word || 'x' where n < 5", &[("wide", [0, 4, 0])]),
    ("delete from wide where n > 10", &[("wide", [0, 0, 10])]),
    ("insert into parts select n, '' from generate_series(90, 109) n", &[("low", [10, 0, 0]), ("high", [10, 0, 0])]),
    ("update parts set n = 500 + n where n < 95", &[("low", [0, 0, 5]), ("high", [5, 0, 0])]),
    ("update parts set word = 'x' where n < 100", &[("low", [0, 5, 0])]),
    ("insert into parent select generate_series(1, 10); insert into child select n % 10 + 1 from generate_series(1, 50) n",
     &[("parent", [10, 0, 0]), ("child", [50, 0, 0])]),
    ("delete from parent where n <= 2", &[("parent", [0, 0, 2]), ("child", [0, 0, 10])]),
    ("begin; insert into t values (8000, ''); delete from t where n = 7000; rollback", &[]),
    ("begin; insert into t select n, '' from generate_series(9000, 9009) n; savepoint a; delete from t where n = 9000; prepare transaction 'p'", &[]),
    ("commit prepared 'p'", &[("t", [10, 0, 1])]),
    ("begin; insert into t values (9500, ''); prepare transaction 'q'", &[]),
    ("rollback prepared 'q'", &[]),
    ("begin; create table made (n int); insert into made values (1); truncate made; insert into made values (2), (3); commit",
     // The rows before the truncation went into the same file, which was then cut.
     &[("made", [3, 0, 0])]),
    ("begin; truncate made; copy made from program 'seq 1 700' with (freeze); commit", &[("made", [700, 0, 0])]),
    ("create table selected as select * from t where n between 2001 and 2100", &[("selected", [100, 0, 0])]),
    ("alter table selected alter n type bigint", &[("selected", [100, 0, 0])]),
    ("vacuum t", &[]),
    ("vacuum full selected", &[]),
    ("vacuum (freeze) made", &[]),
    ("analyze t", &[]),
];

/// What the steps did that have the same tables at the end as they had: rows by transaction, against what each step says.
fn compare_with_what_was_done(server: &Postgres, done: &[(Step, BTreeMap<String, u32>)], end: Lsn) {
    let ended = transactions(server, end);
    let mut remaining = ended.iter().filter(|ended| ended.committed);
    for ((sql, expected), files) in done {
        let expected: BTreeMap<u32, Counts> =
            expected.iter().map(|(table, counts)| (files[*table], *counts)).collect();
        if expected.is_empty() {
            continue;
        }
        let user = |ended: &Ended| -> BTreeMap<u32, Counts> {
            let known =
                ended.rows.iter().filter(|(file, _)| files.values().any(|known| *known == file.relation));
            known.map(|(file, counts)| (file.relation, *counts)).collect()
        };
        let found = remaining.by_ref().map(user).find(|rows| !rows.is_empty());
        assert_eq!(found, Some(expected), "{}: {sql}", server.version());
    }
}

fn run(server: &Postgres, steps: &[Step]) -> Vec<(Step, BTreeMap<String, u32>)> {
    let mut done = Vec::new();
    let mut session = server.session();
    for step in steps {
        let (sql, _) = *step;
        session.rows(sql);
        done.push((*step, files(&mut session)));
    }
    done
}

/// The files of all tables.
fn files(session: &mut Session) -> BTreeMap<String, u32> {
    let rows = session.rows("select relname, relfilenode from pg_class where relkind = 'r' and oid >= 16384");
    let text = |value: &Option<String>| value.clone().unwrap();
    rows.iter().map(|row| (text(&row[0]), text(&row[1]).parse().unwrap())).collect()
}

/// An index on a function that waits for a lock when it is asked the second time.
const SLOW_INDEX: &str = "create table raced (n int, word text);
    create function slow(n int) returns int language plpgsql immutable as $$
    declare asked int := coalesce(nullif(current_setting('test.asked', true), ''), '0')::int + 1;
    begin
      perform set_config('test.asked', asked::text, false);
      if asked = 2 and current_setting('test.slow', true) = 'on' then
        perform pg_advisory_lock(7); perform pg_advisory_unlock(7);
      end if;
      return n;
    end $$;
    create unique index on raced (slow(n))";

/// A speculative insertion that meets a conflict only once its row is there: looking for conflicts asks the index's function
/// once, entering the row into the index asks it again, and in between another session inserts the same key.
fn compare_a_race(server: &Postgres) {
    let version = server.version();
    server.sql(SLOW_INDEX);
    let mut gate = server.session();
    gate.rows("select pg_advisory_lock(7)");
    std::thread::scope(|scope| {
        let mut slow = server.session();
        scope.spawn(move || {
            slow.rows("set test.slow = 'on'");
            slow.rows("insert into raced values (1, repeat('x', 3000)) on conflict do nothing");
        });
        server.wait_for(
            "select count(*) = 1 from pg_locks where locktype = 'advisory' and not granted",
            PATIENCE,
        );
        server.sql("insert into raced values (1, 'first')");
        gate.rows("select pg_advisory_unlock(7)");
    });
    server.sql("insert into raced values (2, 'second') on conflict do nothing");
    let file: u32 = server.value("select relfilenode from pg_class where relname = 'raced'").parse().unwrap();
    let told = "select (n_tup_ins, n_tup_del) = (3, 1) from pg_stat_all_tables where relname = 'raced'";
    assert!(holds_within(PATIENCE, || server.value(told) == "t"), "{version}: there was no conflict");
    let rows = sums(server, position(server))[&file];
    assert_eq!(rows, [2, 0, 0], "{version}: a conflict is neither an insertion nor a deletion");
}

/// The sum over all records of a file, whatever became of their transactions.
fn sums(server: &Postgres, end: Lsn) -> BTreeMap<u32, Counts> {
    let mut sums: BTreeMap<u32, Counts> = BTreeMap::new();
    read(server, end, |record| {
        let told = record.changes(|change| {
            if let Change::Rows { relation, inserted, updated, deleted } = change {
                add(sums.entry(relation.relation).or_default(), [inserted, updated, deleted].map(u64::from));
            }
        });
        told.unwrap();
    });
    sums
}

/// The server's statistics count what was rolled back, too.
fn compare_with_statistics(server: &Postgres) {
    let sums = sums(server, position(server));
    let tables = server.rows(
        "select c.relname, c.relfilenode from pg_class c where c.relname in ('t', 'wide', 'low', 'high', 'child', 'parent')
         union all
         select c.relname, c.relfilenode from pg_class c join pg_class w on c.oid = w.reltoastrelid where w.relname = 'wide'",
    );
    assert_eq!(tables.len(), 7);
    for row in tables {
        let (name, file) = (row[0].clone().unwrap(), row[1].as_deref().unwrap().parse().unwrap());
        let [inserted, updated, deleted] = sums[&file];
        assert!(inserted > 0, "{name}");
        let told = format!(
            "select (n_tup_ins, n_tup_upd, n_tup_del) = ({inserted}, {updated}, {deleted})
             from pg_stat_all_tables where relname = '{name}'"
        );
        // A session hands its numbers over when it ends, or some time later.
        assert!(
            holds_within(PATIENCE, || server.value(&told) == "t"),
            "{} {name}: {:?}, the server has {:?}",
            server.version(),
            sums[&file],
            server.rows(&format!(
                "select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_all_tables where relname = '{name}'"
            ))
        );
    }
}

/// The same out of what `pg_waldump` prints.
fn compare_with_pg_waldump(server: &Postgres) {
    let end = position(server);
    let pg_wal = server.data_dir().join("pg_wal");
    let first = pg_wal.join(oldest_segment(server).to_string());
    let last = SegmentName::containing(TimelineId::FIRST, Lsn(end.0 - 1), SegmentSize::new(1 << 20).unwrap());
    let mut expected: BTreeMap<(u32, String), Counts> = BTreeMap::new();
    for line in dump(server.version(), &[&first, Path::new(&last.to_string())]) {
        if line.lsn >= end {
            break;
        }
        let counts = dumped_counts(&line);
        if counts != [0; 3] {
            let relation = line.description.split("blkref #0: rel ").nth(1).unwrap();
            let relation = relation.split(' ').next().unwrap().to_owned();
            add(expected.entry((line.xid, relation)).or_default(), counts);
        }
    }
    let mut found: BTreeMap<(u32, String), Counts> = BTreeMap::new();
    read(server, end, |record| {
        let told = record.changes(|change| {
            if let Change::Rows { relation, inserted, updated, deleted } = change {
                let relation = format!("{}/{}/{}", relation.tablespace, relation.database, relation.relation);
                let counts = [inserted, updated, deleted].map(u64::from);
                add(found.entry((record.header.xid, relation)).or_default(), counts);
            }
        });
        told.unwrap();
    });
    assert!(found.len() > 50, "{}", found.len());
    assert_eq!(found, expected, "{}", server.version());
}

fn dumped_counts(line: &Dumped) -> Counts {
    let words: Vec<_> = line.description.split([' ', ',', ':']).filter(|word| !word.is_empty()).collect();
    let after = |word: &str| words.iter().position(|found| *found == word).map(|at| words[at + 1]);
    let flags = after("flags").and_then(|flags| u8::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
    let has = |flag: u8| flags.unwrap() & flag != 0;
    match (&line.rmgr[..], line.name().trim_end_matches("+INIT")) {
        ("Heap", "INSERT") => [u64::from(!has(0x04)), 0, 0],
        ("Heap", "HEAP_CONFIRM") => [1, 0, 0],
        ("Heap", "UPDATE" | "HOT_UPDATE") => [0, 1, 0],
        ("Heap", "DELETE") => [0, 0, u64::from(!has(0x08))],
        // "61 tuples", later "ntuples: 61".
        ("Heap2", "MULTI_INSERT") => {
            let before = words.iter().position(|word| *word == "tuples").map(|at| words[at - 1]);
            [after("ntuples").or(before).unwrap().parse().unwrap(), 0, 0]
        }
        _ => [0; 3],
    }
}

fn check(version: u32, settings: &[(&str, &str)]) {
    let mut builder = builder(version);
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    let server = builder.start();
    server.sql(TABLES);
    server.sql("checkpoint");
    let done = run(&server, STEPS);
    compare_with_what_was_done(&server, &done, position(&server));
    compare_with_statistics(&server);
    compare_a_race(&server);
    if matches!(version, 15 | 18) {
        compare_with_pg_waldump(&server);
    }
}

#[test]
fn every_version_counts_what_was_done() {
    for version in VERSIONS {
        check(version, &[]);
    }
}

#[test]
fn every_version_with_logical_decoding_and_compressed_images() {
    for version in VERSIONS {
        check(version, &[("wal_level", "logical"), ("wal_compression", "on")]);
    }
}

#[test]
fn every_way_to_compress_images() {
    check(15, &[("wal_compression", "lz4")]);
    check(15, &[("wal_compression", "zstd"), ("wal_consistency_checking", "all")]);
}
