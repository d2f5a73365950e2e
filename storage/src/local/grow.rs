//! Objects that grow: files that have their full length, as written zeros, before the first byte is added.
//!
//! A file that is only made longer, or whose blocks were only reserved, costs a write of the file system's own with each sync. Written
//! zeros are made aside, ahead of when they are needed, and an append is one write over them and one `fdatasync`, by a thread that
//! does nothing else: so it waits for no other work, and nothing but its caller waits for a disk that hangs.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::put::Aside;
use super::{Root, failure};
use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::growing::{Growing, given_up, no_room, taken};
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

/// A file that grows, and the thread that writes it.
#[derive(Debug)]
pub(super) struct GrowingFile {
    key: Key,
    room: u64,
    work: Sender<Work>,
    /// A call was begun and has not answered with success.
    is_given_up: bool,
}

#[derive(Debug)]
struct Work {
    body: Body,
    behind: Body,
    answer: oneshot::Sender<Result<()>>,
}

impl GrowingFile {
    fn new(key: &Key, path: PathBuf, file: File, bytes: u64) -> io::Result<GrowingFile> {
        let (work, given) = channel();
        let writer = Writer { key: key.clone(), path, file, at: 0, is_unsynced: false };
        std::thread::Builder::new().name("growing".to_owned()).spawn(move || writer.run(&given))?;
        Ok(GrowingFile { key: key.clone(), room: bytes, work, is_given_up: false })
    }

    async fn ask(&self, body: Body, behind: Body) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let lost = || {
            let message = "the thread that writes it was lost. hint: look at the machine's log for failures of the disk";
            Error::new(ErrorKind::Other, "append to", self.key.as_str(), message)
        };
        self.work.send(Work { body, behind, answer }).map_err(|_| lost())?;
        answered.await.map_err(|_| lost())?
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
        self.ask(body, behind).await?;
        (self.room, self.is_given_up) = (self.room - length, false);
        Ok(())
    }

    fn room(&self) -> u64 {
        self.room
    }
}

/// What the thread works on.
struct Writer {
    key: Key,
    path: PathBuf,
    file: File,
    at: u64,
    /// Something was written that no sync has followed.
    is_unsynced: bool,
}

impl Writer {
    /// Works until there is no more to come, or something has failed: the next call then finds it gone.
    fn run(mut self, given: &Receiver<Work>) {
        loop {
            let work = match given.recv_timeout(UNSYNCED_LIMIT) {
                Err(RecvTimeoutError::Timeout) => match self.settle() {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                Err(RecvTimeoutError::Disconnected) => {
                    // Nobody is left who could be told.
                    let _ = self.settle();
                    return;
                }
                Ok(work) => work,
            };
            let done = self.append(&work.body);
            let is_done = done.is_ok();
            let told = |error| failure::from_io("append to", self.key.as_str(), &self.path, error);
            // Whoever asked may have gone.
            let _ = work.answer.send(done.map_err(told));
            if !is_done || self.write(&work.behind).is_err() {
                return;
            }
        }
    }

    /// Writes and syncs.
    fn append(&mut self, body: &Body) -> io::Result<()> {
        self.write(body)?;
        self.file.sync_data()?;
        self.is_unsynced = false;
        // Somebody has removed it: what it holds is lost when it is closed.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }

    fn write(&mut self, body: &Body) -> io::Result<()> {
        for piece in body.pieces() {
            self.file.write_all_at(piece, self.at)?;
            self.at += piece.len() as u64;
            self.is_unsynced = true;
        }
        Ok(())
    }

    /// Syncs what no append came behind.
    fn settle(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_unsynced) { self.file.sync_data() } else { Ok(()) }
    }
}
