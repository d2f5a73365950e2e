//! A segment is checked before it is stored (R4): nothing is archived that a recovery would choke on later.

use highwater_tests::{Postgres, Site, StopMode};

use crate::commands::{
    Lab, assert_archived, assert_not_archived, assert_refused, fill_segments, read, small_segments,
    start_quiet_server,
};

/// Something to find in a segment.
const NEEDLE: &str = "a-needle-in-the-write-ahead-log";

/// A repository, a folder to archive from, and a sound segment with the needle.
fn scene() -> (Site, Lab, String, Vec<u8>) {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    server.sql("create table needle (content text)");
    server.sql("select pg_switch_wal()");
    // So many that one lies whole on a page.
    server.sql(&format!("insert into needle select '{NEEDLE}' from generate_series(1, 10)"));
    let name = fill_segments(&server, 1).remove(0);
    let bytes = read(&server.data_dir().join("pg_wal").join(&name));
    let lab = Lab::empty(&site, "lab", server.data_dir());
    server.stop(StopMode::Fast);
    (site, lab, name, bytes)
}

fn position(bytes: &[u8]) -> usize {
    let needle = NEEDLE.as_bytes();
    bytes.windows(needle.len()).position(|window| window == needle).expect("the needle is in the segment")
}

fn next(name: &str) -> String {
    let number = u64::from_str_radix(&name[8..], 16).unwrap() + 1;
    format!("{}{number:016X}", &name[..8])
}

#[test]
fn r04_a_segment_that_was_cut_short_is_refused() {
    let (site, lab, name, bytes) = scene();
    for length in [0, 1, 100, 8192, bytes.len() / 2, bytes.len() - 1] {
        assert_refused(lab.archive_content(&site, &name, &bytes[..length]), 1).says(&name);
    }
    let longer = [bytes.clone(), vec![0; 8192]].concat();
    assert_refused(lab.archive_content(&site, &name, &longer), 1);
    // Its end was never written.
    let mut zeroed = bytes.clone();
    zeroed[position(&bytes)..].fill(0);
    assert_refused(lab.archive_content(&site, &name, &zeroed), 1);
    assert_not_archived(&site, &name);
    lab.archive_content(&site, &name, &bytes).succeeds();
    assert_archived(&site, &lab.0, &name);
}

#[test]
fn r04_a_segment_under_another_name_is_refused() {
    let (site, lab, name, bytes) = scene();
    for other in
        [next(&name), format!("00000002{}", &name[8..]), format!("{}00000001{}", &name[..8], &name[16..])]
    {
        assert_refused(lab.archive_content(&site, &other, &bytes), 1).says(&other);
        assert_not_archived(&site, &other);
    }
}

#[test]
fn r04_a_flipped_bit_is_refused_with_its_place() {
    let (site, lab, name, bytes) = scene();
    let needle = position(&bytes);
    let page = needle / 8192 * 8192;
    // In a record, in its page's header, in the segment's header.
    for at in [needle, needle + NEEDLE.len() - 1, page, page + 8, 0, 24] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x04;
        let output = assert_refused(lab.archive_content(&site, &name, &damaged), 1);
        assert!(output.stderr.contains("offset ") && output.stderr.contains("LSN "), "{at}: {output}");
    }
    assert_not_archived(&site, &name);
}

#[test]
fn r04_a_refusal_has_a_way_out() {
    let (site, lab, name, bytes) = scene();
    let mut damaged = bytes.clone();
    damaged[position(&bytes)] ^= 0x04;
    assert_refused(lab.archive_content(&site, &name, &damaged), 1);
    lab.archive(&site, &name).env("HIGHWATER_CLUSTER_MAIN_ARCHIVE_CHECK", "header").run().succeeds();
    assert_archived(&site, &lab.0, &name);
}

#[test]
fn r04_another_cluster_s_segment_is_refused() {
    let (site, lab, name, _) = scene();
    let other = Postgres::builder().wal_segment_size_mb(1).setting("wal_keep_size", "1GB").start();
    let names = fill_segments(&other, 3);
    let of_same_name = names.iter().find(|found| **found >= name).unwrap_or(&names[2]);
    let bytes = read(&other.data_dir().join("pg_wal").join(of_same_name));
    assert_refused(lab.archive_content(&site, of_same_name, &bytes), 1).says("system identifier");
    assert_not_archived(&site, of_same_name);
}

#[test]
fn r04_every_segment_size_is_taken_as_it_is() {
    for size in [1, 16, 64] {
        let site = Site::on_folder();
        let builder = Postgres::builder().wal_segment_size_mb(size).setting("wal_keep_size", "2GB");
        let server = start_quiet_server(&site, builder);
        let name = fill_segments(&server, 1).remove(0);
        let lab = Lab(server.data_dir().to_owned());
        lab.archive(&site, &name).run().succeeds().silently();
        assert_archived(&site, &lab.0, &name);
    }
}
