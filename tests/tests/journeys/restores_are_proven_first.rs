//! What stands in a restore's way is said before a byte is written, by a dry run as well.

use std::fs;

use highwater_tests::{CLUSTER, Postgres, Site, highwater};

use crate::archive_command_is_durable::two_repositories;
use crate::restores::{archiving, back_up, recovered, restore};

const URL: &str = "HIGHWATER_REPOSITORY_URL";

#[test]
fn r12_a_restored_server_fetches_its_wal_where_the_plan_was_proven() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t as select 1 n");
    back_up(&site);
    server.archive_now();
    let folder = site.path("restored");
    let to = folder.display().to_string();
    let arguments = ["restore", "--latest", "--cluster", CLUSTER, "--to", &to];

    // The repository is known from the environment only, and the server would not have that.
    let elsewhere = Site::on_folder();
    let refused = elsewhere.highwater(arguments).env(URL, site.url()).run();
    refused.ends_with(2).says(site.url()).says(elsewhere.url()).says("hint: write [repository]");
    let refused = highwater(arguments).env(URL, site.url()).run();
    refused.ends_with(2).says("/etc/highwater/highwater.toml").says("hint: write [repository]");
    let by_option = highwater(arguments).args(["--repository", site.url()]).run();
    by_option.ends_with(2).says("hint: write [repository]");
    let dry = elsewhere.highwater(arguments).args(["--dry-run"]).env(URL, site.url()).run();
    dry.ends_with(2);
    assert!(!folder.exists(), "nothing was written");

    // The same repository, said twice.
    let fine = site.highwater(arguments).args(["--repository", site.url()]).env(URL, site.url()).run();
    fine.succeeds().says(URL).says("environment");
    assert_eq!(recovered(&folder).column("select n from t"), ["1"]);
}

#[test]
fn r12_a_dry_run_refuses_what_the_restore_refuses() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    let place = server.tablespace("fast");
    server.sql("create table t (n int) tablespace fast");
    back_up(&site);
    server.archive_now();
    let full = site.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "").unwrap();
    let map = |to: &str| format!("{}={to}", place.display());
    let (free, within) =
        (map(&site.path("fast").display().to_string()), map(&site.path("within/fast").display().to_string()));
    fs::create_dir(site.path("within")).unwrap();
    let table = [
        ("full", vec!["--tablespace", &free], 1, "is not empty"),
        ("new", vec![], 1, "is not empty"),
        ("new", vec!["--tablespace", "/nowhere=/elsewhere"], 2, "no tablespace in /nowhere"),
        ("within", vec!["--tablespace", &within], 1, "lies within"),
    ];
    for (name, more, status, reason) in table {
        for dry in [&["--dry-run"][..], &[]] {
            let arguments = [&["--latest"], dry, &more].concat();
            let (folder, output) = restore(&site, name, &arguments);
            output.ends_with(status).says(reason).says("hint:");
            assert!(!folder.join("highwater.restore").exists(), "{arguments:?}");
        }
    }
    let (folder, output) = restore(&site, "new", &["--latest", "--dry-run", "--tablespace", &free]);
    output.succeeds().says("Nothing was written");
    assert!(!folder.exists() && !site.path("fast").exists());
}

#[test]
fn r22_a_standby_stops_at_no_moment() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    back_up(&site);
    let now = server.now();
    let (folder, output) = restore(&site, "standby", &["--standby", "--at", &now]);
    output.ends_with(2).says("--standby");
    assert!(!folder.exists());
}

#[test]
fn r06_another_repository_that_is_away_is_told_before_the_server_waits_for_it() {
    let site = Site::on_folder();
    let server = Postgres::builder().wal_segment_size_mb(1).setting("archive_mode", "on").start();
    let (near, far) = (site.path("near"), site.path("far"));
    let (connection, data) = (server.connection_string(), server.data_dir().display());
    let settings = format!("connection = '{connection}'\ndata-directory = '{data}'");
    let config = two_repositories(&site, &near, &far, &settings);
    site.highwater(["init"]).config(&config).run().succeeds();
    let command =
        site.archive_command().replace(&site.config().display().to_string(), &config.display().to_string());
    server.configure("archive_command", &command);
    server.sql("create table t as select 1 n");
    site.highwater(["backup", "--quiet"]).config(&config).run().succeeds();
    server.archive_now();
    let restore = |name: &str| {
        let to = site.path(name).display().to_string();
        site.highwater(["restore", "--immediate", "--to", &to]).config(&config).run().succeeds()
    };
    restore("both").does_not_say("cannot be read now");
    fs::rename(&far, site.path("away")).unwrap();
    restore("one").says("Repository far cannot be read now").says("two.toml");
}
