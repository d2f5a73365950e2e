//! Objects in memory, for tests: quickly filled, copied and compared, and open to changes behind the back of whoever uses
//! the store.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::growing::{Growing, given_up, gone, no_room, taken};
use crate::key::Key;
use crate::store::{Entry, Listing, PAGE_LENGTH, Put, Store};

/// Objects by their keys.
pub type Objects = BTreeMap<String, Bytes>;

/// A store that keeps its objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<Objects>>,
    created: Mutex<Vec<String>>,
}

impl MemoryStore {
    /// A store that holds these objects.
    pub fn of(objects: Objects) -> MemoryStore {
        MemoryStore { objects: Arc::new(Mutex::new(objects)), created: Mutex::default() }
    }

    /// What it holds, to be read, and to be changed as no store would.
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        lock(&self.objects)
    }

    /// The keys of what was put, in the order in which it came to be.
    pub fn created(&self) -> Vec<String> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another store with the same objects.
    pub fn copy(&self) -> MemoryStore {
        MemoryStore::of(self.objects().clone())
    }

    /// The keys with `part` in them, in order.
    pub fn names(&self, part: &str) -> Vec<String> {
        self.objects().keys().filter(|key| key.contains(part)).cloned().collect()
    }

    /// Puts other bytes in an object's place.
    pub fn spoil(&self, key: &str, bytes: impl Into<Bytes>) {
        self.objects().insert(key.to_owned(), bytes.into());
    }

    fn find(&self, key: &Key) -> Result<Bytes> {
        let missing = || Error::new(ErrorKind::NotFound, "get", key.as_str(), "not there. hint: none");
        self.objects().get(key.as_str()).cloned().ok_or_else(missing)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        body.may_be_put().await;
        let mut objects = self.objects();
        if objects.contains_key(key.as_str()) {
            return Ok(Put::Exists);
        }
        objects.insert(key.to_string(), body.to_bytes());
        self.created.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_string());
        Ok(Put::Created)
    }

    async fn grow(&self, key: &Key, bytes: u64) -> Result<Option<Box<dyn Growing>>> {
        let mut objects = self.objects();
        if objects.contains_key(key.as_str()) {
            return Err(taken(key.as_str()));
        }
        objects.insert(key.to_string(), Bytes::from(vec![0; usize::try_from(bytes).unwrap_or(0)]));
        self.created.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_string());
        let objects = Arc::clone(&self.objects);
        Ok(Some(Box::new(GrowingObject { objects, key: key.to_string(), at: 0, bytes, is_given_up: false })))
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.find(key)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let object = self.find(key)?;
        let end = range.end.min(object.len() as u64);
        if range.start >= end {
            return Err(Error::new(ErrorKind::Invalid, "get", key.as_str(), "bad range. hint: none"));
        }
        Ok(object.slice(range.start as usize..end as usize))
    }

    async fn size(&self, key: &Key) -> Result<u64> {
        self.find(key).map(|object| object.len() as u64)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        let mut page = Listing::default();
        let begin = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let mut last = None;
        for (key, object) in self.objects().range::<str, _>((begin, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let folder = rest.find('/').filter(|_| folders).map(|slash| &key[..prefix.len() + slash + 1]);
            let is_told = folder.is_some_and(|folder| {
                page.folders.last().is_some_and(|told| told == folder)
                    || after.is_some_and(|after| after.starts_with(folder))
            });
            if !is_told {
                if page.entries.len() + page.folders.len() == PAGE_LENGTH {
                    page.next = last;
                    break;
                }
                match folder {
                    Some(folder) => page.folders.push(folder.to_owned()),
                    None => page.entries.push(Entry { key: key.parse()?, size: object.len() as u64 }),
                }
            }
            last = Some(key.clone());
        }
        Ok(page)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.objects().remove(key.as_str());
        Ok(())
    }

    fn url(&self) -> String {
        "memory".to_owned()
    }
}

/// An object that grows.
#[derive(Debug)]
struct GrowingObject {
    objects: Arc<Mutex<Objects>>,
    key: String,
    at: usize,
    bytes: u64,
    is_given_up: bool,
}

impl GrowingObject {
    fn add(&mut self, body: &Body) {
        let mut objects = lock(&self.objects);
        // It may have been removed since.
        let Some(object) = objects.get_mut(&self.key) else { return };
        let mut grown = match std::mem::take(object).try_into_mut() {
            Ok(grown) => grown,
            Err(shared) => BytesMut::from(shared.as_ref()),
        };
        for piece in body.pieces() {
            // A test may have made it shorter.
            let end = self.at + piece.len();
            grown.resize(grown.len().max(end), 0);
            grown[self.at..end].copy_from_slice(piece);
            self.at = end;
        }
        *object = grown.freeze();
    }
}

#[async_trait]
impl Growing for GrowingObject {
    async fn append(&mut self, body: Body, behind: Body) -> Result<()> {
        if self.is_given_up {
            return Err(given_up(&self.key));
        }
        let length = body.len() + behind.len();
        if length > self.room() {
            self.is_given_up = true;
            return Err(no_room(&self.key, length, self.room()));
        }
        if !lock(&self.objects).contains_key(&self.key) {
            self.is_given_up = true;
            return Err(gone(&self.key));
        }
        self.add(&body);
        self.add(&behind);
        Ok(())
    }

    fn room(&self) -> u64 {
        self.bytes - self.at as u64
    }
}

fn lock(objects: &Mutex<Objects>) -> MutexGuard<'_, Objects> {
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}
