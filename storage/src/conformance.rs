//! The checks that every store must pass: the contract of [`Store`], tried out.

use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};

use crate::body::Body;
use crate::error::{ErrorKind, Result};
use crate::gate::gate;
use crate::key::Key;
use crate::store::{Entry, Listing, PAGE_LENGTH, Put, Store};

/// Puts at once while a large tree is made, and in the race.
const AT_ONCE: usize = 16;

/// How long a put is kept waiting.
const WAITED_AT_A_GATE_MS: u64 = 300;

/// Most pages of a listing in these checks.
const MOST_PAGES: usize = 10;

type Check = std::result::Result<(), String>;

/// Tries the whole contract on `store`, with objects below the folder `folder`, which must be empty.
///
/// # Errors
/// The first promise that was broken, in words.
pub async fn check(store: &dyn Store, folder: &Key) -> Check {
    let at = |name: &str| Place { store, folder: folder.join(name) };
    absent_objects_are_not_found(&at("absent")).await?;
    an_object_is_kept_and_never_replaced(&at("kept")).await?;
    bodies_of_all_shapes_are_kept(&at("shapes")).await?;
    ranges_are_cut_at_the_end(&at("ranges")).await?;
    one_of_many_puts_at_once_wins(&at("race")).await?;
    a_put_waits_for_its_gate(&at("gate")).await?;
    what_grows_is_what_was_added_and_zeros(&at("growing")).await?;
    listings_are_in_byte_order(&at("order")).await?;
    listings_come_in_pages(&at("pages")).await?;
    what_is_deleted_is_gone(&at("deleted")).await?;
    unusual_names_are_kept(&at("names")).await
}

/// A folder of a store.
struct Place<'a> {
    store: &'a dyn Store,
    folder: Result<Key>,
}

impl Place<'_> {
    fn key(&self, name: &str) -> std::result::Result<Key, String> {
        let folder = self.folder.as_ref().map_err(ToString::to_string)?;
        folder.join(name).map_err(|error| error.to_string())
    }

    fn prefix(&self) -> std::result::Result<String, String> {
        Ok(format!("{}/", self.folder.as_ref().map_err(ToString::to_string)?))
    }

    async fn put(&self, name: &str, body: impl Into<Body>) -> std::result::Result<Put, String> {
        let key = self.key(name)?;
        done(self.store.put_if_absent(&key, &body.into()).await)
    }

    /// All of a listing, names relative to the folder, and how many pages it took.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        folders: bool,
    ) -> std::result::Result<(Vec<String>, usize), String> {
        let base = self.prefix()?;
        let prefix = format!("{base}{prefix}");
        let mut after = after.map(|after| format!("{base}{after}"));
        let mut names = Vec::new();
        for pages in 1..=MOST_PAGES {
            let page = done(self.store.list(&prefix, after.as_deref(), folders).await)?;
            expect(page.entries.is_sorted() && page.folders.is_sorted(), || {
                format!("{prefix}: a page is not in byte order")
            })?;
            let length = page.entries.len() + page.folders.len();
            expect(length <= PAGE_LENGTH, || format!("{prefix}: a page has {length} names"))?;
            let Listing { entries, folders, next } = page;
            let found = entries.into_iter().map(|entry| entry.key.to_string()).chain(folders);
            names.extend(found.map(|name| name.strip_prefix(&base).unwrap_or(&name).to_owned()));
            if next.is_none() {
                names.sort();
                return Ok((names, pages));
            }
            after = next;
        }
        Err(format!("{prefix}: a listing does not end"))
    }
}

fn done<T>(result: Result<T>) -> std::result::Result<T, String> {
    result.map_err(|error| format!("{error} ({:?})", error.kind))
}

fn expect(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message()) }
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Check {
    expect(found == expected, || format!("{what}: expected {expected:?}, found {found:?}"))
}

fn fails<T: Debug>(what: &str, result: Result<T>, kind: ErrorKind) -> Check {
    let found = result.map_err(|error| error.kind);
    expect(found.as_ref().is_err_and(|found| *found == kind), || {
        format!("{what}: expected an error of kind {kind:?}, found {found:?}")
    })
}

async fn absent_objects_are_not_found(place: &Place<'_>) -> Check {
    let key = place.key("a/b")?;
    let store = place.store;
    fails("get of nothing", store.get(&key).await, ErrorKind::NotFound)?;
    fails("ranged get of nothing", store.get_range(&key, 0..1).await, ErrorKind::NotFound)?;
    fails("size of nothing", store.size(&key).await, ErrorKind::NotFound)?;
    done(store.delete(&key).await)?;
    same("listing of nothing", done(store.list(&place.prefix()?, None, false).await)?, Listing::default())
}

async fn an_object_is_kept_and_never_replaced(place: &Place<'_>) -> Check {
    let key = place.key("object")?;
    same("first put", place.put("object", b"first".to_vec()).await?, Put::Created)?;
    for again in [&b"other"[..], b"first", b"", b"a longer one than the first"] {
        same("further put", place.put("object", again.to_vec()).await?, Put::Exists)?;
        same("kept", done(place.store.get(&key).await)?, Bytes::from_static(b"first"))?;
    }
    same("size", done(place.store.size(&key).await)?, 5)
}

async fn bodies_of_all_shapes_are_kept(place: &Place<'_>) -> Check {
    let pattern: Bytes =
        (0..16 * 1024 * 1024_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let pieces = |count: usize| -> Body {
        pattern.chunks(pattern.len().div_ceil(count)).map(|piece| pattern.slice_ref(piece)).collect()
    };
    let shapes = [
        ("empty", Body::default()),
        ("byte", Body::from(vec![7])),
        ("whole", Body::from(pattern.clone())),
        ("two", pieces(2)),
        ("many", pieces(3000)),
    ];
    for (name, body) in shapes {
        let key = place.key(name)?;
        same(name, place.put(name, body.clone()).await?, Put::Created)?;
        same(name, done(place.store.size(&key).await)?, body.len())?;
        let found = done(place.store.get(&key).await)?;
        expect(found == body.to_bytes(), || format!("{name}: another content was kept"))?;
    }
    let key = place.key("many")?;
    for range in [0..1, 5_000_000..5_000_001, 1_000_003..9_000_001, 0..u64::MAX] {
        let found = done(place.store.get_range(&key, range.clone()).await)?;
        let expected = &pattern[range.start as usize..(range.end as usize).min(pattern.len())];
        expect(found == expected, || format!("range {range:?}: another content was given"))?;
    }
    Ok(())
}

async fn ranges_are_cut_at_the_end(place: &Place<'_>) -> Check {
    same("put", place.put("digits", b"0123456789".to_vec()).await?, Put::Created)?;
    same("put", place.put("empty", Vec::new()).await?, Put::Created)?;
    let key = place.key("digits")?;
    let good: [(Range<u64>, &str); 5] =
        [(0..10, "0123456789"), (3..5, "34"), (9..10, "9"), (8..11, "89"), (4..4000, "456789")];
    for (range, expected) in good {
        let found = done(place.store.get_range(&key, range.clone()).await)?;
        same(&format!("range {range:?}"), found, Bytes::from(expected))?;
    }
    let empty = place.key("empty")?;
    let reversed = Range { start: 5, end: 4 };
    for (key, range) in
        [(&key, 10..11), (&key, 10..10), (&key, 5..5), (&key, reversed), (&key, 4000..4001), (&empty, 0..1)]
    {
        let found = place.store.get_range(key, range.clone()).await;
        fails(&format!("range {range:?} of {key}"), found, ErrorKind::Invalid)?;
    }
    Ok(())
}

async fn one_of_many_puts_at_once_wins(place: &Place<'_>) -> Check {
    for round in 0..4 {
        let name = format!("new-{round}");
        let body = |racer: usize| Bytes::from(vec![racer as u8; 100_000]);
        let puts = join_all((0..AT_ONCE).map(|racer| place.put(&name, body(racer)))).await;
        let answers = puts.into_iter().collect::<std::result::Result<Vec<Put>, String>>()?;
        let winners: Vec<usize> = (0..AT_ONCE).filter(|racer| answers[*racer] == Put::Created).collect();
        let [winner] = winners.as_slice() else {
            return Err(format!("{} of {AT_ONCE} puts at once won", winners.len()));
        };
        let kept = done(place.store.get(&place.key(&name)?).await)?;
        expect(kept == body(*winner), || "the winner's body was not kept".to_owned())?;
    }
    Ok(())
}

async fn a_put_waits_for_its_gate(place: &Place<'_>) -> Check {
    let (keeper, gate) = gate();
    let pieces = [vec![1; 300_000], vec![2; 8]];
    let body = pieces.clone().into_iter().collect::<Body>().behind(gate);
    let key = place.key("later")?;
    let open_it = async {
        for _ in 0..WAITED_AT_A_GATE_MS / 20 {
            fails("an object behind a shut gate", place.store.size(&key).await, ErrorKind::NotFound)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        keeper.open();
        Ok::<(), String>(())
    };
    let (put, opened) = join(place.store.put_if_absent(&key, &body), open_it).await;
    opened?;
    same("a put behind a gate", done(put)?, Put::Created)?;
    same("what was put", done(place.store.get(&key).await)?, Bytes::from(pieces.concat()))
}

/// Where the store has objects that grow.
async fn what_grows_is_what_was_added_and_zeros(place: &Place<'_>) -> Check {
    const BYTES: u64 = 300_000;
    let key = place.key("folder/growing")?;
    let Some(mut growing) = done(place.store.grow(&key, BYTES).await)? else {
        return fails("what has never grown", place.store.get(&key).await, ErrorKind::NotFound);
    };
    let mut expected = Vec::new();
    for round in 0..40_u8 {
        same("room", growing.room(), BYTES - expected.len() as u64)?;
        let body = [vec![round; 3000], vec![255 - round; usize::from(round)]];
        let behind = vec![round + 100; usize::from(round % 3)];
        done(growing.append(body.clone().into_iter().collect(), behind.clone().into()).await)?;
        let durable = expected.len() + body.concat().len();
        expected.extend([body.concat(), behind].concat());
        let found = done(place.store.get(&key).await)?;
        expect(found.len() >= durable && found[..durable] == expected[..durable], || {
            format!("round {round}: what was appended is not there")
        })?;
        expect(found[durable..].iter().zip(&expected[durable..]).all(|(a, b)| a == b || *a == 0), || {
            format!("round {round}: something else lies behind what was appended")
        })?;
    }
    done(growing.append(vec![1].into(), Body::default()).await)?;
    expected.push(1);
    let found = done(place.store.get(&key).await)?;
    let is_right = found.starts_with(&expected) && found[expected.len()..].iter().all(|byte| *byte == 0);
    expect(is_right, || "what was added is not all there, or something lies behind it".to_owned())?;
    same("put on its name", place.put("folder/growing", b"other".to_vec()).await?, Put::Exists)?;
    expect(place.store.grow(&key, BYTES).await.is_err(), || "it was made twice".to_owned())?;
    same("kept", done(place.store.get(&key).await)?, found)?;

    let too_much = vec![1; growing.room() as usize + 1];
    fails(
        "more than there is room for",
        growing.append(too_much.into(), Body::default()).await,
        ErrorKind::Invalid,
    )?;
    expect(growing.append(vec![1].into(), Body::default()).await.is_err(), || {
        "it goes on behind a failure".to_owned()
    })?;
    done(place.store.delete(&key).await)?;
    fails("get after delete", place.store.get(&key).await, ErrorKind::NotFound)?;
    let mut whole = done(place.store.grow(&key, BYTES).await)?.ok_or("it grows no more")?;
    done(whole.append(vec![7; BYTES as usize].into(), Body::default()).await)?;
    same("room", whole.room(), 0)?;
    same("size", done(place.store.size(&key).await)?, BYTES)
}

/// Names whose order in a folder walk differs from the byte order of keys.
const ORDER: &[&str] = &[
    "a-b",
    "a.b",
    "a/x",
    "a/x-y",
    "a/y/z",
    "a0",
    "a:b",
    "aa",
    "b+c/1",
    "b/1",
    "b/1.0/x",
    "b/10",
    "b/1x",
    "b=c",
    "b_c/1",
    "c/d/e-f",
    "c/d/e/f/g",
    "c/d/e/f0",
    "z",
];

async fn listings_are_in_byte_order(place: &Place<'_>) -> Check {
    for name in ORDER {
        same(name, place.put(name, name.as_bytes().to_vec()).await?, Put::Created)?;
    }
    let page = done(place.store.list(&place.prefix()?, None, false).await)?;
    let expected: std::result::Result<Vec<Entry>, String> =
        ORDER.iter().map(|name| Ok(Entry { key: place.key(name)?, size: name.len() as u64 })).collect();
    same("listing", page, Listing { entries: expected?, folders: Vec::new(), next: None })?;

    for prefix in ["", "a", "a/", "a/x", "a/x-", "b", "b/1", "b/1.0/", "c/d/", "c/d/e", "d", "z", "z/"] {
        for after in [
            None,
            Some(""),
            Some("a"),
            Some("a-b"),
            Some("a/"),
            Some("a/x"),
            Some("a/y"),
            Some("b/1.0/x"),
            Some("c/d/e/f"),
            Some("zz"),
        ] {
            for folders in [false, true] {
                let (found, _) = place.list(prefix, after, folders).await?;
                same(
                    &format!("listing of {prefix:?} after {after:?}, folders {folders}"),
                    found,
                    model(prefix, after, folders),
                )?;
            }
        }
    }
    Ok(())
}

/// What a listing gives, the slow and obvious way.
fn model(prefix: &str, after: Option<&str>, folders: bool) -> Vec<String> {
    let after = after.unwrap_or("");
    let behind = ORDER.iter().filter(|name| name.starts_with(prefix) && **name > after);
    let mut found: Vec<String> = behind
        .filter_map(|name| match name[prefix.len()..].find('/') {
            Some(slash) if folders => {
                let folder = &name[..=prefix.len() + slash];
                (!after.starts_with(folder)).then(|| folder.to_owned())
            }
            _ => Some((*name).to_owned()),
        })
        .collect();
    found.dedup();
    found
}

async fn listings_come_in_pages(place: &Place<'_>) -> Check {
    let names: Vec<String> = (0..PAGE_LENGTH + 5).map(|number| format!("many/{number:05}/x")).collect();
    for some in names.chunks(AT_ONCE) {
        for put in join_all(some.iter().map(|name| place.put(name, Vec::new()))).await {
            same("put", put?, Put::Created)?;
        }
    }
    let found = place.list("many/", None, false).await?;
    same("objects in pages", found, (names.clone(), 2))?;
    let folders: Vec<String> = names.iter().map(|name| name.trim_end_matches('x').to_owned()).collect();
    same("folders in pages", place.list("many/", None, true).await?, (folders, 2))?;
    same("a full page", place.list("many/", Some("many/00004/x"), false).await?, (names[5..].to_vec(), 1))?;
    same(
        "the last object",
        place.list("many/", Some("many/01003/x"), false).await?,
        (names[1004..].to_vec(), 1),
    )
}

async fn what_is_deleted_is_gone(place: &Place<'_>) -> Check {
    let key = place.key("folder/object")?;
    same("put", place.put("folder/object", b"1".to_vec()).await?, Put::Created)?;
    same("folder", place.list("", None, true).await?.0, vec!["folder/".to_owned()])?;
    done(place.store.delete(&key).await)?;
    fails("get after delete", place.store.get(&key).await, ErrorKind::NotFound)?;
    fails("size after delete", place.store.size(&key).await, ErrorKind::NotFound)?;
    same("folders after delete", place.list("", None, true).await?.0, Vec::new())?;
    done(place.store.delete(&key).await)?;
    same("put after delete", place.put("folder/object", b"2".to_vec()).await?, Put::Created)?;
    same("get", done(place.store.get(&key).await)?, Bytes::from_static(b"2"))?;
    // Several at once, one of them not there.
    let names = ["folder/object", "folder/absent", "other/1", "other/2", "kept/1"];
    let keys = names.iter().map(|name| place.key(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    for name in &names[2..] {
        same("put", place.put(name, b"3".to_vec()).await?, Put::Created)?;
    }
    done(place.store.delete_all(&keys[..4]).await)?;
    same("folders after deletes", place.list("", None, true).await?.0, vec!["kept/".to_owned()])?;
    done(place.store.delete_all(&keys).await)?;
    same("folders in the end", place.list("", None, true).await?.0, Vec::new())
}

async fn unusual_names_are_kept(place: &Place<'_>) -> Check {
    let longest = "n".repeat(Key::MAX_PART_BYTES);
    let mut names = vec![
        "a+b=c".to_owned(),
        "2026-01-31T12:34:56.789+02:00".to_owned(),
        "a..b".to_owned(),
        "-".to_owned(),
    ];
    names.push(longest.clone());
    names.push(format!("{longest}/{}", "d".repeat(100)).replacen('n', "m", 1));
    for name in &names {
        same(name, place.put(name, name.clone().into_bytes()).await?, Put::Created)?;
        let found = done(place.store.get(&place.key(name)?).await)?;
        same(name, found, Bytes::from(name.clone()))?;
    }
    names.sort();
    same("listing of unusual names", place.list("", None, false).await?.0, names)
}
