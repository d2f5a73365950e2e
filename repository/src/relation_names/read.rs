//! Reading objects of names.

use std::io::{BufRead, Read};

use bytes::Bytes;
use highwater_storage::Key;
use serde::Deserialize;

use super::{DatabaseNames, NamesHead, NamesId, RelationName, short};
use crate::cluster::ClusterRepository;
use crate::codec::{Fault, line_reader, read_skippable};
use crate::digest::{Digest, Plain};
use crate::envelope::MAX_HEAD_BYTES;
use crate::repository::MAX_PAGES;
use crate::{Error, Result};

/// No object of names is longer.
const MAX_OBJECT_BYTES: u64 = 512 << 20;
/// No line is longer: names have at most 63 bytes, and reasons are a sentence.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum NamesItem {
    /// A database; its relations follow.
    Database(DatabaseNames),
    /// A relation of the database before it.
    Relation(RelationName),
}

/// Reads names line by line. Memory holds the object as it is stored.
pub struct NamesReader {
    head: NamesHead,
    key: Key,
    lines: Box<dyn BufRead + Send>,
    hasher: blake3::Hasher,
    line: Vec<u8>,
}

impl std::fmt::Debug for NamesReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamesReader").field("head", &self.head).finish()
    }
}

impl NamesReader {
    /// The facts.
    pub fn head(&self) -> &NamesHead {
        &self.head
    }

    /// The next line; `None` behind the last.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    #[expect(clippy::should_implement_trait, reason = "it can fail, as the reader of manifests")]
    pub fn next(&mut self) -> Result<Option<NamesItem>> {
        self.line.clear();
        let mut limited = (&mut self.lines).take(MAX_LINE_BYTES + 1);
        limited
            .read_until(b'\n', &mut self.line)
            .map_err(|error| Error::damaged(&self.key, format!("the Zstandard frame is damaged: {error}")))?;
        match self.line.last() {
            None => self.end().map(|()| None),
            Some(b'\n') => {
                self.hasher.update(&self.line);
                let item = serde_json::from_slice(&self.line);
                item.map(Some).map_err(|error| Error::damaged(&self.key, format!("a line of it: {error}")))
            }
            Some(_) => Err(Error::damaged(&self.key, "a line of it is too long, or has no end")),
        }
    }

    fn end(&self) -> Result<()> {
        let content =
            Plain { length: self.hasher.count(), digest: Digest(*self.hasher.finalize().as_bytes()) };
        if content == self.head.content {
            return Ok(());
        }
        Err(Error::damaged(&self.key, "its lines do not have the digest that its head names"))
    }
}

impl ClusterRepository {
    /// What names there are, in the order of the times at which they were taken.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list_names(&self) -> Result<Vec<NamesId>> {
        let prefix = self.section().names();
        let mut found = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page = self.repository().store().list(&prefix, after.as_deref(), false).await?;
            let names = page.entries.iter().filter_map(|entry| entry.key.as_str().strip_prefix(&prefix));
            found.extend(names.filter_map(|name| name.parse::<NamesId>().ok()));
            after = page.next;
            if after.is_none() {
                found.sort_unstable();
                return Ok(found);
            }
        }
        Err(self.repository().endless(&prefix))
    }

    /// The facts of names, by a ranged read.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Locked`], and those of the store.
    pub async fn names_head(&self, id: &NamesId) -> Result<NamesHead> {
        let key = self.section().names_at(id);
        let beginning = self.repository().fetch_beginning(&key).await?;
        let json = self.repository().read_head(&key, beginning).await?;
        parse_head(&key, &json, id)
    }

    /// Begins to read names.
    ///
    /// # Errors
    /// As [`ClusterRepository::names_head`].
    pub async fn get_names(&self, id: &NamesId) -> Result<NamesReader> {
        let key = self.section().names_at(id);
        let object = self.repository().fetch(&key, MAX_OBJECT_BYTES).await?;
        let content = self.repository().unseal(&key, object).await?;
        let (json, frame) = read_skippable(&content, MAX_HEAD_BYTES).map_err(|fault| fault.of(&key))?;
        let head = parse_head(&key, json, id)?;
        if Plain::of(frame) != head.frame {
            return Err(Error::damaged(&key, "its frame does not have the digest that its head names"));
        }
        let frame: Bytes = content.slice_ref(frame);
        let lines = line_reader(frame).map_err(|error| Fault::Damaged(error.to_string()).of(&key))?;
        Ok(NamesReader { head, key, lines: Box::new(lines), hasher: blake3::Hasher::new(), line: Vec::new() })
    }
}

fn parse_head(key: &Key, json: &[u8], id: &NamesId) -> Result<NamesHead> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let bad = |error: serde_json::Error| Error::damaged(key, format!("its head: {error}"));
    let Version { version } = serde_json::from_slice(json).map_err(bad)?;
    if version > NamesHead::VERSION {
        return Err(Error::NewerFormat { url: key.to_string(), found: version, known: NamesHead::VERSION });
    }
    let head: NamesHead = serde_json::from_slice(json).map_err(bad)?;
    let NamesHead { taken_at, timeline, lsn, content, .. } = head;
    if (NamesId { taken_at, timeline, lsn, content: short(content.digest) }) != *id {
        return Err(Error::damaged(key, "its head speaks of another time, place or content than its name"));
    }
    Ok(head)
}
