//! Packs: objects that hold many extents.
//!
//! A pack is the extents' frames, one behind the other, and nothing else: `lz4 -d` or `zstd -d` of a pack gives the
//! extents' contents one after another. Where each extent lies, how long it is and what its digest is stands in the
//! manifests. Encryption is around the whole pack; ranges are read through age's chunks.

mod extent;
mod listing;
mod reader;
mod writer;

pub use extent::{CompressedExtent, ExtentCompressor, ExtentRef};
pub use listing::{PackPage, StoredPack};
pub(crate) use reader::check_extent;
pub use reader::{ExtentReader, FetchedExtents};
pub use writer::{PackLimits, PackTotals, PackWriter};

/// The longest extent in bytes.
pub const MAX_EXTENT_BYTES: usize = crate::codec::BLOCK_BYTES;

/// The extent of a relation file in bytes: four of PostgreSQL's pages. What other sizes would cost is measured in
/// docs/FORMAT.md.
pub const RELATION_EXTENT_BYTES: usize = 32 << 10;

/// The most stored bytes that one extent can take: content that does not compress grows a little.
pub(crate) const MAX_STORED_EXTENT_BYTES: usize = MAX_EXTENT_BYTES + (64 << 10);

/// The longest pack, before encryption, that is read.
pub(crate) const MAX_PACK_BYTES: u64 = 1 << 30;
