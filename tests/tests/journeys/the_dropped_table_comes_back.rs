//! A table is gone: the transaction that dropped it is found by the table's name, and everything committed before it comes back.

use highwater_tests::{Postgres, Site, StopMode, VERSIONS};

use crate::restores::{archiving, back_up, bring_back, restore};
use crate::the_log_tells_what_happened::log;

/// Counts the steps of a journey in the table `steps`, one commit each.
struct Steps<'a>(&'a Postgres, u32);

impl Steps<'_> {
    fn next(&mut self) -> u32 {
        self.1 += 1;
        self.0.sql(&format!("insert into steps values ({})", self.1));
        self.1
    }
}

#[track_caller]
fn assert_restored(site: &Site, name: &str, target: &[&str], table: &str, last_step: u32) {
    let server = bring_back(site, name, target);
    for prepared in server.column("select gid from pg_prepared_xacts") {
        server.sql(&format!("rollback prepared '{prepared}'"));
    }
    assert_eq!(server.value(&format!("select count(*) from {table}")), "100", "{target:?}");
    assert_eq!(server.value("select max(n) from steps"), last_step.to_string(), "{target:?}");
    assert_eq!(
        server.value("select count(*) from steps where n > 0"),
        last_step.to_string(),
        "none is missing: {target:?}"
    );
}

#[test]
fn a_dropped_table_comes_back_by_name_with_every_commit_before() {
    for version in VERSIONS {
        drops(version);
    }
}

fn drops(version: u32) {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder().version(version));
    server.sql("create table steps (n int); create schema s");
    for table in ["plain", "longer", "sub", "prep", "s.\"Inside\"", "old_name", "emptied"] {
        server.sql(&format!("create table {table} as select generate_series(1, 100) as n"));
    }
    back_up(&site);
    let mut steps = Steps(&server, 0);
    server.sql("create table late as select generate_series(1, 100) as n");
    server.sql("alter table old_name rename to new_name");
    server.sql("checkpoint");
    let plain = steps.next();
    server.sql("drop table plain");

    // Others commit while the transaction that drops the table goes on.
    let mut session = server.session();
    session.rows("begin; insert into steps values (-1); drop table longer");
    steps.next();
    let longer = steps.next();
    session.rows("commit");
    server.archive_now();

    let sub = steps.next();
    server.sql("begin; savepoint a; drop table sub; release a; insert into steps values (-2); commit");
    server.sql("begin; drop table prep; prepare transaction 'prep'");
    let prep = steps.next();
    server.sql("commit prepared 'prep'");
    let inside = steps.next();
    server.sql("drop schema s cascade");
    let late = steps.next();
    server.sql("drop table late");
    let renamed = steps.next();
    server.sql("drop table new_name");
    let emptied = steps.next();
    server.sql("truncate emptied");
    server.sql("insert into emptied select generate_series(1, 100)");
    let again = steps.next();
    server.sql("truncate emptied");
    steps.next();
    server.archive_now();
    server.stop(StopMode::Fast);

    for (name, table, last_step) in [
        ("plain", "plain", plain),
        ("sub", "sub", sub),
        ("longer", "longer", longer),
        ("prep", "PREP", prep),
        ("inside", "s.\"Inside\"", inside),
        ("late", "public.late", late),
        ("renamed", "new_name", renamed),
    ] {
        assert_restored(&site, name, &["--before-drop", table], table, last_step);
    }
    let plan = site.highwater(["plan", "--before-drop", "prep"]).run().succeeds();
    plan.says("ROLLBACK PREPARED");
    let (folder, output) = restore(&site, "several", &["--before-drop", "emptied"]);
    output.ends_with(3).says("2 times").says("hint:").says("--last").says("--before-xid");
    assert!(!folder.exists());
    assert_restored(&site, "last", &["--before-drop", "emptied", "--last"], "emptied", again);
    let drops = log(&site, &["--drops", "--table", "emptied"]);
    let first = drops.last().expect("there are two")["xid"].to_string();
    assert_restored(&site, "first", &["--before-xid", &first], "emptied", emptied);
    let (_, output) = restore(&site, "none", &["--before-drop", "old_name"]);
    output.ends_with(3).says("is not in the WAL").says("log --drops");
    for bad in ["", "a.b.c.d", "a b"] {
        restore(&site, "bad", &["--before-drop", bad]).1.ends_with(2).says("hint:");
    }
}

#[test]
fn a_dropped_database_comes_back() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table steps (n int)");
    server.sql("create database gone");
    server.session_in("gone").rows("create table lost as select generate_series(1, 100) as n");
    back_up(&site);
    let mut steps = Steps(&server, 0);
    let last = steps.next();
    server.sql("drop database gone");
    steps.next();
    server.archive_now();
    server.stop(StopMode::Fast);
    let drops = log(&site, &["--drops"]);
    assert_eq!(drops.len(), 1, "{drops:#?}");
    let xid = drops[0]["xid"].to_string();
    let server = bring_back(&site, "database", &["--before-xid", &xid]);
    assert_eq!(
        server.session_in("gone").rows("select count(*)::text from lost")[0][0].as_deref(),
        Some("100")
    );
    assert_eq!(server.value("select max(n) from steps"), last.to_string());
}

/// Every table in the log that has no name.
fn nameless(lines: &[serde_json::Value]) -> Vec<&serde_json::Value> {
    let tables = lines.iter().filter_map(|line| line["tables"].as_array()).flatten();
    tables.filter(|table| !table["unknown"].is_null() || table["schema"].is_null()).collect()
}

/// `pg_class` lies in another file from then on, and names in the WAL with it.
#[test]
fn a_table_is_found_by_name_after_the_catalogs_have_moved() {
    for version in VERSIONS {
        let site = Site::on_folder();
        let server = archiving(&site, Postgres::builder().version(version).setting("autovacuum", "off"));
        server.sql("create table steps (n int); create schema s; create table s.first (n int)");
        server.sql("create table old as select generate_series(1, 100) as n");
        back_up(&site);
        // Each in segments of their own, far from the image of a page.
        let next = || {
            server.archive_now();
            server.sql("checkpoint");
            server.archive_now();
        };
        server.session().rows("vacuum full pg_class");
        next();
        server.sql("create table made as select generate_series(1, 100) as n");
        next();
        server.sql("insert into made values (0)");
        next();
        server.sql("drop table made");
        server.sql("drop table old");
        next();
        server.session().rows("vacuum full");
        next();
        server.session().rows("vacuum full pg_class");
        next();
        server.sql("create table s.again as select generate_series(1, 100) as n");
        next();
        server.sql("create table bare (n int)");
        server.sql("truncate s.again");
        next();
        let mut steps = Steps(&server, 0);
        let last = steps.next();
        server.sql("drop table s.again");
        steps.next();
        server.archive_now();
        server.stop(StopMode::Fast);

        let told = log(&site, &["--lsn", "0/2000000.."]);
        assert_eq!(nameless(&told), [&serde_json::Value::Null; 0], "PostgreSQL {version}");
        let drops = log(&site, &["--drops"]);
        assert_eq!(nameless(&drops), [&serde_json::Value::Null; 0], "PostgreSQL {version}");
        let lost = |line: &serde_json::Value| {
            let table = line["tables"].as_array().unwrap().last().unwrap();
            format!("{} {}", table["fate"].as_str().unwrap(), table["name"].as_str().unwrap())
        };
        let lost: Vec<String> = drops.iter().map(lost).collect();
        let expected = ["dropped again", "truncated again", "dropped old", "dropped made"];
        assert_eq!(lost, expected, "PostgreSQL {version}");
        for table in ["made", "s.again", "public.bare"] {
            assert!(!log(&site, &["--table", table]).is_empty(), "PostgreSQL {version}: {table}");
        }
        site.highwater(["plan", "--before-drop", "made"]).run().succeeds();
        let plan = site.highwater(["plan", "--before-drop", "s.again", "--last", "--json"]).run();
        let xid = drops[0]["xid"].to_string();
        plan.succeeds().says(&format!("\"xid\": {xid}"));
        if version == 15 {
            let server = bring_back(&site, "again", &["--before-drop", "s.again", "--last"]);
            assert_eq!(server.value("select max(n) from steps"), last.to_string());
            assert_eq!(server.value("select count(*) from s.again"), "0", "it was truncated before");
        }
    }
}

/// A restore must not come to an older drop because nobody can say what the newer one was.
#[test]
fn a_newer_drop_without_a_name_is_not_passed_over() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder().setting("autovacuum", "off"));
    server.sql("create table t as select generate_series(1, 100) as n");
    back_up(&site);
    server.sql("checkpoint");
    server.sql("drop table t");
    server.archive_now();
    // Without this segment nobody knows what the new file was.
    server.sql("create table t as select generate_series(1, 50) as n");
    let hidden = server.archive_now();
    server.sql("drop table t");
    server.archive_now();
    server.stop(StopMode::Fast);
    let plan = |more: &[&str]| site.highwater([&["plan", "--before-drop", "t"], more].concat()).run();
    plan(&[]).ends_with(3).says("2 times");
    plan(&["--last"]).succeeds();
    std::fs::remove_file(site.objects(&hidden).into_iter().next().unwrap()).unwrap();

    let mut drops = log(&site, &["--drops"]);
    drops.retain(|line| line["type"] == "transaction");
    assert_eq!(drops.len(), 2, "{drops:#?}");
    let known = drops[1]["xid"].to_string();
    for more in [&[][..], &["--last"]] {
        plan(more)
            .ends_with(3)
            .says("names are not known")
            .says(&format!("transaction {} ", drops[0]["xid"]))
            .says("hint: `highwater log --xid`")
            .says(&format!("--before-xid {known}"));
    }
    site.highwater(["plan", "--before-xid", &known]).run().succeeds();
    let about = |table: &str| site.highwater(["log", "--table", table]).run().succeeds();
    about("public.tt")
        .says("there was no table public.tt when names were taken last")
        .says("like it are public.t");
    let empty = site.highwater(["log", "--xid", &drops[0]["xid"].to_string()]).run().succeeds().stdout;
    assert!(empty.contains("at least"), "{empty}");
    let other = site.highwater(["plan", "--before-drop", "unheard_of"]).run().ends_with(3);
    other.says("no transaction is known to have dropped or truncated unheard_of").says("--before-xid");
}

/// The file that a truncated table had is told by the update of its row, also where that was seen by nobody before.
#[test]
fn r15_a_table_truncated_twice_is_found_by_its_last_truncate() {
    for version in [18, 16] {
        let site = Site::on_folder();
        let server = archiving(&site, Postgres::builder().version(version).setting("autovacuum", "off"));
        for table in ["items", "near", "far"] {
            server.sql(&format!("create table {table} as select generate_series(1, 100) as n"));
            server.sql(&format!("create index on {table} (n); alter table {table} add column v text"));
        }
        back_up(&site);
        let twice = |table: &str, between: &dyn Fn()| {
            for round in [1, 2] {
                server.sql(&format!("insert into {table} values ({round})"));
                server.sql(&format!("truncate {table}"));
                between();
            }
            server.archive_now();
        };
        // The image of the page of pg_class lies in a segment in front.
        server.sql("create table other (n int)");
        server.archive_now();
        twice("items", &|| {});
        // The image goes with the first of the two.
        server.sql("checkpoint");
        twice("near", &|| {});
        // Each in a segment of its own, each with an image.
        twice("far", &|| {
            server.archive_now();
            server.sql("checkpoint");
        });
        server.sql("create table later (n int)");
        let hidden = server.archive_now();
        server.sql("insert into later values (1)");
        server.archive_now();
        server.stop(StopMode::Fast);

        let drops = log(&site, &["--drops"]);
        assert_eq!(nameless(&drops), [&serde_json::Value::Null; 0], "PostgreSQL {version}");
        for table in ["items", "near", "far"] {
            let of_table = log(&site, &["--drops", "--table", table]);
            assert_eq!(of_table.len(), 2, "PostgreSQL {version}: {of_table:#?}");
            let plan =
                |more: &[&str]| site.highwater([&["plan", "--before-drop", table], more].concat()).run();
            plan(&[]).ends_with(3).says("2 times");
            let last = of_table[0]["xid"].to_string();
            let planned = plan(&["--last", "--json"]).succeeds();
            planned.says(&format!("\"xid\": {last}")).does_not_say("hole");
        }
        // A drop that lies where WAL is missing cannot be found.
        let last = log(&site, &["--drops", "--table", "items"])[0]["xid"].to_string();
        std::fs::remove_file(site.objects(&hidden).into_iter().next().unwrap()).unwrap();
        site.highwater(["plan", "--before-drop", "items", "--last"])
            .run()
            .succeeds()
            .says(&format!("behind transaction {last} the archive has a hole: missing is segment {hidden}"))
            .says("whether items was dropped or truncated again in there is not known");
    }
}

/// Without images of pages nobody can tell whose file the second truncate took.
#[test]
fn r15_a_newer_truncate_without_a_name_is_not_passed_over() {
    let site = Site::on_folder();
    let postgres = Postgres::builder().setting("autovacuum", "off").setting("full_page_writes", "off");
    let server = archiving(&site, postgres);
    server.sql("create table items as select generate_series(1, 100) as n");
    back_up(&site);
    server.sql("checkpoint");
    server.archive_now();
    for _ in 0..2 {
        server.sql("insert into items values (1)");
        server.sql("truncate items");
    }
    server.archive_now();
    server.stop(StopMode::Fast);
    let drops = log(&site, &["--drops"]);
    assert_eq!(drops.len(), 2, "{drops:#?}");
    let newest = drops[0]["xid"].to_string();
    for more in [&[][..], &["--last"]] {
        let plan = site.highwater([&["plan", "--before-drop", "items"], more].concat()).run().ends_with(3);
        plan.says("names are not known").says(&format!("transaction {newest} ")).says("--before-xid");
    }
    site.highwater(["plan", "--before-xid", &newest]).run().succeeds();
}

/// A partitioned table has no file: the WAL speaks of its partitions.
#[test]
fn r15_a_truncated_partitioned_table_is_found_by_its_own_name() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table events (n int) partition by range (n)");
    server.sql("create table low partition of events for values from (0) to (50)");
    server.sql("create table high partition of events for values from (50) to (1000) partition by range (n)");
    server.sql("create table highest partition of high for values from (50) to (1000)");
    server.sql("insert into events select generate_series(1, 100)");
    back_up(&site);
    let plan = |more: &[&str]| site.highwater([&["plan", "--before-drop", "events"], more].concat()).run();
    server.sql("truncate low");
    server.archive_now();
    plan(&[]).ends_with(3).says("is a partitioned table").says("public.low");
    server.sql("insert into events select generate_series(1, 10)");
    server.sql("truncate events");
    server.sql("insert into events select generate_series(1, 3)");
    server.archive_now();
    let planned = plan(&[]).succeeds();
    planned.says("emptied or dropped all 2 partitions of public.events");
    let restored = bring_back(&site, "events", &["--before-drop", "events"]);
    assert_eq!(restored.value("select count(*) from events"), "61");
    drop(restored);
    server.sql("drop table events");
    server.archive_now();
    server.stop(StopMode::Fast);
    plan(&[]).ends_with(3).says("2 times").says("dropped public.events");
}
