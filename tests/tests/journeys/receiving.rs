//! WAL is streamed into the repository as the server writes it, and what was streamed is restored.

mod beside_archive_command;
mod stores;
mod taken_over;
mod what_has_gone;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use highwater_tests::postgres::Builder;
use highwater_tests::{
    CLUSTER, Fault, Load, PATIENCE, Postgres, Program, Proxy, Running, S3, Site, StopMode, VERSIONS,
    assert_load_is_whole, wait_until,
};

use crate::restores::{back_up, bring_back};

/// How often a server of each version is killed under load, and its receiver with it: fifty times in all.
const KILLS: u32 = 10;
/// Within this much the receiver has what was committed, on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(20);

/// A receiver that runs.
struct Receiving {
    running: Running,
    state: PathBuf,
}

impl Receiving {
    fn state(&self) -> serde_json::Value {
        let text = std::fs::read(&self.state).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn wait_until_streaming(self) -> Receiving {
        wait_until("WAL is received", PATIENCE, || self.state()["phase"] == "streaming");
        self
    }

    /// Waits until all that the server has written by now is in the repository.
    fn catches_up_with(&self, server: &Postgres) {
        let end = server.value("select pg_current_wal_flush_lsn()");
        let said = || self.running.stderr();
        let caught_up = highwater_tests::holds_within(PATIENCE, || {
            let state = self.state();
            let durable = state["durable"].as_str().unwrap_or("0/0");
            state["phase"] == "streaming"
                && server.value(&format!("select '{durable}'::pg_lsn >= '{end}'::pg_lsn")) == "t"
        });
        assert!(caught_up, "{end} is not reached: {} {}", self.state(), said());
    }
}

fn receiver(site: &Site, more: &[&str]) -> Program {
    let state = site.path("receive.json").display().to_string();
    site.highwater(["receive", "--state-file", &state]).args(more)
}

fn receive(site: &Site, more: &[&str]) -> Receiving {
    started(site, receiver(site, more))
}

fn started(site: &Site, program: Program) -> Receiving {
    let state = site.path("receive.json");
    // What an earlier receiver has said counts no more.
    let _ = std::fs::remove_file(&state);
    Receiving { running: program.start(), state }
}

const WITH_SLOT: &[&str] = &["--slot", "highwater", "--create-slot", "--flush-interval", "100ms"];

/// A server that nobody archives from but the receiver.
fn server(site: &Site, builder: Builder) -> Postgres {
    let server = builder.start();
    site.add_cluster(CLUSTER, &server);
    site.highwater(["init"]).run().succeeds();
    server
}

fn rows(server: &Postgres) -> String {
    server.column("select n from t order by n").join(" ")
}

#[test]
fn r17_r18_killed_with_its_server_postgresql_14() {
    killed_with_its_server(14);
}

#[test]
fn r17_r18_killed_with_its_server_postgresql_15() {
    killed_with_its_server(15);
}

#[test]
fn r17_r18_killed_with_its_server_postgresql_16() {
    killed_with_its_server(16);
}

#[test]
fn r17_r18_killed_with_its_server_postgresql_17() {
    killed_with_its_server(17);
}

#[test]
fn r17_r18_killed_with_its_server_postgresql_18() {
    killed_with_its_server(18);
}

/// What was written up to the last piece is restored; and, killed under load at any moment, what was acknowledged is there.
fn killed_with_its_server(version: u32) {
    assert!(VERSIONS.contains(&version));
    let site = Site::on_folder();
    let server = server(&site, Postgres::builder().version(version));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    server.sql("create table t as select 1 as n");
    server.sql("insert into t values (2)");
    let between = server.now();
    server.sql("insert into t values (3)");
    receiving.catches_up_with(&server);
    assert_ne!(receiving.state()["last_commit"]["time"], serde_json::Value::Null);
    let status = site.highwater(["status", "--json"]).run().json();
    assert_ne!(status["lag_bytes"], serde_json::Value::Null, "{status}");
    server.kill9();
    receiving.running.kill9();
    assert!(!site.objects("/tail/").is_empty(), "the newest segment is there in pieces");
    let latest = bring_back(&site, "latest", &["--latest"]);
    assert_eq!(rows(&latest), "1 2 3", "PostgreSQL {version}");
    drop(latest);
    // The exact stop lies in the tail, too.
    assert_eq!(rows(&bring_back(&site, "between", &["--at", &between])), "1 2");
    site.highwater(["window"]).run().succeeds();
    site.highwater(["log"]).run().succeeds();
    site.highwater(["verify", "--deep"]).run().succeeds();
    for round in 0..KILLS {
        killed_under_load(&site, &server, round, round.is_multiple_of(2));
    }
    site.highwater(["verify"]).run().succeeds();
}

fn killed_under_load(site: &Site, server: &Postgres, round: u32, synchronous: bool) {
    server.start_again().unwrap_or_else(|failure| panic!("{failure}"));
    let arguments = [WITH_SLOT, &["--synchronous"][..usize::from(synchronous)]].concat();
    let receiving = receive(site, &arguments).wait_until_streaming();
    server.configure("synchronous_standby_names", if synchronous { "highwater" } else { "" });
    server.sql("create table if not exists load_rows (id bigint primary key, batch bigint not null, content text not null)");
    let batches = "select count(distinct batch) from load_rows";
    let had: u64 = server.value(batches).parse().unwrap_or_default();
    let load = Load::start(server);
    load.wait_for_commits(1);
    // Any moment will do.
    std::thread::sleep(Duration::from_millis(u64::from(rand_of(round + 31 * server.version())) % 600));
    let mut returned = load.commits();
    if !synchronous {
        // What is committed now is acknowledged within the interval and the time of a put.
        let end = server.value("select pg_current_wal_flush_lsn()");
        server.wait_for(&format!("select flush_lsn >= '{end}' from pg_stat_replication"), SOON);
    }
    if round.is_multiple_of(3) {
        receiving.running.kill9();
        server.kill9();
    } else {
        server.kill9();
        receiving.running.kill9();
    }
    if synchronous {
        returned = load.commits();
        assert!(!site.objects("/strip-").is_empty(), "round {round}: commits waited, and for no strip");
    }
    load.stop();
    let name = format!("round-{round}");
    let restored = bring_back(site, &name, &["--latest"]);
    let has: u64 = restored.value(batches).parse().unwrap_or_default();
    assert!(has >= had + returned, "round {round}: {has} transactions of {had} and {returned}");
    assert_load_is_whole(&restored);
    drop(restored);
    std::fs::remove_dir_all(site.path(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Something that looks random and is the same each time.
fn rand_of(round: u32) -> u32 {
    round.wrapping_add(1).wrapping_mul(2_654_435_761) >> 16
}

#[test]
fn r18_a_failover_is_followed_to_the_new_timeline() {
    for version in VERSIONS {
        let site = Site::on_folder();
        let primary = server(&site, Postgres::builder().version(version));
        let standby = primary.standby("next").start();
        let both = format!(
            "host={},{} user=postgres dbname=postgres target_session_attrs=primary",
            primary.folder().display(),
            standby.folder().display()
        );
        let program = receiver(&site, &["--flush-interval", "100ms"]);
        let receiving =
            started(&site, program.env("HIGHWATER_CLUSTER_MAIN_CONNECTION", &both)).wait_until_streaming();
        back_up(&site);
        primary.sql("create table t as select 1 as n");
        receiving.catches_up_with(&primary);
        let written = primary.value("select pg_current_wal_insert_lsn()");
        standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), PATIENCE);
        primary.kill9();
        standby.promote();
        standby.sql("insert into t values (2)");
        wait_until("the new timeline is received", PATIENCE, || receiving.state()["timeline"] == 2);
        receiving.catches_up_with(&standby);
        assert_eq!(rows(&bring_back(&site, "latest", &["--latest"])), "1 2", "PostgreSQL {version}");
        receiving.running.terminate().succeeds();
        site.highwater(["verify"]).run().succeeds();
    }
}

#[test]
fn r18_a_switchover_is_not_held_up() {
    let site = Site::on_folder();
    let primary = server(&site, Postgres::builder());
    let standby = primary.standby("next").start();
    let both = format!(
        "host={},{} user=postgres dbname=postgres target_session_attrs=primary",
        primary.folder().display(),
        standby.folder().display()
    );
    // An interval that nobody would wait for: what the server asks for comes at once.
    let program = receiver(&site, &["--slot", "highwater", "--create-slot", "--flush-interval", "1h"]);
    let receiving =
        started(&site, program.env("HIGHWATER_CLUSTER_MAIN_CONNECTION", &both)).wait_until_streaming();
    primary.sql("create table t as select 1 as n");
    primary.sql("checkpoint");
    let begun = std::time::Instant::now();
    primary.stop(StopMode::Fast);
    assert!(begun.elapsed() < Duration::from_secs(15), "the shutdown took {:?}", begun.elapsed());
    wait_until("the receiver has said so", PATIENCE, || {
        receiving.running.stderr().contains("shut down; all of its WAL is in the repository")
    });
    standby.promote();
    standby.sql("insert into t values (2)");
    wait_until("the new timeline is received", PATIENCE, || receiving.state()["timeline"] == 2);
    receiving.running.terminate().succeeds();
}

#[test]
fn the_receiver_and_archive_command_agree() {
    let site = Site::on_folder();
    let server = site.start_server(Postgres::builder().wal_segment_size_mb(1));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    let load = Load::start(&server);
    for _ in 0..5 {
        load.wait_for_commits(50);
        server.archive_now();
    }
    load.stop();
    receiving.catches_up_with(&server);
    assert_eq!(server.value("select failed_count from pg_stat_archiver"), "0", "{}", server.log());
    let said = receiving.running.terminate().succeeds();
    said.does_not_say("is not what").does_not_say("other content").says("stopped");
    let restored = bring_back(&site, "latest", &["--latest"]);
    assert_eq!(
        restored.value("select count(*) from load_rows"),
        server.value("select count(*) from load_rows")
    );
    assert_load_is_whole(&restored);
}

/// A server with little room for WAL.
fn forgetful(version: u32) -> Builder {
    let builder = Postgres::builder().version(version).wal_segment_size_mb(1);
    builder
        .setting("max_wal_size", "2MB")
        .setting("min_wal_size", "2MB")
        .setting("max_slot_wal_keep_size", "1MB")
}

/// Writes until the server has removed what it had.
fn overwrite(server: &Postgres) {
    for _ in 0..6 {
        server.sql("select pg_logical_emit_message(true, 'x', repeat('x', 900000)), pg_switch_wal()");
        server.sql("checkpoint");
    }
}

/// The receiver has told of the hole, and what comes behind it is restored.
fn goes_on_behind_the_hole(site: &Site, server: &Postgres, arguments: &[&str]) {
    // Another loss is not what is to be seen.
    server.configure("max_slot_wal_keep_size", "-1");
    let receiving = receive(site, arguments);
    let told = || receiving.running.stderr().contains("ALARM: WAL from");
    wait_until("the loss is told", PATIENCE, told);
    let receiving = receiving.wait_until_streaming();
    let alarms = receiving.state()["alarms"].clone();
    assert_eq!(alarms.as_array().map(Vec::len), Some(1), "one loss, one alarm: {alarms}");
    back_up(site);
    server.sql("insert into t values (2)");
    receiving.catches_up_with(server);
    let said = receiving.running.terminate().succeeds().stderr;
    assert_eq!(said.matches("ALARM").count(), 1, "{said}");
    assert!(!site.objects("events/").is_empty());
    // It knows the hole when it comes back, tells of it no second time, and asks the server for nothing that went there.
    let receiving = receive(site, arguments).wait_until_streaming();
    server.sql("insert into t values (3)");
    receiving.catches_up_with(server);
    receiving.running.terminate().succeeds().does_not_say("ALARM").does_not_say("trying again");
    assert_eq!(rows(&bring_back(site, "latest", &["--latest"])), "1 2 3");
}

#[test]
fn r18_wal_that_was_lost_with_a_dropped_slot_is_told_and_it_goes_on_behind_it() {
    let site = Site::on_folder();
    let server = server(&site, forgetful(15));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    server.sql("create table t as select 1 as n");
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    server.sql("select pg_drop_replication_slot('highwater')");
    overwrite(&server);
    // Without the slot, and without --create-slot, nothing is received, and it is said why.
    let output = receiver(&site, &["--slot", "highwater"]).run().ends_with(2);
    output.says("has no replication slot").says("hint:");
    goes_on_behind_the_hole(&site, &server, WITH_SLOT);
}

#[test]
fn r18_a_slot_that_was_invalidated_is_made_anew() {
    for version in [14, 18] {
        let site = Site::on_folder();
        let server = server(&site, forgetful(version));
        let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
        server.sql("create table t as select 1 as n");
        receiving.catches_up_with(&server);
        receiving.running.terminate().succeeds();
        overwrite(&server);
        let lost = "select wal_status = 'lost' from pg_replication_slots";
        assert_eq!(server.value(lost), "t", "PostgreSQL {version}");
        goes_on_behind_the_hole(&site, &server, WITH_SLOT);
        assert_eq!(server.value("select wal_status from pg_replication_slots"), "reserved");
    }
}

#[test]
fn r05_a_restored_clone_is_not_received() {
    let site = Site::on_folder();
    let server = server(&site, Postgres::builder());
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    server.sql("create table t as select 1 as n");
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    let clone = bring_back(&site, "clone", &["--latest"]);
    let of_clone = clone.connection_string();
    let program = receiver(&site, &[]).env("HIGHWATER_CLUSTER_MAIN_CONNECTION", &of_clone);
    program.run().ends_with(2).says("is a restored clone of").says("highwater adopt");
}

#[test]
fn r18_a_store_that_is_away_is_waited_for() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint());
    let server = server(&site, Postgres::builder().wal_segment_size_mb(1));
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    let load = Load::start_with_pause(&server, Duration::from_millis(30));
    load.wait_for_commits(20);
    proxy.set(Fault::Down);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(60) {
        load.wait_for_commits(10);
    }
    proxy.set(Fault::None);
    load.wait_for_commits(20);
    load.stop();
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    let restored = bring_back(&site, "latest", &["--latest"]);
    assert_eq!(
        restored.value("select count(*) from load_rows"),
        server.value("select count(*) from load_rows")
    );
    assert_load_is_whole(&restored);
}
