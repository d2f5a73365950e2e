//! Index objects as they lie in the store and in the cache.

use std::path::PathBuf;
use std::sync::Arc;

use highwater_storage::Put;
use highwater_wal::{
    Lsn, PgVersion, SegmentName, SegmentSize, Summary, SystemId, TimelineId, Timestamp, WalFile,
};

use super::*;
use crate::codec::write_skippable;
use crate::digest::Plain;
use crate::wal_object::Archived;
use crate::{ClusterRepository, Digest, KeyPair, Repository, RepositoryConfig};

const TLI: TimelineId = TimelineId::FIRST;

struct Site {
    cluster: ClusterRepository,
    folder: tempfile::TempDir,
    size: SegmentSize,
}

impl Site {
    /// A repository with the three segments of the first log, as large as segments can be. They have no bodies.
    async fn new(is_encrypted: bool) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let mut config = RepositoryConfig::from_url(format!("file://{}/repository", folder.path().display()));
        config.cache_directory = Some(folder.path().join("cache"));
        if is_encrypted {
            let pair = KeyPair::generate();
            let path = folder.path().join("identity.txt");
            pair.write_identity_file(&path).unwrap();
            config.encrypt_to.push(pair.recipient().to_owned());
            config.identity_file = Some(path);
        }
        let (repository, _) = Repository::init(&config).await.unwrap();
        repository.facts().await.unwrap();
        let cluster = repository.cluster(&"main".parse().unwrap(), SystemId(7));
        let site = Site { cluster, folder, size: SegmentSize::new(1 << 30).unwrap() };
        for number in 1..=3 {
            site.put_segment(number).await;
        }
        site
    }

    fn head(&self, number: u64) -> WalHead {
        let name = SegmentName::from_number(TLI, number, self.size);
        let digest = Digest::of(&number.to_le_bytes());
        let mut summary =
            Summary::new(name, self.size, SystemId(7), PgVersion::V15.page_magic(), number as u32);
        summary.digest = digest.to_string();
        summary.commits = number;
        summary.end = Some(name.end(self.size));
        (summary.min_time, summary.max_time) = (Some(Timestamp(-(number as i64))), Some(Timestamp(5)));
        let (lsn, time, name_of_point) = (Lsn(8), Timestamp(9), "before".to_owned());
        summary.restore_points.push(highwater_wal::RestorePoint { lsn, end: lsn, time, name: name_of_point });
        let plain = Plain { length: self.size.bytes(), digest };
        let (host, program) = ("the-host-that-archived".to_owned(), "test".to_owned());
        let archived =
            Archived { host, time: Timestamp(0), program, written: Some(Timestamp(number as i64)) };
        let file = WalFile::Segment(name);
        WalHead { version: 1, file, plain, archived, summary: Some(summary), received: None }
    }

    async fn put_segment(&self, number: u64) {
        let head = self.head(number);
        let json = serde_json::to_vec(&head).unwrap();
        let pieces = vec![write_skippable(&json).into()];
        let body = self.cluster.repository().seal(pieces, |_| head.plain).unwrap();
        let key = self.cluster.section().wal(head.file);
        let put = self.cluster.repository().store().put_if_absent(&key, &body).await.unwrap();
        assert_eq!(put, Put::Created);
    }

    async fn put_index(&self) -> Indexed {
        let read = self.cluster.read_log(TLI, 0, self.size).await.unwrap();
        self.cluster.put_index(&read).await.unwrap()
    }

    fn object(&self) -> PathBuf {
        let key = self.cluster.section().index(TLI, 0);
        self.folder.path().join("repository").join(key.as_str())
    }

    /// The files of the cache.
    fn copies(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().join("cache")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

#[tokio::test]
async fn an_index_object_says_what_the_segments_say() {
    for is_encrypted in [false, true] {
        let site = Site::new(is_encrypted).await;
        assert_eq!(site.put_index().await, Indexed::Created);
        assert_eq!(site.put_index().await, Indexed::There);
        let indexed = site.cluster.indexed_logs().await.unwrap();
        assert_eq!(indexed, [(TLI, [0].into())].into());
        let index = site.cluster.log_index(TLI, 0).await.unwrap();
        let heads: Vec<WalHead> = index.heads.iter().map(|head| WalHead::clone(head)).collect();
        assert_eq!(heads, [1, 2, 3].map(|number| site.head(number)));
        let second = SegmentName::from_number(TLI, 2, site.size);
        assert_eq!(index.head(second).map(Arc::as_ref), Some(&site.head(2)));
        assert_eq!(index.head(second.on(TimelineId::new(2).unwrap())), None);
        let head = site.cluster.log_head(TLI, 0).await.unwrap();
        assert_eq!(head.summary, index.summary);
        assert_eq!(head.summary, LogSummary::of(&heads));
        assert_eq!((head.summary.commits, head.summary.written), (6, Some(Timestamp(3))));
        assert_eq!((head.summary.min_time, head.summary.restore_points.len()), (Some(Timestamp(-3)), 3));
        assert_eq!(head.summary.begins.as_ref().map(|edge| edge.continued), Some(1));
    }
}

#[tokio::test]
async fn an_index_object_with_any_byte_changed_or_missing_is_damaged() {
    for is_encrypted in [false, true] {
        let mut site = Site::new(is_encrypted).await;
        // Each reading asks the store.
        let config = RepositoryConfig { cache_directory: None, ..site.cluster.repository().config().clone() };
        let repository = Repository::open(&config).await.unwrap();
        site.cluster = repository.cluster(site.cluster.name(), site.cluster.system_id());
        assert_eq!(site.put_index().await, Indexed::Created);
        let whole = std::fs::read(site.object()).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(site.object(), &bytes).unwrap();
            let read = site.cluster.log_index(TLI, 0).await;
            assert!(read.is_err(), "byte {at} of {}, encrypted: {is_encrypted}", whole.len());
        }
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(site.object(), &whole[..length]).unwrap();
            assert!(site.cluster.log_index(TLI, 0).await.is_err(), "cut to {length}");
        }
        std::fs::write(site.object(), &whole).unwrap();
        assert!(site.cluster.log_index(TLI, 0).await.is_ok());
    }
}

#[tokio::test]
async fn copies_are_used_verified_and_as_secret_as_the_objects() {
    for is_encrypted in [false, true] {
        let site = Site::new(is_encrypted).await;
        assert_eq!(site.put_index().await, Indexed::Created);
        let (head, index) =
            (site.cluster.log_head(TLI, 0).await.unwrap(), site.cluster.log_index(TLI, 0).await);
        assert_eq!(index.unwrap().heads.len(), 3);
        let copies = site.copies();
        assert_eq!(
            copies.len(),
            3 + 2,
            "three segments' heads, and both parts of the index object: {copies:?}"
        );
        for copy in &copies {
            let bytes = std::fs::read(copy).unwrap();
            let needle = b"the-host-that-archived";
            let is_plain = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!is_plain || !is_encrypted, "{copy:?}");
        }

        // The object is gone from the store: the copies are as good, and make nobody believe that it is there.
        let whole = std::fs::read(site.object()).unwrap();
        std::fs::remove_file(site.object()).unwrap();
        assert_eq!(site.cluster.log_head(TLI, 0).await.unwrap(), head);
        assert_eq!(site.cluster.log_index(TLI, 0).await.unwrap().summary, head.summary);
        assert!(site.cluster.indexed_logs().await.unwrap().is_empty());

        // Damaged copies are dropped, and the object is asked.
        for copy in &copies {
            let mut bytes = std::fs::read(copy).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(copy, bytes).unwrap();
        }
        assert!(site.cluster.log_head(TLI, 0).await.unwrap_err().is_not_found());
        std::fs::write(site.object(), &whole).unwrap();
        assert_eq!(site.cluster.log_head(TLI, 0).await.unwrap(), head);
        assert_eq!(site.cluster.log_index(TLI, 0).await.unwrap().summary, head.summary);

        // Whoever removes the index removes its copies.
        site.cluster.remove_index(TLI, 0).await.unwrap();
        assert_eq!(site.copies().len(), 3);
        assert!(site.cluster.log_head(TLI, 0).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn a_log_that_lacks_a_segment_gets_no_index() {
    let site = Site::new(false).await;
    let read = site.cluster.read_log(TLI, 0, site.size).await.unwrap();
    let key = site.cluster.section().wal(WalFile::Segment(SegmentName::from_number(TLI, 2, site.size)));
    site.cluster.repository().store().delete(&key).await.unwrap();
    assert!(!site.cluster.has_whole_log(TLI, 0, site.size).await.unwrap());
    assert_eq!(site.cluster.put_index(&read).await.unwrap(), Indexed::Incomplete);
    assert!(site.cluster.indexed_logs().await.unwrap().is_empty());
    site.put_segment(2).await;
    assert!(site.cluster.has_whole_log(TLI, 0, site.size).await.unwrap());
}
