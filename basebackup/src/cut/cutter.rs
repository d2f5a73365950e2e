//! From files to batches.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_repository::pack::{MAX_EXTENT_BYTES, RELATION_EXTENT_BYTES};
use highwater_repository::{Entry, manifest};

use super::chunks::{ChunkSizes, Chunker};
use super::{Batch, Buffers, Step};
use crate::layout::is_paged;
use crate::parent::ParentFile;
use crate::{Error, Result};

/// Files that are not paged and have at most so many bytes are one extent.
const WHOLE_BYTES: usize = 128 << 10;
/// Files above this size get longer extents: all extents of one file are held until its entry is written, and with these a
/// file of a terabyte takes 70 MB. PostgreSQL's own files have at most 1 GiB unless it is built otherwise.
const HUGE_BYTES: u64 = 8 << 30;

const CHUNKS: ChunkSizes = ChunkSizes { min: WHOLE_BYTES / 4, average: WHOLE_BYTES, max: WHOLE_BYTES * 4 };
const HUGE_CHUNKS: ChunkSizes =
    ChunkSizes { min: MAX_EXTENT_BYTES / 4, average: MAX_EXTENT_BYTES / 2, max: MAX_EXTENT_BYTES };

/// Cuts one file after another, and gathers what comes of it into batches.
#[derive(Debug)]
pub(crate) struct Cutter {
    output: Output,
    open: Option<OpenFile>,
}

impl Cutter {
    pub(crate) fn new(buffers: Arc<Buffers>) -> Cutter {
        let batch = Batch { bytes: buffers.take(), steps: Vec::new() };
        Cutter { output: Output { buffers, batch, full: VecDeque::new() }, open: None }
    }

    /// A batch that is full, if there is one. To be asked after every other call.
    pub(crate) fn take_full(&mut self) -> Option<Batch> {
        self.output.full.pop_front()
    }

    /// The batch that is being filled, at the end of all files.
    pub(crate) fn take_last(&mut self) -> Option<Batch> {
        Some(std::mem::take(&mut self.output.batch)).filter(|batch| !batch.steps.is_empty())
    }

    /// Adds a folder or a link.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.output.push(Step::Other(entry));
    }

    /// Begins a file. `parent` is the same file in the parent backup.
    pub(crate) fn begin(&mut self, file: manifest::File, parent: Option<ParentFile>) {
        let way = Way::of(&file);
        self.open = Some(OpenFile { file, way, parent, crc32c: 0, cut: 0 });
    }

    /// Adds content to the file that was begun.
    ///
    /// # Errors
    /// Those of reading the parent's index.
    pub(crate) fn content(&mut self, bytes: &[u8]) -> Result<()> {
        let open = self.open.as_mut().ok_or(Error::Internal("content of no file"))?;
        open.crc32c = crc32c::crc32c_append(open.crc32c, bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = open.take(rest, &mut self.output)?;
            rest = rest
                .get(taken..)
                .filter(|_| taken > 0)
                .ok_or(Error::Internal("a file longer than announced"))?;
        }
        Ok(())
    }

    /// Ends the file; it has its checksum then.
    ///
    /// # Errors
    /// Those of reading the parent's index.
    pub(crate) fn end(&mut self) -> Result<manifest::File> {
        let mut open = self.open.take().ok_or(Error::Internal("the end of no file"))?;
        open.take_chunks(true, &mut self.output)?;
        let file = manifest::File { crc32c: Some(open.crc32c), ..open.file };
        self.output.push(Step::End(file.clone()));
        Ok(file)
    }
}

/// Where extents go.
#[derive(Debug)]
struct Output {
    buffers: Arc<Buffers>,
    batch: Batch,
    full: VecDeque<Batch>,
}

impl Output {
    /// Makes room for an extent of so many bytes, all of them in one batch, and says where it begins there.
    fn make_room(&mut self, bytes: usize) -> usize {
        if !self.batch.has_room_for(bytes) {
            let next = Batch { bytes: self.buffers.take(), steps: Vec::new() };
            self.full.push_back(std::mem::replace(&mut self.batch, next));
        }
        self.batch.bytes.len()
    }

    fn push(&mut self, step: Step) {
        self.make_room(0);
        self.batch.steps.push(step);
    }
}

/// The file that is being cut.
#[derive(Debug)]
struct OpenFile {
    file: manifest::File,
    way: Way,
    parent: Option<ParentFile>,
    crc32c: u32,
    /// How many bytes lie in extents.
    cut: u64,
}

/// How a file is cut.
#[derive(Debug)]
enum Way {
    /// Every so many bytes. Of the extent under way, so many bytes lie at the batch's end.
    Fixed { extent: usize, filled: usize },
    /// Where the content says so.
    Chunks(Chunker),
}

impl Way {
    fn of(file: &manifest::File) -> Way {
        let fixed = |extent| Way::Fixed { extent, filled: 0 };
        let is_huge = file.size > HUGE_BYTES;
        match is_paged(file.path.as_bytes()) {
            true if is_huge => fixed(MAX_EXTENT_BYTES),
            true => fixed(RELATION_EXTENT_BYTES),
            false if file.size <= WHOLE_BYTES as u64 => fixed(WHOLE_BYTES),
            false if is_huge => Way::Chunks(Chunker::new(HUGE_CHUNKS)),
            false => Way::Chunks(Chunker::new(CHUNKS)),
        }
    }
}

impl OpenFile {
    /// Takes some of `bytes`, and says how many.
    fn take(&mut self, bytes: &[u8], output: &mut Output) -> Result<usize> {
        match &mut self.way {
            Way::Chunks(chunker) => {
                let taken = chunker.push(bytes);
                self.take_chunks(false, output)?;
                Ok(taken)
            }
            Way::Fixed { extent, filled } => {
                let length = self.file.size.saturating_sub(self.cut).min(*extent as u64) as usize;
                if *filled == 0 {
                    output.make_room(length);
                }
                let taken = bytes.len().min(length - *filled);
                output.batch.bytes.extend_from_slice(&bytes[..taken]);
                *filled += taken;
                if *filled == length {
                    *filled = 0;
                    self.close_extent(length, output)?;
                }
                Ok(taken)
            }
        }
    }

    /// Moves the chunks that are known into the batch; at the file's end, all that is left.
    fn take_chunks(&mut self, at_end: bool, output: &mut Output) -> Result<()> {
        while let Way::Chunks(chunker) = &mut self.way {
            let Some(chunk) = chunker.next(at_end) else { break };
            let length = chunk.len();
            output.make_room(length);
            output.batch.bytes.extend_from_slice(chunk);
            self.close_extent(length, output)?;
        }
        Ok(())
    }

    /// Makes the last `length` bytes of the batch an extent.
    fn close_extent(&mut self, length: usize, output: &mut Output) -> Result<()> {
        let known = match &mut self.parent {
            Some(parent) => parent.around(self.cut)?,
            None => None,
        };
        self.cut += length as u64;
        let end = output.batch.bytes.len();
        output.batch.steps.push(Step::Extent { range: end - length..end, known });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
