//! What the data directory, the current folder, says: which cluster it is, and whether it is a standby.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use highwater_repository::Marker;
use highwater_wal::SystemId;

use crate::error::Error;

/// Whether the server follows another one and so asks again for what it did not get. A recovery that ends where the
/// archive ends is none. What cannot be looked at counts as none, since that is told more strictly (R6).
pub fn is_standby(folder: &Path) -> bool {
    folder.join("standby.signal").try_exists().unwrap_or(false)
}

/// Whether a server runs and applies WAL from an archive: PostgreSQL removes a signal file when it opens, and `postmaster.pid`
/// when it ends. What cannot be looked at counts as no.
pub fn is_recovering(folder: &Path) -> bool {
    let is_there = |name: &str| folder.join(name).try_exists().unwrap_or(false);
    is_there("postmaster.pid") && ["standby.signal", "recovery.signal"].into_iter().any(is_there)
}

/// Whether the server is the first process of its machine, as in a container: then whatever is orphaned becomes its
/// child, and it takes the end of one by a signal for that of a backend and restarts (`CleanupBackend`, `postmaster.c`,
/// PostgreSQL 15).
pub fn server_inherits_orphans(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("postmaster.pid"));
    text.is_ok_and(|text| text.lines().next() == Some("1"))
}

/// What the restore that made the data directory has left about its origin.
pub fn marker(folder: &Path) -> Result<Option<Marker>, Error> {
    Ok(Marker::read(folder)?)
}

/// The system identifier: the first field of `global/pg_control` (`pg_control.h`). `None` where there is no such file.
pub fn system_id(folder: &Path) -> Result<Option<SystemId>, Error> {
    let path = control_file(folder);
    let mut first = [0; 8];
    match File::open(&path).and_then(|mut file| file.read_exact(&mut first)) {
        Ok(()) => Ok(Some(SystemId(u64::from_le_bytes(first)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::file(&path, &error, "start the program as the user that PostgreSQL runs as"))
        }
    }
}

fn control_file(folder: &Path) -> PathBuf {
    folder.join("global/pg_control")
}

/// The system identifier by all that tells it. The marker and `pg_control` must agree: `pg_control` is a copy of the
/// origin's.
pub fn agree(marker: Option<SystemId>, control: Option<SystemId>) -> Result<Option<SystemId>, Error> {
    match (marker, control) {
        (Some(marker), Some(control)) if marker != control => Err(Error::TwoSystems { marker, control }),
        (marker, control) => Ok(control.or(marker)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_control_file_begins_with_the_system_identifier() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(system_id(folder.path()).unwrap(), None);
        fs::create_dir(folder.path().join("global")).unwrap();
        fs::write(control_file(folder.path()), [1, 2, 0, 0, 0, 0, 0, 0, 99]).unwrap();
        assert_eq!(system_id(folder.path()).unwrap(), Some(SystemId(0x201)));
        fs::write(control_file(folder.path()), [1, 2, 3]).unwrap();
        assert!(system_id(folder.path()).unwrap_err().to_string().contains("hint: "));
    }

    #[test]
    fn r06_only_the_signal_file_makes_a_standby() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_standby(folder.path()));
        fs::write(folder.path().join("recovery.signal"), "").unwrap();
        assert!(!is_standby(folder.path()));
        fs::write(folder.path().join("standby.signal"), "").unwrap();
        assert!(is_standby(folder.path()));
        assert!(!is_standby(&folder.path().join("recovery.signal")), "a folder that cannot be looked into");
    }

    #[test]
    fn a_recovery_is_one_of_a_server_that_runs() {
        for signal in ["standby.signal", "recovery.signal"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(signal), "").unwrap();
            assert!(!is_recovering(folder.path()), "{signal}: nothing runs");
            fs::write(folder.path().join("postmaster.pid"), "7\n").unwrap();
            assert!(is_recovering(folder.path()), "{signal}");
            fs::remove_file(folder.path().join(signal)).unwrap();
            assert!(!is_recovering(folder.path()), "{signal}: it has opened");
        }
    }

    #[test]
    fn a_server_that_is_the_first_process_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!server_inherits_orphans(folder.path()));
        for (text, expected) in [("1\n/data\n", true), ("12\n/data\n", false), ("", false)] {
            fs::write(folder.path().join("postmaster.pid"), text).unwrap();
            assert_eq!(server_inherits_orphans(folder.path()), expected, "{text:?}");
        }
    }

    #[test]
    fn marker_and_control_file_must_agree() {
        let (one, two) = (Some(SystemId(1)), Some(SystemId(2)));
        for (marker, control, expected) in
            [(None, None, None), (one, None, one), (None, two, two), (one, one, one)]
        {
            assert_eq!(agree(marker, control).unwrap(), expected);
        }
        assert!(agree(one, two).unwrap_err().to_string().contains("hint: "));
    }
}
