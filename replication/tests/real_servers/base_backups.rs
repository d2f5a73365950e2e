//! Base backups from real servers of every version, checked against the server's own manifest and `pg_basebackup`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use crate::common::replication;
use highwater_replication::{
    Archive, BackupEvent, BackupStart, BackupStop, BackupStream, BaseBackup, Checkpoint, Error, Tablespace,
};
use highwater_tests::{PATIENCE, Postgres, StopMode, VERSIONS, as_server_account, client_program};

/// Everything that a backup gave.
struct Received {
    start: BackupStart,
    stop: BackupStop,
    archives: BTreeMap<Option<u32>, Vec<u8>>,
    manifest: Vec<u8>,
    /// Bytes reported last.
    progress: Option<u64>,
}

fn fast(label: &str) -> BaseBackup {
    BaseBackup { checkpoint: Checkpoint::Fast, ..BaseBackup::new(label) }
}

async fn receive(mut backup: BackupStream) -> Result<Received, Error> {
    let start = backup.start().clone();
    let mut archives = BTreeMap::new();
    let (mut manifest, mut progress) = (Vec::new(), None);
    let mut into: &mut Vec<u8> = &mut Vec::new();
    while let Some(event) = backup.next().await? {
        match event {
            BackupEvent::Archive(Archive::Base) => into = archives.entry(None).or_default(),
            BackupEvent::Archive(Archive::Tablespace(oid)) => into = archives.entry(Some(oid)).or_default(),
            BackupEvent::Manifest => into = &mut manifest,
            BackupEvent::Data(bytes) => into.extend_from_slice(&bytes),
            BackupEvent::Progress(bytes) => progress = Some(bytes),
        }
    }
    let (stop, mut client) = backup.finish()?;
    // The connection is as good as before.
    client.identify_system().await?;
    Ok(Received { start, stop, archives, manifest, progress })
}

async fn back_up(server: &Postgres, options: &BaseBackup) -> Received {
    let client = replication(&server.connection_string()).await.unwrap();
    receive(client.base_backup(options).await.unwrap()).await.unwrap()
}

/// The plain files of a tar archive.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, entry.header().size().unwrap(), "{name}");
            files.insert(name, content);
        }
    }
    files
}

/// The files of all archives, under the names that the server's manifest has for them.
fn files_by_manifest_name(received: &Received, version: u32) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (oid, archive) in &received.archives {
        for (name, content) in files(archive) {
            let name = match oid {
                Some(oid) => format!("pg_tblspc/{oid}/{name}"),
                None => name,
            };
            assert!(all.insert(name.clone(), content).is_none(), "{version}: {name} twice");
        }
    }
    all
}

fn check_against_manifest(received: &Received, version: u32) {
    let manifest: serde_json::Value = serde_json::from_slice(&received.manifest).unwrap();
    let mut files = files_by_manifest_name(received, version);
    assert!(files.contains_key("global/pg_control") && files.contains_key("backup_label"));
    assert!(files.contains_key("tablespace_map") != received.start.tablespaces.is_empty());
    for entry in manifest["Files"].as_array().unwrap() {
        let name = entry["Path"].as_str().unwrap();
        let content = files.remove(name).unwrap_or_else(|| panic!("{version}: {name} is missing"));
        assert_eq!(entry["Size"].as_u64().unwrap(), content.len() as u64, "{version}: {name}");
        let checksum: String =
            crc32c::crc32c(&content).to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entry["Checksum"].as_str().unwrap(), checksum, "{version}: {name}");
    }
    assert!(files.is_empty(), "{version}: files that no manifest has: {:?}", files.keys());
    let range = &manifest["WAL-Ranges"][0];
    assert_eq!(range["Start-LSN"].as_str().unwrap(), received.start.position.to_string());
    assert_eq!(range["End-LSN"].as_str().unwrap(), received.stop.position.to_string());
    assert_eq!(range["Timeline"].as_u64().unwrap(), u64::from(received.stop.timeline.get()));
}

#[tokio::test]
async fn every_version_sends_what_its_manifest_says() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).start();
        let folder = server.tablespace("elsewhere");
        server.sql("create table here as select generate_series(1, 100000) as n");
        server.sql("create table there tablespace elsewhere as select generate_series(1, 50000) as n");
        let oid: u32 =
            server.value("select oid from pg_tablespace where spcname = 'elsewhere'").parse().unwrap();

        let received = back_up(&server, &fast("it's nightly")).await;
        let start = &received.start;
        assert_eq!(start.tablespaces.len(), 1);
        let Tablespace { oid: known, location, size_kb } = &start.tablespaces[0];
        assert_eq!((*known, location), (oid, &folder));
        assert!(size_kb.unwrap() > 1000 && start.base_size_kb.unwrap() > 10_000);
        assert_eq!(received.archives.keys().copied().collect::<Vec<_>>(), [None, Some(oid)]);
        assert!(start.position < received.stop.position && start.timeline == received.stop.timeline);
        let bytes: usize = received.archives.values().map(Vec::len).sum();
        match received.progress {
            // Empty files and folders count by their headers only.
            Some(progress) => {
                assert!(progress > 0 && progress <= bytes as u64 + 4096, "{progress} of {bytes}")
            }
            None => assert_eq!(version, 14),
        }
        check_against_manifest(&received, version);
        let label = String::from_utf8(files(&received.archives[&None])["backup_label"].clone()).unwrap();
        assert!(label.contains("LABEL: it's nightly\n"), "{label}");
        assert!(label.contains("CHECKPOINT LOCATION: ") && label.contains("START TIMELINE: 1"), "{label}");
    }
}

#[tokio::test]
async fn pg_basebackup_writes_the_same_files() {
    let server = Postgres::start();
    let folder = server.tablespace("elsewhere");
    server.sql("create table here as select generate_series(1, 100000) as n");
    server.sql("create table there tablespace elsewhere as select generate_series(1, 50000) as n");
    server.sql("checkpoint");
    let received = back_up(&server, &fast("ours")).await;
    let target = server.folder().join("theirs");
    let mut command = Command::new(client_program(15, "pg_basebackup"));
    command
        .args(["--format=tar", "--checkpoint=fast", "--wal-method=none", "--no-sync", "--pgdata"])
        .arg(&target);
    command.arg("--dbname").arg(server.connection_string());
    let output = as_server_account(&mut command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!folder.as_os_str().is_empty());
    for (oid, archive) in &received.archives {
        let name = oid.map_or("base.tar".to_owned(), |oid| format!("{oid}.tar"));
        let theirs = files(&fs::read(target.join(name)).unwrap());
        let ours = files(archive);
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&ours), names(&theirs));
        for (name, content) in ours.iter().filter(|(name, _)| name.starts_with("base/") || oid.is_some()) {
            assert_eq!(content, &theirs[name], "{name}");
        }
    }
}

#[tokio::test]
async fn options_reach_the_server() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).start();
        let plain = BaseBackup {
            checkpoint: Checkpoint::Spread,
            progress: false,
            max_rate_kb: Some(1_048_576),
            manifest: None,
            verify_checksums: false,
            ..fast("plain")
        };
        // A spread checkpoint of an idle server is done at once.
        let received = back_up(&server, &plain).await;
        assert!(received.manifest.is_empty());
        assert_eq!((received.start.base_size_kb, received.start.tablespaces.len()), (None, 0));
        assert!(files(&received.archives[&None]).contains_key("backup_label"));
    }
}

#[tokio::test]
async fn waiting_for_the_archive_ends_with_it() {
    for version in [14, 15] {
        let server = Postgres::builder().version(version).archive_command("true").start();
        let received = back_up(&server, &BaseBackup { wait: true, ..fast("waited") }).await;
        let segment = server.value(&format!("select pg_walfile_name('{}')", received.start.position));
        assert!(server.value("select last_archived_wal from pg_stat_archiver") >= segment);
    }
}

/// Changes some bytes in the middle of a table's second page.
fn damage(server: &Postgres, table: &str) {
    let path = server.data_dir().join(server.value(&format!("select pg_relation_filepath('{table}')")));
    server.stop(StopMode::Fast);
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(8192 + 4000)).unwrap();
    file.write_all(b"damaged").unwrap();
    server.start_again().unwrap();
}

#[tokio::test]
async fn damaged_pages_are_told_apart_from_other_failures() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).start();
        server.sql("create table t as select generate_series(1, 10000) as n");
        damage(&server, "t");
        let client = replication(&server.connection_string()).await.unwrap();
        let mut backup = client.base_backup(&fast("damaged")).await.unwrap();
        let error = loop {
            match backup.next().await {
                Ok(event) => assert!(event.is_some(), "{version}: the damage was not found"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::ChecksumFailure(_)), "{version}: {error}");
        let notices: Vec<String> = backup.take_notices().into_iter().map(|notice| notice.message).collect();
        assert!(notices.iter().any(|notice| notice.contains("checksum verification failed")), "{notices:?}");
        assert!(backup.finish().is_err());
        // Who does not ask gets the bytes as they are.
        back_up(&server, &BaseBackup { verify_checksums: false, ..fast("unchecked") }).await;
    }
}

#[tokio::test]
async fn dropping_a_backup_ends_it_on_the_server() {
    for version in [14, 15] {
        let server = Postgres::builder().version(version).start();
        server.sql("create table t as select generate_series(1, 300000) as n");
        let client = replication(&server.connection_string()).await.unwrap();
        let slow = BaseBackup { max_rate_kb: Some(1024), ..fast("slow") };
        let mut backup = client.base_backup(&slow).await.unwrap();
        while !matches!(backup.next().await.unwrap(), Some(BackupEvent::Data(_))) {}
        assert_eq!(server.value("select count(*) from pg_stat_progress_basebackup"), "1");
        drop(backup);
        server.wait_for("select count(*) = 0 from pg_stat_progress_basebackup", PATIENCE);
    }
}

#[tokio::test]
async fn a_server_that_dies_leaves_no_whole_backup() {
    let server = Postgres::start();
    server.sql("create table t as select generate_series(1, 300000) as n");
    let client = replication(&server.connection_string()).await.unwrap();
    let slow = BaseBackup { max_rate_kb: Some(1024), ..fast("slow") };
    let mut backup = client.base_backup(&slow).await.unwrap();
    while !matches!(backup.next().await.unwrap(), Some(BackupEvent::Data(_))) {}
    server.kill9();
    let error = loop {
        match backup.next().await {
            Ok(event) => assert!(event.is_some(), "a backup from a dead server"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Lost { .. } | Error::Server(_)), "{error}");
    assert!(backup.finish().is_err());
}

#[tokio::test]
async fn what_the_server_refuses_is_quoted() {
    let server = Postgres::builder().setting("max_wal_senders", "0").setting("wal_level", "minimal").start();
    let error = replication(&server.connection_string()).await.map(drop).unwrap_err();
    assert!(error.server_error().is_some() && error.to_string().contains("max_wal_senders"), "{error}");
    assert!(Path::new(server.data_dir()).exists());
}
