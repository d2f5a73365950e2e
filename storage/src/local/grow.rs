//! Objects that grow: files that have their full length, as written zeros, before the first byte is added.
//!
//! A file that is only made longer, or whose blocks were only reserved, costs a write of the file system's own with each sync. Written
//! zeros are made aside, ahead of when they are needed, and an append is one write over them and one `fdatasync`.
//!
//! An append runs in place. Somebody waits for each, and to hand it to another thread and its answer back would cost a busy machine more
//! than the write. So it holds up the thread of the runtime that it runs on; a thread beside it sees that one that hangs holds up no other.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::put::Aside;
use super::{Root, failure};
use crate::body::Body;
use crate::error::Result;
use crate::growing::{Growing, given_up, gone, no_room, taken};
use crate::key::Key;
use crate::store::Put;

/// Zeros are written so many at a time.
const ZEROS_AT_ONCE: usize = 256 << 10;

/// What was added behind an append is synced so long after it, if no other append has come.
const UNSYNCED_LIMIT: Duration = Duration::from_secs(1);

/// A file of zeros that is to grow next, if there is one.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Option<Zeros>>);

/// A file aside: zeros, durable.
#[derive(Debug)]
struct Zeros {
    aside: Aside,
    file: File,
    bytes: u64,
}

impl Spare {
    fn take(&self, bytes: u64) -> Option<Zeros> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What lies aside for a day is tidied away.
        spare.filter(|zeros| zeros.bytes == bytes && zeros.aside.is_there())
    }

    fn keep(&self, zeros: Zeros) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(zeros);
    }
}

impl Root {
    /// Makes an object of `bytes` zeros that grows.
    pub(super) fn grow(&self, key: &Key, bytes: u64) -> Result<GrowingFile> {
        let target = self.file(key);
        let failed = |error| failure::from_io("make", key.as_str(), &target, error);
        if !super::put::has_room_for(&target) {
            self.confirm_missing("make", key.as_str(), &target)?;
        }
        let zeros = match self.spare.take(bytes) {
            Some(zeros) => zeros,
            None => self.zeros(bytes).map_err(failed)?,
        };
        let Zeros { aside, file, bytes } = zeros;
        match self.publish(aside, &target).map_err(failed)? {
            Put::Created => GrowingFile::new(key, target.clone(), file, bytes).map_err(failed),
            Put::Exists => Err(taken(key.as_str())),
        }
    }

    /// Makes the file for the next one. It is made when it is needed where this fails.
    pub(super) fn prepare(&self, bytes: u64) {
        if let Ok(zeros) = self.zeros(bytes) {
            self.spare.keep(zeros);
        }
    }

    fn zeros(&self, bytes: u64) -> io::Result<Zeros> {
        let (aside, file) = Aside::open(&self.path)?;
        let zeros = vec![0; ZEROS_AT_ONCE];
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from(bytes - at).map_or(ZEROS_AT_ONCE, |left| left.min(ZEROS_AT_ONCE));
            file.write_all_at(&zeros[..length], at)?;
            at += length as u64;
        }
        file.sync_all()?;
        Ok(Zeros { aside, file, bytes })
    }
}

/// A file that grows.
#[derive(Debug)]
pub(super) struct GrowingFile {
    key: Key,
    path: PathBuf,
    room: u64,
    /// A call was begun and has not answered with success.
    is_given_up: bool,
    writer: Arc<Mutex<Writer>>,
    /// Dropped with it, which the thread beside it notices.
    _used: Sender<()>,
}

impl GrowingFile {
    fn new(key: &Key, path: PathBuf, file: File, bytes: u64) -> io::Result<GrowingFile> {
        let found = file.metadata()?;
        let inode = (found.dev(), found.ino());
        let writer =
            Writer { file, path: path.clone(), inode, at: 0, unsynced_since: None, has_failed: false };
        let writer = Arc::new(Mutex::new(writer));
        let (used, is_used) = channel();
        let (beside, runtime) = (Arc::clone(&writer), Handle::try_current().ok());
        let thread = std::thread::Builder::new().name("growing".to_owned());
        thread.spawn(move || watch(&beside, &is_used, runtime.as_ref()))?;
        Ok(GrowingFile { key: key.clone(), path, room: bytes, is_given_up: false, writer, _used: used })
    }
}

#[async_trait]
impl Growing for GrowingFile {
    async fn append(&mut self, body: Body, behind: Body) -> Result<()> {
        if std::mem::replace(&mut self.is_given_up, true) {
            return Err(given_up(self.key.as_str()));
        }
        let length = body.len() + behind.len();
        if length > self.room {
            return Err(no_room(self.key.as_str(), length, self.room));
        }
        let done = lock(&self.writer).append(&body, &behind);
        done.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => gone(self.key.as_str()),
            _ => failure::from_io("append to", self.key.as_str(), &self.path, error),
        })?;
        (self.room, self.is_given_up) = (self.room - length, false);
        Ok(())
    }

    fn room(&self) -> u64 {
        self.room
    }
}

/// Syncs what was added behind the last append, and ends when nobody uses the file any more.
///
/// An append that hangs holds up a thread of the runtime, and with it, perhaps, the look-out for everything that the
/// runtime's other tasks wait for. Something new to do makes the runtime wake another thread, which takes it over.
fn watch(writer: &Mutex<Writer>, is_used: &Receiver<()>, runtime: Option<&Handle>) {
    loop {
        let is_over = is_used.recv_timeout(UNSYNCED_LIMIT) != Err(RecvTimeoutError::Timeout);
        match writer.try_lock() {
            Ok(mut writer) => writer.settle(is_over),
            Err(TryLockError::Poisoned(_)) => return,
            Err(TryLockError::WouldBlock) => {
                if let Some(runtime) = runtime {
                    drop(runtime.spawn(async {}));
                }
            }
        }
        if is_over {
            return;
        }
    }
}

fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    // Whoever panicked has left a call without an answer, so that the file is given up.
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Writer {
    file: File,
    path: PathBuf,
    /// Which file it is: its device and its number there.
    inode: (u64, u64),
    at: u64,
    /// When something was written that no sync has followed.
    unsynced_since: Option<Instant>,
    /// The system tells of a failure only once.
    has_failed: bool,
}

impl Writer {
    fn append(&mut self, body: &Body, behind: &Body) -> io::Result<()> {
        if std::mem::replace(&mut self.has_failed, true) {
            return Err(io::Error::other("an earlier write or sync of it failed"));
        }
        self.write(body)?;
        self.file.sync_data()?;
        // Somebody has removed it, or moved it or a folder that it lies in: nobody would find what it holds.
        let found = std::fs::symlink_metadata(&self.path)?;
        if (found.dev(), found.ino()) != self.inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        // That the body is durable is certain, whatever becomes of this.
        self.has_failed = self.write(behind).is_err();
        self.unsynced_since = (!behind.is_empty()).then(Instant::now);
        Ok(())
    }

    fn write(&mut self, body: &Body) -> io::Result<()> {
        for piece in body.pieces() {
            self.file.write_all_at(piece, self.at)?;
            self.at += piece.len() as u64;
        }
        Ok(())
    }

    /// Syncs what no append came behind.
    fn settle(&mut self, at_once: bool) {
        let is_due = |since: &Instant| at_once || since.elapsed() >= UNSYNCED_LIMIT;
        if !self.has_failed && self.unsynced_since.take_if(|since| is_due(since)).is_some() {
            self.has_failed = self.file.sync_data().is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::local::LocalStore;

    #[tokio::test]
    async fn r01_nothing_is_added_to_what_is_not_in_its_place_any_more() {
        let remove: fn(&Path) = |tail| std::fs::remove_dir_all(tail).unwrap();
        let move_away: fn(&Path) = |tail| std::fs::rename(tail, tail.with_extension("away")).unwrap();
        let replace: fn(&Path) = |tail| {
            std::fs::remove_file(tail.join("strip")).unwrap();
            std::fs::write(tail.join("strip"), [0; 4096]).unwrap();
        };
        for (case, what) in [("removed", remove), ("moved", move_away), ("replaced", replace)] {
            let scratch = tempfile::tempdir().unwrap();
            let store = LocalStore::new(scratch.path().to_owned());
            let key = "tail/strip".parse().unwrap();
            let mut file = store.blocking(move |root| root.grow(&key, 4096)).await.unwrap();
            file.append(b"abc".to_vec().into(), Body::default()).await.unwrap();
            what(&scratch.path().join("tail"));
            let error = file.append(b"def".to_vec().into(), Body::default()).await.unwrap_err();
            assert!(error.is_not_found(), "{case}: {error}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_append_that_hangs_holds_up_nobody_else() {
        let scratch = tempfile::tempdir().unwrap();
        let store = LocalStore::new(scratch.path().to_owned());
        let mut file = store.blocking(|root| root.grow(&"tail/strip".parse().unwrap(), 4096)).await.unwrap();
        let writer = Arc::clone(&file.writer);
        let (hold, held) = (Arc::new(std::sync::Barrier::new(2)), channel::<()>());
        let (begun, (release, released)) = (Arc::clone(&hold), held);
        let disk = std::thread::spawn(move || {
            let _hanging = lock(&writer);
            begun.wait();
            let _ = released.recv();
        });
        hold.wait();
        let appending = tokio::spawn(async move {
            let done = file.append(b"abc".to_vec().into(), Body::default()).await;
            done.map(|()| file.room())
        });
        // What others wait for comes: here some moments, one after the other.
        for _ in 0..20 {
            tokio::spawn(tokio::time::sleep(Duration::from_millis(10))).await.unwrap();
        }
        assert!(!appending.is_finished());
        drop(release);
        assert_eq!(appending.await.unwrap().unwrap(), 4093);
        disk.join().unwrap();
    }
}
