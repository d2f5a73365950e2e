//! Backups that no rule keeps go in two steps, and what stays can be restored.

use std::path::Path;
use std::time::Duration;

use highwater_catalog::retention::{Clock, DAY, Rules};
use highwater_expire::{Expiry, Options, Report};
use highwater_repository::{Repository, RepositoryConfig};
use highwater_tests::{Postgres, Site};
use highwater_wal::{SystemId, Timestamp};

use crate::restores::{archiving, back_up, bring_back, restore};

/// `highwater expire --apply --backups 1` as it would be days later: the program takes no other time than the machine's.
fn expire_after(site: &Site, server: &Postgres, days: u32) -> Report {
    let system: SystemId = server.value("select system_identifier from pg_control_system()").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("file://{}", site.repository_folder().display());
    runtime.block_on(async {
        let repository = Repository::open(&RepositoryConfig::from_url(url)).await.unwrap();
        let cluster = repository.cluster(&"main".parse().unwrap(), system);
        let expiry = Expiry::open(cluster, &()).await.unwrap();
        let newest = expiry.newest_moment().unwrap();
        let later = Timestamp(newest.0 + (DAY * days).as_micros() as i64);
        let rules = Rules { backups: 1, minimum_age: Duration::ZERO, ..Rules::default() };
        let clock = Clock { here: later, archive: Some(later) };
        expiry.run(&Options { apply: true, ..Options::new(rules, clock) }, &()).await.unwrap()
    })
}

#[test]
fn r20_backups_go_in_two_steps_and_the_rest_is_restored() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t (n int)");
    let row = |n: u32| {
        server.sql(&format!("insert into t values ({n})"));
        server.archive_now();
    };
    row(1);
    let held = back_up(&site);
    row(2);
    let first = back_up(&site);
    row(3);
    row(4);
    let newest = back_up(&site);
    row(5);
    let before_six = server.value("select now()");
    row(6);

    site.highwater(["expire"])
        .run()
        .ends_with(2)
        .says("no rule says what to keep")
        .says("hint: write window");
    site.highwater(["expire", "--backups", "1", "--system-id", "7"])
        .run()
        .ends_with(2)
        .says("hint: there is");
    site.highwater(["hold", &held, "--reason", "the audit"]).run().succeeds();
    let rules = ["--backups", "1", "--minimum-age", "0"];
    let expire = |more: &[&str]| site.highwater([&["expire"], &rules[..], more].concat()).run();

    let told = expire(&[]).succeeds().stdout;
    for part in ["held: the audit", "would expire", "one of the 1 newest", "Nothing was changed"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let objects = site.objects("");
    expire(&["--json"]).succeeds();
    assert_eq!(site.objects(""), objects, "a dry run changes nothing");

    let report = expire(&["--apply", "--json"]).succeeds().json();
    let verdicts = report["systems"][0]["verdicts"].as_array().expect("a list");
    let fate = |label: &str| {
        let verdict = verdicts.iter().find(|verdict| verdict["label"] == label).expect("it is listed");
        verdict["fate"].as_str().expect("a text").to_owned()
    };
    assert_eq!((fate(&held), fate(&first), fate(&newest)), ("keep".into(), "mark".into(), "keep".into()));
    let listed = site.highwater(["list"]).run().succeeds().stdout;
    assert!(listed.contains(&format!("Expired: {first}")), "{listed}");
    site.highwater(["plan", "--immediate", "--backup", &first]).run().ends_with(3).says("highwater hold");

    // Nothing is removed before a day has passed.
    let wal = site.objects("/wal/").len();
    let packs = site.objects("/packs/").len();
    let waiting = expire(&["--apply"]).succeeds().stdout;
    assert!(waiting.contains("expired, goes after"), "{waiting}");
    let report = expire_after(&site, &server, 2);
    assert!(report.removed.wal_files > 0, "{report:?}");
    assert_eq!(site.objects(&format!("/backups/{first}/")), [""; 0].map(std::path::PathBuf::from));
    assert!(site.objects("/wal/").len() < wal);
    assert!(site.objects("/packs/").len() <= packs);

    // The held one as it was, although the WAL behind it has gone.
    let restored = bring_back(&site, "held", &["--immediate", "--backup", &held]);
    assert_eq!(restored.value("select string_agg(n::text, ',' order by n) from t"), "1");
    let restored = bring_back(&site, "five", &["--at", &before_six]);
    assert_eq!(restored.value("select string_agg(n::text, ',' order by n) from t"), "1,2,3,4,5");
    let restored = bring_back(&site, "latest", &["--latest"]);
    assert_eq!(restored.value("select count(*) from t"), "6");
    let (_, output) = restore(&site, "none", &["--immediate", "--backup", &first]);
    output.ends_with(3);

    // A new backup builds on what is left.
    back_up(&site);
    let released = site.highwater(["hold", &held, "--release"]).run().succeeds();
    assert!(released.stdout.starts_with("Released"), "{released}");
    let report = expire_after(&site, &server, 4);
    assert_eq!(report.verdicts.len(), 3, "{report:?}");
}

/// Changes a byte in the middle of an object; the same again changes it back.
fn flip(object: &Path) {
    let mut content = std::fs::read(object).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    std::fs::write(object, content).unwrap();
}

#[test]
fn r19_a_backup_that_verify_found_damaged_keeps_no_promise() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table t as select n, md5(n::text) as text from generate_series(1, 5000) as n");
    let first = back_up(&site);
    server.archive_now();
    let packs = site.objects("/packs/");
    let report = site.highwater(["backup", "--full", "--json"]).run().succeeds().json();
    let newest = report["label"].as_str().unwrap().to_owned();
    let pack = site.objects("/packs/").into_iter().find(|pack| !packs.contains(pack)).unwrap();
    let verdict = |label: &str| {
        let rules = ["--backups", "1", "--minimum-age", "0", "--json"];
        let report = site.highwater([&["expire"], &rules[..]].concat()).run().succeeds().json();
        let verdicts = report["systems"][0]["verdicts"].as_array().unwrap().clone();
        let verdict = verdicts.into_iter().find(|verdict| verdict["label"] == label).unwrap();
        (verdict["fate"].as_str().unwrap().to_owned(), verdict["why"].to_string())
    };
    assert_eq!((verdict(&first).0, verdict(&newest).0), ("mark".into(), "keep".into()));

    flip(&pack);
    site.highwater(["verify", "--deep"]).run().ends_with(4).says(&newest);
    let (fate, why) = verdict(&first);
    assert!(fate == "keep" && why.contains("last-good"), "{fate}: {why}");
    let (fate, why) = verdict(&newest);
    assert!(fate == "keep" && why.contains("found-damaged") && why.contains("if-whole"), "{fate}: {why}");
    let text = site.highwater(["expire", "--backups", "1", "--minimum-age", "0"]).run().succeeds();
    text.says("DAMAGED: the verification of").says("counts for no rule").says("hint:");
    // What reading alone finds is not lifted by listing, nor by reading something else.
    site.highwater(["verify"]).run().ends_with(4).says("not read since");
    site.highwater(["verify", "--deep", "--backup", &first]).run().succeeds();
    assert!(verdict(&newest).1.contains("found-damaged"));

    // Who takes extents over from a damaged backup is no better, as far as anybody knows.
    let heir = back_up(&site);
    assert!(verdict(&heir).1.contains("takes over extents"), "{:?}", verdict(&heir));
    assert_eq!(verdict(&first).0, "keep");

    // What is told is done.
    let rules = ["--backups", "1", "--minimum-age", "0", "--apply"];
    site.highwater([&["expire"], &rules[..]].concat()).run().succeeds();
    let listed = site.highwater(["list"]).run().succeeds().stdout;
    assert!(!listed.contains("Expired"), "{listed}");

    flip(&pack);
    site.highwater(["verify", "--deep"]).run().succeeds();
    assert!(!verdict(&newest).1.contains("found-damaged") && !verdict(&heir).1.contains("found-damaged"));
    assert_eq!((verdict(&first).0, verdict(&heir).0), ("mark".into(), "keep".into()));
}

/// Takes the archived segment behind this one away, while later ones stay: what retention leaves behind a backup that is kept.
fn make_a_hole_behind(site: &Site, segment: &str) {
    let (log, number) = segment.split_at(16);
    let next = format!("{log}{:08X}", u32::from_str_radix(number, 16).unwrap() + 1);
    let objects = site.objects(&next);
    assert_eq!(objects.len(), 1, "{next}: {objects:?}");
    std::fs::remove_file(site.repository_folder().join(&objects[0])).unwrap();
}

/// A server that reads ahead (`recovery_prefetch`, PostgreSQL 15) would ask for WAL behind its stop, and end of the hole there.
#[test]
fn r15_a_hole_right_behind_the_stop_keeps_no_server_from_opening() {
    for version in [14, 15, 18] {
        let site = Site::on_folder();
        let server = archiving(&site, Postgres::builder().version(version));
        server.sql("create table t (n int)");
        let row = |n: u32| server.sql(&format!("insert into t values ({n})"));
        row(1);
        let held = back_up(&site);
        let at_backup = server.value("select pg_walfile_name(pg_current_wal_lsn() - 1)");
        row(2);
        server.archive_now();
        // A commit with more behind it in its segment.
        row(3);
        let amid = server.value("select pg_current_wal_insert_lsn()");
        row(4);
        let amid_segment = server.value("select pg_walfile_name(pg_current_wal_lsn() - 1)");
        server.archive_now();
        row(5);
        server.archive_now();
        // A commit within the last kilobyte of its segment.
        let size = 1 << 20;
        let fill = "select pg_logical_emit_message(false, 'fill', repeat('x', least(60000, rest)::int)) from \
            (select 1048576 - 500 - ((pg_current_wal_insert_lsn() - '0/0') % 1048576) as rest) as r where rest > 0";
        let left = || {
            let at = server.value("select (pg_current_wal_insert_lsn() - '0/0') % 1048576");
            size - at.parse::<u64>().unwrap()
        };
        while left() > 1000 {
            server.sql(fill);
        }
        row(6);
        let edge = server.value("select pg_current_wal_insert_lsn()");
        let edge_segment = server.value("select pg_walfile_name(pg_current_wal_insert_lsn() - 1)");
        row(7);
        server.sql("select pg_logical_emit_message(false, 'fill', repeat('x', 60000))");
        server.archive_now();
        row(8);
        server.archive_now();
        row(9);
        server.archive_now();

        for segment in [&edge_segment, &amid_segment, &at_backup] {
            make_a_hole_behind(&site, segment);
            let (target, rows): (&[&str], _) = match segment {
                _ if *segment == at_backup => (&["--immediate", "--backup", &held], "1"),
                _ if *segment == amid_segment => (&["--lsn", &amid], "1,2,3"),
                _ => (&["--lsn", &edge], "1,2,3,4,5,6"),
            };
            let restored = bring_back(&site, &segment[16..], target);
            assert_eq!(
                restored.value("select string_agg(n::text, ',' order by n) from t"),
                rows,
                "PostgreSQL {version}, {segment}"
            );
        }
    }
}
