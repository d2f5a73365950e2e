//! A folder on this machine with copies of objects, or of their beginnings.
//!
//! Objects never change, so a copy is as good as the object, but for one thing: it does not tell whether the object is still
//! there. Only what a listing has just named is looked for here. Copies are the stored bytes as they are, so what is
//! encrypted in the repository is encrypted here, and what reads them compares the digests that are in them: a copy that is
//! damaged is dropped and the object read.
//!
//! The folder can be removed at any time, and several processes can use it at once: a copy is written aside and renamed.
//! Whatever fails here is no failure of what was asked for; then there is no copy. A folder that others than its owner can write
//! into is not used.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use highwater_storage::Key;

use crate::Digest;
use crate::names::RepositoryId;

/// What all copies of a repository can have together.
const MAX_FOLDER_BYTES: u64 = 512 << 20;
/// How much of that is left when older copies have made room.
const TIDY_TO_BYTES: u64 = MAX_FOLDER_BYTES / 4 * 3;
/// After so many copies it is looked whether there are too many; and after the first.
const TIDY_EVERY: u64 = 1000;
/// No copy is longer.
const MAX_COPY_BYTES: u64 = 64 << 20;
/// What the names of files begin with that are being written.
const ASIDE: &str = "aside-";
/// The variable that names the folder.
pub(crate) const VARIABLE: &str = "HIGHWATER_CACHE_DIRECTORY";

/// How much of an object a copy has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// As much as what stands in front of it needs.
    Head,
    /// All of it.
    Whole,
}

/// The copies of one repository's objects.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    max_bytes: u64,
    tidy_to_bytes: u64,
    written: AtomicU64,
}

impl Cache {
    /// The copies of `repository` below `folder`.
    pub(crate) fn new(folder: &Path, repository: RepositoryId) -> Cache {
        Cache::with_limit(folder, repository, MAX_FOLDER_BYTES, TIDY_TO_BYTES)
    }

    fn with_limit(folder: &Path, repository: RepositoryId, max_bytes: u64, tidy_to_bytes: u64) -> Cache {
        let folder = folder.join(repository.to_string());
        Cache { folder, max_bytes, tidy_to_bytes, written: AtomicU64::new(0) }
    }

    /// The copy of an object, if there is one. It may be damaged.
    pub(crate) fn read(&self, key: &Key, part: Part) -> Option<Bytes> {
        let file = fs::File::open(self.path(key, part)).ok()?;
        let found = file.metadata().ok()?;
        let is_ours = found.is_file() && found.uid() == rustix::process::geteuid().as_raw();
        if !is_ours || found.len() > MAX_COPY_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(found.len() as usize);
        io::Read::read_to_end(&mut io::Read::take(file, MAX_COPY_BYTES), &mut bytes).ok()?;
        Some(bytes.into())
    }

    /// Keeps a copy.
    pub(crate) fn write(&self, key: &Key, part: Part, bytes: &[u8]) {
        // A full disk, another user's folder, a name that is taken: then there is no copy.
        let _ = self.try_write(key, part, bytes);
        if self.written.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIDY_EVERY) {
            let _ = self.tidy();
        }
    }

    /// Drops the copies of an object.
    pub(crate) fn forget(&self, key: &Key) {
        for part in [Part::Head, Part::Whole] {
            let _ = fs::remove_file(self.path(key, part));
        }
    }

    fn path(&self, key: &Key, part: Part) -> PathBuf {
        let name = Digest::of(key.as_str().as_bytes()).to_string();
        let suffix = match part {
            Part::Head => "head",
            Part::Whole => "whole",
        };
        self.folder.join(&name[..2]).join(format!("{}.{suffix}", &name[..32]))
    }

    fn try_write(&self, key: &Key, part: Part, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(key, part);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        self.is_ours()?;
        let number = self.written.load(Ordering::Relaxed);
        let mut aside = OsString::from(format!("{ASIDE}{}-{number}-", std::process::id()));
        aside.push(name);
        let aside = folder.join(aside);
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside);
        let renamed =
            written.and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&aside, &path));
        if renamed.is_err() {
            let _ = fs::remove_file(&aside);
        }
        renamed
    }

    /// Whether nobody else can write into the folder.
    fn is_ours(&self) -> io::Result<()> {
        let found = fs::metadata(&self.folder)?;
        if found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0 {
            return Ok(());
        }
        Err(io::ErrorKind::PermissionDenied.into())
    }

    /// Removes the oldest copies where there are too many, and what writers that were killed have left.
    fn tidy(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for folder in fs::read_dir(&self.folder)? {
            for file in fs::read_dir(folder?.path())? {
                let file = file?;
                // One that another process has just removed is none.
                let Ok(found) = file.metadata() else { continue };
                files.push((found.modified()?, found.len(), file.path()));
            }
        }
        let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
        if bytes <= self.max_bytes {
            return Ok(());
        }
        files.sort_unstable();
        for (_, length, path) in files {
            if bytes <= self.tidy_to_bytes {
                break;
            }
            if fs::remove_file(path).is_ok() {
                bytes -= length;
            }
        }
        Ok(())
    }
}

/// The folder for copies where no setting names one, by an environment: `HIGHWATER_CACHE_DIRECTORY` where that is set, else
/// `highwater` in the user's cache folder; none where there is no home, or where it was switched off.
pub(crate) fn default_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(named) = variable(VARIABLE) {
        return chosen(named.into());
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(folder.join("highwater"))
}

/// The folder that a setting names: none for an empty text and for `none`.
pub(crate) fn chosen(setting: PathBuf) -> Option<PathBuf> {
    let is_off = setting.as_os_str().is_empty() || setting.as_os_str() == "none";
    (!is_off).then_some(setting)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(number: u32) -> Key {
        format!("clusters/main/7/index/00000001/{number:08X}").parse().unwrap()
    }

    fn id() -> RepositoryId {
        RepositoryId::random()
    }

    #[test]
    fn copies_are_for_their_owner_alone_and_kept_apart() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("cache/highwater");
        let cache = Cache::new(&folder, id());
        assert_eq!(cache.read(&key(1), Part::Head), None);
        cache.write(&key(1), Part::Head, b"one");
        cache.write(&key(1), Part::Whole, b"all of one");
        cache.write(&key(2), Part::Head, b"two");
        assert_eq!(cache.read(&key(1), Part::Head).unwrap(), &b"one"[..]);
        assert_eq!(cache.read(&key(1), Part::Whole).unwrap(), &b"all of one"[..]);
        assert_eq!(Cache::new(&folder, id()).read(&key(1), Part::Head), None, "another repository's");
        for entry in walk(&folder) {
            let found = fs::metadata(&entry).unwrap();
            assert_eq!(found.mode() & 0o777, if found.is_dir() { 0o700 } else { 0o600 }, "{entry:?}");
        }
        cache.forget(&key(1));
        assert_eq!((cache.read(&key(1), Part::Head), cache.read(&key(1), Part::Whole)), (None, None));
        assert!(cache.read(&key(2), Part::Head).is_some());
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(cache.read(&key(2), Part::Head), None);
        cache.write(&key(2), Part::Head, b"two");
        assert!(cache.read(&key(2), Part::Head).is_some(), "it may be deleted at any time");
    }

    #[test]
    fn a_folder_that_others_can_write_into_is_not_used_and_what_is_in_the_way_is_no_error() {
        let home = tempfile::tempdir().unwrap();
        let id = id();
        let cache = Cache::new(home.path(), id);
        let own = home.path().join(id.to_string());
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        cache.write(&key(1), Part::Head, b"one");
        assert_eq!(cache.read(&key(1), Part::Head), None);
        fs::remove_dir_all(&own).unwrap();
        fs::write(&own, b"a file in the way").unwrap();
        cache.write(&key(1), Part::Head, b"one");
        assert_eq!(cache.read(&key(1), Part::Head), None);
    }

    #[test]
    fn the_oldest_make_room() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::with_limit(home.path(), id(), 10_000, 5_000);
        for number in 0..20 {
            cache.write(&key(number), Part::Head, &[0; 1000]);
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(number));
            let file = fs::File::options().write(true).open(cache.path(&key(number), Part::Head)).unwrap();
            file.set_modified(at).unwrap();
        }
        cache.tidy().unwrap();
        let left: Vec<u32> =
            (0..20).filter(|number| cache.read(&key(*number), Part::Head).is_some()).collect();
        assert_eq!(left, [15, 16, 17, 18, 19]);
    }

    #[test]
    fn where_it_is() {
        let with = |variables: &[(&str, &str)]| {
            let value =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            default_folder(value).map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/me");
        for (variables, expected) in [
            (&[home][..], Some("/home/me/.cache/highwater")),
            (&[home, ("XDG_CACHE_HOME", "/cache")], Some("/cache/highwater")),
            (&[home, ("XDG_CACHE_HOME", "relative")], Some("/home/me/.cache/highwater")),
            (&[home, (VARIABLE, "/other")], Some("/other")),
            (&[home, (VARIABLE, "")], None),
            (&[home, (VARIABLE, "none")], None),
            (&[("HOME", "")], None),
            (&[], None),
        ] {
            assert_eq!(with(variables).as_deref(), expected, "{variables:?}");
        }
    }

    fn walk(folder: &Path) -> Vec<PathBuf> {
        let mut found = vec![folder.to_owned()];
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
        }
        found
    }
}
