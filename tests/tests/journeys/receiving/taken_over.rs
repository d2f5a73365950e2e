//! The receiver finds the way that a restored or promoted server has come, and asks it for nothing before it is there.

use highwater_tests::{PATIENCE, Postgres, Program, Site, StopMode, wait_until};

use super::{WITH_SLOT, receive, receiver, rows, server, started};
use crate::restores::{back_up, bring_back, restore};

#[test]
fn r18_a_cluster_that_is_taken_over_is_received_from_where_it_goes_on() {
    for version in [14, 18] {
        taken_over(version);
    }
}

fn taken_over(version: u32) {
    let site = Site::on_folder();
    let lost = server(&site, Postgres::builder().version(version));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    lost.sql("create table t as select 1 as n");
    let time = lost.now();
    lost.sql("insert into t values (2)");
    receiving.catches_up_with(&lost);
    receiving.running.terminate().succeeds();
    lost.kill9();
    let (folder, output) = restore(&site, "again", &["--takeover", "--at", &time, "--action", "pause"]);
    output.succeeds();
    let again = Postgres::from_data_dir(&folder).try_start().unwrap_or_else(|failure| panic!("{failure}"));
    again.wait_for("select pg_get_wal_replay_pause_state() = 'paused'", PATIENCE);

    // It is in recovery, and on the old timeline, whose WAL the repository has.
    let program = receiver(&site, WITH_SLOT)
        .env("HIGHWATER_CLUSTER_MAIN_CONNECTION", again.connection_string())
        .env("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY", &folder);
    let receiving = started(&site, program);
    let told = || receiving.running.stderr().contains("the server is in recovery");
    wait_until("the receiver says what it waits for", PATIENCE, told);
    assert_eq!(receiving.state()["phase"], "waiting", "{}", receiving.state());
    assert!(receiving.state()["error"].is_null(), "{}", receiving.state());
    again.sql("select pg_wal_replay_resume()");
    again.wait_until_recovered().unwrap_or_else(|failure| panic!("{failure}"));
    let receiving = receiving.wait_until_streaming();
    assert_eq!(receiving.state()["timeline"], 2);
    again.sql("insert into t values (3)");
    receiving.catches_up_with(&again);
    let said = receiving.running.terminate().succeeds();
    said.does_not_say("trying again").does_not_say("timeline 1").does_not_say("ALARM");
    drop(again);
    assert_eq!(rows(&bring_back(&site, "latest", &["--latest"])), "1 3");
}

#[test]
fn an_alarm_is_over_with_a_backup_of_the_standby_that_is_promoted_under_the_receiver() {
    let site = Site::on_folder();
    let primary = server(&site, Postgres::builder().wal_segment_size_mb(1));
    let standby = primary.standby("next").start();
    // There is no slot, and what it recycles would be a loss of its own.
    standby.configure("wal_keep_size", "64MB");
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    primary.sql("create table t as select 1 as n");
    let missing = primary.value("select pg_walfile_name(pg_switch_wal())");
    primary.sql("insert into t values (2)");
    receiving.catches_up_with(&primary);
    receiving.running.terminate().succeeds();
    std::fs::remove_file(site.objects(&format!("/wal/00000001/{missing}")).remove(0)).unwrap();
    let written = primary.value("select pg_current_wal_insert_lsn()");
    standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), PATIENCE);

    let of_standby =
        |program: Program| program.env("HIGHWATER_CLUSTER_MAIN_CONNECTION", standby.connection_string());
    primary.sql("insert into t values (3)");
    let receiving = started(&site, of_standby(receiver(&site, &["--flush-interval", "100ms"])));
    let receiving = receiving.wait_until_streaming();
    assert_eq!(receiving.state()["alarms"].as_array().map(Vec::len), Some(1), "{}", receiving.state());
    primary.stop(StopMode::Fast);
    standby.promote();
    wait_until("the new timeline is received", PATIENCE, || receiving.state()["timeline"] == 2);
    of_standby(site.highwater(["backup", "--quiet"])).run().succeeds();
    wait_until("the alarm is over", PATIENCE, || receiving.state()["alarms"].is_null());
    let said = receiving.running.terminate().succeeds().says("is over: base backup");
    said.does_not_say("trying again");
}

#[test]
fn r06_what_was_received_is_reached_though_the_fork_lies_segments_behind_it() {
    let site = Site::on_folder();
    let primary = server(&site, Postgres::builder().wal_segment_size_mb(1));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    primary.sql("create table t as select 1 as n");
    let standby = primary.standby("next").setting("archive_mode", "on").start();
    primary.sql("insert into t values (2)");
    receiving.catches_up_with(&primary);
    receiving.running.terminate().succeeds();
    // This only the standby has, and it dies before it archives more than that it was promoted.
    for _ in 0..2 {
        primary.sql("insert into t values (3); select pg_switch_wal()");
    }
    primary.sql("insert into t values (3)");
    let written = primary.value("select pg_current_wal_insert_lsn()");
    standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), PATIENCE);
    let data = standby.data_dir().display().to_string();
    let command = format!("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={data} {}", site.archive_command());
    standby.configure("archive_command", &command);
    primary.kill9();
    standby.promote();
    for file in ["00000002.history", ".partial"] {
        wait_until("the promoted standby archives", PATIENCE, || !site.objects(file).is_empty());
    }
    standby.kill9();

    let offered = site.highwater(["plan", "--latest"]).run().ends_with(3).says("hint:");
    offered.says("ask for --timeline 1 --latest").does_not_say("--exclusive");
    site.highwater(["verify"]).run().succeeds().says("timeline 1 went on to");
    let on_the_first = ["--timeline", "1"];
    let plan = |target: &[&str]| site.highwater([&["plan"], &on_the_first[..], target].concat()).run();
    plan(&["--latest"]).succeeds().says("WARNING: timeline 1 went on");
    plan(&["--lsn", &written]).ends_with(3).says("lies behind a hole");
    let found = plan(&["--latest", "--json"]).succeeds().json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_else(|| panic!("{found:#}")).to_owned();
    let (last, time) = (text(&found["stop"]["lsn"]), text(&found["last_before"]["time"]));
    for (name, target) in
        [("latest", &["--latest"][..]), ("by-position", &["--lsn", &last]), ("by-time", &["--at", &time])]
    {
        let restored = bring_back(&site, name, &[target, &on_the_first].concat());
        assert_eq!(rows(&restored), "1 2", "{name}");
    }
}
