//! Why a file was not handed over.

use std::path::{Path, PathBuf};

use highwater_wal::SystemId;

use crate::exit::Exit;

/// Everything that keeps a file from being handed over, but for "not there".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0}; hint: highwater-restore-cmd --help shows how it is called")]
    Usage(String),
    /// The configuration is wrong, or a repository failed.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),
    /// A name isn't what it should be.
    #[error(transparent)]
    Wal(#[from] highwater_wal::Error),
    /// A segment isn't what its name says (R7).
    #[error("what {repository} has under this name is another segment: {refusal}")]
    OtherSegment {
        /// The repository.
        repository: String,
        /// How it was seen.
        refusal: highwater_wal::Refusal,
    },
    /// The file is missing though its timeline went on behind it (R6).
    #[error(
        "it is missing in {repository}, while {shown_by}; hint: do not go on without it: look for it in pg_wal of the cluster and its standbys and archive it, or restore to a moment before it, see highwater window"
    )]
    Hole {
        /// The repository.
        repository: String,
        /// How it is known that the timeline went on.
        shown_by: String,
    },
    /// The data directory says two things about itself.
    #[error(
        "highwater.clone says that this is a copy of the cluster with system identifier {marker}, and global/pg_control that it is {control}; hint: a data directory keeps its highwater.clone until highwater adopt; see which of the two files was copied here"
    )]
    TwoSystems {
        /// By the marker of the restore.
        marker: SystemId,
        /// By `pg_control`.
        control: SystemId,
    },
    /// Nothing tells which of a cluster's system identifiers is meant.
    #[error(
        "cluster {cluster} has {count} system identifiers in {repository}, and global/pg_control does not tell which; hint: start the program in the data directory, as PostgreSQL does, or name it with --system-id"
    )]
    WhichSystem {
        /// The cluster.
        cluster: String,
        /// How many there are.
        count: usize,
        /// The repository.
        repository: String,
    },
    /// The system gives no runtime.
    #[error("cannot start the runtime: {0}; hint: look at the limits of PostgreSQL's user")]
    Runtime(std::io::Error),
    /// The worker has no socket, no process.
    #[error(
        "the worker cannot work: {0}; hint: the command does without; look at the limits of PostgreSQL's user"
    )]
    Worker(std::io::Error),
    /// A file of the data directory cannot be read or written.
    #[error("{path}: {message}; hint: {hint}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        message: String,
        /// What to do.
        hint: &'static str,
    },
}

impl Error {
    /// A failure of the operating system.
    pub fn file(path: &Path, error: &std::io::Error, hint: &'static str) -> Error {
        Error::File { path: path.to_owned(), message: error.to_string(), hint }
    }

    /// Whether asking again may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Repository(error) if error.is_passing())
    }

    /// How the program ends with it where nothing else counts.
    pub fn exit(&self) -> Exit {
        use highwater_repository::Error as Inner;
        match self {
            Error::Usage(_) | Error::Wal(_) | Error::TwoSystems { .. } | Error::WhichSystem { .. } => {
                Exit::Usage
            }
            Error::Repository(error) if error.is_damaged() => Exit::Damaged,
            Error::Repository(error) if error.is_config() => Exit::Usage,
            Error::Repository(Inner::Name { .. }) => Exit::Usage,
            Error::OtherSegment { .. } | Error::Hole { .. } => Exit::Damaged,
            Error::Repository(_) | Error::Runtime(_) | Error::Worker(_) | Error::File { .. } => Exit::Failed,
        }
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Error {
        Error::Usage(error.to_string())
    }
}
