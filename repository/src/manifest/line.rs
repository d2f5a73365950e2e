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

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Folder {
        path: EntryPath,
        mode: Mode,
    },
    Link {
        path: EntryPath,
        target: Target,
    },
    File {
        path: EntryPath,
        mode: Mode,
        size: u64,
        mtime: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crc32c: Option<Crc>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        runs: Vec<LineRun>,
    },
    More {
        runs: Vec<LineRun>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LineRun {
    Extents { pack: PackId, offset: u64, extents: Vec<LineExtent> },
    Zeros { zeros: u64 },
}

/// `[stored, length, digest]`.
struct LineExtent {
    stored: u32,
    length: u32,
    digest: Digest,
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
    let (head, runs) = match entry {
        Entry::Folder(folder) => {
            (Line::Folder { path: folder.path.clone(), mode: Mode(folder.mode) }, &[][..])
        }
        Entry::Link(link) if is_target(&link.target) => {
            (Line::Link { path: link.path.clone(), target: Target(link.target.clone()) }, &[][..])
        }
        Entry::Link(link) => return Err(format!("the link {} leads nowhere", link.path)),
        Entry::File(file, runs) => {
            let length: u64 = runs.iter().map(Run::plain_bytes).sum();
            if length != file.size {
                return Err(format!("{} has {} bytes and its runs have {length}", file.path, file.size));
            }
            let line = Line::File {
                path: file.path.clone(),
                mode: Mode(file.mode),
                size: file.size,
                mtime: file.mtime,
                crc32c: file.crc32c.map(Crc),
                runs: Vec::new(),
            };
            (line, runs.as_slice())
        }
    };
    let mut line = head;
    let mut text = Vec::new();
    let mut pieces = line_runs(runs).peekable();
    loop {
        if let Line::File { runs, .. } | Line::More { runs } = &mut line {
            let mut extents = 0;
            while let Some(next) =
                pieces.next_if(|next| extents == 0 || extents + weight(next) <= MAX_LINE_EXTENTS)
            {
                extents += weight(&next);
                runs.push(next);
            }
        }
        text.clear();
        serde_json::to_writer(&mut text, &line).map_err(|error| error.to_string())?;
        text.push(b'\n');
        if let Err(error) = put(&text) {
            return Ok(Err(error));
        }
        if pieces.peek().is_none() {
            return Ok(Ok(()));
        }
        line = Line::More { runs: Vec::new() };
    }
}

/// How much of a line a run takes up.
fn weight(run: &LineRun) -> usize {
    match run {
        LineRun::Extents { extents, .. } => extents.len().max(1),
        LineRun::Zeros { .. } => 1,
    }
}

/// The runs as they stand in lines: none with more extents than one line may have.
fn line_runs(runs: &[Run]) -> impl Iterator<Item = LineRun> {
    runs.iter().flat_map(|run| {
        let (zeros, extents) = match run {
            Run::Zeros(zeros) => (Some(LineRun::Zeros { zeros: *zeros }), &[][..]),
            Run::Extents(extents) => (None, extents.as_slice()),
        };
        let pieces = extents.chunks(MAX_LINE_EXTENTS).map(|extents| LineRun::Extents {
            pack: extents[0].pack,
            offset: extents[0].offset,
            extents: extents
                .iter()
                .map(|extent| LineExtent {
                    stored: extent.stored,
                    length: extent.length,
                    digest: extent.digest,
                })
                .collect(),
        });
        zeros.into_iter().chain(pieces)
    })
}

/// What a line says: an item, and for a file the runs that stand in the same line.
pub(crate) fn parse_line(line: &[u8]) -> Result<(Item, Vec<Run>), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(match line {
        Line::Folder { path, mode } => (Item::Folder(Folder { path, mode: mode.0 }), Vec::new()),
        Line::Link { path, target } => (Item::Link(Link { path, target: target.0 }), Vec::new()),
        Line::File { path, mode, size, mtime, crc32c, runs } => {
            if size > MAX_FILE_BYTES {
                return Err(format!("{path} has an impossible length"));
            }
            let file = File { path, mode: mode.0, size, mtime, crc32c: crc32c.map(|crc| crc.0) };
            (Item::File(file), read_runs(runs)?)
        }
        Line::More { runs } => (Item::Runs(read_runs(runs)?), Vec::new()),
    })
}

fn read_runs(runs: Vec<LineRun>) -> Result<Vec<Run>, String> {
    runs.into_iter().map(read_run).collect()
}

fn read_run(run: LineRun) -> Result<Run, String> {
    match run {
        LineRun::Zeros { zeros } if zeros <= MAX_FILE_BYTES => Ok(Run::Zeros(zeros)),
        LineRun::Zeros { .. } => Err("a run of zeros has an impossible length".to_owned()),
        LineRun::Extents { pack, mut offset, extents } => {
            let mut read = Vec::with_capacity(extents.len());
            for LineExtent { stored, length, digest } in extents {
                let extent = ExtentRef { pack, offset, stored, length, digest };
                check_extent(&extent).map_err(|reason| format!("an extent {reason}"))?;
                offset += u64::from(stored);
                read.push(extent);
            }
            Ok(Run::Extents(read))
        }
    }
}
