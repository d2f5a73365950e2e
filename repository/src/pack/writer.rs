//! Gathering extents into packs and putting them.

use std::io::Write;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::backups::Backups;
use crate::codec::Pieces;
use crate::digest::Plain;
use crate::names::PackId;
use crate::pack::{CompressedExtent, ExtentRef};
use crate::{Error, Result};

/// How large packs get and how many are on their way at a time. A writer holds about `target_bytes * (uploads + 1)` in
/// memory.
#[derive(Clone, Copy, Debug)]
pub struct PackLimits {
    /// A pack is put when it has so many bytes; it may be longer by one extent.
    pub target_bytes: u64,
    /// How many packs are put at the same time, at least 1.
    pub uploads: usize,
}

impl Default for PackLimits {
    fn default() -> PackLimits {
        PackLimits { target_bytes: 24 << 20, uploads: 2 }
    }
}

/// What a writer has put.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PackTotals {
    /// Packs.
    pub packs: u64,
    /// Extents in them.
    pub extents: u64,
    /// Bytes of the packs as they are in the store.
    pub stored_bytes: u64,
}

/// Gathers extents into packs and puts each when it is full, while the next is being filled.
///
/// An [`ExtentRef`] is known at once, but is good only when [`PackWriter::finish`] has answered: then every pack is
/// durable (R9).
#[derive(Debug)]
pub struct PackWriter {
    backups: Backups,
    limits: PackLimits,
    id: PackId,
    pieces: Pieces,
    uploads: JoinSet<Result<u64>>,
    totals: PackTotals,
}

impl PackWriter {
    /// A writer for packs of this section.
    pub fn new(backups: &Backups, limits: PackLimits) -> PackWriter {
        PackWriter {
            backups: backups.clone(),
            limits,
            id: PackId::random(),
            pieces: Pieces::default(),
            uploads: JoinSet::new(),
            totals: PackTotals::default(),
        }
    }

    /// Adds an extent; waits while too many packs are on their way.
    ///
    /// # Errors
    /// Those of the packs put so far. The writer is of no use after one.
    pub async fn add(&mut self, extent: &CompressedExtent) -> Result<ExtentRef> {
        let place = ExtentRef {
            pack: self.id,
            offset: self.pieces.len(),
            stored: extent.frame.len() as u32,
            length: extent.length,
            digest: extent.digest,
        };
        self.pieces.write_all(&extent.frame).map_err(Error::Codec)?;
        self.totals.extents += 1;
        if self.pieces.len() >= self.limits.target_bytes {
            self.put().await?;
        }
        Ok(place)
    }

    /// Puts the last pack and waits until all are durable.
    pub async fn finish(mut self) -> Result<PackTotals> {
        if self.pieces.len() > 0 {
            self.put().await?;
        }
        while !self.uploads.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(self.totals)
    }

    async fn put(&mut self) -> Result<()> {
        while self.uploads.len() >= self.limits.uploads.max(1) {
            self.wait_for_one().await?;
        }
        let id = std::mem::replace(&mut self.id, PackId::random());
        let pieces = std::mem::take(&mut self.pieces).into_vec();
        self.uploads.spawn(put_pack(self.backups.clone(), id, pieces));
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        if let Some(joined) = self.uploads.join_next().await {
            self.totals.stored_bytes += joined.map_err(task_failed)??;
            self.totals.packs += 1;
        }
        Ok(())
    }
}

fn task_failed(error: tokio::task::JoinError) -> Error {
    Error::Codec(std::io::Error::other(error))
}

async fn put_pack(backups: Backups, id: PackId, pieces: Vec<Bytes>) -> Result<u64> {
    let repository = backups.repository().clone();
    let seal = move || repository.seal(pieces, Plain::of_pieces);
    let body = if backups.repository().encrypts() {
        // Encrypting a pack takes some 30 ms, which others on this thread should not wait for.
        tokio::task::spawn_blocking(seal).await.map_err(task_failed)??
    } else {
        seal()?
    };
    backups.repository().put_own(&backups.section().pack(id), &body).await?;
    Ok(body.len())
}
