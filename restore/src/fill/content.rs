//! A file that is being written, in pieces that come in any order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use highwater_repository::manifest;

use crate::owner::{self, Owner};
use crate::places::{Place, Places};
use crate::{Error, Result};

/// Permissions that a restored file may have: no set-user-ID and the like.
const PERMISSIONS: u32 = 0o777;

/// A file of the manifest on its way to the disk.
#[derive(Debug)]
pub(super) struct Content {
    /// Its number in the manifest.
    pub(super) number: u64,
    facts: manifest::File,
    place: Place,
    /// Whether it has been made.
    made: Mutex<bool>,
    /// Bytes still to come.
    left: AtomicU64,
    sums: Mutex<Vec<Sum>>,
}

/// The checksum of a run of its bytes.
#[derive(Debug, Clone, Copy)]
struct Sum {
    at: u64,
    length: u64,
    crc32c: u32,
}

/// How files are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Who they are given to.
    pub(super) owner: Option<Owner>,
    /// Whether each is synced by itself.
    pub(super) sync_each: bool,
    /// Whether an interrupted restore may have left a part of it.
    pub(super) replace: bool,
}

impl Content {
    pub(super) fn new(number: u64, facts: manifest::File, place: Place) -> Content {
        let left = AtomicU64::new(facts.size);
        Content { number, facts, place, made: Mutex::new(false), left, sums: Mutex::default() }
    }

    /// Its path in the manifest, for messages.
    pub(super) fn path(&self) -> String {
        self.facts.path.to_string()
    }

    /// Opens it; the first time it is made, with its whole length: what is not written is a hole and reads as zeros.
    pub(super) fn open(&self, places: &Places, manner: Manner) -> Result<File> {
        let Some((root, path)) = places.locate(&self.place) else {
            return Err(Error::Thread(format!("{} has no place", self.path())));
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if *made {
            return root.open_file(path);
        }
        if manner.replace {
            root.remove(path)?;
        }
        let file = root.create_file(path)?;
        file.set_len(self.facts.size).map_err(Error::file("make", root.join(path)))?;
        *made = true;
        Ok(file)
    }

    /// Counts bytes as there. `true` when these were the last ones: then it is to be finished.
    pub(super) fn count(&self, length: u64) -> bool {
        self.left.fetch_sub(length, Ordering::AcqRel) == length
    }

    /// Whether it has no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.facts.size == 0
    }

    /// Checks it against the server's checksum and gives it permissions and owner. `None` where the checksum is another.
    pub(super) fn finish(&self, file: &File, manner: Manner) -> Result<Option<()>> {
        if self.facts.crc32c.is_some_and(|expected| self.crc32c() != expected) {
            return Ok(None);
        }
        let failed = |operation| Error::file(operation, self.path());
        owner::finish(file, manner.owner, u32::from(self.facts.mode) & PERMISSIONS)
            .map_err(failed("give away"))?;
        if manner.sync_each {
            file.sync_all().map_err(failed("sync"))?;
        }
        Ok(Some(()))
    }

    /// The checksum of the whole, from those of its runs, with zeros between them.
    fn crc32c(&self) -> u32 {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sums.sort_unstable_by_key(|sum| sum.at);
        let (crc32c, end) = sums.iter().fold((0, 0), |(crc32c, end), sum| {
            let before = append_zeros(crc32c, sum.at.saturating_sub(end));
            (crc32c::crc32c_combine(before, sum.crc32c, sum.length as usize), sum.at + sum.length)
        });
        append_zeros(crc32c, self.facts.size.saturating_sub(end))
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> std::sync::Arc<Content> {
        let path = highwater_repository::EntryPath::new("file").unwrap();
        let facts = manifest::File { path: path.clone(), mode: 0o600, size: 1, mtime: 0, crc32c: None };
        std::sync::Arc::new(Content::new(0, facts, Place::Data(path)))
    }
}

fn append_zeros(crc32c: u32, length: u64) -> u32 {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut crc32c = crc32c;
    let mut left = length;
    while left > 0 {
        let piece = left.min(ZEROS.len() as u64);
        crc32c = crc32c::crc32c_append(crc32c, &ZEROS[..piece as usize]);
        left -= piece;
    }
    crc32c
}

/// An open file and the run of bytes that is being written into it.
#[derive(Debug)]
pub(super) struct Writing<'c> {
    content: &'c Content,
    file: File,
    run: Sum,
    /// Bytes in this round.
    written: u64,
}

impl<'c> Writing<'c> {
    pub(super) fn new(content: &'c Content, file: File) -> Writing<'c> {
        Writing { content, file, run: Sum { at: 0, length: 0, crc32c: 0 }, written: 0 }
    }

    /// The file.
    pub(super) fn content(&self) -> &'c Content {
        self.content
    }

    /// Whether it is this file that is being written.
    pub(super) fn is(&self, content: &Content) -> bool {
        std::ptr::eq(self.content, content)
    }

    /// Writes bytes at their place.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(Error::file("write", self.content.path()))?;
        if self.run.at + self.run.length != at {
            self.end_run();
            self.run.at = at;
        }
        self.run.crc32c = crc32c::crc32c_append(self.run.crc32c, bytes);
        self.run.length += bytes.len() as u64;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn end_run(&mut self) {
        let run = std::mem::replace(&mut self.run, Sum { at: 0, length: 0, crc32c: 0 });
        if run.length > 0 {
            self.content.sums.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        }
    }

    /// Ends this round of writing. `true` when the file has all its bytes.
    pub(super) fn end(mut self) -> (File, bool) {
        self.end_run();
        let complete = self.content.count(self.written);
        (self.file, complete)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt;

    use highwater_repository::EntryPath;
    use proptest::prelude::*;

    use super::*;
    use crate::root::Root;

    const MANNER: Manner = Manner { owner: None, sync_each: true, replace: false };

    fn content(crc32c: Option<u32>, size: u64) -> Content {
        let path = EntryPath::new("base/1").unwrap();
        let facts = manifest::File { path: path.clone(), mode: 0o4640, size, mtime: 0, crc32c };
        Content::new(0, facts, Place::Data(path))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Runs in any order, some of them holes.
        #[test]
        fn a_file_is_whole_whatever_the_order(
            runs in prop::collection::vec((any::<bool>(), 1_usize..70_000), 1..8),
            order in any::<prop::sample::Index>(),
        ) {
            let mut whole = Vec::new();
            let mut pieces = Vec::new();
            for (index, (hole, length)) in runs.iter().enumerate() {
                if !hole {
                    pieces.push((whole.len(), *length));
                }
                let byte = if *hole { 0 } else { index as u8 + 1 };
                whole.extend((0..*length).map(|n| byte.wrapping_mul(n as u8 | 1)));
            }
            let folder = tempfile::tempdir().unwrap();
            let places = Places { data: Root::open(folder.path()).unwrap(), tablespaces: BTreeMap::new() };
            let content = content(Some(crc32c::crc32c(&whole)), whole.len() as u64);
            let holes: usize = runs.iter().filter(|(hole, _)| *hole).map(|(_, length)| length).sum();
            let mut complete = holes > 0 && content.count(holes as u64);
            let first = if pieces.is_empty() { 0 } else { order.index(pieces.len()) };
            pieces.rotate_left(first);
            for (at, length) in pieces {
                prop_assert!(!complete);
                let mut writing = Writing::new(&content, content.open(&places, MANNER).unwrap());
                let (left, right) = whole[at..at + length].split_at(length / 2);
                writing.write(at as u64, left).unwrap();
                writing.write((at + left.len()) as u64, right).unwrap();
                complete = writing.end().1;
            }
            prop_assert!(complete);
            let file = content.open(&places, MANNER).unwrap();
            prop_assert!(content.finish(&file, MANNER).unwrap().is_some());
            prop_assert!(std::fs::read(folder.path().join("base/1")).unwrap() == whole);
            prop_assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
        }
    }

    #[test]
    fn r07_a_file_with_another_checksum_than_the_servers_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places { data: Root::open(folder.path()).unwrap(), tablespaces: BTreeMap::new() };
        let content = content(Some(1), 4);
        let mut writing = Writing::new(&content, content.open(&places, MANNER).unwrap());
        writing.write(0, b"abcd").unwrap();
        let (file, complete) = writing.end();
        assert!(complete && content.finish(&file, MANNER).unwrap().is_none());
    }

    #[test]
    fn a_file_is_made_once_and_a_part_of_it_is_replaced_only_when_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places { data: Root::open(folder.path()).unwrap(), tablespaces: BTreeMap::new() };
        content(None, 4).open(&places, MANNER).unwrap();
        assert!(content(None, 4).open(&places, MANNER).is_err(), "the manifest names it twice");
        content(None, 4).open(&places, Manner { replace: true, ..MANNER }).unwrap();
    }
}
