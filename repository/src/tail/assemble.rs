//! Pieces put together into their segment.

use std::sync::Arc;

use highwater_wal::{Lsn, SegmentName, SegmentSize, WalFile};
use tokio::task::JoinSet;

use super::{Tail, TailPiece};
use crate::cluster::ClusterRepository;
use crate::digest::{Digest, Plain};
use crate::wal_object::{WalHead, WalObject};
use crate::{Error, Result};

/// How many pieces are fetched side by side.
const READS_AT_ONCE: usize = 8;

/// A segment as far as its pieces go.
#[derive(Clone, Debug)]
pub struct TailSegment {
    /// The segment: behind the pieces' end it is filled with zeros, which PostgreSQL takes for the end of the WAL. The head says
    /// what the pieces hold.
    pub object: WalObject,
    /// Where the pieces end.
    pub end: Lsn,
}

/// The pieces that cover most of a segment from its start on without a gap, and the first byte they do not have.
///
/// Two receivers may have cut differently: of the pieces that go on where the chain has come to, the longest is taken.
pub(crate) fn chain(pieces: &[TailPiece]) -> (Vec<TailPiece>, u32) {
    let (mut taken, mut at) = (Vec::new(), 0);
    let mut rest = pieces.iter().copied().peekable();
    loop {
        let mut best: Option<TailPiece> = None;
        while let Some(piece) = rest.next_if(|piece| piece.from <= at) {
            if piece.to > at && best.is_none_or(|best| piece.to > best.to) {
                best = Some(piece);
            }
        }
        let Some(piece) = best else { return (taken, at) };
        at = piece.to;
        taken.push(piece);
    }
}

/// Takes a damaged piece out, where others have its bytes; `false` where they do not.
fn do_without(pieces: &mut Vec<TailPiece>, damaged: TailPiece) -> bool {
    let others: Vec<TailPiece> = pieces.iter().copied().filter(|piece| *piece != damaged).collect();
    let is_spare = others.len() < pieces.len() && chain(&others).1 == chain(pieces).1;
    if is_spare {
        *pieces = others;
    }
    is_spare
}

impl ClusterRepository {
    /// What the pieces of a segment hold: the head that the segment would have if it ended there. `None`
    /// where there are no pieces.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a piece is missing between others, or damaged and no others have its bytes.
    pub async fn tail_end(&self, segment: SegmentName) -> Result<Option<WalHead>> {
        let tail = self.tail(segment).await?;
        let mut pieces = tail.pieces().to_vec();
        // It ends: each round takes a piece out.
        loop {
            let (taken, _) = self.unbroken(segment, &pieces)?;
            let Some(last) = taken.last() else { return Ok(None) };
            let head = match tail.head(*last).await {
                Err(error) if error.is_damaged() && do_without(&mut pieces, *last) => continue,
                head => head?,
            };
            return Ok(Some(WalHead {
                version: WalHead::VERSION,
                file: WalFile::Segment(segment),
                plain: head.plain,
                archived: head.archived,
                summary: head.summary,
                received: Some(head.to),
            }));
        }
    }

    /// The segment put together from its pieces, verified (R7); `None` where there are none.
    ///
    /// # Errors
    /// As for [`ClusterRepository::tail_end`].
    pub async fn tail_segment(&self, segment: SegmentName, size: SegmentSize) -> Result<Option<TailSegment>> {
        let tail = Arc::new(self.tail(segment).await?);
        let mut pieces = tail.pieces().to_vec();
        // It ends: each round takes a piece out.
        loop {
            let (taken, _) = self.unbroken(segment, &pieces)?;
            match self.put_together(&tail, size, taken).await {
                Err((Some(piece), error)) if error.is_damaged() && do_without(&mut pieces, piece) => {}
                read => return read.map_err(|(_, error)| error),
            }
        }
    }

    /// The segment out of these pieces; an error comes with the piece that could not be read.
    async fn put_together(
        &self,
        tail: &Arc<Tail>,
        size: SegmentSize,
        taken: Vec<TailPiece>,
    ) -> Result<Option<TailSegment>, (Option<TailPiece>, Error)> {
        let segment = tail.segment();
        let Some(last) = taken.last().copied() else { return Ok(None) };
        let mut bytes = vec![0; size.bytes() as usize];
        let mut reads = JoinSet::new();
        let mut waiting = taken.into_iter();
        let mut head = None;
        loop {
            while reads.len() < READS_AT_ONCE
                && let Some(piece) = waiting.next()
            {
                let tail = Arc::clone(tail);
                reads.spawn(async move {
                    let read = tail.get(piece).await;
                    read.map(|(head, bytes)| (piece, head, bytes)).map_err(|error| (Some(piece), error))
                });
            }
            let Some(read) = reads.join_next().await else { break };
            let (piece, found, content) =
                read.map_err(|error| (None, Error::Codec(std::io::Error::other(error))))??;
            if found.segment_size != size {
                let reason = format!("its segments have {:?}", found.segment_size);
                return Err((None, self.damaged_tail(segment, reason)));
            }
            if piece == last {
                head = Some(found);
            }
            let place = bytes.get_mut(piece.from as usize..piece.to as usize);
            let too_long = || (None, self.damaged_tail(segment, "a piece is longer than it".to_owned()));
            let place = place.ok_or_else(too_long)?;
            place.copy_from_slice(&content);
        }
        let Some(head) = head else { return Ok(None) };
        let plain = Plain { length: size.bytes(), digest: Digest::of(&bytes) };
        let mut summary = head.summary;
        if let Some(summary) = &mut summary {
            summary.digest = plain.digest.to_string();
        }
        let file = WalFile::Segment(segment);
        let (archived, received) = (head.archived, Some(head.to));
        let head = WalHead { version: WalHead::VERSION, file, plain, archived, summary, received };
        Ok(Some(TailSegment { end: last.end(size), object: WalObject { head, bytes } }))
    }

    /// A segment that is there whole, or put together from its pieces.
    ///
    /// # Errors
    /// A store error of kind not-found where there is neither; [`Error::Damaged`].
    pub async fn get_segment(&self, segment: SegmentName, size: SegmentSize) -> Result<WalObject> {
        let file = WalFile::Segment(segment);
        let error = match self.get_wal(file).await {
            Err(error) if error.is_not_found() => error,
            found => return found,
        };
        let tail = self.tail_segment(segment, size).await;
        // Had the whole segment come meanwhile, pieces may have gone before they were listed, and those left would be less.
        match (tail, self.get_wal(file).await) {
            (tail, Err(again)) if again.is_not_found() => Ok(tail?.ok_or(error)?.object),
            (_, found) => found,
        }
    }

    /// What stands in front of a segment that is there whole, or of what its pieces give. As [`ClusterRepository::get_segment`].
    pub async fn segment_head(&self, segment: SegmentName) -> Result<WalHead> {
        let file = WalFile::Segment(segment);
        let error = match self.wal_head(file).await {
            Err(error) if error.is_not_found() => error,
            found => return found,
        };
        let tail = self.tail_end(segment).await;
        match (tail, self.wal_head(file).await) {
            (tail, Err(again)) if again.is_not_found() => tail?.ok_or(error),
            (_, found) => found,
        }
    }

    /// The chain of pieces from the segment's start on, which has to hold the last of them.
    fn unbroken(&self, segment: SegmentName, pieces: &[TailPiece]) -> Result<(Vec<TailPiece>, u32)> {
        let (taken, end) = chain(pieces);
        match pieces.iter().find(|piece| piece.to > end) {
            None => Ok((taken, end)),
            Some(behind) => Err(self
                .damaged_tail(segment, format!("the bytes from {end} to {} of it are missing", behind.from))),
        }
    }

    fn damaged_tail(&self, segment: SegmentName, reason: String) -> Error {
        Error::damaged(self.section().tail_of_segment(segment), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bounds: &[(u32, u32)]) -> Vec<TailPiece> {
        let segment = "000000010000000000000001".parse().unwrap();
        let mut pieces: Vec<TailPiece> =
            bounds.iter().map(|(from, to)| TailPiece::new(segment, *from, *to)).collect();
        pieces.sort();
        pieces
    }

    #[test]
    fn the_chain_goes_as_far_as_there_is_no_gap() {
        for (bounds, expected, end) in [
            (&[][..], &[][..], 0),
            (&[(0, 10)], &[(0, 10)], 10),
            (&[(0, 10), (10, 20), (20, 21)], &[(0, 10), (10, 20), (20, 21)], 21),
            (&[(0, 10), (11, 20)], &[(0, 10)], 10),
            (&[(5, 10)], &[], 0),
            // Cut differently by two receivers.
            (&[(0, 10), (0, 15), (10, 12), (15, 30)], &[(0, 15), (15, 30)], 30),
            (&[(0, 10), (4, 20), (12, 16), (10, 18)], &[(0, 10), (4, 20)], 20),
        ] {
            let (taken, reached) = chain(&pieces(bounds));
            let taken: Vec<(u32, u32)> = taken.iter().map(|piece| (piece.from, piece.to)).collect();
            assert_eq!((taken.as_slice(), reached), (expected, end), "{bounds:?}");
        }
    }
}
