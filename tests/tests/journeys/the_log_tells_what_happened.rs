//! What happened, out of the archive: transactions with the rows they changed, tables that came and went, by name.

use std::collections::BTreeMap;
use std::fs;

use highwater_tests::{History, Load, PATIENCE, Postgres, Site, StopMode, VERSIONS};
use serde_json::Value;

use crate::restores::{archiving, back_up, bring_back};

/// Inserted, updated, deleted.
type Rows = (u64, u64, u64);

/// The lines of `log --json` with these arguments, newest first.
#[track_caller]
pub fn log(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let all = ["log", "--json"].into_iter().chain(arguments.iter().copied());
    lines(&site.highwater(all).run().succeeds().stdout)
}

fn lines(stdout: &str) -> Vec<Value> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// What a line says of each table: rows, and what became of it.
fn tables(line: &Value) -> BTreeMap<String, (Rows, String)> {
    let table = |table: &Value| {
        let text = |name: &str| table[name].as_str().unwrap_or("").to_owned();
        let number = |name: &str| table[name].as_u64().expect("a number");
        let rows = (number("inserted"), number("updated"), number("deleted"));
        (format!("{}.{}", text("schema"), text("name")), (rows, text("fate")))
    };
    line["tables"].as_array().expect("a list").iter().map(table).collect()
}

fn is_of(line: &Value, xid: &str) -> bool {
    line["xid"].as_u64() == xid.parse().ok()
}

/// The line of a transaction.
#[track_caller]
fn line_of<'a>(lines: &'a [Value], xid: &str) -> &'a Value {
    let found: Vec<&Value> = lines.iter().filter(|line| is_of(line, xid)).collect();
    assert_eq!(found.len(), 1, "transaction {xid}: {lines:#?}");
    found[0]
}

/// A transaction that does this, and its number.
fn transaction(server: &Postgres, statements: &str) -> String {
    let sql = format!("begin; {statements}; select pg_current_xact_id()::text; commit");
    let rows = server.rows(&sql);
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).next_back().expect("a number")
}

#[test]
fn rows_are_those_that_the_transactions_changed_on_every_version() {
    for version in VERSIONS {
        rows_of(version);
    }
}

fn rows_of(version: u32) {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder().version(version));
    server.sql(
        "create table public.a (n int primary key, content text default 'x');
         create schema s; create table s.b (n int, content text);
         create table s.\"P\" (n int) partition by range (n);
         create table s.p1 partition of s.\"P\" for values from (0) to (100);
         create table s.p2 partition of s.\"P\" for values from (100) to (200)",
    );
    let mut expected: Vec<(String, Vec<(&str, Rows)>)> = Vec::new();
    let mut told = |statements: &str, rows: &[(&'static str, Rows)]| {
        expected.push((transaction(&server, statements), rows.to_vec()));
    };
    told("insert into a select generate_series(1, 1000)", &[("public.a", (1000, 0, 0))]);
    told("copy s.b (n) from program 'seq 1 2500'", &[("s.b", (2500, 0, 0))]);
    told("update a set content = 'y' where n <= 10", &[("public.a", (0, 10, 0))]);
    told("update a set n = -n where n <= 7; delete from a where n > 990", &[("public.a", (0, 7, 10))]);
    told("insert into a values (20), (2000), (2001) on conflict do nothing", &[("public.a", (2, 0, 0))]);
    told(
        "insert into a values (20), (3000) on conflict (n) do update set content = 'z'",
        &[("public.a", (1, 1, 0))],
    );
    told(
        "insert into s.b select generate_series(1, 5); savepoint one; delete from s.b; rollback to one; \
         savepoint two; delete from s.b where n = 3; release two",
        &[("s.b", (5, 0, 2))],
    );
    told(
        "do $$ begin for i in 1..200 loop begin insert into s.b values (i); if i % 2 = 0 then raise 'no'; end if; \
         exception when raise_exception then null; end; end loop; end $$",
        &[("s.b", (100, 0, 0))],
    );
    told("insert into s.b values (0, repeat(md5(random()::text), 10000))", &[("s.b", (1, 0, 0))]);
    told(
        "insert into s.\"P\" select generate_series(0, 109)",
        &[("s.p1", (100, 0, 0)), ("s.p2", (10, 0, 0))],
    );
    told("update s.\"P\" set n = 150 where n = 50", &[("s.p1", (0, 0, 1)), ("s.p2", (1, 0, 0))]);
    told("create temp table gone (n int); insert into gone values (1)", &[]);
    let prepared = server.rows("begin; delete from s.b where n = 1; select pg_current_xact_id()::text, count(*) from s.b; prepare transaction 'later'");
    let prepared: Vec<Option<String>> = prepared.into_iter().next_back().expect("a row");
    let left: u64 = server.value("select count(*) from s.b").parse().unwrap();
    let kept: u64 = prepared[1].as_ref().unwrap().parse().unwrap();
    told("insert into a values (4000)", &[("public.a", (1, 0, 0))]);
    server.sql("commit prepared 'later'");
    let rolled_back = server.rows("begin; delete from a; select pg_current_xact_id()::text; rollback");
    let rolled_back = rolled_back[0][0].clone().expect("a number");
    server.archive_now();

    let told = log(&site, &[]);
    for (xid, rows) in &expected {
        let line = line_of(&told, xid);
        let rows: BTreeMap<String, (Rows, String)> =
            rows.iter().map(|(name, rows)| ((*name).to_owned(), (*rows, String::new()))).collect();
        assert_eq!(tables(line), rows, "PostgreSQL {version}, transaction {xid}: {line:#}");
        assert_eq!(line["is_whole"], true, "{line:#}");
    }
    let prepared = line_of(&told, prepared[0].as_ref().unwrap());
    assert_eq!(prepared["prepared"], true);
    assert_eq!(tables(prepared)["s.b"].0, (0, 0, left - kept));
    assert!(!told.iter().any(|line| is_of(line, &rolled_back)), "it was rolled back");
    let aborted = log(&site, &["--aborted"]);
    let line = line_of(&aborted, &rolled_back);
    assert_eq!(line["committed"], false);
    assert_eq!(tables(line)["public.a"].0.2.to_string(), server.value("select count(*) from a"));
    let lsns: Vec<&str> = told.iter().map(|line| line["lsn"].as_str().unwrap()).collect();
    let number = |lsn: &str| u64::from_str_radix(&lsn.replace("0/", ""), 16).expect("below 4 GiB");
    assert!(lsns.iter().map(|lsn| number(lsn)).is_sorted_by(|a, b| a > b), "newest first: {lsns:?}");
}

#[test]
fn a_load_is_told_transaction_by_transaction() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    let load = Load::start(&server);
    load.wait_for_commits(3000);
    load.stop();
    server.archive_now();
    let history = History::of(&server);
    let mut told = log(&site, &["--table", "load_rows"]);
    told.reverse();
    told.retain(|line| tables(line)["public.load_rows"].1.is_empty());
    let times: Vec<String> = told
        .iter()
        .map(|line| line["time"].as_str().unwrap().replace('T', " ").replace('Z', "+00"))
        .collect();
    assert_eq!(times, history.commit_times(), "each commit, at its time");
    let mut rows = 0;
    for line in &told {
        let of_tables = tables(line);
        let ((inserted, updated, deleted), _) = of_tables["public.load_rows"];
        rows += inserted;
        assert_eq!((updated, deleted), (0, 0), "{line:#}");
        assert_eq!(of_tables["public.load_total"].0, (0, 1, 0), "{line:#}");
        assert_eq!(
            history.count_at(&line["time"].as_str().unwrap().replace('T', " ").replace('Z', "+00")) as u64,
            rows
        );
    }
    let counted = log(&site, &["--summary", "day", "--table", "load_rows"]);
    let sum = |field: &str| counted.iter().map(|bucket| bucket[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("commits"), sum("inserted")), (told.len() as u64 + 1, rows), "one made the table");
}

/// What became of tables, by the transactions' numbers.
#[test]
fn what_became_of_tables_is_told_by_name_on_every_version() {
    for version in VERSIONS {
        for level in ["replica", "logical"] {
            fates_of(version, level);
        }
    }
}

fn fates_of(version: u32, level: &str) {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder().version(version).setting("wal_level", level));
    server.sql("create table plain (n int); create table kept (n int primary key, t text); create schema s; create table s.\"In S\" (n int)");
    server.sql("insert into kept select generate_series(1, 100); create table renamed (n int)");
    server.tablespace("elsewhere");
    let many = |number: u32| {
        format!(
            "create table t{number} (n int primary key); insert into t{number} select generate_series(1, 100)"
        )
    };
    (1..=10).for_each(|number| server.sql(&many(number)));
    server.sql("create materialized view seen as select generate_series(1, 9) as n");
    back_up(&site);
    server.sql("checkpoint");
    let mut expected: Vec<(String, Vec<(&str, &str)>)> = Vec::new();
    let mut told = |statements: &str, fates: &[(&'static str, &'static str)]| {
        expected.push((transaction(&server, statements), fates.to_vec()));
    };
    told("create table fresh (n int, t text); insert into fresh values (1)", &[("public.fresh", "created")]);
    told("drop table plain", &[("public.plain", "dropped")]);
    told("truncate kept", &[("public.kept", "truncated")]);
    told(
        "truncate kept, fresh; insert into kept values (1)",
        &[("public.kept", "truncated"), ("public.fresh", "truncated")],
    );
    told("alter table kept alter n type bigint", &[("public.kept", "rewritten")]);
    told("create table short (n int); drop table short", &[("public.short", "created-and-dropped")]);
    told("alter table renamed rename to now_so", &[]);
    told("insert into now_so values (1); drop table now_so", &[("public.now_so", "dropped")]);
    told("savepoint a; drop table fresh; release a", &[("public.fresh", "dropped")]);
    told("drop schema s cascade", &[("s.In S", "dropped")]);
    // What lost its rows stays lost, whatever else its transaction does to it.
    let fill = |table: &str| format!("insert into {table} select generate_series(1, 5)");
    let widen = |table: &str| format!("alter table {table} alter n type bigint");
    told(&format!("truncate t1; {}; {}", fill("t1"), widen("t1")), &[("public.t1", "truncated")]);
    told(&format!("{}; truncate t2", widen("t2")), &[("public.t2", "truncated")]);
    told(&format!("{}; savepoint a; truncate t3; release a", widen("t3")), &[("public.t3", "truncated")]);
    told(&format!("truncate t4; {}; cluster t4 using t4_pkey", fill("t4")), &[("public.t4", "truncated")]);
    told("truncate t5; alter table t5 set tablespace elsewhere", &[("public.t5", "truncated")]);
    told("create index on t6 (n); truncate t6; create index on t6 (n)", &[("public.t6", "truncated")]);
    told("truncate t7; drop table t7", &[("public.t7", "dropped")]);
    told(&format!("delete from t8; {}", widen("t8")), &[("public.t8", "rewritten")]);
    told(&format!("{}; cluster t9 using t9_pkey", widen("t9")), &[("public.t9", "rewritten")]);
    told("alter table t10 set tablespace elsewhere", &[("public.t10", "rewritten")]);
    told("refresh materialized view seen", &[("public.seen", "rewritten")]);
    server.sql("vacuum full kept");
    server.sql("create database other");
    server.sql("drop database other");
    // In a segment of its own: its summary tells that there is something to read.
    server.tablespace("unused");
    server.archive_now();
    server.sql("drop tablespace unused");
    server.archive_now();
    server.sql("select pg_create_restore_point('before \"it\"')");
    server.archive_now();

    let told = log(&site, &[]);
    let of = |line: &Value| {
        let fates = tables(line).into_iter().filter(|(_, (_, fate))| !fate.is_empty());
        fates.map(|(name, (_, fate))| (name, fate)).collect::<BTreeMap<String, String>>()
    };
    for (xid, fates) in &expected {
        let fates: BTreeMap<String, String> =
            fates.iter().map(|(name, fate)| ((*name).to_owned(), (*fate).to_owned())).collect();
        let line = line_of(&told, xid);
        assert_eq!(of(line), fates, "PostgreSQL {version}, {level}, transaction {xid}: {line:#}");
    }
    let rewritten = BTreeMap::from([("public.kept".to_owned(), "rewritten".to_owned())]);
    let rewrites = told.iter().filter(|line| line["tables"].is_array() && of(line) == rewritten);
    assert_eq!(rewrites.count(), 2, "ALTER TABLE and VACUUM FULL: {told:#?}");
    assert_eq!(told[0]["type"], "restore-point");
    assert_eq!(told[0]["restore_point"], "before \"it\"");
    let databases = |field: &str| {
        // initdb makes some, too.
        let made_later = |line: &&Value| line[field][0]["oid"].as_u64().is_some_and(|oid| oid >= 16384);
        told.iter().filter(made_later).count()
    };
    assert_eq!((databases("databases_created"), databases("databases_dropped")), (1, 1));

    let drops = log(&site, &["--drops"]);
    let lost = told.iter().filter(|line| {
        let lost = |fate: &String| ["dropped", "truncated", "created-and-dropped"].contains(&fate.as_str());
        line["tables"].is_array() && of(line).values().any(lost)
            || line["databases_dropped"].is_array()
            || line["tablespaces_dropped"].is_array()
    });
    assert_eq!(drops, lost.cloned().collect::<Vec<Value>>());
    assert_eq!(drops.iter().filter(|line| line["tablespaces_dropped"].is_array()).count(), 1, "{drops:#?}");
}

#[test]
fn the_wrong_delete_is_found_by_its_rows_and_undone_and_a_line_reads_well() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table accounts (n int, owner text); create table log (n int)");
    back_up(&site);
    for n in 0..50 {
        server.sql(&format!("insert into accounts select {n}, 'somebody' from generate_series(1, 100)"));
    }
    let before = server.now();
    server
        .wait_for(&format!("select clock_timestamp() > '{before}'::timestamptz + interval '1 ms'"), PATIENCE);
    let wrong = transaction(&server, "delete from accounts; insert into log values (1)");
    let after = server.now();
    server.sql("drop table log");
    server.sql("select pg_create_restore_point('end')");
    server.archive_now();
    server.stop(StopMode::Fast);

    let found = log(&site, &["--min-rows", "5000"]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["xid"].to_string(), wrong);
    let undone = bring_back(&site, "undone", &["--before-xid", &found[0]["xid"].to_string()]);
    assert_eq!(undone.value("select count(*) from accounts"), "5000");
    assert_eq!(undone.value("select count(*) from log"), "0");
    assert_eq!(log(&site, &["--min-rows", "5000", "--table", "public.accounts"]), found);
    assert_eq!(log(&site, &["--min-rows", "2", "--table", "LOG"]), [Value::Null; 0]);
    assert_eq!(log(&site, &["--xid", &wrong]), found);
    assert_eq!(log(&site, &["--since", &before, "--until", &after]), found);
    let lsn = found[0]["lsn"].as_str().unwrap();
    assert_eq!(log(&site, &["--lsn", &format!("{lsn}.."), "--min-rows", "1"]), found);
    assert_eq!(log(&site, &["--lsn", &format!("..{lsn}"), "--min-rows", "101"]), [Value::Null; 0]);
    assert_eq!(log(&site, &["--limit", "3"]), log(&site, &[])[..3]);

    let text = site.highwater(["log", "--limit", "4", "--quiet"]).run().succeeds().stdout;
    let masked: Vec<String> = text.lines().map(mask).collect();
    // The newest is what the harness writes so that there is something to archive.
    let expected = [
        "TIME  LSN  1  XID  no rows",
        "TIME  LSN  1  restore point \"end\"",
        "TIME  LSN  1  XID  postgres: DROPPED public.log",
        "TIME  LSN  1  XID  postgres: public.accounts -5000, public.log +1",
    ];
    assert_eq!(masked, expected, "{text}");
    let chart = site.highwater(["log", "--summary"]).run().succeeds();
    chart.says("FROM").says("COMMITS").says("WAL").says("5000");
}

/// A line with what varies named: time, LSN, number of the transaction.
fn mask(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [date, clock, offset, lsn, timeline, rest @ ..] = words.as_slice() else { panic!("{line}") };
    assert!(date.len() == 10 && clock.len() == 15 && offset.len() == 6, "{line}");
    assert!(lsn.contains('/'), "{line}");
    let (xid, rest) = match rest.split_first() {
        Some((xid, rest)) if xid.parse::<u32>().is_ok() => ("XID  ", rest),
        _ => ("", rest),
    };
    format!("TIME  LSN  {timeline}  {xid}{}", rest.join(" "))
}

#[test]
fn a_hole_and_a_damaged_segment_are_told_and_the_rest_is_read() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int); create table gone (n int)");
    let mut segments = Vec::new();
    for n in 1..=6 {
        server.sql(&format!("insert into t values ({n})"));
        if n == 4 {
            server.sql("drop table gone");
        }
        segments.push(server.archive_now());
    }
    server.stop(StopMode::Fast);
    let object = |segment: &str| site.objects(segment).into_iter().next().expect("it is archived");
    fs::remove_file(object(&segments[1])).unwrap();
    let damaged = object(&segments[3]);
    let mut bytes = fs::read(&damaged).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, bytes).unwrap();
    highwater_tests::give_to_server_account(&damaged);

    let output = site.highwater(["log", "--json", "--min-rows", "1"]).run().ends_with(4).says("damaged");
    let told = lines(&output.stdout);
    let kinds: Vec<&str> = told.iter().map(|line| line["type"].as_str().unwrap()).collect();
    let one = "transaction";
    assert_eq!(kinds, [one, one, "damaged", one, "hole", one], "{told:#?}");
    assert_eq!(told[2]["segment"], segments[3].as_str());
    assert_eq!(told[4]["first"], segments[1].as_str());
    let text = site.highwater(["log"]).run().ends_with(4);
    text.says("HOLE").says("DAMAGED").says(&segments[1]).says(&segments[3]).says("hint:");
    // Whoever looks for a drop and comes to the damage is told its name once, and what to do once.
    let output = site.highwater(["plan", "--before-drop", "gone"]).run().ends_with(4);
    let once = |text: &str| output.stderr.matches(text).count() == 1;
    assert!(once(&segments[3]) && once("hint:"), "{}", output.stderr);
}

/// A promoted standby archives the old timeline's last segment as a `.partial` file.
#[test]
fn what_only_a_partial_file_holds_is_told() {
    let site = Site::on_folder();
    let primary = archiving(&site, Postgres::builder());
    primary.sql("create table t (n int)");
    back_up(&site);
    let standby = primary.standby("next").start();
    let data = standby.data_dir().display().to_string();
    let command = format!("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={data} {}", site.archive_command());
    standby.configure("archive_command", &command);
    primary.archive_now();
    let insert = |server: &Postgres, rows: u32| {
        server.sql(&format!("insert into t select generate_series(1, {rows})"))
    };
    insert(&primary, 7);
    let written = primary.value("select pg_current_wal_insert_lsn()");
    standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), PATIENCE);
    primary.kill9();
    standby.promote();
    insert(&standby, 5);
    standby.archive_now();
    assert_eq!(site.objects(".partial").len(), 1);

    let inserted = |arguments: &[&str]| {
        // Not by the table's name: behind a hole it may be called otherwise.
        let told = log(&site, arguments);
        let rows = |line: &Value| line["tables"][0]["inserted"].as_u64().filter(|rows| *rows > 0);
        let rows: Vec<u64> = told.iter().filter_map(rows).collect();
        (rows, told.iter().filter(|line| line["type"] == "hole").count())
    };
    assert_eq!(inserted(&["--timeline", "1"]), (vec![7], 0));
    assert_eq!(inserted(&[]), (vec![5, 7], 0));
    // The copy of the segment on the new timeline is lost: what was before the fork is there all the same.
    let copies = site.objects("/wal/00000002/0000000200");
    fs::remove_file(&copies[0]).unwrap();
    insert(&standby, 2);
    standby.archive_now();
    assert_eq!(inserted(&[]), (vec![2, 7], 1));
    // The old primary comes back: its whole segment is read, and on the new timeline only up to the fork.
    primary.start_again().unwrap_or_else(|failure| panic!("{failure}"));
    insert(&primary, 3);
    primary.archive_now();
    primary.stop(StopMode::Fast);
    assert_eq!(inserted(&["--timeline", "1"]), (vec![3, 7], 0));
    assert_eq!(inserted(&[]), (vec![2, 7], 1));
}
