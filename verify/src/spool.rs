//! Sorting more than memory holds: records come in any order, and go out in order, equal ones merged into one.
//!
//! What does not fit into a buffer is written, sorted, into a temporary file without a name. When there are many such runs they
//! are merged into one: what several backups name is then on the disk once, however many they are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A record of a fixed length.
pub(crate) trait Record: Copy + Ord {
    /// Bytes on the disk.
    const BYTES: usize;
    /// Writes itself into as many bytes.
    fn write(&self, bytes: &mut [u8]);
    /// Reads what was written.
    fn read(bytes: &[u8]) -> Self;
    /// Takes `other` into itself where both are of the same thing, which stands side by side in the order; else `false`.
    fn merge(&mut self, other: &Self) -> bool;
}

/// Records in memory at most, in bytes.
const BUFFER_BYTES: usize = 32 << 20;
/// As many runs are merged into one. Each has a buffer of its own while that is done.
const MOST_RUNS: usize = 16;
/// Bytes that are read or written at a time.
const IO_BYTES: usize = 128 << 10;

/// Records that are being gathered.
#[derive(Debug)]
pub(crate) struct Spool<R> {
    folder: PathBuf,
    room: usize,
    buffer: Vec<R>,
    runs: Vec<File>,
}

impl<R: Record> Spool<R> {
    /// An empty one, whose files lie in `folder`.
    pub(crate) fn new(folder: &Path) -> Spool<R> {
        Spool::with_room(folder, BUFFER_BYTES / size_of::<R>())
    }

    fn with_room(folder: &Path, room: usize) -> Spool<R> {
        Spool { folder: folder.to_owned(), room, buffer: Vec::new(), runs: Vec::new() }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: R) -> io::Result<()> {
        if self.buffer.last_mut().is_some_and(|last| last.merge(&record)) {
            return Ok(());
        }
        self.buffer.push(record);
        if self.buffer.len() < self.room {
            return Ok(());
        }
        let sorted = self.take_sorted();
        self.write_run(sorted.into_iter().map(Ok))?;
        if self.runs.len() >= MOST_RUNS {
            let all = std::mem::take(&mut self.runs);
            self.write_run(Sorted::new(Vec::new(), all)?)?;
        }
        Ok(())
    }

    fn take_sorted(&mut self) -> Vec<R> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.sort_unstable();
        buffer.dedup_by(|next, kept| kept.merge(next));
        buffer
    }

    fn write_run(&mut self, records: impl Iterator<Item = io::Result<R>>) -> io::Result<()> {
        let mut file = BufWriter::with_capacity(IO_BYTES, tempfile::tempfile_in(&self.folder)?);
        let mut bytes = vec![0; R::BYTES];
        for record in records {
            record?.write(&mut bytes);
            file.write_all(&bytes)?;
        }
        self.runs.push(file.into_inner().map_err(|error| error.into_error())?);
        Ok(())
    }

    /// The records in order.
    pub(crate) fn sorted(mut self) -> io::Result<Sorted<R>> {
        let rest = self.take_sorted();
        Sorted::new(rest, self.runs)
    }
}

/// Records in order, equal ones merged.
pub(crate) struct Sorted<R> {
    memory: std::vec::IntoIter<R>,
    files: Vec<BufReader<File>>,
    /// The next record of each source; source 0 is the memory.
    heads: BinaryHeap<Reverse<(R, usize)>>,
}

impl<R: Record> Sorted<R> {
    fn new(memory: Vec<R>, runs: Vec<File>) -> io::Result<Sorted<R>> {
        let mut files = Vec::with_capacity(runs.len());
        for mut run in runs {
            run.seek(SeekFrom::Start(0))?;
            files.push(BufReader::with_capacity(IO_BYTES, run));
        }
        let sources = files.len() + 1;
        let mut sorted = Sorted { memory: memory.into_iter(), files, heads: BinaryHeap::new() };
        for source in 0..sources {
            sorted.advance(source)?;
        }
        Ok(sorted)
    }

    fn advance(&mut self, source: usize) -> io::Result<()> {
        let next = match source.checked_sub(1) {
            None => self.memory.next(),
            Some(file) => {
                let mut bytes = vec![0; R::BYTES];
                match self.files[file].read_exact(&mut bytes) {
                    Ok(()) => Some(R::read(&bytes)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                    Err(error) => return Err(error),
                }
            }
        };
        self.heads.extend(next.map(|record| Reverse((record, source))));
        Ok(())
    }

    fn take(&mut self) -> io::Result<Option<R>> {
        let Some(Reverse((record, source))) = self.heads.pop() else { return Ok(None) };
        self.advance(source)?;
        Ok(Some(record))
    }
}

impl<R: Record> Iterator for Sorted<R> {
    type Item = io::Result<R>;

    fn next(&mut self) -> Option<io::Result<R>> {
        let mut record = match self.take() {
            Ok(record) => record?,
            Err(error) => return Some(Err(error)),
        };
        while let Some(Reverse((next, _))) = self.heads.peek()
            && record.merge(next)
        {
            if let Err(error) = self.take() {
                return Some(Err(error));
            }
        }
        Some(Ok(record))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct Pair(u16, u16);

    impl Record for Pair {
        const BYTES: usize = 4;

        fn write(&self, bytes: &mut [u8]) {
            bytes[..2].copy_from_slice(&self.0.to_be_bytes());
            bytes[2..].copy_from_slice(&self.1.to_be_bytes());
        }

        fn read(bytes: &[u8]) -> Pair {
            Pair(u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]]))
        }

        fn merge(&mut self, other: &Pair) -> bool {
            self.1 = if self.0 == other.0 { self.1.max(other.1) } else { self.1 };
            self.0 == other.0
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn r11_what_comes_out_is_in_order_and_merged_whatever_the_room(
            pairs in prop::collection::vec((0_u16..50, 0_u16..9), 0..600),
            room in 1_usize..40,
        ) {
            let mut spool = Spool::with_room(&std::env::temp_dir(), room);
            let mut expected: BTreeMap<u16, u16> = BTreeMap::new();
            for (key, value) in pairs {
                spool.push(Pair(key, value)).unwrap();
                let most = expected.entry(key).or_default();
                *most = value.max(*most);
            }
            let found: Vec<Pair> = spool.sorted().unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(found, expected.into_iter().map(|(key, value)| Pair(key, value)).collect::<Vec<_>>());
        }
    }
}
