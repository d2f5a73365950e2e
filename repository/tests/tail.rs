//! Pieces of segments that are still being written: put once, put together, removed when the segment is there whole.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use common::{KINDS, Kind, Scratch, segment, summary};
use highwater_repository::{ClusterRepository, Error, Plain, Stored, TailPiece};
use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineId, WalFile};

fn name() -> SegmentName {
    "000000010000000000000001".parse().unwrap()
}

fn piece(from: u32, to: u32) -> TailPiece {
    TailPiece::new(name(), from, to)
}

fn size() -> SegmentSize {
    SegmentSize::new(segment(1).len() as u64).unwrap()
}

/// The bytes of a piece of `segment(1)`.
fn bytes(piece: TailPiece) -> Vec<u8> {
    segment(1)[piece.from as usize..piece.to as usize].to_vec()
}

async fn put(cluster: &ClusterRepository, bounds: &[(u32, u32)]) {
    for (from, to) in bounds {
        let piece = piece(*from, *to);
        let stored = cluster.put_tail(piece, size(), &bytes(piece)[..], Some(summary())).await.unwrap();
        assert_eq!(stored, Stored::Created);
    }
}

#[tokio::test]
async fn pieces_give_the_segment_as_far_as_they_go() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        assert!(cluster.tail_segment(name(), size(), None).await.unwrap().is_none());
        assert!(cluster.tail(name()).await.unwrap().end(None).await.unwrap().is_none());
        assert!(cluster.get_segment(name(), size(), None).await.unwrap_err().is_not_found());
        assert!(cluster.segment_head(name(), None).await.unwrap_err().is_not_found());
        put(&cluster, &[(0, 100), (100, 70_000), (70_000, 300_001)]).await;
        let whole = segment(1);
        let tail = cluster.tail_segment(name(), size(), None).await.unwrap().unwrap();
        assert_eq!(tail.end, name().start(size()) + 300_001);
        assert!(tail.object.bytes[..300_001] == whole[..300_001], "{kind:?}");
        assert!(tail.object.bytes[300_001..].iter().all(|byte| *byte == 0));
        assert_eq!(tail.object.head.plain, Plain::of(&tail.object.bytes));
        let head = cluster.tail(name()).await.unwrap().end(None).await.unwrap().unwrap();
        assert_eq!(head.received, Some(tail.end));
        assert_eq!(head.summary.unwrap().other["from_the_future"]["kept"], true);
        assert_eq!(cluster.segment_head(name(), None).await.unwrap().received, Some(tail.end));
        assert!(cluster.get_segment(name(), size(), None).await.unwrap().bytes == tail.object.bytes);
        assert_eq!(cluster.tail_timelines().await.unwrap(), [TimelineId::FIRST]);
        assert_eq!(cluster.tail_segments(TimelineId::FIRST).await.unwrap(), [name()]);
        assert_eq!(
            cluster.tail(name()).await.unwrap().pieces(),
            [piece(0, 100), piece(100, 70_000), piece(70_000, 300_001)]
        );
    }
}

#[tokio::test]
async fn r03_the_same_piece_is_a_success_and_another_one_is_refused() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        // A host that only has the public key compares as well.
        let cluster = scratch.cluster();
        put(&cluster, &[(0, 1000)]).await;
        let again = cluster.put_tail(piece(0, 1000), size(), &bytes(piece(0, 1000))[..], None).await.unwrap();
        assert_eq!(again, Stored::AlreadySame);
        assert_eq!(
            cluster.tail(name()).await.unwrap().plain(piece(0, 1000)).await.unwrap(),
            Plain::of(&bytes(piece(0, 1000)))
        );
        let before = scratch.store.objects().clone();
        let error = cluster.put_tail(piece(0, 1000), size(), &[7; 1000][..], None).await.unwrap_err();
        let Error::Different(different) = &error else { panic!("{error}") };
        assert_eq!(different.here, Plain::of(&[7; 1000]));
        assert!(error.to_string().contains("hint: "), "{error}");
        assert!(*scratch.store.objects() == before, "something was changed");
    }
}

#[tokio::test]
async fn r02_pieces_go_only_when_their_segment_is_there_whole() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    put(&cluster, &[(0, 100), (100, 200)]).await;
    assert!(!cluster.remove_tail(name()).await.unwrap());
    assert_eq!(cluster.tail(name()).await.unwrap().pieces().len(), 2);
    cluster.put_wal(WalFile::Segment(name()), &segment(1), Some(summary())).await.unwrap();
    // What is there whole is what counts, pieces or not.
    assert!(cluster.get_segment(name(), size(), None).await.unwrap().bytes == segment(1));
    assert_eq!(cluster.segment_head(name(), None).await.unwrap().received, None);
    assert!(cluster.remove_tail(name()).await.unwrap());
    assert!(cluster.tail_segments(TimelineId::FIRST).await.unwrap().is_empty());
    assert!(cluster.get_segment(name(), size(), None).await.unwrap().bytes == segment(1));
    assert!(cluster.remove_tail(name()).await.unwrap(), "that they are gone already is fine");
}

#[tokio::test]
async fn r07_a_gap_or_damage_is_an_error_and_never_less_wal() {
    for kind in KINDS {
        for hurt in 0..3 {
            let scratch = Scratch::new(kind);
            let cluster = scratch.cluster();
            put(&cluster, &[(0, 100), (100, 200), (200, 300)]).await;
            let (key, object) = common::only(&scratch.store, "00000064-000000C8");
            match hurt {
                0 => drop(scratch.store.objects().remove(&key)),
                1 => {
                    let mut spoilt = object.to_vec();
                    let at = spoilt.len() - 20;
                    spoilt[at] ^= 1;
                    scratch.store.spoil(&key, spoilt);
                }
                // Another piece under its name.
                _ => {
                    let other = common::only(&scratch.store, "00000000-00000064").1;
                    scratch.store.spoil(&key, other);
                }
            }
            let error = cluster.tail_segment(name(), size(), None).await.unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{kind:?} {hurt}: {error}");
            let error = cluster.get_segment(name(), size(), None).await.unwrap_err();
            assert!(!error.is_not_found(), "{error}");
            // What lies in front of it is there, for whoever says that it is enough.
            assert!(cluster.get_segment(name(), size(), Some(101)).await.unwrap_err().is_damaged());
            let first = cluster.get_segment(name(), size(), Some(100)).await.unwrap();
            assert_eq!(first.head.received, Some(name().start(size()) + 100));
            assert!(
                first.bytes[..100] == segment(1)[..100] && first.bytes[100..].iter().all(|byte| *byte == 0)
            );
        }
    }
}

#[tokio::test]
async fn r07_a_damaged_first_piece_leaves_nothing_of_the_segment() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    put(&cluster, &[(0, 100), (100, 200)]).await;
    let (key, _) = common::only(&scratch.store, "00000000-00000064");
    scratch.store.spoil(&key, b"nothing".to_vec());
    for least in [None, Some(1), Some(200)] {
        let error = cluster.get_segment(name(), size(), least).await.unwrap_err();
        assert!(error.is_damaged() && error.to_string().contains("00000000-00000064"), "{least:?}: {error}");
    }
    assert!(cluster.get_segment(name(), size(), Some(0)).await.unwrap_err().is_not_found());
    assert_eq!(cluster.tail(name()).await.unwrap().reach(), 200, "by the names");
}

#[tokio::test]
async fn a_damaged_head_at_the_end_is_passed_over_by_who_takes_what_there_is() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        put(&cluster, &[(0, 100), (100, 200), (250, 300)]).await;
        let start = name().start(size());
        let received = |least: u64| {
            let cluster = cluster.clone();
            async move { Ok::<_, Error>(cluster.tail(name()).await?.end(Some(least)).await?.unwrap().received) }
        };
        let tail = cluster.tail(name()).await.unwrap();
        assert_eq!((tail.reach(), tail.known(size())), (200, 300));
        assert_eq!(received(200).await.unwrap(), Some(start + 200));
        assert!(received(201).await.unwrap_err().to_string().contains("from 200 to 250"));
        let (key, _) = common::only(&scratch.store, "00000064-000000C8");
        let other = common::only(&scratch.store, "00000000-00000064").1;
        scratch.store.spoil(&key, other);
        assert_eq!(received(100).await.unwrap(), Some(start + 100), "{kind:?}");
        assert!(received(101).await.unwrap_err().to_string().contains("00000064-000000C8"));
    }
}

#[tokio::test]
async fn r22_what_is_no_piece_is_not_put() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    let beyond = size().bytes() as u32 + 1;
    for (from, to, length) in [(0, 0, 0), (5, 4, 0), (0, 10, 9), (beyond - 2, beyond, 2)] {
        let bytes = vec![1; length];
        let error = cluster.put_tail(piece(from, to), size(), &bytes[..], None).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    assert_eq!(piece(3, 9).end(size()), Lsn(name().start(size()).0 + 9));
}

#[tokio::test]
async fn r07_other_pieces_stand_for_a_damaged_one() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        put(&cluster, &[(0, 100), (100, 300), (100, 200), (200, 280), (280, 300)]).await;
        for damaged in ["00000064-0000012C", "000000C8-00000118"] {
            let (key, object) = common::only(&scratch.store, damaged);
            let mut spoilt = object.to_vec();
            let at = spoilt.len() - 20;
            spoilt[at] ^= 1;
            scratch.store.spoil(&key, spoilt);
            match cluster.tail_segment(name(), size(), None).await {
                Ok(Some(tail)) if damaged.ends_with("12C") => {
                    assert_eq!(tail.end, name().start(size()) + 300);
                    assert!(tail.object.bytes[..300] == segment(1)[..300], "{kind:?}");
                }
                // The same bytes twice, and both are spoilt.
                Err(Error::Damaged { .. }) if damaged.ends_with("118") => {}
                other => panic!("{kind:?} {damaged}: {other:?}"),
            }
        }
        // A head that says something else.
        let (key, _) = common::only(&scratch.store, "00000064-0000012C");
        let other = common::only(&scratch.store, "00000000-00000064").1;
        scratch.store.spoil(&key, other);
        assert_eq!(
            cluster.tail(name()).await.unwrap().end(None).await.unwrap().unwrap().received,
            Some(name().start(size()) + 300)
        );
    }
}

#[tokio::test]
async fn marks_tell_that_wal_has_gone_from_the_end() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    let (timeline, start) = (TimelineId::FIRST, name().start(size()));
    let lost = |end: u64| {
        let cluster = cluster.clone();
        async move { cluster.lost_behind(timeline, start + end, size()).await.unwrap() }
    };
    assert!(cluster.reached_timelines().await.unwrap().is_empty());
    assert_eq!(lost(0).await, None);
    put(&cluster, &[(0, 100), (100, 200)]).await;
    for mark in [100, 200, 200] {
        cluster.mark_reached(timeline, start + mark).await.unwrap();
    }
    assert_eq!(cluster.reached_timelines().await.unwrap(), [timeline]);
    assert_eq!(cluster.reached_behind(timeline, Some(start + 100)).await.unwrap(), [start + 200]);
    assert_eq!((lost(200).await, lost(100).await), (None, None), "what came meanwhile is there");
    let (key, _) = common::only(&scratch.store, "00000064-000000C8");
    scratch.store.objects().remove(&key);
    assert_eq!((lost(100).await, lost(200).await), (Some(start + 200), None));
    cluster.put_wal(WalFile::Segment(name()), &segment(1), Some(summary())).await.unwrap();
    assert_eq!(lost(100).await, None, "it came back whole");
    cluster.mark_reached(timeline, name().end(size())).await.unwrap();
    assert_eq!(lost(100).await, None);
    cluster.remove_marks(timeline, &[start + 100, start + 200]).await.unwrap();
    assert_eq!(cluster.reached_behind(timeline, None).await.unwrap(), [name().end(size())]);
}
