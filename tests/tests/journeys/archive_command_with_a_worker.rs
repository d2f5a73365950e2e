//! The archive command's worker, for remote repositories: it makes archiving quick, and is missed by nobody when it is
//! gone, hangs, or was started by somebody else.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use highwater_tests::{
    Fault, PATIENCE, Program, Proxy, S3, Site, StopMode, binary, give_to_server_account, wait_until,
};

use crate::commands::{
    Lab, archive, assert_archived, fill_segments, small_segments, start_quiet_server, workers,
};

/// Puts something in the place of the worker's folder.
type Prepare = &'static dyn Fn(&Path);

/// What a verbose call says that had no help.
const WITHOUT: &str = "done without help";

fn wait_for_a_worker(site: &Site) -> u32 {
    wait_until("a worker runs", PATIENCE, || !workers(site).is_empty());
    workers(site)[0]
}

fn signal(name: &str, process: u32) {
    // It may have ended by itself.
    let _ = Program::new("kill", [name, &process.to_string()]).run();
}

#[test]
fn r01_a_backlog_is_archived_though_the_worker_is_killed_again_and_again() {
    const SEGMENTS: usize = 40;
    let store = S3::moto();
    let site = Site::on_s3(&store);
    let server = site.start_server(small_segments().setting("logging_collector", "on"));
    server.configure("archive_command", "false");
    let names = fill_segments(&server, SEGMENTS);
    server.configure("archive_command", &site.archive_command());
    let is_done = |name: &str| server.data_dir().join(format!("pg_wal/archive_status/{name}.done")).exists();
    let mut killed = 0;
    wait_until("all segments are archived", PATIENCE * 4, || {
        for worker in workers(&site) {
            thread::sleep(Duration::from_millis(20 + 7 * (killed % 9)));
            signal("-9", worker);
            killed += 1;
        }
        names.iter().all(|name| is_done(name))
    });
    assert!(killed > 3, "{killed}");
    names.iter().for_each(|name| assert_archived(&site, server.data_dir(), name));
    // Nobody waits for the worker, which holds nothing of the server.
    fill_segments(&server, 1);
    wait_for_a_worker(&site);
    let begun = Instant::now();
    server.stop(StopMode::Fast);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(!workers(&site).is_empty(), "it has a life of its own");
}

#[test]
fn the_next_call_does_without_a_worker_that_is_gone_hangs_or_is_another() {
    let store = S3::moto();
    let site = Site::on_s3(&store);
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 12);
    let data = server.data_dir();
    let call = |name: &str| archive(&site, data, name).args(["--verbose"]);
    call(&names[0]).run().succeeds().says(WITHOUT).says("archived in");
    let worker = wait_for_a_worker(&site);
    wait_until("it helps", PATIENCE, || !call(&names[1]).run().succeeds().stderr.contains(WITHOUT));
    call(&names[2]).run().succeeds().does_not_say(WITHOUT).says("archived in");
    call(&names[2]).run().succeeds().does_not_say(WITHOUT).says("is in").says("already");
    archive(&site, data, &names[2]).run().succeeds().silently();

    // A refusal is worded as ever.
    let lab = Lab::empty(&site, "lab", data);
    lab.archive_content(&site, &names[3], b"nonsense").ends_with(1).says("hint: ");
    call("000000010000000000000999").run().ends_with(1).says("hint: ");

    signal("-STOP", worker);
    let begun = Instant::now();
    call(&names[3]).run().succeeds().says(WITHOUT).says("archived in");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    signal("-CONT", worker);
    call(&names[4]).run().succeeds().does_not_say(WITHOUT);

    signal("-9", worker);
    wait_until("it is gone", PATIENCE, || !workers(&site).contains(&worker));
    call(&names[5]).run().succeeds().says(WITHOUT);
    wait_until("there is another", PATIENCE, || !workers(&site).is_empty());

    // Another build, other settings, another data directory: each has its own.
    let upgraded = site.path("upgraded");
    fs::copy(binary("highwater-archive-cmd"), &upgraded).unwrap();
    give_to_server_account(&upgraded);
    let path = format!("pg_wal/{}", names[6]);
    let by_another = Program::new(&upgraded, ["--verbose", &path]).config(&site.config()).in_folder(data);
    by_another.run().succeeds().says(WITHOUT);
    call(&names[7]).env("AWS_REGION", "elsewhere").run().succeeds().says(WITHOUT);
    let copy = Lab::empty(&site, "copy", data);
    copy.file(&path, &fs::read(data.join(&path)).unwrap());
    copy.archive(&site, &names[6]).args(["--verbose"]).run().succeeds().says(WITHOUT).says("already");
    let changed = fs::read_to_string(site.config()).unwrap() + "\n# changed\n";
    fs::write(site.config(), changed).unwrap();
    call(&names[8]).run().succeeds().says(WITHOUT);
    wait_until("all of them run", PATIENCE, || workers(&site).len() >= 5);
    wait_until("the new one helps", PATIENCE, || !call(&names[9]).run().succeeds().stderr.contains(WITHOUT));
    names[..9].iter().for_each(|name| assert_archived(&site, data, name));
}

#[test]
fn a_call_that_is_ended_and_calls_at_once_leave_nothing_behind() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint());
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 8);
    let data = server.data_dir();
    archive(&site, data, &names[0]).run().succeeds();
    wait_for_a_worker(&site);
    proxy.set(Fault::Stall);
    let running = archive(&site, data, &names[1]).start();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(running.terminate().shell_status(), 143, "it dies of the signal");
    proxy.set(Fault::None);
    let calls: Vec<_> = names.iter().map(|name| archive(&site, data, name).start()).collect();
    calls.into_iter().for_each(|call| drop(call.wait().succeeds().silently()));
    names.iter().for_each(|name| assert_archived(&site, data, name));
}

fn make(path: &Path, mode: u32) {
    fs::DirBuilder::new().mode(mode).create(path).unwrap();
}

#[test]
fn r21_nothing_in_the_place_of_its_folder_is_believed_or_touched() {
    let store = S3::moto();
    let site = Site::on_s3(&store);
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 4);
    let data = server.data_dir();
    let user =
        String::from_utf8(std::process::Command::new("id").args(["-u", "postgres"]).output().unwrap().stdout);
    let name = format!("highwater-{}", user.unwrap().trim());
    let prepare: [(&str, Prepare); 4] = [
        ("link", &|path| {
            let target = path.with_file_name("target");
            make(&target, 0o700);
            give_to_server_account(&target);
            symlink(&target, path).unwrap();
        }),
        ("file", &|path| fs::write(path, "").unwrap()),
        ("anothers", &|path| make(path, 0o700)),
        ("open", &|path| {
            make(path, 0o700);
            give_to_server_account(path);
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }),
    ];
    for ((kind, prepare), segment) in prepare.into_iter().zip(&names) {
        let folder = site.path(kind);
        make(&folder, 0o755);
        give_to_server_account(&folder);
        prepare(&folder.join(&name));
        let call = archive(&site, data, segment).args(["--verbose"]).env("TMPDIR", &folder);
        call.run().succeeds().says(WITHOUT).says("only this user can enter");
        assert!(workers(&site).is_empty(), "{kind}");
    }
    assert_eq!(fs::read_dir(site.path("link/target")).unwrap().count(), 0);
    names.iter().for_each(|name| assert_archived(&site, data, name));
}

#[test]
fn segments_are_archived_in_order_and_histories_first() {
    let store = S3::ceph();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(store, &proxy.endpoint());
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 6);
    let data = server.data_dir();
    let mark = |name: &str| {
        let path = data.join(format!("pg_wal/archive_status/{name}.ready"));
        fs::write(&path, "").unwrap();
        give_to_server_account(&path);
    };
    names.iter().for_each(|name| mark(name));
    let call = |name: &str| archive(&site, data, name).args(["--verbose"]);
    call(&names[0]).run().succeeds();
    wait_for_a_worker(&site);
    fs::remove_file(data.join(format!("pg_wal/archive_status/{}.ready", names[0]))).unwrap();
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    wait_until("it helps", PATIENCE, || !call(&names[1]).run().succeeds().stderr.contains(WITHOUT));
    // It is on its way, or there, before PostgreSQL asks: nobody puts these but the worker.
    let there = |name: &str| {
        let folder = Lab::empty(&site, &format!("look-{name}"), data).0;
        let fetched = crate::commands::fetch(&site, &folder, name, "x").run();
        fs::remove_dir_all(folder).unwrap();
        // A hole is told by its own status.
        assert!(matches!(fetched.status.code(), Some(0 | 1)), "{fetched}");
        fetched.status.code() == Some(0)
    };
    for name in &names[2..] {
        wait_until("it is uploaded ahead", PATIENCE, || there(name));
    }
    proxy.set(Fault::None);
    for name in &names[2..] {
        call(name).run().succeeds().does_not_say(WITHOUT).says("archived in");
        assert_archived(&site, data, name);
    }
}

#[test]
fn r01_a_folder_besides_has_it_too_before_a_call_is_answered() {
    let store = S3::moto();
    let site = Site::on_s3(&store);
    let server = start_quiet_server(&site, small_segments());
    let (near, away) = (site.path("near"), site.path("away"));
    let besides = format!("[[repository]]\nname = 'near'\nurl = 'file://{}'\n\n[cluster.", near.display());
    let settings = fs::read_to_string(site.config()).unwrap();
    let settings = settings.replacen("[repository]", "[[repository]]\nname = 'far'", 1);
    fs::write(site.config(), settings.replacen("[cluster.", &besides, 1)).unwrap();
    site.highwater(["init"]).run().succeeds();
    let names = fill_segments(&server, 4);
    let call = |name: &str| archive(&site, server.data_dir(), name).args(["--verbose"]);
    call(&names[0]).run().succeeds();
    wait_for_a_worker(&site);
    wait_until("it helps", PATIENCE, || !call(&names[1]).run().succeeds().stderr.contains(WITHOUT));

    fs::rename(&near, &away).unwrap();
    call(&names[2]).run().ends_with(1).says("near").says("hint: ");
    fs::rename(&away, &near).unwrap();
    // The first one had it from the call that failed.
    call(&names[2]).run().succeeds().says("is in far already").says("archived in near");
    call(&names[3]).run().succeeds().does_not_say(WITHOUT).says("archived in far").says("archived in near");
    assert_archived(&site, server.data_dir(), &names[3]);
}
