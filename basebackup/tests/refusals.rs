//! Backups that must not become complete, and what is said then.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the right answer")]
#![allow(dead_code, reason = "not every test uses all that they have in common")]

mod common;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use common::{Setting, Told, options_for};
use highwater_basebackup::{Error, Phase, run, run_until};
use highwater_tests::{PATIENCE, Postgres, Site, StopMode};

/// Whether no backup is complete, and the last event says that one failed with this text.
async fn has_failed(setting: &Setting, text: &str) {
    for label in setting.cluster().await.backups().labels().await.unwrap() {
        assert_eq!(setting.head(label.as_str()).await, None);
    }
    let (outcome, details) = setting.events().await.pop().unwrap();
    assert_eq!(outcome, "Failed");
    assert!(details["error"].as_str().unwrap().contains(text), "{details}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_without_its_wal_in_the_archive_a_backup_is_not_complete() {
    let setting = Setting::new(Postgres::builder()).await;
    setting.server.archive_now();
    setting.server.configure("archive_command", "false");
    let told = Told::default();
    let mut options = setting.options();
    options.archive_timeout = Duration::from_secs(2);
    let error = run(&options, &setting.repository, &told).await.unwrap_err();
    assert!(matches!(error, Error::WalMissing { .. }), "{error}");
    let text = error.to_string();
    for part in ["and last failed with 0000000100000000", "hint: look at pg_stat_archiver", "archive_command"]
    {
        assert!(text.contains(part), "{text}");
    }
    has_failed(&setting, "needs segment").await;

    // Archiving that fails before the backup begins is told at once; when it works again, the backup becomes complete.
    let told = Told::default();
    options.archive_timeout = PATIENCE;
    options.label = Some("second".parse().unwrap());
    let mending = async {
        let is_waiting = |phase: &Phase| matches!(phase, Phase::Wal { missing: Some(_), .. });
        while !told.phases.lock().unwrap().iter().any(is_waiting) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        setting.server.configure("archive_command", &setting.site.archive_command());
    };
    let (report, ()) = tokio::join!(run(&options, &setting.repository, &told), mending);
    assert_eq!(report.unwrap().label.as_str(), "second");
    let notes = told.notes.lock().unwrap();
    assert!(notes.iter().any(|note| note.contains("archiving fails at present")), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_the_wal_of_another_server_with_the_same_history_is_not_taken_for_this_ones() {
    let setting = Setting::new(Postgres::builder()).await;
    setting.server.sql("create table t (n int)");
    setting.server.stop(StopMode::Fast);
    // A copy of the machine: same system identifier, same timeline.
    let copy = setting.server.folder().join("copy");
    let status =
        std::process::Command::new("cp").arg("-a").arg(setting.server.data_dir()).arg(&copy).status();
    assert!(status.unwrap().success());
    let command = setting.site.archive_command();
    let command = format!("HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY={} {command}", copy.display());
    let other = Postgres::from_data_dir(&copy).setting("archive_command", &command).start();
    setting.server.start_again().unwrap();
    setting.server.configure("archive_command", "false");
    // It is further ahead than the server that is backed up will be.
    for n in 0..6 {
        other.sql(&format!("insert into t values ({n})"));
        other.archive_now();
    }
    let error =
        setting.back_up(|options| options.archive_timeout = Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, Error::WrongWal { .. }), "{error}");
    assert!(error.to_string().contains("two servers"), "{error}");
    has_failed(&setting, "does not belong to this backup").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_damaged_pages_make_no_backup_unless_that_is_asked_for() {
    let setting = Setting::new(Postgres::builder()).await;
    setting.server.sql("create table t as select generate_series(1, 10000) as n");
    setting.server.sql("checkpoint");
    let file = setting.server.value("select pg_relation_filepath('t')");
    setting.server.stop(StopMode::Fast);
    let mut content = fs::OpenOptions::new().write(true).open(setting.server.data_dir().join(&file)).unwrap();
    content.seek(SeekFrom::Start(3 * 8192 + 5000)).unwrap();
    content.write_all(b"damage").unwrap();
    setting.server.start_again().unwrap();

    let error = setting.back_up(|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::DamagedPages { .. }), "{error}");
    for part in [file.as_str(), "block 3", "hint: "] {
        assert!(error.to_string().contains(part), "{error}");
    }
    has_failed(&setting, "damaged").await;
    let label = Some("as-it-is".parse().unwrap());
    setting.back_up(|options| (options.label, options.verify_checksums) = (label, false)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r22_a_server_that_does_not_serve_is_refused_before_anything_is_copied() {
    let setting = Setting::new(Postgres::builder()).await;

    // Another cluster.
    let stranger = Postgres::builder().setting("archive_mode", "on").start();
    let error = run(&options_for(&stranger), &setting.repository, &()).await.unwrap_err().to_string();
    assert!(error.contains("highwater init"), "{error}");

    // No archiving.
    setting.server.sql("alter system set archive_mode = off");
    setting.server.restart();
    let error = setting.back_up(|_| {}).await.unwrap_err().to_string();
    assert!(
        error.contains("archive_mode is off") && error.contains("hint: set archive_mode = on"),
        "{error}"
    );

    // A role that may not replicate, and one that may nothing else.
    setting.server.sql("create role plain login; create role replicator login replication");
    let mut options = setting.options();
    options.connection.user = "plain".to_owned();
    let error = run(&options, &setting.repository, &()).await.unwrap_err().to_string();
    assert!(error.contains("plain") || error.contains("replication"), "{error}");
    assert_eq!(setting.events().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_replicate_is_enough() {
    let setting = Setting::new(Postgres::builder()).await;
    setting.server.sql("create role replicator login replication");
    setting.back_up(|options| options.connection.user = "replicator".to_owned()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r22_a_label_that_is_taken_is_refused() {
    let setting = Setting::new(Postgres::builder()).await;
    setting.back_up(|options| options.label = Some("mine".parse().unwrap())).await.unwrap();
    let error = setting.back_up(|options| options.label = Some("mine".parse().unwrap())).await.unwrap_err();
    assert!(error.to_string().contains("mine"), "{error}");
    assert_eq!(setting.events().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_stopped_is_shown_as_unfinished() {
    let setting = Setting::new(Postgres::builder()).await;
    let told = Told::default();
    let copying = async {
        while !told.phases.lock().unwrap().contains(&Phase::Copying) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // Slow enough to be stopped on the way.
    let mut options = setting.options();
    options.max_rate_kb = Some(1024);
    let error = run_until(&options, &setting.repository, &told, copying).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    has_failed(&setting, "stopped").await;
    // The server ends its side.
    setting.server.wait_for("select count(*) = 0 from pg_stat_replication", PATIENCE);
    setting.back_up(|options| options.label = Some("second".parse().unwrap())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_only_the_public_key_makes_complete_full_backups() {
    let keys = highwater_repository::KeyPair::generate();
    let site = Site::on_folder().repository_line(&format!("encrypt-to = [\"{}\"]", keys.recipient()));
    let setting = Setting::on(site, Postgres::builder()).await;
    let first = setting.back_up(|options| options.label = Some("first".parse().unwrap())).await.unwrap();
    assert!(!first.wal_was_read);
    let told = Told::default();
    let mut options = setting.options();
    options.label = Some("second".parse().unwrap());
    let second = run(&options, &setting.repository, &told).await.unwrap();
    assert_eq!((second.parent, second.reused_bytes), (None, 0));
    let notes = told.notes.lock().unwrap().clone();
    assert!(notes.iter().any(|note| note.contains("everything is stored anew")), "{notes:?}");

    // Who has the identity reads all of it, and builds on it.
    let identity = setting.site.path("identity");
    keys.write_identity_file(&identity).unwrap();
    highwater_tests::give_to_server_account(&identity);
    let mut config = setting.repository.config().clone();
    config.identity_file = Some(identity);
    let repository = highwater_repository::Repository::open(&config).await.unwrap();
    let setting = Setting { repository, ..setting };
    let third = setting.back_up(|options| options.label = Some("third".parse().unwrap())).await.unwrap();
    assert!(third.wal_was_read && third.reused_bytes > third.bytes / 2, "{third:?}");
    let restored = setting.recover(&third.label).await;
    assert_eq!(restored.value("select 1"), "1");
}
