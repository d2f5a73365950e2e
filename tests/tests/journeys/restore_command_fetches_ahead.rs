//! What PostgreSQL asks for next is fetched before it asks: the same rows, the same refusals, and nothing left behind.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use highwater_tests::postgres::Builder;
use highwater_tests::{PATIENCE, Postgres, Program, S3, Site, StopMode, wait_until};

use crate::commands::{LostCluster, fill_segments, small_segments, workers};

const AHEAD: &str = "was fetched ahead";

/// A site whose cluster has archived so many segments of rows behind a copy, and is gone.
fn archived(site: Site, segments: usize) -> (LostCluster, usize) {
    let server = site.start_server(small_segments());
    server.sql("create table t (n int)");
    server.sql("create table filler (content text)");
    let copy = site.path("copy");
    server.copy_to(&copy);
    let names = fill_segments(&server, segments);
    server.sql("insert into t values (1)");
    server.archive_now();
    let rows = server.value("select count(*) from filler").parse().unwrap();
    server.stop(StopMode::Fast);
    (LostCluster::behind(site, copy, names), rows)
}

fn recovering(cluster: &LostCluster, data: &Path) -> Builder {
    let command = cluster.site.restore_command().replace(" %f", " --verbose %f");
    cluster.recover(data, "recovery.signal").setting("restore_command", &command)
}

fn assert_whole(server: &Postgres, rows: usize) {
    assert_eq!(server.value("select count(*) from filler"), rows.to_string());
    assert_eq!(server.value("select count(*) from t"), "1");
}

fn assert_nothing_is_left(cluster: &LostCluster, server: &Postgres) {
    wait_until("the helper has ended", PATIENCE, || workers(&cluster.site).is_empty());
    let names = fs::read_dir(server.data_dir().join("pg_wal")).unwrap();
    let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.contains("highwater") || name.contains("RECOVERY")), "{names:?}");
}

#[test]
fn most_segments_are_there_when_postgresql_asks() {
    for site in [Site::on_folder(), Site::on_s3(S3::ceph())] {
        let (cluster, rows) = archived(site, 24);
        let data = cluster.fresh_copy();
        let server = recovering(&cluster, &data).try_recover().unwrap_or_else(|failure| panic!("{failure}"));
        assert_whole(&server, rows);
        let ahead = server.log().matches(AHEAD).count();
        assert!(ahead >= 12, "{ahead} of 24\n{}", server.log());
        assert_nothing_is_left(&cluster, &server);
    }
}

#[test]
fn r06_killed_helpers_lose_no_rows() {
    let (cluster, rows) = archived(Site::on_folder(), 30);
    for round in 0..4 {
        let data = cluster.fresh_copy();
        thread::scope(|scope| {
            let recovered = scope.spawn(|| recovering(&cluster, &data).try_recover());
            while !recovered.is_finished() {
                for helper in workers(&cluster.site) {
                    thread::sleep(Duration::from_millis(3 * round));
                    // It may have ended by itself.
                    let _ = Program::new("kill", ["-9", &helper.to_string()]).run();
                }
            }
            let server = recovered.join().unwrap().unwrap_or_else(|failure| panic!("{failure}"));
            assert_whole(&server, rows);
            assert_nothing_is_left(&cluster, &server);
        });
    }
}

#[test]
fn r06_a_hole_and_a_damaged_segment_end_no_recovery() {
    let (cluster, rows) = archived(Site::on_folder(), 20);
    let object = cluster.object(12);
    let whole = fs::read(&object).unwrap();
    let refused = |reason: &str| {
        let data = cluster.fresh_copy();
        match recovering(&cluster, &data).try_recover() {
            Ok(server) => panic!("{reason}: it opened\n{}", server.log()),
            Err(failure) => assert!(failure.log.contains(reason), "{}", failure.log),
        }
    };
    fs::remove_file(&object).unwrap();
    refused("it is missing");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&object, damaged).unwrap();
    highwater_tests::give_to_server_account(&object);
    refused("is damaged");
    fs::write(&object, whole).unwrap();
    let data = cluster.fresh_copy();
    let server = recovering(&cluster, &data).try_recover().unwrap_or_else(|failure| panic!("{failure}"));
    assert_whole(&server, rows);
}

#[test]
fn a_standby_follows_the_archive_with_it_and_it_can_be_turned_off() {
    let site = Site::on_folder();
    let server = site.start_server(small_segments());
    server.sql("create table t (n int)");
    let copy = site.path("copy");
    server.copy_to(&copy);
    let names = fill_segments(&server, 16);
    server.archive_now();
    let cluster = LostCluster::behind(site, copy, names);
    let command = cluster.site.restore_command().replace(" %f", " --verbose %f");
    let standby = |signal: &str, command: &str| {
        cluster.recovering(signal).setting("restore_command", command).setting("hot_standby", "on").start()
    };
    let follower = standby("standby.signal", &command);
    for n in 1..=3 {
        server.sql(&format!("insert into t values ({n})"));
        server.archive_now();
        follower.wait_for(&format!("select count(*) = {n} from t"), PATIENCE);
    }
    assert!(follower.log().contains(AHEAD), "{}", follower.log());
    follower.stop(StopMode::Fast);

    let off = format!("HIGHWATER_CLUSTER_MAIN_RESTORE_AHEAD=0 {command}");
    let follower = standby("standby.signal", &off);
    follower.wait_for("select count(*) = 3 from t", PATIENCE);
    assert!(!follower.log().contains(AHEAD), "{}", follower.log());
    follower.stop(StopMode::Fast);
    server.stop(StopMode::Fast);
}

#[test]
fn forks_are_followed() {
    let (cluster, rows) = archived(Site::on_folder(), 8);
    let data = cluster.fresh_copy();
    // The promoted server's host has a configuration of its own, which differs in the data directory only.
    let command = cluster.site.archive_command();
    let command = format!("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={} {command}", data.display());
    let promoted = recovering(&cluster, &data)
        .setting("archive_mode", "on")
        .setting("archive_command", &command)
        .try_recover()
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_whole(&promoted, rows);
    fill_segments(&promoted, 12);
    promoted.archive_now();
    let more: usize = promoted.value("select count(*) from filler").parse().unwrap();
    promoted.stop(StopMode::Fast);
    assert!(more > rows);

    let data = cluster.fresh_copy();
    let server = recovering(&cluster, &data).try_recover().unwrap_or_else(|failure| panic!("{failure}"));
    assert_whole(&server, more);
    let log = server.log();
    let ahead: Vec<&str> = log.lines().filter(|line| line.contains(AHEAD)).collect();
    for timeline in ["00000001", "00000002"] {
        let count = ahead.iter().filter(|line| line.contains(&format!(" {timeline}0000"))).count();
        assert!(count >= 3, "timeline {timeline}: {count}\n{log}");
    }
    assert_nothing_is_left(&cluster, &server);
}
