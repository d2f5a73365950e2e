//! Extents: runs of a file's bytes, compressed each by itself.

use crate::codec::{Compression, SmallEncoder};
use crate::digest::Digest;
use crate::names::PackId;
use crate::pack::MAX_EXTENT_BYTES;
use crate::{Error, Result};

/// Where an extent lies, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ExtentRef {
    /// The pack.
    pub pack: PackId,
    /// Where the frame begins in the pack, in bytes, before encryption.
    pub offset: u64,
    /// Length of the frame in bytes.
    pub stored: u32,
    /// Length of the plain bytes.
    pub length: u32,
    /// Digest of the plain bytes.
    pub digest: Digest,
}

/// An extent on its way into a pack.
#[derive(Clone, Debug)]
pub struct CompressedExtent {
    /// Length of the plain bytes.
    pub length: u32,
    /// Digest of the plain bytes.
    pub digest: Digest,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Compresses extents. One for each thread: it keeps the codec's tables from extent to extent.
pub struct ExtentCompressor(SmallEncoder);

impl std::fmt::Debug for ExtentCompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExtentCompressor")
    }
}

impl ExtentCompressor {
    /// A compressor for these settings.
    pub fn new(compression: &Compression) -> Result<ExtentCompressor> {
        SmallEncoder::new(compression).map(ExtentCompressor).map_err(Error::Codec)
    }

    /// Compresses and digests one extent of 1 to [`MAX_EXTENT_BYTES`] bytes.
    pub fn compress(&mut self, plain: &[u8]) -> Result<CompressedExtent> {
        self.compress_digested(plain, Digest::of(plain))
    }

    /// The same for an extent whose digest is known already.
    pub fn compress_digested(&mut self, plain: &[u8], digest: Digest) -> Result<CompressedExtent> {
        if plain.is_empty() || plain.len() > MAX_EXTENT_BYTES {
            return Err(Error::Refused {
                what: "an extent".to_owned(),
                reason: format!("it has {} bytes", plain.len()),
                hint: "this is a fault of the program: report it",
            });
        }
        let frame = self.0.encode(plain).map_err(Error::Codec)?;
        Ok(CompressedExtent { length: plain.len() as u32, digest, frame })
    }
}
