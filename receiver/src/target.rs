//! Where received WAL goes.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use highwater_repository::{ClusterRepository, TailPiece};
use highwater_wal::{
    Check, Lsn, SegmentCheck, SegmentKind, SegmentName, SegmentSize, Summary, SystemId, TimelineId, WalFile,
};

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
    /// Leaves a mark that a timeline's WAL is there up to `lsn`; it stands for those before it.
    async fn mark(&self, timeline: TimelineId, lsn: Lsn) -> Result<()>;
}

/// All configured repositories (R1).
#[derive(Debug)]
pub(crate) struct Repositories {
    pub(crate) clusters: Vec<ClusterRepository>,
    pub(crate) size: SegmentSize,
    pub(crate) system_id: SystemId,
    pub(crate) check: Check,
    /// Pieces that are damaged.
    pub(crate) damaged: BTreeSet<TailPiece>,
}

#[async_trait]
impl Target for Repositories {
    async fn put_piece(&self, piece: TailPiece, bytes: Chunks, summary: Option<Summary>) -> Result<()> {
        let puts = self.clusters.iter().map(|cluster| self.put(cluster, piece, &bytes, summary.clone()));
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

    async fn mark(&self, timeline: TimelineId, lsn: Lsn) -> Result<()> {
        try_join_all(self.clusters.iter().map(|cluster| cluster.mark_reached(timeline, lsn))).await?;
        for cluster in &self.clusters {
            let mut older = cluster.reached_behind(timeline, None).await?;
            older.retain(|older| *older < lsn);
            cluster.remove_marks(timeline, &older).await?;
        }
        Ok(())
    }
}

impl Repositories {
    /// Puts a piece into one repository. Nothing is overwritten (R2): where a damaged one has its name, it is put in two.
    async fn put(
        &self,
        cluster: &ClusterRepository,
        piece: TailPiece,
        bytes: &Chunks,
        summary: Option<Summary>,
    ) -> Result<()> {
        let can_be_cut = piece.length() > 1;
        if !can_be_cut || !self.damaged.contains(&piece) {
            match cluster.put_tail(piece, self.size, bytes, summary.clone()).await {
                Err(error) if error.is_damaged() && can_be_cut => {}
                put => return Ok(put.map(drop)?),
            }
        }
        let middle = piece.from + (piece.to - piece.from) / 2;
        let (first, second) = bytes.split_at((middle - piece.from) as usize);
        // The second one tells what both hold.
        Box::pin(self.put(cluster, TailPiece { to: middle, ..piece }, &first, None)).await?;
        Box::pin(self.put(cluster, TailPiece { from: middle, ..piece }, &second, summary)).await
    }
}
