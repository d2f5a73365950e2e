//! Compression: standard LZ4 and Zstandard frames, each with the checksum of its content.
//!
//! The formats are `lz4_Frame_format.md` (1.6.4) and RFC 8878. Frames are made here from blocks so that several
//! threads can work on one; `lz4 -d` and `zstd -d` read them. Nothing here trusts a length that a frame claims: the
//! caller says how long the content is, or how long it may be.

mod content;
mod lz4;
mod sink;
mod skippable;
mod zstandard;

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use content::{Content, FileContent};
pub use sink::{MemorySink, Sink};
pub(crate) use sink::{Nowhere, Pieces};
pub(crate) use skippable::{SkippableHeader, read_skippable, write_skippable};
pub(crate) use zstandard::{LineWriter, line_reader};

use crate::digest::Digest;

/// How content is compressed. What an object was compressed with is seen from its first bytes, so the setting may
/// change at any time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// LZ4 frames: the fastest.
    #[default]
    Lz4,
    /// Zstandard frames: about a third smaller.
    Zstd,
}

/// A codec and how hard it works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// Which codec.
    pub codec: Codec,
    /// Level of Zstandard, 1 to 19; LZ4 has none.
    pub level: i32,
    /// How many threads work on one segment, at least 1.
    pub threads: usize,
}

impl Compression {
    /// Level of Zstandard where nothing is said.
    pub const DEFAULT_LEVEL: i32 = 1;
    /// The most threads that are of use for one segment.
    pub const MAX_THREADS: usize = 16;
}

impl Default for Compression {
    fn default() -> Compression {
        Compression { codec: Codec::default(), level: Compression::DEFAULT_LEVEL, threads: 1 }
    }
}

/// Content is cut into blocks of this many bytes for the threads, and into LZ4 blocks of this size.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

const LZ4_MAGIC: u32 = 0x184D_2204;
const ZSTD_MAGIC: u32 = 0xFD2F_B528;

/// Why content could not be had from a frame.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The frame is not one that this program writes, or is damaged.
    Damaged(String),
    /// The sink refused the bytes.
    Sink(std::io::Error),
    /// The frame could not be read.
    Read(std::io::Error),
}

impl Fault {
    fn damaged(reason: impl Into<String>) -> Fault {
        Fault::Damaged(reason.into())
    }

    /// What is wrong, in words.
    pub(crate) fn reason(self) -> String {
        match self {
            Fault::Damaged(reason) => reason,
            Fault::Sink(error) | Fault::Read(error) => error.to_string(),
        }
    }

    /// The error for the object `key`.
    pub(crate) fn of(self, key: impl ToString) -> crate::Error {
        match self {
            Fault::Damaged(reason) => crate::Error::damaged(key, reason),
            Fault::Sink(error) => crate::Error::Sink(error),
            Fault::Read(error) => crate::Error::Codec(error),
        }
    }
}

/// One frame and the digest of what is in it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) digest: Digest,
    pub(crate) frame: Vec<Bytes>,
}

/// Compresses `content` into one frame and digests it, with as many threads as `compression` says. Each block is read
/// once, and shown to `watch` in order while it is at hand.
pub(crate) fn encode(
    content: &(impl Content + ?Sized),
    compression: &Compression,
    watch: &mut (dyn FnMut(&[u8]) + Send),
) -> io::Result<Encoded> {
    match compression.codec {
        Codec::Lz4 => lz4::encode(content, compression.threads, watch),
        Codec::Zstd => zstandard::encode(content, compression, watch),
    }
}

/// Hands the content of `frame`, `length` bytes, to `sink` and gives its digest, which the caller compares.
///
/// The frame's own checksum is not looked at where the codec lets us choose: the digest says more.
pub(crate) fn decode(frame: &[u8], length: u64, threads: usize, sink: &dyn Sink) -> Result<Digest, Fault> {
    match magic(frame)? {
        LZ4_MAGIC => lz4::decode(frame, length, threads, sink),
        ZSTD_MAGIC => zstandard::decode(frame, length, threads, sink),
        other => Err(unknown(other)),
    }
}

/// The content of a frame that carries no digest beside it: the frame's checksum is compared. At most `limit` bytes.
pub(crate) fn decode_small(frame: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    match magic(frame)? {
        LZ4_MAGIC => lz4::decode_small(frame, limit),
        ZSTD_MAGIC => zstandard::decode_small(frame, limit),
        other => Err(unknown(other)),
    }
}

/// [`decode`] of a frame that is read where it lies, block by block. `None` for a codec that reads it in order.
pub(crate) fn decode_in_place(
    frame: &FileContent,
    length: u64,
    threads: usize,
    sink: &dyn Sink,
) -> Result<Option<Digest>, Fault> {
    let mut beginning = Vec::new();
    let beginning = frame.block(0, frame.length().min(4) as usize, &mut beginning).map_err(Fault::Read)?;
    match magic(beginning)? {
        LZ4_MAGIC => lz4::decode(frame, length, threads, sink).map(Some),
        _ => Ok(None),
    }
}

/// [`decode_extent`] that compares the frame's own checksum as well, which must be there.
pub(crate) fn prove_extent(frame: &[u8], plain: &mut [u8]) -> Result<(), Fault> {
    match magic(frame)? {
        LZ4_MAGIC => lz4::prove_extent(frame, plain),
        ZSTD_MAGIC => zstandard::prove_extent(frame, plain),
        other => Err(unknown(other)),
    }
}

/// How long the frame is that `bytes` begins with. Its checksum is compared; its content has at most `limit` bytes.
pub(crate) fn prove_first_frame(bytes: &[u8], limit: usize) -> Result<usize, Fault> {
    let length = match magic(bytes)? {
        LZ4_MAGIC => lz4::first_frame_bytes(bytes, limit)?,
        ZSTD_MAGIC => zstandard::first_frame_bytes(bytes)?,
        other => return Err(unknown(other)),
    };
    let frame = bytes.get(..length).ok_or_else(|| Fault::damaged("it ends within a frame"))?;
    decode_small(frame, limit).map(|_| length)
}

fn magic(frame: &[u8]) -> Result<u32, Fault> {
    match frame.first_chunk() {
        Some(magic) => Ok(u32::from_le_bytes(*magic)),
        None => Err(Fault::damaged("it ends before the compressed content begins")),
    }
}

fn unknown(magic: u32) -> Fault {
    Fault::damaged(format!("0x{magic:08X} begins neither an LZ4 nor a Zstandard frame"))
}

/// Compresses extents one by one, keeping what can be kept between them. One for each thread.
pub(crate) enum SmallEncoder {
    Lz4(Box<lz4::SmallEncoder>),
    Zstd(zstandard::SmallEncoder),
}

impl SmallEncoder {
    pub(crate) fn new(compression: &Compression) -> io::Result<SmallEncoder> {
        Ok(match compression.codec {
            Codec::Lz4 => SmallEncoder::Lz4(Box::default()),
            Codec::Zstd => SmallEncoder::Zstd(zstandard::SmallEncoder::new(compression.level)?),
        })
    }

    /// One frame with `plain`, which is at most [`BLOCK_BYTES`] long.
    pub(crate) fn encode(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            SmallEncoder::Lz4(encoder) => Ok(encoder.encode(plain)),
            SmallEncoder::Zstd(encoder) => encoder.encode(plain),
        }
    }
}

/// Fills `plain` from one frame that holds exactly so many bytes. The caller compares the digest.
pub(crate) fn decode_extent(frame: &[u8], plain: &mut [u8]) -> Result<(), Fault> {
    match magic(frame)? {
        LZ4_MAGIC => lz4::decode_extent(frame, plain),
        ZSTD_MAGIC => zstandard::decode_extent(frame, plain),
        other => Err(unknown(other)),
    }
}

#[cfg(test)]
mod tests;
