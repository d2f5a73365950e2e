//! The essential journeys of the two commands on S3.

use highwater_tests::{Fault, PATIENCE, Proxy, S3, Site, wait_until};

use crate::archive_command_refuses_other_content::key_pair;
use crate::commands::{
    Lab, LostCluster, NOT_THERE, archive, assert_archived, assert_refused, fetch, fill_segments, read,
    small_segments, start_quiet_server,
};

fn every_row_comes_back(site: Site) {
    let cluster = LostCluster::on(site);
    let server =
        cluster.recovering("recovery.signal").try_recover().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(server.value("select count(*) from t"), "5");
}

#[test]
fn r01_postgresql_archives_into_ceph_and_recovers_from_it() {
    every_row_comes_back(Site::on_s3(S3::ceph()));
}

#[test]
fn r01_the_same_encrypted_with_zstd_over_tls() {
    let store = S3::moto_with_tls();
    let site = Site::on_s3(&store);
    let (recipient, identity) = key_pair(&site);
    every_row_comes_back(
        site.repository_setting("ca-file", &store.ca_certificate().display().to_string())
            .repository_setting("compression", "zstd")
            .repository_line(&format!("encrypt-to = ['{recipient}']"))
            .repository_setting("identity-file", &identity.display().to_string()),
    );
}

#[test]
fn r03_other_content_is_refused_on_ceph() {
    let site = Site::on_s3(S3::ceph());
    let server = start_quiet_server(&site, small_segments());
    let lab = Lab::empty(&site, "lab", server.data_dir());
    let name = "00000002.history";
    let (first, other) = (b"1\t0/5000000\tfirst\n", b"1\t0/6000000\tother\n");
    lab.archive_content(&site, name, first).succeeds();
    lab.archive_content(&site, name, first).succeeds().silently();
    assert_refused(lab.archive_content(&site, name, other), 1).says("other content").says("archived by host");
    lab.file("pg_wal/00000002.history", first);
    assert_archived(&site, &lab.0, name);
}

#[test]
fn r01_an_answer_that_was_lost_is_asked_for_again() {
    let proxy = Proxy::to(S3::ceph().address());
    let site = Site::on_s3_behind(S3::ceph(), &proxy.endpoint());
    let server = start_quiet_server(&site, small_segments());
    let name = fill_segments(&server, 1).remove(0);
    let data = server.data_dir();
    for fault in [Fault::ResetAfterAnswer(0), Fault::ResetAfterRequest(100_000), Fault::CloseAfterAnswer(20)]
    {
        let before = proxy.connections();
        proxy.set(fault);
        let running = archive(&site, data, &name).start();
        wait_until("it has tried in vain", PATIENCE, || proxy.connections() >= before + 3);
        proxy.set(Fault::None);
        running.wait().succeeds();
        assert_archived(&site, data, &name);
    }
}

#[test]
fn r06_the_end_of_the_archive_is_told_on_ceph() {
    let site = Site::on_s3(S3::ceph());
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 2);
    archive(&site, server.data_dir(), &names[0]).run().succeeds();
    let folder = Lab::empty(&site, "folder", server.data_dir()).0;
    fetch(&site, &folder, &names[0], "x").run().succeeds().silently();
    assert!(read(&folder.join("x")) == read(&server.data_dir().join("pg_wal").join(&names[0])));
    for name in [names[1].as_str(), "00000002.history"] {
        fetch(&site, &folder, name, "y").run().ends_with(NOT_THERE).silently();
    }
    // A bucket that is not there is no answer about a segment.
    let nowhere = "s3://no-such-bucket/highwater";
    let output = fetch(&site, &folder, &names[1], "y").env("HIGHWATER_REPOSITORY_URL", nowhere).run();
    output.ends_with(200).fails_clearly().says("hint: ");
}
