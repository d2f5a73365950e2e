//! Files of WAL: put once, compared afterwards, verified whenever they are read.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use std::sync::Arc;

use common::{KINDS, Kind, Scratch, cluster, segment, summary};
use highwater_repository::{Error, MemorySink, Plain, Repository, Stored, host_name};
use highwater_storage::ErrorKind;
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::memory::MemoryStore;
use highwater_wal::{TimelineId, WalFile};

fn file(name: &str) -> WalFile {
    name.parse().unwrap()
}

const SEGMENT: &str = "000000010000000000000001";
const HISTORY: &str = "00000002.history";
const LABEL: &str = "000000010000000000000001.00000028.backup";
const PARTIAL: &str = "000000010000000000000001.partial";

#[tokio::test]
async fn what_is_put_comes_back_with_its_summary() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        let bytes = segment(1);
        for name in [SEGMENT, PARTIAL] {
            assert_eq!(cluster.put_wal(file(name), &bytes, Some(summary())).await.unwrap(), Stored::Created);
            let object = cluster.get_wal(file(name)).await.unwrap();
            assert!(object.bytes == bytes, "{kind:?}");
            assert_eq!(object.head.plain, Plain::of(&bytes));
            assert_eq!(object.head.archived.host, host_name());
            let read = cluster.wal_summary(file(name)).await.unwrap();
            assert_eq!(object.head.summary.as_ref(), Some(&read));
            assert_eq!(read.digest, Plain::of(&bytes).digest.to_string());
            assert_eq!(read.other["from_the_future"]["kept"], true, "unknown fields are kept");
            let mut buffer = vec![0; bytes.len()];
            let head = cluster.get_wal_into(file(name), &MemorySink::new(&mut buffer)).await.unwrap();
            assert!(buffer == bytes && head == object.head);
        }
        for (name, content) in
            [(HISTORY, &b"1\t0/3000060\treason\n"[..]), (LABEL, b"START WAL LOCATION: 0/28\n")]
        {
            assert_eq!(cluster.put_wal(file(name), content, None).await.unwrap(), Stored::Created);
            let object = cluster.get_wal(file(name)).await.unwrap();
            assert_eq!((object.bytes.as_slice(), object.head.summary), (content, None));
        }
        assert!(cluster.get_wal(file("00000003.history")).await.unwrap_err().is_not_found());
        let page = cluster.list_wal(TimelineId::FIRST, None, None).await.unwrap();
        let names: Vec<String> = page.files.iter().map(|(file, _)| file.to_string()).collect();
        assert_eq!(names, [SEGMENT, LABEL, PARTIAL]);
        assert_eq!(
            cluster.timelines().await.unwrap().iter().map(|tli| tli.get()).collect::<Vec<_>>(),
            [1, 2]
        );
    }
}

#[tokio::test]
async fn an_encrypted_object_shows_nothing_of_its_content() {
    let scratch = Scratch::new(Kind::EncryptedLz4);
    let cluster = scratch.cluster();
    cluster.put_wal(file(HISTORY), b"1\t0/3000060\tbefore DROP TABLE accounts\n", None).await.unwrap();
    let (_, object) = common::only(&scratch.store, "history");
    assert!(object.starts_with(b"age-encryption.org/v1\n"));
    assert!(!object.windows(8).any(|window| window == b"accounts" || window == b"0/300006"));

    let blind = cluster_without_identity(&scratch);
    assert!(matches!(blind.get_wal(file(HISTORY)).await, Err(Error::Locked { .. })));
    assert!(matches!(blind.wal_head(file(HISTORY)).await, Err(Error::Locked { .. })));
}

fn cluster_without_identity(scratch: &Scratch) -> highwater_repository::ClusterRepository {
    cluster(&scratch.without_identity())
}

#[tokio::test]
async fn r02_nothing_that_is_there_is_changed() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        cluster.put_wal(file(HISTORY), b"first", None).await.unwrap();
        let before = scratch.store.objects().clone();
        let _ = cluster.put_wal(file(HISTORY), b"first", None).await;
        let _ = cluster.put_wal(file(HISTORY), b"second", None).await;
        assert_eq!(*scratch.store.objects(), before);
    }
}

#[tokio::test]
async fn r03_the_same_again_is_a_success_and_other_content_is_refused() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        for cluster in [scratch.cluster(), cluster_without_identity(&scratch)] {
            for (name, summary) in
                [(SEGMENT, Some(summary())), (HISTORY, None), (LABEL, None), (PARTIAL, Some(summary()))]
            {
                let bytes = segment(1);
                let first = cluster.put_wal(file(name), &bytes, summary.clone()).await.unwrap();
                let second = cluster.put_wal(file(name), &bytes, summary.clone()).await.unwrap();
                assert_eq!(second, Stored::AlreadySame, "{kind:?} {name} {first:?}");
                let other = segment(2);
                let error = cluster.put_wal(file(name), &other, summary).await.unwrap_err();
                let text = error.to_string();
                let Error::Different(different) = error else { panic!("{text}") };
                assert_eq!((different.here, different.there), (Plain::of(&other), Plain::of(&bytes)));
                for digest in [different.here.digest, different.there.digest] {
                    assert!(text.contains(&digest.to_string()), "{text}");
                }
                assert!(text.contains("hint: ") && text.contains(name), "{text}");
                // Who put it there can be told only where it can be read.
                let readable = cluster.get_wal(file(name)).await.is_ok();
                assert_eq!(different.archived.is_some(), readable);
                assert_eq!(text.contains(&host_name()), readable);
            }
        }
    }
}

#[tokio::test]
async fn r03_holds_when_encryption_or_codec_changed_meanwhile() {
    let plain = Scratch::new(Kind::Lz4);
    let sealed = Scratch::new(Kind::EncryptedZstd);
    let bytes = segment(3);
    for (first, second) in [(&plain, &sealed), (&sealed, &plain)] {
        let store = Arc::new(MemoryStore::default());
        let first = cluster(&Repository::with_store(store.clone(), &first.config).unwrap());
        let second = cluster(&Repository::with_store(store, &second.config).unwrap());
        first.put_wal(file(SEGMENT), &bytes, Some(summary())).await.unwrap();
        let again = second.put_wal(file(SEGMENT), &bytes, Some(summary())).await.unwrap();
        assert_eq!(again, Stored::AlreadySame);
        assert!(second.put_wal(file(SEGMENT), &segment(4), Some(summary())).await.is_err());
    }
}

#[tokio::test]
async fn r07_no_spoiled_byte_passes() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        let content = b"1\t0/3000060\tno recovery target specified\n2\t0/5000000\tagain\n";
        cluster.put_wal(file(HISTORY), content, None).await.unwrap();
        let good = cluster.get_wal(file(HISTORY)).await.unwrap();
        let (key, object) = common::only(&scratch.store, "history");
        for at in 0..object.len() {
            let mut spoiled = object.to_vec();
            spoiled[at] ^= 1 << (at % 8);
            scratch.store.spoil(&key, spoiled);
            if let Ok(got) = cluster.get_wal(file(HISTORY)).await {
                assert!(got.bytes == content && got.head == good.head, "{kind:?} byte {at}");
            }
            scratch.store.spoil(&key, object.slice(..at));
            let error = cluster.get_wal(file(HISTORY)).await.unwrap_err();
            assert!(error.is_damaged() && error.to_string().contains(&key), "{kind:?} cut at {at}: {error}");
        }
    }
}

#[tokio::test]
async fn r07_a_spoiled_segment_is_an_error_that_names_it() {
    for kind in KINDS {
        let scratch = Scratch::new(kind);
        let cluster = scratch.cluster();
        let bytes = segment(5);
        cluster.put_wal(file(SEGMENT), &bytes, Some(summary())).await.unwrap();
        let good = cluster.get_wal(file(SEGMENT)).await.unwrap();
        let (key, object) = common::only(&scratch.store, SEGMENT);
        for at in (0..object.len()).step_by(object.len() / 300) {
            let mut spoiled = object.to_vec();
            spoiled[at] ^= 0x40;
            scratch.store.spoil(&key, spoiled);
            match cluster.get_wal(file(SEGMENT)).await {
                Ok(got) => assert!(got.bytes == bytes && got.head == good.head, "{kind:?} byte {at}"),
                Err(error) => assert!(error.to_string().contains(SEGMENT), "{error}"),
            }
            if let Ok(head) = cluster.wal_head(file(SEGMENT)).await {
                assert_eq!(head, good.head, "{kind:?} byte {at}");
            }
        }
    }
}

#[tokio::test]
async fn r07_an_object_under_the_name_of_another_is_refused() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    cluster.put_wal(file(HISTORY), b"1\t0/3000060\tx\n", None).await.unwrap();
    let (key, object) = common::only(&scratch.store, "history");
    scratch.store.spoil(&key.replace("00000002", "00000003"), object);
    let error = cluster.get_wal(file("00000003.history")).await.unwrap_err();
    assert!(error.is_damaged() && error.to_string().contains("00000002.history"), "{error}");
}

#[tokio::test]
async fn r22_what_cannot_be_a_file_of_wal_is_refused_before_it_is_put() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    let bytes = segment(6);
    for (name, bytes, summary) in [
        (SEGMENT, &bytes[1..], Some(summary())),
        (SEGMENT, &bytes[..], None),
        (HISTORY, &bytes[..], Some(summary())),
        (HISTORY, &vec![0; 9 << 20][..], None),
    ] {
        let error = cluster.put_wal(file(name), bytes, summary).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("hint: "), "{error}");
    }
    assert!(scratch.store.objects().is_empty());
}

#[tokio::test]
async fn r06_a_later_file_shows_that_one_is_missing() {
    let scratch = Scratch::new(Kind::Lz4);
    let cluster = scratch.cluster();
    let behind = async |name: &str| {
        let found = cluster.first_wal(file(name).timeline(), Some(file(name)), |_| true).await;
        found.unwrap().map(|file| file.to_string())
    };
    assert_eq!(behind(SEGMENT).await, None);
    cluster.put_wal(file("000000010000000000000003"), &segment(1), Some(summary())).await.unwrap();
    cluster.put_wal(file("000000020000000000000009"), &segment(1), Some(summary())).await.unwrap();
    assert_eq!(behind(SEGMENT).await.as_deref(), Some("000000010000000000000003"));
    assert_eq!(behind("000000010000000000000003").await, None);
}

/// Whatever the store does to the calls, what was acknowledged is there and is the same.
#[tokio::test]
async fn r01_r03_an_acknowledged_file_is_there_whatever_the_store_did() {
    let faults = [
        Fault::Before(ErrorKind::Unavailable),
        Fault::After(ErrorKind::TimedOut),
        Fault::Conflict,
        Fault::Precondition,
        Fault::Busy,
        Fault::CutOff,
        Fault::WrongBytes,
    ];
    for seed in 0..120 {
        let scratch = Scratch::new(KINDS[seed % KINDS.len()]);
        let rules = faults.iter().flat_map(|fault| {
            [Operation::PutIfAbsent, Operation::GetRange]
                .map(|operation| Rule::on(operation, *fault).probability(0.15))
        });
        let store = Arc::new(FaultStore::new(scratch.store.clone(), seed as u64, rules));
        let shaky = cluster(&Repository::with_store(store, &scratch.config).unwrap());
        let mut acknowledged = None;
        for (attempt, content) in [b"first", b"first", b"other", b"first", b"other"].into_iter().enumerate() {
            match shaky.put_wal(file(HISTORY), content, None).await {
                Ok(stored) => {
                    let before = *acknowledged.get_or_insert(content);
                    assert_eq!(
                        before, content,
                        "seed {seed} attempt {attempt}: two contents acknowledged ({stored:?})"
                    );
                }
                Err(error) => assert!(error.to_string().contains("hint: "), "{error}"),
            }
        }
        if let Some(content) = acknowledged {
            assert_eq!(scratch.cluster().get_wal(file(HISTORY)).await.unwrap().bytes, content, "seed {seed}");
        }
    }
}
