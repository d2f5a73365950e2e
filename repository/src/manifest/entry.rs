//! What a manifest lists.

use crate::manifest::EntryPath;
use crate::pack::ExtentRef;

/// A file, folder or link of a backup, with all that belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A folder.
    Folder(Folder),
    /// A symbolic link.
    Link(Link),
    /// A file and where its bytes lie.
    File(File, Vec<Run>),
}

/// A piece of a manifest as it is read: a file's runs come behind it, in as many pieces as they need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A folder.
    Folder(Folder),
    /// A symbolic link.
    Link(Link),
    /// A file begins. Its bytes are in the [`Item::Runs`] that follow.
    File(File),
    /// The next bytes of the file that began last.
    Runs(Vec<Run>),
}

/// A folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// Its path.
    pub path: EntryPath,
    /// Its permissions: the lower twelve bits of `st_mode`.
    pub mode: u16,
}

/// A symbolic link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its path.
    pub path: EntryPath,
    /// Where it leads to: any bytes but 0, at most 4095. Whoever restores it must not write through it (R16).
    pub target: Vec<u8>,
}

/// A file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its path.
    pub path: EntryPath,
    /// Its permissions: the lower twelve bits of `st_mode`.
    pub mode: u16,
    /// Its length in bytes.
    pub size: u64,
    /// When it was changed last, in seconds since 1970-01-01 00:00 UTC.
    pub mtime: i64,
    /// CRC-32C of its bytes, where that is known.
    pub crc32c: Option<u32>,
}

/// Bytes of a file that follow each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Run {
    /// Extents that lie in one pack, one directly behind the other.
    Extents(Vec<ExtentRef>),
    /// So many zeros, which are not stored.
    Zeros(u64),
}

impl Run {
    /// How many bytes of the file it is.
    pub fn plain_bytes(&self) -> u64 {
        match self {
            Run::Extents(extents) => extents.iter().map(|extent| u64::from(extent.length)).sum(),
            Run::Zeros(length) => *length,
        }
    }

    /// Adds an extent behind `runs`, to the last of them where it lies directly behind that one's last extent.
    pub fn push(runs: &mut Vec<Run>, extent: ExtentRef) {
        if let Some(Run::Extents(extents)) = runs.last_mut()
            && let Some(last) = extents.last()
            && last.pack == extent.pack
            && last.offset + u64::from(last.stored) == extent.offset
        {
            extents.push(extent);
            return;
        }
        runs.push(Run::Extents(vec![extent]));
    }

    /// Adds zeros behind `runs`.
    pub fn push_zeros(runs: &mut Vec<Run>, length: u64) {
        match runs.last_mut() {
            _ if length == 0 => {}
            Some(Run::Zeros(before)) => *before = before.saturating_add(length),
            _ => runs.push(Run::Zeros(length)),
        }
    }
}
