//! What can go wrong in a base backup.

use std::time::Duration;

use highwater_repository::Label;
use highwater_wal::{Lsn, SegmentName};

use crate::server_manifest::{self, Difference};
use crate::tar;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no complete backup. What was put before stays in the repository and means nothing: no manifest names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server, or the way to it.
    #[error(transparent)]
    Server(#[from] highwater_replication::Error),

    /// The server found damaged pages while it sent them, so the backup would hold the damage too.
    #[error(
        "{source}; {pages}no backup was made; hint: restore the damaged relation from an older backup, or rebuild it \
         (REINDEX for an index); to save what is left as it is: highwater backup --no-verify-checksums"
    )]
    DamagedPages {
        /// What the server warned of, as far as it did.
        pages: String,
        /// The server's error.
        source: highwater_replication::Error,
    },

    /// The repository.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),

    /// The server, or what is set there, does not serve for a backup.
    #[error("{reason}; hint: {hint}")]
    Unfit {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: &'static str,
    },

    /// Archives that are none.
    #[error("the archive of {place} that the server sent cannot be read: {fault}; hint: {RETRY_HINT}")]
    Archive {
        /// The data directory, or which tablespace.
        place: String,
        /// What is wrong.
        fault: tar::Fault,
    },

    /// The server's backup manifest is none.
    #[error("the backup_manifest that the server sent is not right: {0}; hint: {RETRY_HINT}")]
    ServerManifest(#[source] server_manifest::Fault),

    /// What was received is not what the server's backup manifest lists (R9).
    #[error(
        "what the server sent is not what its backup_manifest lists ({sent} files sent, {listed} listed): {}; hint: {RETRY_HINT}",
        List(.differences)
    )]
    Mismatch {
        /// Files received.
        sent: u64,
        /// Files listed.
        listed: u64,
        /// Some of the differences.
        differences: Vec<Difference>,
    },

    /// Retention has marked this very backup as abandoned while it was being made.
    #[error(
        "backup {label} took so long that highwater expire has given it up; hint: raise abandoned-after in [retention] above what a \
         backup takes, and run the backup again"
    )]
    GivenUp {
        /// Its name.
        label: Label,
    },

    /// The server contradicts itself, or what was asked of it.
    #[error("the server says {what}; hint: {RETRY_HINT}")]
    Contradiction {
        /// What does not fit.
        what: String,
    },

    /// A segment that the backup needs did not come into the archive.
    #[error(
        "the backup needs segment {segment}, and for {} s no segment that it needs has come into {repository}; {archiver}; hint: \
         look at pg_stat_archiver, at the server's log and at archive_command, mend it, and run the backup again{more}",
        .waited.as_secs()
    )]
    WalMissing {
        /// The first that is missing.
        segment: String,
        /// Where it was looked for.
        repository: String,
        /// How long nothing came.
        waited: Duration,
        /// What the server says of its archiver.
        archiver: String,
        /// What else helps.
        more: &'static str,
    },

    /// The WAL in the archive is not that of this backup.
    #[error(
        "segment {segment} in the archive does not belong to this backup: {reason}; hint: find out whether two servers write \
         this timeline (a copy of the machine, a failover without fencing); highwater status tells who archived what"
    )]
    WrongWal {
        /// The segment.
        segment: SegmentName,
        /// What is wrong.
        reason: String,
    },

    /// The WAL ends before the backup does.
    #[error(
        "the WAL in the archive ends at {end}, and the backup needs it up to {needed}; hint: {RETRY_HINT}"
    )]
    WalEnds {
        /// Where its last record ends.
        end: Lsn,
        /// Where the backup ends.
        needed: Lsn,
    },

    /// Temporary files.
    #[error(
        "a temporary file cannot be used: {0}; hint: see that there is space in the folder for temporary files (TMPDIR)"
    )]
    Scratch(#[from] std::io::Error),

    /// The backup was told to stop.
    #[error(
        "the backup was stopped; hint: it is shown as unfinished, and the next one is none the worse for it"
    )]
    Interrupted,

    /// A fault of this program.
    #[error("{0} in the midst of the backup; hint: this is a fault of the program: report it")]
    Internal(&'static str),
}

const RETRY_HINT: &str =
    "run the backup again; if it happens again, look at the server's log and at the network";

impl From<server_manifest::Fault> for Error {
    fn from(fault: server_manifest::Fault) -> Error {
        match fault {
            server_manifest::Fault::Io(error) => Error::Scratch(error),
            other => Error::ServerManifest(other),
        }
    }
}

/// The first few of many.
struct List<'a>(&'a [Difference]);

/// Differences that are named in a message.
const NAMED: usize = 5;

impl std::fmt::Display for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, difference) in self.0.iter().take(NAMED).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{difference}")?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, ", and {more} more at least"),
        }
    }
}
