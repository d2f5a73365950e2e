//! Making what was written outlast a crash of the machine.
//!
//! One call syncs a whole file system, which for thousands of files is far quicker than a call for each. It is used
//! where it is known to wait for the disk and to report what could not be written: file systems of the kernel itself, from Linux 5.8
//! on, which checks for errors since the handle was opened (commit 735e4ae5ba28, "vfs: track per-sb writeback errors"). On all
//! others, such as FUSE, each file is synced by itself.

use std::fs::File;

use rustix::fs::{FileType, fstatfs, syncfs};

use crate::owner::{self, Owner};
use crate::places::Places;
use crate::root::Root;
use crate::{Error, Result};

/// File systems for which a sync of the whole reports errors, by `f_type` of statfs(2): ext2 to ext4, XFS, Btrfs, F2FS, tmpfs.
const TRUSTED: [i64; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994];
/// The first Linux whose syncfs(2) reports errors of earlier writing.
const TRUSTED_KERNEL: (u32, u32) = (5, 8);

/// How files become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncMethod {
    /// One call for all of a file system.
    FileSystem,
    /// Each file when it is finished, each folder at the end.
    EachFile,
}

impl SyncMethod {
    /// What serves for all these folders.
    pub(crate) fn of(places: &Places) -> Result<SyncMethod> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        for root in places.roots() {
            let kind = fstatfs(root.handle())
                .map_err(|error| Error::file("look at", root.path())(error.into()))?
                .f_type;
            if !is_trusted(&release, kind) {
                return Ok(SyncMethod::EachFile);
            }
        }
        Ok(SyncMethod::FileSystem)
    }
}

fn is_trusted(release: &str, kind: i64) -> bool {
    let mut numbers = release.split(['.', '-', '+']).map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    version.is_some_and(|version| version >= TRUSTED_KERNEL) && TRUSTED.contains(&kind)
}

/// Makes durable what has been finished: with [`SyncMethod::EachFile`], that files were synced when they were finished.
pub(crate) fn sync_all(places: &Places, method: SyncMethod) -> Result<()> {
    for root in places.roots() {
        match method {
            SyncMethod::FileSystem => {
                syncfs(root.handle()).map_err(|error| Error::file("sync", root.path())(error.into()))?;
            }
            SyncMethod::EachFile => each_folder(root, &Root::sync)?,
        }
    }
    Ok(())
}

/// Gives all folders their permissions and their owner, the outermost last: until then nobody else can reach what is being
/// written.
pub(crate) fn give_away(places: &Places, owner: Option<Owner>, mode: u32) -> Result<()> {
    for root in places.roots() {
        each_folder(root, &|folder| {
            let handle = folder.handle().try_clone().map(File::from);
            handle
                .and_then(|handle| owner::finish(&handle, owner, mode))
                .map_err(Error::file("give away", folder.path()))
        })?;
    }
    Ok(())
}

/// Calls `action` for each folder in `root`, inner ones first, and for `root` itself. Links are not followed. The depth is
/// limited by what the survey of the manifest lets pass.
fn each_folder(root: &Root, action: &dyn Fn(&Root) -> Result<()>) -> Result<()> {
    for (name, kind) in root.entries()? {
        if kind == FileType::Directory {
            each_folder(&root.child(&name)?, action)?;
        }
    }
    action(root)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_whole_file_system_is_synced_only_where_errors_are_reported() {
        let ext4 = TRUSTED[0];
        for (release, kind, trusted) in [
            ("6.1.0-18-amd64", ext4, true),
            ("5.8.0", ext4, true),
            ("5.7.19", ext4, false),
            ("4.19.0-26-amd64", ext4, false),
            ("6.18.44-fc-v657", 0x6573_5546, false),
            ("10.0", ext4, true),
            ("strange", ext4, false),
            ("", ext4, false),
        ] {
            assert_eq!(is_trusted(release, kind), trusted, "{release} {kind:x}");
        }
    }

    #[test]
    fn folders_get_their_mode_and_links_are_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        std::fs::create_dir_all(data.join("base/5")).unwrap();
        std::fs::create_dir(scratch.path().join("outside")).unwrap();
        symlink("../outside", data.join("link")).unwrap();
        std::fs::write(data.join("file"), "").unwrap();
        let mode = |path: &str| std::fs::metadata(scratch.path().join(path)).unwrap().mode() & 0o7777;
        let before = (mode("outside"), mode("data/file"));
        let places = Places { data: Root::open(&data).unwrap(), tablespaces: BTreeMap::new() };
        give_away(&places, None, 0o750).unwrap();
        assert_eq!([mode("data"), mode("data/base"), mode("data/base/5")], [0o750; 3]);
        assert_eq!((mode("outside"), mode("data/file")), before);
        for method in [SyncMethod::FileSystem, SyncMethod::EachFile, SyncMethod::of(&places).unwrap()] {
            sync_all(&places, method).unwrap();
        }
    }
}
