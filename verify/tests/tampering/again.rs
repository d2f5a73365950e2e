//! Verifications that are killed and go on, that look only at what is new, or at a sample; and what others do beside them.

use std::collections::BTreeSet;
use std::fmt;
use std::future::pending;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_repository::{ClusterRepository, Event, Outcome, Repository};
use highwater_storage::memory::{MemoryStore, Objects};
use highwater_storage::{Body, Key, Listing, Put, Result, Store};
use highwater_verify::{Options, Report, verify};
use highwater_wal::{Lsn, SegmentName, SegmentSize, Timestamp};

use crate::made::{Kind, Left, Made};
use crate::{Change, apply, is_bulk};

/// Whoever wants a whole segment asks for more bytes than this.
const WHOLE: u64 = 1 << 20;

/// What happens when a verification asks the store for something, for the n-th time.
type Deed = Box<dyn Fn(usize, &MemoryStore) + Send + Sync>;
/// One thing that happens.
type OneStep = Box<dyn Fn(&MemoryStore) + Send + Sync>;

/// A store in memory that tells what was read of packs and segments, and in which something happens while it is asked.
struct Beside {
    inner: MemoryStore,
    asked: AtomicUsize,
    read: Mutex<BTreeSet<String>>,
    deed: Deed,
    /// When so many packs and segments were read there is no answer for any other.
    silent_from: usize,
    silent: tokio::sync::Notify,
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beside")
    }
}

impl Beside {
    fn new(objects: Objects) -> Beside {
        Beside {
            inner: MemoryStore::of(objects),
            asked: AtomicUsize::new(0),
            read: Mutex::default(),
            deed: Box::new(|_, _| ()),
            silent_from: usize::MAX,
            silent: tokio::sync::Notify::new(),
        }
    }

    fn ask(&self) {
        (self.deed)(self.asked.fetch_add(1, Ordering::SeqCst), &self.inner);
    }

    async fn reads(&self, key: &Key) {
        self.ask();
        if !is_bulk(key.as_str()) {
            return;
        }
        let is_silent = {
            let read = self.read.lock().unwrap();
            read.len() >= self.silent_from && !read.contains(key.as_str())
        };
        if is_silent {
            self.silent.notify_one();
            pending::<()>().await;
        }
        self.read.lock().unwrap().insert(key.to_string());
    }
}

#[async_trait]
impl Store for Beside {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        self.inner.put_if_absent(key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.reads(key).await;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        // What stands in front of a segment is asked for in little, and in any case.
        match key.as_str().contains("/wal/") && range.end - range.start < WHOLE {
            true => self.ask(),
            false => self.reads(key).await,
        }
        self.inner.get_range(key, range).await
    }

    async fn size(&self, key: &Key) -> Result<u64> {
        self.ask();
        self.inner.size(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        self.ask();
        self.inner.list(prefix, after, folders).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

/// How a verification went.
struct Went {
    /// `None` where it was killed.
    result: Option<highwater_verify::Result<Report>>,
    /// The packs and segments that it read.
    read: BTreeSet<String>,
    /// How often it asked the store for something.
    asked: usize,
    objects: Objects,
}

impl Went {
    fn report(&self) -> &Report {
        self.result.as_ref().unwrap().as_ref().unwrap()
    }

    fn names(&self, object: &str) -> bool {
        self.report().findings.iter().any(|finding| finding.object == object)
    }
}

fn cluster(made: &Made, store: Arc<dyn Store>) -> ClusterRepository {
    let repository = Repository::with_store(store, &made.config).unwrap();
    repository.cluster(&"main".parse().unwrap(), made.system_id)
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Verifies what is in a store, one read after another, until it is done or the store is silent.
fn went(made: &Made, store: Beside, options: &Options) -> Went {
    let store = Arc::new(store);
    let options = Options { reads: 1, checkpoint_after: Duration::ZERO, ..options.clone() };
    let result = runtime().block_on(async {
        let cluster = cluster(made, store.clone());
        tokio::select! {
            result = verify(&cluster, &options, &()) => Some(result),
            () = store.silent.notified() => None,
        }
    });
    let read = store.read.lock().unwrap().clone();
    let objects = store.inner.objects().clone();
    Went { result, read, asked: store.asked.load(Ordering::SeqCst), objects }
}

/// A repository, made once for all of these tests.
fn made() -> &'static Made {
    &MADE.0
}

/// With where its second backup begins.
static MADE: LazyLock<(Made, Lsn)> = LazyLock::new(|| {
    let left = Left::by_a_server();
    (runtime().block_on(Made::of(&left, Kind::Lz4)), left.backups[1].0)
});

fn bulk(objects: &Objects) -> BTreeSet<String> {
    objects.keys().filter(|key| is_bulk(key)).cloned().collect()
}

/// Some bits where content lies: there are single ones that a reader makes the same of.
fn spoilt(objects: &Objects, key: &str) -> Objects {
    let mut objects = objects.clone();
    let length = objects[key].len();
    for part in 1..8 {
        apply(&mut objects, key, &Change::Flip(length * part / 8, 0x11));
    }
    objects
}

#[test]
fn r19_what_was_killed_goes_on_where_it_was() {
    let (made, deep) = (made(), Options::deep());
    let whole = went(made, Beside::new(made.objects.clone()), &deep);
    assert!(whole.report().is_well(), "{:#?}", whole.report().findings);
    assert_eq!(whole.read, bulk(&made.objects), "all is read");
    let mut spared = 0;
    for reads in 1..whole.read.len() {
        let store = Beside { silent_from: reads, ..Beside::new(made.objects.clone()) };
        let killed = went(made, store, &deep);
        assert!(killed.result.is_none(), "killed after {reads}");
        let resumed =
            went(made, Beside::new(killed.objects.clone()), &Options { resume: true, ..deep.clone() });
        if let Some(Err(error)) = &resumed.result {
            // What was read is a backup's pg_control: nothing of a pack is proven by that.
            assert!(reads == 1 && error.to_string().contains("cut short"), "{reads}: {error}");
            continue;
        }
        assert!(resumed.report().is_well(), "{reads}: {:#?}", resumed.report().findings);
        let both: BTreeSet<String> = killed.read.union(&resumed.read).cloned().collect();
        assert_eq!(both, whole.read, "killed after {reads}: what neither has read");
        spared += whole.read.len() - resumed.read.len();
        // What the first try had not come to is proven by the second.
        for key in whole.read.difference(&killed.read).take(2) {
            let resumed = went(
                made,
                Beside::new(spoilt(&killed.objects, key)),
                &Options { resume: true, ..deep.clone() },
            );
            assert!(resumed.names(key), "{reads}, {key}: {:#?}", resumed.report().findings);
        }
        // The two together count as a whole one: nothing is read but pg_control.
        let next = Options { since_last: true, ..deep.clone() };
        let next = went(made, Beside::new(resumed.objects), &next);
        assert!(next.report().is_well() && next.read.len() <= 1, "{:?}", next.read);
    }
    let all: usize = (1..whole.read.len()).sum();
    assert!(spared > all / 2, "{spared} reads of {all} were spared");
}

#[test]
fn r19_nothing_that_was_damaged_is_passed_over_by_going_on() {
    let (made, deep) = (made(), Options::deep());
    let all = bulk(&made.objects);
    for key in all.iter().step_by(3) {
        let objects = spoilt(&made.objects, key);
        for reads in (1..all.len()).step_by(4) {
            let store = Beside { silent_from: reads, ..Beside::new(objects.clone()) };
            let killed = went(made, store, &deep);
            let resume = Options { resume: true, ..deep.clone() };
            let resumed = went(made, Beside::new(killed.objects), &resume);
            match &resumed.result {
                // It was killed before it had noted anything.
                Some(Err(error)) => assert!(error.to_string().contains("cut short"), "{error}"),
                _ => assert!(resumed.names(key), "{key}, killed after {reads}"),
            }
        }
    }
}

#[test]
fn r19_since_the_last_reads_what_is_new_and_only_that() {
    let (made, deep) = (made(), Options::deep());
    let since = Options { since_last: true, ..deep.clone() };
    let refused = went(made, Beside::new(made.objects.clone()), &since);
    assert!(
        matches!(&refused.result, Some(Err(error)) if error.to_string().contains("leave --since-last away"))
    );

    // At first there is neither the second backup nor what the second timeline has behind its first segment.
    let is_late = |key: &str| {
        let segments = made.objects.keys().filter(|key| key.contains("/wal/00000002/") && is_bulk(key));
        key.contains("/backups/second/") || segments.skip(1).any(|late| late == key)
    };
    let early: Objects = made
        .objects
        .iter()
        .filter(|(key, _)| !is_late(key))
        .map(|(key, object)| (key.clone(), object.clone()))
        .collect();
    let first = went(made, Beside::new(early), &deep);
    assert!(first.report().is_well(), "{:#?}", first.report().findings);
    let late = made.objects.iter().filter(|(key, _)| is_late(key));
    let mut objects = first.objects;
    objects.extend(late.map(|(key, object)| (key.clone(), object.clone())));
    let second = went(made, Beside::new(objects.clone()), &since);
    assert!(second.report().is_well(), "{:#?}", second.report().findings);
    let new: BTreeSet<String> = second.read.iter().filter(|key| key.contains("/wal/")).cloned().collect();
    let expected: BTreeSet<String> =
        made.objects.keys().filter(|key| is_late(key) && is_bulk(key)).cloned().collect();
    assert!(!expected.is_empty() && new.is_superset(&expected), "{new:?} {expected:?}");
    let before: BTreeSet<&String> = new.difference(&expected).collect();
    assert!(before.len() <= 1, "the segment in front of the new ones, and no other: {before:?}");
    let own = packs_of_the_second();
    let packs = second.read.iter().filter(|key| key.contains("/packs/"));
    let others: Vec<&String> = packs.filter(|key| !own.contains(*key)).collect();
    assert!(own.is_subset(&second.read), "{own:?}");
    assert!(others.len() <= 1, "the pack that pg_control lies in, and no other: {others:?}");
    // Whatever is new and damaged is told; what is old and gone is missed, although it is not read.
    for key in expected.iter().chain(&own) {
        let told = went(made, Beside::new(spoilt(&objects, key)), &since);
        assert!(told.names(key), "{key}: {:#?}", told.report().findings);
        // And told again as long as it is there: a verification that found damage is none to build on.
        let again = went(made, Beside::new(told.objects), &since);
        assert!(again.names(key), "{key}: {:#?}", again.report().findings);
    }
    let old = bulk(&made.objects).into_iter().filter(|key| !second.read.contains(key));
    for key in old {
        let mut without = objects.clone();
        without.remove(&key);
        let told = went(made, Beside::new(without), &since);
        assert!(!told.report().is_well(), "{key} is gone");
    }
    let third = went(made, Beside::new(second.objects), &since);
    assert!(third.report().is_well() && third.read.len() <= 1, "{:?}", third.read);
}

#[test]
fn r19_a_sample_reads_a_part_and_counts_as_no_more() {
    let (made, deep) = (made(), Options::deep());
    let all = bulk(&made.objects);
    let mut read = BTreeSet::new();
    let mut sizes = Vec::new();
    let mut peeked = BTreeSet::new();
    for seed in 0..24 {
        let options = Options { sample: Some(30.0), seed, ..deep.clone() };
        let sample = went(made, Beside::new(made.objects.clone()), &options);
        assert!(sample.report().is_well(), "{:#?}", sample.report().findings);
        sizes.push(sample.read.len());
        // The same number makes the same sample: damage is told if it lies there.
        for key in all.iter().skip(seed as usize).step_by(all.len() / 3) {
            let told = went(made, Beside::new(spoilt(&made.objects, key)), &options);
            match (told.names(key), sample.read.contains(key)) {
                (true, false) => panic!("{key} is not of the sample {seed}"),
                (false, true) => drop(peeked.insert(key)),
                _ => {}
            }
        }
        let since = Options { since_last: true, ..deep.clone() };
        let since = went(made, Beside::new(sample.objects), &since);
        assert!(matches!(since.result, Some(Err(_))), "a sample is nothing to build on");
        read.extend(sample.read);
    }
    let (mean, expected) = (sizes.iter().sum::<usize>() / sizes.len(), all.len() * 3 / 10);
    assert!(mean.abs_diff(expected) <= all.len() / 6, "{mean} of {}, and not about {expected}", all.len());
    assert_eq!(read, all, "many samples read all");
    assert!(peeked.len() <= 1, "the pack that pg_control lies in, and no other: {peeked:?}");
}

/// The packs that the second backup has put.
fn packs_of_the_second() -> BTreeSet<String> {
    let made = made();
    let before = made.objects.iter().filter(|(key, _)| !key.contains("/second/")).map(clone).collect();
    let without = went(made, Beside::new(before), &Options::deep());
    // Nothing names them then.
    let packs = made.objects.keys().filter(|key| key.contains("/packs/") && without.names(key));
    let packs: BTreeSet<String> = packs.cloned().collect();
    assert!(!packs.is_empty(), "it has put some");
    packs
}

/// Does one thing after another from the n-th time on that the store is asked for something: each time the next.
fn step_by_step(from: usize, steps: Vec<OneStep>) -> Deed {
    Box::new(move |asked, store| {
        if let Some(step) = asked.checked_sub(from).and_then(|step| steps.get(step)) {
            step(store);
        }
    })
}

fn removes(key: String) -> OneStep {
    Box::new(move |store| {
        store.objects().remove(&key);
    })
}

fn puts(key: String, object: Bytes) -> OneStep {
    Box::new(move |store| {
        store.objects().insert(key.clone(), object.clone());
    })
}

#[test]
fn r19_a_backup_that_is_being_taken_meanwhile_is_no_damage() {
    let made = made();
    // In the order in which a backup and the archiver put them.
    let is_late = |key: &str| key.contains("/backups/second/") || key.contains("/packs/");
    let second =
        |name: &str| made.objects.keys().find(|key| key.ends_with(&format!("/second/{name}"))).cloned();
    let mut keys: Vec<String> = second("started").into_iter().collect();
    let own = packs_of_the_second();
    keys.extend(own.iter().cloned());
    let manifest: Vec<String> =
        made.objects.keys().filter(|key| key.contains("/second/manifest")).cloned().collect();
    keys.extend(manifest.into_iter().rev());
    let before: Objects = made
        .objects
        .iter()
        .filter(|(key, _)| !is_late(key) || (key.contains("/packs/") && !own.contains(key.as_str())))
        .map(clone)
        .collect();
    for options in [Options::shallow(), Options::deep()] {
        let asked = went(made, Beside::new(before.clone()), &options).asked;
        for from in (0..asked).step_by(3) {
            let steps = keys.iter().map(|key| puts(key.clone(), made.objects[key].clone())).collect();
            let store = Beside { deed: step_by_step(from, steps), ..Beside::new(before.clone()) };
            let beside = went(made, store, &options);
            assert!(beside.report().is_well(), "from {from}: {:#?}", beside.report().findings);
        }
    }
}

fn clone((key, object): (&String, &Bytes)) -> (String, Bytes) {
    (key.clone(), object.clone())
}

#[test]
fn r19_an_expire_that_goes_on_meanwhile_is_no_damage() {
    let made = made();
    let store = Arc::new(MemoryStore::of(made.objects.clone()));
    let cluster = cluster(made, store.clone());
    let label = "first".parse().unwrap();
    let event = |outcome| {
        let event = Event::new("expire", Some(cluster.name()), outcome);
        event.with("system_id", made.system_id.to_string())
    };
    let noted = |outcome| {
        let known: BTreeSet<String> = store.objects().keys().cloned().collect();
        runtime().block_on(cluster.repository().note(&event(outcome))).unwrap();
        let new = store.objects().keys().find(|key| !known.contains(*key)).cloned().unwrap();
        let object = store.objects()[&new].clone();
        (new, object)
    };
    // An earlier run has marked the first backup.
    noted(Outcome::Begun);
    runtime().block_on(cluster.backups().mark_expired(&label, Timestamp(9), "a test")).unwrap();
    noted(Outcome::Done);
    let marked = store.objects().clone();
    let begun = noted(Outcome::Begun);
    let folder = cluster.section().backups() + "first/";
    let of_backup = |key: &&String| key.starts_with(&folder);
    let mut keys: Vec<String> = marked.keys().filter(of_backup).cloned().collect();
    keys.sort_by_key(|key| (!key.contains("/manifest"), !key.ends_with("/started"), key.clone()));
    // What only the first backup needs: labels of backups before the segments, as expire does it.
    let is_before = |key: &&String| {
        let name = key.rsplit('/').next().unwrap().split('.').next().unwrap();
        let size = SegmentSize::new(1 << 20).unwrap();
        let segment = name.parse::<SegmentName>();
        key.contains("/wal/") && segment.is_ok_and(|segment| segment.end(size) <= MADE.1)
    };
    let (labels, segments): (Vec<String>, Vec<String>) =
        marked.keys().filter(is_before).cloned().partition(|key| key.ends_with(".backup"));
    keys.extend(labels.into_iter().chain(segments));
    assert!(keys.iter().any(|key| is_bulk(key)), "{keys:#?}");
    for options in [Options::shallow(), Options::deep()] {
        let asked = went(made, Beside::new(marked.clone()), &options).asked;
        for from in (0..asked).step_by(3) {
            let mut steps = vec![puts(begun.0.clone(), begun.1.clone())];
            steps.extend(keys.iter().cloned().map(removes));
            let store = Beside { deed: step_by_step(from, steps), ..Beside::new(marked.clone()) };
            let beside = went(made, store, &options);
            assert!(beside.report().is_well(), "from {from}: {:#?}", beside.report().findings);
        }
    }
}
