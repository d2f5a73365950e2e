//! Repositories that are encrypted, several, full, or hang; and a receiver that is stopped again and again.

use std::time::Duration;

use highwater_tests::postgres::Builder;
use highwater_tests::{
    CLUSTER, Fault, Load, PATIENCE, Postgres, Proxy, S3, Site, SmallDisk, assert_load_is_whole, wait_until,
};

use super::{Receiving, WITH_SLOT, receive, receiver, server, started};
use crate::archive_command_is_durable::two_repositories;
use crate::archive_command_refuses_other_content::key_pair;
use crate::restores::{back_up, bring_back, recovered};

fn small() -> Builder {
    Postgres::builder().wal_segment_size_mb(1)
}

/// The restored server holds what the server does.
#[track_caller]
fn assert_same_load(restored: &Postgres, server: &Postgres) {
    let count = "select count(*) from load_rows";
    assert_eq!(restored.value(count), server.value(count));
    assert_load_is_whole(restored);
}

/// Some load, which is received.
fn some_load(server: &Postgres, receiving: &Receiving) {
    let load = Load::start(server);
    load.wait_for_commits(300);
    load.stop();
    receiving.catches_up_with(server);
}

#[test]
fn r18_a_host_that_has_only_the_public_key_receives() {
    const IDENTITY: &str = "HIGHWATER_REPOSITORY_IDENTITY_FILE";
    let site = Site::on_folder();
    let (recipient, identity) = key_pair(&site);
    let site = site.repository_line(&format!("encrypt-to = ['{recipient}']"));
    let server = server(&site, small());
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    some_load(&server, &receiving);
    receiving.running.kill9();
    // What is there is compared by what the objects tell without the identity.
    let receiving = receive(&site, &[WITH_SLOT, &["--synchronous"]].concat()).wait_until_streaming();
    some_load(&server, &receiving);
    receiving.running.kill9();
    assert!(!site.objects("/strip-").is_empty());
    // What lies in a strip likewise.
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    assert!(!site.objects("/tail/").is_empty());
    let key = identity.display().to_string();
    let folder = site.path("restored");
    let to = folder.display().to_string();
    let arguments = ["restore", "--latest", "--quiet", "--to", &to];
    site.highwater(arguments).env(IDENTITY, &key).run().succeeds();
    let restored = Postgres::from_data_dir(&folder).env(IDENTITY, &key).try_recover();
    assert_same_load(&restored.unwrap_or_else(|failure| panic!("{failure}")), &server);
    site.highwater(["verify", "--deep"]).env(IDENTITY, &key).run().succeeds();
}

#[test]
fn r01_what_one_of_two_repositories_has_not_is_not_acknowledged() {
    let site = Site::on_folder();
    let server = small().start();
    let (near, far) = (site.path("near"), site.path("far"));
    let (connection, data) = (server.connection_string(), server.data_dir().display());
    let config = two_repositories(
        &site,
        &near,
        &far,
        &format!("connection = '{connection}'\ndata-directory = '{data}'"),
    );
    site.highwater(["init"]).config(&config).run().succeeds();
    let receive = || started(&site, receiver(&site, WITH_SLOT).config(&config)).wait_until_streaming();
    let receiving = receive();
    for repository in ["near", "far"] {
        site.highwater(["backup", "--repository", repository]).config(&config).run().succeeds();
    }
    some_load(&server, &receiving);
    let away = site.path("away");
    std::fs::rename(&far, &away).unwrap();
    let load = Load::start(&server);
    load.wait_for_commits(100);
    let told = || !receiving.state()["error"].is_null() && receiving.state()["lag_bytes"].as_u64() > Some(0);
    wait_until("the receiver tells that one is away", PATIENCE, told);
    load.stop();
    let end = server.value("select pg_current_wal_flush_lsn()");
    let behind = format!("select restart_lsn < '{end}' from pg_replication_slots");
    assert_eq!(server.value(&behind), "t", "the server keeps what only one of them has");
    std::fs::rename(&away, &far).unwrap();
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    for repository in ["near", "far"] {
        let folder = site.path(&format!("from-{repository}"));
        let to = folder.display().to_string();
        let arguments = ["restore", "--latest", "--quiet", "--repository", repository, "--to", &to];
        site.highwater(arguments).config(&config).run().succeeds();
        assert_same_load(&recovered(&folder), &server);
    }
}

#[test]
fn r01_a_commit_waits_for_a_folder_and_a_bucket() {
    let store = S3::moto();
    let site = Site::on_s3(&store);
    let server = small().start();
    site.add_cluster(CLUSTER, &server);
    let near = site.path("near");
    // The settings of the bucket, and a folder before it.
    let settings = std::fs::read_to_string(site.config())
        .unwrap()
        .replace("[repository]", "[[repository]]\nname = 'far'");
    let config = site.path("two.toml");
    let folder = format!("[[repository]]\nname = 'near'\nurl = 'file://{}'\n", near.display());
    std::fs::write(&config, format!("{folder}{settings}")).unwrap();
    site.highwater(["init"]).config(&config).run().succeeds();
    let program = receiver(&site, &[WITH_SLOT, &["--synchronous"]].concat()).config(&config);
    let receiving = started(&site, program).wait_until_streaming();
    for repository in ["near", "far"] {
        site.highwater(["backup", "--repository", repository]).config(&config).run().succeeds();
    }
    server.configure("synchronous_standby_names", "highwater");
    some_load(&server, &receiving);
    let strips = || files_below(&near).into_iter().filter(|path| path.contains("/strip-")).count();
    assert!(strips() > 0, "{:#?}", files_below(&near));
    receiving.running.kill9();
    server.configure("synchronous_standby_names", "");
    for repository in ["near", "far"] {
        let folder = site.path(&format!("from-{repository}"));
        let to = folder.display().to_string();
        let arguments = ["restore", "--latest", "--quiet", "--repository", repository, "--to", &to];
        site.highwater(arguments).config(&config).run().succeeds();
        assert_same_load(&recovered(&folder), &server);
    }
    let verified = site.highwater(["verify", "--deep", "--repository", "near"]).config(&config).run();
    verified.succeeds();
}

fn files_below(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

#[test]
fn r18_a_full_store_is_waited_for() {
    let disk = SmallDisk::of_megabytes(64);
    let site = Site::on_this_folder(&disk.path().join("repository"));
    let server = server(&site, small());
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    let load = Load::start_with_pause(&server, Duration::from_millis(2));
    load.wait_for_commits(20);
    disk.fill();
    wait_until("the receiver tells of the full disk", PATIENCE, || {
        receiving.state()["error"].as_str().is_some_and(|error| error.contains("No space left"))
    });
    load.wait_for_commits(50);
    disk.make_room();
    load.wait_for_commits(20);
    load.stop();
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    assert_same_load(&bring_back(&site, "latest", &["--latest"]), &server);
    site.highwater(["verify"]).run().succeeds();
}

#[test]
fn monitors_see_how_far_it_is_while_the_store_hangs() {
    let store = S3::moto();
    let proxy = Proxy::to(store.address());
    let site = Site::on_s3_behind(&store, &proxy.endpoint());
    let server = server(&site, small());
    let receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    server.sql("create table t (n int)");
    receiving.catches_up_with(&server);
    proxy.set(Fault::Stall);
    server.sql("insert into t values (1)");
    let lag = |name: &str| receiving.state()[name].as_f64().unwrap_or_default();
    wait_until("the lag grows", PATIENCE, || lag("lag_bytes") > 0.0 && lag("lag_seconds") > 2.0);
    let written = receiving.state()["updated_at"].clone();
    wait_until("the state is written", PATIENCE, || receiving.state()["updated_at"] != written);
    // One that begins now does not know where the repository ends, and does not say that nothing is missing.
    receiving.running.kill9();
    proxy.set(Fault::Down);
    let receiving = receive(&site, WITH_SLOT);
    wait_until("a state is there", PATIENCE, || receiving.state()["server_end"].is_string());
    assert!(receiving.state()["lag_bytes"].is_null(), "{}", receiving.state());
    proxy.set(Fault::None);
    receiving.catches_up_with(&server);
    wait_until("nothing waits", PATIENCE, || receiving.state()["lag_seconds"] == 0.0);
    receiving.running.terminate().succeeds();
}

#[test]
fn r18_it_is_stopped_under_load_and_goes_on() {
    let site = Site::on_folder();
    let server = server(&site, small());
    let mut receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    back_up(&site);
    let load = Load::start(&server);
    for _ in 0..4 {
        load.wait_for_commits(100);
        receiving.running.terminate().succeeds().says("stopped").does_not_say("ALARM");
        load.wait_for_commits(20);
        receiving = receive(&site, WITH_SLOT).wait_until_streaming();
    }
    load.stop();
    receiving.catches_up_with(&server);
    receiving.running.terminate().succeeds();
    assert_same_load(&bring_back(&site, "latest", &["--latest"]), &server);
    site.highwater(["verify"]).run().succeeds();
}
