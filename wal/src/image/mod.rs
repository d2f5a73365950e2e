//! Full-page images: a page as it was when the record was written, without its hole, perhaps compressed
//! (`xlogrecord.h`, `RestoreBlockImage` in `xlogreader.c`, PostgreSQL 14–18).

mod pglz;

use crate::PgVersion;
use crate::bytes::Fields;

/// How an image is compressed (`wal_compression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// PostgreSQL's own.
    Pglz,
    /// An LZ4 block (15 and later).
    Lz4,
    /// A Zstandard frame (15 and later).
    Zstd,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::Pglz => "pglz",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        })
    }
}

/// Why an image can't be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// What is stored isn't what this method makes.
    #[error("the page image is not {0} data")]
    Compression(Compression),
    /// What comes out isn't a page.
    #[error("the page image has {found} bytes with its hole, which is no page")]
    Size {
        /// As many bytes.
        found: usize,
    },
}

/// A full-page image as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// The stored bytes.
    pub stored: &'a [u8],
    /// How they are compressed.
    pub compression: Option<Compression>,
    /// Recovery puts the page in place. Else it is there for `wal_consistency_checking` only, and what the record did is
    /// in it all the same.
    pub is_applied: bool,
    hole_offset: u16,
    hole_length: u16,
}

/// What a block reference tells of its image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageHeader {
    length: u16,
    hole_offset: u16,
    hole_length: u16,
    /// `BKPIMAGE_…`
    info: u8,
    version: PgVersion,
}

const HAS_HOLE: u8 = 0x01;

impl ImageHeader {
    #[inline(always)]
    pub(crate) fn read(version: PgVersion, fields: &mut Fields<'_>) -> Option<ImageHeader> {
        let [a, b, c, d, info] = fields.array::<5>()?;
        let mut header = ImageHeader {
            length: u16::from_le_bytes([a, b]),
            hole_offset: u16::from_le_bytes([c, d]),
            hole_length: 0,
            info,
            version,
        };
        // 14 has one flag for "compressed", later ones have one for each method.
        let compressed = info & if version == PgVersion::V14 { 0x02 } else { 0x1C } != 0;
        if compressed && info & HAS_HOLE != 0 {
            header.hole_length = fields.u16()?;
        }
        Some(header)
    }

    pub(crate) fn length(self) -> usize {
        usize::from(self.length)
    }

    fn compression(self) -> Option<Compression> {
        match (self.version, self.info) {
            (PgVersion::V14, info) if info & 0x02 != 0 => Some(Compression::Pglz),
            (PgVersion::V14, _) => None,
            (_, info) if info & 0x04 != 0 => Some(Compression::Pglz),
            (_, info) if info & 0x08 != 0 => Some(Compression::Lz4),
            (_, info) if info & 0x10 != 0 => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// What "configure --with-blocksize" takes: 1 to 32 KiB.
const PAGE_SIZES: std::ops::RangeInclusive<usize> = 1 << 10..=MAX_PAGE_SIZE;
const MAX_PAGE_SIZE: usize = 32 << 10;

/// Where a page tells its size, in the high byte of a number (`pd_pagesize_version`).
const SIZE_OFFSET: usize = 18;

impl<'a> Image<'a> {
    pub(crate) fn new(header: ImageHeader, stored: &'a [u8]) -> Image<'a> {
        let apply = if header.version == PgVersion::V14 { 0x04 } else { 0x02 };
        Image {
            stored,
            compression: header.compression(),
            is_applied: header.info & apply != 0,
            hole_offset: if header.info & HAS_HOLE == 0 { 0 } else { header.hole_offset },
            hole_length: header.hole_length,
        }
    }

    /// Puts the page into `page`, its hole filled with zeros. What `page` held before is dropped.
    ///
    /// # Errors
    /// Where it can't be unpacked; what is in `page` then means nothing.
    pub fn unpack(&self, page: &mut Vec<u8>) -> Result<(), ImageError> {
        page.clear();
        match self.compression {
            None => page.extend_from_slice(self.stored),
            Some(method) => {
                // Never longer than the page, so that a hurt length can't ask for more.
                let whole = decompress(method, self.stored, page);
                whole.filter(|length| *length <= MAX_PAGE_SIZE).ok_or(ImageError::Compression(method))?;
            }
        }
        let hole = self.hole_length(page);
        let (at, found) = (usize::from(self.hole_offset), page.len() + hole);
        if !(PAGE_SIZES.contains(&found) && found.is_power_of_two() && at <= page.len()) {
            return Err(ImageError::Size { found });
        }
        page.splice(at..at, std::iter::repeat_n(0, hole));
        Ok(())
    }

    /// A compressed image says how long its hole is; for another it follows from the page's size, which only the page knows.
    fn hole_length(&self, page: &[u8]) -> usize {
        if self.compression.is_some() || self.hole_offset == 0 {
            return usize::from(self.hole_length);
        }
        let size = Fields(page.get(SIZE_OFFSET..).unwrap_or_default()).u16().unwrap_or(0) & 0xFF00;
        usize::from(size).saturating_sub(page.len())
    }
}

/// Unpacks `stored` into `page`, and answers with the length.
fn decompress(method: Compression, stored: &[u8], page: &mut Vec<u8>) -> Option<usize> {
    if method == Compression::Pglz {
        return pglz::decompress(stored, MAX_PAGE_SIZE, page).map(|()| page.len());
    }
    page.resize(MAX_PAGE_SIZE, 0);
    let length = match method {
        Compression::Lz4 => {
            lz4::block::decompress_to_buffer(stored, Some(MAX_PAGE_SIZE as i32), page).ok()?
        }
        _ => zstd::bulk::decompress_to_buffer(stored, &mut page[..]).ok()?,
    };
    page.truncate(length);
    Some(length)
}

#[cfg(test)]
mod tests;
