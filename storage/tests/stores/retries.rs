//! Retries: only what passes, inside the budget, each try inside its time limit.

use std::sync::Arc;
use std::time::Duration;

use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::retry::Retry;
use highwater_storage::{ErrorKind, Put, Store, StoreConfig, open};
use tokio::time::Instant;

use crate::common::key;

struct Tried {
    faults: Arc<FaultStore>,
    store: Retry,
    _scratch: tempfile::TempDir,
}

/// A folder behind `rules`, with retries for 60 s and 20 s for a request.
fn tried(rules: impl IntoIterator<Item = Rule>) -> Tried {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = StoreConfig::from_url(format!("file://{}", scratch.path().display()));
    config.retry_budget = Some(Duration::from_secs(60));
    config.request_timeout = Some(Duration::from_secs(20));
    let faults = Arc::new(FaultStore::new(open(&config).unwrap(), 1, rules));
    let store = Retry::new(Arc::<FaultStore>::clone(&faults), &config);
    Tried { faults, store, _scratch: scratch }
}

#[tokio::test(start_paused = true)]
async fn a_passing_error_is_retried_until_it_passes() {
    let busy = [
        Operation::PutIfAbsent,
        Operation::Get,
        Operation::GetRange,
        Operation::Size,
        Operation::List,
        Operation::Delete,
    ]
    .map(|operation| Rule::on(operation, Fault::Busy).times(3));
    let Tried { faults, store, _scratch } = tried(busy);
    let key = key("a");
    assert_eq!(store.put_if_absent(&key, &b"abc".to_vec().into()).await.unwrap(), Put::Created);
    assert_eq!(store.get(&key).await.unwrap(), "abc");
    assert_eq!(store.get_range(&key, 1..2).await.unwrap(), "b");
    assert_eq!(store.size(&key).await.unwrap(), 3);
    assert_eq!(store.list("", None, false).await.unwrap().entries.len(), 1);
    store.delete(&key).await.unwrap();
    assert_eq!(faults.given(), 6 * 3);
}

#[tokio::test(start_paused = true)]
async fn other_errors_are_given_back_at_once() {
    for kind in [
        ErrorKind::NotFound,
        ErrorKind::Denied,
        ErrorKind::NoSpace,
        ErrorKind::Invalid,
        ErrorKind::Unsafe,
        ErrorKind::Other,
    ] {
        let Tried { faults, store, _scratch } = tried([Rule::on(Operation::Get, Fault::Before(kind))]);
        let begun = Instant::now();
        let error = store.get(&key("a")).await.unwrap_err();
        assert_eq!(
            (error.kind, faults.calls(Operation::Get, "a"), begun.elapsed()),
            (kind, 1, Duration::ZERO)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_the_tries_and_they_grow_rarer() {
    let Tried { faults, store, _scratch } = tried([Rule::on(Operation::Size, Fault::Busy)]);
    let begun = Instant::now();
    let error = store.size(&key("a")).await.unwrap_err();
    let (tries, elapsed) = (faults.calls(Operation::Size, ""), begun.elapsed());
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("tried {tries} times")), "{error}");
    // Pauses double from 50–100 ms up to 2.5–5 s: six until then, and 11 to 23 more.
    assert!((15..=32).contains(&tries), "{tries} tries");
    assert!((54..=60).contains(&elapsed.as_secs()), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn each_try_has_a_time_limit_that_allows_for_its_bytes() {
    let slow = |seconds: u64| Fault::Slow(Duration::from_secs(seconds));
    // 1 MiB may take 8 s more than nothing.
    for (seconds, body, fits) in [(19, 0, true), (21, 0, false), (27, 1 << 20, true), (29, 1 << 20, false)] {
        let rule = Rule::on(Operation::PutIfAbsent, slow(seconds)).times(1);
        let Tried { faults, store, _scratch } = tried([rule]);
        assert_eq!(store.put_if_absent(&key("a"), &vec![0; body].into()).await.unwrap(), Put::Created);
        assert_eq!(
            faults.calls(Operation::PutIfAbsent, "a"),
            if fits { 1 } else { 2 },
            "{seconds} s, {body} bytes"
        );
    }
    let Tried { store, _scratch, .. } = tried([Rule::on(Operation::List, slow(3600))]);
    let begun = Instant::now();
    let error = store.list("a/", None, false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut);
    assert!(error.to_string().contains("request-timeout"), "{error}");
    assert!(begun.elapsed() <= Duration::from_secs(80), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn r03_a_put_after_a_lost_answer_finds_its_own_object() {
    let lost = Rule::on(Operation::PutIfAbsent, Fault::After(ErrorKind::TimedOut)).times(1);
    let Tried { store, _scratch, .. } = tried([lost]);
    assert_eq!(store.put_if_absent(&key("a"), &b"abc".to_vec().into()).await.unwrap(), Put::Exists);
    assert_eq!(store.get(&key("a")).await.unwrap(), "abc");
}
