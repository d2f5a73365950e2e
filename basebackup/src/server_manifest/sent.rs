//! The files that were received, in a temporary file: read only to say which one is wrong.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use super::{FileFacts, Tally};

const BUFFER_BYTES: usize = 64 << 10;

/// The files that were received.
#[derive(Debug)]
pub struct SentFiles {
    list: BufWriter<File>,
    tally: Tally,
}

impl SentFiles {
    /// None yet; the list goes into a file without a name below `folder`.
    pub fn new(folder: &Path) -> io::Result<SentFiles> {
        let list = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(folder)?);
        Ok(SentFiles { list, tally: Tally::default() })
    }

    /// Adds a file.
    pub fn add(&mut self, file: &FileFacts) -> io::Result<()> {
        self.tally.add(file);
        self.list.write_all(&(file.path.len() as u32).to_le_bytes())?;
        self.list.write_all(&file.size.to_le_bytes())?;
        self.list.write_all(&file.crc32c.to_le_bytes())?;
        self.list.write_all(&file.path)
    }

    /// Their sum.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Calls `file` for each of them, in order.
    pub fn read(&mut self, mut file: impl FnMut(FileFacts)) -> io::Result<()> {
        self.list.flush()?;
        let list = self.list.get_mut();
        list.rewind()?;
        let mut list = BufReader::with_capacity(BUFFER_BYTES, list);
        for _ in 0..self.tally.files() {
            let mut facts = [0; 16];
            list.read_exact(&mut facts)?;
            let [a, b, c, d, size @ .., e, f, g, h] = facts;
            let mut path = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
            list.read_exact(&mut path)?;
            let crc32c = u32::from_le_bytes([e, f, g, h]);
            file(FileFacts { path, size: u64::from_le_bytes(size), crc32c });
        }
        Ok(())
    }
}
