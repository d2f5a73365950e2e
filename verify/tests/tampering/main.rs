//! Whatever is done to any object of a repository: `verify --deep` says so, and names it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod made;
mod store;

use std::collections::BTreeSet;

use bytes::Bytes;
use highwater_verify::{Finding, Options, Report, Weight, verify};

use made::{Kind, Left, Made};
use store::Objects;

/// Objects up to this length have each of their bytes flipped.
const WHOLE_BYTES: usize = 600;
/// Of longer ones, so many places, and the beginning and the end.
const PLACES: usize = 12;

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
    let folder =
        ["/wal/", "/packs/", "/backups/", "events/", "keys/"].iter().find(|part| key.contains(**part));
    format!(
        "{}{kind}{}",
        folder.unwrap_or(&name),
        name.split_once('.').map_or("", |(_, end)| if key.contains("events/") { "" } else { end })
    )
}

fn changes(objects: &Objects, key: &str, stride: usize) -> Vec<Change> {
    let length = objects[key].len();
    let mut places: BTreeSet<usize> = if length <= WHOLE_BYTES {
        (0..length).step_by(stride).collect()
    } else {
        let mut places: BTreeSet<usize> = (0..16).chain(length - 12..length).step_by(stride.min(5)).collect();
        let step = length / PLACES;
        let within = (0..PLACES).step_by(stride.min(5));
        places.extend(within.map(|number| number * step + number * 7 % step.max(1)));
        places
    };
    places.insert(length - 1);
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
    changes.extend(twin.filter(|other| objects[*other] != objects[key]).take(2).cloned().map(Change::Swap));
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
    (result, store.objects())
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

fn every_change_is_told(kind: Kind, stride: usize) {
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
    for part in ["/wal/", ".history", ".partial", ".backup", "/packs/", "/started", "/manifest", "events/"] {
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
                    for change in changes(&objects, key, stride) {
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
                            matches!(change, Change::Flip(..))
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

/// What standard tools make of an object that is not encrypted.
fn decompressed(made: &Made, objects: &Objects, key: &str) -> Option<Vec<u8>> {
    if !made.config.encrypt_to.is_empty() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("object");
    std::fs::write(&path, &objects[key]).unwrap();
    let tool = if made.config.compression == highwater_repository::Codec::Zstd { "zstd" } else { "lz4" };
    let output = std::process::Command::new(tool).args(["-d", "-c", "-q"]).arg(&path).output().unwrap();
    output.status.success().then_some(output.stdout)
}

#[test]
fn r19_every_change_to_any_object_is_told() {
    every_change_is_told(Kind::Lz4, 1);
}

#[test]
fn r19_every_change_to_any_object_is_told_with_zstandard() {
    every_change_is_told(Kind::Zstd, 3);
}

#[test]
fn r19_every_change_to_any_object_is_told_where_all_is_encrypted() {
    // Every byte is under one checksum or another of age's; opening the objects again and again takes its time.
    every_change_is_told(Kind::Encrypted, 40);
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
