//! A store in memory that can be copied as it is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_storage::{Body, Entry, Error, ErrorKind, Key, Listing, PAGE_LENGTH, Put, Result, Store};

#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Bytes>>);

impl MemoryStore {
    pub fn copy(&self) -> Arc<MemoryStore> {
        Arc::new(MemoryStore(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// The names of the objects with `part` in them.
    pub fn names(&self, part: &str) -> Vec<String> {
        self.0.lock().unwrap().keys().filter(|key| key.contains(part)).cloned().collect()
    }

    /// Puts other bytes in an object's place, as no store would.
    pub fn spoil(&self, key: &str) {
        self.0.lock().unwrap().insert(key.to_owned(), Bytes::from_static(b"spoilt"));
    }

    pub fn remove(&self, key: &str) {
        self.0.lock().unwrap().remove(key).unwrap();
    }

    fn find(&self, key: &Key) -> Result<Bytes> {
        let missing = || Error::new(ErrorKind::NotFound, "get", key.as_str(), "not there. hint: none");
        self.0.lock().unwrap().get(key.as_str()).cloned().ok_or_else(missing)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> Result<Put> {
        let mut objects = self.0.lock().unwrap();
        if objects.contains_key(key.as_str()) {
            return Ok(Put::Exists);
        }
        objects.insert(key.to_string(), body.to_bytes());
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
        for (key, object) in self.0.lock().unwrap().range(prefix.to_owned()..) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            if after.is_some_and(|after| key.as_str() <= after) {
                continue;
            }
            match rest.find('/').filter(|_| folders) {
                Some(slash) => {
                    let folder = format!("{prefix}{}", &rest[..=slash]);
                    if page.folders.last() != Some(&folder)
                        && after.is_none_or(|after| !after.starts_with(&folder))
                    {
                        page.folders.push(folder);
                    }
                }
                None => page.entries.push(Entry { key: key.parse()?, size: object.len() as u64 }),
            }
            if page.entries.len() + page.folders.len() == PAGE_LENGTH {
                page.next = Some(key.clone());
                break;
            }
        }
        Ok(page)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.lock().unwrap().remove(key.as_str());
        Ok(())
    }

    fn url(&self) -> String {
        "memory".to_owned()
    }
}
