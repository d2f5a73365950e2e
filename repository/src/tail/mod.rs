//! The tail: pieces of segments that are still being written, put by whoever receives WAL as it is streamed.
//!
//! A piece is an object like a file of WAL: a skippable frame with [`TailHead`], and one frame with the bytes. Where somebody waits for
//! it, it lies with others in a [`Strip`]. Pieces are removed once their segment is there whole (R2), and never before.
//!
//! | module | what it is |
//! | --- | --- |
//! | `frames` | what a strip is made of |
//! | `strip` | a strip that is being written |
//! | `listing` | what there is of a segment, and the pieces of it |
//! | `assemble` | pieces put together into their segment |

mod assemble;
mod frames;
mod listing;
mod strip;

use bytes::Bytes;
use highwater_storage::{Body, Key, Put};
use highwater_wal::{Lsn, SegmentName, SegmentSize, Summary, TimelineId, WalFile};
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterRepository;
use crate::codec::{Content, write_skippable};
use crate::digest::Plain;
use crate::error::Different;
use crate::facts::{PROGRAM, host_name, now};
use crate::wal_object::{Archived, Stored};
use crate::{Error, Result, keys};

pub use assemble::TailSegment;
pub use frames::StripId;
pub use listing::Tail;
pub use strip::Strip;

/// Which bytes of which segment a piece has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TailPiece {
    /// The segment.
    pub segment: SegmentName,
    /// Its first byte, from the segment's start.
    pub from: u32,
    /// Behind its last byte, from the segment's start.
    pub to: u32,
    /// Where it lies.
    pub place: TailPlace,
}

/// Where a piece lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TailPlace {
    /// It is an object, whose name says which piece it is.
    Object,
    /// In a strip.
    Strip {
        /// Which one.
        id: StripId,
        /// The byte of the strip at which it begins.
        at: u32,
    },
}

impl TailPiece {
    /// A piece that is an object of its own.
    pub fn new(segment: SegmentName, from: u32, to: u32) -> TailPiece {
        TailPiece { segment, from, to, place: TailPlace::Object }
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        u64::from(self.to.saturating_sub(self.from))
    }

    /// How many bytes of a segment its pieces, in order, have from its start on without a gap.
    pub fn reach(pieces: &[TailPiece]) -> u64 {
        u64::from(assemble::chain(pieces).1)
    }

    /// Where it ends.
    pub fn end(&self, size: SegmentSize) -> Lsn {
        self.segment.start(size) + u64::from(self.to)
    }
}

/// What stands in front of a piece.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TailHead {
    /// Version of these fields: 1.
    pub version: u32,
    /// The segment that it is a piece of.
    pub segment: SegmentName,
    /// Bytes in that segment.
    pub segment_size: SegmentSize,
    /// Where its first byte belongs.
    pub from: Lsn,
    /// Behind its last byte.
    pub to: Lsn,
    /// Length and digest of its bytes.
    #[serde(flatten)]
    pub plain: Plain,
    /// Who put it there and when.
    pub archived: Archived,
    /// What the segment holds from its start up to this piece's end: records that had come whole. Absent where they could not
    /// be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

impl TailHead {
    /// Version of the fields that this program writes.
    pub const VERSION: u32 = 1;
}

/// The object of a piece, which is not put yet.
#[derive(Debug)]
pub struct EncodedTail {
    piece: TailPiece,
    body: Body,
    plain: Plain,
}

impl ClusterRepository {
    /// Puts a piece of a segment. `summary` is of the segment up to the piece's end.
    ///
    /// # Errors
    /// [`Error::Different`] where there is this piece with other bytes (R3), and nothing was changed.
    pub async fn put_tail(
        &self,
        piece: TailPiece,
        size: SegmentSize,
        bytes: &(impl Content + ?Sized),
        summary: Option<Summary>,
    ) -> Result<Stored> {
        self.put_encoded_tail(self.encode_tail(piece, size, bytes, summary)?).await
    }

    /// The same for a piece that was compressed before.
    ///
    /// # Errors
    /// As of [`ClusterRepository::put_tail`].
    pub async fn put_encoded_tail(&self, encoded: EncodedTail) -> Result<Stored> {
        let EncodedTail { piece, body, plain } = encoded;
        let key = self.section().tail_piece(piece.segment, piece.from, piece.to);
        match self.repository().store().put_if_absent(&key, &body).await? {
            Put::Created => Ok(Stored::Created),
            Put::Exists => self.compare_piece(&key, plain).await,
        }
    }

    /// Compresses a piece of a segment.
    ///
    /// # Errors
    /// [`Error::Refused`] where `bytes` are not those of the piece, and those of the codec.
    pub fn encode_tail(
        &self,
        piece: TailPiece,
        size: SegmentSize,
        bytes: &(impl Content + ?Sized),
        summary: Option<Summary>,
    ) -> Result<EncodedTail> {
        let is_one = piece.from < piece.to && u64::from(piece.to) <= size.bytes();
        if !is_one || bytes.length() != piece.length() {
            return Err(Error::Refused {
                what: format!("a piece of {}", piece.segment),
                reason: format!(
                    "bytes {} to {} are not {} bytes of it",
                    piece.from,
                    piece.to,
                    bytes.length()
                ),
                hint: "this is a fault of the program: report it",
            });
        }
        let encoded = self.repository().encode_wal_while(bytes, &mut |_| {}).map_err(Error::Codec)?;
        let plain = encoded.plain();
        let start = piece.segment.start(size);
        let head = TailHead {
            version: TailHead::VERSION,
            segment: piece.segment,
            segment_size: size,
            from: start + u64::from(piece.from),
            to: piece.end(size),
            plain,
            archived: Archived { host: host_name(), time: now(), program: PROGRAM.to_owned(), written: None },
            summary,
        };
        let json = serde_json::to_vec(&head).map_err(|error| Error::Codec(error.into()))?;
        let mut pieces = vec![Bytes::from(write_skippable(&json))];
        pieces.extend(encoded.into_frame());
        Ok(EncodedTail { piece, body: self.repository().seal(pieces, |_| plain)?, plain })
    }

    /// Whether the piece that is there has these bytes.
    async fn compare_piece(&self, key: &Key, here: Plain) -> Result<Stored> {
        let there = self.told_of_piece(key, None).await?;
        if there == here {
            return Ok(Stored::AlreadySame);
        }
        Err(Error::Different(Box::new(Different {
            key: key.to_string(),
            here,
            there,
            archived: None,
            hint: "two servers write this timeline (a copy of the machine, a failover without fencing): find out which is \
                   the wrong one and stop it",
        })))
    }

    /// The timelines of which there are pieces, in order.
    pub async fn tail_timelines(&self) -> Result<Vec<TimelineId>> {
        let folders = self.repository().folders(&self.section().tail_timelines()).await?;
        Ok(folders.iter().filter_map(|folder| keys::timeline_of_folder(folder)).collect())
    }

    /// The segments of a timeline of which there are pieces, in order.
    pub async fn tail_segments(&self, timeline: TimelineId) -> Result<Vec<SegmentName>> {
        let folders = self.repository().folders(&self.section().tail_of(timeline)).await?;
        let mut segments: Vec<SegmentName> =
            folders.iter().filter_map(|folder| keys::folder_name(folder)).collect();
        segments.retain(|segment| segment.timeline == timeline);
        Ok(segments)
    }

    /// Removes the pieces of a segment that is there whole; `false` where the segment is not there whole, and nothing was removed (R2).
    pub async fn remove_tail(&self, segment: SegmentName) -> Result<bool> {
        if !self.has_wal(WalFile::Segment(segment)).await? {
            return Ok(false);
        }
        let objects = self.tail_objects(segment).await?;
        let keys: Vec<Key> = objects.into_iter().rev().map(|entry| entry.key).collect();
        self.repository().store().delete_all(&keys).await?;
        Ok(true)
    }
}

fn parse_head(key: &Key, json: &[u8]) -> Result<TailHead> {
    serde_json::from_slice(json).map_err(|error| Error::damaged(key, format!("its head: {error}")))
}

/// The head says what the name says.
fn belongs(key: &Key, piece: TailPiece, head: &TailHead) -> Result<()> {
    let start = head.segment.start(head.segment_size);
    let (from, to) = (start + u64::from(piece.from), start + u64::from(piece.to));
    let is_same = head.segment == piece.segment
        && (head.from, head.to) == (from, to)
        && head.plain.length == piece.length()
        && u64::from(piece.to) <= head.segment_size.bytes();
    if is_same {
        return Ok(());
    }
    Err(Error::damaged(key, format!("it says that it is {} from {} to {}", head.segment, head.from, head.to)))
}
