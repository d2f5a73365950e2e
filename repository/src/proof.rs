//! Reading that leaves nothing unproven.
//!
//! Who restores compares the digests of what is needed. Here every byte of an object counts: the frames' own checksums, which other
//! programs go by, what an encrypted object tells of itself to those who cannot open it, and what lies in a pack between the
//! extents that manifests name.

use std::ops::Range;

use bytes::Bytes;
use highwater_storage::Key;
use highwater_wal::WalFile;

use crate::backups::Backups;
use crate::cluster::ClusterRepository;
use crate::codec::{decode_small, prove_extent, prove_first_frame, read_skippable};
use crate::crypt::{Identities, is_encrypted, payload_start, plain_of_header, unwrap_identity};
use crate::digest::{Digest, Plain};
use crate::envelope::MAX_HEAD_BYTES;
use crate::names::PackId;
use crate::pack::{ExtentRef, MAX_EXTENT_BYTES, MAX_PACK_BYTES, check_extent};
use crate::repository::MAX_WRAPPED_BYTES;
use crate::wal_object::{WalObject, max_object_bytes, parse_head};
use crate::{Error, Repository, Result, keys};

impl Repository {
    /// Whether any identity is at hand that could open encrypted objects.
    ///
    /// # Errors
    /// Those of the identity file, or of the wrapped identity in the repository.
    pub async fn has_identity(&self) -> Result<bool> {
        Ok(!self.identities().await?.is_empty())
    }

    /// Proves a wrapped identity, as far as it can be: with the passphrase of the settings that it holds the private key that its
    /// name tells of. `false` where there is no passphrase: then only its form was looked at.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not what its name says; [`Error::Locked`] where the passphrase does not open it.
    pub async fn prove_wrapped_identity(&self, key: &Key) -> Result<bool> {
        let wrapped = self.fetch(key, MAX_WRAPPED_BYTES).await?;
        payload_start(&wrapped).map_err(|fault| fault.of(key))?;
        let Some(passphrase) = self.config().passphrase()? else { return Ok(false) };
        let text = unwrap_identity(&wrapped, &passphrase).map_err(|reason| self.unopened(key, reason))?;
        let identities = Identities::parse(text.expose())
            .map_err(|line| Error::damaged(key, format!("line {line} is no private key")))?;
        match identities.recipients().any(|recipient| keys::wrapped_identity(&recipient) == *key) {
            true => Ok(true),
            false => Err(Error::damaged(key, "it holds another private key than its name says")),
        }
    }

    /// Whether an encrypted object's header tells the truth of `plain` to those who cannot open it.
    fn tells(&self, key: &Key, object: &[u8], plain: Plain) -> Result<()> {
        if !is_encrypted(object) {
            return Ok(());
        }
        match plain_of_header(object).map_err(|fault| fault.of(key))? {
            told if told == plain => Ok(()),
            told => Err(Error::damaged(key, format!("its header tells of {told}, and it holds {plain}"))),
        }
    }
}

impl ClusterRepository {
    /// A file of WAL of which everything was compared: digest, the frame's own checksum, what the object tells of itself without
    /// an identity.
    ///
    /// # Errors
    /// A store error of kind not-found where it is not there; [`Error::Damaged`].
    pub async fn prove_wal(&self, file: WalFile) -> Result<WalObject> {
        let key = self.section().wal(file);
        let repository = self.repository().clone();
        let object = repository.fetch(&key, max_object_bytes(file)).await?;
        let identities = match is_encrypted(&object) {
            true => Some(repository.identities().await?.clone()),
            false => None,
        };
        let decode = move || {
            let content: Bytes = match identities {
                Some(identities) => {
                    identities.open(&object).map_err(|reason| repository.unopened(&key, reason))?.into()
                }
                None => object.clone(),
            };
            let (json, frame) = read_skippable(&content, MAX_HEAD_BYTES).map_err(|fault| fault.of(&key))?;
            let head = parse_head(&key, json)?;
            repository.tells(&key, &object, head.plain)?;
            let limit = usize::try_from(head.plain.length)
                .map_err(|_| Error::damaged(&key, "it claims more bytes than there can be"))?;
            let bytes = decode_small(frame, limit).map_err(|fault| fault.of(&key))?;
            match Plain::of(&bytes) {
                found if found == head.plain => Ok(WalObject { head, bytes }),
                found => Err(Error::damaged(
                    &key,
                    format!("its content has {found}, and its head says {}", head.plain),
                )),
            }
        };
        on_a_busy_thread(decode).await
    }
}

/// Lets something compute where it keeps no other task waiting.
async fn on_a_busy_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Codec(std::io::Error::other(error))),
    }
}

/// The content of a pack, decrypted.
#[derive(Clone, Debug)]
pub struct WholePack {
    key: Key,
    content: Bytes,
}

impl Backups {
    /// Fetches a whole pack and decrypts it. Memory: twice its length.
    ///
    /// # Errors
    /// A store error of kind not-found where it is not there; [`Error::Damaged`].
    pub async fn whole_pack(&self, id: PackId) -> Result<WholePack> {
        let key = self.section().pack(id);
        let object = self.repository().fetch(&key, MAX_PACK_BYTES + (MAX_PACK_BYTES >> 8)).await?;
        if !is_encrypted(&object) {
            return Ok(WholePack { key, content: object });
        }
        let identities = self.repository().identities().await?.clone();
        let repository = self.repository().clone();
        let open = move || {
            let content: Bytes =
                identities.open(&object).map_err(|reason| repository.unopened(&key, reason))?.into();
            repository.tells(&key, &object, Plain::of(&content))?;
            Ok(WholePack { key, content })
        };
        on_a_busy_thread(open).await
    }
}

impl WholePack {
    /// Its name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Length of its content in bytes.
    pub fn len(&self) -> u64 {
        self.content.len() as u64
    }

    /// Whether it has no content, which no pack is meant to be.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Fills `buffer` with an extent, and proves it: the frame's checksum and the digest.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn prove(&self, extent: &ExtentRef, buffer: &mut Vec<u8>) -> Result<()> {
        check_extent(extent).map_err(|reason| {
            Error::damaged(&self.key, format!("a manifest names an extent in it that {reason}"))
        })?;
        let damaged = |reason: String| {
            Error::damaged(&self.key, format!("the extent at byte {}: {reason}", extent.offset))
        };
        let end = extent.offset + u64::from(extent.stored);
        let frame = self.content.get(extent.offset as usize..end as usize);
        let frame = frame.ok_or_else(|| damaged(format!("the pack ends at byte {}", self.content.len())))?;
        buffer.resize(extent.length as usize, 0);
        prove_extent(frame, buffer).map_err(|fault| damaged(fault.reason()))?;
        match Digest::of(buffer) {
            digest if digest == extent.digest => Ok(()),
            digest => Err(damaged(format!("it has digest {digest}, not {}", extent.digest))),
        }
    }

    /// Proves that a part of the pack is whole frames with right checksums, and nothing else: extents that no manifest names any
    /// more. Answers how many there are.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn prove_frames(&self, range: Range<u64>) -> Result<u64> {
        let mut at = range.start;
        let mut frames = 0;
        while at < range.end {
            let part = self.content.get(at as usize..range.end.min(self.len()) as usize).unwrap_or_default();
            let length = prove_first_frame(part, MAX_EXTENT_BYTES).map_err(|fault| {
                Error::damaged(&self.key, format!("the bytes from {at} on are no extent: {}", fault.reason()))
            })?;
            at += length as u64;
            frames += 1;
        }
        Ok(frames)
    }
}
