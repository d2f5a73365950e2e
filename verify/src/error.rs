//! Why a verification could not be carried through. What it found is none of these: that is in its report.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verification could not be carried through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository could not be read: what it holds is not known.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),

    /// Objects are encrypted and there is nothing to open them with.
    #[error(
        "{url} is encrypted and there is no identity at hand: what its objects hold cannot be proven; hint: set identity-file or \
         passphrase-file in [repository], or ask with --without-identity for what can be told without"
    )]
    NoIdentity {
        /// The repository.
        url: String,
    },

    /// What was asked for does not fit together, or is not there.
    #[error("{what}; hint: {hint}")]
    Options {
        /// What does not fit.
        what: String,
        /// What to do.
        hint: &'static str,
    },

    /// A temporary file.
    #[error(
        "a temporary file in {}: {source}; hint: it takes about 80 bytes for each 32 KiB that backups hold; name another folder in TMPDIR", .folder.display()
    )]
    Scratch {
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// A part of the work ended without an answer.
    #[error(
        "a part of the verification ended without an answer: {0}; hint: this is a fault of the program: report it"
    )]
    Internal(String),
}
