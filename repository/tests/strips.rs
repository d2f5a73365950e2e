//! Strips: pieces one behind the other in an object that grows. What is read of them, whole, torn, damaged, copied, or while it is
//! written.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use common::{KINDS, Kind, Scratch, segment, summary};
use highwater_repository::{ClusterRepository, Digest, Error, Plain, Repository, Strip, TailPiece};
use highwater_storage::memory::MemoryStore;
use highwater_storage::{Body, Key, Listing, Put, Store};
use highwater_wal::{SegmentName, SegmentSize, TimelineId, WalFile};

fn name() -> SegmentName {
    "000000010000000000000001".parse().unwrap()
}

fn size() -> SegmentSize {
    SegmentSize::new(segment(1).len() as u64).unwrap()
}

async fn begin(cluster: &ClusterRepository) -> Strip {
    cluster.begin_strip(name()).await.unwrap().unwrap()
}

async fn add(strip: &mut Strip, from: u32, to: u32) {
    let bytes = &segment(1)[from as usize..to as usize];
    assert!(strip.put(TailPiece::new(name(), from, to), size(), bytes, Some(summary())).await.unwrap());
}

/// A strip with these pieces.
async fn put(cluster: &ClusterRepository, bounds: &[(u32, u32)]) {
    let mut strip = begin(cluster).await;
    for (from, to) in bounds {
        add(&mut strip, *from, *to).await;
    }
}

async fn put_alone(cluster: &ClusterRepository, from: u32, to: u32) {
    let bytes = &segment(1)[from as usize..to as usize];
    let piece = TailPiece::new(name(), from, to);
    let _ = cluster.put_tail(piece, size(), bytes, Some(summary())).await.unwrap();
}

async fn bounds(cluster: &ClusterRepository) -> Vec<(u32, u32)> {
    let tail = cluster.tail(name()).await.unwrap();
    tail.pieces().iter().map(|piece| (piece.from, piece.to)).collect()
}

/// The segment's pieces give it up to `end`.
async fn assert_whole_up_to(cluster: &ClusterRepository, end: u32) {
    let tail = cluster.tail_segment(name(), size(), None).await.unwrap().unwrap();
    assert_eq!(tail.end, name().start(size()) + u64::from(end));
    let (there, zeros) = tail.object.bytes.split_at(end as usize);
    assert!(*there == segment(1)[..end as usize] && zeros.iter().all(|byte| *byte == 0));
    let head = cluster.tail(name()).await.unwrap().end(None).await.unwrap().unwrap();
    assert_eq!(head.received, Some(tail.end));
    assert_eq!(head.summary.unwrap().other["from_the_future"]["kept"], true);
    let tail = cluster.tail(name()).await.unwrap();
    assert_eq!((tail.reach(), tail.known(size())), (u64::from(end), u64::from(end)));
}

fn is_damage<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert!(error.is_damaged() && !error.is_not_found(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn pieces_in_strips_and_alone_give_the_segment() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        // Nothing is in it yet.
        drop(begin(&cluster).await);
        assert_eq!(bounds(&cluster).await, []);
        assert!(cluster.tail_segment(name(), size(), None).await.unwrap().is_none());
        put(&cluster, &[(0, 100), (100, 70_000)]).await;
        assert_whole_up_to(&cluster, 70_000).await;
        put_alone(&cluster, 70_000, 300_001).await;
        put(&cluster, &[(300_001, 300_002), (300_002, 400_000)]).await;
        // Of another receiver.
        put(&cluster, &[(100, 70_000), (70_000, 350_000)]).await;
        assert_whole_up_to(&cluster, 400_000).await;
        let tail = cluster.tail(name()).await.unwrap();
        assert_eq!((tail.pieces().len(), tail.objects().len()), (7, 5));
        assert_eq!((tail.damage().count(), tail.torn().count()), (0, 0));
        assert_eq!(cluster.tail_segments(TimelineId::FIRST).await.unwrap(), [name()]);
        // A host that has only the public key compares what is there.
        let host = common::cluster(&scratch.without_identity());
        let tail = host.tail(name()).await.unwrap();
        for piece in tail.pieces() {
            let bytes = &segment(1)[piece.from as usize..piece.to as usize];
            assert_eq!(tail.plain(*piece).await.unwrap(), Plain::of(bytes));
        }
        let keys: Vec<Key> = tail.objects();
        assert_eq!(keys.len(), scratch.store.names("/tail/").len());
        cluster.put_wal(WalFile::Segment(name()), &segment(1), Some(summary())).await.unwrap();
        assert!(cluster.remove_tail(name()).await.unwrap());
        assert!(scratch.store.names("/tail/").is_empty());
    }
}

#[tokio::test]
async fn a_strip_takes_pieces_of_its_segment_while_it_has_room() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    let mut strip = begin(&cluster).await;
    let noise: Vec<u8> = (0_u32..40_000).flat_map(|at| Digest::of(&at.to_le_bytes()).0).collect();
    let all = SegmentSize::new(16 << 20).unwrap();
    let long = TailPiece::new(name(), 0, 1_200_000);
    assert!(!strip.put(long, all, &noise[..1_200_000], None).await.unwrap(), "that is not written at once");
    assert_eq!(bounds(&cluster).await, []);
    let mut taken = 0;
    loop {
        let piece = TailPiece::new(name(), taken, taken + 200_000);
        let bytes = &noise[taken as usize % 800_000..][..200_000];
        if !strip.put(piece, all, bytes, None).await.unwrap() {
            break;
        }
        taken += 200_000;
    }
    assert!((3 << 20..4 << 20).contains(&taken), "{taken}");
    assert_eq!(bounds(&cluster).await.last().unwrap().1, taken);
    let other = TailPiece::new("000000010000000000000002".parse().unwrap(), 0, 1);
    let refused = strip.put(other, size(), &[1][..], None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    let refused = strip.put(TailPiece::new(name(), 5, 5), size(), &[][..], None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
}

/// What is said of strips.
async fn damage(cluster: &ClusterRepository) -> Vec<(String, String)> {
    let tail = cluster.tail(name()).await.unwrap();
    assert_eq!(tail.torn().count(), 0);
    tail.damage().map(|(key, what)| (key.to_string(), what)).collect()
}

/// What is there in front of `end` is used, and nobody says that there was no more.
async fn assert_open_behind(cluster: &ClusterRepository, end: u32, key: &str, what: &str) {
    let told = (key.to_owned(), what.to_owned());
    assert!(damage(cluster).await.contains(&told), "{told:?}: {:?}", damage(cluster).await);
    let tail = cluster.tail(name()).await.unwrap();
    assert_eq!((tail.reach(), tail.known(size())), (u64::from(end), u64::from(end) + 1));
    let read = tail.assemble(size(), Some(u64::from(end))).await.unwrap();
    assert!(read.map_or(end == 0, |read| read.object.bytes[..end as usize] == segment(1)[..end as usize]));
    for least in [None, Some(u64::from(end) + 1)] {
        for said in [
            is_damage(tail.assemble(size(), least).await),
            is_damage(tail.end(least).await),
            is_damage(cluster.get_segment(name(), size(), least).await),
        ] {
            assert!(said.contains(key) && said.contains(what), "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn r22_a_strip_of_which_nothing_is_left_takes_only_itself_out() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    put(&cluster, &[(0, 1000), (1000, 3000)]).await;
    let (key, _) = common::only(&scratch.store, "strip-");
    let other = key.rsplit_once('-').unwrap().0.to_owned() + "-00000000000000aa";
    scratch.store.spoil(&other, Vec::new());
    assert_open_behind(&cluster, 3000, &other, "it is 0 bytes long and should be 4194304").await;
    assert_eq!(damage(&cluster).await.len(), 1);
}

#[tokio::test]
async fn r07_a_strip_that_is_cut_or_spoilt_to_its_end_may_have_held_more() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        put(&cluster, &[(0, 1000), (1000, 3000), (3000, 3100)]).await;
        let (key, whole) = common::only(&scratch.store, "strip-");
        let frames: Vec<usize> =
            (0..whole.len()).step_by(64).filter(|at| whole[*at..].starts_with(b"HWSTRIP1")).collect();
        let length = |bytes: usize| format!("it is {bytes} bytes long and should be 4194304");
        for (cut, end) in [
            (0, 0),
            (1, 0),
            (frames[1] - 1, 0),
            (frames[2] + 70, 1000),
            (frames[4], 3000),
            (frames[4] + 70, 3000),
            (frames[5], 3100),
            (whole.len() - 1, 3100),
        ] {
            scratch.store.spoil(&key, whole.slice(..cut));
            assert_open_behind(&cluster, end, &key, &length(cut)).await;
        }
        for more in [1, 64, 8 << 20] {
            scratch.store.spoil(&key, [&whole[..], &vec![0; more]].concat());
            assert_open_behind(&cluster, 3100, &key, &length(whole.len() + more)).await;
        }
        for (at, end) in [(0, 0), (frames[2], 1000), (frames[4] + 128, 3000), (frames[5] + 64, 3100)] {
            let mut spoilt = whole.to_vec();
            spoilt[at..].iter_mut().zip(0_u64..).for_each(|(byte, number)| *byte = (number % 251) as u8);
            scratch.store.spoil(&key, spoilt);
            let frame = frames.iter().rfind(|frame| **frame <= at).copied();
            let frame = frame.filter(|_| at != frames[5] + 64).unwrap_or(at);
            let what = format!("the frame at byte {frame} is not the one that was written");
            assert_open_behind(&cluster, end, &key, &what).await;
        }
        // Where others have all of the segment it can have held nothing more.
        put_alone(&cluster, 0, size().bytes() as u32).await;
        assert_whole_up_to(&cluster, size().bytes() as u32).await;
    }
}

#[tokio::test]
async fn r07_what_is_damaged_in_a_strip_is_an_error_unless_others_have_it() {
    for kind in KINDS {
        for (which, is_last) in [(0, false), (1, false), (2, true)] {
            let scratch = Scratch::new(kind);
            let cluster = scratch.cluster();
            let all = [(0, 1000), (1000, 3000), (3000, 3100)];
            put(&cluster, &all).await;
            let (key, object) = common::only(&scratch.store, "strip-");
            // The second half of a piece is lost, with all of the next one's beginning left as it is.
            let frames: Vec<usize> =
                (0..object.len()).step_by(64).filter(|at| object[*at..].starts_with(b"HWSTRIP1")).collect();
            assert_eq!(frames.len(), 6, "each piece has its mark");
            let mut spoilt = object.to_vec();
            spoilt[frames[2 * which] + 100] ^= 1;
            scratch.store.spoil(&key, spoilt.clone());
            assert_eq!(bounds(&cluster).await, all);
            let said = is_damage(cluster.tail_segment(name(), size(), None).await);
            assert!(said.contains(&key), "{said}");
            is_damage(cluster.get_segment(name(), size(), None).await);
            if is_last {
                is_damage(cluster.tail(name()).await.unwrap().end(None).await);
            }
            let tail = cluster.tail(name()).await.unwrap();
            for (number, piece) in tail.pieces().iter().enumerate() {
                assert_eq!(tail.get(*piece).await.is_err(), number == which);
                assert_eq!(tail.head(*piece).await.is_err(), number == which);
                assert_eq!(tail.plain(*piece).await.is_err(), number == which);
            }
            // It comes again.
            let (from, to) = all[which];
            put(&cluster, &[(from, to - 1), (to - 1, to)]).await;
            assert_whole_up_to(&cluster, 3100).await;

            // Without the mark behind it the last one was never acknowledged.
            if is_last {
                spoilt[frames[5]..].fill(0);
                let scratch = Scratch::new(kind);
                scratch.store.spoil(&key, spoilt);
                let cluster = common::cluster(&scratch.repository);
                assert_eq!(bounds(&cluster).await, all[..2]);
                let tail = cluster.tail(name()).await.unwrap();
                assert_eq!(tail.torn().map(|(_, at)| at).collect::<Vec<_>>(), [frames[4] as u64]);
            }
        }
    }
}

#[tokio::test]
async fn a_copy_made_while_it_grew_reads_as_what_was_there() {
    let scratch = Scratch::new(Kind::EncryptedLz4);
    let all = [(0, 50), (50, 300), (300, 301), (301, 1000)];
    put(&scratch.cluster(), &all).await;
    let (key, object) = common::only(&scratch.store, "strip-");
    let cluster = scratch.cluster();
    let mut most = 0;
    for cut in (1..object.iter().rposition(|byte| *byte != 0).unwrap() + 100).step_by(7) {
        let mut copy = object[..cut].to_vec();
        copy.resize(object.len(), 0);
        scratch.store.spoil(&key, copy);
        let found = bounds(&cluster).await;
        assert!(all.starts_with(&found) && found.len() >= most, "{cut}: {found:?}");
        assert!(cluster.tail(name()).await.unwrap().damage().next().is_none(), "{cut}");
        most = found.len();
    }
    assert_eq!(most, 4);
}

/// A store whose answers for a strip are given: each once, and then the last one.
#[derive(Debug)]
struct Answers {
    inner: Arc<MemoryStore>,
    answers: Mutex<VecDeque<Bytes>>,
}

impl Answers {
    fn next(&self) -> Bytes {
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    }
}

#[async_trait]
impl Store for Answers {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> highwater_storage::Result<Put> {
        self.inner.put_if_absent(key, body).await
    }

    async fn get(&self, key: &Key) -> highwater_storage::Result<Bytes> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> highwater_storage::Result<Bytes> {
        match key.as_str().contains("strip-") {
            true => Ok(self.next()),
            false => self.inner.get_range(key, range).await,
        }
    }

    async fn size(&self, key: &Key) -> highwater_storage::Result<u64> {
        self.inner.size(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        folders: bool,
    ) -> highwater_storage::Result<Listing> {
        self.inner.list(prefix, after, folders).await
    }

    async fn delete(&self, key: &Key) -> highwater_storage::Result<()> {
        self.inner.delete(key).await
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[tokio::test]
async fn what_was_written_while_it_was_read_is_no_damage() {
    let scratch = Scratch::new(Kind::Lz4);
    let all = [(0, 50), (50, 300), (300, 301), (301, 1000)];
    put(&scratch.cluster(), &all).await;
    let (_, object) = common::only(&scratch.store, "strip-");
    let frames: Vec<usize> =
        (0..object.len()).step_by(64).filter(|at| object[*at..].starts_with(b"HWSTRIP1")).collect();
    // Its beginning was read before a piece was there, what is behind it after that.
    let racing = |piece: usize, end: usize| {
        let mut read = object.to_vec();
        read[frames[2 * piece]..frames[2 * piece + 1]].fill(0);
        read[frames[2 * end]..].fill(0);
        Bytes::from(read)
    };
    for (answers, expected) in [
        (vec![racing(1, 2), racing(2, 3), object.clone()], Ok(4)),
        (vec![racing(0, 3), object.clone()], Ok(4)),
        // The same twice: that is how it is.
        (vec![racing(1, 2), racing(1, 3), object.clone()], Err(2)),
    ] {
        let store = Answers { inner: scratch.store.clone(), answers: Mutex::new(answers.into()) };
        let repository = Repository::with_store(Arc::new(store), &scratch.config).unwrap();
        let cluster = common::cluster(&repository);
        let tail = cluster.tail(name()).await.unwrap();
        let mut sound = 0;
        for piece in tail.pieces() {
            sound += usize::from(tail.get(*piece).await.is_ok());
        }
        let is_sound = tail.damage().next().is_none() && sound == tail.pieces().len();
        assert_eq!(if is_sound { Ok(sound) } else { Err(sound) }, expected);
    }
}
