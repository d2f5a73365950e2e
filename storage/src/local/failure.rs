//! What the system's errors mean for a store.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};

/// The error for a failed call of the system on `path`.
pub(super) fn from_io(
    operation: &'static str,
    key: impl Into<String>,
    path: &Path,
    error: io::Error,
) -> Error {
    let (kind, hint) = judge(&error);
    let message = format!("{}: {error}. hint: {hint}", path.display());
    Error::new(kind, operation, key, message).with_source(error)
}

/// The error for a place that isn't there though it must be.
pub(super) fn unmounted(
    operation: &'static str,
    key: impl Into<String>,
    path: &Path,
    what: &str,
    error: io::Error,
) -> Error {
    let message = format!(
        "{} {what}. hint: check the path, and that the file system is mounted; highwater init makes a new repository",
        path.display()
    );
    Error::new(ErrorKind::Invalid, operation, key, message).with_source(error)
}

fn judge(error: &io::Error) -> (ErrorKind, &'static str) {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
            (ErrorKind::NoSpace, "make room on the repository's file system, or raise the quota")
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            (ErrorKind::Denied, "let the user that runs highwater read and write the repository's folder")
        }
        Some(Errno::ROFS) => (ErrorKind::Denied, "mount the file system for writing"),
        Some(Errno::NOTDIR | Errno::ISDIR) => (
            ErrorKind::Invalid,
            "something in the way is not what highwater puts there; move it out of the repository",
        ),
        Some(Errno::XDEV) => (ErrorKind::Invalid, "the whole repository must lie on one file system"),
        Some(Errno::NAMETOOLONG | Errno::LOOP) => {
            (ErrorKind::Invalid, "use a shorter path for the repository")
        }
        Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => (
            ErrorKind::Invalid,
            "this file system lacks what a repository needs; use a local file system or NFS",
        ),
        // Whether a thing is missing was looked at before: it has gone since.
        Some(Errno::NOENT) => (ErrorKind::Unavailable, "somebody else deletes there; this passes"),
        Some(
            Errno::STALE
            | Errno::AGAIN
            | Errno::INTR
            | Errno::BUSY
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM,
        ) => (
            ErrorKind::Unavailable,
            "this passes; if it does not, look at the machine's limits and its mounts",
        ),
        Some(Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::NETUNREACH) => {
            (ErrorKind::Unavailable, "check the network file system's server")
        }
        _ => (ErrorKind::Other, "look at the machine's log for failures of the disk"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_system_errors() {
        let cases = [
            (Errno::NOSPC, ErrorKind::NoSpace),
            (Errno::DQUOT, ErrorKind::NoSpace),
            (Errno::ACCESS, ErrorKind::Denied),
            (Errno::ROFS, ErrorKind::Denied),
            (Errno::NOTDIR, ErrorKind::Invalid),
            (Errno::XDEV, ErrorKind::Invalid),
            (Errno::STALE, ErrorKind::Unavailable),
            (Errno::NOENT, ErrorKind::Unavailable),
            (Errno::IO, ErrorKind::Other),
        ];
        for (errno, kind) in cases {
            let error = from_io("get", "k", Path::new("/x"), io::Error::from(errno));
            assert_eq!(error.kind, kind, "{errno:?}");
            assert!(error.to_string().contains("/x: ") && error.to_string().contains("hint: "), "{error}");
        }
    }
}
