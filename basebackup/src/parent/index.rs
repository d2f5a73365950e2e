//! The index over the parent's manifest.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use highwater_repository::{Backups, EntryPath, Item, ManifestReader, Run};

use super::file::{RECORD_BYTES, write_record};
use super::packs::Packs;
use super::table::Table;
use super::{Lacking, ParentFile};
use crate::Result;

/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// Behind a file's extents stand their number, the length of the path, and the path.
const TRAILER_BYTES: usize = 12;
/// After so many pieces of the manifest others get their turn on this thread.
const ITEMS_A_TURN: u64 = 256;

/// An index from paths to extents.
#[derive(Debug)]
pub(crate) struct ParentIndex {
    records: Arc<File>,
    table: Table,
}

impl ParentIndex {
    /// Reads the manifest to its end, and leaves out what lies in packs that are gone. The files of the index lie, without
    /// a name, below `folder`.
    pub(crate) async fn build(
        backups: &Backups,
        mut manifest: ManifestReader,
        folder: &Path,
    ) -> Result<(ParentIndex, Lacking)> {
        let mut packs = Packs::list(backups, folder).await?;
        let mut builder = Builder::new(folder, manifest.head().totals.files)?;
        let mut items = 0;
        while let Some(item) = manifest.next().await? {
            builder.add(item, &mut packs)?;
            items += 1;
            if items % ITEMS_A_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok((builder.finish()?, packs.into_lacking()))
    }

    /// The file of this path, if it was there and had content.
    pub(crate) fn file(&self, path: &[u8]) -> Result<Option<ParentFile>> {
        let mut found = None;
        self.table.find(hash(path), |place| {
            let mut trailer = [0; TRAILER_BYTES];
            self.records.read_exact_at(&mut trailer, place)?;
            let [a, b, c, d, e, f, g, h, length @ ..] = trailer;
            let mut name = vec![0; u32::from_le_bytes(length) as usize];
            self.records.read_exact_at(&mut name, place + TRAILER_BYTES as u64)?;
            if name == path {
                let count = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                let first = place - count * RECORD_BYTES as u64;
                found = Some(ParentFile::new(Arc::clone(&self.records), first, count));
            }
            Ok(found.is_some())
        })?;
        Ok(found)
    }
}

fn hash(path: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(path).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// An index that is being made.
struct Builder {
    records: BufWriter<File>,
    /// How many bytes of records there are.
    length: u64,
    table: Table,
    open: Option<OpenRecord>,
}

/// The file whose extents are coming.
struct OpenRecord {
    path: EntryPath,
    extents: u64,
    /// How many bytes of the file have been passed.
    offset: u64,
}

impl Builder {
    fn new(folder: &Path, files: u64) -> io::Result<Builder> {
        let records = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(folder)?);
        Ok(Builder { records, length: 0, table: Table::new(folder, files)?, open: None })
    }

    fn add(&mut self, item: Item, packs: &mut Packs) -> io::Result<()> {
        match item {
            Item::File(file) => {
                self.close()?;
                self.open = Some(OpenRecord { path: file.path, extents: 0, offset: 0 });
                Ok(())
            }
            Item::Runs(runs) => runs.iter().try_for_each(|run| self.add_run(run, packs)),
            Item::Folder(_) | Item::Link(_) => Ok(()),
        }
    }

    fn add_run(&mut self, run: &Run, packs: &mut Packs) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        match run {
            Run::Zeros(length) => open.offset += length,
            Run::Extents(extents) => {
                for extent in extents {
                    if packs.hold(extent)? {
                        self.write(&write_record(open.offset, extent))?;
                        open.extents += 1;
                    }
                    open.offset += u64::from(extent.length);
                }
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        self.records.write_all(bytes)
    }

    /// Ends the record of a file, and notes where it lies if there is any extent in it.
    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take().filter(|open| open.extents > 0) else { return Ok(()) };
        let path = open.path.as_bytes();
        self.table.insert(hash(path), self.length)?;
        self.write(&open.extents.to_le_bytes())?;
        self.write(&(path.len() as u32).to_le_bytes())?;
        self.write(path)
    }

    fn finish(mut self) -> io::Result<ParentIndex> {
        self.close()?;
        let records = self.records.into_inner().map_err(|error| error.into_error())?;
        Ok(ParentIndex { records: Arc::new(records), table: self.table })
    }
}

const _: () = assert!(RECORD_BYTES == 72, "the head of this module says how much an extent takes");
