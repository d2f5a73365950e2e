//! Where bytes go: plain ones block by block, stored ones piece by piece.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Where plain bytes go. Blocks come from several threads and in any order, each exactly once.
///
/// They are not verified yet when they come: only the success of the call that was given the sink says that what was
/// written is right.
pub trait Sink: Sync {
    /// Takes the bytes of the content that begin at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Takes the bytes at `offset` that `make` makes: in `scratch`, which is as long as they are, or where they are to be in the end.
    /// `make` says whether it could; where not, the sink may hold anything there.
    fn make_at(
        &self,
        offset: u64,
        scratch: &mut [u8],
        make: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> io::Result<()> {
        make_and_write(self, offset, scratch, make)
    }
}

fn make_and_write(
    sink: &(impl Sink + ?Sized),
    offset: u64,
    scratch: &mut [u8],
    make: &mut dyn FnMut(&mut [u8]) -> bool,
) -> io::Result<()> {
    if make(scratch) { sink.write_at(offset, scratch) } else { Ok(()) }
}

impl Sink for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

/// Takes bytes that are only to be verified.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A buffer that threads fill block by block.
#[derive(Debug)]
pub struct MemorySink<'a> {
    block_bytes: usize,
    blocks: Vec<Mutex<&'a mut [u8]>>,
}

impl<'a> MemorySink<'a> {
    /// Fills `buffer`, from its beginning.
    pub fn new(buffer: &'a mut [u8]) -> MemorySink<'a> {
        let block_bytes = super::BLOCK_BYTES;
        MemorySink { block_bytes, blocks: buffer.chunks_mut(block_bytes).map(Mutex::new).collect() }
    }
}

impl Sink for MemorySink<'_> {
    fn write_at(&self, offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        let past_end =
            || io::Error::new(io::ErrorKind::WriteZero, "there are more bytes than the buffer holds");
        let mut offset = usize::try_from(offset).map_err(|_| past_end())?;
        while !bytes.is_empty() {
            let block = self.blocks.get(offset / self.block_bytes).ok_or_else(past_end)?;
            let mut block = block.lock().unwrap_or_else(PoisonError::into_inner);
            let room = block
                .get_mut(offset % self.block_bytes..)
                .filter(|room| !room.is_empty())
                .ok_or_else(past_end)?;
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            offset += now.len();
            bytes = later;
        }
        Ok(())
    }

    fn make_at(
        &self,
        offset: u64,
        scratch: &mut [u8],
        make: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> io::Result<()> {
        let place = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(block) = self.blocks.get(place / self.block_bytes) {
            let mut block = block.lock().unwrap_or_else(PoisonError::into_inner);
            let start = place % self.block_bytes;
            if let Some(room) = block.get_mut(start..start + scratch.len()) {
                make(room);
                return Ok(());
            }
        }
        // It lies across blocks, or past the end.
        make_and_write(self, offset, scratch, make)
    }
}

/// Gathers bytes into pieces of at most [`Pieces::PIECE_BYTES`], so that no large buffer has to grow.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
    length: u64,
}

impl Pieces {
    const PIECE_BYTES: usize = 1 << 20;

    /// How many bytes there are in all.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// The pieces, in order.
    pub(crate) fn into_vec(mut self) -> Vec<Bytes> {
        if !self.last.is_empty() {
            self.last.shrink_to_fit();
            self.full.push(self.last.into());
        }
        self.full
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() == Self::PIECE_BYTES {
            self.full.push(std::mem::take(&mut self.last).into());
        }
        let count = bytes.len().min(Self::PIECE_BYTES - self.last.len());
        self.last.extend_from_slice(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_blocks_in_any_order_and_refuses_more_than_it_holds() {
        let mut buffer = vec![0; (1 << 20) + 10];
        let sink = MemorySink::new(&mut buffer);
        sink.write_at((1 << 20) - 1, &[1, 2, 3]).unwrap();
        sink.write_at(0, &[9]).unwrap();
        assert!(sink.write_at((1 << 20) + 9, &[1, 2]).is_err());
        assert!(sink.write_at(u64::MAX, &[1]).is_err());
        assert_eq!((buffer[0], &buffer[(1 << 20) - 1..(1 << 20) + 3]), (9, &[1, 2, 3, 0][..]));
    }

    #[test]
    fn bytes_are_made_in_place_or_across_blocks_and_not_past_the_end() {
        let made = |byte: u8| {
            move |room: &mut [u8]| {
                room.fill(byte);
                true
            }
        };
        let border = 1 << 20;
        let mut buffer = vec![0; border + 10];
        let sink = MemorySink::new(&mut buffer);
        sink.make_at(100, &mut [0; 3], &mut made(7)).unwrap();
        sink.make_at(border as u64 - 1, &mut [0; 3], &mut made(6)).unwrap();
        sink.make_at(border as u64 + 5, &mut [0; 5], &mut made(8)).unwrap();
        sink.make_at(border as u64 - 10, &mut [0; 2], &mut |_: &mut [u8]| false).unwrap();
        assert!(sink.make_at(border as u64 + 9, &mut [0; 2], &mut made(1)).is_err());
        assert!(sink.make_at(u64::MAX, &mut [0; 2], &mut made(1)).is_err());
        drop(sink);
        assert_eq!(buffer[99..104], [0, 7, 7, 7, 0]);
        assert_eq!(buffer[border - 2..border + 9], [0, 6, 6, 6, 0, 0, 0, 8, 8, 8, 8]);
    }

    #[test]
    fn pieces_keep_order_and_size() {
        let mut pieces = Pieces::default();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        for chunk in bytes.chunks(70_001) {
            pieces.write_all(chunk).unwrap();
        }
        assert_eq!(pieces.len(), bytes.len() as u64);
        let pieces = pieces.into_vec();
        assert!(pieces.iter().all(|piece| piece.len() <= 1 << 20));
        assert_eq!(pieces.concat(), bytes);
    }
}
