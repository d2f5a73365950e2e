//! What `highwater-archive-cmd` has acknowledged is in every repository, whatever happened to it (R1).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use highwater_tests::{CLUSTER, PATIENCE, Site, SmallDisk, StopMode};

use crate::commands::{
    FAILED, Lab, archive, assert_archived, assert_not_archived, assert_refused, fetch, fill_segments, read,
    small_segments, start_quiet_server,
};

/// How often the command is killed.
const KILLS: usize = 50;

#[test]
fn r01_killed_at_fifty_moments_it_has_lost_nothing_that_it_acknowledged() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, KILLS + 1);
    let data = server.data_dir();
    let usual = {
        let begun = Instant::now();
        archive(&site, data, &names[KILLS]).run().succeeds().silently();
        begun.elapsed()
    };
    let mut acknowledged = 0;
    for (round, name) in names[..KILLS].iter().enumerate() {
        let running = archive(&site, data, name).start();
        thread::sleep(usual * u32::try_from(round).unwrap() / u32::try_from(KILLS).unwrap());
        let output = running.kill9();
        if output.status.success() {
            acknowledged += 1;
            assert_archived(&site, data, name);
        } else {
            assert_eq!(output.shell_status(), 137);
        }
        // As PostgreSQL does after it has come back.
        archive(&site, data, name).run().succeeds();
    }
    assert!(acknowledged < KILLS, "none was killed before it was done");
    for name in &names {
        assert_archived(&site, data, name);
    }
}

#[test]
fn r01_postgresql_keeps_what_was_not_acknowledged() {
    let site = Site::on_folder();
    let server = site.start_server(small_segments());
    let away = site.path("away");
    fs::rename(site.repository_folder(), &away).unwrap();
    let names = fill_segments(&server, 3);
    server.wait_for("select failed_count > 0 from pg_stat_archiver", PATIENCE);
    assert!(server.log().contains("hint: "), "{}", server.log());
    fs::rename(&away, site.repository_folder()).unwrap();
    server.archive_now();
    for name in &names {
        assert_archived(&site, server.data_dir(), name);
    }
    server.stop(StopMode::Fast);
}

#[test]
fn r01_a_full_disk_is_a_failure_and_passes() {
    let disk = SmallDisk::of_megabytes(8);
    let site = Site::on_this_folder(&disk.path().join("repository"));
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 80);
    let data = server.data_dir();
    // The disk is full somewhere within a segment's object.
    let full = names.iter().position(|name| archive(&site, data, name).run().status.code() != Some(0));
    let full = full.expect("so many segments do not fit");
    assert!(full > 0);
    assert_refused(archive(&site, data, &names[full]).run(), 1).says("No space left");
    for name in &names[..full] {
        assert_archived(&site, data, name);
    }
    assert_not_archived(&site, &names[full]);
    let folder = Lab::empty(&site, "folder", data).0;
    fetch(&site, &folder, &names[full], "x").run().ends_with(1);

    fs::remove_dir_all(site.repository_folder().join("clusters")).unwrap();
    disk.fill();
    assert_refused(site.program("highwater-archive-cmd", ["pg_wal/x"]).in_folder(data).run(), 1);
    disk.make_room();
}

#[test]
fn r01_every_repository_must_have_it_and_each_is_tried() {
    let site = Site::on_folder();
    let server = small_segments().start();
    let (near, far) = (site.path("near"), site.path("far"));
    let (connection, data) = (server.connection_string(), server.data_dir().display());
    let settings = format!("connection = '{connection}'\ndata-directory = '{data}'");
    let config = two_repositories(&site, &near, &far, &settings);
    site.highwater(["init"]).config(&config).run().succeeds();
    let data = server.data_dir();
    let names = fill_segments(&server, 2);
    let run = |name: &str| archive(&site, data, name).config(&config).run();
    run(&names[0]).succeeds().silently();

    let away = site.path("away");
    for (down, up) in [(&far, &near), (&near, &far)] {
        fs::rename(down, &away).unwrap();
        assert_refused(run(&names[1]), 1).says(&down.display().to_string());
        let there = up.join(format!("clusters/{CLUSTER}"));
        assert_eq!(count(&there, &names[1]), 1, "the other repository has it");
        fs::rename(&away, down).unwrap();
        assert_eq!(count(&down.join(format!("clusters/{CLUSTER}")), &names[1]), 0);
        fs::remove_file(find(&there, &names[1]).remove(0)).unwrap();
    }
    run(&names[1]).succeeds();
    let output = archive(&site, data, &names[1]).args(["--verbose"]).config(&config).run().succeeds();
    assert_eq!(output.stderr.matches("already").count(), 2, "{output}");

    // Either of them serves what the other has lost, and "not there" takes both.
    let folder = Lab::empty(&site, "folder", data).0;
    let ask = |name: &str| fetch(&site, &folder, name, "fetched").config(&config).run();
    fs::remove_file(find(&near, &names[0]).remove(0)).unwrap();
    ask(&names[0]).succeeds().says("is missing in near");
    let damaged = find(&near, &names[1]).remove(0);
    let mut content = read(&damaged);
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&damaged, content).unwrap();
    ask(&names[1]).succeeds().says("is damaged");
    assert!(read(&folder.join("fetched")) == read(&data.join("pg_wal").join(&names[1])));
    ask("0000000100000000000000FF").ends_with(1).silently();
    fs::rename(&far, &away).unwrap();
    ask("0000000100000000000000FF").ends_with(FAILED).says("hint: ");
}

/// The path of a configuration with two repositories in these folders, named `near` and `far`.
pub fn two_repositories(
    site: &Site,
    near: &std::path::Path,
    far: &std::path::Path,
    cluster: &str,
) -> PathBuf {
    let repository = |name: &str, folder: &std::path::Path| {
        format!("[[repository]]\nname = '{name}'\nurl = 'file://{}'\n", folder.display())
    };
    let text =
        format!("{}{}[cluster.{CLUSTER}]\n{cluster}\n", repository("near", near), repository("far", far));
    let path = site.path("two.toml");
    fs::write(&path, text).unwrap();
    path
}

fn find(folder: &std::path::Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(find(&path, name));
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
    found
}

fn count(folder: &std::path::Path, name: &str) -> usize {
    find(folder, name).len()
}

#[test]
fn r01_everything_that_postgresql_archives_is_taken() {
    let site = Site::on_folder();
    let server = site.start_server(small_segments());
    server.sql("create table t (n int)");
    let standby = server
        .standby("one")
        .archive_command(&format!(
            "HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY=\"$PWD\" {}",
            site.archive_command()
        ))
        .start();
    server.sql("insert into t values (1)");
    standby.wait_for("select count(*) = 1 from t", PATIENCE);
    server.stop(StopMode::Fast);
    standby.promote();
    standby.sql("insert into t values (2)");
    standby.archive_now();
    for part in ["00000002.history", ".partial", ".backup", "/00000002/0000000200"] {
        assert_ne!(site.objects(part).len(), 0, "{part}");
    }
    assert_eq!(standby.value("select failed_count from pg_stat_archiver"), "0", "{}", standby.log());
}

#[test]
fn r01_the_time_of_the_last_write_is_vouched_for_by_a_primary_only() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 4);
    let data = server.data_dir();
    archive(&site, data, &names[0]).run().succeeds();
    let modified = fs::metadata(data.join("pg_wal").join(&names[0])).unwrap();
    let since_2000 = (modified.mtime() - 946_684_800) * 1_000_000 + modified.mtime_nsec() / 1000;
    let told = server.value(&format!(
        "select to_char('2000-01-01 00:00+00'::timestamptz + interval '{since_2000} microseconds', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    ));
    assert_eq!(head(&site, &names[0])["archived"]["written"], told.as_str());

    // A copy's files have the time of the copy, and its postmaster.pid speaks of the server that was copied.
    let copy = Lab::empty(&site, "copy", data);
    copy.file("postmaster.pid", &read(&data.join("postmaster.pid")));
    assert!(
        copy.archive_content(&site, &names[3], &read(&data.join("pg_wal").join(&names[3]))).status.success()
    );
    assert!(head(&site, &names[3])["archived"].get("written").is_none());

    fs::write(data.join("standby.signal"), "").unwrap();
    archive(&site, data, &names[1]).run().succeeds();
    assert!(head(&site, &names[1])["archived"].get("written").is_none());
    fs::remove_file(data.join("standby.signal")).unwrap();

    // Promoted: what it has of the timeline before was copied from its primary.
    let history = "1\t1/0\tno recovery target specified\n";
    Lab(data.to_owned()).file("pg_wal/00000002.history", history.as_bytes());
    archive(&site, data, &names[2]).run().succeeds();
    assert!(head(&site, &names[2])["archived"].get("written").is_none());
}

/// What stands in front of a segment in a repository that is not encrypted: a skippable frame with JSON.
fn head(site: &Site, name: &str) -> serde_json::Value {
    let object = read(&site.objects(name)[0]);
    let length = u32::from_le_bytes(object[4..8].try_into().unwrap());
    // Behind the JSON come a line feed and its digest.
    let text = object[8..8 + length as usize].split(|byte| *byte == b'\n').next().unwrap();
    serde_json::from_slice(text).unwrap()
}

#[test]
fn a_repository_that_does_not_answer_ends_in_a_failure_within_the_time_limit() {
    let store = highwater_tests::S3::moto();
    let proxy = highwater_tests::Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint());
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 1);
    proxy.set(highwater_tests::Fault::Stall);
    let run = archive(&site, server.data_dir(), &names[0]).args(["--time-limit", "1"]);
    assert_refused(run.limit(Duration::from_secs(30)).run(), 1).says("--time-limit");
    proxy.set(highwater_tests::Fault::None);
    archive(&site, server.data_dir(), &names[0]).run().succeeds();
    assert_archived(&site, server.data_dir(), &names[0]);
}
