//! PostgreSQL recovers from the archive while the archive misbehaves. It may refuse to start; it must never open with
//! fewer rows than were archived (R6). Each case is tried with no recovery target and with one, with `recovery_prefetch`
//! and without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use highwater_tests::postgres::Builder;
use highwater_tests::{FailedStart, Fault, PATIENCE, Postgres, Proxy, S3, Site, wait_until};

use crate::commands::{LostCluster, RESTORE_POINT, read};

/// The ways in which each case is tried.
const WAYS: [(&str, bool, bool); 4] = [
    ("no target", false, true),
    ("a target", true, true),
    ("no target, no prefetch", false, false),
    ("a target, no prefetch", true, false),
];

/// Recovers a fresh copy in each way and hands what came of it to `check`.
fn recover(cluster: &LostCluster, check: impl Fn(&str, Result<Postgres, FailedStart>)) {
    recover_after(cluster, |_| {}, check);
}

/// The same with something done to each copy before it is started.
fn recover_after(
    cluster: &LostCluster,
    prepare: impl Fn(&Path),
    check: impl Fn(&str, Result<Postgres, FailedStart>),
) {
    for (way, with_target, with_prefetch) in WAYS {
        let data = cluster.fresh_copy();
        prepare(&data);
        let builder = cluster.recover(&data, "recovery.signal");
        check(way, aimed(builder, with_target, with_prefetch).try_recover());
    }
}

fn aimed(builder: Builder, with_target: bool, with_prefetch: bool) -> Builder {
    let builder = builder.setting("recovery_prefetch", if with_prefetch { "try" } else { "off" });
    if !with_target {
        return builder;
    }
    builder.setting("recovery_target_name", RESTORE_POINT).setting("recovery_target_action", "promote")
}

#[track_caller]
fn assert_all_rows(way: &str, started: Result<Postgres, FailedStart>) {
    let server = started.unwrap_or_else(|failure| panic!("{way}: {failure}"));
    assert_eq!(server.column("select n::text from t order by n"), ["1", "2", "3", "4", "5"], "{way}");
}

/// Asserts that the server did not open, and that its log tells why.
#[track_caller]
fn assert_refused(way: &str, started: Result<Postgres, FailedStart>, reason: &str) {
    match started {
        Ok(server) => panic!("{way}: it opened with {:?}", server.column("select n::text from t order by n")),
        Err(failure) => {
            let log = failure.log;
            assert!(log.contains(reason) && log.contains("hint: "), "{way}: {reason:?} is missing in\n{log}");
        }
    }
}

#[test]
fn r06_with_a_sound_archive_every_row_comes_back() {
    let cluster = LostCluster::on(Site::on_folder());
    recover(&cluster, assert_all_rows);
}

#[test]
fn r06_a_repository_that_is_not_there_ends_no_recovery() {
    let cluster = LostCluster::on(Site::on_folder());
    let root = cluster.site.repository_folder();
    let away = cluster.site.path("away");

    fs::rename(&root, &away).unwrap();
    recover(&cluster, |way, started| assert_refused(way, started, "does not exist"));

    // What a repository's file system leaves behind when it is not mounted.
    fs::create_dir(&root).unwrap();
    recover(&cluster, |way, started| assert_refused(way, started, "holds no repository"));
    fs::remove_dir(&root).unwrap();

    fs::rename(&away, &root).unwrap();
    recover(&cluster, assert_all_rows);
}

#[test]
fn r06_a_repository_that_cannot_be_read_ends_no_recovery() {
    let cluster = LostCluster::on(Site::on_folder());
    let root = cluster.site.repository_folder();
    let mode = fs::metadata(&root).unwrap().permissions();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o0)).unwrap();
    recover(&cluster, |way, started| assert_refused(way, started, "Permission denied"));
    fs::set_permissions(&root, mode).unwrap();
    recover(&cluster, assert_all_rows);
}

#[test]
fn r06_a_store_that_cannot_be_reached_ends_no_recovery() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint()).repository_setting("retry-budget", "300ms");
    let cluster = LostCluster::on(site);
    for (fault, reason) in
        [(Fault::Down, "highwater-restore-cmd: "), (Fault::CloseAfterAnswer(0), "highwater-restore-cmd: ")]
    {
        proxy.set(fault);
        recover(&cluster, |way, started| assert_refused(way, started, reason));
    }
    proxy.set(Fault::None);
    recover(&cluster, assert_all_rows);
}

#[test]
fn r06_a_store_that_fails_for_a_while_is_asked_again() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let cluster = LostCluster::on(Site::on_s3_behind(&store, &proxy.endpoint()));
    for (way, with_target, with_prefetch) in WAYS {
        let builder = aimed(cluster.recovering("recovery.signal"), with_target, with_prefetch);
        let before = proxy.connections();
        proxy.set(Fault::CloseAfterAnswer(0));
        let started = thread::scope(|scope| {
            let server = scope.spawn(|| builder.try_recover());
            wait_until("the store was asked in vain", PATIENCE, || proxy.connections() >= before + 2);
            proxy.set(Fault::None);
            server.join().unwrap()
        });
        assert_all_rows(way, started);
    }
}

#[test]
fn r06_a_hole_ends_no_recovery() {
    let cluster = LostCluster::on(Site::on_folder());
    let (object, kept) = (cluster.object(3), cluster.site.path("kept"));
    fs::rename(&object, &kept).unwrap();
    recover(&cluster, |way, started| assert_refused(way, started, "it is missing in"));
    fs::rename(&kept, &object).unwrap();
    recover(&cluster, assert_all_rows);
}

#[test]
fn r07_a_damaged_object_ends_no_recovery() {
    let cluster = LostCluster::on(Site::on_folder());
    let object = cluster.object(3);
    let good = read(&object);
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 0x10;
    fs::write(&object, &damaged).unwrap();
    recover(&cluster, |way, started| assert_refused(way, started, "is damaged"));
    fs::write(&object, &good).unwrap();
    recover(&cluster, assert_all_rows);
}

#[test]
fn r06_a_stale_file_in_pg_wal_ends_no_recovery() {
    let cluster = LostCluster::on(Site::on_folder());
    let third = &cluster.segments[2];
    // As a recycled segment has it: the right name, and the content of an older one.
    let older = stale_content(&cluster);
    let place = |data: &Path| fs::write(data.join("pg_wal").join(third), &older).unwrap();
    recover_after(&cluster, place, assert_all_rows);

    let (object, kept) = (cluster.object(3), cluster.site.path("kept"));
    fs::rename(&object, &kept).unwrap();
    recover_after(&cluster, place, |way, started| assert_refused(way, started, "it is missing in"));

    fs::rename(cluster.site.repository_folder(), cluster.site.path("away")).unwrap();
    recover_after(&cluster, place, |way, started| assert_refused(way, started, "does not exist"));
}

fn stale_content(cluster: &LostCluster) -> Vec<u8> {
    let folder = cluster.copy.join("pg_wal");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let segment = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 24);
    read(&names.filter(segment).min().expect("the copy came with WAL"))
}
