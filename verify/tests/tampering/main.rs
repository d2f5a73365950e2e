//! Whatever is done to any object of a repository: `verify --deep` says so, and names it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod again;
mod index;
mod known;
mod made;
mod strips;

use std::collections::BTreeSet;

use bytes::Bytes;
use highwater_repository::{Event, Outcome};
use highwater_storage::memory::Objects;
use highwater_verify::{Finding, Options, Report, Weight, verify};
use highwater_wal::{SegmentName, SegmentSize, Timestamp};

use made::{Kind, Left, Made};

/// Of a plain object, as many places within it have a bit flipped, and its first and last bytes.
const PLACES: usize = 12;
/// The first bytes of an object: version and lengths, or of an encrypted one the version of its format.
const FIRST_BYTES: usize = 16;
/// Of an encrypted object, some places have a bit flipped: version, kind of recipient, its share, the file's key in it, MAC, nonce,
/// the first chunk. What is behind is of one kind, sealed chunks: the middle and the last one's tag are added.
const ENCRYPTED_PLACES: [usize; 7] = [5, 24, 40, 90, 140, 180, 210];
/// So many objects of a kind have bits flipped in all these places. Of the others a single place is tried: they differ in nothing
/// that a reader looks at.
const THOROUGH: usize = 2;

/// A change to a repository's objects.
#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Delete,
    Cut(usize),
    Append,
    Empty,
    Swap(String),
    Rename(String),
}

fn apply(objects: &mut Objects, key: &str, change: &Change) {
    let object = objects[key].clone();
    let mut bytes = object.to_vec();
    match change {
        Change::Flip(at, bits) => bytes[*at] ^= bits,
        Change::Delete => return drop(objects.remove(key)),
        Change::Cut(length) => bytes.truncate(*length),
        Change::Append => bytes.extend_from_slice(b"more"),
        Change::Empty => bytes.clear(),
        Change::Swap(other) => {
            let theirs = objects[other].clone();
            objects.insert(other.clone(), object);
            return drop(objects.insert(key.to_owned(), theirs));
        }
        Change::Rename(to) => {
            objects.remove(key);
            return drop(objects.insert(to.clone(), object));
        }
    }
    objects.insert(key.to_owned(), Bytes::from(bytes));
}

/// What kind of object it is: by the parts of its name that do not tell one from another.
fn kind_of(key: &str) -> String {
    let name = key.rsplit('/').next().unwrap();
    let kind = if key.contains("/wal/") && name.len() == 24 {
        "segment"
    } else if key.contains("/backups/") {
        name
    } else {
        ""
    };
    let folder = ["/wal/", "/packs/", "/backups/", "/names/", "events/", "keys/"]
        .iter()
        .find(|part| key.contains(**part));
    format!(
        "{}{kind}{}",
        folder.unwrap_or(&name),
        name.split_once('.').map_or("", |(_, end)| if key.contains("events/") { "" } else { end })
    )
}

/// Where bits are flipped.
fn places(length: usize, kind: Kind, is_thorough: bool) -> BTreeSet<usize> {
    let mut places = BTreeSet::from([length / 2]);
    if is_thorough {
        places.insert(length - 1);
        if kind == Kind::Encrypted {
            places.extend(ENCRYPTED_PLACES);
        } else {
            places.extend((0..FIRST_BYTES).chain(length.saturating_sub(8)..length));
            let step = (length / PLACES).max(1);
            places.extend((0..PLACES).map(|number| number * step + number * 7 % step));
        }
    }
    places.split_off(&length);
    places
}

fn changes(objects: &Objects, key: &str, kind: Kind) -> Vec<Change> {
    let length = objects[key].len();
    let twins_before = objects.keys().take_while(|other| *other != key);
    let is_thorough = twins_before.filter(|other| kind_of(other) == kind_of(key)).count() < THOROUGH;
    let places = places(length, kind, is_thorough);
    let mut changes: Vec<Change> =
        places.into_iter().map(|at| Change::Flip(at, if at % 2 == 0 { 0x01 } else { 0x40 })).collect();
    changes.extend([
        Change::Delete,
        Change::Cut(length - 1),
        Change::Cut(length / 2),
        Change::Append,
        Change::Empty,
    ]);
    let twin = objects.keys().filter(|other| *other != key && kind_of(other) == kind_of(key));
    changes.extend(twin.filter(|other| objects[*other] != objects[key]).take(1).cloned().map(Change::Swap));
    let mut renamed = key.to_owned();
    let last = renamed.pop().unwrap();
    renamed.push(if last == '0' { '1' } else { '0' });
    if !objects.contains_key(&renamed) {
        changes.push(Change::Rename(renamed));
    }
    changes
}

/// Whether an object is read only by those who want everything read anew.
fn is_bulk(key: &str) -> bool {
    matches!(kind_of(key).as_str(), "/wal/segment") || key.contains("/packs/")
}

fn run(
    made: &Made,
    objects: Objects,
    since_last: bool,
) -> (Result<Report, highwater_verify::Error>, Objects) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cluster, store) = made.cluster(objects);
    let options = Options { seed: 1, since_last, ..Options::deep() };
    let result = runtime.block_on(verify(&cluster, &options, &()));
    (result, store.objects().clone())
}

/// Whether a report, or the refusal to make one, says something new that names the object.
fn tells(
    result: &Result<Report, highwater_verify::Error>,
    before: &[Finding],
    key: &str,
    change: &Change,
) -> bool {
    let names = |text: &str| {
        text.contains(key)
            || matches!(change, Change::Swap(other) | Change::Rename(other) if text.contains(other.as_str()))
    };
    match result {
        Ok(report) => report
            .findings
            .iter()
            .filter(|finding| !before.contains(finding))
            .any(|finding| names(&finding.object) || names(&finding.what)),
        // These two are read before anything else can be: the message speaks of the repository, or the cluster.
        Err(error) => {
            let text = error.to_string();
            names(&text)
                || ((key == "highwater.json" || key.ends_with("/cluster.json")) && text.contains("hint: "))
        }
    }
}

fn every_change_is_told(kind: Kind) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = Left::by_a_server();
    let made = runtime.block_on(Made::of(&left, kind));
    let (first, objects) = run(&made, made.objects.clone(), false);
    let first = first.unwrap();
    assert!(first.is_well(), "{:#?}", first.findings);
    assert!(first.looked.pages > 50 && first.looked.records > 1000, "{:?}", first.looked);
    let (second, objects) = run(&made, objects, false);
    let second = second.unwrap();
    assert!(second.is_well(), "{:#?}", second.findings);
    // Nothing speaks of the newest event yet: its loss is the one that nobody can see.
    let newest = objects.keys().rfind(|key| key.starts_with("events/")).unwrap().clone();
    let all: Vec<&String> = objects.keys().collect();
    for part in
        ["/wal/", ".history", ".partial", ".backup", "/packs/", "/started", "/manifest", "/names/", "events/"]
    {
        assert!(all.iter().any(|key| key.contains(part)), "there is no {part} in {all:#?}");
    }
    let tried = std::sync::atomic::AtomicUsize::new(0);
    let untold = std::sync::Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(key) = all.get(next.fetch_add(1, order)) {
                    for change in changes(&objects, key, kind) {
                        if **key == newest && matches!(change, Change::Delete) {
                            continue;
                        }
                        let mut changed = objects.clone();
                        apply(&mut changed, key, &change);
                        // What is small is read in any case: the quicker way finds it too.
                        let since_last = !is_bulk(key) && matches!(change, Change::Flip(..));
                        let (result, _) = run(&made, changed.clone(), since_last);
                        tried.fetch_add(1, order);
                        let is_harmless = || {
                            matches!(change, Change::Flip(..) | Change::Swap(_))
                                && reads_the_same(&made, &changed, &objects, key)
                        };
                        if !tells(&result, &second.findings, key, &change) && !is_harmless() {
                            untold.lock().unwrap().push(format!("{key}: {change:?}"));
                        }
                    }
                }
            });
        }
    });
    let untold = untold.into_inner().unwrap();
    assert!(
        untold.is_empty(),
        "{} of {} changes were not told: {untold:#?}",
        untold.len(),
        tried.into_inner()
    );
}

/// Whether an object that was changed holds exactly what it held: compressed frames can say the same in several ways, and no
/// reader then gets anything else out of them.
fn reads_the_same(made: &Made, changed: &Objects, objects: &Objects, key: &str) -> bool {
    let content = |objects: &Objects| decompressed(made, objects, key);
    let (before, now) = (content(objects), content(changed));
    before.is_some() && before == now
}

/// What standard tools make of an object.
fn decompressed(made: &Made, objects: &Objects, key: &str) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("object");
    std::fs::write(&path, &objects[key]).unwrap();
    if let Some(identity) = &made.config.identity_file {
        let encrypted = folder.path().join("object.age");
        std::fs::rename(&path, &encrypted).unwrap();
        let mut age = std::process::Command::new("age");
        age.args(["-d", "-i"]).arg(identity).arg("-o").args([&path, &encrypted]);
        if !age.output().unwrap().status.success() {
            return None;
        }
    }
    let tool = if made.config.compression == highwater_repository::Codec::Zstd { "zstd" } else { "lz4" };
    let output = std::process::Command::new(tool).args(["-d", "-c", "-q"]).arg(&path).output().unwrap();
    output.status.success().then_some(output.stdout)
}

#[test]
fn r19_every_change_to_any_object_is_told() {
    every_change_is_told(Kind::Lz4);
}

#[test]
fn r19_every_change_to_any_object_is_told_with_zstandard() {
    every_change_is_told(Kind::Zstd);
}

#[test]
fn r19_every_change_to_any_object_is_told_where_all_is_encrypted() {
    every_change_is_told(Kind::Encrypted);
}

#[test]
fn r19_what_expire_removes_is_no_damage_at_any_step() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = Left::by_a_server();
    let made = runtime.block_on(Made::of(&left, Kind::Lz4));
    let is_well = |objects: Objects, step: &str| -> Objects {
        let (result, objects) = run(&made, objects, false);
        let report = result.unwrap();
        assert!(report.is_well(), "{step}: {:#?}", report.findings);
        objects
    };
    let noted = |objects: Objects, outcome: Outcome| -> Objects {
        let (cluster, store) = made.cluster(objects);
        let event = Event::new("expire", Some(cluster.name()), outcome)
            .with("system_id", cluster.system_id().to_string());
        runtime.block_on(cluster.repository().note(&event)).unwrap();
        store.objects().clone()
    };
    let objects = is_well(made.objects.clone(), "before");
    let (cluster, store) = made.cluster(noted(objects, Outcome::Begun));
    let label = "first".parse().unwrap();
    runtime.block_on(cluster.backups().mark_expired(&label, Timestamp(9), "a test")).unwrap();
    let objects = noted(store.objects().clone(), Outcome::Done);
    let objects = is_well(objects, "marked");
    // The next run is cut off after each of its steps, and verifications lie between them.
    let mut objects = noted(objects, Outcome::Begun);
    let folder = cluster.section().backups() + "first/";
    let of_backup = |name: &str| format!("{folder}{name}");
    let mut steps = vec![of_backup("manifest")];
    steps.extend(objects.keys().filter(|key| key.starts_with(&of_backup("manifest."))).cloned());
    steps.extend([of_backup("started"), of_backup("expired")]);
    // What only the first backup needs: labels of backups before the segments, as expire does it.
    let second = left.backups[1].0;
    let is_before = |key: &&String| {
        let name = key.rsplit('/').next().unwrap().split('.').next().unwrap();
        let size = SegmentSize::new(1 << 20).unwrap();
        let segment = name.parse::<SegmentName>();
        key.contains("/wal/") && segment.is_ok_and(|segment| segment.end(size) <= second)
    };
    let (labels, segments): (Vec<String>, Vec<String>) =
        objects.keys().filter(is_before).cloned().partition(|key| key.ends_with(".backup"));
    assert!(!labels.is_empty() && !segments.is_empty(), "{:#?}", objects.keys());
    steps.extend(labels.into_iter().chain(segments));
    for key in steps {
        objects.remove(&key).unwrap_or_else(|| panic!("there is no {key}"));
        objects = is_well(objects, &format!("without {key}"));
    }
    // It ended: from now on nothing goes unnoticed again.
    let objects = is_well(noted(objects, Outcome::Done), "done");
    let mut without = objects.clone();
    let lost = objects.keys().find(|key| key.ends_with(".backup")).unwrap().clone();
    without.remove(&lost);
    let (report, _) = run(&made, without, false);
    assert!(report.unwrap().findings.iter().any(|finding| finding.object == lost));
    // A hold is no removal: what went without one is missed, and what it took back is not.
    let (cluster, store) = made.cluster(objects);
    let held = Event::new("expire", Some(cluster.name()), Outcome::Done).with("held", "second");
    runtime.block_on(cluster.repository().note(&held)).unwrap();
    let mut without = store.objects().clone();
    without.remove(&lost);
    let (report, _) = run(&made, without, false);
    assert!(report.unwrap().findings.iter().any(|finding| finding.object == lost));
}

#[test]
fn r19_a_mark_and_a_hold_may_be_taken_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = Left::by_a_server();
    let made = runtime.block_on(Made::of(&left, Kind::Lz4));
    let label = "first".parse().unwrap();
    let (cluster, store) = made.cluster(made.objects.clone());
    runtime.block_on(cluster.backups().hold(&label, Timestamp(9), "a test")).unwrap();
    let (report, objects) = run(&made, store.objects().clone(), false);
    assert!(report.unwrap().is_well());
    let key = cluster.section().hold(&label);
    for place in [0, 10, objects[key.as_str()].len() - 1] {
        let mut changed = objects.clone();
        apply(&mut changed, key.as_str(), &Change::Flip(place, 1));
        let (report, _) = run(&made, changed, true);
        assert!(report.unwrap().findings.iter().any(|finding| *finding.object == *key.as_str()), "{place}");
    }
    let (cluster, store) = made.cluster(objects);
    runtime.block_on(cluster.backups().release(&label)).unwrap();
    let (report, _) = run(&made, store.objects().clone(), false);
    assert!(!report.unwrap().is_well(), "nobody says that it was released");
    let released = Event::new("expire", Some(cluster.name()), Outcome::Done).with("released", "first");
    runtime.block_on(cluster.repository().note(&released)).unwrap();
    let (report, _) = run(&made, store.objects().clone(), false);
    assert!(report.unwrap().is_well());
}

#[test]
fn r19_a_page_that_was_damaged_before_the_backup_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = Left::by_a_server();
    let path = left.data.join("base/1/1259");
    let mut content = std::fs::read(&path).unwrap();
    content[3 * 8192 + 5000] ^= 1;
    std::fs::write(&path, content).unwrap();
    let made = runtime.block_on(Made::of(&left, Kind::Lz4));
    let (report, _) = run(&made, made.objects.clone(), false);
    let report = report.unwrap();
    let damages: Vec<&Finding> =
        report.findings.iter().filter(|finding| finding.weight == Weight::Damage).collect();
    assert_eq!(damages.len(), 2, "one for each backup: {:#?}", report.findings);
    assert!(damages[0].what.contains("base/1/1259 of backup first, block 3:"), "{}", damages[0].what);
    assert_eq!(damages[0].backups, ["first"]);
}

#[test]
fn the_tools_that_the_exceptions_are_proven_with_are_there() {
    for tool in ["lz4", "zstd"] {
        assert!(
            std::process::Command::new(tool).arg("--version").output().unwrap().status.success(),
            "{tool}"
        );
    }
}
