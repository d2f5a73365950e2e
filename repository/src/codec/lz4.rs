//! LZ4 frames of independent blocks.
//!
//! Written: version 01, independent blocks, no block checksums, content size, content checksum. Blocks are 1 MiB (64
//! or 256 KiB for short content) so that threads can make and read them apart. Read: the same, with or without the
//! content checksum; anything else was not written by Highwater and is refused.

use std::hash::Hasher;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use lz4::block::{compress_bound, compress_to_buffer, decompress_to_buffer};
use twox_hash::XxHash32;

use super::content::InOrder;
use super::{BLOCK_BYTES, Content, Encoded, Fault, LZ4_MAGIC, Sink};
use crate::digest::{BlockDigest, BlockDigests};

/// Version 01, independent blocks, content size, content checksum.
const FLAGS: u8 = 0b0110_1100;
const FLAG_CONTENT_CHECKSUM: u8 = 0b0000_0100;
/// Magic number, flags, block size, content size, header checksum.
const HEADER_BYTES: usize = 15;
/// A block that is stored as it is has this bit set in its length.
const UNCOMPRESSED: u32 = 1 << 31;

/// The smallest block size that holds `length` bytes in one block, and its code in the header.
fn block_size(length: usize) -> (u8, usize) {
    match length {
        0..=0x1_0000 => (4, 0x1_0000),
        0x1_0001..=0x4_0000 => (5, 0x4_0000),
        _ => (6, BLOCK_BYTES),
    }
}

fn write_header(code: u8, length: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&LZ4_MAGIC.to_le_bytes());
    header[4] = FLAGS;
    header[5] = code << 4;
    header[6..14].copy_from_slice(&length.to_le_bytes());
    header[14] = header_checksum(&header[4..14]);
    header
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    (XxHash32::oneshot(0, descriptor) >> 8) as u8
}

/// The end mark and the content's checksum.
fn trailer(checksum: u32) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[4..].copy_from_slice(&checksum.to_le_bytes());
    trailer
}

/// What a thread needs to compress blocks.
#[derive(Default)]
struct BlockEncoder {
    scratch: Vec<u8>,
}

impl BlockEncoder {
    /// Appends one block with its length in front.
    fn append(&mut self, block: &[u8], frame: &mut Vec<u8>) {
        // What cannot be compressed, for whatever reason, is stored as it is.
        let most = compress_bound(block.len()).unwrap_or(0);
        if self.scratch.len() < most {
            self.scratch.resize(most, 0);
        }
        match compress_to_buffer(block, None, false, &mut self.scratch) {
            Ok(length) if length < block.len() => {
                frame.reserve_exact(4 + length);
                frame.extend_from_slice(&(length as u32).to_le_bytes());
                frame.extend_from_slice(&self.scratch[..length]);
            }
            _ => {
                frame.reserve_exact(4 + block.len());
                frame.extend_from_slice(&(block.len() as u32 | UNCOMPRESSED).to_le_bytes());
                frame.extend_from_slice(block);
            }
        }
    }
}

/// One frame with `content`.
pub(super) fn encode(
    content: &(impl Content + ?Sized),
    threads: usize,
    watch: &mut (dyn FnMut(&[u8]) + Send),
) -> io::Result<Encoded> {
    let length = content.length();
    let whole = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let (code, block_bytes) = block_size(whole);
    let count = whole.div_ceil(block_bytes);
    let mut digests = BlockDigests::new(length, block_bytes);
    let mut checksum = XxHash32::with_seed(0);
    let in_order = InOrder::new(|block: &[u8]| {
        checksum.write(block);
        watch(block);
    });
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Vec<_>> {
        let (mut encoder, mut buffer) = (BlockEncoder::default(), Vec::new());
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            let start = index * block_bytes;
            let block = content
                .block(start as u64, block_bytes.min(whole - start), &mut buffer)
                .inspect_err(|_| in_order.fail())?;
            if !in_order.show(index, block) {
                // The thread that has failed tells why.
                return Ok(done);
            }
            let digest = digests.digest(index, block);
            let mut piece = Vec::new();
            encoder.append(block, &mut piece);
            done.push((index, digest, Bytes::from(piece)));
        }
    };
    let helpers = threads.min(count).saturating_sub(1);
    let mut done = thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
        let own = work();
        helpers.into_iter().map(join).try_fold(own?, |mut all, more| {
            all.extend(more?);
            Ok::<_, io::Error>(all)
        })
    })?;
    done.sort_unstable_by_key(|(index, ..)| *index);

    let mut frame = Vec::with_capacity(done.len() + 2);
    frame.push(Bytes::copy_from_slice(&write_header(code, length)));
    if length == 0 {
        let digest = digests.digest(0, &[]);
        digests.put(0, digest);
    }
    for (index, digest, piece) in done {
        digests.put(index, digest);
        frame.push(piece);
    }
    frame.push(Bytes::copy_from_slice(&trailer(checksum.finish_32())));
    let digest = digests.root().ok_or_else(|| io::Error::other("a block was not digested"))?;
    Ok(Encoded { digest, frame })
}

/// The next item that no thread has taken yet.
fn take<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    items.get(index).map(|item| (index, item))
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Where the parts of a frame are.
struct Frame {
    block_bytes: usize,
    length: u64,
    blocks: Vec<Block>,
    checksum: Option<u32>,
}

/// Where a block is stored.
struct Block {
    offset: u64,
    stored_bytes: usize,
    is_compressed: bool,
}

/// Reads a frame from its beginning on.
struct Reader<'a, C: ?Sized> {
    frame: &'a C,
    at: u64,
}

impl<C: Content + ?Sized> Reader<'_, C> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let offset = self.at;
        self.skip(N, "the LZ4 frame ends too early")?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.frame.block(offset, N, &mut Vec::new()).map_err(Fault::Read)?);
        Ok(bytes)
    }

    fn skip(&mut self, length: usize, otherwise: &str) -> Result<(), Fault> {
        self.at += length as u64;
        if self.at > self.frame.length() { Err(Fault::damaged(otherwise)) } else { Ok(()) }
    }
}

impl Frame {
    /// Takes apart a frame whose content is at most `limit` bytes long and behind which nothing follows.
    fn parse(frame: &(impl Content + ?Sized), limit: u64) -> Result<Frame, Fault> {
        match Frame::parse_first(frame, limit)? {
            (parsed, length) if length == frame.length() => Ok(parsed),
            _ => Err(Fault::damaged("the LZ4 frame does not end where its content does")),
        }
    }

    /// The same of a frame behind which something may follow, with the frame's length.
    fn parse_first(frame: &(impl Content + ?Sized), limit: u64) -> Result<(Frame, u64), Fault> {
        let mut reader = Reader { frame, at: 0 };
        let header: [u8; HEADER_BYTES] = reader.take()?;
        let flags = header[4];
        if header[14] != header_checksum(&header[4..14]) {
            return Err(Fault::damaged("the LZ4 frame's header has a wrong checksum"));
        }
        let block_bytes = match header[5] {
            0x40 => 0x1_0000,
            0x50 => 0x4_0000,
            0x60 => BLOCK_BYTES,
            0x70 => 4 * BLOCK_BYTES,
            _ => return Err(Fault::damaged("the LZ4 frame's header names no block size")),
        };
        if flags | FLAG_CONTENT_CHECKSUM != FLAGS {
            return Err(Fault::damaged("the LZ4 frame has options that Highwater does not write"));
        }
        let mut length = [0; 8];
        length.copy_from_slice(&header[6..14]);
        let length = u64::from_le_bytes(length);
        if length > limit {
            return Err(Fault::damaged(format!(
                "its content claims {length} bytes, where at most {limit} can be"
            )));
        }
        let count = length.div_ceil(block_bytes as u64);
        let mut blocks =
            Vec::with_capacity(usize::try_from(count).map_err(|_| Fault::damaged("it is too long"))?);
        for _ in 0..count {
            blocks.push(Block::read(&mut reader, block_bytes)?);
        }
        let end = u32::from_le_bytes(reader.take()?);
        let checksum = match flags & FLAG_CONTENT_CHECKSUM {
            0 => None,
            _ => Some(u32::from_le_bytes(reader.take()?)),
        };
        if end != 0 {
            return Err(Fault::damaged("the LZ4 frame does not end where its content does"));
        }
        Ok((Frame { block_bytes, length, blocks, checksum }, reader.at))
    }

    /// Whether `plain` has the checksum that stands behind the blocks.
    fn prove(&self, plain: &[u8]) -> Result<(), Fault> {
        match self.checksum {
            Some(checksum) if checksum == XxHash32::oneshot(0, plain) => Ok(()),
            Some(_) => Err(Fault::damaged("the LZ4 frame's content has a wrong checksum")),
            None => Err(Fault::damaged("the LZ4 frame has no content checksum")),
        }
    }

    /// How long the plain bytes of block `index` are.
    fn plain_bytes(&self, index: usize) -> usize {
        let start = index as u64 * self.block_bytes as u64;
        (self.length - start).min(self.block_bytes as u64) as usize
    }
}

impl Block {
    fn read(reader: &mut Reader<'_, impl Content + ?Sized>, block_bytes: usize) -> Result<Block, Fault> {
        let length = u32::from_le_bytes(reader.take()?);
        let stored_bytes = (length & !UNCOMPRESSED) as usize;
        if stored_bytes == 0 || stored_bytes > block_bytes {
            return Err(Fault::damaged("an LZ4 block has an impossible length"));
        }
        let offset = reader.at;
        reader.skip(stored_bytes, "the LZ4 frame ends within a block")?;
        Ok(Block { offset, stored_bytes, is_compressed: length & UNCOMPRESSED == 0 })
    }

    /// Fills `plain`, exactly, from the block of `frame`. `buffer` is for what has to be read.
    fn decode(
        &self,
        frame: &(impl Content + ?Sized),
        buffer: &mut Vec<u8>,
        plain: &mut [u8],
    ) -> Result<(), Fault> {
        let stored = frame.block(self.offset, self.stored_bytes, buffer).map_err(Fault::Read)?;
        let length = if self.is_compressed {
            // Blocks have at most 4 MiB.
            decompress_to_buffer(stored, Some(plain.len() as i32), plain)
                .map_err(|error| Fault::Damaged(format!("an LZ4 block is damaged: {error}")))?
        } else if stored.len() == plain.len() {
            plain.copy_from_slice(stored);
            plain.len()
        } else {
            stored.len()
        };
        if length != plain.len() {
            return Err(Fault::Damaged(format!("an LZ4 block holds {length} bytes, not {}", plain.len())));
        }
        Ok(())
    }
}

pub(super) fn decode(
    content: &(impl Content + ?Sized),
    length: u64,
    threads: usize,
    sink: &dyn Sink,
) -> Result<crate::Digest, Fault> {
    let frame = Frame::parse(content, length)?;
    if frame.length != length {
        return Err(Fault::Damaged(format!("its content claims {} bytes, not {length}", frame.length)));
    }
    let mut digests = BlockDigests::new(length, frame.block_bytes);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Fault>> = Mutex::new(None);
    let work = || {
        let mut plain = vec![0; frame.block_bytes.min(length as usize)];
        let mut buffer = Vec::new();
        let mut done: Vec<(usize, BlockDigest)> = Vec::new();
        while let Some((index, block)) = take(&next, &frame.blocks) {
            let plain = &mut plain[..frame.plain_bytes(index)];
            let offset = index as u64 * frame.block_bytes as u64;
            let mut decoded = Err(Fault::damaged("an LZ4 block was not asked for"));
            let taken = sink.make_at(offset, plain, &mut |plain| {
                let unpacked = block.decode(content, &mut buffer, plain);
                decoded = unpacked.map(|()| digests.digest(index, plain));
                decoded.is_ok()
            });
            match taken.map_err(Fault::Sink).and(decoded) {
                Ok(digest) => done.push((index, digest)),
                Err(fault) => {
                    // Nobody needs the rest.
                    next.store(frame.blocks.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(fault);
                    break;
                }
            }
        }
        done
    };
    let helpers = threads.min(frame.blocks.len()).saturating_sub(1);
    let done = thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for helper in helpers {
            done.extend(join(helper));
        }
        done
    });
    if let Some(fault) = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        return Err(fault);
    }
    for (index, digest) in done {
        digests.put(index, digest);
    }
    if length == 0 {
        return Ok(crate::Digest::of(&[]));
    }
    digests.root().ok_or_else(|| Fault::damaged("blocks are missing"))
}

pub(super) fn decode_small(frame: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let parts = Frame::parse(frame, limit as u64)?;
    let mut plain = vec![0; parts.length as usize];
    for (block, plain) in parts.blocks.iter().zip(plain.chunks_mut(parts.block_bytes)) {
        block.decode(frame, &mut Vec::new(), plain)?;
    }
    parts.prove(&plain).map(|()| plain)
}

/// The length of the frame that `bytes` begins with, by what its headers say.
pub(super) fn first_frame_bytes(bytes: &[u8], limit: usize) -> Result<usize, Fault> {
    Frame::parse_first(bytes, limit as u64).map(|(_, length)| length as usize)
}

pub(super) fn decode_extent(frame: &[u8], plain: &mut [u8]) -> Result<(), Fault> {
    fill(frame, plain).map(|_| ())
}

pub(super) fn prove_extent(frame: &[u8], plain: &mut [u8]) -> Result<(), Fault> {
    fill(frame, plain)?.prove(plain)
}

fn fill(frame: &[u8], plain: &mut [u8]) -> Result<Frame, Fault> {
    let parts = Frame::parse(frame, plain.len() as u64)?;
    if parts.length != plain.len() as u64 {
        return Err(Fault::Damaged(format!("an extent holds {} bytes, not {}", parts.length, plain.len())));
    }
    parts
        .blocks
        .iter()
        .zip(plain.chunks_mut(parts.block_bytes))
        .try_for_each(|(block, plain)| block.decode(frame, &mut Vec::new(), plain))?;
    Ok(parts)
}

/// Compresses short content without starting threads.
#[derive(Default)]
pub(crate) struct SmallEncoder(BlockEncoder);

impl SmallEncoder {
    /// One frame with `plain`.
    pub(super) fn encode(&mut self, plain: &[u8]) -> Vec<u8> {
        let (code, block_bytes) = block_size(plain.len());
        let mut frame = write_header(code, plain.len() as u64).to_vec();
        for block in plain.chunks(block_bytes) {
            self.0.append(block, &mut frame);
        }
        frame.extend_from_slice(&trailer(XxHash32::oneshot(0, plain)));
        frame
    }
}
