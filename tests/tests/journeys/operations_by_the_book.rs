//! docs/OPERATIONS.md: what is done daily, weekly, and when one wants to know what happened, command by command.

use highwater_tests::{Postgres, Site};
use serde_json::Value;

use crate::documents::{Document, Story};
use crate::restores::archiving;

const KEEPING: &str = "9. Say what to keep";
const LABEL: &str = "20260131T235959Z";

#[test]
fn backups_names_verifications_and_retention_go_by_the_book() {
    let book = Document::open("OPERATIONS.md");
    let site = Site::on_folder().repository_line(&book.blocks(KEEPING, "toml"));
    let server = archiving(&site, Postgres::builder());
    server.sql("create table accounts as select n from generate_series(1, 1000) as n");
    let mut story = Story { site, instead: Vec::new() };
    assert_eq!(story.run_all(&book.commands("6. Back up")), 1);
    server.sql("create table later (n int)");
    assert_eq!(story.run_all(&book.commands("7. Names of tables")), 1);
    story.run("highwater names --list").says("relations in 3 databases");
    assert!(book.mentions("7. Names of tables", "highwater names --list"));
    assert_eq!(story.run_all(&book.commands("Large archives")), 1);

    let [shallow, since, deep] = &book.commands("8. Verify")[..] else {
        panic!("section 8 has other commands")
    };
    // There has to be a whole one before only what is new can be looked at.
    for command in [shallow, deep, since] {
        story.run(command).says("nothing is damaged or missing");
    }

    let list = story.run("highwater list --json").json();
    let label = list["backups"][0]["label"].as_str().expect("a label").to_owned();
    story.instead.push((LABEL, label.clone()));
    let [expire, hold] = &book.commands(KEEPING)[..] else { panic!("section 9 has other commands") };
    story.run(expire).says(&label).says("last good backup").says("Nothing was changed");
    let apply = "highwater expire --apply";
    story.run(hold).says("is held");
    story.run(apply).says("held: audit 2026, ask Ada").says("Freed 0 B");
    let release = format!("highwater hold {LABEL} --release");
    story.run(&release).says("Released").says("audit 2026, ask Ada");
    story.run(&release).says("Nobody held");
    story.run("highwater backup --full");
    for mentioned in [apply, &release, "highwater backup --full"] {
        assert!(book.mentions(KEEPING, mentioned), "{mentioned}");
    }
    assert_eq!(story.run("highwater list --json").json()["backups"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_happened_is_found_by_the_book() {
    let book = Document::open("OPERATIONS.md");
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table accounts (n int); create table log (n int)");
    let mut story = Story { site, instead: Vec::new() };
    assert_eq!(story.run_all(&book.commands("6. Back up")), 1);
    server.sql("insert into accounts select generate_series(1, 5000)");
    let moment = server.now();
    let xid = server.rows("delete from accounts; insert into log values (1) returning pg_current_xact_id()");
    let xid = xid[0][0].clone().expect("a number");
    server.sql("drop table log");
    server.sql("drop table accounts");
    server.archive_now();

    let log = book.commands("What happened: the log");
    let [all, since, drops, mass, table, hour] = &log[..] else { panic!("the log has other commands") };
    for command in [all, since] {
        let told =
            story.run(command).says("public.accounts +5000").says("public.accounts -5000, public.log +1");
        told.says("DROPPED public.log").says("DROPPED public.accounts");
    }
    let told = story.run(drops).says("DROPPED public.log").says("DROPPED public.accounts");
    told.does_not_say("-5000");
    story.run(mass).says("+5000").says("-5000").says(&xid).does_not_say("DROPPED");
    let told = story.run(table).stdout;
    let lines: Vec<Value> =
        told.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let deleted: Vec<i64> = lines
        .iter()
        .filter_map(|line| line["tables"][0]["deleted"].as_i64())
        .filter(|rows| *rows > 0)
        .collect();
    assert_eq!((lines.len(), deleted), (4, vec![5000]), "made, filled, emptied, dropped: {told}");
    story.run(hour).says("5000");

    // The commands that choose a moment; what they are good for is told by other journeys.
    story.instead = vec![("2026-11-20 11:15:59", moment), ("745", xid)];
    let steps = book.commands("Bring a cluster back");
    let chooses = |command: &&String| {
        ["status", "window", "plan"].iter().any(|verb| command.starts_with(&format!("highwater {verb}")))
    };
    let chosen: Vec<String> = steps.iter().filter(chooses).cloned().collect();
    assert_eq!(chosen.len(), 6, "{steps:#?}");
    story.run_all(&chosen);
}
