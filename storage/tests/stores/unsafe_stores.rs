//! Stores that break their promise are refused (R2).

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::retry::Retry;
use highwater_storage::{
    Body, ErrorKind, Key, Listing, Put, Result, Store, StoreConfig, conformance, open, prove_conditional_put,
};

use crate::common::key;

/// How a store breaks its promise.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// A put on an existing name replaces the object and says that it made it.
    Overwrites,
    /// It replaces the object and says that it was there.
    OverwritesSilently,
    /// It changes nothing, yet says that it made the object.
    SaysCreated,
    /// It looks first and writes then; who comes in between is overwritten.
    LooksFirst,
    /// Every put at the same moment wins, the last is kept; on an existing name it behaves.
    KeepsTheLast,
}

/// A safe store made unsafe.
#[derive(Debug)]
struct UnsafeStore {
    inner: Arc<dyn Store>,
    habit: Habit,
}

impl UnsafeStore {
    async fn replace(&self, key: &Key, body: &Body) -> Result<()> {
        while self.inner.put_if_absent(key, body).await? == Put::Exists {
            self.inner.delete(key).await?;
        }
        Ok(())
    }

    async fn is_there(&self, key: &Key) -> Result<bool> {
        match self.inner.size(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Store for UnsafeStore {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        let was_there = self.is_there(key).await?;
        tokio::task::yield_now().await;
        match self.habit {
            Habit::Overwrites => self.replace(key, body).await.map(|()| Put::Created),
            Habit::OverwritesSilently => {
                self.replace(key, body).await.map(|()| if was_there { Put::Exists } else { Put::Created })
            }
            Habit::SaysCreated => self.inner.put_if_absent(key, body).await.map(|_| Put::Created),
            Habit::LooksFirst | Habit::KeepsTheLast if was_there => Ok(Put::Exists),
            Habit::LooksFirst => self.inner.put_if_absent(key, body).await.map(|_| Put::Created),
            Habit::KeepsTheLast => self.replace(key, body).await.map(|()| Put::Created),
        }
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }

    async fn size(&self, key: &Key) -> Result<u64> {
        self.inner.size(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        self.inner.list(prefix, after, folders).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[tokio::test]
async fn r02_unsafe_stores_are_refused_and_left_clean() {
    for habit in [
        Habit::Overwrites,
        Habit::OverwritesSilently,
        Habit::SaysCreated,
        Habit::LooksFirst,
        Habit::KeepsTheLast,
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let inner = open(&StoreConfig::from_url(format!("file://{}", scratch.path().display()))).unwrap();
        let store = UnsafeStore { inner: Arc::clone(&inner), habit };
        let error = prove_conditional_put(&store, "trials/").await.expect_err(&format!("{habit:?}"));
        assert_eq!(error.kind, ErrorKind::Unsafe, "{habit:?}: {error}");
        assert!(!error.is_passing() && error.to_string().contains("hint: "), "{error}");
        assert_eq!(inner.list("", None, false).await.unwrap().entries, [], "{habit:?}");
        conformance::check(&store, &key("conformance")).await.expect_err(&format!("{habit:?}"));
    }
}

#[tokio::test]
async fn r02_the_local_folder_is_safe() {
    let scratch = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig::from_url(format!("file://{}", scratch.path().display()))).unwrap();
    prove_conditional_put(&*store, "").await.unwrap();
    assert_eq!(store.list("", None, false).await.unwrap(), Listing::default());
}

#[tokio::test(start_paused = true)]
async fn r02_a_lost_answer_does_not_make_a_safe_store_unsafe() {
    let scratch = tempfile::tempdir().unwrap();
    let config = StoreConfig::from_url(format!("file://{}", scratch.path().display()));
    // The first put of each name, so also the one that wins the race, is carried out without an answer.
    let lost = |place: usize| {
        Rule::on(Operation::PutIfAbsent, Fault::After(ErrorKind::TimedOut))
            .keys(format!(".{place}"))
            .times(16)
    };
    let faults = FaultStore::new(open(&config).unwrap(), 1, (0..4).map(lost));
    let store = Retry::new(Arc::new(faults), &config);
    prove_conditional_put(&store, "").await.unwrap();
}

#[tokio::test]
async fn r02_a_store_that_fails_is_not_proven_and_not_called_unsafe() {
    let scratch = tempfile::tempdir().unwrap();
    let config = StoreConfig::from_url(format!("file://{}", scratch.path().display()));
    for (operation, kind) in [
        (Operation::PutIfAbsent, ErrorKind::Unavailable),
        (Operation::Get, ErrorKind::Denied),
        (Operation::Delete, ErrorKind::Unavailable),
    ] {
        let rule = Rule::on(operation, Fault::Before(kind));
        let store = FaultStore::new(open(&config).unwrap(), 1, [rule]);
        assert_eq!(prove_conditional_put(&store, "").await.unwrap_err().kind, kind, "{operation:?}");
    }
    // A host that may not delete leaves its trials behind.
    let rule = Rule::on(Operation::Delete, Fault::Before(ErrorKind::Denied));
    let store = FaultStore::new(open(&config).unwrap(), 1, [rule]);
    prove_conditional_put(&store, "left/").await.unwrap();
    assert_eq!(store.list("left/", None, false).await.unwrap().entries.len(), 4);
}
