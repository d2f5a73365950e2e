//! Index objects, which are read also where nothing else is: questions are answered by them.

use std::sync::Arc;

use bytes::Bytes;
use highwater_repository::{
    Archived, ClusterRepository, Digest, Plain, Repository, RepositoryConfig, WalHead,
};
use highwater_storage::memory::{MemoryStore, Objects};
use highwater_storage::{Body, Store};
use highwater_verify::{Options, Report, verify};
use highwater_wal::{PgVersion, SegmentName, SegmentSize, Summary, SystemId, TimelineId, Timestamp, WalFile};

use crate::{Change, apply};

/// Segments as large as they can be: there are three in the first log.
const SIZE: u64 = 1 << 30;

fn cluster(objects: Objects) -> (ClusterRepository, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::of(objects));
    let config = RepositoryConfig::from_url("memory");
    let repository = Repository::with_store(store.clone(), &config).unwrap();
    (repository.cluster(&"main".parse().unwrap(), SystemId(7)), store)
}

/// The head of a segment, as a skippable frame. No body follows: only what reads segments whole misses it.
fn segment(name: SegmentName, size: SegmentSize) -> Bytes {
    let digest = Digest::of(&name.log.to_le_bytes());
    let mut summary = Summary::new(name, size, SystemId(7), PgVersion::V15.page_magic(), 0);
    summary.digest = digest.to_string();
    summary.end = Some(name.end(size));
    let archived =
        Archived { host: "host".to_owned(), time: Timestamp(0), program: "test".to_owned(), written: None };
    let file = WalFile::Segment(name);
    let plain = Plain { length: size.bytes(), digest };
    let head = WalHead { version: 1, file, plain, archived, summary: Some(summary), received: None };
    let json = serde_json::to_vec(&head).unwrap();
    let mut object = 0x184D_2A50_u32.to_le_bytes().to_vec();
    object.extend((json.len() as u32 + 65).to_le_bytes());
    object.extend(&json);
    object.push(b'\n');
    object.extend(Digest::of(&json).to_string().as_bytes());
    object.into()
}

/// A repository with a log and its index object, and the name of that.
async fn made() -> (Objects, String) {
    let size = SegmentSize::new(SIZE).unwrap();
    let (cluster, store) = cluster(Objects::new());
    cluster.repository().make_or_join().await.unwrap();
    let _ = cluster.register(size, 15).await.unwrap();
    for number in 1..=3 {
        let name = SegmentName::from_number(TimelineId::FIRST, number, size);
        let key = cluster.section().wal(WalFile::Segment(name));
        let _ = store.put_if_absent(&key, &Body::from(segment(name, size))).await.unwrap();
    }
    let log = cluster.read_log(TimelineId::FIRST, 0, size).await.unwrap();
    cluster.put_index(&log).await.unwrap();
    let key = cluster.section().index(TimelineId::FIRST, 0);
    (store.objects().clone(), key.to_string())
}

async fn told(objects: &Objects) -> Report {
    let (cluster, _) = cluster(objects.clone());
    verify(&cluster, &Options::shallow(), &()).await.unwrap()
}

#[tokio::test]
async fn r19_a_flipped_byte_in_an_index_object_is_told_also_where_nothing_else_is_read() {
    let (objects, key) = made().await;
    let sound = told(&objects).await;
    assert!(sound.findings.iter().all(|finding| finding.object != key), "{:#?}", sound.findings);
    for at in 0..objects[&key].len() {
        let mut changed = objects.clone();
        apply(&mut changed, &key, &Change::Flip(at, 0x10));
        let report = told(&changed).await;
        let damage = report.findings.iter().find(|finding| finding.object == key);
        assert!(damage.is_some(), "byte {at}: {:#?}", report.findings);
        assert!(!report.is_well(), "byte {at}");
    }
}
