//! A folder that is written below, and never left (R16).
//!
//! Every path is walked part by part from an open handle, and no part may be a link: whoever plants one, in a manifest or
//! in the folder itself, gets an error instead of a file elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use highwater_repository::EntryPath;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Of folders and files while they are written; they get their own mode when they are done.
pub(crate) const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// What a file is called while [`Root::replace`] writes it.
pub(crate) const ASIDE: &str = ".highwater-new";

/// An open folder.
#[derive(Debug)]
pub(crate) struct Root {
    handle: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens a folder. `path` itself must not be a link.
    pub(crate) fn open(path: &Path) -> Result<Root> {
        let handle = rustix::fs::open(path, FOLDER, Mode::empty());
        let handle = handle.map_err(|error| Error::file("open", path)(error.into()))?;
        Ok(Root { handle, path: path.to_owned() })
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its handle, for what concerns the folder itself.
    pub(crate) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// The path of something in it, for messages.
    pub(crate) fn join(&self, path: &EntryPath) -> PathBuf {
        self.path.join(path.as_path())
    }

    fn fail(&self, operation: &'static str, path: &EntryPath) -> impl FnOnce(Errno) -> Error {
        let path = self.join(path);
        move |error| match error {
            Errno::LOOP | Errno::NOTDIR => Error::target(
                path,
                "is a link, or no folder",
                "restore into an empty folder that nobody else writes into",
            ),
            other => Error::file(operation, path)(other.into()),
        }
    }

    /// Opens the folder that `path` lies in; with `make`, makes what is missing of the way.
    fn parent<'p>(&self, path: &'p EntryPath, make: bool) -> Result<(OwnedFd, &'p OsStr), Errno> {
        let mut parts = path.parts().map(OsStr::from_bytes);
        // A path has at least one part.
        let name = parts.next_back().unwrap_or_default();
        let mut folder = self.handle.try_clone().map_err(|_| Errno::MFILE)?;
        for part in parts {
            folder = match rustix::fs::openat(&folder, part, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    make_folder(&folder, part)?;
                    rustix::fs::openat(&folder, part, FOLDER, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok((folder, name))
    }

    /// Makes a folder, and what is missing above it, for the owner alone. One that is there stays as it is.
    pub(crate) fn make_folder(&self, path: &EntryPath) -> Result<()> {
        let made = self.parent(path, true).and_then(|(folder, name)| {
            make_folder(&folder, name)?;
            rustix::fs::openat(&folder, name, FOLDER, Mode::empty()).map(drop)
        });
        made.map_err(self.fail("make the folder", path))
    }

    /// Opens a folder in it.
    pub(crate) fn folder(&self, path: &EntryPath) -> Result<Root> {
        let opened = self
            .parent(path, false)
            .and_then(|(folder, name)| rustix::fs::openat(&folder, name, FOLDER, Mode::empty()));
        let handle = opened.map_err(self.fail("open", path))?;
        Ok(Root { handle, path: self.join(path) })
    }

    /// Opens a folder directly in it, by a name that [`Root::entries`] gave.
    pub(crate) fn child(&self, name: &OsStr) -> Result<Root> {
        let path = self.path.join(name);
        let handle = rustix::fs::openat(&self.handle, name, FOLDER, Mode::empty());
        Ok(Root { handle: handle.map_err(|error| Error::file("open", &path)(error.into()))?, path })
    }

    /// Makes a new file, and the folders missing above it. A file of that name must not be there.
    pub(crate) fn create_file(&self, path: &EntryPath) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.parent(path, true).and_then(|(folder, name)| {
            rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(PRIVATE_FILE))
        });
        made.map(File::from).map_err(self.fail("make", path))
    }

    /// Opens a regular file for reading and writing.
    pub(crate) fn open_file(&self, path: &EntryPath) -> Result<File> {
        self.open_with(path, OFlags::RDWR)
    }

    fn open_with(&self, path: &EntryPath, flags: OFlags) -> Result<File> {
        // NONBLOCK: a pipe that somebody put there would otherwise be waited for.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = self
            .parent(path, false)
            .and_then(|(folder, name)| rustix::fs::openat(&folder, name, flags, Mode::empty()));
        let file = opened.map(File::from).map_err(self.fail("open", path))?;
        let facts = file.metadata().map_err(Error::file("look at", self.join(path)))?;
        // A second name would be a way out, as a link is.
        if facts.is_file() && facts.nlink() == 1 {
            return Ok(file);
        }
        Err(Error::target(self.join(path), "is no plain file with one name", "restore into an empty folder"))
    }

    /// The content of a file of at most `limit` bytes; `None` where there is none.
    pub(crate) fn read_small(&self, path: &EntryPath, limit: u64) -> Result<Option<Vec<u8>>> {
        let file = match self.open_with(path, OFlags::RDONLY) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content).map_err(Error::file("read", self.join(path)))?;
        if content.len() as u64 > limit {
            let reason = format!("has more than {limit} bytes");
            return Err(Error::target(self.join(path), reason, "see what wrote this file, and shorten it"));
        }
        Ok(Some(content))
    }

    /// What is at `path`, not following a link: its kind and length; `None` where there is nothing.
    pub(crate) fn look(&self, path: &EntryPath) -> Result<Option<(FileType, u64)>> {
        let found = self
            .parent(path, false)
            .and_then(|(folder, name)| rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(facts) => Ok(Some((FileType::from_raw_mode(facts.st_mode), facts.st_size.cast_unsigned()))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.fail("look at", path)(error)),
        }
    }

    /// Writes a whole file aside, hands it to `finish` (mode, owner), syncs it, and gives it its name, replacing what had it.
    /// The folder is not synced.
    pub(crate) fn replace(
        &self,
        path: &EntryPath,
        content: &[u8],
        finish: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<()> {
        let failed = || Error::file("write", self.join(path));
        let (folder, name) = self.parent(path, true).map_err(self.fail("write", path))?;
        let mut aside = name.to_owned();
        aside.push(ASIDE);
        remove(&folder, &aside).map_err(|error| failed()(error.into()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&folder, &aside, flags, Mode::from_raw_mode(PRIVATE_FILE));
        let mut file = made.map(File::from).map_err(|error| failed()(error.into()))?;
        file.write_all(content)
            .and_then(|()| finish(&file))
            .and_then(|()| file.sync_all())
            .map_err(failed())?;
        rustix::fs::renameat(&folder, &aside, &folder, name).map_err(|error| failed()(error.into()))
    }

    /// Makes a link to `place`, replacing one that is there; nothing else is replaced.
    pub(crate) fn link(&self, path: &EntryPath, place: &Path) -> Result<()> {
        let (folder, name) = self.parent(path, true).map_err(self.fail("link", path))?;
        if let Some((FileType::Symlink, _)) = self.look(path)? {
            remove(&folder, name).map_err(self.fail("replace", path))?;
        }
        rustix::fs::symlinkat(place, &folder, name).map_err(self.fail("link", path))
    }

    /// Removes a file or a link; a success where there is none.
    pub(crate) fn remove(&self, path: &EntryPath) -> Result<()> {
        let removed = self.parent(path, false).and_then(|(folder, name)| remove(&folder, name));
        match removed {
            Err(Errno::NOENT) => Ok(()),
            other => other.map_err(self.fail("remove", path)),
        }
    }

    /// What lies directly in it: names and kinds, in no order.
    pub(crate) fn entries(&self) -> Result<Vec<(OsString, FileType)>> {
        let list = || -> Result<Vec<(OsString, FileType)>, Errno> {
            let mut entries = Vec::new();
            for entry in Dir::read_from(&self.handle)? {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." {
                    continue;
                }
                let kind = match entry.file_type() {
                    // Not every file system says it in the listing.
                    FileType::Unknown => {
                        let facts = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
                        FileType::from_raw_mode(facts.st_mode)
                    }
                    known => known,
                };
                entries.push((name.to_owned(), kind));
            }
            Ok(entries)
        };
        list().map_err(|error| Error::file("list", &self.path)(error.into()))
    }

    /// Syncs the folder itself: its entries are durable.
    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.handle).map_err(|error| Error::file("sync", &self.path)(error.into()))
    }
}

/// Makes one folder for the owner alone, whatever the umask, unless it is there.
fn make_folder(parent: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(PRIVATE_FOLDER)) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

fn remove(folder: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    struct Fixture {
        folder: tempfile::TempDir,
        root: Root,
    }

    /// A root with a link to a folder outside, as a folder's name and as a file's.
    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/file"), "untouched").unwrap();
        let target = folder.path().join("target");
        fs::create_dir(&target).unwrap();
        symlink("../outside", target.join("way")).unwrap();
        symlink("../outside/file", target.join("file")).unwrap();
        symlink("../outside/new", target.join("dangling")).unwrap();
        fs::hard_link(folder.path().join("outside/file"), target.join("second-name")).unwrap();
        Fixture { root: Root::open(&target).unwrap(), folder }
    }

    #[test]
    fn r16_nothing_is_written_through_a_link() {
        let Fixture { folder, root } = fixture();
        for text in ["way/new", "way/file", "way/deep/new", "file", "dangling", "file/x"] {
            assert!(root.create_file(&path(text)).is_err(), "create {text}");
            assert!(root.open_file(&path(text)).is_err(), "open {text}");
        }
        for text in ["way", "way/deep", "file", "dangling"] {
            assert!(root.make_folder(&path(text)).is_err(), "folder {text}");
            assert!(root.folder(&path(text)).is_err(), "open folder {text}");
        }
        assert!(root.open_file(&path("second-name")).is_err());
        assert!(root.read_small(&path("file"), 100).is_err());
        assert!(root.replace(&path("way/file"), b"x", |_| Ok(())).is_err());
        assert!(root.link(&path("way/link"), Path::new("/")).is_err());
        assert!(root.remove(&path("way/file")).is_err());
        root.replace(&path("file"), b"now a file", |_| Ok(())).unwrap();
        assert_eq!(fs::read(folder.path().join("target/file")).unwrap(), b"now a file");
        assert_eq!(fs::read(folder.path().join("outside/file")).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(folder.path().join("outside")).unwrap().count(), 1);
    }

    #[test]
    fn files_and_folders_are_private_while_they_are_written() {
        let Fixture { folder, root } = fixture();
        root.create_file(&path("base/5/1")).unwrap();
        for (name, mode) in [("base", 0o700), ("base/5", 0o700), ("base/5/1", 0o600)] {
            let found = fs::metadata(folder.path().join("target").join(name)).unwrap().mode();
            assert_eq!(found & 0o7777, mode, "{name}");
        }
        assert!(root.create_file(&path("base/5/1")).is_err(), "a file is made once");
        root.open_file(&path("base/5/1")).unwrap();
        assert!(root.open_file(&path("base/5")).is_err(), "a folder is no file");
        assert_eq!(root.look(&path("base/5")).unwrap().unwrap().0, FileType::Directory);
        assert_eq!(root.look(&path("nothing/here")).unwrap(), None);
    }

    #[test]
    fn small_files_are_read_whole_or_refused() {
        let Fixture { folder: _folder, root } = fixture();
        let name = path("a");
        assert_eq!(root.read_small(&name, 5).unwrap(), None);
        root.replace(&name, b"12345", |_| Ok(())).unwrap();
        assert_eq!(root.read_small(&name, 5).unwrap().unwrap(), b"12345");
        assert!(root.read_small(&name, 4).unwrap_err().to_string().contains("hint: "));
        root.remove(&name).unwrap();
        root.remove(&name).unwrap();
        assert_eq!(root.read_small(&name, 5).unwrap(), None);
    }

    #[test]
    fn a_link_replaces_a_link_and_nothing_else() {
        let Fixture { root, folder } = fixture();
        root.link(&path("pg_tblspc/1"), Path::new("/a")).unwrap();
        root.link(&path("pg_tblspc/1"), Path::new("/b")).unwrap();
        assert_eq!(fs::read_link(folder.path().join("target/pg_tblspc/1")).unwrap(), Path::new("/b"));
        root.make_folder(&path("pg_tblspc/2")).unwrap();
        assert!(root.link(&path("pg_tblspc/2"), Path::new("/a")).is_err());
        let mut names: Vec<_> = root.folder(&path("pg_tblspc")).unwrap().entries().unwrap();
        names.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(names, [("1".into(), FileType::Symlink), ("2".into(), FileType::Directory)]);
    }
}
