//! What manifests name: extents and how far packs reach, to be put in order on the disk.

use highwater_repository::{PackId, Run as Bytes};
use highwater_wal::Lsn;

use crate::control::Pages;
use crate::page::PAGE_BYTES;
use crate::relation::relation_part;
use crate::spool::{Record, Spool};

/// A block number that no page has: the extent's pages are not looked at.
pub(crate) const NO_PAGES: u32 = u32::MAX;

/// An extent that a manifest names, and how its pages are to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) pack: PackId,
    pub(crate) offset: u64,
    pub(crate) stored: u32,
    pub(crate) length: u32,
    pub(crate) digest: [u8; 32],
    /// The block that its first page is, or [`NO_PAGES`].
    pub(crate) block: u32,
    /// The latest start of the backups that name it: of a page that was changed before, nothing repairs the checksum.
    pub(crate) start: u64,
    /// Whether it was proven before: 1 by a whole verification, 2 by one that was cut short.
    pub(crate) known: u8,
}

impl Record for Named {
    const BYTES: usize = 16 + 8 + 4 + 4 + 32 + 4 + 8 + 1;

    fn write(&self, bytes: &mut [u8]) {
        bytes[..16].copy_from_slice(&self.pack.to_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.stored.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.digest);
        bytes[64..68].copy_from_slice(&self.block.to_le_bytes());
        bytes[68..76].copy_from_slice(&self.start.to_le_bytes());
        bytes[76] = self.known;
    }

    fn read(bytes: &[u8]) -> Named {
        let mut at = 0;
        Named {
            pack: PackId::from_bytes(take(bytes, &mut at)),
            offset: u64::from_le_bytes(take(bytes, &mut at)),
            stored: u32::from_le_bytes(take(bytes, &mut at)),
            length: u32::from_le_bytes(take(bytes, &mut at)),
            digest: take(bytes, &mut at),
            block: u32::from_le_bytes(take(bytes, &mut at)),
            start: u64::from_le_bytes(take(bytes, &mut at)),
            known: u8::from_le_bytes(take(bytes, &mut at)),
        }
    }

    fn merge(&mut self, other: &Named) -> bool {
        let is_same = self.is_same_extent(other) && self.block == other.block;
        if is_same {
            self.start = self.start.max(other.start);
            self.known |= other.known;
        }
        is_same
    }
}

fn take<const N: usize>(bytes: &[u8], at: &mut usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[*at..*at + N]);
    *at += N;
    taken
}

impl Named {
    pub(crate) fn is_same_extent(&self, other: &Named) -> bool {
        (self.pack, self.offset, self.stored, self.length, self.digest)
            == (other.pack, other.offset, other.stored, other.length, other.digest)
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.stored)
    }
}

/// How far a pack has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reach {
    pub(crate) pack: PackId,
    pub(crate) end: u64,
}

impl Record for Reach {
    const BYTES: usize = 24;

    fn write(&self, bytes: &mut [u8]) {
        bytes[..16].copy_from_slice(&self.pack.to_bytes());
        bytes[16..].copy_from_slice(&self.end.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Reach {
        let mut at = 0;
        Reach {
            pack: PackId::from_bytes(take(bytes, &mut at)),
            end: u64::from_le_bytes(take(bytes, &mut at)),
        }
    }

    fn merge(&mut self, other: &Reach) -> bool {
        let is_same = self.pack == other.pack;
        self.end = if is_same { self.end.max(other.end) } else { self.end };
        is_same
    }
}

/// What manifests name, on its way into order.
#[derive(Debug)]
pub(crate) enum Gathered {
    /// Each extent: everything is read.
    Extents(Spool<Named>),
    /// How far each pack has to reach.
    Reaches(Spool<Reach>),
}

/// Where the bytes of a file are that is being read out of a manifest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    at: u64,
    /// The block that the file's first page is, where its pages are looked at.
    first_block: Option<u32>,
}

impl Place {
    /// At the beginning of a file.
    pub(crate) fn of(path: &str, pages: Option<Pages>) -> Place {
        let part = pages.and_then(|pages| Some((pages, relation_part(path)?)));
        Place { at: 0, first_block: part.and_then(|(pages, part)| pages.file_blocks.checked_mul(part.part)) }
    }

    /// Goes on by a run. Tells of each of its extents, with the block that its first page is.
    pub(crate) fn pass(&mut self, run: &Bytes, mut each: impl FnMut(&highwater_repository::ExtentRef, u32)) {
        match run {
            Bytes::Zeros(length) => self.at += length,
            Bytes::Extents(extents) => {
                for extent in extents {
                    each(extent, self.block());
                    self.at += u64::from(extent.length);
                }
            }
        }
    }

    fn block(&self) -> u32 {
        let page = PAGE_BYTES as u64;
        let block = self
            .first_block
            .filter(|_| self.at.is_multiple_of(page))
            .and_then(|first| u32::try_from(self.at / page).ok().and_then(|block| first.checked_add(block)));
        block.unwrap_or(NO_PAGES)
    }
}

/// Adds what a run names.
pub(crate) fn gather(
    gathered: &mut Gathered,
    place: &mut Place,
    run: &Bytes,
    start: Lsn,
    known: u8,
) -> std::io::Result<()> {
    let mut result = Ok(());
    place.pass(run, |extent, block| {
        if result.is_err() {
            return;
        }
        result = match gathered {
            Gathered::Extents(spool) => spool.push(Named {
                pack: extent.pack,
                offset: extent.offset,
                stored: extent.stored,
                length: extent.length,
                digest: extent.digest.0,
                block,
                start: start.0,
                known,
            }),
            Gathered::Reaches(spool) => {
                spool.push(Reach { pack: extent.pack, end: extent.offset + u64::from(extent.stored) })
            }
        };
    });
    result
}
