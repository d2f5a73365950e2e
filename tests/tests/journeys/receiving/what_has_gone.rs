//! WAL that has gone from the end of the repository, or was never received: it is missed, and what is there is reached.

use std::collections::BTreeSet;
use std::path::PathBuf;

use highwater_tests::{PATIENCE, Postgres, Site, wait_until};

use super::{WITH_SLOT, forgetful, overwrite, receive, rows, server};
use crate::restores::{archiving, back_up, bring_back, restore};

/// What a hint names behind `--lsn`.
fn lsn_in(text: &str) -> String {
    let (_, behind) = text.rsplit_once("--lsn ").unwrap_or_else(|| panic!("no position is named: {text}"));
    behind.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Everybody who is asked says that the end has gone, and until which record there is something.
fn is_missed(site: &Site) -> String {
    site.highwater(["verify"]).run().ends_with(4).says("have gone from its end");
    site.highwater(["status"]).run().succeeds().says("ALARM").says("has gone from it");
    site.highwater(["window"]).run().says("has gone from it");
    site.highwater(["log"]).run().says("HOLE").says("has gone from it");
    let (_, output) = restore(site, "refused", &["--latest"]);
    output.ends_with(4).says("has gone from it");
    let plan = site.highwater(["plan", "--latest"]).run().ends_with(4).says("hint:");
    lsn_in(&plan.stderr)
}

#[test]
fn r06_pieces_that_have_gone_from_the_end_are_missed() {
    let site = Site::on_folder();
    let server = server(&site, Postgres::builder());
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    server.sql("create table t as select 1 as n; create table dropped (n int)");
    server.sql("drop table dropped");
    server.sql("select pg_create_restore_point('release')");
    server.sql("insert into t values (2)");
    receiving.catches_up_with(&server);
    let before: BTreeSet<PathBuf> = site.objects("/tail/").into_iter().collect();
    server.sql("insert into t values (3)");
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    let gone: Vec<PathBuf> =
        site.objects("/tail/").into_iter().filter(|piece| !before.contains(piece)).collect();
    assert!(!gone.is_empty() && !before.is_empty(), "the last commit came in a piece of its own");
    gone.iter().for_each(|piece| std::fs::remove_file(piece).unwrap());

    let last = is_missed(&site);
    assert_eq!(rows(&bring_back(&site, "what-is-left", &["--lsn", &last])), "1 2");
    // What was found in front of it is reached, with a warning where a later one might be meant.
    let plan = |target: &[&str]| site.highwater([&["plan"], target].concat()).run();
    for (target, what) in [
        (
            ["--before-drop", "dropped"],
            "whether dropped was dropped or truncated again in there is not known",
        ),
        (["--name", "release"], "whether another one of that name was made in there or later is not known"),
    ] {
        plan(&target).succeeds().says("WARNING").says("has gone from it").says(what);
    }
    for target in
        [["--before-drop", "t"], ["--before-xid", "1000000"], ["--xid", "1000000"], ["--name", "nowhere"]]
    {
        plan(&target).ends_with(3).says("it may lie in what is missing").says("has gone from it");
    }
    // Whoever asks without a stop does not get the shorter one for the whole.
    let segment =
        gone[0].parent().and_then(|folder| folder.file_name()).unwrap().to_str().unwrap().to_owned();
    let fetch = |more: &[&str]| {
        let fetched = site.path("fetched").display().to_string();
        let all = ["--cluster", "main", &segment, &fetched].into_iter().chain(more.iter().copied());
        site.program("highwater-restore-cmd", all).run()
    };
    fetch(&[]).ends_with(201).says("it was there up to");
    fetch(&["--until", &last]).succeeds();

    // The server has it still: what is received again is missed by nobody.
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds().says("have gone from its end");
    site.highwater(["verify"]).run().succeeds();
    assert_eq!(rows(&bring_back(&site, "latest", &["--latest"])), "1 2 3");

    // Where no mark tells of it the slot does: what was acknowledged was there.
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    let before: BTreeSet<PathBuf> = site.objects("/tail/").into_iter().collect();
    server.sql("insert into t values (4)");
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    let mut gone = site.objects("/tail/");
    gone.retain(|piece| !before.contains(piece));
    gone.extend(site.objects("/reached/"));
    gone.iter().for_each(|object| std::fs::remove_file(object).unwrap());
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds().says("have gone from its end");
    assert_eq!(rows(&bring_back(&site, "by-the-slot", &["--latest"])), "1 2 3 4");

    // A strip of which nothing is left, and no mark tells of it.
    let receiving = receive(&site, &[WITH_SLOT, &["--synchronous"]].concat()).wait_until_streaming();
    server.sql("insert into t values (5)");
    receiving.catches_up_with(&server);
    receiving.running.kill9();
    site.highwater(["verify"]).run().succeeds();
    site.highwater(["plan", "--latest"]).run().succeeds();
    let strips = site.objects("/strip-");
    assert!(!strips.is_empty());
    strips.iter().for_each(|strip| std::fs::write(strip, "").unwrap());
    site.objects("/reached/").iter().for_each(|mark| std::fs::remove_file(mark).unwrap());
    site.highwater(["verify"]).run().ends_with(4).says("it is 0 bytes long and should be 4194304");
    site.highwater(["status"]).run().succeeds().says("ALARM").says("or is damaged");
    site.highwater(["window"]).run().says("or is damaged");
    let refused = site.highwater(["plan", "--latest"]).run().ends_with(4).says("or is damaged");
    site.highwater(["plan", "--lsn", &lsn_in(&refused.stderr)]).run().succeeds();
}

/// What `highwater status` has of missing WAL, as alarms and as notes.
fn missing(site: &Site) -> (usize, usize) {
    let status = site.highwater(["status", "--json"]).run().succeeds().json();
    let count = |name: &str| {
        let texts = status[name].as_array().cloned().unwrap_or_default();
        texts.iter().filter(|text| text.to_string().contains("WAL is missing on timeline")).count()
    };
    (count("alarms"), count("notes"))
}

#[test]
fn a_segment_that_is_missing_in_front_of_what_is_received_is_an_alarm_until_that_is_over() {
    let site = Site::on_folder();
    let server = server(&site, Postgres::builder().wal_segment_size_mb(1));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    server.sql("create table t as select 1 as n");
    let missing_name = server.value("select pg_walfile_name(pg_switch_wal())");
    // A whole segment lies between.
    server.sql("insert into t values (2)");
    server.sql("select pg_switch_wal()");
    server.sql("insert into t values (3)");
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    let object = site.objects(&format!("/wal/00000001/{missing_name}")).remove(0);
    let aside = site.path("aside");
    let take_away = || std::fs::rename(&object, &aside).unwrap();
    take_away();

    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    let alarms = receiving.state()["alarms"].to_string();
    assert!(alarms.contains("is missing in") && !receiving.state()["alarms"][1].is_string(), "{alarms}");
    receiving.catches_up_with(&server);
    assert_eq!(missing(&site), (1, 0));
    std::fs::rename(&aside, &object).unwrap();
    let is_over = || receiving.state()["alarms"].is_null();
    wait_until("the alarm is over", PATIENCE, is_over);
    assert_eq!(missing(&site), (0, 0));
    let said = receiving.running.terminate().succeeds().says("is over: it is in the repository now").stderr;
    assert_eq!(said.matches("ALARM").count(), 1, "{said}");

    // Until somebody takes a backup each new receiver tells of it.
    take_away();
    receive(&site, WITH_SLOT).wait_until_streaming().running.terminate().succeeds().says("ALARM");
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    let label = back_up(&site);
    let is_over = || receiving.state()["alarms"].is_null();
    wait_until("the alarm is over", PATIENCE, is_over);
    assert_eq!(missing(&site), (0, 1));
    let said = receiving
        .running
        .terminate()
        .succeeds()
        .says(&format!("is over: base backup {label} lies behind it"));
    assert_eq!(said.stderr.matches("ALARM").count(), 1, "{}", said.stderr);
    receive(&site, WITH_SLOT).wait_until_streaming().running.terminate().succeeds().does_not_say("ALARM");
}

#[test]
fn r12_commits_in_front_of_a_piece_that_is_missing_or_damaged_are_reached() {
    let site = Site::on_folder();
    let server = server(&site, Postgres::builder());
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    server.sql("create table t as select 1 as n");
    receiving.catches_up_with(&server);
    let known = |site: &Site| -> BTreeSet<PathBuf> { site.objects("/tail/").into_iter().collect() };
    let before = known(&site);
    server.sql("insert into t values (2)");
    receiving.catches_up_with(&server);
    let middle: Vec<PathBuf> = known(&site).difference(&before).cloned().collect();
    server.sql("insert into t values (3)");
    receiving.catches_up_with(&server);
    // Nothing is left that could send it again.
    receiving.running.terminate().succeeds();
    drop(server);
    let contents: Vec<Vec<u8>> = middle.iter().map(|piece| std::fs::read(piece).unwrap()).collect();
    assert!(!middle.is_empty());

    middle.iter().for_each(|piece| std::fs::remove_file(piece).unwrap());
    let (_, output) = restore(&site, "missing", &["--latest"]);
    let last = lsn_in(&output.ends_with(4).says("or is damaged").stderr);
    assert_eq!(rows(&bring_back(&site, "in-front", &["--lsn", &last])), "1");
    site.highwater(["verify"]).run().ends_with(4).says("are missing");
    site.highwater(["status"]).run().succeeds().says("ALARM");
    let log = site.highwater(["log"]).run().succeeds();
    assert_eq!(log.stdout.matches("public.t +1").count(), 1, "{}", log.stdout);

    // They are back, and damaged: a plan that goes by their names is not carried out further than they can be read.
    for (piece, content) in middle.iter().zip(&contents) {
        let mut damaged = content.clone();
        let at = damaged.len() - 20;
        damaged[at] ^= 1;
        std::fs::write(piece, damaged).unwrap();
    }
    site.highwater(["verify", "--deep"]).run().ends_with(4);
    assert_eq!(rows(&bring_back(&site, "in-front-of-damage", &["--lsn", &last])), "1");
}

#[test]
fn a_newest_segment_that_has_gone_is_missed_once_a_verification_has_seen_it() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    back_up(&site);
    server.sql("create table t as select 1 as n");
    server.archive_now();
    server.sql("insert into t values (2)");
    let newest = server.archive_now();
    site.highwater(["verify"]).run().succeeds();
    for segment in site.objects(&format!("/{newest}")) {
        std::fs::remove_file(segment).unwrap();
    }
    let last = is_missed(&site);
    assert_eq!(rows(&bring_back(&site, "what-is-left", &["--lsn", &last])), "1");
}

#[test]
fn r12_commits_in_the_segment_in_which_a_loss_begins_are_reached() {
    let site = Site::on_folder();
    let server = server(&site, forgetful(17));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    server.sql("create table t as select 1 as n");
    server.sql("insert into t values (2)");
    let time = server.now();
    let xid = server.value("insert into t values (3) returning pg_current_xact_id()");
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    server.sql("select pg_drop_replication_slot('highwater')");
    overwrite(&server);
    server.configure("max_slot_wal_keep_size", "-1");
    let receiving = receive(&site, WITH_SLOT);
    wait_until("the loss is told", PATIENCE, || receiving.running.stderr().contains("ALARM: WAL from"));
    let receiving = receiving.wait_until_streaming();
    // Until somebody takes a backup each new receiver tells of it.
    receiving.running.terminate().succeeds();
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    assert!(receiving.state()["alarms"].to_string().contains("is lost"), "{}", receiving.state());
    // Behind the hole there are pieces only.
    receiving.catches_up_with(&server);
    site.highwater(["verify"]).run().ends_with(4).says("cannot be reached");
    back_up(&site);
    site.highwater(["verify"]).run().succeeds().says("a hole between windows");
    server.sql("insert into t values (4)");
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    // From here on nothing is to be told any more.
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    assert!(receiving.state()["alarms"].is_null(), "{}", receiving.state());
    receiving.running.terminate().succeeds().does_not_say("ALARM");

    assert_eq!(rows(&bring_back(&site, "last", &["--xid", &xid])), "1 2 3");
    assert_eq!(rows(&bring_back(&site, "between", &["--at", &time])), "1 2");
    assert_eq!(rows(&bring_back(&site, "latest", &["--latest"])), "1 2 3 4");
    let log = site.highwater(["log"]).run().succeeds().says("HOLE").says("there is the beginning up to");
    assert_eq!(log.stdout.matches("public.t +1").count(), 4, "{}", log.stdout);
    site.highwater(["window"]).run().succeeds().says("there is the beginning up to");
}

#[test]
fn r01_what_is_moved_away_under_a_synchronous_receiver_is_put_again_before_another_commit_returns() {
    let site = Site::on_folder();
    let server = server(&site, Postgres::builder());
    let receiving = receive(&site, &[WITH_SLOT, &["--synchronous"]].concat()).wait_until_streaming();
    back_up(&site);
    server.configure("synchronous_standby_names", "highwater");
    server.sql("create table t as select 1 as n");
    server.sql("insert into t values (2)");
    let strips = site.objects("/strip-");
    let tail = strips[0].ancestors().find(|folder| folder.ends_with("tail")).unwrap();
    std::fs::rename(tail, site.path("tail.away")).unwrap();
    server.sql("insert into t values (3)");
    receiving.running.kill9().says("have gone from it; hint: somebody has removed or moved a file there");
    server.kill9();
    assert_eq!(rows(&bring_back(&site, "all", &["--latest"])), "1 2 3");
}
