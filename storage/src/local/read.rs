//! Reading objects.

use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use rustix::buffer::spare_capacity;

use super::{Root, failure};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;

/// An object opened for reading. Objects never change, so its size is fixed.
#[derive(Debug)]
pub struct ObjectFile {
    key: Key,
    path: PathBuf,
    file: File,
    size: u64,
}

impl Root {
    pub(super) fn open(&self, key: &Key) -> Result<ObjectFile> {
        let path = self.file(key);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) = opened.map_err(|error| self.judge("get", key, error))?;
        self.check_is_file("get", key, &found)?;
        Ok(ObjectFile { key: key.clone(), path, file, size: found.len() })
    }

    pub(super) fn size(&self, key: &Key) -> Result<u64> {
        let found = fs::metadata(self.file(key)).map_err(|error| self.judge("look at", key, error))?;
        self.check_is_file("look at", key, &found)?;
        Ok(found.len())
    }

    /// The error for a failed opening: "not there" only when that is certain (R6).
    fn judge(&self, operation: &'static str, key: &Key, error: io::Error) -> Error {
        let path = self.file(key);
        if error.kind() != io::ErrorKind::NotFound {
            return failure::from_io(operation, key.as_str(), &path, error);
        }
        match self.confirm_missing(operation, key.as_str(), &path) {
            Ok(()) => Error::not_found(operation, key.as_str(), &self.url()),
            Err(error) => error,
        }
    }

    pub(super) fn check_is_file(&self, operation: &'static str, key: &Key, found: &Metadata) -> Result<()> {
        if found.is_file() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Invalid,
            operation,
            key.as_str(),
            format!(
                "{} is no file, so it is no object. hint: only highwater should write into the repository",
                self.file(key).display()
            ),
        ))
    }
}

impl ObjectFile {
    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The part of `range` that lies in the object.
    pub(super) fn cut(&self, range: Range<u64>) -> Result<Range<u64>> {
        if range.start >= self.size || range.is_empty() {
            return Err(Error::bad_range(self.key.as_str(), range.start, Some(self.size)));
        }
        Ok(range.start..range.end.min(self.size))
    }

    /// Reads `range`, which lies in the object.
    pub(super) fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let failed = |error| failure::from_io("get", self.key.as_str(), &self.path, error);
        let length = usize::try_from(range.end - range.start)
            .map_err(|_| failed(io::Error::from(rustix::io::Errno::NOMEM)))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| failed(io::Error::from(rustix::io::Errno::NOMEM)))?;
        // The allocator may give more room than asked for: what is read beyond the range is cut off again.
        while bytes.len() < length {
            let at = range.start + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(self.shortened(at)),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        bytes.truncate(length);
        Ok(bytes.into())
    }

    fn shortened(&self, at: u64) -> Error {
        Error::new(
            ErrorKind::Other,
            "get",
            self.key.as_str(),
            format!(
                "{} ended at byte {at} while it was read, though it had {} bytes. hint: nothing but highwater may \
                 change the repository; look at the machine's log for failures of the disk",
                self.path.display(),
                self.size
            ),
        )
    }
}
