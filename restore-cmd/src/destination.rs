//! The place where PostgreSQL wants the file: complete or not at all (R8).
//!
//! The file is written beside its place and then renamed. It is not synced: PostgreSQL reads a restored segment at once,
//! asks for it again after a crash, and syncs itself what it keeps (`KeepFileRestoredFromArchive` renames with
//! `durable_rename`, `xlogarchive.c`, PostgreSQL 15); `pg_rewind`, the other caller, syncs the whole data directory.
//! Only what is fetched ahead is, while PostgreSQL still replays what comes before it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};

use crate::error::Error;

/// What is added to the file's name while it is written.
const ASIDE_SUFFIX: &str = ".highwater";
/// PostgreSQL's own mode of files in a data directory that its group may read. Its umask takes away what must go.
pub const FILE_MODE: u32 = 0o640;
/// How often the file aside is opened anew when another process has renamed or removed it in between.
const OPEN_TRIES: u32 = 16;

const HINT: &str = "see that there is space, and that PostgreSQL's user can write there";

/// The file while it is written, under its other name. It is removed when it is dropped before it was published.
///
/// It is locked, so that a process that outlived its server and the one of the next server do not write into the same
/// file. What a killed process has left is taken over by the next.
#[derive(Debug)]
pub struct Destination {
    content: Content,
    aside: PathBuf,
    path: PathBuf,
    published: bool,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Content {
    file: File,
    shown: PathBuf,
}

impl Content {
    /// A file, and what it is called in messages.
    pub fn new(file: File, shown: &Path) -> Content {
        Content { file, shown: shown.to_owned() }
    }

    /// Where the content is written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes back what was written, for another try.
    pub fn empty(&self) -> Result<(), Error> {
        empty(&self.file).map_err(|error| Error::file(&self.shown, &error, HINT))
    }

    /// Puts what was written on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The first bytes of what was written, `length` or what there is.
    pub fn beginning(&self, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        let mut count = 0;
        while count < length {
            match self.file.read_at(&mut bytes[count..], count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::file(&self.shown, &error, HINT)),
            }
        }
        bytes.truncate(count);
        Ok(bytes)
    }
}

impl Destination {
    /// Opens an empty file beside `path`.
    pub fn open(path: &Path) -> Result<Destination, Error> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(ASIDE_SUFFIX);
        let aside = PathBuf::from(aside);
        let file = open_locked(&aside).map_err(|error| Error::file(&aside, &error, HINT))?;
        let content = Content::new(file, &aside);
        Ok(Destination { content, aside, path: path.to_owned(), published: false })
    }

    /// What is written.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Publishes `file`, which has no name yet, in place of what was written here.
    ///
    /// # Errors
    /// When the file system cannot name it, or another process has taken the name aside.
    pub fn publish_instead(mut self, file: &File) -> Result<(), Error> {
        let failed = |error: io::Error| Error::file(&self.aside, &error, HINT);
        // Before it has a name: whoever finds it under that must not write into it.
        file.try_lock().map_err(|error| failed(error.into()))?;
        fs::remove_file(&self.aside).map_err(failed)?;
        // What has this name from now on may be another process's.
        self.published = true;
        let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, nameless, CWD, &self.aside, AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| failed(errno.into()))?;
        self.published = false;
        self.publish()
    }

    /// Gives the file its name, in place of what may have had it.
    pub fn publish(mut self) -> Result<(), Error> {
        fs::rename(&self.aside, &self.path).map_err(|error| Error::file(&self.path, &error, HINT))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if !self.published {
            // Left behind it would be taken over by the next call.
            let _ = fs::remove_file(&self.aside);
        }
    }
}

fn open_locked(aside: &Path) -> io::Result<File> {
    for _ in 0..OPEN_TRIES {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(aside)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_still(aside, &file)? {
            empty(&file)?;
            return Ok(file);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "other processes keep taking it away"))
}

/// Leaves nothing in the file. One that is empty is not cut: ext4 writes all of a file that was ever cut to nothing when it is
/// closed (`auto_da_alloc`), while PostgreSQL waits for the command.
fn empty(file: &File) -> io::Result<()> {
    if file.metadata()?.len() > 0 { file.set_len(0) } else { Ok(()) }
}

/// Whether `path` still names `file`: the process that had it locked before may have given it its final name.
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn r08_the_file_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("RECOVERYXLOG");
        let destination = Destination::open(&path).unwrap();
        destination.content().file().write_all_at(b"half", 0).unwrap();
        assert!(!path.exists());
        drop(destination);
        assert_eq!(names(folder.path()), [""; 0]);

        let destination = Destination::open(&path).unwrap();
        destination.content().file().write_all_at(b"whole", 0).unwrap();
        assert_eq!(destination.content().beginning(2).unwrap(), b"wh");
        assert_eq!(destination.content().beginning(9).unwrap(), b"whole");
        destination.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["RECOVERYXLOG"]);
    }

    #[test]
    fn r08_what_lies_there_and_what_was_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("RECOVERYXLOG");
        fs::write(&path, "stale and longer").unwrap();
        fs::write(folder.path().join("RECOVERYXLOG.highwater"), "left by a killed process").unwrap();
        let destination = Destination::open(&path).unwrap();
        destination.content().file().write_all_at(b"first try, longer", 0).unwrap();
        destination.content().empty().unwrap();
        destination.content().file().write_all_at(b"new", 0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"stale and longer");
        destination.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn r08_two_processes_do_not_write_into_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("RECOVERYXLOG");
        let first = Destination::open(&path).unwrap();
        let error = Destination::open(&path).unwrap_err().to_string();
        assert!(error.contains("another process") && error.contains("hint: "), "{error}");
        first.content().file().write_all_at(b"first", 0).unwrap();
        first.publish().unwrap();
        let second = Destination::open(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first", "the second one has a file of its own");
        drop(second);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn r08_a_file_without_a_name_is_given_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("RECOVERYXLOG");
        fs::write(&path, "stale").unwrap();
        let ready = tempfile::tempfile_in(folder.path()).unwrap();
        ready.write_all_at(b"fetched before", 0).unwrap();
        Destination::open(&path).unwrap().publish_instead(&ready).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"fetched before");
        assert_eq!(names(folder.path()), ["RECOVERYXLOG"]);
        let found = File::open(&path).unwrap();
        assert!(matches!(found.try_lock(), Err(TryLockError::WouldBlock)), "nobody writes into it");
        drop(found);
        // Not one that was removed meanwhile: it has no content to be trusted.
        fs::write(folder.path().join("gone"), "gone").unwrap();
        let gone = File::open(folder.path().join("gone")).unwrap();
        fs::remove_file(folder.path().join("gone")).unwrap();
        Destination::open(&path).unwrap().publish_instead(&gone).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"fetched before");
        assert_eq!(names(folder.path()), ["RECOVERYXLOG"]);
    }

    #[test]
    fn r22_a_place_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = Destination::open(&folder.path().join("missing/RECOVERYXLOG")).unwrap_err().to_string();
        assert!(error.contains("missing/RECOVERYXLOG") && error.contains("hint: "), "{error}");
        let taken = folder.path().join("folder");
        fs::create_dir(&taken).unwrap();
        let error = Destination::open(&taken).unwrap().publish().unwrap_err().to_string();
        assert!(error.contains("folder") && error.contains("hint: "), "{error}");
    }
}
