//! Making and removing objects.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, OpenOptions, Permissions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

use super::{ASIDE, Root, failure, folders};
use crate::body::Body;
use crate::error::Result;
use crate::key::Key;
use crate::store::Put;

/// Mode of every file (R21).
const FILE_MODE: u32 = 0o640;

/// What lies aside unchanged for this long belongs to a writer that is gone. A writer that is only asleep fails
/// when it wakes up: the move to its name finds nothing to move.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// How often a put makes its folder anew when deletes keep removing it as empty.
const MOVE_TRIES: u32 = 64;

/// How much longer a put waits before each further of its [`MOVE_TRIES`]: 40 ms altogether.
const MOVE_PAUSE: Duration = Duration::from_micros(20);

/// How many pieces one write call takes: Linux's `UIO_MAXIOV`.
const MOST_PIECES: usize = 1024;

impl Root {
    pub(super) fn put(&self, key: &Key, body: &Body) -> Result<Put> {
        let target = self.file(key);
        // Looked at first, since most second puts of one name are repeats and need not write the body.
        match fs::metadata(&target) {
            Ok(found) => {
                self.check_is_file("put", key, &found)?;
                return self.exists(key, &target);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !has_room_for(&target) {
                    self.confirm_missing("put", key.as_str(), &target)?;
                }
            }
            Err(error) => return Err(failure::from_io("put", key.as_str(), &target, error)),
        }

        let written = Aside::write(&self.path, body);
        let aside = written.map_err(|error| failure::from_io("put", key.as_str(), &self.path, error))?;
        let published = self.publish(aside, &target);
        match published.map_err(|error| failure::from_io("put", key.as_str(), &target, error))? {
            Put::Exists => self.exists(key, &target),
            Put::Created => {
                self.tidy();
                Ok(Put::Created)
            }
        }
    }

    /// Moves what was written aside to its name and makes that durable.
    pub(super) fn publish(&self, aside: Aside, target: &Path) -> io::Result<Put> {
        let folder = target.parent().unwrap_or(&self.path);
        for tries in 0..MOVE_TRIES {
            // Falls out of step with whoever removes the folder.
            std::thread::sleep(MOVE_PAUSE * tries);
            let mut moved = move_without_replacing(&aside.path, target);
            // It is the first object there, or a delete has removed the folder because it was empty.
            if moved == Err(Errno::NOENT) && aside.path.exists() {
                match folders::make(folder) {
                    // What was just made or found, here or further up, has been removed as empty.
                    Err(error) if folders::has_gone(&error, folder) => continue,
                    made => made?,
                }
                moved = move_without_replacing(&aside.path, target);
            }
            match moved {
                Ok(()) => {
                    aside.moved();
                    return match self.synced.sync_up_to(&self.path, folder) {
                        // Somebody has deleted the object since, and the folder with it.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Put::Created),
                        synced => synced.map(|()| Put::Created),
                    };
                }
                Err(Errno::EXIST) => return Ok(Put::Exists),
                Err(Errno::NOENT) if aside.path.exists() => {}
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Whoever made the object may have been killed before it was durable: it is made so before we rely on it (R1).
    /// Should it be deleted in this moment, that passes, and the next put makes it.
    fn exists(&self, key: &Key, target: &Path) -> Result<Put> {
        let synced = self.synced.sync_up_to(&self.path, target.parent().unwrap_or(&self.path));
        synced.map_err(|error| failure::from_io("put", key.as_str(), target, error))?;
        Ok(Put::Exists)
    }

    /// Removes objects, and then the folders that are empty; each folder is synced once.
    pub(super) fn delete(&self, keys: &[Key]) -> Result<()> {
        let mut changed: BTreeMap<PathBuf, &Key> = BTreeMap::new();
        for key in keys {
            let target = self.file(key);
            match fs::remove_file(&target) {
                Ok(()) => {
                    changed.insert(target.parent().unwrap_or(&self.path).to_owned(), key);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.confirm_missing("delete", key.as_str(), &target)?;
                }
                Err(error) => return Err(failure::from_io("delete", key.as_str(), &target, error)),
            }
        }
        changed.into_iter().try_for_each(|(folder, key)| self.settle(key, &folder))
    }

    /// Removes the folders on the way to `folder` that are empty, and makes what has changed durable.
    fn settle(&self, key: &Key, folder: &Path) -> Result<()> {
        for folder in folder.ancestors().take_while(|folder| *folder != self.path) {
            match fs::remove_dir(folder) {
                Ok(()) => {}
                // It isn't empty, or somebody else was quicker: what is left of the way is made durable.
                Err(_) => return self.sync_after_delete(key, folder),
            }
        }
        self.sync_after_delete(key, &self.path)
    }

    fn sync_after_delete(&self, key: &Key, folder: &Path) -> Result<()> {
        match folders::sync(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failure::from_io("delete", key.as_str(), folder, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes, once per process, what killed writers left aside. Nothing depends on it, so its failures are
    /// passed over.
    fn tidy(&self) {
        if self.tidied.swap(true, Ordering::Relaxed) {
            return;
        }
        let now = SystemTime::now();
        let Ok(entries) = fs::read_dir(self.path.join(ASIDE)) else { return };
        for entry in entries.flatten().filter(|entry| is_abandoned(entry, now)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether the folder of `target` is there, which everything above it then is as well, and nothing of its name, be it a link that
/// leads nowhere.
pub(super) fn has_room_for(target: &Path) -> bool {
    let is_free = fs::symlink_metadata(target).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_free && target.parent().is_some_and(Path::is_dir)
}

fn is_abandoned(entry: &DirEntry, now: SystemTime) -> bool {
    let modified = entry.metadata().and_then(|found| found.modified());
    modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > ABANDONED))
}

/// A file that is written and synced but has not got its name; removed when dropped before it was moved.
#[derive(Debug)]
pub(super) struct Aside {
    path: PathBuf,
}

impl Aside {
    fn write(root: &Path, body: &Body) -> io::Result<Self> {
        let (aside, mut file) = Self::open(root)?;
        write_pieces(&mut file, body)?;
        file.sync_all()?;
        Ok(aside)
    }

    /// Makes the file, without anything in it.
    pub(super) fn open(root: &Path) -> io::Result<(Self, File)> {
        let folder = root.join(ASIDE);
        let path = folder.join(format!("{}-{:016x}", std::process::id(), rand::random::<u64>()));
        let open = || OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Only this one folder: that the root is there has been seen before.
                folders::make_one(&folder)?;
                open()
            }
            opened => opened,
        }?;
        let aside = Self { path };
        // The umask may have taken something off the mode asked for.
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        Ok((aside, file))
    }

    /// Whether nobody has tidied it away.
    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    fn moved(self) {
        std::mem::forget(self);
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn write_pieces(file: &mut File, body: &Body) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = body.pieces().iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let most = left.len().min(MOST_PIECES);
        match file.write_vectored(&left[..most]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives the file `from` the name `to`, if nothing has it: [`Errno::EXIST`] otherwise.
fn move_without_replacing(from: &Path, to: &Path) -> std::result::Result<(), Errno> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system cannot (NFS), or the kernel: a second name, then the first one away.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_and_unlink(from, to),
        done => done,
    }
}

fn link_and_unlink(from: &Path, to: &Path) -> std::result::Result<(), Errno> {
    linkat(CWD, from, CWD, to, AtFlags::empty())?;
    // The object is there; a second name left aside is tidied away by its age.
    let _ = fs::remove_file(from);
    Ok(())
}
