//! Which packs there are, and how far each reaches.

use crate::backups::Backups;
use crate::crypt::{is_encrypted, payload_start, plain_of_header, sealed_bytes, whole_chunks};
use crate::names::PackId;
use crate::pack::reader::HEADER_FETCH_BYTES;
use crate::{Error, Result};

/// A pack as the store lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredPack {
    /// Its name.
    pub id: PackId,
    /// Its length in the store in bytes, encryption included.
    pub stored_bytes: u64,
}

/// One page of a listing of packs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PackPage {
    /// Packs, in the order of their names.
    pub packs: Vec<StoredPack>,
    /// What to pass as `after` for the next page; nothing when this was the last.
    pub next: Option<String>,
}

impl Backups {
    /// One page of the section's packs, complete backups' and others'.
    pub async fn packs(&self, after: Option<&str>) -> Result<PackPage> {
        let section = self.section();
        let page = self.repository().store().list(&section.packs(), after, false).await?;
        let pack = |entry: highwater_storage::Entry| {
            let id = entry.key.as_str().rsplit('/').next()?.parse().ok()?;
            (entry.key == section.pack(id)).then_some(StoredPack { id, stored_bytes: entry.size })
        };
        Ok(PackPage { packs: page.entries.into_iter().filter_map(pack).collect(), next: page.next })
    }

    /// How many bytes of a pack, before encryption, can be read from its beginning: all, unless it was cut short. Damage
    /// within is not seen. Where the repository encrypts, the pack's header is fetched.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn readable_bytes(&self, pack: StoredPack) -> Result<u64> {
        if !self.repository().encrypts() {
            return Ok(pack.stored_bytes);
        }
        let key = self.section().pack(pack.id);
        match self.repository().fetch_range(&key, 0, HEADER_FETCH_BYTES).await {
            Ok(beginning) if !is_encrypted(&beginning) => Ok(pack.stored_bytes),
            Ok(beginning) => {
                let header = self.repository().with_header(&key, &beginning).await?;
                Ok(readable_of_sealed(&header, pack.stored_bytes))
            }
            Err(error) if error.is_damaged() || error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The error for a listing of packs that has more pages than can be.
    pub fn endless_packs(&self) -> Error {
        self.repository().endless(&self.section().packs())
    }
}

/// The same for an encrypted pack that begins so. Of one that was cut short only whole chunks can be decrypted.
fn readable_of_sealed(header: &[u8], stored_bytes: u64) -> u64 {
    let (Ok(start), Ok(plain)) = (payload_start(header), plain_of_header(header)) else { return 0 };
    match stored_bytes >= sealed_bytes(start, plain.length) {
        true => plain.length,
        false => whole_chunks(start, stored_bytes),
    }
}
