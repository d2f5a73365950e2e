//! The file that is to be archived, read once.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;

use highwater_wal::{Timestamp, WalFile};

use crate::error::Error;

/// The largest segment that PostgreSQL can have.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// The least that a thread is started for: reading a segment takes its time in making memory for it.
const LEAST_PER_THREAD: usize = 4 << 20;

/// A file of WAL as it lies in `pg_wal`.
#[derive(Debug)]
pub struct Source {
    /// Its content.
    pub bytes: Vec<u8>,
    /// When it was last written to, by the server's clock.
    pub modified: Timestamp,
}

/// Which file `path` names.
pub fn name(path: &Path) -> Result<WalFile, Error> {
    Ok(path.file_name().unwrap_or_default().to_string_lossy().parse()?)
}

impl Source {
    /// Reads the file, with at most so many threads.
    pub fn read(path: &Path, file: WalFile, threads: usize) -> Result<Source, Error> {
        let longest = match file {
            WalFile::Segment(_) | WalFile::Partial(_) => MAX_SEGMENT_BYTES,
            WalFile::History(_) | WalFile::BackupLabel { .. } => highwater_repository::MAX_SMALL_FILE_BYTES,
        };
        read(path, longest, threads).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "start the program in the data directory, as PostgreSQL does",
                io::ErrorKind::ResourceBusy => "nothing but PostgreSQL may write into pg_wal",
                _ => "see that it is a file of WAL and that PostgreSQL's user can read it",
            };
            Error::file(path, &error, hint)
        })
    }
}

fn read(path: &Path, longest: u64, threads: usize) -> io::Result<Source> {
    let file = File::open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if before.len() > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {} bytes", before.len())));
    }
    let length = before.len() as usize;
    let mut bytes = zeros(length)?;
    let filled = fill(&file, &mut bytes, threads);
    let after = file.metadata()?;
    if state(&after) != state(&before) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it was changed while it was read"));
    }
    filled?;
    Ok(Source { bytes, modified: modified(&before) })
}

/// A buffer of zeros whose pages the system makes when they are first written to.
fn zeros(length: usize) -> io::Result<Vec<u8>> {
    // A refusal by the allocator would otherwise end the program with a signal, which restarts the archiver.
    Vec::<u8>::new().try_reserve_exact(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    Ok(vec![0; length])
}

/// Reads the file's beginning into all of `bytes`.
fn fill(file: &File, bytes: &mut [u8], threads: usize) -> io::Result<()> {
    let share = bytes.len().div_ceil(threads.max(1)).max(LEAST_PER_THREAD);
    thread::scope(|scope| {
        let mut parts = bytes.chunks_mut(share).enumerate();
        let first = parts.next();
        let read = move |(index, part): (usize, &mut [u8])| file.read_exact_at(part, (index * share) as u64);
        let helpers: Vec<_> = parts
            .map(|part| thread::Builder::new().spawn_scoped(scope, move || read(part)))
            .collect::<io::Result<_>>()?;
        first.map_or(Ok(()), read)?;
        helpers
            .into_iter()
            .try_for_each(|helper| helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn state(found: &Metadata) -> (u64, i64, i64) {
    (found.len(), found.mtime(), found.mtime_nsec())
}

/// Cut to whole microseconds, so that it is never later than the write.
fn modified(found: &Metadata) -> Timestamp {
    Timestamp(Timestamp::from_unix_seconds(found.mtime()).0.saturating_add(found.mtime_nsec() / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_with_the_time_of_its_last_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000002.history");
        fs::write(&path, "1\t0/5000000\tx\n").unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(946_684_801, 123_456_789);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let source = Source::read(&path, name(&path).unwrap(), 2).unwrap();
        assert_eq!(
            (source.bytes.as_slice(), source.modified),
            (&b"1\t0/5000000\tx\n"[..], Timestamp(1_123_456))
        );
    }

    #[test]
    fn several_threads_read_what_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000000010000000000000001");
        for length in [0, 1, LEAST_PER_THREAD, 3 * LEAST_PER_THREAD + 7] {
            let content: Vec<u8> = (0..length).map(|n| ((n * 7919) >> 8) as u8).collect();
            fs::write(&path, &content).unwrap();
            for threads in [1, 2, 16] {
                assert!(Source::read(&path, name(&path).unwrap(), threads).unwrap().bytes == content);
            }
        }
    }

    #[test]
    fn r22_what_cannot_be_read_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let history = folder.path().join("00000002.history");
        let segment = folder.path().join("000000010000000000000001");
        File::create(&history).unwrap().set_len(highwater_repository::MAX_SMALL_FILE_BYTES + 1).unwrap();
        fs::create_dir(&segment).unwrap();
        let missing = folder.path().join("000000010000000000000002");
        for path in [history, segment, missing] {
            let error = Source::read(&path, name(&path).unwrap(), 2).unwrap_err().to_string();
            assert!(error.contains("hint: ") && error.contains(path.to_str().unwrap()), "{error}");
        }
        for path in ["", "/", "pg_wal/..", "pg_wal/x", "pg_wal/00000001000000000000001"] {
            assert!(name(Path::new(path)).unwrap_err().to_string().contains("hint: "), "{path}");
        }
    }
}
