//! The file that is to be archived, read once.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use highwater_wal::{Timestamp, WalFile};

use crate::error::Error;

/// The largest segment that PostgreSQL can have.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

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
    /// Reads the file.
    pub fn read(path: &Path, file: WalFile) -> Result<Source, Error> {
        let longest = match file {
            WalFile::Segment(_) | WalFile::Partial(_) => MAX_SEGMENT_BYTES,
            WalFile::History(_) | WalFile::BackupLabel { .. } => highwater_repository::MAX_SMALL_FILE_BYTES,
        };
        read(path, longest).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "start the program in the data directory, as PostgreSQL does",
                io::ErrorKind::ResourceBusy => "nothing but PostgreSQL may write into pg_wal",
                _ => "see that it is a file of WAL and that PostgreSQL's user can read it",
            };
            Error::file(path, &error, hint)
        })
    }
}

fn read(path: &Path, longest: u64) -> io::Result<Source> {
    let mut file = File::open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if before.len() > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {} bytes", before.len())));
    }
    let length = before.len() as usize;
    let mut bytes = Vec::new();
    // A refusal by the allocator would otherwise end the program with a signal, which restarts the archiver.
    bytes.try_reserve_exact(length + 1).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    (&mut file).take(length as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() != length || state(&file.metadata()?) != state(&before) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it was changed while it was read"));
    }
    Ok(Source { bytes, modified: modified(&before) })
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
        let source = Source::read(&path, name(&path).unwrap()).unwrap();
        assert_eq!(
            (source.bytes.as_slice(), source.modified),
            (&b"1\t0/5000000\tx\n"[..], Timestamp(1_123_456))
        );
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
            let error = Source::read(&path, name(&path).unwrap()).unwrap_err().to_string();
            assert!(error.contains("hint: ") && error.contains(path.to_str().unwrap()), "{error}");
        }
        for path in ["", "/", "pg_wal/..", "pg_wal/x", "pg_wal/00000001000000000000001"] {
            assert!(name(Path::new(path)).unwrap_err().to_string().contains("hint: "), "{path}");
        }
    }
}
