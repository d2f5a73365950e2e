//! The store that fails as told does what it is told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::{ErrorKind, Put, Store, StoreConfig, open};
use tokio::time::Instant;

use crate::common::key;

fn faulty(seed: u64, rules: impl IntoIterator<Item = Rule>) -> (FaultStore, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let inner = open(&StoreConfig::from_url(format!("file://{}", scratch.path().display()))).unwrap();
    (FaultStore::new(inner, seed, rules), scratch)
}

async fn put(store: &FaultStore, name: &str) -> Result<Put, ErrorKind> {
    store.put_if_absent(&key(name), &b"0123456789".to_vec().into()).await.map_err(|error| error.kind)
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_a_put() {
    let is_there = async |store: &FaultStore| store.size(&key("a")).await.is_ok();
    let cases = [
        (Fault::Before(ErrorKind::NoSpace), Err(ErrorKind::NoSpace), false),
        (Fault::After(ErrorKind::TimedOut), Err(ErrorKind::TimedOut), true),
        (Fault::Busy, Err(ErrorKind::Unavailable), false),
        (Fault::Conflict, Err(ErrorKind::Unavailable), false),
        (Fault::Precondition, Ok(Put::Exists), true),
        (Fault::Slow(Duration::from_secs(5)), Ok(Put::Created), true),
    ];
    for (fault, answer, there) in cases {
        let (store, _scratch) = faulty(1, [Rule::on(Operation::PutIfAbsent, fault).times(1)]);
        let begun = Instant::now();
        assert_eq!((put(&store, "a").await, is_there(&store).await), (answer, there), "{fault:?}");
        let is_slow = matches!(fault, Fault::Slow(_));
        assert_eq!(begun.elapsed() >= Duration::from_secs(5), is_slow, "{fault:?}");
        assert_eq!(
            put(&store, "a").await,
            Ok(if there { Put::Exists } else { Put::Created }),
            "{fault:?} again"
        );
    }
    let (store, _scratch) = faulty(1, [Rule::on(Operation::PutIfAbsent, Fault::Conflict).skip(1)]);
    assert_eq!(put(&store, "a").await, Ok(Put::Created));
    assert_eq!(put(&store, "a").await, Ok(Put::Exists));
}

#[tokio::test]
async fn what_is_read_is_cut_off_or_wrong_in_one_bit() {
    let reads = [Operation::Get, Operation::GetRange];
    let (store, _scratch) = faulty(1, reads.map(|operation| Rule::on(operation, Fault::CutOff)));
    assert_eq!(put(&store, "a").await, Ok(Put::Created));
    assert_eq!(store.get(&key("a")).await.unwrap(), "01234");
    assert_eq!(store.get_range(&key("a"), 2..8).await.unwrap(), "234");
    store.set_rules(reads.map(|operation| Rule::on(operation, Fault::WrongBytes)));
    for bytes in [store.get(&key("a")).await.unwrap(), store.get_range(&key("a"), 0..10).await.unwrap()] {
        let wrong: u32 =
            bytes.iter().zip(b"0123456789").map(|(found, right)| (found ^ right).count_ones()).sum();
        assert_eq!((bytes.len(), wrong), (10, 1));
    }
    store.set_rules([]);
    assert_eq!(store.get(&key("a")).await.unwrap(), "0123456789");
}

#[tokio::test]
async fn rules_choose_their_calls_by_key_number_and_chance() {
    let rule = Rule::on(Operation::PutIfAbsent, Fault::Busy).keys("wal/").skip(1).times(2);
    let (store, _scratch) = faulty(1, [rule]);
    let mut failed = Vec::new();
    for name in ["wal/1", "other/1", "wal/2", "other/2", "wal/3", "wal/4"] {
        if put(&store, name).await.is_err() {
            failed.push(name);
        }
    }
    assert_eq!(failed, ["wal/2", "wal/3"]);
    assert_eq!((store.given(), store.calls(Operation::PutIfAbsent, "wal/")), (2, 4));
    assert_eq!(store.calls(Operation::Get, ""), 0);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults_also_when_calls_overlap() {
    let failed = async |seed: u64, at_once: bool| {
        let (store, _scratch) =
            faulty(seed, [Rule::on(Operation::PutIfAbsent, Fault::Busy).probability(0.3)]);
        let store = Arc::new(store);
        let names: Vec<String> = (0..100).map(|number| format!("k{number}")).collect();
        let mut answers = Vec::new();
        if at_once {
            answers = join_all(names.iter().rev().map(|name| put(&store, name))).await;
            answers.reverse();
        } else {
            for name in &names {
                answers.push(put(&store, name).await);
            }
        }
        let failed: Vec<bool> = answers.iter().map(Result::is_err).collect();
        assert_eq!(failed.iter().filter(|failed| **failed).count() as u64, store.given());
        failed
    };
    let one = failed(7, false).await;
    assert_eq!(one, failed(7, true).await);
    assert_ne!(one, failed(8, false).await);
    assert!((15..=45).contains(&one.iter().filter(|failed| **failed).count()));
}
