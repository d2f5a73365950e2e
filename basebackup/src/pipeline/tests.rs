use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_replication::{Archive, BackupEvent, Config, Environment};
use highwater_repository::pack::ExtentReader;
use highwater_repository::{
    Item, ManifestHead, ManifestReader, PackLimits, Repository, RepositoryConfig, Run,
};
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::retry::Retry;
use highwater_storage::{ErrorKind, StoreConfig};
use highwater_wal::{SystemId, Timestamp};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::*;
use crate::Error;
use crate::matching::match_files;
use crate::parent::{Choice, choose};

/// What a server holds: files by path.
type Files = BTreeMap<String, Vec<u8>>;

/// Gives events as a server would.
struct Fake(std::vec::IntoIter<BackupEvent>);

impl Events for Fake {
    async fn next(&mut self) -> crate::Result<Option<BackupEvent>> {
        Ok(self.0.next())
    }
}

const PIECE: usize = 32 << 10;

/// The events for `files`, of which `listed` stand in the manifest.
fn events(files: &Files, listed: &Files) -> Fake {
    let tablespace = "pg_tblspc/16384/";
    let (in_tablespace, in_base): (Vec<_>, Vec<_>) =
        files.iter().partition(|(path, _)| path.starts_with(tablespace));
    let mut events = vec![BackupEvent::Archive(Archive::Tablespace(16384))];
    let archive =
        archive(in_tablespace.into_iter().map(|(path, content)| (&path[tablespace.len()..], content)));
    events.extend(pieces(&archive));
    events.push(BackupEvent::Archive(Archive::Base));
    events
        .extend(pieces(&self::archive(in_base.into_iter().map(|(path, content)| (path.as_str(), content)))));
    events.push(BackupEvent::Progress(1));
    events.push(BackupEvent::Manifest);
    events.extend(pieces(&manifest(listed)));
    Fake(events.into_iter())
}

fn pieces(bytes: &[u8]) -> Vec<BackupEvent> {
    bytes.chunks(PIECE).map(|piece| BackupEvent::Data(Bytes::copy_from_slice(piece))).collect()
}

fn archive<'a>(files: impl Iterator<Item = (&'a str, &'a Vec<u8>)>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let mut add = |path: &str, kind: EntryType, content: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o700 } else { 0o600 });
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    add("folder/", EntryType::Directory, b"");
    files.for_each(|(path, content)| add(path, EntryType::Regular, content));
    builder.into_inner().unwrap()
}

fn manifest(files: &Files) -> Vec<u8> {
    let line = |(path, content): (&String, &Vec<u8>)| {
        let crc = crc32c::crc32c(content).swap_bytes();
        format!(
            r#"{{ "Path": "{path}", "Size": {}, "Checksum-Algorithm": "CRC32C", "Checksum": "{crc:08x}" }}"#,
            content.len()
        )
    };
    let lines: Vec<String> = files.iter().map(line).collect();
    let text = format!(
        "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n\
         {{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }}\n],\n",
        lines.join(",\n")
    );
    let checksum: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{text}\"Manifest-Checksum\": \"{checksum}\"}}\n").into_bytes()
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn some_files() -> Files {
    let mut table = noise(700_000, 1);
    table[131_072..393_216].fill(0);
    Files::from([
        ("backup_label".to_owned(), b"START WAL LOCATION: 0/2000028\n".to_vec()),
        ("base/1/1255".to_owned(), table),
        ("base/1/PG_VERSION".to_owned(), b"15\n".to_vec()),
        ("base/1/empty".to_owned(), Vec::new()),
        ("global/pg_control".to_owned(), noise(8192, 2)),
        ("log/server.log".to_owned(), noise(900_000, 3)),
        ("pg_tblspc/16384/PG_15_202209061/5/16390".to_owned(), noise(200_000, 4)),
    ])
}

fn options() -> Options {
    let config = Config::in_environment("host=/nowhere user=backup", &Environment::default()).unwrap();
    let packs = PackLimits { target_bytes: 300_000, uploads: 2 };
    Options { packs, threads: 3, ..Options::new(config, "main".parse().unwrap()) }
}

struct Place {
    folder: tempfile::TempDir,
    backups: Backups,
    faults: Arc<FaultStore>,
}

impl Place {
    async fn new(seed: u64) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/repository", folder.path().display());
        let config = RepositoryConfig::from_url(&url);
        let store = highwater_storage::create(&StoreConfig::from_url(&url)).unwrap();
        let faults = Arc::new(FaultStore::new(store, seed, []));
        let store_config =
            StoreConfig { retry_budget: Some(Duration::from_secs(1)), ..StoreConfig::from_url(&url) };
        let retry = Retry::new(Arc::<FaultStore>::clone(&faults), &store_config);
        let repository = Repository::with_store(Arc::new(retry), &config).unwrap();
        let backups = repository.cluster(&"main".parse().unwrap(), SystemId(7)).backups();
        Place { folder, backups, faults }
    }

    /// Makes a backup of what `events` bring, and answers with the bytes taken over and put.
    async fn back_up(&self, label: &str, mut events: Fake, full: bool) -> crate::Result<(u64, u64)> {
        let label = label.parse().unwrap();
        self.backups.start(&label).await?;
        let index = match choose(&self.backups).await? {
            Choice::Parent(_, manifest) if !full => {
                Some(ParentIndex::build(&self.backups, *manifest, &std::env::temp_dir()).await?.0)
            }
            _ => None,
        };
        let (received, stored) =
            transfer(&options(), &(), &mut events, 0, &self.backups, &label, index.as_ref()).await?;
        match_files(received).await?;
        let now = Timestamp::from_datetime(time::OffsetDateTime::now_utc());
        let head = ManifestHead {
            version: ManifestHead::VERSION,
            label: label.clone(),
            host: "here".to_owned(),
            program: "test".to_owned(),
            begun_at: now,
            finished_at: now,
            parent: None,
            totals: Default::default(),
            parts: Vec::new(),
            postgres: None,
        };
        let (reused, packs) = (stored.reused_bytes, stored.packs.stored_bytes);
        stored.manifest.finish(head).await?;
        Ok((reused, packs))
    }

    /// Reads a backup back; nothing where it is not complete.
    async fn read_back(&self, label: &str) -> Option<Files> {
        self.faults.set_rules([]);
        let mut manifest = match ManifestReader::open(&self.backups, &label.parse().unwrap()).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => return None,
            Err(error) => panic!("{error}"),
        };
        let reader = ExtentReader::new(&self.backups);
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(item) = manifest.next().await.unwrap() {
            match item {
                Item::File(file) => files.push((file.path.to_string(), Vec::new())),
                Item::Folder(folder) => assert!(folder.path.to_string().ends_with("folder")),
                Item::Link(link) => panic!("{}", link.path),
                Item::Runs(runs) => {
                    let content = &mut files.last_mut().unwrap().1;
                    for run in runs {
                        match run {
                            Run::Zeros(length) => content.resize(content.len() + length as usize, 0),
                            Run::Extents(extents) => {
                                let fetched = reader.fetch(&extents).await.unwrap();
                                let take = |_: &_, plain: &[u8]| {
                                    content.extend_from_slice(plain);
                                    Ok::<_, highwater_repository::Error>(())
                                };
                                fetched.each(&mut Vec::new(), take).unwrap();
                            }
                        }
                    }
                }
            }
        }
        Some(files.into_iter().collect())
    }
}

#[tokio::test]
async fn what_a_server_sends_comes_back() {
    let place = Place::new(1).await;
    let files = some_files();
    place.back_up("first", events(&files, &files), false).await.unwrap();
    assert_eq!(place.read_back("first").await.unwrap(), files);
}

#[tokio::test]
async fn extents_that_have_not_changed_are_taken_over() {
    let place = Place::new(2).await;
    let mut files = some_files();
    let (reused, stored) = place.back_up("first", events(&files, &files), false).await.unwrap();
    assert!(reused == 0 && stored > 1_500_000, "{reused} {stored}");

    let (reused, stored) = place.back_up("second", events(&files, &files), false).await.unwrap();
    let zeros = 262_144;
    let all: usize = files.values().map(Vec::len).sum();
    assert_eq!((reused, stored), (all as u64 - zeros, 0));

    // One page of a table, a line at the end of a log, a file that is gone and one that is new.
    files.get_mut("base/1/1255").unwrap()[600_000] ^= 1;
    files.get_mut("log/server.log").unwrap().extend_from_slice(b"another line\n");
    files.remove("base/1/PG_VERSION");
    files.insert("base/1/2".to_owned(), noise(8192, 9));
    let (reused, stored) = place.back_up("third", events(&files, &files), false).await.unwrap();
    assert!(stored < 32_768 + (512 << 10) + 20_000 && reused > 1_000_000, "{reused} {stored}");
    assert_eq!(place.read_back("third").await.unwrap(), files);

    let (reused, stored) = place.back_up("full", events(&files, &files), true).await.unwrap();
    assert!(reused == 0 && stored > 1_500_000, "{reused} {stored}");
}

#[tokio::test]
async fn r09_what_lies_in_packs_that_are_gone_or_cut_short_is_stored_anew() {
    let place = Place::new(7).await;
    let files = some_files();
    place.back_up("first", events(&files, &files), false).await.unwrap();
    let packs = place.backups.packs(None).await.unwrap().packs;
    assert!(packs.len() > 4, "{packs:?}");
    let file = |n: usize| {
        place.folder.path().join("repository").join(place.backups.section().pack(packs[n].id).as_str())
    };
    std::fs::remove_file(file(0)).unwrap();
    let cut = std::fs::OpenOptions::new().write(true).open(file(1)).unwrap();
    cut.set_len(packs[1].stored_bytes - 1).unwrap();

    let Choice::Parent(label, manifest) = choose(&place.backups).await.unwrap() else { panic!("no parent") };
    let (_, lacking) = ParentIndex::build(&place.backups, *manifest, &std::env::temp_dir()).await.unwrap();
    assert_eq!(lacking.packs, [packs[0].id, packs[1].id].into());
    let note = lacking.note(&label).unwrap();
    assert!(note.contains(&packs[0].id.to_string()) && note.contains("first"), "{note}");

    let (reused, stored) = place.back_up("second", events(&files, &files), false).await.unwrap();
    assert!(reused > 0 && stored > 0, "{reused} {stored}");
    assert_eq!(place.read_back("second").await.unwrap(), files);
}

#[tokio::test]
async fn a_parent_that_is_expired_unfinished_or_damaged_is_not_used() {
    let place = Place::new(3).await;
    let files = some_files();
    assert!(matches!(choose(&place.backups).await.unwrap(), Choice::First));
    place.back_up("c-first", events(&files, &files), false).await.unwrap();
    place.back_up("b-second", events(&files, &files), false).await.unwrap();
    place.backups.start(&"d-unfinished".parse().unwrap()).await.unwrap();
    let chosen = |choice| match choice {
        Choice::Parent(label, _) => label.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(chosen(choose(&place.backups).await.unwrap()), "b-second");

    let store = place.backups.repository().store();
    let expired = place.backups.section().expired(&"b-second".parse().unwrap());
    let _ = store.put_if_absent(&expired, &b"{}".to_vec().into()).await.unwrap();
    assert_eq!(chosen(choose(&place.backups).await.unwrap()), "c-first");

    place.faults.set_rules([Rule::on(Operation::GetRange, Fault::WrongBytes).keys("c-first/manifest")]);
    let choice = choose(&place.backups).await.unwrap();
    // The bit that is wrong lies in the head or behind it: in either case nothing is built on it in the end.
    if let Choice::Parent(_, manifest) = choice {
        let error = ParentIndex::build(&place.backups, *manifest, &std::env::temp_dir()).await.unwrap_err();
        assert!(matches!(&error, Error::Repository(error) if crate::parent::is_unreadable(error)), "{error}");
    }
}

#[tokio::test]
async fn r09_a_backup_that_is_not_what_the_server_listed_is_not_complete() {
    let files = some_files();
    let mut missing = files.clone();
    missing.remove("base/1/1255");
    let mut longer = files.clone();
    longer.get_mut("base/1/1255").unwrap().push(0);
    let mut changed = files.clone();
    changed.get_mut("base/1/1255").unwrap()[5] ^= 4;
    for (sent, listed, what) in [
        (&missing, &files, "base/1/1255 is listed and was not sent"),
        (&files, &missing, "base/1/1255 was sent and is not listed"),
        (&longer, &files, "base/1/1255 is listed with 700000 bytes, and 700001 were sent"),
        (&changed, &files, "base/1/1255 is listed with CRC-32C"),
    ] {
        let place = Place::new(4).await;
        let error = place.back_up("first", events(sent, listed), false).await.unwrap_err();
        assert!(matches!(&error, Error::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(place.read_back("first").await, None);
    }
}

#[tokio::test]
async fn r22_a_stream_that_breaks_off_leaves_no_backup() {
    let files = some_files();
    let whole: Vec<BackupEvent> = events(&files, &files).0.collect();
    let place = Place::new(5).await;
    for (number, end) in (0..whole.len()).step_by(7).enumerate() {
        let label = format!("cut-{number}");
        let events = whole[..end].to_vec();
        let cut = Fake(events.into_iter());
        let error = place.back_up(&label, cut, false).await.unwrap_err();
        assert!(error.to_string().contains("hint: "), "{error}");
        assert_eq!(place.read_back(&label).await, None);
    }
}

#[tokio::test]
async fn r09_a_backup_given_up_at_any_moment_leaves_no_manifest() {
    let files = some_files();
    let place = Place::new(6).await;
    for number in 0..40u32 {
        let label = format!("given-up-{number}");
        let backup = place.back_up(&label, events(&files, &files), true);
        let outcome = tokio::time::timeout(Duration::from_micros(500) * number, backup).await;
        let is_complete = matches!(outcome, Ok(Ok(_)));
        match place.read_back(&label).await {
            Some(read) => assert_eq!(read, files),
            None => assert!(!is_complete),
        }
    }
}

/// Whatever the store does: a backup that is reported as complete is, and whatever manifest there is can be read back.
#[tokio::test]
async fn r09_a_complete_backup_is_whole_whatever_the_store_does() {
    let files = some_files();
    let mut complete = 0;
    let faults = [
        Fault::Before(ErrorKind::Unavailable),
        Fault::Before(ErrorKind::NoSpace),
        Fault::After(ErrorKind::TimedOut),
        Fault::After(ErrorKind::Other),
        Fault::Conflict,
        Fault::Precondition,
        Fault::Busy,
    ];
    for (seed, fault) in (0..28u64).zip(faults.into_iter().cycle()) {
        let place = Place::new(seed).await;
        place.back_up("parent", events(&files, &files), false).await.unwrap();
        let probability = 0.1 + 0.03 * (seed % 7) as f64;
        place.faults.set_rules([Rule::on(Operation::PutIfAbsent, fault).probability(probability)]);
        let mut changed = files.clone();
        changed.get_mut("base/1/1255").unwrap()[600_000] ^= 1;
        changed.insert("base/1/7".to_owned(), noise(1_000_000, seed));
        let outcome = place.back_up("backup", events(&changed, &changed), seed % 2 == 0).await;
        let read = place.read_back("backup").await;
        match &outcome {
            Ok(_) => {
                complete += 1;
                assert_eq!(read.as_ref(), Some(&changed), "{fault:?}");
            }
            Err(error) => assert!(error.to_string().contains("hint: "), "{error}"),
        }
        // The answer to the manifest's own put may be what was lost.
        assert!(read.is_none_or(|read| read == changed), "{fault:?}");
    }
    assert!(complete > 7, "{complete}");
}
