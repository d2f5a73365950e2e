//! Fetching extents: one ranged read for several that lie together.

use std::collections::HashMap;

use bytes::Bytes;

use crate::backups::Backups;
use crate::codec::decode_extent;
use crate::crypt::{ChunkRange, is_encrypted, payload_start};
use crate::digest::Digest;
use crate::names::PackId;
use crate::pack::{ExtentRef, MAX_EXTENT_BYTES, MAX_PACK_BYTES, MAX_STORED_EXTENT_BYTES};
use crate::{Error, Result};

/// How many packs' headers are remembered; each takes less than 1 KiB.
const MAX_HEADERS: usize = 1024;
/// As much of an encrypted pack is fetched at first for its header.
pub(super) const HEADER_FETCH_BYTES: u64 = 4 << 10;

/// Fetches extents of one section. Cloning is cheap; several may be used at the same time.
#[derive(Clone, Debug)]
pub struct ExtentReader {
    backups: Backups,
    headers: std::sync::Arc<std::sync::Mutex<HashMap<PackId, Bytes>>>,
}

/// The frames of extents that were fetched by one ranged read, not decompressed yet.
#[derive(Clone, Debug)]
pub struct FetchedExtents {
    key: String,
    frames: Vec<(ExtentRef, Bytes)>,
}

impl ExtentReader {
    /// A reader for packs of this section.
    pub fn new(backups: &Backups) -> ExtentReader {
        ExtentReader { backups: backups.clone(), headers: Default::default() }
    }

    /// Fetches extents by one ranged read from the beginning of the first to the end of the last: they must lie in one
    /// pack and in rising order. What lies between them is fetched too, so they should lie close together.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the pack does not reach as far, [`Error::Missing`] where there is none.
    pub async fn fetch(&self, extents: &[ExtentRef]) -> Result<FetchedExtents> {
        let (Some(first), Some(last)) = (extents.first(), extents.last()) else {
            return Ok(FetchedExtents { key: String::new(), frames: Vec::new() });
        };
        let key = self.backups.section().pack(first.pack);
        for extent in extents {
            check_extent(extent).map_err(|reason| {
                Error::damaged(&key, format!("a manifest names an extent in it that {reason}"))
            })?;
        }
        let in_order = extents.windows(2).all(|pair| {
            pair[0].pack == pair[1].pack && pair[0].offset + u64::from(pair[0].stored) <= pair[1].offset
        });
        if !in_order {
            return Err(Error::Refused {
                what: key.to_string(),
                reason: "the extents to be fetched lie in several packs or out of order".to_owned(),
                hint: "this is a fault of the program: report it",
            });
        }
        let start = first.offset;
        let bytes = self.range(first.pack, start, last.offset + u64::from(last.stored)).await;
        let bytes = bytes.map_err(|error| error.of_named(&key))?;
        let frame = |extent: &ExtentRef| {
            let from = (extent.offset - start) as usize;
            let to = from + extent.stored as usize;
            if to > bytes.len() {
                return Err(Error::damaged(&key, format!("it ends before byte {}", start + to as u64)));
            }
            Ok((*extent, bytes.slice(from..to)))
        };
        let frames = extents.iter().map(frame).collect::<Result<_>>()?;
        Ok(FetchedExtents { key: key.to_string(), frames })
    }

    /// The pack's bytes from `start` to `end`, decrypted; fewer where it ends before.
    async fn range(&self, id: PackId, start: u64, end: u64) -> Result<Bytes> {
        let repository = self.backups.repository();
        let key = self.backups.section().pack(id);
        // Whether a pack is encrypted is seen only from its beginning, which every pack's first extent lies at.
        let header = match self.remembered(id) {
            Some(header) => header,
            None if start == 0 => {
                // An extent can be shorter than what tells whether the pack is encrypted.
                let bytes = repository.fetch_range(&key, 0, end.max(HEADER_FETCH_BYTES)).await?;
                if !is_encrypted(&bytes) {
                    self.remember(id, Bytes::new());
                    return Ok(bytes.slice(..bytes.len().min(end as usize)));
                }
                self.learn(id, bytes).await?
            }
            None => {
                let beginning = repository.fetch_range(&key, 0, HEADER_FETCH_BYTES).await?;
                self.learn(id, beginning).await?
            }
        };
        if header.is_empty() {
            return repository.fetch_range(&key, start, end - start).await;
        }
        let payload_start = payload_start(&header).map_err(|fault| fault.of(&key))?;
        let range = ChunkRange::new(payload_start, start..end);
        let stored =
            repository.fetch_range(&key, range.stored.start, range.stored.end - range.stored.start).await?;
        let identities = repository.identities().await?;
        let plain = identities.open_range(header, &range, stored);
        plain.map(Bytes::from).map_err(|reason| repository.unopened(&key, reason))
    }

    /// Remembers an encrypted pack's header, or that it is none.
    async fn learn(&self, id: PackId, beginning: Bytes) -> Result<Bytes> {
        let key = self.backups.section().pack(id);
        let header = if is_encrypted(&beginning) {
            let mut whole = self.backups.repository().with_header(&key, &beginning).await?;
            let start = payload_start(&whole).map_err(|fault| fault.of(&key))?;
            if start > whole.len() {
                // The nonce behind the header was cut off.
                whole = self.backups.repository().fetch_range(&key, 0, start as u64).await?;
            }
            Bytes::copy_from_slice(&whole[..start.min(whole.len())])
        } else {
            Bytes::new()
        };
        self.remember(id, header.clone());
        Ok(header)
    }

    fn remembered(&self, id: PackId) -> Option<Bytes> {
        self.headers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&id).cloned()
    }

    fn remember(&self, id: PackId, header: Bytes) {
        let mut headers = self.headers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if headers.len() >= MAX_HEADERS {
            headers.clear();
        }
        headers.insert(id, header);
    }
}

/// Whether an extent can be what a manifest says of it.
pub(crate) fn check_extent(extent: &ExtentRef) -> Result<(), &'static str> {
    if extent.length == 0 || extent.length as usize > MAX_EXTENT_BYTES {
        return Err("has an impossible length");
    }
    if extent.stored == 0 || extent.stored as usize > MAX_STORED_EXTENT_BYTES {
        return Err("has an impossible stored length");
    }
    if extent.offset > MAX_PACK_BYTES {
        return Err("lies behind the end of any pack");
    }
    Ok(())
}

impl FetchedExtents {
    /// How many extents there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Length of all plain bytes.
    pub fn plain_bytes(&self) -> u64 {
        self.frames.iter().map(|(extent, _)| u64::from(extent.length)).sum()
    }

    /// Decompresses and verifies extent after extent and hands each to `take`, in order. `buffer` is used for all of
    /// them. It computes: call it where a thread may be kept busy.
    ///
    /// # Errors
    /// [`Error::Damaged`] where an extent is not what the manifest says (R7); it is not handed over. And those of `take`.
    pub fn each<E: From<Error>>(
        &self,
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&ExtentRef, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (extent, frame) in &self.frames {
            buffer.resize(extent.length as usize, 0);
            decode_extent(frame, buffer).map_err(|fault| fault.of(&self.key))?;
            let digest = Digest::of(buffer);
            if digest != extent.digest {
                let reason = format!(
                    "the extent at byte {} has digest {digest}, not {}",
                    extent.offset, extent.digest
                );
                return Err(Error::damaged(&self.key, reason).into());
            }
            take(extent, buffer)?;
        }
        Ok(())
    }
}
