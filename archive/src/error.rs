//! Why a file was not archived.

use std::path::{Path, PathBuf};

use highwater_repository::Different;
use highwater_wal::{SystemId, WalFile};

/// Everything that keeps a file from being archived, but for what each repository answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong, or a repository failed.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),
    /// The name or the content isn't what PostgreSQL archives.
    #[error(transparent)]
    Wal(#[from] highwater_wal::Error),
    /// A repository has other content under the file's name (R3).
    #[error(
        "{repository} has other content under this name: {there}{by}, and here are {here}; nothing was changed, and PostgreSQL keeps its file meanwhile; hint: find out whether two servers write this timeline (a copy of the machine, a failover without fencing) and stop the wrong one; to see the difference run highwater-restore-cmd --cluster {cluster} --system-id {system_id} {file} /tmp/{file} and compare the two files, segments with pg_waldump",
        there = different.there, here = different.here, by = put_by(different)
    )]
    Different {
        /// The repository.
        repository: String,
        /// The cluster.
        cluster: String,
        /// Its system identifier.
        system_id: SystemId,
        /// The file.
        file: WalFile,
        /// Both contents.
        different: Box<Different>,
    },
    /// The segment isn't what it must be (R4).
    #[error(transparent)]
    Refused(#[from] highwater_wal::Refusal),
    /// A backup label speaks of another segment.
    #[error(
        "its first line does not say that the backup starts in {0}; hint: it was changed or belongs to another name; PostgreSQL keeps it, and no restore needs it"
    )]
    BackupLabel(highwater_wal::SegmentName),
    /// The system gives no thread, or no runtime.
    #[error(
        "cannot start a thread: {0}; hint: this passes; if it does not, look at the limits of PostgreSQL's user"
    )]
    Thread(std::io::Error),
    /// The worker has no socket, no process.
    #[error(
        "the worker cannot work: {0}; hint: the command does without; look at the limits of PostgreSQL's user"
    )]
    Worker(std::io::Error),
    /// A file was not put because the one before it was not.
    #[error("the file before it could not be archived; hint: see what was said of that")]
    NotItsTurn,
    /// A file or folder of the server cannot be read.
    #[error("{path}: {message}; hint: {hint}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// The file belongs to another data directory than the configured one.
    #[error(
        "{found} is not the data directory of cluster {cluster}, which is {configured}; hint: name the right cluster with --cluster, or correct data-directory in the configuration",
        found = found.display(), configured = configured.display()
    )]
    OtherFolder {
        /// The cluster.
        cluster: String,
        /// Its data directory by the configuration.
        configured: PathBuf,
        /// The one that the file lies in.
        found: PathBuf,
    },
    /// The data directory is a restored clone (R5).
    #[error(
        "this server is a clone of cluster {cluster}, restored at {restored_at}, and must not archive into its archive; hint: set archive_mode = off, or run highwater adopt if this server is to live on as a cluster of its own"
    )]
    Clone {
        /// What it was restored from.
        cluster: String,
        /// When.
        restored_at: highwater_wal::Timestamp,
    },
    /// A history that is not all of one.
    #[error(
        "this is not the whole history of timeline {0}: it has no line for the timeline before, or its last line has no end; hint: look at the file; PostgreSQL writes it at a promotion, and any server of the timeline has it"
    )]
    CutHistory(highwater_wal::TimelineId),
    /// Nothing tells which cluster the file belongs to.
    #[error(
        "nothing tells which cluster this file belongs to: {} is missing, and it is no segment; hint: start the program in the data directory, as PostgreSQL does",
        .0.display()
    )]
    NoSystemId(PathBuf),
    /// The segments of the cluster have another size.
    #[error(
        "cluster {cluster} with system identifier {system_id} has segments of {known} bytes in the repository, and this one has {found}; hint: after pg_resetwal --wal-segsize it is archived under another name: write a new [cluster.NAME] and run highwater init"
    )]
    SegmentSize {
        /// The cluster.
        cluster: String,
        /// Its system identifier.
        system_id: SystemId,
        /// By `cluster.json`.
        known: u64,
        /// By the segment's header.
        found: u64,
    },
}

/// Who came first, where that can be told: of an encrypted object only those can who hold an identity.
fn put_by(different: &Different) -> String {
    let by = different.archived.as_ref();
    by.map_or_else(String::new, |by| format!(" (archived by host {} at {})", by.host, by.time))
}

impl Error {
    /// A failure of the operating system.
    pub(crate) fn file(path: &Path, error: &std::io::Error, hint: &'static str) -> Error {
        Error::File { path: path.to_owned(), message: error.to_string(), hint }
    }
}
