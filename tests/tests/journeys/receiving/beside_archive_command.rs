//! `archive_command` beside a receiver, for a remote repository: the receiver archives its files as long as it runs, and is
//! missed by nobody when it is gone.

use std::fs;
use std::path::Path;

use highwater_tests::{CLUSTER, Fault, PATIENCE, Postgres, Program, Proxy, S3, Site, StopMode, wait_until};

use super::{WITH_SLOT, receive, receiver, started};
use crate::commands::{
    Lab, archive, assert_archived, fill_segments, read, small_segments, start_quiet_server, workers_with,
};

/// What a verbose call says.
const BY_SERVICE: &str = "done by the receive service";
const BY_WORKER: &str = "done by the worker";
const WITHOUT: &str = "done without help";

fn signal(name: &str, process: u32) {
    Program::new("kill", [name, &process.to_string()]).run().succeeds();
}

/// A cluster's segments in a store, as they are there whole.
struct Stored<'a> {
    store: &'a S3,
    bucket: String,
    folder: String,
}

impl<'a> Stored<'a> {
    fn new(store: &'a S3, site: &Site, server: &Postgres) -> Stored<'a> {
        let place = site.url().strip_prefix("s3://").unwrap();
        let (bucket, prefix) = place.split_once('/').unwrap();
        let system_id = server.value("select system_identifier from pg_control_system()");
        let folder = format!("{prefix}/clusters/{CLUSTER}/{system_id}/wal");
        Stored { store, bucket: bucket.to_owned(), folder }
    }

    fn has(&self, segment: &str) -> bool {
        let key = format!("{}/{}/{segment}", self.folder, &segment[..8]);
        self.store.object(&self.bucket, &key).is_some()
    }
}

/// The site's configuration with something put into another's place.
fn changed(site: &Site, name: &str, change: impl Fn(&str) -> String) -> std::path::PathBuf {
    let path = site.path(name);
    fs::write(&path, change(&fs::read_to_string(site.config()).unwrap())).unwrap();
    path
}

/// The text without the settings of that name.
fn without(text: &str, setting: &str) -> String {
    text.lines().filter(|line| !line.starts_with(setting)).collect::<Vec<_>>().join("\n")
}

#[test]
fn calls_with_the_same_settings_are_answered_while_the_receiver_runs() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint());
    let server = start_quiet_server(&site, small_segments());
    // Then only the calls tell which data directory is meant.
    let config = changed(&site, "bare.toml", |text| without(text, "data-directory") + "\n[cluster.other]\n");
    let old = fill_segments(&server, 5);
    // The slot begins behind them, and so does the receiver.
    server.sql("checkpoint");
    let arguments = [WITH_SLOT, &["--cluster", CLUSTER]].concat();
    let receive = || started(&site, receiver(&site, &arguments).config(&config)).wait_until_streaming();
    let receiving = receive();
    let quiet = |data: &Path, cluster: &str, name: &str| {
        archive(&site, data, name).config(&config).args(["--cluster", cluster])
    };
    let call_in = |data: &Path, cluster: &str, name: &str| quiet(data, cluster, name).args(["--verbose"]);
    let call = |name: &str| call_in(server.data_dir(), CLUSTER, name);
    for name in &old[..3] {
        call(name).run().succeeds().says(BY_SERVICE).says("archived in");
    }
    // Who starts the server makes another environment than who starts the receiver.
    let by_another = call(&old[0]).env("HOME", "/nowhere").env("PATH", "/bin");
    by_another.run().succeeds().says(BY_SERVICE).says("already");
    quiet(server.data_dir(), CLUSTER, &old[0]).run().succeeds().silently();
    call("000000010000000000000999").run().ends_with(1).says("hint: ");

    // What was received is answered without a request.
    let names = fill_segments(&server, 6);
    let stored = Stored::new(&store, &site, &server);
    wait_until("segments are put whole", PATIENCE, || names[..5].iter().all(|name| stored.has(name)));
    proxy.set(Fault::Down);
    for name in &names[..4] {
        call(name).run().succeeds().says(BY_SERVICE).says("already");
    }
    proxy.set(Fault::None);
    assert!(workers_with(&config).is_empty(), "nobody else was needed");
    names[..4].iter().chain(&old[..3]).for_each(|name| assert_archived(&site, server.data_dir(), name));

    // A call that hangs holds up nothing that the receiver does.
    receiving.catches_up_with(&server);
    proxy.set(Fault::Stall);
    let hanging = call(&old[3]).start();
    for _ in 0..2 {
        let written = receiving.state()["updated_at"].clone();
        wait_until("the state is written", PATIENCE, || receiving.state()["updated_at"] != written);
    }
    proxy.set(Fault::None);
    hanging.wait().succeeds();
    receiving.catches_up_with(&server);

    // Others are not answered: another configuration, environment, data directory, cluster.
    let other = changed(&site, "other.toml", |text| without(text, "data-directory") + "\n# changed\n");
    call(&names[0]).config(&other).run().succeeds().does_not_say(BY_SERVICE).says(WITHOUT);
    call(&names[0]).env("AWS_REGION", "elsewhere").run().succeeds().says(WITHOUT);
    let copy = Lab::empty(&site, "copy", server.data_dir());
    let path = format!("pg_wal/{}", names[0]);
    copy.file(&path, &read(&server.data_dir().join(&path)));
    call_in(&copy.0, CLUSTER, &names[0]).run().succeeds().says(WITHOUT).says("no worker");
    let of_other = call_in(server.data_dir(), "other", &names[0]).run().ends_with(1);
    of_other.says(WITHOUT).says("hint: ");
    call(&names[0]).run().succeeds().says(BY_SERVICE);

    // It ends, and comes back beside the worker that has taken its place.
    receiving.running.terminate().succeeds().says("archives for archive_command").says("stopped");
    wait_until("a worker helps", PATIENCE, || call(&names[0]).run().succeeds().stderr.contains(BY_WORKER));
    let receiving = receive();
    call(&old[4]).run().succeeds().says(BY_SERVICE).says("archived in");
    signal("-STOP", receiving.running.pid());
    let while_it_hangs = call(&names[0]).run().succeeds();
    while_it_hangs.says(WITHOUT).says("the receive service").says("already");
    signal("-CONT", receiving.running.pid());
    call(&names[0]).run().succeeds().says(BY_SERVICE);
    receiving.running.kill9();
    call(&names[0]).run().succeeds().says(BY_WORKER);
}

#[test]
fn r01_what_is_archived_is_durable_though_the_receiver_is_killed_again_and_again() {
    const ROUNDS: usize = 5;
    let store = S3::moto();
    let site = Site::on_s3(&store);
    let server = site.start_server(small_segments());
    server.configure("archive_command", &site.archive_command().replace("%p", "--verbose %p"));
    let stored = Stored::new(&store, &site, &server);
    let is_done = |name: &String| {
        let done = server.data_dir().join(format!("pg_wal/archive_status/{name}.done")).exists();
        assert!(!done || stored.has(name), "{name} was acknowledged");
        done
    };
    let mut names = Vec::new();
    for round in 0..ROUNDS {
        let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
        names.extend(fill_segments(&server, 4 + round));
        // Any moment will do.
        wait_until("some are archived", PATIENCE, || names.iter().any(is_done));
        receiving.running.kill9();
        names.extend(fill_segments(&server, 3));
        if round.is_multiple_of(2) {
            wait_until("all are archived without it", PATIENCE, || names.iter().all(is_done));
        }
    }
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    names.extend(fill_segments(&server, 3));
    wait_until("all are archived", PATIENCE, || names.iter().all(is_done));
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds().does_not_say("other content").does_not_say("ALARM");
    let log = server.log();
    for who in [BY_SERVICE, BY_WORKER, WITHOUT] {
        assert!(log.contains(who), "{who:?} is missing:\n{log}");
    }
    assert!(!log.contains("other content"), "{log}");
    server.stop(StopMode::Fast);
    names.iter().for_each(|name| assert_archived(&site, server.data_dir(), name));
}
