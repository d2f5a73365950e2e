//! A standby is promoted and archives on: moments of both timelines can be reached.

use highwater_tests::{CLUSTER, Postgres, Site, StopMode};

use crate::restores::{archiving, back_up, bring_back, restore};

#[test]
fn moments_before_and_after_a_promotion_are_reached() {
    let site = Site::on_folder();
    let primary = archiving(&site, Postgres::builder());
    primary.sql("create table t (n int)");
    back_up(&site);
    primary.sql("insert into t values (1)");

    // The standby's host has a configuration of its own, which differs in the data directory only.
    let standby = primary.standby("next").start();
    let data = standby.data_dir().display().to_string();
    let command = format!("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={data} {}", site.archive_command());
    standby.configure("archive_command", &command);
    primary.sql("insert into t values (2)");
    let before = primary.now();
    primary.sql("insert into t values (3)");
    let written = primary.value("select pg_current_wal_insert_lsn()");
    standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), highwater_tests::PATIENCE);
    // The primary dies with a last segment that nobody has archived; what it wrote after the standby was cut off is
    // on a branch that ends there.
    primary.kill9();
    standby.promote();
    assert_eq!(standby.value("select count(*) from t"), "3");
    standby.sql("insert into t values (4)");
    let after = standby.now();
    standby.sql("insert into t values (5)");
    standby.archive_now();

    let rows = |server: &Postgres| server.column("select n from t order by n").join(" ");
    assert_eq!(rows(&bring_back(&site, "before", &["--at", &before])), "1 2");
    assert_eq!(rows(&bring_back(&site, "after", &["--at", &after])), "1 2 3 4");
    assert_eq!(rows(&bring_back(&site, "latest", &["--latest"])), "1 2 3 4 5");
    assert_eq!(rows(&bring_back(&site, "new", &["--latest", "--timeline", "2"])), "1 2 3 4 5");
    let windows = site.highwater(["window"]).run().succeeds();
    windows.says("Timeline 2: left timeline 1");

    // The old primary comes back by mistake and archives what it had left: its timeline now goes on beside the new one.
    primary.start_again().unwrap_or_else(|failure| panic!("{failure}"));
    primary.sql("insert into t values (-4)");
    primary.archive_now();
    primary.stop(StopMode::Fast);
    assert_eq!(rows(&bring_back(&site, "again", &["--latest"])), "1 2 3 4 5");
    assert_eq!(rows(&bring_back(&site, "old", &["--latest", "--timeline", "1"])), "-4 1 2 3");
    // What only one branch holds is not looked for on the other.
    let (folder, output) = restore(&site, "other", &["--at", &after, "--timeline", "7"]);
    output.ends_with(3).says("no timeline 7").says("hint:");
    assert!(!folder.exists());

    // The promoted cluster is backed up, and from then on stands for itself.
    let label = site
        .highwater(["backup", "--json"])
        .env("HIGHWATER_CLUSTER_MAIN_CONNECTION", standby.connection_string())
        .env("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY", standby.data_dir())
        .run()
        .succeeds()
        .json()["label"]
        .as_str()
        .expect("a backup has a label")
        .to_owned();
    standby.sql("insert into t values (6)");
    standby.archive_now();
    let plan = site.highwater(["plan", "--latest", "--json", "--cluster", CLUSTER]).run().succeeds().json();
    assert_eq!(plan["backup"]["label"], label.as_str());
    assert_eq!(rows(&bring_back(&site, "from-the-new-one", &["--latest"])), "1 2 3 4 5 6");
}
