//! Strips: objects that take one piece behind the other, for flushes that somebody waits for.
//!
//! An object of its own costs a file that is made, synced, and renamed, and a folder that is synced. A strip is a file that is
//! there already, so a piece costs one write and one sync.

use highwater_storage::{Body, Growing};
use highwater_wal::{SegmentName, SegmentSize, Summary};

use super::TailPiece;
use super::frames::{self, AT_ONCE_BYTES, MARK_BYTES, STRIP_BYTES, StripId};
use crate::cluster::ClusterRepository;
use crate::codec::Content;
use crate::{Error, Result};

/// A strip that is being written. It takes pieces of one segment.
#[derive(Debug)]
pub struct Strip {
    cluster: ClusterRepository,
    segment: SegmentName,
    growing: Box<dyn Growing>,
    /// Where the next frame begins.
    at: u32,
}

impl Strip {
    /// The longest piece that is worth a place in a strip, in bytes. What is longer is written for so long that an object of its own
    /// costs little more.
    pub const LONGEST_PIECE_BYTES: u64 = 256 << 10;

    /// The segment whose pieces it takes.
    pub fn segment(&self) -> SegmentName {
        self.segment
    }
}

impl ClusterRepository {
    /// Makes a strip for pieces of a segment; `None` where the store has nothing that grows.
    pub async fn begin_strip(&self, segment: SegmentName) -> Result<Option<Strip>> {
        let key = self.section().strip(segment, StripId::random());
        let growing = self.repository().store().grow(&key, STRIP_BYTES).await?;
        Ok(growing.map(|growing| Strip { cluster: self.clone(), segment, growing, at: 0 }))
    }
}

impl Strip {
    /// Puts a piece into the strip: it is durable when this has answered (R1). `false` where there is no room for it, or it is
    /// longer than what is written at once, and nothing was put. After a failure nothing more can be put into it, and the piece has to be put elsewhere.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is no piece of the segment, and those of the store.
    pub async fn put(
        &mut self,
        piece: TailPiece,
        size: SegmentSize,
        bytes: &(impl Content + ?Sized),
        summary: Option<Summary>,
    ) -> Result<bool> {
        if piece.segment != self.segment {
            return Err(Error::Refused {
                what: format!("a piece of {}", piece.segment),
                reason: format!("the strip is for {}", self.segment),
                hint: "this is a fault of the program: report it",
            });
        }
        let object = self.cluster.encode_tail(piece, size, bytes, summary)?.body;
        let mark_at = self.at + frames::frame_bytes(object.len()) as u32;
        if u64::from(mark_at - self.at) + MARK_BYTES > self.growing.room().min(AT_ONCE_BYTES) {
            return Ok(false);
        }
        let frame = frames::piece(self.at, piece.from, piece.to, object.pieces().to_vec());
        self.growing.append(Body::from(frame.concat()), frames::mark(mark_at, piece.to).into()).await?;
        self.at = mark_at + MARK_BYTES as u32;
        Ok(true)
    }
}
