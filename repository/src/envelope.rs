//! Small objects: JSON that is compressed, then encrypted. And the beginnings of large ones.

use bytes::Bytes;
use highwater_storage::{Body, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Fault, SkippableHeader, SmallEncoder, decode_small, read_skippable};
use crate::crypt::{ChunkRange, MAX_HEADER_BYTES, is_encrypted, payload_start};
use crate::digest::Plain;
use crate::{Error, Repository, Result};

/// The longest content of a small object.
pub(crate) const MAX_SMALL_BYTES: usize = 16 << 20;
/// The longest content of the skippable frame in front of a large object: the summary of a segment at its largest has
/// about 1 MiB.
pub(crate) const MAX_HEAD_BYTES: usize = 4 << 20;
/// How many bytes of a large object are fetched at first for what stands in front. The usual summary has 1 KiB.
pub(crate) const FIRST_FETCH_BYTES: u64 = 4 << 10;
/// The same where the object may be encrypted: a header and one of age's chunks.
const FIRST_FETCH_ENCRYPTED_BYTES: u64 = 68 << 10;

impl Repository {
    /// Makes a small object.
    pub(crate) fn small_object<T: Serialize>(&self, content: &T) -> Result<Body> {
        let plain = serde_json::to_vec(content).map_err(|error| Error::Codec(error.into()))?;
        let mut encoder = SmallEncoder::new(&self.compression()).map_err(Error::Codec)?;
        let frame = encoder.encode(&plain).map_err(Error::Codec)?;
        self.seal(vec![frame.into()], Plain::of_pieces)
    }

    /// Reads a small object.
    pub(crate) async fn read_small<T: DeserializeOwned>(&self, key: &Key) -> Result<T> {
        let object = self.fetch(key, MAX_SMALL_BYTES as u64).await?;
        let frame = self.unseal(key, object).await?;
        let plain = decode_small(&frame, MAX_SMALL_BYTES).map_err(|fault| fault.of(key))?;
        serde_json::from_slice(&plain).map_err(|error| Error::damaged(key, format!("its JSON: {error}")))
    }

    /// The beginning of an object, as stored: enough for the usual head.
    pub(crate) async fn fetch_beginning(&self, key: &Key) -> Result<Bytes> {
        self.fetch_range(key, 0, self.first_fetch_bytes()).await
    }

    fn first_fetch_bytes(&self) -> u64 {
        if self.encrypts() { FIRST_FETCH_ENCRYPTED_BYTES } else { FIRST_FETCH_BYTES }
    }

    /// The text of the skippable frame that an object begins with. `beginning` is what has been fetched already.
    pub(crate) async fn read_head(&self, key: &Key, beginning: Bytes) -> Result<Bytes> {
        Ok(self.read_stored_head(key, beginning).await?.0)
    }

    /// The same, and the stored bytes that it was read from: with these, it can be read again without the store.
    pub(crate) async fn read_stored_head(&self, key: &Key, beginning: Bytes) -> Result<(Bytes, Bytes)> {
        let (start, _) = self.plain_beginning(key, beginning.clone(), SkippableHeader::BYTES).await?;
        let header = SkippableHeader::read(&start, MAX_HEAD_BYTES).map_err(|fault| fault.of(key))?;
        let (frame, stored) = self.plain_beginning(key, beginning, header.frame_bytes()).await?;
        let (text, _) = read_skippable(&frame, MAX_HEAD_BYTES).map_err(|fault| fault.of(key))?;
        Ok((frame.slice_ref(text), stored))
    }

    /// At least the first `length` plain bytes of an object, or all where it has fewer; and the stored bytes that hold them.
    async fn plain_beginning(&self, key: &Key, beginning: Bytes, length: usize) -> Result<(Bytes, Bytes)> {
        if !is_encrypted(&beginning) {
            if beginning.len() >= length {
                return Ok((beginning.clone(), beginning.slice(..length)));
            }
            let fetched = self.fetch_range(key, 0, length as u64).await?;
            return Ok((fetched.clone(), fetched));
        }
        let header = self.with_header(key, &beginning).await?;
        let payload_start = payload_start(&header).map_err(|fault| fault.of(key))?;
        let range = ChunkRange::new(payload_start, 0..length as u64);
        let stored = match usize::try_from(range.stored.end) {
            Ok(end) if header.len() >= end => header.slice(..end),
            // The first fetch has got all of it.
            _ if (beginning.len() as u64) < self.first_fetch_bytes() && header.len() == beginning.len() => {
                header
            }
            _ => self.fetch_range(key, 0, range.stored.end).await?,
        };
        let chunks = stored.slice(payload_start.min(stored.len())..);
        let identities = self.identities().await?;
        let plain = identities
            .open_range(stored.clone(), &range, chunks)
            .map_err(|reason| self.unopened(key, reason))?;
        Ok((plain.into(), stored))
    }

    /// The beginning of an encrypted object with the whole of its header.
    pub(crate) async fn with_header(&self, key: &Key, beginning: &Bytes) -> Result<Bytes> {
        match payload_start(beginning) {
            Err(Fault::Damaged(_)) if beginning.len() < MAX_HEADER_BYTES => {
                self.fetch_range(key, 0, MAX_HEADER_BYTES as u64).await
            }
            _ => Ok(beginning.clone()),
        }
    }
}
