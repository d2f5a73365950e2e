//! The folder for the sockets, which only this user can enter.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::Fingerprint;

/// A folder that belongs to this user and that nobody else can enter.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// The one of this user: `highwater-UID` in the folder for temporary files, made where it is missing.
    ///
    /// # Errors
    /// Also when something else has its name: a link, a folder of somebody else or one that others may enter. It is not
    /// touched then.
    pub fn of_user() -> io::Result<Place> {
        Place::below(&std::env::temp_dir())
    }

    /// The same in another folder.
    ///
    /// # Errors
    /// As [`Place::of_user`].
    pub fn below(folder: &Path) -> io::Result<Place> {
        let user = rustix::process::geteuid().as_raw();
        let path = folder.join(format!("highwater-{user}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Not followed: whoever can put a link here could lead us anywhere.
        let found = fs::symlink_metadata(&path)?;
        if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
            let message = format!("{} is not a folder that only this user can enter", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(Place(path))
    }

    /// Where the worker of these settings listens.
    pub(crate) fn socket(&self, of: &Fingerprint) -> PathBuf {
        self.0.join(format!("{of}.sock"))
    }

    /// What that worker holds locked as long as it lives.
    pub(crate) fn lock(&self, of: &Fingerprint) -> PathBuf {
        self.0.join(format!("{of}.lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn r21_only_a_folder_of_our_own_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("highwater-{}", rustix::process::geteuid().as_raw());
        let path = folder.path().join(&name);
        Place::below(folder.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        Place::below(folder.path()).unwrap();

        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(Place::below(folder.path()).is_err(), "others may enter");
        fs::remove_dir(&path).unwrap();

        let elsewhere = folder.path().join("elsewhere");
        DirBuilder::new().mode(0o700).create(&elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(Place::below(folder.path()).is_err(), "a link");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(Place::below(folder.path()).is_err(), "a file");
        fs::remove_file(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(1), Some(1)).unwrap();
            assert!(Place::below(folder.path()).is_err(), "a folder of somebody else");
        }
        assert!(Place::below(&folder.path().join("missing")).is_err());
    }
}
