//! What can go wrong in a restore.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a restore was refused or broke off. Each message names the object and ends in what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something in the repository could not be read.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),

    /// A file's content could not be had from the repository.
    #[error("{path} cannot be restored: {source}")]
    Content {
        /// The file, relative to the data directory.
        path: String,
        /// Why.
        source: Box<highwater_repository::Error>,
    },

    /// What the manifest of a backup says cannot be, or does not fit the plan. Nothing that it says was followed.
    #[error(
        "the manifest of backup {label} is damaged: {reason}; hint: restore from another backup: highwater list, then --backup LABEL"
    )]
    Manifest {
        /// The backup.
        label: String,
        /// What is wrong.
        reason: String,
    },

    /// The folder to restore into, or one of a tablespace, will not do. Nothing in it was changed (R13).
    #[error("{} {reason}; hint: {hint}", .folder.display())]
    Target {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        reason: String,
        /// What to do.
        hint: String,
    },

    /// An option cannot be what it is.
    #[error("{option}: {reason}; hint: {hint}")]
    Option {
        /// The option, as on the command line.
        option: &'static str,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },

    /// A file or folder on this machine could not be read or written.
    #[error("cannot {operation} {}: {source}; hint: {hint}", .path.display(), hint = io_hint(.source))]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },

    /// A thread of this program failed.
    #[error("a thread of the restore ended early: {0}; hint: run the restore again with --resume")]
    Thread(String),
}

impl Error {
    /// For `map_err` on a call about `path`.
    pub(crate) fn file(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::File { operation, path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn target(
        folder: impl AsRef<Path>,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        Error::Target { folder: folder.as_ref().to_owned(), reason: reason.into(), hint: hint.into() }
    }

    /// Whether it is what the user asked for that will not do: an option, or the folder to restore into.
    pub fn is_usage(&self) -> bool {
        matches!(self, Error::Option { .. } | Error::Target { .. })
    }

    /// Whether something in the repository is damaged or missing.
    pub fn is_damaged(&self) -> bool {
        match self {
            Error::Manifest { .. } => true,
            Error::Repository(source) => source.is_damaged() || source.is_not_found(),
            Error::Content { source, .. } => source.is_damaged() || source.is_not_found(),
            _ => false,
        }
    }
}

fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there and go on with --resume, or restore to a larger disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "run the restore as root or as the user the server will run as, with the right to write there"
        }
        _ => "see to the disk, then go on with --resume",
    }
}
