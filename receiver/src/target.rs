//! Where received WAL goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use highwater_repository::{ClusterRepository, EncodedWal, Strip, TailPiece};
use highwater_wal::{
    Check, Lsn, SegmentCheck, SegmentKind, SegmentName, SegmentSize, Summary, SystemId, TimelineId, WalFile,
};

use tokio::time::timeout;

use crate::buffer::Chunks;
use crate::error::{Error, Result};
use crate::packing::Packing;
use crate::whole::WholeSegments;

/// What takes WAL. A success means that it is durable (R1).
#[async_trait]
pub(crate) trait Target: Send + Sync + 'static {
    /// Puts a piece of a segment; somebody may be waiting for it.
    async fn put_piece(
        &self,
        piece: TailPiece,
        bytes: Chunks,
        summary: Option<Summary>,
        is_awaited: bool,
    ) -> Result<()>;
    /// Whether a piece that somebody waits for is put faster by whoever asks than by another thread.
    fn is_quick(&self, piece: TailPiece) -> bool;
    /// Checks a segment (R4) and puts it whole.
    async fn put_segment(&self, name: SegmentName, bytes: Chunks) -> Result<Summary>;
    /// Removes the pieces of a segment that is there whole.
    async fn remove_pieces(&self, name: SegmentName) -> Result<()>;
    /// Leaves a mark that a timeline's WAL is there up to `lsn`; it stands for those before it.
    async fn mark(&self, timeline: TimelineId, lsn: Lsn) -> Result<()>;
}

/// An append to a strip that takes longer is not waited for.
const APPEND_LIMIT: Duration = Duration::from_secs(30);

/// All configured repositories (R1).
#[derive(Debug)]
pub(crate) struct Repositories {
    pub(crate) clusters: Vec<ClusterRepository>,
    pub(crate) size: SegmentSize,
    pub(crate) system_id: SystemId,
    pub(crate) check: Check,
    /// Pieces that are damaged.
    pub(crate) damaged: BTreeSet<TailPiece>,
    /// In each of them the strip that takes the pieces which somebody waits for, by the repositories' places.
    pub(crate) strips: Strips,
    /// Where segments are noted that are durable in all of them.
    pub(crate) whole: Arc<WholeSegments>,
    pub(crate) packing: Packing,
}

/// Strips that are being written, one for each repository.
pub(crate) type Strips = Mutex<BTreeMap<usize, Strip>>;

#[async_trait]
impl Target for Repositories {
    async fn put_piece(
        &self,
        piece: TailPiece,
        bytes: Chunks,
        summary: Option<Summary>,
        is_awaited: bool,
    ) -> Result<()> {
        let puts = self.clusters.iter().enumerate().map(|(place, cluster)| {
            let (bytes, summary) = (&bytes, summary.clone());
            async move {
                if is_awaited && self.put_in_strip(place, cluster, piece, bytes, summary.clone()).await? {
                    return Ok(());
                }
                self.put(cluster, piece, bytes, summary).await
            }
        });
        try_join_all(puts).await?;
        Ok(())
    }

    fn is_quick(&self, piece: TailPiece) -> bool {
        // Several of them are put side by side.
        self.clusters.len() == 1 && piece.length() <= Strip::LONGEST_PIECE_BYTES
    }

    async fn put_segment(&self, name: SegmentName, bytes: Chunks) -> Result<Summary> {
        let putting = self.whole.begin(self.system_id, name);
        let (clusters, size) = (self.clusters.clone(), self.size);
        let mut check = SegmentCheck::new(
            name,
            size,
            Some(self.system_id),
            size.bytes(),
            self.check,
            SegmentKind::Complete,
        )?;
        let encode = move || {
            let mut encoded = Vec::new();
            for (number, cluster) in clusters.iter().enumerate() {
                let mut watch = |block: &[u8]| {
                    if number == 0 {
                        check.push(block);
                    }
                };
                encoded.push(cluster.repository().encode_wal_while(&bytes, &mut watch)?);
            }
            Ok((encoded, check))
        };
        let encoded = self.packing.run(encode).await?;
        let (encoded, check) = encoded.map_err(highwater_repository::Error::Codec)?;
        let summary = check.finish()?;
        let file = WalFile::Segment(name);
        let plain = encoded.first().map(EncodedWal::plain);
        let puts = self.clusters.iter().zip(encoded);
        let puts = puts
            .map(|(cluster, encoded)| cluster.put_encoded_wal(file, encoded, Some(summary.clone()), None));
        try_join_all(puts).await?;
        if let Some(plain) = plain {
            putting.done(plain);
        }
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
    /// Puts a piece into a strip. `false` where this repository has none, or it has failed: whatever is wrong shows when the piece is put
    /// as an object, and what has failed once takes nothing more.
    ///
    /// # Errors
    /// [`Error::Gone`]
    async fn put_in_strip(
        &self,
        place: usize,
        cluster: &ClusterRepository,
        piece: TailPiece,
        bytes: &Chunks,
        summary: Option<Summary>,
    ) -> Result<bool> {
        if piece.length() > Strip::LONGEST_PIECE_BYTES {
            return Ok(false);
        }
        let (size, is_quick) = (self.size, self.is_quick(piece));
        let put = |strip| {
            let (bytes, summary) = (bytes.clone(), summary.clone());
            async move {
                match is_quick {
                    true => put_into(strip, piece, size, &bytes, summary).await,
                    false => put_within_limit(strip, piece, size, bytes, summary).await,
                }
            }
        };
        let open = self.strips().remove(&place).filter(|strip| strip.segment() == piece.segment);
        if let Some(strip) = open {
            match put(strip).await? {
                Some((strip, true)) => {
                    self.strips().insert(place, strip);
                    return Ok(true);
                }
                // It is full.
                Some((_, false)) => {}
                None => return Ok(false),
            }
        }
        let Ok(Some(strip)) = cluster.begin_strip(piece.segment).await else { return Ok(false) };
        let Some((strip, is_put)) = put(strip).await? else { return Ok(false) };
        self.strips().insert(place, strip);
        Ok(is_put)
    }

    fn strips(&self) -> MutexGuard<'_, BTreeMap<usize, Strip>> {
        // What is behind it is whole between any two statements.
        self.strips.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
            let (cluster_of, size, content, head) =
                (cluster.clone(), self.size, bytes.clone(), summary.clone());
            let encode = move || cluster_of.encode_tail(piece, size, &content, head);
            let encoded = match self.is_quick(piece) {
                true => encode(),
                false => self.packing.run(encode).await?,
            };
            match cluster.put_encoded_tail(encoded?).await {
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

/// Puts a piece into a strip. Answers whether that had room for it; `None` where it has failed, and is given up.
async fn put_into(
    mut strip: Strip,
    piece: TailPiece,
    size: SegmentSize,
    bytes: &Chunks,
    summary: Option<Summary>,
) -> Result<Option<(Strip, bool)>> {
    match strip.put(piece, size, bytes, summary).await {
        Ok(has_room) => Ok(Some((strip, has_room))),
        // What lay in it was acknowledged, and has gone with it.
        Err(error) if error.is_not_found() => Err(Error::Gone { segment: piece.segment }),
        Err(_) => Ok(None),
    }
}

/// The same as a task of its own: a disk that hangs holds up whoever appends, and nobody else.
async fn put_within_limit(
    strip: Strip,
    piece: TailPiece,
    size: SegmentSize,
    bytes: Chunks,
    summary: Option<Summary>,
) -> Result<Option<(Strip, bool)>> {
    let putting = tokio::spawn(async move { put_into(strip, piece, size, &bytes, summary).await });
    match timeout(APPEND_LIMIT, putting).await {
        Ok(Ok(done)) => done,
        _ => Ok(None),
    }
}
