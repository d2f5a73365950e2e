//! A base backup and a restore that are killed at any moment: nothing half done passes for whole, and all still holds.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use highwater_tests::{History, Load, PATIENCE, Postgres, Running, S3, Site, StopMode};
use serde_json::Value;

use crate::restores::{archiving, back_up, bring_back, recovered, restore};

/// How often each is killed.
const KILLS: u32 = 50;

/// Kills what `start` starts at the moment of this round: the moments are spread over the time that it usually takes.
/// Whether it had ended well by then.
fn kill(round: u32, usual: Duration, start: impl FnOnce() -> Running) -> bool {
    let running = start();
    thread::sleep(usual * round / KILLS);
    let output = running.kill9();
    if !output.status.success() {
        assert_eq!(output.shell_status(), 137, "{output}");
    }
    output.status.success()
}

fn took<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn labels(listing: &Value, which: &str) -> Vec<String> {
    let text = |backup: &Value| backup["label"].as_str().expect("each has a label").to_owned();
    listing[which].as_array().expect("there is a list").iter().map(text).collect()
}

fn killed_backups(site: &Site) {
    let server = archiving(site, Postgres::builder());
    server.sql("create table filler as select i, repeat(md5(i::text), 20) from generate_series(1, 20000) i");
    let load = Load::start(&server);
    load.wait_for_commits(20);
    back_up(site);
    // The second, since it takes over what the first has stored, as all the others do.
    let usual = took(|| back_up(site));
    let mut acknowledged = 0;
    for round in 0..KILLS {
        let label = format!("round-{round:02}");
        let ended = kill(round, usual, || site.highwater(["backup", "--quiet", "--label", &label]).start());
        let listing = site.highwater(["list", "--json"]).run().succeeds().json();
        let (whole, unfinished) = (labels(&listing, "backups"), labels(&listing, "unfinished"));
        // One that was killed just after its last put is whole as well; only the answer is missing.
        assert!(!ended || whole.contains(&label), "{label}: acknowledged and not there");
        assert!(!(whole.contains(&label) && unfinished.contains(&label)), "{label} is both");
        acknowledged += u32::from(ended);
    }
    assert!(acknowledged < KILLS, "none was killed before it was done");
    // Nothing is left on the server either: its walsenders have gone, and no backup is running.
    server.wait_for("select count(*) = 0 from pg_stat_activity where backend_type = 'walsender'", PATIENCE);

    let last = back_up(site);
    load.wait_for_commits(20);
    load.stop();
    server.archive_now();
    let history = History::of(&server);
    server.stop(StopMode::Fast);
    let listing = site.highwater(["list", "--json"]).run().succeeds().json();
    let whole = labels(&listing, "backups");
    assert!(whole.contains(&last));
    // Every one that is called complete is: killed ones and those that took over extents from killed ones' packs.
    for label in &whole {
        let (folder, output) = restore(site, &format!("from-{label}"), &["--latest", "--backup", label]);
        output.succeeds();
        if [whole.first(), whole.last(), Some(&last)].contains(&Some(label)) {
            history.assert_holds_all(&recovered(&folder));
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn r10_a_backup_killed_at_fifty_moments_is_whole_or_unfinished() {
    killed_backups(&Site::on_folder());
}

#[test]
fn r10_a_backup_killed_at_fifty_moments_is_whole_or_unfinished_on_s3() {
    killed_backups(&Site::on_s3(S3::ceph()));
}

/// A cluster with a few thousand files' worth of content, archived and gone.
fn lost(site: &Site) -> History {
    let server = archiving(site, Postgres::builder());
    server.sql("create table filler as select i, repeat(md5(i::text), 20) from generate_series(1, 50000) i");
    let load = Load::start(&server);
    load.wait_for_commits(50);
    back_up(site);
    load.wait_for_commits(50);
    load.stop();
    server.archive_now();
    let history = History::of(&server);
    server.stop(StopMode::Fast);
    history
}

/// Runs `highwater restore` into `folder`, to be killed.
fn restoring(site: &Site, folder: &Path, more: &[&str]) -> Running {
    let to = folder.display().to_string();
    let arguments = ["restore", "--latest", "--quiet", "--to", &to];
    site.highwater(arguments.into_iter().chain(more.iter().copied())).start()
}

fn is_begun(folder: &Path) -> bool {
    folder.join("highwater.restore").exists()
}

fn is_whole(folder: &Path) -> bool {
    folder.join("global/pg_control").exists() && !is_begun(folder)
}

/// Runs the restore again until it is whole, unless it is.
fn go_on(site: &Site, folder: &Path) {
    if !is_whole(folder) {
        let more: &[&str] = if is_begun(folder) { &["--resume"] } else { &[] };
        restoring(site, folder, more).wait().succeeds();
    }
}

/// Asserts that PostgreSQL does not start in a folder that is not whole.
#[track_caller]
fn assert_cannot_be_started(folder: &Path) {
    let has_version = std::fs::read_to_string(folder.join("PG_VERSION")).is_ok_and(|text| !text.is_empty());
    if has_version && !folder.join("global/pg_control").exists() {
        assert!(Postgres::from_data_dir(folder).try_start().is_err(), "{} was started", folder.display());
    }
}

#[test]
fn r14_a_restore_killed_at_fifty_moments_does_not_start_and_goes_on() {
    let site = Site::on_folder();
    let history = lost(&site);
    let mut reference = PathBuf::new();
    let usual = took(|| reference = restore(&site, "reference", &["--latest"]).0);
    let mut killed = 0;
    for round in 0..KILLS {
        let folder = site.path(&format!("round-{round:02}"));
        if !kill(round, usual, || restoring(&site, &folder, &[])) {
            killed += 1;
            assert_cannot_be_started(&folder);
            go_on(&site, &folder);
        }
        assert_same_files(&reference, &folder);
        if round % 10 == 5 {
            history.assert_holds_all(&recovered(&folder));
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    assert!(killed > KILLS / 2, "only {killed} were killed before they were done");
    history.assert_holds_all(&recovered(&reference));
}

#[test]
fn r14_a_restore_that_is_killed_again_and_again_comes_to_its_end() {
    let site = Site::on_s3(S3::ceph());
    let history = lost(&site);
    let usual = took(|| restore(&site, "reference", &["--latest"]));
    let folder = site.path("again");
    for round in 0..KILLS {
        let more: &[&str] = if is_begun(&folder) { &["--resume"] } else { &[] };
        if is_whole(&folder) || kill(round, usual / 2, || restoring(&site, &folder, more)) {
            break;
        }
        assert_cannot_be_started(&folder);
    }
    go_on(&site, &folder);
    assert_same_files(&site.path("reference"), &folder);
    history.assert_holds_all(&recovered(&folder));
}

/// Asserts that both folders hold the same names with the same content, but for what names the folder itself.
#[track_caller]
fn assert_same_files(expected: &Path, found: &Path) {
    let (expected, found) = (tree(expected), tree(found));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&found));
    for ((path, expected), (_, found)) in expected.iter().zip(&found) {
        let is_about_this_restore =
            path.starts_with("postgresql.auto.conf") || path.starts_with("highwater.clone");
        assert!(expected == found || is_about_this_restore, "{}", path.display());
    }
}

fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_owned(), content));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_backup_that_was_interrupted_in_order_says_so_and_the_next_one_is_whole() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t as select generate_series(1, 1000) n");
    let slow = site.highwater(["backup", "--quiet", "--label", "slow", "--max-rate", "1M"]).start();
    server.wait_for("select count(*) > 0 from pg_stat_progress_basebackup", PATIENCE);
    slow.terminate().fails_clearly().says("interrupted");
    let listing = site.highwater(["list", "--json"]).run().succeeds().json();
    assert_eq!(labels(&listing, "unfinished"), ["slow"]);
    back_up(&site);
    server.archive_now();
    assert_eq!(bring_back(&site, "after", &["--latest"]).value("select count(*) from t"), "1000");
}
