//! What is kept is proven before it is needed.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::{Postgres, S3, Site, StopMode};

use crate::archive_command_refuses_other_content::key_pair;
use crate::restores::{archiving, back_up};

const USAGE: i32 = 2;
const DAMAGED: i32 = 4;

/// A cluster with a table, a backup, and WAL behind it.
fn kept(site: &Site) -> (Postgres, String) {
    let server = archiving(site, Postgres::builder());
    server.sql("create table t as select n, md5(n::text) as text from generate_series(1, 30000) as n");
    let label = back_up(site);
    more(&server, 3);
    (server, label)
}

/// Archives segments, and answers their names.
fn more(server: &Postgres, count: usize) -> Vec<String> {
    let segment = |_| {
        server.sql("insert into t select n, md5(n::text) from generate_series(1, 500) as n");
        server.archive_now()
    };
    (0..count).map(segment).collect()
}

fn object(site: &Site, part: &str) -> PathBuf {
    site.objects(part).into_iter().next().unwrap_or_else(|| panic!("there is no {part}"))
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 0x10;
    fs::write(path, content).unwrap();
}

#[test]
fn r19_a_whole_repository_is_proven_and_status_tells_when_that_was() {
    let site = Site::on_folder();
    let (server, _) = kept(&site);
    site.highwater(["status"]).run().succeeds().says("Last verified    never");
    site.highwater(["verify"]).run().succeeds().says("nothing is damaged or missing").says("not read");
    let report = site.highwater(["verify", "--deep", "--json"]).run().succeeds().json();
    assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{report}");
    for count in ["records", "pages", "extents", "segments_read", "packs_read", "events_read"] {
        assert!(report["looked"][count].as_u64().unwrap() > 0, "{count}: {report}");
    }
    site.highwater(["status"])
        .run()
        .succeeds()
        .says("everything, read whole, nothing damaged; all was last read");

    // Only what is new is read the next time.
    let all = report["looked"]["segments_read"].as_u64().unwrap();
    let new = more(&server, 2).len() as u64;
    let second = back_up(&site);
    let report = site.highwater(["verify", "--deep", "--since-last", "--json"]).run().succeeds().json();
    let read = report["looked"]["segments_read"].as_u64().unwrap();
    assert!(read >= new && read < all + new, "{report}");
    assert!(report["looked"]["packs_read"].as_u64() < report["looked"]["packs"].as_u64(), "{report}");
    site.highwater(["verify", "--since-last"]).run().succeeds();
    site.highwater(["verify", "--deep", "--sample", "50%"]).run().succeeds().says("a random 50 %");
    site.highwater(["verify", "--deep", "--backup", &second]).run().succeeds().says(&second);
    site.highwater(["verify", "--deep", "--timeline", "1"]).run().succeeds();
    site.highwater(["verify", "--sample", "5%"]).run().ends_with(USAGE);
    site.highwater(["verify", "--deep", "--resume"]).run().ends_with(USAGE).says("cut short");
    site.highwater(["verify", "--backup", "nobody"]).run().ends_with(USAGE).says("highwater list");
    server.stop(StopMode::Fast);
}

#[test]
fn r19_damage_is_told_with_who_needs_it() {
    let site = Site::on_folder();
    let (_server, label) = kept(&site);
    let pack = object(&site, "/packs/");
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let length = fs::metadata(&pack).unwrap().len() as usize;
    flip(&pack, length / 2);
    site.highwater(["verify"]).run().succeeds();
    site.highwater(["verify", "--deep"])
        .run()
        .ends_with(DAMAGED)
        .says(&name)
        .says(&format!("needed by backup {label}"))
        .says("FOUND");
    site.highwater(["status"])
        .run()
        .succeeds()
        .says("ALARM            the last verification found 1 damage")
        .says(&name);
    // What was not proven is not left out.
    site.highwater(["verify", "--deep", "--since-last"])
        .run()
        .ends_with(USAGE)
        .says("leave --since-last away");
    fs::remove_file(&pack).unwrap();
    site.highwater(["verify"]).run().ends_with(DAMAGED).says(&name).says("missing").says(&label);
}

#[test]
fn r19_a_hole_that_a_backup_needs_is_damage_and_one_between_windows_is_told() {
    let site = Site::on_folder();
    let (server, first) = kept(&site);
    let names = more(&server, 3);
    let second = back_up(&site);
    more(&server, 1);
    let hole = object(&site, &names[1]);
    let aside = site.path("aside");
    fs::rename(&hole, &aside).unwrap();
    site.highwater(["verify"])
        .run()
        .succeeds()
        .says(&names[1])
        .says(&format!("a hole between windows: backup {second} lies behind it"))
        .says("cannot be reached without it");
    fs::rename(&aside, &hole).unwrap();
    let listed = site.highwater(["list", "--json"]).run().succeeds().json();
    let needed = listed["backups"][0]["last_segment"].as_str().unwrap().to_owned();
    fs::remove_file(object(&site, &needed)).unwrap();
    site.highwater(["verify"])
        .run()
        .ends_with(DAMAGED)
        .says(&needed)
        .says(&format!("needed by backup {first}"));
}

#[test]
fn r19_a_page_that_is_damaged_in_the_data_directory_is_found() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t as select n, md5(n::text) as text from generate_series(1, 30000) as n");
    server.sql("checkpoint");
    let path = server.value("select pg_relation_filepath('t')");
    server.stop(StopMode::Fast);
    flip(&server.data_dir().join(&path), 5 * 8192 + 4000);
    server.start_again().unwrap();
    // The server finds it itself, unless it is told not to look.
    site.highwater(["backup"]).run().ends_with(1).says("--no-verify-checksums");
    site.highwater(["backup", "--no-verify-checksums"]).run().succeeds();
    site.highwater(["verify"]).run().succeeds();
    site.highwater(["verify", "--deep"])
        .run()
        .ends_with(DAMAGED)
        .says(&format!("{path} of backup"))
        .says("block 5: the page has a wrong checksum");
}

#[test]
fn r19_what_cannot_be_proven_without_the_identity_is_said() {
    let site = Site::on_folder();
    let (recipient, identity) = key_pair(&site);
    let site = site
        .repository_line(&format!("encrypt-to = ['{recipient}']"))
        .repository_setting("identity-file", &identity.display().to_string())
        .repository_setting("compression", "zstd");
    let (_server, _) = kept(&site);
    site.highwater(["verify", "--deep"]).run().succeeds();
    let without = |arguments: &[&str]| {
        let text = fs::read_to_string(site.config()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("identity-file")).collect();
        let config = site.path("without.toml");
        fs::write(&config, lines.join("\n")).unwrap();
        site.highwater(arguments).config(&config).run()
    };
    without(&["verify"]).ends_with(USAGE).says("--without-identity");
    without(&["verify", "--without-identity"])
        .succeeds()
        .says("Not proven       everything that is encrypted");
}

#[test]
fn r19_a_repository_on_s3_is_proven() {
    let store = S3::moto();
    let site = Site::on_s3(&store);
    let (_server, _) = kept(&site);
    site.highwater(["verify"]).run().succeeds();
    site.highwater(["verify", "--deep"]).run().succeeds().says("nothing is damaged or missing");
}
