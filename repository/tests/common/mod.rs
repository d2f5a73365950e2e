//! What the tests of this crate share: a repository in memory, and things to put into it.

#![expect(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use bytes::Bytes;
use highwater_repository::{ClusterRepository, Codec, KeyPair, Repository, RepositoryConfig};
use highwater_storage::memory::MemoryStore;
use highwater_wal::{SegmentSize, Summary, SystemId};
use serde_json::json;

/// The only object whose name contains `part`.
pub fn only(store: &MemoryStore, part: &str) -> (String, Bytes) {
    let objects = store.objects();
    let found: Vec<_> = objects.iter().filter(|(key, _)| key.contains(part)).collect();
    assert_eq!(found.len(), 1, "{part}: {found:?}");
    (found[0].0.clone(), found[0].1.clone())
}

/// How objects are made in a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Lz4,
    Zstd,
    EncryptedLz4,
    EncryptedZstd,
}

pub const KINDS: [Kind; 4] = [Kind::Lz4, Kind::Zstd, Kind::EncryptedLz4, Kind::EncryptedZstd];

/// A repository, its settings, and what keeps their files.
pub struct Scratch {
    pub store: Arc<MemoryStore>,
    pub config: RepositoryConfig,
    pub repository: Repository,
    pub folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new(kind: Kind) -> Scratch {
        let folder = tempfile::tempdir().unwrap();
        let mut config = RepositoryConfig::from_url("memory");
        config.threads = 2;
        if matches!(kind, Kind::Zstd | Kind::EncryptedZstd) {
            config.compression = Codec::Zstd;
        }
        if matches!(kind, Kind::EncryptedLz4 | Kind::EncryptedZstd) {
            let pair = KeyPair::generate();
            let path = folder.path().join("identity.txt");
            pair.write_identity_file(&path).unwrap();
            config.encrypt_to.push(pair.recipient().to_owned());
            config.identity_file = Some(path);
        }
        let store = Arc::new(MemoryStore::default());
        let repository = Repository::with_store(store.clone(), &config).unwrap();
        Scratch { store, config, repository, folder }
    }

    /// The same repository as seen by a machine that has no private key.
    pub fn without_identity(&self) -> Repository {
        let config = RepositoryConfig { identity_file: None, ..self.config.clone() };
        Repository::with_store(self.store.clone(), &config).unwrap()
    }

    pub fn cluster(&self) -> ClusterRepository {
        cluster(&self.repository)
    }
}

pub fn cluster(repository: &Repository) -> ClusterRepository {
    repository.cluster(&"main".parse().unwrap(), SystemId(7))
}

/// The smallest segment that there is.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// Something that looks like WAL to a codec: text, numbers, zeros.
pub fn segment(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut bytes = Vec::with_capacity(SEGMENT_BYTES);
    while bytes.len() < SEGMENT_BYTES {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        match state % 4 {
            0 => bytes.extend_from_slice(&state.to_le_bytes()),
            1 => bytes.extend_from_slice(b"some words that come again"),
            _ => bytes.extend_from_slice(&[0; 100]),
        }
    }
    bytes.truncate(SEGMENT_BYTES);
    bytes
}

/// A summary for it.
pub fn summary() -> Summary {
    serde_json::from_value(json!({
        "version": 1, "segment_size": SegmentSize::new(SEGMENT_BYTES as u64).unwrap(), "system_id": "7",
        "page_magic": 0xD110, "pg_version": 15, "timeline": 1, "start": "0/100000", "digest": "",
        "first_record": "0/100028", "last_record": "0/1FFFE0", "end": "0/200000",
        "records": 3, "commits": 1, "aborts": 0, "first_commit": null, "last_commit": null,
        "min_time": "2026-01-31T23:59:59.123456Z", "max_time": "2026-01-31T23:59:59.123456Z", "min_xid": 700, "max_xid": 700,
        "from_the_future": {"kept": true}
    }))
    .unwrap()
}
