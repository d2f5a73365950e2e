//! What an earlier receiver has left behind: segments in pieces that were never put whole, and damaged pieces.

use std::sync::Arc;

use bytes::BytesMut;
use highwater_repository::config::RepositoryConfig;
use highwater_repository::{ClusterRepository, KeyPair, Repository, TailPiece};
use highwater_storage::faults::{FaultStore, Operation};
use highwater_storage::memory::MemoryStore;
use highwater_wal::{Check, Lsn, SegmentName, TimelineId, WalFile};

use crate::buffer::SegmentBuffer;
use crate::packing::Packing;
use crate::simulation::{SYSTEM, look, size, wal};
use crate::target::{Repositories, Strips, Target};

const SEGMENT: u32 = 1 << 20;

fn segment(number: u64) -> SegmentName {
    SegmentName::from_number(TimelineId::FIRST, number, size())
}

fn cluster(store: &Arc<MemoryStore>, config: &RepositoryConfig) -> ClusterRepository {
    let repository = Repository::with_store(store.clone(), config).unwrap();
    repository.cluster(&"main".parse().unwrap(), SYSTEM)
}

fn in_memory() -> (Arc<MemoryStore>, ClusterRepository) {
    let store = Arc::new(MemoryStore::default());
    let cluster = cluster(&store, &RepositoryConfig::from_url("memory"));
    (store, cluster)
}

async fn put(cluster: &ClusterRepository, number: u64, bounds: &[u32]) {
    let bytes = wal(segment(number).start(size()), u64::from(SEGMENT));
    for pair in bounds.windows(2) {
        let piece = TailPiece::new(segment(number), pair[0], pair[1]);
        let content = &bytes[pair[0] as usize..pair[1] as usize];
        cluster.put_tail(piece, size(), content, None).await.unwrap();
    }
}

#[tokio::test]
async fn r18_a_segment_that_is_there_in_pieces_is_put_whole() {
    let (store, cluster) = in_memory();
    put(&cluster, 1, &[0, 5000, SEGMENT]).await;
    put(&cluster, 2, &[0, 70]).await;
    let place = look(&cluster, segment(9).start(size())).await.unwrap();
    let begin = segment(2).start(size());
    assert_eq!((place.begin, place.stored), (begin, begin + 70));
    let whole = cluster.get_wal(WalFile::Segment(segment(1))).await.unwrap();
    assert!(whole.bytes == wal(segment(1).start(size()), u64::from(SEGMENT)));
    assert_eq!(store.names("/tail/").len(), 1, "the pieces of the whole one have gone");
}

#[tokio::test]
async fn the_pieces_of_a_segment_that_is_made_whole_are_looked_at_once() {
    let (store, whole) = in_memory();
    put(&whole, 1, &[0, 5000, SEGMENT]).await;
    let faulty = Arc::new(FaultStore::new(store, 1, []));
    let repository = Repository::with_store(faulty.clone(), &RepositoryConfig::from_url("memory")).unwrap();
    let cluster = repository.cluster(&"main".parse().unwrap(), SYSTEM);
    look(&cluster, segment(9).start(size())).await.unwrap();
    assert!(cluster.has_wal(WalFile::Segment(segment(1))).await.unwrap());
    let pieces = format!("/tail/00000001/{}/", segment(1));
    assert_eq!(faulty.calls(Operation::List, &pieces), 2, "to read them, and to remove them");
}

#[tokio::test]
async fn r18_without_the_identity_pieces_stay_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, path) = (KeyPair::generate(), folder.path().join("identity.txt"));
    pair.write_identity_file(&path).unwrap();
    let mut config = RepositoryConfig::from_url("memory");
    config.encrypt_to.push(pair.recipient().to_owned());
    let store = Arc::new(MemoryStore::default());
    let host = cluster(&store, &config);
    put(&host, 1, &[0, 5000, SEGMENT]).await;
    let place = look(&host, segment(9).start(size())).await.unwrap();
    let begin = segment(1).start(size());
    assert_eq!((place.begin, place.stored), (begin, segment(2).start(size())));
    assert_eq!((place.pieces.len(), store.names("/tail/").len()), (2, 2));
    // Whoever has it puts the segment whole.
    config.identity_file = Some(path);
    let place = look(&cluster(&store, &config), segment(9).start(size())).await.unwrap();
    assert_eq!(place.begin, segment(2).start(size()));
    assert!(store.names("/tail/").is_empty());
}

#[tokio::test]
async fn r02_r18_a_damaged_piece_is_received_again_and_put_under_other_names() {
    for is_in_head in [false, true] {
        let (store, cluster) = in_memory();
        put(&cluster, 1, &[0, 1000, 3000, 3100]).await;
        let damaged = store.names("000003E8-00000BB8").remove(0);
        let object = store.objects()[&damaged].clone();
        let mut spoilt = object.to_vec();
        let at = if is_in_head { 60 } else { spoilt.len() - 20 };
        spoilt[at] ^= 1;
        store.spoil(&damaged, spoilt);
        let start = segment(1).start(size());
        let place = look(&cluster, segment(9).start(size())).await.unwrap();
        assert_eq!((place.begin, place.stored), (start, start + 1000));
        assert_eq!(place.pieces.len(), 2, "what is sound is compared");
        assert_eq!(place.damaged.len(), 1);

        let target = Repositories {
            clusters: vec![cluster.clone()],
            size: size(),
            system_id: SYSTEM,
            check: Check::Header,
            damaged: place.damaged,
            strips: Strips::default(),
            whole: Arc::default(),
            packing: Packing::in_place(),
        };
        let mut buffer = SegmentBuffer::new(segment(1), size(), SYSTEM, BytesMut::new());
        buffer.push(&wal(start, 3100));
        let piece = TailPiece::new(segment(1), 1000, 3000);
        target.put_piece(piece, buffer.slice(start + 1000, start + 3000), None, false).await.unwrap();
        let tail = cluster.tail_segment(segment(1), size(), None).await.unwrap().unwrap();
        assert!(tail.object.bytes[..3100] == wal(start, 3100), "what was put again stands for it");
        assert_eq!(tail.end, start + 3100);
        assert_eq!(look(&cluster, Lsn(0)).await.unwrap().stored, start + 3100);
        assert_eq!(store.names("000003E8-00000BB8").len(), 1, "nothing is replaced");
    }
}
