//! Where received WAL goes.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use highwater_repository::{ClusterRepository, TailPiece};
use highwater_wal::{Check, SegmentCheck, SegmentKind, SegmentName, SegmentSize, Summary, SystemId, WalFile};

use crate::buffer::Chunks;
use crate::error::Result;

/// What takes WAL. A success means that it is durable (R1).
#[async_trait]
pub(crate) trait Target: Send + Sync + 'static {
    /// Puts a piece of a segment.
    async fn put_piece(&self, piece: TailPiece, bytes: Chunks, summary: Option<Summary>) -> Result<()>;
    /// Checks a segment (R4) and puts it whole.
    async fn put_segment(&self, name: SegmentName, bytes: Chunks) -> Result<Summary>;
    /// Removes the pieces of a segment that is there whole.
    async fn remove_pieces(&self, name: SegmentName) -> Result<()>;
}

/// All configured repositories (R1).
#[derive(Debug)]
pub(crate) struct Repositories {
    pub(crate) clusters: Vec<ClusterRepository>,
    pub(crate) size: SegmentSize,
    pub(crate) system_id: SystemId,
    pub(crate) check: Check,
}

#[async_trait]
impl Target for Repositories {
    async fn put_piece(&self, piece: TailPiece, bytes: Chunks, summary: Option<Summary>) -> Result<()> {
        let puts =
            self.clusters.iter().map(|cluster| cluster.put_tail(piece, self.size, &bytes, summary.clone()));
        try_join_all(puts).await?;
        Ok(())
    }

    async fn put_segment(&self, name: SegmentName, bytes: Chunks) -> Result<Summary> {
        let size = self.size.bytes();
        let mut check = SegmentCheck::new(
            name,
            self.size,
            Some(self.system_id),
            size,
            self.check,
            SegmentKind::Complete,
        )?;
        let mut encoded = Vec::new();
        for (number, cluster) in self.clusters.iter().enumerate() {
            let mut watch = |block: &[u8]| {
                if number == 0 {
                    check.push(block);
                }
            };
            let done = cluster.repository().encode_wal_while(&bytes, &mut watch);
            encoded.push((cluster, done.map_err(highwater_repository::Error::Codec)?));
        }
        let summary = check.finish()?;
        let file = WalFile::Segment(name);
        let puts = encoded
            .into_iter()
            .map(|(cluster, encoded)| cluster.put_encoded_wal(file, encoded, Some(summary.clone()), None));
        try_join_all(puts).await?;
        Ok(summary)
    }

    async fn remove_pieces(&self, name: SegmentName) -> Result<()> {
        try_join_all(self.clusters.iter().map(|cluster| cluster.remove_tail(name))).await?;
        Ok(())
    }
}
