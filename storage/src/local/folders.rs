//! Folders: made with their mode whatever the umask, synced up to the root.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Mode of every folder (R21).
pub(super) const FOLDER_MODE: u32 = 0o750;

/// Makes `folder` and what is missing above it, each with [`FOLDER_MODE`]. Nothing is synced.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    match (make_one(folder), folder.parent()) {
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            make(above)?;
            make_one(folder)
        }
        (made, _) => made,
    }
}

/// Makes `folder` in one that is there, with [`FOLDER_MODE`], unless it is there already.
pub(super) fn make_one(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => set_mode(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether [`make`] failed because somebody removed a folder on the way between two of its steps.
pub(super) fn has_gone(error: &io::Error, folder: &Path) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound => true,
        // It was there when it was made, and no longer when it was looked at. What is in the way for good still is.
        io::ErrorKind::AlreadyExists => {
            folder.ancestors().all(|above| !above.try_exists().unwrap_or(true) || above.is_dir())
        }
        _ => false,
    }
}

/// Gives a folder made by us its mode, and leaves it the group inherited from a set-group-ID folder above.
fn set_mode(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.mode() & 0o7777;
    let wanted = (mode & 0o7000) | FOLDER_MODE;
    if mode == wanted { Ok(()) } else { fs::set_permissions(folder, Permissions::from_mode(wanted)) }
}

/// Makes `folder` and what is missing above it, and syncs all of them and the folder they were made in.
pub(super) fn make_durable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_durable(above)?;
        make(folder)?;
        sync(above)?;
    }
    sync(folder)
}

/// Syncs one folder: its entries are durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inherited_group_stays_inherited() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        make(&root).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o2750)).unwrap();
        make(&root.join("a/b")).unwrap();
        assert_eq!(fs::metadata(root.join("a/b")).unwrap().mode() & 0o7777, 0o2750);
    }
}
