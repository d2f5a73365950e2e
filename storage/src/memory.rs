//! Objects in memory, for tests: quickly filled, copied and compared, and open to changes behind the back of whoever uses
//! the store.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::store::{Entry, Listing, PAGE_LENGTH, Put, Store};

/// Objects by their keys.
pub type Objects = BTreeMap<String, Bytes>;

/// A store that keeps its objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
    created: Mutex<Vec<String>>,
}

impl MemoryStore {
    /// A store that holds these objects.
    pub fn of(objects: Objects) -> MemoryStore {
        MemoryStore { objects: Mutex::new(objects), created: Mutex::default() }
    }

    /// What it holds, to be read, and to be changed as no store would.
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
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
