//! Objects that grow: what a failure leaves, and that nothing is added behind one.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::memory::MemoryStore;
use highwater_storage::retry::Retry;
use highwater_storage::{Body, ErrorKind, Growing, Result, Store, StoreConfig, open};
use highwater_tests::{PATIENCE, wait_until};

use crate::common::key;

const BYTES: u64 = 64 << 10;

fn folder(path: &Path) -> Arc<dyn Store> {
    open(&StoreConfig::from_url(format!("file://{}", path.display()))).unwrap()
}

async fn grow(store: &dyn Store) -> Box<dyn Growing> {
    store.grow(&key("tail/strip"), BYTES).await.unwrap().unwrap()
}

async fn append(growing: &mut dyn Growing, text: &str) -> Result<()> {
    growing.append(text.to_owned().into_bytes().into(), Body::default()).await
}

/// What was added to the object.
async fn content(store: &dyn Store) -> String {
    let bytes = store.get(&key("tail/strip")).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap().trim_end_matches('\0').to_owned()
}

#[tokio::test]
async fn r01_an_object_that_was_removed_takes_nothing_more() {
    let scratch = tempfile::tempdir().unwrap();
    let store = folder(scratch.path());
    let mut growing = grow(&*store).await;
    append(&mut *growing, "one").await.unwrap();
    store.delete(&key("tail/strip")).await.unwrap();
    assert!(append(&mut *growing, "two").await.is_err(), "it would be lost");
    assert!(append(&mut *growing, "three").await.is_err());
    // Another of its name is another one.
    let mut other = grow(&*store).await;
    assert!(append(&mut *growing, "four").await.is_err());
    append(&mut *other, "five").await.unwrap();
    assert_eq!(content(&*store).await, "five");
}

#[tokio::test]
async fn r01_nothing_is_added_behind_what_was_not_answered_for() {
    let scratch = tempfile::tempdir().unwrap();
    for store in [folder(scratch.path()), Arc::new(MemoryStore::default())] {
        let slow = Rule::on(Operation::Append, Fault::Slow(Duration::from_secs(3600)));
        let store = FaultStore::new(store, 1, [slow.skip(1).times(1)]);
        let config = StoreConfig::from_url("memory");
        let faults = Arc::new(store);
        let store = Retry::new(faults.clone(), &config);
        let mut growing = grow(&store).await;
        append(&mut *growing, "one").await.unwrap();
        // Whoever waited has gone.
        assert!(append(&mut *growing, "two").now_or_never().is_none());
        let error = append(&mut *growing, "three").await.unwrap_err();
        assert!(error.to_string().contains("an earlier append"), "{error}");
        assert_eq!(faults.calls(Operation::Append, ""), 2);
        assert_eq!(content(&store).await, "one");
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_has_a_time_limit_and_is_not_repeated() {
    for fault in [
        Fault::Slow(Duration::from_secs(3600)),
        Fault::Before(ErrorKind::Unavailable),
        Fault::After(ErrorKind::TimedOut),
        Fault::CutOff,
    ] {
        let faults = Arc::new(FaultStore::new(
            Arc::new(MemoryStore::default()),
            1,
            [Rule::on(Operation::Append, fault).skip(1).times(1)],
        ));
        let store = Retry::new(faults.clone(), &StoreConfig::from_url("memory"));
        let mut growing = grow(&store).await;
        append(&mut *growing, "one,").await.unwrap();
        append(&mut *growing, "second").await.unwrap_err();
        append(&mut *growing, "three").await.unwrap_err();
        let left = match fault {
            Fault::After(_) => "one,second",
            Fault::CutOff => "one,sec",
            _ => "one,",
        };
        assert_eq!((content(&store).await.as_str(), faults.calls(Operation::Append, "")), (left, 2));
    }
}

#[tokio::test]
async fn the_next_one_is_made_aside_and_goes_with_the_store() {
    let scratch = tempfile::tempdir().unwrap();
    let store = folder(scratch.path());
    let aside = || fs::read_dir(scratch.path().join(".aside")).unwrap().count();
    drop(grow(&*store).await);
    wait_until("the next one is there", PATIENCE, || aside() == 1);
    let next = fs::read_dir(scratch.path().join(".aside")).unwrap().next().unwrap().unwrap().path();
    wait_until("it is whole", PATIENCE, || fs::metadata(&next).is_ok_and(|found| found.len() == BYTES));
    store.delete(&key("tail/strip")).await.unwrap();
    // One that somebody has tidied away is made again.
    fs::remove_file(&next).unwrap();
    append(&mut *grow(&*store).await, "one").await.unwrap();
    assert_eq!(content(&*store).await, "one");
    drop(store);
    wait_until("nothing is left", PATIENCE, || aside() == 0);
}
