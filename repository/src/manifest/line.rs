//! The lines of a manifest: JSON, one for each entry, and further ones for files with many extents.
//!
//! ```json
//! {"kind":"folder","path":"base/1","mode":"0700"}
//! {"kind":"link","path":"pg_wal","target":"/wal"}
//! {"kind":"file","path":"base/1/1259","mode":"0600","size":139264,"mtime":1767225600,"crc32c":"0a1b2c3d",
//!  "runs":[{"pack":"…","offset":0,"extents":[[50123,131072,"<digest>"]]},{"zeros":8192}]}
//! {"kind":"more","runs":[…]}
//! ```

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::manifest::path::{unescape, write_escaped};
use crate::manifest::{Entry, EntryPath, File, Folder, Item, Link, MAX_LINE_EXTENTS, Run};
use crate::names::PackId;
use crate::pack::{ExtentRef, check_extent};

/// The longest target of a link in bytes.
const MAX_TARGET_BYTES: usize = 4095;
/// Zeros longer than this are no file's.
const MAX_FILE_BYTES: u64 = 1 << 62;

/// A line as it is in JSON. One flat structure for all kinds, since a tagged one is read by way of a copy of the whole
/// line, several times slower.
#[derive(Serialize, Deserialize)]
struct Line {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<EntryPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc32c: Option<Crc>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<LineRun>,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Folder,
    Link,
    File,
    More,
}

impl Line {
    fn new(kind: Kind) -> Line {
        let (path, mode, target) = (None, None, None);
        Line { kind, path, mode, target, size: None, mtime: None, crc32c: None, runs: Vec::new() }
    }
}

/// Extents, or zeros.
#[derive(Serialize, Deserialize)]
struct LineRun {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pack: Option<PackId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extents: Vec<LineExtent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zeros: Option<u64>,
}

/// `[stored, length, digest]`.
struct LineExtent {
    stored: u32,
    length: u32,
    digest: Digest,
}

impl LineExtent {
    fn of(extent: &ExtentRef) -> LineExtent {
        LineExtent { stored: extent.stored, length: extent.length, digest: extent.digest }
    }
}

impl Serialize for LineExtent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(&self.stored)?;
        tuple.serialize_element(&self.length)?;
        tuple.serialize_element(&self.digest)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for LineExtent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LineExtent, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = LineExtent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an extent: stored length, length, digest")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<LineExtent, A::Error> {
                let missing = |index| serde::de::Error::invalid_length(index, &self);
                Ok(LineExtent {
                    stored: parts.next_element()?.ok_or_else(|| missing(0))?,
                    length: parts.next_element()?.ok_or_else(|| missing(1))?,
                    digest: parts.next_element()?.ok_or_else(|| missing(2))?,
                })
            }
        }
        deserializer.deserialize_tuple(3, Parts)
    }
}

/// Text that stands for a value of another type.
macro_rules! as_text {
    ($type:ident, $inner:ty, $write:expr, $read:expr, $what:literal) => {
        struct $type($inner);

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$inner) -> String = $write;
                serializer.serialize_str(&write(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                let read: fn(&str) -> Option<$inner> = $read;
                read(&text).map($type).ok_or_else(|| serde::de::Error::custom(concat!("not ", $what)))
            }
        }
    };
}

as_text!(
    Mode,
    u16,
    |mode| format!("{mode:04o}"),
    |text| u16::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && text.len() == 4),
    "permissions of four octal digits"
);
as_text!(
    Crc,
    u32,
    |crc| format!("{crc:08x}"),
    |text| u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 8 && !text.starts_with('+')),
    "a checksum of eight hexadecimal digits"
);
as_text!(
    Target,
    Vec<u8>,
    |target| {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = write_escaped(&mut text, target);
        text
    },
    |text| unescape(text).filter(|target| is_target(target)),
    "where a link can lead to"
);

fn is_target(target: &[u8]) -> bool {
    (1..=MAX_TARGET_BYTES).contains(&target.len()) && !target.contains(&0)
}

/// The lines of an entry, each with its line feed, handed to `put`. The error says what cannot be written.
pub(super) fn write_lines<E>(
    entry: &Entry,
    mut put: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, String> {
    let (mut line, runs) = first_line(entry)?;
    let mut runs = line_runs(runs).peekable();
    let mut text = Vec::new();
    loop {
        let mut extents = 0;
        while let Some(next) = runs.next_if(|next| extents == 0 || extents + weight(next) <= MAX_LINE_EXTENTS)
        {
            extents += weight(&next);
            line.runs.push(next);
        }
        text.clear();
        serde_json::to_writer(&mut text, &line).map_err(|error| error.to_string())?;
        text.push(b'\n');
        if let Err(error) = put(&text) {
            return Ok(Err(error));
        }
        if runs.peek().is_none() {
            return Ok(Ok(()));
        }
        line = Line::new(Kind::More);
    }
}

/// The line an entry begins with, without the runs, and these.
fn first_line(entry: &Entry) -> Result<(Line, &[Run]), String> {
    match entry {
        Entry::Folder(Folder { path, mode }) => {
            let line = Line { path: Some(path.clone()), mode: Some(Mode(*mode)), ..Line::new(Kind::Folder) };
            Ok((line, &[]))
        }
        Entry::Link(Link { path, target }) if is_target(target) => {
            let target = Some(Target(target.clone()));
            Ok((Line { path: Some(path.clone()), target, ..Line::new(Kind::Link) }, &[]))
        }
        Entry::Link(Link { path, .. }) => Err(format!("the link {path} leads nowhere")),
        Entry::File(File { path, mode, size, mtime, crc32c }, runs) => {
            let length: u64 = runs.iter().map(Run::plain_bytes).sum();
            if length != *size {
                return Err(format!("{path} has {size} bytes and its runs have {length}"));
            }
            let line = Line {
                path: Some(path.clone()),
                mode: Some(Mode(*mode)),
                size: Some(*size),
                mtime: Some(*mtime),
                crc32c: crc32c.map(Crc),
                ..Line::new(Kind::File)
            };
            Ok((line, runs))
        }
    }
}

/// How much of a line a run takes up.
fn weight(run: &LineRun) -> usize {
    run.extents.len().max(1)
}

/// The runs as they stand in lines: none with more extents than one line may have.
fn line_runs(runs: &[Run]) -> impl Iterator<Item = LineRun> {
    runs.iter().flat_map(|run| {
        let (zeros, extents) = match run {
            Run::Zeros(zeros) => (Some(*zeros), &[][..]),
            Run::Extents(extents) => (None, extents.as_slice()),
        };
        let zeros =
            zeros.map(|zeros| LineRun { pack: None, offset: None, extents: Vec::new(), zeros: Some(zeros) });
        let pieces = extents.chunks(MAX_LINE_EXTENTS).map(|extents| LineRun {
            pack: Some(extents[0].pack),
            offset: Some(extents[0].offset),
            extents: extents.iter().map(LineExtent::of).collect(),
            zeros: None,
        });
        zeros.into_iter().chain(pieces)
    })
}

/// What a line says, without its line feed: an item, and for a file the runs that stand in the same line.
///
/// # Errors
/// What is wrong with the line. A path that could leave the folder restored into is (R16).
pub fn parse_line(line: &[u8]) -> Result<(Item, Vec<Run>), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let runs: Vec<Run> = line.runs.into_iter().map(read_run).collect::<Result<_, _>>()?;
    if line.kind == Kind::More {
        return Ok((Item::Runs(runs), Vec::new()));
    }
    let path = line.path.ok_or("it has no path")?;
    let missing = |what: &str| format!("{path} has no {what}");
    let item = match line.kind {
        Kind::Folder => {
            let mode = line.mode.ok_or_else(|| missing("mode"))?.0;
            Item::Folder(Folder { path, mode })
        }
        Kind::Link => {
            let target = line.target.ok_or_else(|| missing("target"))?.0;
            Item::Link(Link { path, target })
        }
        Kind::File | Kind::More => {
            let mode = line.mode.ok_or_else(|| missing("mode"))?.0;
            let size =
                line.size.filter(|size| *size <= MAX_FILE_BYTES).ok_or_else(|| missing("possible size"))?;
            let mtime = line.mtime.ok_or_else(|| missing("mtime"))?;
            let file = File { path, mode, size, mtime, crc32c: line.crc32c.map(|crc| crc.0) };
            return Ok((Item::File(file), runs));
        }
    };
    if runs.is_empty() { Ok((item, runs)) } else { Err("it has bytes and is no file".to_owned()) }
}

fn read_run(run: LineRun) -> Result<Run, String> {
    match (run.zeros, run.pack, run.offset) {
        (Some(zeros), None, None) if zeros <= MAX_FILE_BYTES && run.extents.is_empty() => {
            Ok(Run::Zeros(zeros))
        }
        (None, Some(pack), Some(mut offset)) => {
            let mut extents = Vec::with_capacity(run.extents.len());
            for LineExtent { stored, length, digest } in run.extents {
                let extent = ExtentRef { pack, offset, stored, length, digest };
                check_extent(&extent).map_err(|reason| format!("an extent {reason}"))?;
                offset += u64::from(stored);
                extents.push(extent);
            }
            Ok(Run::Extents(extents))
        }
        _ => Err("a run is neither extents nor zeros".to_owned()),
    }
}
