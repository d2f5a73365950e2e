//! The main job: a cluster that archives is lost, and comes back at any moment that was asked for.

use highwater_tests::postgres::Builder;
use highwater_tests::{History, Load, PATIENCE, Postgres, S3, Site, StopMode, VERSIONS};

use crate::archive_command_refuses_other_content::key_pair;
use crate::restores::{archiving, back_up, bring_back, restore};

/// Backs up under a load, goes on for a while, and answers what was committed; everything is archived, the server gone.
fn lived(site: &Site, builder: Builder, commits: u64) -> History {
    let server = archiving(site, builder);
    let load = Load::start(&server);
    load.wait_for_commits(20);
    back_up(site);
    load.wait_for_commits(commits);
    load.stop();
    server.archive_now();
    let history = History::of(&server);
    server.stop(StopMode::Fast);
    history
}

/// Times of commits that the backup can reach, evenly spread, each with the microsecond after it.
fn moments(site: &Site, history: &History, count: usize) -> Vec<String> {
    let windows = site.highwater(["window", "--json"]).run().succeeds().json();
    let from = windows[0]["windows"][0]["from_time"].as_str().expect("there is a window").to_owned();
    let from = from.replace('T', " ").replace('Z', "+00");
    let times: Vec<&str> = history.commit_times().into_iter().filter(|time| *time > from.as_str()).collect();
    assert!(times.len() > count, "the load has committed after the backup");
    (0..count).map(|n| times[n * (times.len() - 1) / count].to_owned()).collect()
}

#[test]
fn r15_ten_moments_under_a_running_load_hold_just_what_was_committed_by_then() {
    let site = Site::on_folder();
    let history = lived(&site, Postgres::builder(), 2000);
    for (number, time) in moments(&site, &history, 10).iter().enumerate() {
        let server = bring_back(&site, &format!("at-{number}"), &["--at", time]);
        history.assert_holds(&server, time);
    }
    let server = bring_back(&site, "latest", &["--latest"]);
    history.assert_holds_all(&server);
}

#[test]
fn every_version_comes_back_at_a_time_and_at_the_end() {
    for version in VERSIONS {
        let site = Site::on_folder();
        let history = lived(&site, Postgres::builder().version(version), 100);
        let time = moments(&site, &history, 3).pop().expect("there are three");
        let server = bring_back(&site, "at", &["--at", &time]);
        assert_eq!(server.version(), version);
        history.assert_holds(&server, &time);
        history.assert_holds_all(&bring_back(&site, "latest", &["--latest"]));
    }
}

#[test]
fn the_same_on_s3_encrypted_with_zstd() {
    let site = Site::on_s3(S3::ceph());
    let (recipient, identity) = key_pair(&site);
    let site = site
        .repository_setting("compression", "zstd")
        .repository_line(&format!("encrypt-to = ['{recipient}']"))
        .repository_setting("identity-file", &identity.display().to_string());
    let history = lived(&site, Postgres::builder(), 200);
    let time = moments(&site, &history, 2).pop().expect("there are two");
    history.assert_holds(&bring_back(&site, "at", &["--at", &time]), &time);
}

#[test]
fn targets_of_every_kind() {
    every_kind(&Site::on_folder());
}

#[test]
fn targets_of_every_kind_on_s3() {
    every_kind(&Site::on_s3(S3::ceph()));
}

fn every_kind(site: &Site) {
    let server = archiving(site, Postgres::builder());
    server.sql("create table t (n int)");
    back_up(site);
    server.sql("insert into t values (1)");
    server.sql("select pg_create_restore_point('here')");
    let xid = server.value("insert into t values (2) returning pg_current_xact_id()");
    let lsn = server.value("select pg_current_wal_insert_lsn()");
    server.sql("insert into t values (3)");
    server.sql("begin; insert into t values (4); prepare transaction 'four'");
    server.sql("insert into t values (5)");
    let prepared_xid = server.value("select transaction from pg_prepared_xacts");
    server.sql("commit prepared 'four'");
    server.archive_now();
    server.stop(StopMode::Fast);
    let table = [
        ("immediate", vec!["--immediate"], ""),
        ("name", vec!["--name", "here"], "1"),
        ("xid", vec!["--xid", &xid], "1 2"),
        ("before-xid", vec!["--xid", &xid, "--exclusive"], "1"),
        ("lsn", vec!["--lsn", &lsn, "--exclusive"], "1 2"),
        ("prepared", vec!["--xid", &prepared_xid], "1 2 3 4 5"),
        ("before-prepared", vec!["--xid", &prepared_xid, "--exclusive"], "1 2 3 5"),
        ("latest", vec!["--latest"], "1 2 3 4 5"),
    ];
    for (name, arguments, expected) in table {
        let restored = bring_back(site, name, &arguments);
        assert_eq!(restored.column("select n from t order by n").join(" "), expected, "{arguments:?}");
        assert_eq!(
            restored.value("select count(*) from pg_prepared_xacts"),
            u8::from(name == "before-prepared").to_string()
        );
    }
}

#[test]
fn r15_an_idle_cluster_comes_back_at_a_time_after_its_last_commit() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    back_up(&site);
    server.sql("insert into t values (1)");
    let idle = server.now();
    server
        .wait_for(&format!("select clock_timestamp() > '{idle}'::timestamptz + interval '100 ms'"), PATIENCE);
    server.archive_now();
    let restored = bring_back(&site, "idle", &["--at", &idle]);
    assert_eq!(restored.column("select n from t"), ["1"]);
    let after = server.now();
    let (folder, output) = restore(&site, "too-late", &["--at", &after]);
    output.ends_with(3).says("too late").says("hint:");
    assert!(!folder.exists(), "R12: nothing is written before the plan is proven");
}

#[test]
fn r12_what_cannot_be_reached_is_said_and_nothing_is_written() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    let before = server.now();
    let (_, output) = restore(&site, "none", &["--latest"]);
    output.ends_with(3).says("no complete backup").says("highwater backup");
    back_up(&site);
    server.sql("insert into t values (1)");
    let lost = server.archive_now();
    server.sql("insert into t values (2)");
    server.archive_now();
    let table = [
        (vec!["--at", before.as_str()], "too early"),
        (vec!["--lsn", "0/28"], "too early"),
        (vec!["--lsn", "7F/0"], "too late"),
        (vec!["--name", "nowhere"], "is not in the WAL"),
        (vec!["--xid", "4000000000"], "is not in the WAL"),
        (vec!["--latest", "--timeline", "9"], "no timeline 9"),
        (vec!["--latest", "--backup", "other"], "no complete backup \"other\""),
    ];
    for (arguments, reason) in &table {
        let (folder, output) = restore(&site, "unreachable", arguments);
        output.ends_with(3).says(reason).says("hint:");
        assert!(!folder.exists(), "{arguments:?}");
    }
    let object = site.objects("wal").into_iter().find(|path| path.ends_with(&lost)).expect("it is archived");
    std::fs::remove_file(object).unwrap();
    let (folder, output) = restore(&site, "hole", &["--latest"]);
    output.ends_with(3).says("hole").says(&lost);
    assert!(!folder.exists());
    site.highwater(["window"]).run().succeeds().says("hole").says(&lost);
    site.highwater(["status"]).run().succeeds().says("ALARM").says(&lost);
}

#[test]
fn tablespaces_are_kept_apart() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    let place = server.tablespace("fast");
    server.sql("create table t (n int) tablespace fast; insert into t select generate_series(1, 5000)");
    back_up(&site);
    server.sql("insert into t values (0)");
    server.archive_now();
    let (_, output) = restore(&site, "collides", &["--latest"]);
    output.ends_with(1).says("not empty").says("hint:");
    let moved = site.path("fast-copy");
    let mapping = format!("{}={}", place.display(), moved.display());
    let restored = bring_back(&site, "copy", &["--latest", "--tablespace", &mapping]);
    assert_eq!(restored.value("select count(*) from t"), "5001");
    assert_eq!(
        restored.value("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'"),
        moved.display().to_string()
    );
    assert_eq!(server.value("select count(*) from t"), "5001", "the original is as it was");
}

#[test]
fn r05_a_clone_cannot_archive_into_its_originals_archive() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    back_up(&site);
    server.archive_now();
    let clone = bring_back(&site, "clone", &["--latest"]);
    assert_eq!(clone.value("show archive_mode"), "off");
    assert!(!clone.log().contains("external PID file"), "{}", clone.log());
    let before = site.objects("wal");
    let folder = clone.data_dir().to_owned();
    let segment = clone.value("select pg_walfile_name(pg_switch_wal())");
    // Even with a configuration that speaks of this folder.
    let by_hand = site.program("highwater-archive-cmd", [format!("pg_wal/{segment}")]).in_folder(&folder);
    by_hand.env("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY", &folder).run().ends_with(1).says("clone");
    assert_eq!(site.objects("wal"), before);
}

#[test]
fn a_cluster_that_went_back_comes_back_on_either_timeline() {
    went_back(&Site::on_folder());
}

#[test]
fn a_cluster_that_went_back_comes_back_on_either_timeline_on_s3() {
    went_back(&Site::on_s3(S3::ceph()));
}

fn went_back(site: &Site) {
    let server = archiving(site, Postgres::builder());
    server.sql("create table t (n int)");
    back_up(site);
    server.sql("insert into t values (1)");
    server.archive_now();
    let fork = server.value("select pg_current_wal_insert_lsn()");
    server.sql("insert into t values (-2)");
    server.archive_now();
    server.stop(StopMode::Fast);
    // The cluster itself goes back to before the mistake, and lives on from there.
    let data = server.data_dir();
    std::fs::rename(data, site.path("moved-away")).unwrap();
    let to = data.display().to_string();
    let arguments = ["restore", "--takeover", "--lsn", &fork, "--exclusive", "--to", &to];
    site.highwater(arguments).run().succeeds().says("takes the cluster's place");
    server.start_again().unwrap_or_else(|failure| panic!("{failure}"));
    server.wait_until_recovered().unwrap_or_else(|failure| panic!("{failure}"));
    server.sql("insert into t values (2)");
    server.archive_now();
    let newest = bring_back(site, "newest", &["--latest"]);
    assert_eq!(newest.column("select n from t order by n"), ["1", "2"]);
    let old = bring_back(site, "old", &["--latest", "--timeline", "1"]);
    assert_eq!(old.column("select n from t order by n"), ["-2", "1"]);
    let windows = site.highwater(["window"]).run().succeeds();
    windows.says("Timeline 2: left timeline 1");
}
