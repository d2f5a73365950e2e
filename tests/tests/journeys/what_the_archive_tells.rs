//! What is wrong with an archive is told before anybody needs it: by `status`, `window`, `list` and `plan`.

use std::fs;
use std::path::PathBuf;

use highwater_tests::{PATIENCE, Postgres, Site, StopMode, wait_until};

use crate::restores::{archiving, back_up, bring_back, restore};

/// A server's `archive_command` where the configuration names another data directory.
fn archive_command_of(site: &Site, data: &std::path::Path) -> String {
    format!("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={} {}", data.display(), site.archive_command())
}

/// The one object whose path contains `part`.
fn object(site: &Site, part: &str) -> PathBuf {
    let objects = site.objects(part);
    assert_eq!(objects.len(), 1, "{part}: {objects:?}");
    objects.into_iter().next().expect("there is one")
}

/// Leaves only the first bytes of an object, as a broken disk might.
fn cut(object: &PathBuf, length: usize) {
    let content = fs::read(object).expect("the object can be read");
    fs::remove_file(object).expect("the object can be removed");
    fs::write(object, &content[..length]).expect("the object can be written");
    highwater_tests::give_to_server_account(object);
}

/// The alarms of `status`, and that its screen has them.
fn alarms(site: &Site) -> String {
    let text = site.highwater(["status"]).run().succeeds().stdout;
    let json = site.highwater(["status", "--json"]).run().succeeds().json();
    let alarms: Vec<&str> = json["alarms"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|alarm| alarm.as_str().expect("text"))
        .collect();
    for alarm in &alarms {
        assert!(text.contains(&format!("ALARM            {alarm}")), "{alarm}: {text}");
    }
    alarms.join("\n")
}

#[test]
fn r15_commits_between_the_archive_and_a_fork_are_missed() {
    let site = Site::on_folder();
    let primary = archiving(&site, Postgres::builder());
    primary.sql("create table t (n int)");
    back_up(&site);
    let standby = primary.standby("next").start();
    standby.configure("archive_command", &archive_command_of(&site, standby.data_dir()));
    primary.sql("insert into t values (1)");
    primary.archive_now();
    // This commit is in no segment that was ever archived, and the promoted host dies before it archives one.
    primary.sql("insert into t values (2)");
    let written = primary.value("select pg_current_wal_insert_lsn()");
    standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), PATIENCE);
    primary.stop(StopMode::Immediate);
    standby.promote();
    for file in ["00000002.history", ".partial"] {
        wait_until("the promoted standby archives", PATIENCE, || !site.objects(file).is_empty());
    }
    standby.kill9();

    for arguments in [&["--latest"][..], &["--latest", "--timeline", "2"]] {
        let (folder, output) = restore(&site, "latest", arguments);
        output
            .ends_with(3)
            .says("timeline 2 left timeline 1 at")
            .says(".partial")
            .says("hint:")
            .says("--timeline 1");
        assert!(!folder.exists(), "R12: nothing is written before the plan is proven");
    }
    let old = bring_back(&site, "old", &["--latest", "--timeline", "1"]);
    assert_eq!(old.column("select n from t"), ["1"]);
    site.highwater(["window"]).run().succeeds().says("timeline 2 left timeline 1 at");
    let alarms = alarms(&site);
    assert!(alarms.contains("timeline 2 left timeline 1 at"), "{alarms}");
}

#[test]
fn r15_two_timelines_that_both_go_on_are_told_apart() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    back_up(&site);
    server.sql("insert into t values (1)");
    let fork = server.value("select pg_current_wal_insert_lsn()");
    let before = server.now();
    server.sql("insert into t values (2)");
    server.archive_now();
    // Somebody takes over elsewhere while the cluster itself goes on.
    let (folder, output) = restore(&site, "elsewhere", &["--takeover", "--lsn", &fork, "--exclusive"]);
    // It is not where the configuration says that the cluster lies.
    output.succeeds().says("WARNING: the configuration says data-directory").says("refuses to archive");
    let other = Postgres::from_data_dir(&folder)
        .setting("archive_command", &archive_command_of(&site, &folder))
        .try_recover()
        .unwrap_or_else(|failure| panic!("{failure}"));
    let between = server.now();
    server.sql("insert into t values (3)");
    other.sql("insert into t values (-3)");
    let after = server.now();
    server.sql("insert into t values (4)");
    server.archive_now();
    other.sql("insert into t values (-4)");
    other.archive_now();

    let rows = |server: &Postgres| server.column("select n from t order by n").join(" ");
    for moment in [&between, &after] {
        let (folder, output) = restore(&site, "ambiguous", &["--at", moment]);
        let output = output.ends_with(3).says("timeline 1").says("timeline 2");
        output.says("hint:").says("--timeline 1").says("--timeline 2");
        assert!(!folder.exists(), "R12: nothing is written before the plan is proven");
    }
    assert_eq!(rows(&bring_back(&site, "before", &["--at", &before])), "1");
    assert_eq!(rows(&bring_back(&site, "on-1", &["--at", &after, "--timeline", "1"])), "1 2 3");
    assert_eq!(rows(&bring_back(&site, "on-2", &["--at", &after, "--timeline", "2"])), "-3 1");

    let (folder, output) = restore(&site, "latest", &["--latest"]);
    output.succeeds().says("timeline 1 goes on beside").says("--timeline 1");
    assert_eq!(rows(&crate::restores::recovered(&folder)), "-4 -3 1");
    let plan = site.highwater(["plan", "--latest", "--json"]).run().succeeds().json();
    assert!(
        plan["notes"][0].as_str().is_some_and(|note| note.contains("timeline 1 goes on beside")),
        "{plan}"
    );
    let plain = site.highwater(["plan", "--latest", "--timeline", "1", "--json"]).run().succeeds().json();
    assert_eq!(plain["notes"].as_array().map(Vec::len), Some(0), "{plain}");
    let alarms = alarms(&site);
    assert!(alarms.contains("the server is on timeline 1"), "{alarms}");
}

#[test]
fn r22_what_is_damaged_takes_only_itself_out() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    let backup = |label| site.highwater(["backup", "--label", label]).run().succeeds();
    backup("b1");
    server.sql("insert into t values (1)");
    server.archive_now();
    backup("b2");
    server.sql("insert into t values (2)");
    server.archive_now();

    cut(&object(&site, "backups/b2/manifest"), 100);
    site.highwater(["list"]).run().succeeds().says("b1").says("DAMAGED").says("b2");
    let list = site.highwater(["list", "--json"]).run().succeeds().json();
    assert_eq!(list["damaged"][0]["label"], "b2");
    site.highwater(["window"]).run().succeeds().says("b1").says("backup b2 is damaged");
    site.highwater(["plan", "--backup", "b1", "--latest"]).run().succeeds();
    site.highwater(["plan", "--latest"]).run().succeeds().says("b1").says("backup b2 is damaged");
    site.highwater(["plan", "--backup", "b2", "--latest"]).run().ends_with(4).says("b2").says("hint:");
    let restored = bring_back(&site, "copy", &["--latest"]);
    assert_eq!(restored.value("select count(*) from t"), "2");
    assert!(alarms(&site).contains("backup b2 is damaged"));

    // The head of a segment that a window ends with.
    server.sql("insert into t values (3)");
    let last = server.archive_now();
    let sound = fs::read(object(&site, &last)).expect("the object can be read");
    cut(&object(&site, &last), 20);
    let alarms_now = alarms(&site);
    assert!(alarms_now.contains(&last), "{alarms_now}");
    site.highwater(["window"]).run().succeeds().says(&last);
    site.highwater(["plan", "--immediate"]).run().succeeds().says(&last).says("is damaged and left aside");
    site.highwater(["plan", "--latest"]).run().ends_with(4).says(&last);

    fs::write(object(&site, &last), sound).expect("the object can be mended");

    // A history that no path needs.
    let wal =
        object(&site, &last).parent().and_then(|folder| folder.parent()).expect("wal/TLI/SEGMENT").to_owned();
    let history = wal.join("00000007").join("00000007.history");
    fs::create_dir(history.parent().expect("a folder")).unwrap();
    fs::write(&history, b"broken").unwrap();
    highwater_tests::give_to_server_account(history.parent().expect("a folder"));
    highwater_tests::give_to_server_account(&history);
    assert!(alarms(&site).contains("00000007.history is damaged"));
    site.highwater(["list"]).run().succeeds().says("b1");
    // A server on its way to the end of timeline 1 looks for later ones, and cannot pass by this one.
    let plan = site.highwater(["plan", "--immediate", "--timeline", "1"]).run();
    plan.ends_with(3).says("00000007.history is damaged").says("hint:");
    site.highwater(["plan", "--latest"]).run().ends_with(3).says("00000007.history is damaged").says("hint:");
}

#[test]
fn status_shouts_when_nothing_comes_into_the_repository() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    back_up(&site);
    assert_eq!(alarms(&site), "");
    server.configure("archive_command", "/bin/true");
    server.sql("insert into t values (1)");
    let lost = server.value("select pg_walfile_name(pg_switch_wal())");
    server.wait_for(&format!("select last_archived_wal >= '{lost}' from pg_stat_archiver"), PATIENCE);
    let alarms_now = alarms(&site);
    assert!(alarms_now.contains("does not run highwater-archive-cmd"), "{alarms_now}");
    assert!(alarms_now.contains(&format!("{lost} was archived")), "{alarms_now}");
    server.sql("alter system set archive_mode = off");
    server.restart();
    let alarms_now = alarms(&site);
    assert!(alarms_now.contains("archive_mode is off"), "{alarms_now}");
    // A segment of a timeline that nobody knows the origin of.
    let segment = site.objects("wal/00000001/0").into_iter().next().expect("there is one");
    let wal = segment.parent().and_then(|folder| folder.parent()).expect("wal/TLI/SEGMENT").to_owned();
    let other = wal.join("00000005");
    fs::create_dir(&other).unwrap();
    let copy = other.join("000000050000000000000003");
    fs::copy(&segment, &copy).unwrap();
    for path in [&other, &copy] {
        highwater_tests::give_to_server_account(path);
    }
    let alarms_now = alarms(&site);
    assert!(alarms_now.contains("00000005.history is not in the archive"), "{alarms_now}");
}

#[test]
fn backups_under_an_older_system_identifier_are_told() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    back_up(&site);
    let older = server.value("select system_identifier from pg_control_system()");
    let upgraded = Postgres::builder().start();
    let connection = upgraded.connection_string();
    site.highwater(["init", "--connection", &connection]).run().succeeds();
    let option = format!("--system-id {older}");
    site.highwater(["list"]).run().succeeds().says("No complete backup").says(&option);
    site.highwater(["plan", "--latest"]).run().ends_with(3).says(&option);
    site.highwater(["window"]).run().succeeds().says(&option);
    site.highwater(["status"]).run().succeeds().says(&option);
    site.highwater(["plan", "--latest", "--system-id", &older]).run().succeeds();
}

#[test]
fn r22_targets_that_mean_nothing_are_refused() {
    let site = Site::on_folder();
    let _server = archiving(&site, Postgres::builder());
    back_up(&site);
    for arguments in [&["--latest", "--exclusive"][..], &["--immediate", "--exclusive"]] {
        site.highwater(["plan"].iter().chain(arguments)).run().ends_with(2).says("--exclusive");
    }
    for time in ["9999-12-31 23:59:59", "9999-12-31 23:59:59-12", "0000-01-01 00:00+10"] {
        let output = site.highwater(["plan", "--at", time]).run().fails_clearly().says("hint:");
        output.does_not_say("since 2000");
    }
}

/// PostgreSQL asks for the histories of later timelines before it opens, whichever timeline it is to follow.
#[test]
fn r12_a_lost_history_is_told_before_the_server_asks_for_it() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    back_up(&site);
    server.sql("insert into t values (1)");
    let fork = server.value("select pg_current_wal_insert_lsn()");
    server.sql("insert into t values (2)");
    server.archive_now();
    let (folder, output) = restore(&site, "elsewhere", &["--takeover", "--lsn", &fork, "--exclusive"]);
    output.succeeds();
    let other = Postgres::from_data_dir(&folder)
        .setting("archive_command", &archive_command_of(&site, &folder))
        .try_recover()
        .unwrap_or_else(|failure| panic!("{failure}"));
    other.archive_now();

    let (folder, output) = restore(&site, "in-time", &["--latest", "--timeline", "1"]);
    output.succeeds();
    let history = object(&site, "00000002.history");
    let content = fs::read(&history).expect("the history can be read");
    fs::remove_file(&history).expect("the history can be removed");
    let failure = Postgres::from_data_dir(&folder).try_recover().expect_err("it asks for the history");
    assert!(failure.log.contains("00000002.history: it is missing"), "{failure}");
    for arguments in [&["--latest", "--timeline", "1"][..], &["--immediate", "--timeline", "1"]] {
        let (folder, output) = restore(&site, "too-late", arguments);
        output.ends_with(3).says("00000002.history is not in the archive").says("hint:");
        assert!(!folder.exists(), "R12: nothing is written before the plan is proven");
    }
    fs::write(&history, content).expect("the history can be put back");
    highwater_tests::give_to_server_account(&history);
    let recovered = crate::restores::recovered(&folder);
    assert_eq!(recovered.column("select n from t order by n"), ["1", "2"]);
}
