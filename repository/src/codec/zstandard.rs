//! Zstandard frames (RFC 8878), with content size and content checksum.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use super::{BLOCK_BYTES, Compression, Content, Encoded, Fault, Pieces, Sink};
use crate::Digest;
use crate::digest::BlockDigests;

/// Two to this many bytes are the longest distance that a frame may reach back: what level 19 uses is 8 MiB.
const MAX_WINDOW_LOG: u32 = 24;
/// The bit of the frame header's descriptor (its fifth byte) that says that a checksum follows the content.
const FLAG_CHECKSUM: u8 = 0b0000_0100;
/// The unused and the reserved bit of the same byte.
const FLAGS_WITHOUT_MEANING: u8 = 0b0001_1000;
/// How many decompressed blocks wait for being digested and written.
const BLOCKS_IN_FLIGHT: usize = 2;

pub(super) fn encode(
    content: &(impl Content + ?Sized),
    compression: &Compression,
    watch: &mut (dyn FnMut(&[u8]) + Send),
) -> io::Result<Encoded> {
    let length = content.length();
    let mut encoder = zstd::Encoder::new(Pieces::default(), compression.level)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(length))?;
    if compression.threads > 1 && length > BLOCK_BYTES as u64 {
        encoder.multithread(compression.threads as u32)?;
    }
    let mut digests = BlockDigests::new(length, BLOCK_BYTES);
    let mut buffer = Vec::new();
    if length == 0 {
        digests.put(0, digests.digest(0, &[]));
    }
    for (index, block_bytes) in block_lengths(length) {
        let block = content.block(index as u64 * BLOCK_BYTES as u64, block_bytes, &mut buffer)?;
        watch(block);
        digests.put(index, digests.digest(index, block));
        encoder.write_all(block)?;
    }
    let digest = digests.root().ok_or_else(|| io::Error::other("a block was not digested"))?;
    Ok(Encoded { digest, frame: encoder.finish()?.into_vec() })
}

fn damaged(error: io::Error) -> Fault {
    Fault::Damaged(format!("the Zstandard frame is damaged: {error}"))
}

type Decoder<R> = zstd::Decoder<'static, R>;

fn open<R: BufRead>(frame: R) -> io::Result<Decoder<R>> {
    let mut decoder = zstd::Decoder::with_buffer(frame)?.single_frame();
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

/// Makes sure that the frame has ended, which compares its checksum, and that nothing follows it.
fn finish(mut decoder: Decoder<&[u8]>) -> Result<(), Fault> {
    match decoder.read(&mut [0]) {
        Ok(0) if decoder.finish().is_empty() => Ok(()),
        Ok(_) => Err(Fault::damaged("the Zstandard frame does not end where its content should")),
        Err(error) => Err(damaged(error)),
    }
}

pub(super) fn decode(frame: &[u8], length: u64, threads: usize, sink: &dyn Sink) -> Result<Digest, Fault> {
    let mut decoder = open(frame).map_err(damaged)?;
    let digests = BlockDigests::new(length, BLOCK_BYTES);
    let digest = if threads > 1 && length > BLOCK_BYTES as u64 {
        decode_beside(&mut decoder, length, digests, sink)?
    } else {
        decode_alone(&mut decoder, length, digests, sink)?
    };
    finish(decoder)?;
    digest.ok_or_else(|| Fault::damaged("blocks are missing"))
}

/// The lengths of the blocks of a content.
fn block_lengths(length: u64) -> impl Iterator<Item = (usize, usize)> {
    let block = BLOCK_BYTES as u64;
    (0..length.div_ceil(block))
        .map(move |index| (index as usize, (length - index * block).min(block) as usize))
}

fn take_block(digests: &mut BlockDigests, index: usize, block: &[u8], sink: &dyn Sink) -> Result<(), Fault> {
    let digest = digests.digest(index, block);
    digests.put(index, digest);
    sink.write_at(index as u64 * BLOCK_BYTES as u64, block).map_err(Fault::Sink)
}

fn decode_alone(
    decoder: &mut Decoder<&[u8]>,
    length: u64,
    mut digests: BlockDigests,
    sink: &dyn Sink,
) -> Result<Option<Digest>, Fault> {
    let mut block = vec![0; BLOCK_BYTES.min(length as usize)];
    for (index, bytes) in block_lengths(length) {
        decoder.read_exact(&mut block[..bytes]).map_err(damaged)?;
        take_block(&mut digests, index, &block[..bytes], sink)?;
    }
    Ok(if length == 0 { Some(Digest::of(&[])) } else { digests.root() })
}

/// A second thread digests and writes what this one decompresses.
fn decode_beside(
    decoder: &mut Decoder<&[u8]>,
    length: u64,
    mut digests: BlockDigests,
    sink: &dyn Sink,
) -> Result<Option<Digest>, Fault> {
    let (full, to_write) = mpsc::sync_channel::<(usize, Vec<u8>)>(BLOCKS_IN_FLIGHT);
    let (empty, reusable) = mpsc::channel();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for (index, block) in to_write {
                take_block(&mut digests, index, &block, sink)?;
                // Where the other side has gone, it needs no buffer any more.
                let _ = empty.send(block);
            }
            Ok(digests.root())
        });
        let mut read = Ok(());
        for (index, bytes) in block_lengths(length) {
            let mut block: Vec<u8> = reusable.try_recv().unwrap_or_default();
            block.resize(bytes, 0);
            read = decoder.read_exact(&mut block).map_err(damaged);
            if read.is_err() || full.send((index, block)).is_err() {
                break;
            }
        }
        drop(full);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.and(written)
    })
}

/// Whether the frame's header says that a checksum follows the content, and has no bit set that means nothing.
fn has_checksum(frame: &[u8]) -> Result<(), Fault> {
    match frame.get(4) {
        Some(descriptor) if descriptor & FLAGS_WITHOUT_MEANING != 0 => {
            Err(Fault::damaged("the Zstandard frame's header has bits set that mean nothing"))
        }
        Some(descriptor) if descriptor & FLAG_CHECKSUM != 0 => Ok(()),
        _ => Err(Fault::damaged("the Zstandard frame has no content checksum")),
    }
}

pub(super) fn prove_extent(frame: &[u8], plain: &mut [u8]) -> Result<(), Fault> {
    has_checksum(frame)?;
    decode_extent(frame, plain)
}

/// The length of the frame that `bytes` begins with, by what its headers say.
pub(super) fn first_frame_bytes(bytes: &[u8]) -> Result<usize, Fault> {
    zstd::zstd_safe::find_frame_compressed_size(bytes).map_err(|code| {
        Fault::Damaged(format!("the Zstandard frame is damaged: {}", zstd::zstd_safe::get_error_name(code)))
    })
}

pub(super) fn decode_small(frame: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    has_checksum(frame)?;
    let mut decoder = open(frame).map_err(damaged)?;
    let mut plain = Vec::new();
    decoder.by_ref().take(limit as u64 + 1).read_to_end(&mut plain).map_err(damaged)?;
    if plain.len() > limit {
        return Err(Fault::Damaged(format!("its content has more than {limit} bytes")));
    }
    finish(decoder)?;
    Ok(plain)
}

pub(super) fn decode_extent(frame: &[u8], plain: &mut [u8]) -> Result<(), Fault> {
    let length =
        Decompressor::new().and_then(|mut decompressor| decompressor.decompress_to_buffer(frame, plain));
    match length.map_err(damaged)? {
        length if length == plain.len() => Ok(()),
        length => Err(Fault::Damaged(format!("an extent holds {length} bytes, not {}", plain.len()))),
    }
}

/// Compresses short content, keeping the tables that the codec needs.
pub(crate) struct SmallEncoder(Compressor<'static>);

impl SmallEncoder {
    pub(super) fn new(level: i32) -> io::Result<SmallEncoder> {
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(SmallEncoder(compressor))
    }

    pub(super) fn encode(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        self.0.compress(plain)
    }
}

/// Compresses lines into one frame while it is being built.
pub(crate) struct LineWriter(zstd::Encoder<'static, Pieces>);

impl LineWriter {
    /// Lines compress best at this level among those that cost no time worth naming.
    const LEVEL: i32 = 3;

    pub(crate) fn new() -> io::Result<LineWriter> {
        let mut encoder = zstd::Encoder::new(Pieces::default(), Self::LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(LineWriter(encoder))
    }

    /// Adds a line, which ends in a line feed.
    pub(crate) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.write_all(line)
    }

    /// How many compressed bytes there are so far; up to some hundred KiB more are still in the codec.
    pub(crate) fn compressed_bytes(&self) -> u64 {
        self.0.get_ref().len()
    }

    /// The frame.
    pub(crate) fn finish(self) -> io::Result<Pieces> {
        self.0.finish()
    }
}

/// Reads the lines of such a frame; what is behind the frame is not read.
pub(crate) fn line_reader(frame: Bytes) -> io::Result<impl BufRead + Send + use<>> {
    open(Cursor::new(frame)).map(|decoder| BufReader::with_capacity(64 << 10, decoder))
}
