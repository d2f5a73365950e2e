//! BLAKE3 digests: what says that bytes are the ones that were meant.

use std::fmt;
use std::str::FromStr;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;
use crate::codec::{BLOCK_BYTES, Content};

/// A BLAKE3 digest of plain bytes. It is written as 64 hexadecimal digits in small letters.
///
/// ```
/// use highwater_repository::Digest;
/// let digest = Digest::of(b"");
/// assert_eq!(digest.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
/// assert_eq!(digest.to_string().parse::<Digest>()?, digest);
/// # Ok::<(), highwater_repository::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest, Error> {
        let bad = || Error::Name {
            what: "a digest",
            text: text.to_owned(),
            hint: "a digest has 64 hexadecimal digits in small letters",
        };
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bad());
        }
        blake3::Hash::from_hex(text).map(|hash| Digest(*hash.as_bytes())).map_err(|_| bad())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What identifies plain bytes: how many there are and what they are (R3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct Plain {
    /// How many bytes.
    pub length: u64,
    /// Their digest.
    pub digest: Digest,
}

impl Plain {
    /// Length and digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Plain {
        Plain { length: bytes.len() as u64, digest: Digest::of(bytes) }
    }

    /// The same of content that is read block by block.
    ///
    /// # Errors
    /// Those of reading.
    pub fn of_content(content: &(impl Content + ?Sized)) -> std::io::Result<Plain> {
        let (length, mut hasher, mut buffer) = (content.length(), Hasher::new(), Vec::new());
        for offset in (0..length).step_by(BLOCK_BYTES) {
            let block =
                content.block(offset, (length - offset).min(BLOCK_BYTES as u64) as usize, &mut buffer)?;
            hasher.update(block);
        }
        Ok(Plain { length, digest: Digest(*hasher.finalize().as_bytes()) })
    }

    /// The same of bytes that lie in pieces.
    pub(crate) fn of_pieces(pieces: &[bytes::Bytes]) -> Plain {
        let mut hasher = Hasher::new();
        for piece in pieces {
            hasher.update(piece);
        }
        Plain { length: hasher.count(), digest: Digest(*hasher.finalize().as_bytes()) }
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, digest {}", self.length, self.digest)
    }
}

/// The digest of a whole whose blocks are digested one by one, on any thread and in any order.
///
/// BLAKE3 is a tree: the digest of the whole is made from those of its subtrees. Blocks of a power of two of at least
/// 1 KiB, only the last of them shorter, are such subtrees.
#[derive(Debug, Default)]
pub(crate) struct BlockDigests {
    length: u64,
    block_bytes: u64,
    blocks: Vec<Option<BlockDigest>>,
}

/// The digest of one block within a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BlockDigest {
    /// There is only this block.
    Whole(Digest),
    /// One block of several.
    Part(ChainingValue),
}

impl BlockDigests {
    /// For a whole of `length` bytes in blocks of `block_bytes`, a power of two of at least 1 KiB.
    pub(crate) fn new(length: u64, block_bytes: usize) -> BlockDigests {
        debug_assert!(block_bytes.is_power_of_two() && block_bytes >= blake3::CHUNK_LEN);
        let block_bytes = block_bytes as u64;
        let count = length.div_ceil(block_bytes).max(1) as usize;
        BlockDigests { length, block_bytes, blocks: vec![None; count] }
    }

    /// The digest of block `index`, whose bytes are `block`; to be handed to [`BlockDigests::put`].
    pub(crate) fn digest(&self, index: usize, block: &[u8]) -> BlockDigest {
        if self.blocks.len() == 1 {
            return BlockDigest::Whole(Digest::of(block));
        }
        let mut hasher = Hasher::new();
        hasher.set_input_offset(index as u64 * self.block_bytes).update(block);
        BlockDigest::Part(hasher.finalize_non_root())
    }

    /// Notes the digest of block `index`.
    pub(crate) fn put(&mut self, index: usize, digest: BlockDigest) {
        self.blocks[index] = Some(digest);
    }

    /// The digest of the whole; `None` while a block is missing.
    pub(crate) fn root(&self) -> Option<Digest> {
        if let [one] = self.blocks.as_slice() {
            return match one {
                Some(BlockDigest::Whole(digest)) => Some(*digest),
                _ => None,
            };
        }
        let (left, right) = self.halves(0, self.length)?;
        Some(Digest(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()))
    }

    fn halves(&self, start: u64, length: u64) -> Option<(ChainingValue, ChainingValue)> {
        let left = left_subtree_len(length);
        Some((self.subtree(start, left)?, self.subtree(start + left, length - left)?))
    }

    fn subtree(&self, start: u64, length: u64) -> Option<ChainingValue> {
        if length > self.block_bytes {
            let (left, right) = self.halves(start, length)?;
            return Some(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        match self.blocks.get((start / self.block_bytes) as usize)? {
            Some(BlockDigest::Part(value)) => Some(*value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_give_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..70_001u32).flat_map(|n| n.to_le_bytes()).collect();
        let block = 4096;
        for length in [0, 1, 4095, 4096, 4097, 8192, 12288, 12289, 65536, 99_999, bytes.len()] {
            let whole = &bytes[..length];
            let mut digests = BlockDigests::new(length as u64, block);
            let mut blocks: Vec<_> = whole.chunks(block).enumerate().collect();
            if blocks.is_empty() {
                blocks.push((0, &[]));
            }
            for (index, block) in blocks.into_iter().rev() {
                assert_eq!(digests.root(), None, "{length}");
                let digest = digests.digest(index, block);
                digests.put(index, digest);
            }
            assert_eq!(digests.root(), Some(Digest::of(whole)), "{length}");
        }
    }

    #[test]
    fn only_small_hexadecimal_digits_are_read() {
        let text = Digest::of(b"x").to_string();
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[1..].parse::<Digest>().is_err());
        assert!("".parse::<Digest>().is_err());
    }
}
