//! Content-defined chunks.

use fastcdc::v2020::FastCDC;

/// How long chunks get, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkSizes {
    pub(super) min: usize,
    pub(super) average: usize,
    pub(super) max: usize,
}

/// Cuts one file that comes in pieces. Where it cuts depends on the content alone.
#[derive(Debug)]
pub(super) struct Chunker {
    sizes: ChunkSizes,
    /// What has come and is not handed out, from `start` on.
    pending: Vec<u8>,
    start: usize,
}

impl Chunker {
    pub(super) fn new(sizes: ChunkSizes) -> Chunker {
        Chunker { sizes, pending: Vec::new(), start: 0 }
    }

    /// Takes as many of `bytes` as there is room for, and says how many.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let capacity = 2 * self.sizes.max;
        if self.pending.len() == capacity {
            self.pending.drain(..self.start);
            self.start = 0;
        }
        let count = bytes.len().min(capacity - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        count
    }

    /// The next chunk, if enough has come to know its end; with `at_end`, while there is anything left.
    pub(super) fn next(&mut self, at_end: bool) -> Option<&[u8]> {
        let left = &self.pending[self.start..];
        if left.is_empty() || (left.len() < self.sizes.max && !at_end) {
            return None;
        }
        let ChunkSizes { min, average, max } = self.sizes;
        let (_, length) = FastCDC::new(left, min, average, max).cut(0, left.len());
        let chunk = self.start..self.start + length;
        self.start = chunk.end;
        Some(&self.pending[chunk])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZES: ChunkSizes = ChunkSizes { min: 64, average: 256, max: 1024 };

    fn chunks(content: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::new(SIZES);
        let mut chunks = Vec::new();
        for mut piece in content.chunks(piece) {
            while !piece.is_empty() {
                piece = &piece[chunker.push(piece)..];
                while let Some(chunk) = chunker.next(false) {
                    chunks.push(chunk.to_vec());
                }
            }
        }
        while let Some(chunk) = chunker.next(true) {
            chunks.push(chunk.to_vec());
        }
        chunks
    }

    proptest! {
        #[test]
        fn chunks_are_the_content_wherever_the_network_cuts_it(
            content in proptest::collection::vec(any::<u8>(), 0..20_000),
            piece in 1usize..5000,
        ) {
            let cut = chunks(&content, piece);
            prop_assert_eq!(cut.concat(), content.clone());
            prop_assert!(cut.iter().all(|chunk| chunk.len() <= SIZES.max));
            prop_assert!(cut.iter().rev().skip(1).all(|chunk| chunk.len() >= SIZES.min));
            prop_assert_eq!(cut, chunks(&content, usize::MAX));
        }

        #[test]
        fn what_is_inserted_moves_only_the_cuts_around_it(
            content in proptest::collection::vec(any::<u8>(), 15_000..20_000),
            at in 0usize..15_000,
            inserted in proptest::collection::vec(any::<u8>(), 1..100),
        ) {
            let before = chunks(&content, 4096);
            let mut content = content;
            content.splice(at..at, inserted);
            let after = chunks(&content, 4096);
            let new = after.iter().filter(|chunk| !before.contains(chunk)).count();
            prop_assert!(new * 2 < after.len(), "{new} of {}", after.len());
        }
    }
}
