//! A file of the parent backup, read along with the file that is being cut.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use highwater_repository::{Digest, ExtentRef, PackId};

use super::Known;
use crate::Result;

/// An extent in the index: place in the file, pack, offset there, stored length, length, digest.
pub(super) const RECORD_BYTES: usize = 8 + 16 + 8 + 4 + 4 + 32;
/// Extents that are read at a time.
const READ_RECORDS: u64 = 256;
/// How far around its own place in the file an extent is looked for, in bytes. Content that moved by more is stored anew.
const REACH_BYTES: u64 = 4 << 20;
/// How far one [`Known`] serves, in bytes.
const STRETCH_BYTES: u64 = 8 << 20;

/// A file of the parent backup.
#[derive(Debug)]
pub(crate) struct ParentFile {
    records: Arc<File>,
    /// Where the next record lies, and how many there are left.
    next: u64,
    left: u64,
    /// Records that have been read and may still be of use.
    window: VecDeque<(u64, ExtentRef)>,
    known: Option<Arc<Known>>,
    /// Up to where in the file `known` serves.
    serves_to: u64,
}

impl ParentFile {
    /// The file whose `count` records begin at `first`.
    pub(super) fn new(records: Arc<File>, first: u64, count: u64) -> ParentFile {
        ParentFile { records, next: first, left: count, window: VecDeque::new(), known: None, serves_to: 0 }
    }

    /// The extents around `offset`, which must not go back; `None` where there are none.
    pub(crate) fn around(&mut self, offset: u64) -> Result<Option<Arc<Known>>> {
        if offset >= self.serves_to {
            self.serves_to = offset + STRETCH_BYTES;
            self.read_up_to(self.serves_to + REACH_BYTES)?;
            let from = offset.saturating_sub(REACH_BYTES);
            while self.window.pop_front_if(|(place, _)| *place < from).is_some() {}
            let near = self.window.iter().take_while(|(place, _)| *place < self.serves_to + REACH_BYTES);
            let extents: Vec<_> = near.copied().collect();
            self.known = (!extents.is_empty()).then(|| Arc::new(Known { extents }));
        }
        Ok(self.known.clone())
    }

    /// Reads records until one lies at or behind `offset`.
    fn read_up_to(&mut self, offset: u64) -> io::Result<()> {
        while self.left > 0 && self.window.back().is_none_or(|(place, _)| *place < offset) {
            let count = self.left.min(READ_RECORDS);
            let mut bytes = vec![0; count as usize * RECORD_BYTES];
            self.records.read_exact_at(&mut bytes, self.next)?;
            self.window.extend(bytes.as_chunks::<RECORD_BYTES>().0.iter().map(read_record));
            self.next += bytes.len() as u64;
            self.left -= count;
        }
        Ok(())
    }
}

/// The record of an extent that lies at `place` of its file.
pub(super) fn write_record(place: u64, extent: &ExtentRef) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let mut rest = record.as_mut_slice();
    let mut put = |bytes: &[u8]| {
        let (field, tail) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        field.copy_from_slice(bytes);
        rest = tail;
    };
    put(&place.to_le_bytes());
    put(&extent.pack.to_bytes());
    put(&extent.offset.to_le_bytes());
    put(&extent.stored.to_le_bytes());
    put(&extent.length.to_le_bytes());
    put(&extent.digest.0);
    record
}

fn read_record(record: &[u8; RECORD_BYTES]) -> (u64, ExtentRef) {
    let mut rest = record.as_slice();
    let place = u64::from_le_bytes(take(&mut rest));
    let extent = ExtentRef {
        pack: PackId::from_bytes(take(&mut rest)),
        offset: u64::from_le_bytes(take(&mut rest)),
        stored: u32::from_le_bytes(take(&mut rest)),
        length: u32::from_le_bytes(take(&mut rest)),
        digest: Digest(take(&mut rest)),
    };
    (place, extent)
}

/// The next bytes of a record, which is as long as its fields are together.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((field, tail)) = rest.split_first_chunk() else { return [0; N] };
    *rest = tail;
    *field
}
