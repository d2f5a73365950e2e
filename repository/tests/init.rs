//! Making and joining a repository, keys, what it says about itself, events.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use common::{Kind, Scratch};
use highwater_repository::{Error, Event, FORMAT, KeyPair, Outcome, Repository, RepositoryConfig, Secret};
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::memory::MemoryStore;
use highwater_storage::{ErrorKind, Put};
use highwater_wal::{Lsn, SegmentSize, SystemId, TimelineId};

#[tokio::test]
async fn a_repository_is_made_once_and_joined_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let config = RepositoryConfig::from_url(format!("file://{}/repository", folder.path().display()));
    let missing = Repository::open(&config).await.unwrap_err();
    assert!(missing.to_string().contains("hint: "), "{missing}");
    let (_, first) = Repository::init(&config).await.unwrap();
    let (repository, second) = Repository::init(&config).await.unwrap();
    assert!(first.is_new && !second.is_new);
    assert_eq!((first.facts.format, &first.facts), (FORMAT, &second.facts));
    assert_eq!(Repository::open(&config).await.unwrap().facts().await.unwrap(), first.facts);
    assert!(repository.clusters().await.unwrap().is_empty());
    let left = std::fs::read_dir(folder.path().join("repository/probe")).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "nothing of the trial stays behind");

    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let empty = RepositoryConfig::from_url(format!("file://{}/empty", folder.path().display()));
    assert!(matches!(Repository::open(&empty).await, Err(Error::NoRepository { .. })));
}

#[tokio::test]
async fn a_cluster_is_registered_once_and_compared_afterwards() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    let unknown = cluster.facts().await.unwrap_err();
    assert!(
        matches!(unknown, Error::UnknownCluster { .. }) && unknown.to_string().contains("adopt"),
        "{unknown}"
    );
    // Gone is not the same as never there: what is lost must not look like a wrong name.
    cluster.mark_reached(TimelineId::FIRST, Lsn(1 << 24)).await.unwrap();
    let gone = cluster.facts().await.unwrap_err();
    assert!(gone.is_damaged() && gone.to_string().contains("/cluster.json is missing"), "{gone}");
    let size = SegmentSize::DEFAULT;
    let (first, put) = cluster.register(size, 15).await.unwrap();
    assert_eq!(put, Put::Created);
    assert_eq!(cluster.register(size, 15).await.unwrap(), (first.clone(), Put::Exists));
    assert_eq!(cluster.facts().await.unwrap(), first);
    for (size, version) in [(SegmentSize::new(1 << 20).unwrap(), 15), (size, 16)] {
        let error = cluster.register(size, version).await.unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }) && error.to_string().contains("hint: "), "{error}");
    }
    let other = scratch.repository.cluster(cluster.name(), SystemId(8));
    assert_eq!(other.register(size, 16).await.unwrap().1, Put::Created);
    assert_eq!(scratch.repository.clusters().await.unwrap(), [cluster.name().clone()]);
    assert_eq!(scratch.repository.systems(cluster.name()).await.unwrap(), [SystemId(7), SystemId(8)]);
}

#[tokio::test]
async fn r02_a_store_that_replaces_objects_is_refused_unless_it_is_allowed() {
    let scratch = Scratch::new(Kind::Lz4);
    let unsafe_store = || {
        // Every put says that it has made the object.
        #[derive(Debug)]
        struct Replacing(MemoryStore);
        #[async_trait::async_trait]
        impl highwater_storage::Store for Replacing {
            async fn put_if_absent(
                &self,
                key: &highwater_storage::Key,
                body: &highwater_storage::Body,
            ) -> highwater_storage::Result<Put> {
                self.0.spoil(key.as_str(), body.to_bytes());
                Ok(Put::Created)
            }
            async fn get(&self, key: &highwater_storage::Key) -> highwater_storage::Result<bytes::Bytes> {
                self.0.get(key).await
            }
            async fn get_range(
                &self,
                key: &highwater_storage::Key,
                range: std::ops::Range<u64>,
            ) -> highwater_storage::Result<bytes::Bytes> {
                self.0.get_range(key, range).await
            }
            async fn size(&self, key: &highwater_storage::Key) -> highwater_storage::Result<u64> {
                self.0.size(key).await
            }
            async fn list(
                &self,
                prefix: &str,
                after: Option<&str>,
                folders: bool,
            ) -> highwater_storage::Result<highwater_storage::Listing> {
                self.0.list(prefix, after, folders).await
            }
            async fn delete(&self, key: &highwater_storage::Key) -> highwater_storage::Result<()> {
                self.0.delete(key).await
            }
            fn url(&self) -> String {
                "replacing".to_owned()
            }
        }
        Arc::new(Replacing(MemoryStore::default()))
    };
    let refused =
        Repository::with_store(unsafe_store(), &scratch.config).unwrap().make_or_join().await.unwrap_err();
    assert!(matches!(refused, Error::UnsafeStore { .. }));
    assert!(refused.to_string().contains("allow-unsafe-store"), "{refused}");
    let config = RepositoryConfig { allow_unsafe_store: true, ..scratch.config.clone() };
    let allowed = Repository::with_store(unsafe_store(), &config).unwrap().make_or_join().await.unwrap();
    assert!(allowed.unsafe_store.is_some());
    assert_eq!(scratch.repository.make_or_join().await.unwrap().unsafe_store, None);
}

#[tokio::test]
async fn r22_a_newer_format_is_refused_with_what_to_do() {
    let scratch = Scratch::new(Kind::Lz4);
    scratch.store.spoil("highwater.json", &b"{\"format\":2,\"everything\":\"else\"}"[..]);
    let error = scratch.repository.facts().await.unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("newer version of Highwater"), "{error}");
    for text in ["", "{}", "nonsense", "{\"format\":1}"] {
        scratch.store.spoil("highwater.json", text);
        assert!(scratch.repository.facts().await.unwrap_err().is_damaged(), "{text}");
    }
}

#[tokio::test]
async fn a_repository_made_for_encrypted_objects_takes_no_plain_ones() {
    let scratch = Scratch::new(Kind::EncryptedLz4);
    scratch.repository.make_or_join().await.unwrap();
    let config = RepositoryConfig { encrypt_to: Vec::new(), ..scratch.config.clone() };
    let careless = Repository::with_store(scratch.store.clone(), &config).unwrap();
    careless.facts().await.unwrap();
    let file = "00000002.history".parse().unwrap();
    let error = common::cluster(&careless).put_wal(file, b"x", None).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("encrypt-to"), "{error}");
    scratch.cluster().put_wal(file, b"x", None).await.unwrap();
    assert_eq!(
        common::cluster(&careless).get_wal(file).await.unwrap().bytes,
        b"x",
        "reading needs no recipient"
    );
}

#[tokio::test]
async fn a_passphrase_opens_what_a_wrapped_key_opens() {
    let store = Arc::new(MemoryStore::default());
    let pair = KeyPair::generate();
    let mut config = RepositoryConfig::from_url("memory");
    config.encrypt_to = vec![pair.recipient().to_owned()];
    let writer = Repository::with_store(store.clone(), &config).unwrap();
    writer.put_wrapped_identity(&KeyPair::generate(), &Secret::new("another"), 2).await.unwrap();
    let key = writer.put_wrapped_identity(&pair, &Secret::new("correct horse"), 2).await.unwrap();
    assert!(key.as_str().starts_with("keys/"));
    let file = "00000002.history".parse().unwrap();
    common::cluster(&writer).put_wal(file, b"content", None).await.unwrap();

    for (passphrase, opens) in
        [(Some("correct horse"), true), (Some("wrong"), false), (Some("another"), false), (None, false)]
    {
        let config = RepositoryConfig { passphrase: passphrase.map(Secret::new), ..config.clone() };
        let reader = Repository::with_store(store.clone(), &config).unwrap();
        let got = common::cluster(&reader).get_wal(file).await;
        assert_eq!(got.is_ok(), opens, "{passphrase:?}");
        assert!(got.map_err(|error| matches!(error, Error::Locked { .. })).err().unwrap_or(true));
    }
}

#[tokio::test]
async fn r21_keys_are_written_for_their_owner_only_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.txt");
    let pair = KeyPair::generate();
    pair.write_identity_file(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("AGE-SECRET-KEY-1") && text.contains(pair.recipient()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!format!("{pair:?}").contains("SECRET"));
    let again = KeyPair::generate().write_identity_file(&path).unwrap_err();
    assert!(again.to_string().contains("hint: "), "{again}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "a key is never replaced");

    let mut config = RepositoryConfig::from_url("memory");
    config.encrypt_to = vec!["AGE-SECRET-KEY-1QQQ".to_owned()];
    let error = Repository::with_store(Arc::new(MemoryStore::default()), &config).unwrap_err();
    assert!(!error.to_string().contains("SECRET-KEY-1QQQ"), "{error}");
}

#[tokio::test]
async fn events_are_kept_in_order() {
    for kind in [Kind::Lz4, Kind::EncryptedZstd] {
        let scratch = Scratch::new(kind);
        let name = "main".parse().unwrap();
        let mut noted = Vec::new();
        for number in 0..5 {
            let event = Event::new("backup", Some(&name), Outcome::Done)
                .with("label", "daily")
                .with("number", number);
            scratch.repository.note(&event).await.unwrap();
            noted.push(event);
        }
        let (names, next) = scratch.repository.event_names(None).await.unwrap();
        assert_eq!((names.len(), next), (5, None));
        for (name, event) in names.iter().zip(&noted) {
            assert_eq!(&scratch.repository.event(name).await.unwrap(), event);
        }
    }
}

#[tokio::test]
async fn a_label_is_claimed_once_even_when_the_answer_is_lost() {
    let scratch = Scratch::new(Kind::EncryptedLz4);
    let rule = Rule::on(Operation::PutIfAbsent, Fault::Precondition).times(1);
    let store = Arc::new(FaultStore::new(scratch.store.clone(), 1, [rule]));
    let backups = common::cluster(&Repository::with_store(store, &scratch.config).unwrap()).backups();
    let label = "daily".parse().unwrap();
    let started = backups.start(&label).await.unwrap();
    assert_eq!(backups.started(&label).await.unwrap(), started);
    let taken = common::cluster(&scratch.without_identity()).backups().start(&label).await.unwrap_err();
    assert!(matches!(taken, Error::LabelTaken { is_complete: false, .. }), "{taken}");
    assert!(taken.to_string().contains("an unfinished backup"), "{taken}");
    let lost = Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Unavailable));
    let store = Arc::new(FaultStore::new(scratch.store.clone(), 1, [lost]));
    let backups = common::cluster(&Repository::with_store(store, &scratch.config).unwrap()).backups();
    assert!(backups.start(&"other".parse().unwrap()).await.unwrap_err().is_passing());
}
