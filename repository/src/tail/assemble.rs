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

/// The pieces of a segment, of which those that turn out to be damaged are taken out: others may have their bytes.
struct Sound {
    pieces: Vec<TailPiece>,
    /// Where the last of them ended, damaged or not, in bytes from the segment's start.
    known: u32,
    /// What was found of the first that was taken out and that no other stands for.
    fault: Option<Error>,
}

impl Sound {
    fn new(pieces: Vec<TailPiece>) -> Sound {
        let known = pieces.iter().map(|piece| piece.to).max().unwrap_or_default();
        Sound { pieces, known, fault: None }
    }

    /// Takes a piece out; an error that is no piece's damage is given back.
    fn take_out(&mut self, piece: TailPiece, error: Error) -> Result<()> {
        let before = self.pieces.len();
        let reached = chain(&self.pieces).1;
        self.pieces.retain(|other| *other != piece);
        if !error.is_damaged() || self.pieces.len() == before {
            return Err(error);
        }
        if chain(&self.pieces).1 < reached {
            self.fault.get_or_insert(error);
        }
        Ok(())
    }
}

impl Tail {
    /// What the pieces hold: the head that the segment would have if it ended where they do. `None` where there are no pieces.
    ///
    /// `least` is how many of the segment's bytes they have to have at least. Where it is `None` they have to go as far as any of them
    /// says, so that a missing or a damaged piece is an error, and so is a damaged strip of which nobody can tell how much it held.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a piece in front of `least` is missing, or damaged and no others have its bytes.
    pub async fn end(&self, least: Option<u64>) -> Result<Option<WalHead>> {
        let mut sound = Sound::new(self.pieces().to_vec());
        // It ends: each round takes a piece out.
        loop {
            let (taken, end) = chain(&sound.pieces);
            let Some(last) = taken.last().copied() else {
                return self.goes_far_enough(sound, end, least, None).map(|()| None);
            };
            let head = match self.head(last).await {
                Err(error) => {
                    sound.take_out(last, error)?;
                    continue;
                }
                Ok(head) => head,
            };
            self.goes_far_enough(sound, end, least, Some(head.segment_size))?;
            return Ok(Some(WalHead {
                version: WalHead::VERSION,
                file: WalFile::Segment(self.segment()),
                plain: head.plain,
                archived: head.archived,
                summary: head.summary,
                received: Some(head.to),
            }));
        }
    }

    /// An error where what is sound of the pieces, up to `end`, does not go as far as it has to. `size` is known where there are any.
    fn goes_far_enough(
        &self,
        sound: Sound,
        end: u32,
        least: Option<u64>,
        size: Option<SegmentSize>,
    ) -> Result<()> {
        let is_complete = size.is_some_and(|size| u64::from(end) == size.bytes());
        if is_complete || least.is_some_and(|least| u64::from(end) >= least) {
            return Ok(());
        }
        if end >= sound.known {
            return self.open_end().map_or(Ok(()), Err);
        }
        Err(sound.fault.unwrap_or_else(|| {
            let behind = sound.pieces.iter().map(|piece| piece.from).filter(|from| *from > end).min();
            let until = behind.unwrap_or(sound.known);
            self.damaged(format!("the bytes from {end} to {until} of it are missing"))
        }))
    }

    /// The segment put together from the pieces, verified (R7); `None` where there are none. `least` as for [`Tail::end`].
    ///
    /// # Errors
    /// As for [`Tail::end`].
    pub async fn assemble(&self, size: SegmentSize, least: Option<u64>) -> Result<Option<TailSegment>> {
        let tail = Arc::new(self.clone());
        let mut sound = Sound::new(tail.pieces().to_vec());
        // It ends: each round takes a piece out.
        loop {
            let (taken, end) = chain(&sound.pieces);
            match tail.put_together(size, taken).await {
                Ok(read) => {
                    tail.goes_far_enough(sound, end, least, Some(size))?;
                    return Ok(read);
                }
                Err((Some(piece), error)) => sound.take_out(piece, error)?,
                Err((None, error)) => return Err(error),
            }
        }
    }

    /// The segment out of these pieces; an error comes with the piece that could not be read.
    async fn put_together(
        self: &Arc<Tail>,
        size: SegmentSize,
        taken: Vec<TailPiece>,
    ) -> Result<Option<TailSegment>, (Option<TailPiece>, Error)> {
        let segment = self.segment();
        let Some(last) = taken.last().copied() else { return Ok(None) };
        let mut bytes = vec![0; size.bytes() as usize];
        let mut reads = JoinSet::new();
        let mut waiting = taken.into_iter();
        let mut head = None;
        loop {
            while reads.len() < READS_AT_ONCE
                && let Some(piece) = waiting.next()
            {
                let tail = Arc::clone(self);
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
                return Err((None, self.damaged(reason)));
            }
            if piece == last {
                head = Some(found);
            }
            let place = bytes.get_mut(piece.from as usize..piece.to as usize);
            let too_long = || (None, self.damaged("a piece is longer than it".to_owned()));
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
}

impl ClusterRepository {
    /// What there is of a segment in pieces, put together: [`Tail::assemble`].
    ///
    /// # Errors
    /// As for [`Tail::end`].
    pub async fn tail_segment(
        &self,
        segment: SegmentName,
        size: SegmentSize,
        least: Option<u64>,
    ) -> Result<Option<TailSegment>> {
        self.tail(segment).await?.assemble(size, least).await
    }

    /// A segment that is there whole, or put together from its pieces; `least` as for [`Tail::end`].
    ///
    /// # Errors
    /// A store error of kind not-found where there is neither; [`Error::Damaged`].
    pub async fn get_segment(
        &self,
        segment: SegmentName,
        size: SegmentSize,
        least: Option<u64>,
    ) -> Result<WalObject> {
        let file = WalFile::Segment(segment);
        let error = match self.get_wal(file).await {
            Err(error) if error.is_not_found() => error,
            found => return found,
        };
        let tail = self.tail_segment(segment, size, least).await;
        // Had the whole segment come meanwhile, pieces may have gone before they were listed, and those left would be less.
        match (tail, self.get_wal(file).await) {
            (tail, Err(again)) if again.is_not_found() => Ok(tail?.ok_or(error)?.object),
            (_, found) => found,
        }
    }

    /// What stands in front of a segment that is there whole, or of what its pieces give. As [`ClusterRepository::get_segment`].
    pub async fn segment_head(&self, segment: SegmentName, least: Option<u64>) -> Result<WalHead> {
        let file = WalFile::Segment(segment);
        let error = match self.wal_head(file).await {
            Err(error) if error.is_not_found() => error,
            found => return found,
        };
        let tail = self.tail(segment).await?.end(least).await;
        match (tail, self.wal_head(file).await) {
            (tail, Err(again)) if again.is_not_found() => tail?.ok_or(error),
            (_, found) => found,
        }
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
