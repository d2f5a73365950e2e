//! The file in a restored data directory that says where it came from, and whether it may archive (R5).
//!
//! A clone has it from before its first byte until `highwater adopt`. The archive command looks for it in the data
//! directory and refuses to archive while it says [`Kind::Clone`]: a test copy must not write into production's archive.
//! It guards only what it lies beside; a copy made without it is stopped by R3 and by its timeline.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use highwater_wal::{SystemId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::names::{ClusterName, EventId};
use crate::{Error, Result};

/// The file's name within the data directory.
pub const FILE_NAME: &str = "highwater.clone";

/// What a longer file than this cannot be.
const MAX_BYTES: u64 = 64 << 10;

/// What the restored cluster is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A copy beside the original: it must not archive.
    Clone,
    /// The cluster itself, which goes on archiving where it did.
    Takeover,
}

/// What the file says, as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Marker {
    /// Version of these fields: 1.
    pub version: u32,
    /// Copy, or the cluster itself.
    pub kind: Kind,
    /// The restored cluster's name in the repository.
    pub cluster: ClusterName,
    /// Its system identifier.
    pub system_id: SystemId,
    /// Which restore made it.
    pub restore_id: EventId,
    /// When, by the restoring host's clock.
    pub restored_at: Timestamp,
    /// What was asked for, in words, such as `--at 2026-01-31 23:59:59+00`.
    pub target: String,
}

impl Marker {
    /// The version of the fields that this program writes.
    pub const VERSION: u32 = 1;

    /// Whether the data directory must not archive.
    pub fn forbids_archiving(&self) -> bool {
        self.kind == Kind::Clone
    }

    /// What the data directory says; `None` where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read or understood is an error, not "no marker": whatever made it wanted archiving to stop.
    pub fn read(data_directory: &Path) -> Result<Option<Marker>> {
        let path = path(data_directory);
        let failed = |message: String| Error::File {
            path: path.display().to_string(),
            message,
            hint: "a restored clone keeps this file until highwater adopt; remove it only if this cluster may archive",
        };
        let content = match fs::metadata(&path).and_then(|facts| {
            if facts.len() > MAX_BYTES { Err(io::ErrorKind::InvalidData.into()) } else { fs::read(&path) }
        }) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        serde_json::from_slice(&content).map(Some).map_err(|error| failed(error.to_string()))
    }

    /// Writes the file and syncs it and its folder. One that is there is replaced.
    pub fn write(&self, data_directory: &Path) -> Result<()> {
        let path = path(data_directory);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(data_directory)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(data_directory)?.sync_all()
        };
        write().map_err(|error| cannot("write", &path, &error))
    }

    /// Removes the file, so that the cluster may archive; a success where there is none.
    pub fn remove(data_directory: &Path) -> Result<()> {
        let path = path(data_directory);
        match fs::remove_file(&path).and_then(|()| File::open(data_directory)?.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", &path, &error)),
            _ => Ok(()),
        }
    }
}

fn path(data_directory: &Path) -> PathBuf {
    data_directory.join(FILE_NAME)
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Error {
    Error::File {
        path: path.display().to_string(),
        message: format!("cannot {verb} it: {error}"),
        hint: "see that the data directory is there and belongs to this user",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(kind: Kind) -> Marker {
        Marker {
            version: Marker::VERSION,
            kind,
            cluster: "main".parse().unwrap(),
            system_id: SystemId(7),
            restore_id: EventId::random(),
            restored_at: Timestamp(1),
            target: "--latest".to_owned(),
        }
    }

    #[test]
    fn r05_a_clone_is_marked_until_it_is_adopted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Marker::read(folder.path()).unwrap(), None);
        Marker::remove(folder.path()).unwrap();
        for (kind, forbids) in [(Kind::Clone, true), (Kind::Takeover, false)] {
            let written = marker(kind);
            written.write(folder.path()).unwrap();
            let read = Marker::read(folder.path()).unwrap().unwrap();
            assert_eq!((&read, read.forbids_archiving()), (&written, forbids));
        }
        Marker::remove(folder.path()).unwrap();
        assert_eq!(Marker::read(folder.path()).unwrap(), None);
    }

    #[test]
    fn r05_a_marker_that_cannot_be_understood_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        for content in [&b""[..], b"{}", b"\xff", &[b' '; 100_000]] {
            fs::write(folder.path().join(FILE_NAME), content).unwrap();
            let error = Marker::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("hint: "), "{error}");
        }
        fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join(FILE_NAME)).unwrap();
        Marker::read(folder.path()).unwrap_err();
    }
}
