//! Objects as files below a folder.
//!
//! A put writes its body into a file in the hidden folder [`ASIDE`] at the repository's root, on the same file
//! system, syncs it, and moves it to its name without replacing (`RENAME_NOREPLACE`, else `link`); then it syncs the
//! folder, and those above that are new. So an object is there whole or not at all, and is durable when the put
//! answers (R1, R2). Reading needs neither locks nor the hidden folder, so a copy of the folder is a repository too.
//!
//! What may wait for a disk for long (puts, listings, deletes, reads over [`SHORT_READ_BYTES`]) runs on tokio's
//! blocking threads, so that several go on at once and none holds up a single-threaded runtime; starting one costs
//! some 50 µs. Sizes, short reads, and appends to what grows run in place: moving them to a thread would cost more than they do.

mod failure;
mod folders;
mod grow;
mod list;
mod names;
mod put;
mod read;
mod synced;

pub use read::ObjectFile;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;

use self::grow::Spare;
use self::names::Remembered;
use self::synced::Synced;
use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::growing::Growing;
use crate::key::Key;
use crate::store::{Listing, MAX_OBJECT_BYTES, Put, Store};

/// The folder, in the repository's root, for files that are being written. No [`Key`] begins with a dot.
const ASIDE: &str = ".aside";

/// Longest read that runs in place rather than on a blocking thread.
const SHORT_READ_BYTES: u64 = 128 * 1024;

/// A repository in a folder.
#[derive(Clone, Debug)]
pub(crate) struct LocalStore {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Whether this process has looked for what killed writers left aside.
    tidied: AtomicBool,
    /// The names of the large folder that was listed last.
    remembered: Remembered,
    /// The folders that this process has made durable.
    synced: Synced,
    /// A file for the next object that grows.
    spare: Spare,
}

impl LocalStore {
    pub(crate) fn new(path: PathBuf) -> Self {
        let root = Root {
            path,
            tidied: AtomicBool::new(false),
            remembered: Remembered::default(),
            synced: Synced::default(),
            spare: Spare::default(),
        };
        Self { root: Arc::new(root) }
    }

    /// Makes the repository's folder, and those above it, where they are missing.
    pub(crate) fn create_root(&self) -> Result<()> {
        folders::make_durable(&self.root.path)
            .map_err(|error| failure::from_io("create", self.url(), &self.root.path, error))
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Root) -> Result<T> + Send + 'static,
    {
        let root = Arc::clone(&self.root);
        tokio::task::spawn_blocking(move || work(&root)).await.unwrap_or_else(|error| {
            Err(Error::new(
                ErrorKind::Other,
                "work",
                self.url(),
                "the thread for disk access was lost. hint: this is a fault in the program, report it",
            )
            .with_source(error))
        })
    }
}

impl Root {
    fn file(&self, key: &Key) -> PathBuf {
        self.path.join(key.as_str())
    }

    /// Decides what it means that the system says "no such file" of `path`, which is below the root.
    ///
    /// It is an honest "not there" only when the folders above are what they should be: a missing root or a link that
    /// leads nowhere is a file system that isn't mounted (R6).
    fn confirm_missing(&self, operation: &'static str, key: &str, path: &Path) -> Result<()> {
        let below = path.strip_prefix(&self.path).unwrap_or(path);
        let mut looked_at = self.path.clone();
        for part in [None].into_iter().chain(below.components().map(Some)) {
            looked_at.extend(part);
            match fs::symlink_metadata(&looked_at) {
                Ok(found) if found.is_symlink() => {
                    fs::metadata(&looked_at).map_err(|error| {
                        failure::unmounted(operation, key, &looked_at, "is a link that leads nowhere", error)
                    })?;
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && part.is_some() => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(failure::unmounted(operation, key, &looked_at, "does not exist", error));
                }
                Err(error) => return Err(failure::from_io(operation, key, &looked_at, error)),
            }
        }
        Ok(())
    }

    fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        if body.len() > MAX_OBJECT_BYTES {
            return Err(Error::too_large("put", key.as_str(), body.len()));
        }
        body.may_be_put().await;
        let (key, body) = (key.clone(), body.clone());
        self.blocking(move |root| root.put(&key, &body)).await
    }

    async fn grow(&self, key: &Key, bytes: u64) -> Result<Option<Box<dyn Growing>>> {
        if bytes > MAX_OBJECT_BYTES {
            return Err(Error::too_large("make", key.as_str(), bytes));
        }
        let key = key.clone();
        let growing = self.blocking(move |root| root.grow(&key, bytes)).await?;
        let root = Arc::clone(&self.root);
        // Nobody waits for it.
        drop(tokio::task::spawn_blocking(move || root.prepare(bytes)));
        Ok(Some(Box::new(growing)))
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        let object = self.root.open(key)?;
        if object.size() > MAX_OBJECT_BYTES {
            return Err(Error::too_large("get", key.as_str(), object.size()));
        }
        let range = 0..object.size();
        if object.size() <= SHORT_READ_BYTES {
            return object.read(range);
        }
        self.blocking(move |_| object.read(range)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let object = self.root.open(key)?;
        let range = object.cut(range)?;
        if range.end - range.start <= SHORT_READ_BYTES {
            return object.read(range);
        }
        self.blocking(move |_| object.read(range)).await
    }

    async fn open(&self, key: &Key) -> Result<Option<ObjectFile>> {
        self.root.open(key).map(Some)
    }

    async fn size(&self, key: &Key) -> Result<u64> {
        self.root.size(key)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.blocking(move |root| root.list(&prefix, after.as_deref(), folders)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.delete_all(std::slice::from_ref(key)).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Result<()> {
        let keys = keys.to_vec();
        self.blocking(move |root| root.delete(&keys)).await
    }

    fn url(&self) -> String {
        self.root.url()
    }
}
