//! What can go wrong, and what each kind means to a caller.

use crate::store::MAX_OBJECT_BYTES;

/// Result of a call to a store.
pub type Result<T> = std::result::Result<T, Error>;

/// What an error means to the caller, the same for every backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store has answered, for certain, that there is no object of this name. Never said of a missing bucket
    /// or repository folder, of a proxy's "404", or where the right to know is missing (R6).
    NotFound,
    /// The store refuses: credentials, rights, a bucket that isn't there, a read-only file system.
    Denied,
    /// The store is full, or a quota is used up. Nothing was left behind.
    NoSpace,
    /// The request cannot be right: a bad setting, a range past the end, a name that is a folder of others,
    /// a repository folder that does not exist.
    Invalid,
    /// The store can't be reached or can't answer now. Passing.
    Unavailable,
    /// The store did not answer within the time limit. Passing. A put may have happened.
    TimedOut,
    /// The store does not keep the promise of put-if-absent (R2).
    Unsafe,
    /// Anything else: an answer that can't be understood, a disk that fails.
    Other,
}

impl ErrorKind {
    /// Whether the same request may well succeed later.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut)
    }
}

/// A failed call to a store.
///
/// Its text names the operation, the object and the reason and ends with what to do; it never holds a secret (R21).
#[derive(Debug, thiserror::Error)]
#[error("{operation} {key}: {message}")]
pub struct Error {
    /// What the failure means.
    pub kind: ErrorKind,
    /// The call, as a verb: `put`, `get`, `list`, `open`, …
    pub operation: &'static str,
    /// The object's key, or the prefix of a listing, or the URL where the whole store is meant.
    pub key: String,
    /// The reason, ending in a hint.
    pub message: String,
    /// The failure below, where there is one.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without one below it. `message` should end in `hint: …`.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, operation, key: key.into(), message: message.into(), source: None }
    }

    /// The same with the failure that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the same request may well succeed later.
    pub fn is_passing(&self) -> bool {
        self.kind.is_passing()
    }

    /// Whether the store has answered that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// The error of a get on an object that is not there.
    pub(crate) fn not_found(operation: &'static str, key: impl Into<String>, store: &str) -> Self {
        Self::new(
            ErrorKind::NotFound,
            operation,
            key,
            format!(
                "{store} has no object of this name. hint: list what is there, and compare the cluster's name"
            ),
        )
    }

    /// The error of an object too large to be put or read whole.
    pub(crate) fn too_large(operation: &'static str, key: impl Into<String>, size: u64) -> Self {
        Self::new(
            ErrorKind::Invalid,
            operation,
            key,
            format!(
                "{size} bytes are more than an object may have ({MAX_OBJECT_BYTES}). hint: only highwater should write \
                 into the repository"
            ),
        )
    }

    /// The error of a range that does not begin inside its object.
    pub(crate) fn bad_range(key: impl Into<String>, start: u64, size: Option<u64>) -> Self {
        let size = size.map_or_else(String::new, |size| format!(", which has {size} bytes"));
        Self::new(
            ErrorKind::Invalid,
            "get",
            key,
            format!(
                "the range begins at byte {start}, not inside the object{size}. hint: the object is shorter than it should be; see whether another copy of the repository has it whole"
            ),
        )
    }
}
