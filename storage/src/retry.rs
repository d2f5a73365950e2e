//! Retries and time limits around any store.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::body::Body;
use crate::config::StoreConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::growing::{Growing, given_up};
use crate::key::Key;
use crate::local::ObjectFile;
use crate::store::{Listing, Put, Store};

/// Longest pause before the second try; each further one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The slowest line that a request's time limit allows for.
const SLOWEST_LINE_BYTES_PER_SECOND: u64 = 128 * 1024;

/// What a whole object, whose size isn't known before, is allowed for.
const UNKNOWN_SIZE_BYTES: u64 = 64 * 1024 * 1024;

/// Objects that are removed within one time limit: a store may need a request for each.
const DELETED_AT_ONCE: usize = 64;

/// Repeats calls that failed with a passing error, each try inside a time limit, all inside a budget.
///
/// The pauses grow twofold and are shortened at random, so that many clients do not come back at the same moment.
/// No try begins after the budget is used up; one under way has its own time limit.
///
/// A put that is repeated may find what its earlier try has made: then the answer is [`Put::Exists`], and the caller
/// compares (R3).
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn Store>,
    budget: Duration,
    request_timeout: Duration,
}

impl Retry {
    /// Puts retries around `inner`, with the budget and time limit of `config`.
    pub fn new(inner: Arc<dyn Store>, config: &StoreConfig) -> Self {
        let budget = config.retry_budget.unwrap_or(StoreConfig::DEFAULT_RETRY_BUDGET);
        Self {
            inner,
            budget: budget.min(config.most_retry_budget.unwrap_or(Duration::MAX)),
            request_timeout: config.request_timeout.unwrap_or(StoreConfig::DEFAULT_REQUEST_TIMEOUT),
        }
    }

    /// Makes `call` until it succeeds, fails for good, or the budget is used up. `bytes` is how much it may carry.
    async fn repeat<T, F>(
        &self,
        operation: &'static str,
        key: &str,
        bytes: u64,
        call: impl Fn() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let limit = time_limit(self.request_timeout, bytes);
        let begun = Instant::now();
        let mut longest = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let error = match timeout(limit, call()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => timed_out(&self.inner.url(), operation, key, limit),
            };
            let pause = longest.mul_f64(rand::random_range(0.5..=1.0));
            if !error.is_passing() || begun.elapsed() + pause > self.budget {
                return Err(count_tries(error, tries, begun.elapsed()));
            }
            sleep(pause).await;
            longest = (longest * 2).min(LONGEST_PAUSE);
            tries += 1;
        }
    }
}

/// An object that grows, with a time limit for each call. None is repeated: what has failed once is given up.
#[derive(Debug)]
struct Limited {
    inner: Box<dyn Growing>,
    key: Key,
    url: String,
    request_timeout: Duration,
    is_given_up: bool,
}

#[async_trait]
impl Growing for Limited {
    async fn append(&mut self, body: Body, behind: Body) -> Result<()> {
        if std::mem::replace(&mut self.is_given_up, true) {
            return Err(given_up(self.key.as_str()));
        }
        let limit = time_limit(self.request_timeout, body.len());
        let answer = timeout(limit, self.inner.append(body, behind)).await;
        answer.unwrap_or_else(|_| Err(timed_out(&self.url, "append to", self.key.as_str(), limit)))?;
        self.is_given_up = false;
        Ok(())
    }

    fn room(&self) -> u64 {
        self.inner.room()
    }
}

fn timed_out(url: &str, operation: &'static str, key: &str, limit: Duration) -> Error {
    Error::new(
        ErrorKind::TimedOut,
        operation,
        key,
        format!(
            "{url}: no answer within {} s. hint: check the network and the store, or raise request-timeout",
            limit.as_secs_f32()
        ),
    )
}

/// How long a request may take that carries so many bytes.
fn time_limit(request_timeout: Duration, bytes: u64) -> Duration {
    request_timeout + Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST_LINE_BYTES_PER_SECOND)
}

/// Says in the error's text how often it was tried, when more than once.
fn count_tries(mut error: Error, tries: u32, elapsed: Duration) -> Error {
    if tries > 1 {
        error.message = format!("tried {tries} times in {:.1} s: {}", elapsed.as_secs_f32(), error.message);
    }
    error
}

#[async_trait]
impl Store for Retry {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        self.repeat("put", key.as_str(), body.len(), || self.inner.put_if_absent(key, body)).await
    }

    async fn grow(&self, key: &Key, bytes: u64) -> Result<Option<Box<dyn Growing>>> {
        // Once: what an earlier try has made could not be told from somebody else's.
        let limit = time_limit(self.request_timeout, bytes);
        let grown = timeout(limit, self.inner.grow(key, bytes)).await;
        let grown =
            grown.unwrap_or_else(|_| Err(timed_out(&self.inner.url(), "make", key.as_str(), limit)))?;
        let (url, request_timeout) = (self.inner.url(), self.request_timeout);
        Ok(grown.map(|inner| {
            let limited = Limited { inner, key: key.clone(), url, request_timeout, is_given_up: false };
            Box::new(limited) as Box<dyn Growing>
        }))
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.repeat("get", key.as_str(), UNKNOWN_SIZE_BYTES, || self.inner.get(key)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let bytes = range.end.saturating_sub(range.start).min(UNKNOWN_SIZE_BYTES);
        self.repeat("get", key.as_str(), bytes, || self.inner.get_range(key, range.clone())).await
    }

    async fn open(&self, key: &Key) -> Result<Option<ObjectFile>> {
        self.repeat("get", key.as_str(), 0, || self.inner.open(key)).await
    }

    async fn size(&self, key: &Key) -> Result<u64> {
        self.repeat("look at", key.as_str(), 0, || self.inner.size(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        self.repeat("list", prefix, 0, || self.inner.list(prefix, after, folders)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.repeat("delete", key.as_str(), 0, || self.inner.delete(key)).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Result<()> {
        for some in keys.chunks(DELETED_AT_ONCE) {
            self.repeat("delete", some[0].as_str(), 0, || self.inner.delete_all(some)).await?;
        }
        Ok(())
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
