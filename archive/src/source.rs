//! The file that is to be archived.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use highwater_repository::{Content, FileContent};
use highwater_wal::{Timestamp, WalFile};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The largest segment that PostgreSQL can have.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// As much is read at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// As much of a file as tells what it is: more than the first page's header has.
const BEGINNING_BYTES: u64 = 64;

/// Longer than a tick of any file system's clock that counts whole seconds.
const LONGEST_TICK: Duration = Duration::from_secs(2);
/// Longer than a tick of the kernel's clock, which other file systems go by (4 to 10 ms on Linux).
const LONGEST_FINE_TICK: Duration = Duration::from_millis(100);

/// A file of WAL as it lies in `pg_wal`. It is read block by block while it is checked and compressed: once, and once more for
/// each further way of compressing that the repositories want.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    content: FileContent,
    found: (u64, i64, i64),
    /// Its first bytes.
    pub beginning: Vec<u8>,
    /// When it was last written to, by the server's clock.
    pub modified: Timestamp,
    /// Which file it was, in which state, when it was opened.
    pub stamp: Stamp,
}

/// Which file, and in which state: what changes whenever a file is put in another's place or written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Stamp {
        Stamp {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether a file that has this stamp still has the content that was read from `read_at` on.
    ///
    /// Each write and each renaming sets the time of the last change, which nobody can set at will. It is told apart only from
    /// times of another tick of the file system's clock, so a file that was changed just before it was read may have been
    /// changed again in the same tick.
    pub fn proves_content(&self, read_at: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let is_fine = nanoseconds != 0 && self.modified.1 != 0;
        let tick = if is_fine { LONGEST_FINE_TICK } else { LONGEST_TICK };
        let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let since_1970 = read_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i128::try_from(since_1970.as_nanos())
            .is_ok_and(|read_at| changed + (tick.as_nanos() as i128) < read_at)
    }
}

/// Which file `path` names.
pub fn name(path: &Path) -> Result<WalFile, Error> {
    Ok(path.file_name().unwrap_or_default().to_string_lossy().parse()?)
}

impl Source {
    /// Opens the file.
    pub fn open(path: &Path, file: WalFile) -> Result<Source, Error> {
        let longest = match file {
            WalFile::Segment(_) | WalFile::Partial(_) => MAX_SEGMENT_BYTES,
            WalFile::History(_) | WalFile::BackupLabel { .. } => highwater_repository::MAX_SMALL_FILE_BYTES,
        };
        open(path, longest).map_err(|error| failed(path, &error))
    }

    /// What is in it.
    pub fn content(&self) -> &FileContent {
        &self.content
    }

    /// Shows it to `watch`, block by block.
    pub fn show(&self, mut watch: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut buffer = Vec::new();
        let length = self.content.length();
        let blocks = (0..length).step_by(BLOCK_BYTES);
        let read = blocks
            .map(|offset| (offset, (length - offset).min(BLOCK_BYTES as u64) as usize))
            .try_for_each(|(offset, length)| self.content.block(offset, length, &mut buffer).map(&mut watch));
        self.read(read)
    }

    /// The answer to reading its content, which counts only if the file is still as it was found.
    pub fn read<T>(&self, answer: io::Result<T>) -> Result<T, Error> {
        let after = self.content.file().metadata().map_err(|error| failed(&self.path, &error))?;
        if state(&after) != self.found {
            return Err(self.changed());
        }
        answer.map_err(|error| failed(&self.path, &error))
    }

    /// The error for a file that is not what it was a moment ago.
    pub fn changed(&self) -> Error {
        failed(&self.path, &io::Error::new(io::ErrorKind::ResourceBusy, "it was changed while it was read"))
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "start the program in the data directory, as PostgreSQL does",
        io::ErrorKind::ResourceBusy => "nothing but PostgreSQL may write into pg_wal",
        _ => "see that it is a file of WAL and that PostgreSQL's user can read it",
    };
    Error::file(path, error, hint)
}

fn open(path: &Path, longest: u64) -> io::Result<Source> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if found.len() > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {} bytes", found.len())));
    }
    let mut beginning = vec![0; found.len().min(BEGINNING_BYTES) as usize];
    file.read_exact_at(&mut beginning, 0)?;
    let content = FileContent::new(file, found.len());
    let (state, modified, stamp) = (state(&found), modified(&found), Stamp::of(&found));
    Ok(Source { path: path.to_owned(), content, found: state, beginning, modified, stamp })
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
        let source = Source::open(&path, name(&path).unwrap()).unwrap();
        assert_eq!(source.modified, Timestamp(1_123_456));
        assert_eq!(source.beginning, b"1\t0/5000000\tx\n");
        let mut shown = Vec::new();
        source.show(|block| shown.extend_from_slice(block)).unwrap();
        assert_eq!(shown, source.beginning);
        fs::write(&path, "1\t0/5000000\ty\n").unwrap();
        assert!(source.show(|_| {}).unwrap_err().to_string().contains("was changed"));
    }

    #[test]
    fn a_stamp_tells_files_and_their_states_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000002.history");
        let stamp = |content: &str| {
            fs::write(&path, content).unwrap();
            Source::open(&path, name(&path).unwrap()).unwrap().stamp
        };
        let first = stamp("1\t0/5000000\tx\n");
        assert_eq!(Source::open(&path, name(&path).unwrap()).unwrap().stamp, first);
        let aside = folder.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        let second = stamp("1\t0/5000000\tx\n");
        assert_ne!(second, first, "another file of the same name and content");
        let now = SystemTime::now();
        assert!(!second.proves_content(now), "it may be written again in this very moment");
        assert!(second.proves_content(now + std::time::Duration::from_secs(4)));
        assert!(!second.proves_content(SystemTime::UNIX_EPOCH), "by a clock that was set back");
        for (nanoseconds, milliseconds, expected) in
            [(7, 50, false), (7, 150, true), (0, 150, false), (0, 1_900, false), (0, 2_100, true)]
        {
            let stamp = Stamp { modified: (9, nanoseconds), changed: (9, nanoseconds), ..second };
            let read_at = SystemTime::UNIX_EPOCH + Duration::from_millis(9_000 + milliseconds);
            assert_eq!(stamp.proves_content(read_at), expected, "{nanoseconds} {milliseconds}");
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
            let error = Source::open(&path, name(&path).unwrap()).unwrap_err().to_string();
            assert!(error.contains("hint: ") && error.contains(path.to_str().unwrap()), "{error}");
        }
        for path in ["", "/", "pg_wal/..", "pg_wal/x", "pg_wal/00000001000000000000001"] {
            assert!(name(Path::new(path)).unwrap_err().to_string().contains("hint: "), "{path}");
        }
    }
}
