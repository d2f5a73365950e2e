//! A store that fails as told, for the tests of whatever stands on a store.
//!
//! Rules say which calls fail and how; the first that hits is used. Chances are drawn from the seed, the call's
//! kind, its key and how often that pair was called before, so that a run can be repeated, also when calls
//! overlap.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::growing::Growing;
use crate::key::Key;
use crate::store::{Listing, Put, Store};

/// A call of [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the calls are")]
pub enum Operation {
    PutIfAbsent,
    Grow,
    /// Of an object that grows.
    Append,
    Get,
    GetRange,
    Size,
    List,
    Delete,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this kind before anything is done.
    Before(ErrorKind),
    /// It is carried out, then fails with this kind: the answer is lost.
    After(ErrorKind),
    /// It takes this much longer.
    Slow(Duration),
    /// What is read ends early, without an error: the second half is missing. Of an append only the first half is written, and it fails.
    CutOff,
    /// One bit of what is read is wrong.
    WrongBytes,
    /// A put meets a conflict (409): nothing is written. As from a real store, the answer is [`Put::Exists`] where
    /// there is an object already, and a passing error where there is none.
    Conflict,
    /// A put is carried out but the answer says that there was an object before (412), as when an earlier try's
    /// answer was lost.
    Precondition,
    /// The store is too busy (503): a passing error, nothing is done.
    Busy,
}

/// Which calls fail, and how.
///
/// ```
/// use highwater_storage::faults::{Fault, Operation, Rule};
/// use highwater_storage::ErrorKind;
///
/// // The second and third put below wal/ are carried out, but the answer is lost.
/// let rule = Rule::on(Operation::PutIfAbsent, Fault::After(ErrorKind::TimedOut)).keys("wal/").skip(1).times(2);
/// # let _ = rule;
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    operation: Operation,
    fault: Fault,
    keys: String,
    skip: u64,
    times: u64,
    probability: f64,
}

impl Rule {
    /// Every call of `operation` meets `fault`.
    pub fn on(operation: Operation, fault: Fault) -> Self {
        Self { operation, fault, keys: String::new(), skip: 0, times: u64::MAX, probability: 1.0 }
    }

    /// Only where the key (or a listing's prefix) contains `part`.
    #[must_use]
    pub fn keys(mut self, part: impl Into<String>) -> Self {
        self.keys = part.into();
        self
    }

    /// Only after so many matching calls have passed.
    #[must_use]
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Only so many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Only with this probability, from 0 to 1.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// A store that fails as told.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

/// Which calls are to fail, and which have come.
#[derive(Debug)]
struct Faults {
    url: String,
    seed: u64,
    rules: Mutex<Vec<(Rule, Hits)>>,
    calls: Mutex<HashMap<(Operation, String), u64>>,
}

/// How often a rule's calls came, and how often it hit.
#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    matching: u64,
    given: u64,
}

impl FaultStore {
    /// Puts `rules` around `inner`. Chances are drawn from `seed`.
    pub fn new(inner: Arc<dyn Store>, seed: u64, rules: impl IntoIterator<Item = Rule>) -> Self {
        let rules = rules.into_iter().map(|rule| (rule, Hits::default())).collect();
        let faults = Faults { url: inner.url(), seed, rules: Mutex::new(rules), calls: Mutex::default() };
        Self { inner, faults: Arc::new(faults) }
    }

    /// Replaces the rules: from now on these hold.
    pub fn set_rules(&self, rules: impl IntoIterator<Item = Rule>) {
        *lock(&self.faults.rules) = rules.into_iter().map(|rule| (rule, Hits::default())).collect();
    }

    /// How often `operation` was called with a key (or prefix) that contains `part`.
    pub fn calls(&self, operation: Operation, part: &str) -> u64 {
        let calls = lock(&self.faults.calls);
        calls
            .iter()
            .filter(|((kind, key), _)| *kind == operation && key.contains(part))
            .map(|(_, count)| count)
            .sum()
    }

    /// How many faults the rules that hold now have given.
    pub fn given(&self) -> u64 {
        lock(&self.faults.rules).iter().map(|(_, hits)| hits.given).sum()
    }
}

impl Faults {
    /// The fault of this call, if any; counts it.
    fn draw(&self, operation: Operation, key: &str) -> Option<Fault> {
        let call = {
            let mut calls = lock(&self.calls);
            let count = calls.entry((operation, key.to_owned())).or_default();
            *count += 1;
            *count
        };
        let mut rules = lock(&self.rules);
        for (place, (rule, hits)) in rules.iter_mut().enumerate() {
            if rule.operation != operation || !key.contains(&rule.keys) {
                continue;
            }
            hits.matching += 1;
            let is_due = hits.matching > rule.skip && hits.given < rule.times;
            if is_due && chance(&(self.seed, operation, key, call, place)) < rule.probability {
                hits.given += 1;
                return Some(rule.fault);
            }
        }
        None
    }

    fn error(&self, kind: ErrorKind, operation: &'static str, key: &str) -> Error {
        Error::new(kind, operation, key, format!("{}: injected fault. hint: this is a test", self.url))
    }

    /// Carries out `call` with what a fault does to any call.
    async fn apply<T>(
        &self,
        fault: Option<Fault>,
        (operation, key): (&'static str, &str),
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match fault {
            Some(Fault::Before(kind)) => Err(self.error(kind, operation, key)),
            Some(Fault::Busy) => Err(self.error(ErrorKind::Unavailable, operation, key)),
            Some(Fault::After(kind)) => {
                call.await?;
                Err(self.error(kind, operation, key))
            }
            Some(Fault::Slow(duration)) => {
                tokio::time::sleep(duration).await;
                call.await
            }
            _ => call.await,
        }
    }

    /// What a fault does to bytes that were read.
    fn spoil(&self, fault: Option<Fault>, key: &Key, bytes: Bytes) -> Bytes {
        match fault {
            Some(Fault::CutOff) => bytes.slice(..bytes.len() / 2),
            Some(Fault::WrongBytes) if !bytes.is_empty() => {
                let mut wrong = bytes.to_vec();
                let place = (chance(&(self.seed, key.as_str())) * wrong.len() as f64) as usize;
                wrong[place] ^= 1;
                wrong.into()
            }
            _ => bytes,
        }
    }
}

/// A number from 0 to below 1, the same for the same `of`.
fn chance(of: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for FaultStore {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        let fault = self.faults.draw(Operation::PutIfAbsent, key.as_str());
        if fault == Some(Fault::Conflict) {
            return match self.inner.size(key).await {
                Ok(_) => Ok(Put::Exists),
                Err(error) if error.is_not_found() => {
                    Err(self.faults.error(ErrorKind::Unavailable, "put", key.as_str()))
                }
                Err(error) => Err(error),
            };
        }
        let put =
            self.faults.apply(fault, ("put", key.as_str()), self.inner.put_if_absent(key, body)).await?;
        Ok(if fault == Some(Fault::Precondition) { Put::Exists } else { put })
    }

    async fn grow(&self, key: &Key, bytes: u64) -> Result<Option<Box<dyn Growing>>> {
        let fault = self.faults.draw(Operation::Grow, key.as_str());
        let grown = self.faults.apply(fault, ("make", key.as_str()), self.inner.grow(key, bytes)).await?;
        let (faults, key) = (Arc::clone(&self.faults), key.clone());
        Ok(grown.map(|inner| Box::new(FaultGrowing { inner, faults, key }) as Box<dyn Growing>))
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        let fault = self.faults.draw(Operation::Get, key.as_str());
        let bytes = self.faults.apply(fault, ("get", key.as_str()), self.inner.get(key)).await?;
        Ok(self.faults.spoil(fault, key, bytes))
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let fault = self.faults.draw(Operation::GetRange, key.as_str());
        let bytes = self.faults.apply(fault, ("get", key.as_str()), self.inner.get_range(key, range)).await?;
        Ok(self.faults.spoil(fault, key, bytes))
    }

    async fn size(&self, key: &Key) -> Result<u64> {
        let fault = self.faults.draw(Operation::Size, key.as_str());
        self.faults.apply(fault, ("look at", key.as_str()), self.inner.size(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        let fault = self.faults.draw(Operation::List, prefix);
        self.faults.apply(fault, ("list", prefix), self.inner.list(prefix, after, folders)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let fault = self.faults.draw(Operation::Delete, key.as_str());
        self.faults.apply(fault, ("delete", key.as_str()), self.inner.delete(key)).await
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

/// An object that grows, and fails as told.
#[derive(Debug)]
struct FaultGrowing {
    inner: Box<dyn Growing>,
    faults: Arc<Faults>,
    key: Key,
}

#[async_trait]
impl Growing for FaultGrowing {
    async fn append(&mut self, body: Body, behind: Body) -> Result<()> {
        let fault = self.faults.draw(Operation::Append, self.key.as_str());
        if fault == Some(Fault::CutOff) {
            let whole = body.to_bytes();
            self.inner.append(whole.slice(..whole.len() / 2).into(), Body::default()).await?;
            return Err(self.faults.error(ErrorKind::Other, "append to", self.key.as_str()));
        }
        let call = self.inner.append(body, behind);
        self.faults.apply(fault, ("append to", self.key.as_str()), call).await
    }

    fn room(&self) -> u64 {
        self.inner.room()
    }
}
