//! A table loses its rows, and the same transaction goes on to write the table anew: what is left looks much like a rewrite, which loses
//! nothing.

use highwater_tests::{Postgres, Site, StopMode};

use crate::restores::{archiving, back_up, bring_back};
use crate::the_log_tells_what_happened::log;

/// One transaction, each part of it in a segment of its own, behind a checkpoint where that is said. Answers its number.
fn in_parts(server: &Postgres, checkpoints: bool, parts: &[String]) -> String {
    let mut session = server.session();
    session.rows("begin");
    for part in parts {
        session.rows(part);
        server.archive_now();
        if checkpoints {
            server.sql("checkpoint");
            server.archive_now();
        }
    }
    let number = session.rows("select pg_current_xact_id()::text")[0][0].clone().expect("it has one");
    session.rows("commit");
    server.archive_now();
    number
}

#[test]
fn r15_a_truncate_is_found_behind_a_rewrite_of_its_own_transaction() {
    for version in [15, 18] {
        let site = Site::on_folder();
        let postgres = Postgres::builder().version(version).setting("autovacuum", "off");
        let server = archiving(&site, postgres);
        let tables = ["first", "later", "in_place", "carried"];
        for table in tables {
            server.sql(&format!("create table {table} (n int primary key)"));
            server.sql(&format!("insert into {table} select generate_series(1, 100)"));
        }
        let elsewhere = server.tablespace("elsewhere");
        server.sql("create table steps (n int)");
        back_up(&site);
        let mut expected = Vec::new();
        for (table, checkpoints) in tables.iter().flat_map(|table| [(*table, true), (*table, false)]) {
            let truncate = format!("truncate {table}");
            let fill = format!("insert into {table} select generate_series(1, 7)");
            let widen =
                format!("alter table {table} alter n type {}", if checkpoints { "bigint" } else { "int" });
            let parts = match table {
                "first" => vec![truncate, fill, widen.clone()],
                "later" => vec![widen.clone(), "savepoint a".to_owned(), truncate],
                "in_place" => vec![widen.clone(), truncate, fill],
                _ => vec![
                    truncate,
                    fill,
                    format!(
                        "alter table {table} set tablespace {}",
                        if checkpoints { "elsewhere" } else { "pg_default" }
                    ),
                ],
            };
            server.sql(&format!("insert into {table} select generate_series(1001, 1050)"));
            expected.push((table, in_parts(&server, checkpoints, &parts)));
            // What is written anew by itself loses nothing.
            in_parts(&server, checkpoints, &[format!("alter table {table} alter n type numeric"), widen]);
        }
        server.sql("insert into steps values (1)");
        server.archive_now();
        server.stop(StopMode::Fast);

        let drops: Vec<String> =
            log(&site, &["--drops"]).iter().map(|line| line["xid"].to_string()).collect();
        let lost: Vec<String> = expected.iter().rev().map(|(_, xid)| xid.clone()).collect();
        assert_eq!(drops, lost, "PostgreSQL {version}: {expected:?}");
        for table in tables {
            let of_table = log(&site, &["--drops", "--table", table]);
            let fates: Vec<&str> =
                of_table.iter().map(|line| line["tables"][0]["fate"].as_str().unwrap()).collect();
            assert_eq!(fates, ["truncated", "truncated"], "PostgreSQL {version}: {of_table:#?}");
            let plan = site.highwater(["plan", "--before-drop", table, "--last", "--json"]).run().succeeds();
            plan.says(&format!("\"xid\": {}", of_table[0]["xid"]));
        }
        let mapping = format!("{}={}", elsewhere.display(), site.path("elsewhere").display());
        let first = ["--before-xid", &expected[0].1, "--tablespace", &mapping];
        let restored = bring_back(&site, "first", &first);
        assert_eq!(restored.value("select count(*) from first"), "150", "PostgreSQL {version}");
    }
}
