//! Whether the disks have room, before anything is written.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};

use crate::{Error, Result};

/// File systems that may compress what is written, so that nobody can say how much fits: Btrfs and ZFS, by `f_type` of statfs(2).
const COMPRESSING: [i64; 2] = [0x9123_683E, 0x2FC1_2FC1];

/// A disk and what shall be written to it.
#[derive(Debug, PartialEq, Eq)]
struct Disk {
    folder: PathBuf,
    needed_bytes: u64,
    free_bytes: u64,
}

/// Sees that each disk has room for what goes into the folders on it. A folder need not be there yet.
///
/// # Errors
/// [`Error::Target`] with how much is needed and how much is free.
pub(crate) fn check_room<'p>(folders: impl IntoIterator<Item = (&'p Path, u64)>) -> Result<()> {
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    for (folder, needed_bytes) in folders {
        let there = if folder.exists() { folder } else { folder.parent().unwrap_or(folder) };
        let look = || -> std::io::Result<(u64, u64)> {
            let facts = statvfs(there)?;
            let compressing = COMPRESSING.contains(&statfs(there)?.f_type);
            let free = if compressing { u64::MAX } else { facts.f_bavail.saturating_mul(facts.f_frsize) };
            Ok((std::fs::metadata(there)?.dev(), free))
        };
        let (device, free_bytes) = look().map_err(Error::file("look at", there))?;
        let disk = Disk { folder: folder.to_owned(), needed_bytes: 0, free_bytes };
        disks.entry(device).or_insert(disk).needed_bytes += needed_bytes;
    }
    disks.values().try_for_each(check)
}

fn check(disk: &Disk) -> Result<()> {
    if disk.needed_bytes <= disk.free_bytes {
        return Ok(());
    }
    let reason = format!(
        "has too little room: {} bytes are needed and {} are free",
        disk.needed_bytes, disk.free_bytes
    );
    Err(Error::target(&disk.folder, reason, "make room there, or restore to a larger disk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        check_room([(folder.path(), 0), (&new, 1)]).unwrap();
        let error = check_room([(folder.path(), 1 << 62), (&new, 1 << 61)]);
        if !COMPRESSING.contains(&statfs(folder.path()).unwrap().f_type) {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&format!("{} bytes are needed", (1_u64 << 62) + (1 << 61))), "{text}");
        }
    }
}
