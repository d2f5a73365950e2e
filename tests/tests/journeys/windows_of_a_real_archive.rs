//! `window` tells what a real archive holds: which timelines there are, where and why each began, until when each can be reached, and what
//! a hole cuts off. The servers' own truth is what it is compared with.

use std::fs;

use highwater_tests::{PATIENCE, Postgres, Site};
use serde_json::Value;

use crate::restores::{archiving, back_up, restore};

/// The last commit of a server, as the windows tell it.
fn last_commit(server: &Postgres) -> String {
    let row = server.rows("select xid::text, to_char(timestamp at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from pg_last_committed_xact()");
    let text = |column: usize| row[0][column].clone().expect("track_commit_timestamp is on");
    format!("{} {}", text(0), text(1))
}

fn told_commit(window: &Value) -> String {
    let commit = &window["last_commit"];
    format!("{} {}", commit["xid"], commit["time"].as_str().expect("a time"))
}

/// The archive command of a server in another folder than the configuration's.
fn archive_command(site: &Site, server: &std::path::Path) -> String {
    format!("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={} {}", server.display(), site.archive_command())
}

/// Of each line of a history the timeline, where it was left and why: what PostgreSQL itself has written.
fn history(server: &Postgres, timeline: u32) -> Vec<(u64, String, String)> {
    let text = server.value(&format!("select pg_read_file('pg_wal/{timeline:08X}.history')"));
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let fields = lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[0].trim().parse().expect("a timeline"), fields[1].to_owned(), fields[2].to_owned())
    });
    fields.collect()
}

#[test]
fn timelines_their_origins_and_holes_are_told() {
    let site = Site::on_folder();
    let first = archiving(&site, Postgres::builder());
    first.sql("create table t (n int)");
    let backup = back_up(&site);
    first.sql("insert into t values (1)");
    first.sql("select pg_create_restore_point('before the release')");
    first.sql("insert into t values (2)");
    first.archive_now();

    // Somebody goes back to before the release, and a standby of that is promoted. All three go on.
    let (folder, output) = restore(&site, "second", &["--takeover", "--name", "before the release"]);
    output.succeeds();
    let second =
        Postgres::from_data_dir(&folder).setting("archive_command", &archive_command(&site, &folder));
    let second = second.try_recover().unwrap_or_else(|failure| panic!("{failure}"));
    for setting in ["name", "action", "timeline", "inclusive", "lsn"] {
        second.sql(&format!("alter system reset recovery_target_{setting}"));
    }
    second.sql("insert into t values (-2)");
    let standby = second.standby("third");
    let data = second.folder().join("standby-third");
    let third = standby.setting("archive_command", &archive_command(&site, &data)).start();
    let written = second.value("select pg_current_wal_flush_lsn()");
    third.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), PATIENCE);
    third.promote();
    for server in [&first, &second, &third] {
        server.sql("insert into t values (3)");
    }
    let commits = [&first, &second, &third].map(last_commit);
    let ends = [&first, &second, &third].map(Postgres::archive_now);

    let branches = site.highwater(["window", "--json"]).run().succeeds().json();
    let branches = branches.as_array().expect("a list");
    assert_eq!(branches.len(), 3, "{branches:#?}");
    let origins = history(&third, 3);
    let told = |branch: &Value| {
        let parent = &branch["parent"];
        let text = |name: &str| parent[name].as_str().unwrap_or_default().to_owned();
        (parent["timeline"].as_u64().unwrap_or(0), text("lsn"), text("reason"))
    };
    assert!(branches[0]["parent"].is_null(), "{:#?}", branches[0]);
    assert_eq!(told(&branches[1]), origins[0]);
    assert_eq!(told(&branches[2]), origins[1]);
    assert_eq!(branches[1]["parent"]["cause"], "recovery-target");
    assert_eq!(branches[2]["parent"]["cause"], "promotion");
    for (number, branch) in branches.iter().enumerate() {
        assert_eq!(branch["timeline"], number + 1);
        assert_eq!(branch["is_newest"], number == 2);
        assert_eq!(branch["left_out"].is_null(), number == 2, "{branch:#}");
        let windows = branch["windows"].as_array().expect("a list");
        assert_eq!(windows.len(), 1, "{branch:#}");
        assert_eq!(windows[0]["backups"], serde_json::json!([backup]));
        assert_eq!(windows[0]["last_segment"], ends[number].as_str());
        assert_eq!(told_commit(&windows[0]), commits[number]);
        assert!(windows[0]["until_time"].as_str() >= windows[0]["last_commit"]["time"].as_str());
    }
    let reason = origins[0].2.trim().to_owned();
    let drawn = site.highwater(["window"]).run().succeeds();
    let drawn = drawn.says(&format!("timeline 2 left timeline 1: recovery target: {reason}"));
    drawn.says("timeline 3 left timeline 2: promotion").says("├─◆").says(&format!("backup {backup}"));

    // A segment of the first timeline that only that one goes on behind: a hole there, and nowhere else.
    let late = first.archive_now();
    first.sql("insert into t values (4)");
    first.archive_now();
    let object = site.objects(&late).into_iter().next().expect("it is archived");
    fs::remove_file(&object).expect("it can be removed");
    let branches = site.highwater(["window", "--json"]).run().succeeds().json();
    let hole = &branches[0]["windows"][0]["hole_after"];
    assert_eq!((hole["first"].as_str(), hole["segments"].as_u64()), (Some(late.as_str()), Some(1)), "{hole}");
    assert_eq!(branches[0]["windows"][0]["last_segment"], ends[0].as_str());
    assert_eq!(told_commit(&branches[0]["windows"][0]), commits[0], "what lies behind it cannot be reached");
    for branch in [&branches[1], &branches[2]] {
        assert!(branch["windows"][0]["hole_after"].is_null(), "{branch:#}");
    }
    site.highwater(["window"]).run().succeeds().says(&late).says("hole");
}
