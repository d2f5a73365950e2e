use std::sync::Arc;

use highwater_wal::{SystemId, Timestamp};
use proptest::prelude::*;

use super::line::write_lines;
use super::*;
use crate::backups::Backups;
use crate::config::RepositoryConfig;
use crate::digest::Digest;
use crate::names::{Label, PackId};
use crate::pack::{ExtentRef, MAX_EXTENT_BYTES};
use crate::{Error, Repository};

pub(crate) fn head() -> ManifestHead {
    ManifestHead {
        version: ManifestHead::VERSION,
        label: "other".parse().unwrap(),
        host: "db1".to_owned(),
        program: "highwater".to_owned(),
        begun_at: Timestamp(1),
        finished_at: Timestamp(2),
        parent: None,
        totals: Totals { stored_bytes: 5, packs: 6, ..Totals::default() },
        parts: Vec::new(),
        postgres: None,
    }
}

struct Place {
    backups: Backups,
    label: Label,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let config = RepositoryConfig::from_url(format!("file://{}", folder.path().display()));
        let repository = Repository::connect(&config).unwrap();
        let backups = repository.cluster(&"main".parse().unwrap(), SystemId(7)).backups();
        Place { backups, label: "daily".parse().unwrap(), _folder: folder }
    }

    async fn write(&self, entries: &[Entry], part_bytes: u64) -> ManifestHead {
        let mut writer = ManifestWriter::new(&self.backups, &self.label).unwrap().with_part_bytes(part_bytes);
        for entry in entries {
            writer.add(entry).await.unwrap();
        }
        writer.finish(head()).await.unwrap()
    }

    async fn read(&self) -> Result<Vec<Entry>, Error> {
        let mut reader = ManifestReader::open(&self.backups, &self.label).await?;
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(item) = reader.next().await? {
            match item {
                Item::Folder(folder) => entries.push(Entry::Folder(folder)),
                Item::Link(link) => entries.push(Entry::Link(link)),
                Item::File(file) => entries.push(Entry::File(file, Vec::new())),
                Item::Runs(more) => match entries.last_mut() {
                    Some(Entry::File(_, runs)) => join(runs, more),
                    other => panic!("runs behind {other:?}"),
                },
            }
        }
        Ok(entries)
    }
}

/// Puts runs behind each other as [`Run::push`] would have made them.
fn join(runs: &mut Vec<Run>, more: Vec<Run>) {
    for run in more {
        match run {
            Run::Zeros(length) => Run::push_zeros(runs, length),
            Run::Extents(extents) => extents.into_iter().for_each(|extent| Run::push(runs, extent)),
        }
    }
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

fn extent(pack: PackId, number: u64) -> ExtentRef {
    let digest = Digest::of(&number.to_le_bytes());
    ExtentRef { pack, offset: number * 60_000, stored: 60_000, length: 131_072, digest }
}

fn file(name: &str, runs: Vec<Run>) -> Entry {
    let size = runs.iter().map(Run::plain_bytes).sum();
    Entry::File(File { path: path(name), mode: 0o600, size, mtime: 1_767_225_600, crc32c: Some(7) }, runs)
}

/// A relation file of 1 GiB: all its extents in a few packs.
fn gigabyte(name: &str) -> Entry {
    let mut runs = Vec::new();
    let packs = [PackId::random(), PackId::random(), PackId::random()];
    for number in 0..8192 {
        Run::push(&mut runs, extent(packs[number as usize / 3000], number));
    }
    file(name, runs)
}

fn few() -> Vec<Entry> {
    let pack = PackId::random();
    vec![
        Entry::Folder(Folder { path: path("base"), mode: 0o700 }),
        file("base/empty", Vec::new()),
        file("base/1259", vec![Run::Extents(vec![extent(pack, 0), extent(pack, 1)]), Run::Zeros(8192)]),
        Entry::Link(Link { path: path("pg_wal"), target: b"/wal/\xff%".to_vec() }),
        file("base/2", vec![Run::Zeros(1 << 40)]),
    ]
}

#[tokio::test]
async fn a_manifest_is_read_as_it_was_written_in_one_part_or_many() {
    for part_bytes in [1, 20_000, u64::MAX] {
        let place = Place::new();
        let mut entries = few();
        entries.push(gigabyte("base/1/big"));
        entries.extend(few());
        let written = place.write(&entries, part_bytes).await;
        assert_eq!(written.label, place.label);
        assert_eq!((written.totals.files, written.totals.folders, written.totals.links), (7, 2, 2));
        assert_eq!((written.totals.packs, written.totals.stored_bytes), (6, 5));
        assert_eq!(written.parts.is_empty(), part_bytes == u64::MAX, "{:?}", written.parts);
        assert_eq!(place.backups.head(&place.label).await.unwrap().as_ref(), Some(&written));
        assert_eq!(place.read().await.unwrap(), entries);
    }
}

#[tokio::test]
async fn r09_there_is_no_backup_before_the_manifest_is_finished() {
    let place = Place::new();
    place.backups.start(&place.label).await.unwrap();
    let mut writer = ManifestWriter::new(&place.backups, &place.label).unwrap().with_part_bytes(1);
    writer.add(&gigabyte("base/1/big")).await.unwrap();
    let part = place.backups.section().manifest_part(&place.label, 1);
    place.backups.repository().store().size(&part).await.expect("a part is put meanwhile");
    assert_eq!(place.backups.labels().await.unwrap(), std::slice::from_ref(&place.label));
    assert_eq!(place.backups.head(&place.label).await.unwrap(), None);
    assert!(place.read().await.unwrap_err().is_not_found());
    assert!(matches!(
        place.backups.start(&place.label).await,
        Err(Error::LabelTaken { is_complete: false, .. })
    ));
    writer.finish(head()).await.unwrap();
    assert!(place.backups.head(&place.label).await.unwrap().is_some());
}

#[test]
fn lines_of_a_large_file_stay_short() {
    let mut lines = 0;
    let result: Result<(), ()> = write_lines(&gigabyte("base/1/big"), |line| {
        lines += 1;
        assert!(line.len() <= MAX_LINE_BYTES && line.ends_with(b"\n"));
        Ok(())
    })
    .unwrap();
    result.unwrap();
    assert!((8..=12).contains(&lines), "{lines}");

    // Many short runs in one file must not make a long line either.
    let runs =
        (0..20_000).flat_map(|n| [Run::Extents(vec![extent(PackId::random(), n)]), Run::Zeros(1)]).collect();
    let result: Result<(), ()> = write_lines(&file("x", runs), |line| {
        assert!(line.len() <= MAX_LINE_BYTES);
        Ok(())
    })
    .unwrap();
    result.unwrap();
}

#[tokio::test]
async fn a_manifest_is_at_most_a_thousandth_of_the_data() {
    let place = Place::new();
    place.write(&[gigabyte("base/1/16384"), gigabyte("base/1/16384.1")], u64::MAX).await;
    let key = place.backups.section().manifest(&place.label);
    let stored = place.backups.repository().store().size(&key).await.unwrap();
    assert!(stored * 1000 < 2 << 30, "{stored} bytes for 2 GiB");
}

#[test]
fn a_file_whose_runs_do_not_fit_its_size_is_not_written() {
    let Entry::File(facts, runs) = file("a", vec![Run::Zeros(5)]) else { panic!() };
    let wrong = Entry::File(File { size: 6, ..facts }, runs);
    assert!(write_lines::<()>(&wrong, |_| Ok(())).unwrap_err().contains("6 bytes"));
    let nowhere = Entry::Link(Link { path: path("l"), target: Vec::new() });
    assert!(write_lines::<()>(&nowhere, |_| Ok(())).is_err());
}

#[test]
fn r16_r22_lines_that_no_writer_makes_are_refused() {
    let digest = Digest::of(b"x");
    let pack = "0".repeat(32);
    let file = |rest: &str| format!(r#"{{"kind":"file","path":"a","mode":"0600","size":1,"mtime":0{rest}}}"#);
    for line in [
        r#""#.to_owned(),
        r#"{}"#.to_owned(),
        r#"{"kind":"folder"}"#.to_owned(),
        r#"{"kind":"folder","path":"a"}"#.to_owned(),
        r#"{"kind":"folder","path":"../a","mode":"0700"}"#.to_owned(),
        r#"{"kind":"folder","path":"/a","mode":"0700"}"#.to_owned(),
        r#"{"kind":"folder","path":"a/../../b","mode":"0700"}"#.to_owned(),
        r#"{"kind":"folder","path":"a%00","mode":"0700"}"#.to_owned(),
        r#"{"kind":"folder","path":"a\u0000","mode":"0700"}"#.to_owned(),
        r#"{"kind":"folder","path":"","mode":"0700"}"#.to_owned(),
        r#"{"kind":"folder","path":"a","mode":"17777"}"#.to_owned(),
        r#"{"kind":"folder","path":"a","mode":"0800"}"#.to_owned(),
        r#"{"kind":"folder","path":"a","mode":"0700","runs":[{"zeros":1}]}"#.to_owned(),
        r#"{"kind":"socket","path":"a","mode":"0700"}"#.to_owned(),
        r#"{"kind":"link","path":"a","target":""}"#.to_owned(),
        r#"{"kind":"link","path":"a","target":"%00"}"#.to_owned(),
        r#"{"kind":"file","path":"a","mode":"0600","size":-1,"mtime":0}"#.to_owned(),
        format!(r#"{{"kind":"file","path":"a","mode":"0600","size":{},"mtime":0}}"#, u64::MAX),
        file(r#","crc32c":"+0000001""#),
        file(r#","runs":[{}]"#),
        file(r#","runs":[{"zeros":18446744073709551615}]"#),
        file(&format!(r#","runs":[{{"zeros":1,"pack":"{pack}","offset":0}}]"#)),
        file(&format!(r#","runs":[{{"pack":"{pack}","offset":0,"extents":[[1,0,"{digest}"]]}}]"#)),
        file(&format!(r#","runs":[{{"pack":"{pack}","offset":0,"extents":[[0,1,"{digest}"]]}}]"#)),
        file(&format!(
            r#","runs":[{{"pack":"{pack}","offset":0,"extents":[[1,{},"{digest}"]]}}]"#,
            MAX_EXTENT_BYTES + 1
        )),
        file(&format!(
            r#","runs":[{{"pack":"{pack}","offset":18446744073709551615,"extents":[[1,1,"{digest}"]]}}]"#
        )),
        file(&format!(r#","runs":[{{"pack":"../{pack}","offset":0,"extents":[[1,1,"{digest}"]]}}]"#)),
        file(&format!(r#","runs":[{{"pack":"{pack}","offset":0,"extents":[[1,1]]}}]"#)),
    ] {
        assert!(parse_line(line.as_bytes()).is_err(), "{line}");
    }
    let newer = file(&format!(
        r#","runs":[{{"pack":"{pack}","offset":0,"extents":[[1,1,"{digest}"]],"later":1}}],"owner":"me""#
    ));
    assert!(parse_line(newer.as_bytes()).is_ok(), "what a later version adds is passed over");
}

/// Replaces the object at `key` with what `change` makes of its lines.
async fn forge(place: &Place, lines: &str) {
    let repository = place.backups.repository();
    let mut frame = crate::codec::LineWriter::new().unwrap();
    frame.write(lines.as_bytes()).unwrap();
    let frame = frame.finish().unwrap().into_vec();
    let crate::digest::Plain { length: bytes, digest } = crate::digest::Plain::of_pieces(&frame);
    let head = ManifestHead { label: place.label.clone(), ..head() };
    let stored = super::head::StoredHead { head, lines: ManifestPart { bytes, digest } };
    let mut pieces = vec![crate::codec::write_skippable(&serde_json::to_vec(&stored).unwrap()).into()];
    pieces.extend(frame);
    let key = place.backups.section().manifest(&place.label);
    let body = pieces.into_iter().collect::<highwater_storage::Body>();
    let _ = repository.store().put_if_absent(&key, &body).await.unwrap();
}

#[tokio::test]
async fn r22_manifests_that_contradict_themselves_are_refused() {
    let line = |rest: &str| format!("{{\"kind\":{rest}}}\n");
    let file = line(r#""file","path":"a","mode":"0600","size":5,"mtime":0,"runs":[{"zeros":4}]"#);
    let folder = line(r#""folder","path":"f","mode":"0700""#);
    let more = |zeros| line(&format!(r#""more","runs":[{{"zeros":{zeros}}}]"#));
    for (lines, good) in [
        (file.clone() + &more(1), true),
        (file.clone() + &more(1) + &folder, true),
        (file.clone(), false),
        (file.clone() + &folder, false),
        (file.clone() + &more(2), false),
        (more(1), false),
        (folder.clone() + &more(1), false),
        (folder.trim_end().to_owned(), false),
        (folder.clone() + &" ".repeat(MAX_LINE_BYTES + 10) + "\n", false),
    ] {
        let place = Place::new();
        forge(&place, &lines).await;
        let read = place.read().await;
        assert_eq!(read.is_ok(), good, "{lines} {read:?}");
        assert!(read.is_ok() || read.unwrap_err().is_damaged());
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let name = proptest::collection::vec(any::<u8>(), 1..12)
        .prop_filter_map("a path", |bytes| EntryPath::new(bytes).ok());
    let run = prop_oneof![
        (1u64..1 << 40).prop_map(|length| vec![Run::Zeros(length)]),
        (any::<u64>(), proptest::collection::vec((1u32..70_000, 1u32..=1 << 20), 1..2000)).prop_map(
            |(seed, sizes)| {
                let pack = PackId::random();
                let mut offset = seed % 1000;
                let mut runs = Vec::new();
                for (stored, length) in sizes {
                    if offset < 1 << 30 {
                        Run::push(
                            &mut runs,
                            ExtentRef {
                                pack,
                                offset,
                                stored,
                                length,
                                digest: Digest::of(&offset.to_le_bytes()),
                            },
                        );
                        offset += u64::from(stored) + u64::from(stored % 7 == 0);
                    }
                }
                runs
            }
        ),
    ];
    let runs = proptest::collection::vec(run, 0..4).prop_map(|pieces| {
        let mut runs = Vec::new();
        pieces.into_iter().for_each(|piece| join(&mut runs, piece));
        runs
    });
    let entry = (name, 0u16..=0o7777, any::<i64>(), proptest::option::of(any::<u32>()), 0..4u8, runs)
        .prop_map(|(path, mode, mtime, crc32c, kind, runs)| match kind {
            0 => Entry::Folder(Folder { path, mode }),
            1 => Entry::Link(Link { target: path.as_bytes().to_vec(), path }),
            _ => {
                let size = runs.iter().map(Run::plain_bytes).sum();
                Entry::File(File { path, mode, size, mtime, crc32c }, runs)
            }
        });
    proptest::collection::vec(entry, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_entries_come_back(entries in entries(), part_bytes in prop_oneof![Just(1u64), Just(u64::MAX)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            place.write(&entries, part_bytes).await;
            prop_assert_eq!(place.read().await.unwrap(), entries);
            Ok(())
        })?;
    }

    #[test]
    fn r22_any_line_is_answered_without_panic(text in r#"\{"kind":"(file|more|folder|link)","(path|runs)":[\[\]{}a-z0-9:",]{0,40}\}"#) {
        let _ = parse_line(text.as_bytes());
    }
}

#[tokio::test]
async fn r07_no_spoiled_byte_of_a_manifest_passes() {
    let place = Place::new();
    let mut entries = few();
    entries.push(gigabyte("base/1/big"));
    entries.extend(few());
    place.write(&entries, 1).await;
    let store = Arc::clone(place.backups.repository().store());
    let section = place.backups.section();
    let good_head = place.backups.head(&place.label).await.unwrap();
    for key in [section.manifest(&place.label), section.manifest_part(&place.label, 1)] {
        let object = store.get(&key).await.unwrap();
        for at in (0..object.len()).step_by((object.len() / 150).max(1)) {
            let mut spoiled = object.to_vec();
            spoiled[at] ^= 1 << (at % 8);
            store.delete(&key).await.unwrap();
            let _ = store.put_if_absent(&key, &spoiled.into()).await.unwrap();
            if let Ok(got) = place.read().await {
                assert_eq!(got, entries, "byte {at} of {key}");
            }
            if let Ok(got) = place.backups.head(&place.label).await {
                assert_eq!(got, good_head, "byte {at} of {key}");
            }
        }
        store.delete(&key).await.unwrap();
        let _ = store.put_if_absent(&key, &object.into()).await.unwrap();
    }
    assert_eq!(place.read().await.unwrap(), entries);
}
