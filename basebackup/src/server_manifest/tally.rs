//! Whether two lists name the same files, told without keeping either.

use blake3::Hasher;

/// A file as both sides know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileFacts {
    /// Its path below the data directory.
    pub path: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
    /// CRC-32C of its content.
    pub crc32c: u32,
}

/// The sum of the digests of all files of a list, modulo 2²⁵⁶: the same for the same files in any order, and, digests being what they
/// are, different for different ones. A file twice is not the same as once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    files: u64,
    sum: [u64; 4],
}

impl Tally {
    /// Adds a file.
    pub fn add(&mut self, file: &FileFacts) {
        self.files += 1;
        let digest = digest(file);
        let mut carry = false;
        for (word, bytes) in self.sum.iter_mut().zip(digest.as_chunks::<8>().0) {
            let (partial, first) = word.overflowing_add(u64::from_le_bytes(*bytes));
            let (whole, second) = partial.overflowing_add(u64::from(carry));
            *word = whole;
            carry = first || second;
        }
    }

    /// How many files were added.
    pub fn files(&self) -> u64 {
        self.files
    }
}

fn digest(file: &FileFacts) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(&file.size.to_le_bytes()).update(&file.crc32c.to_le_bytes()).update(&file.path);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_file() -> impl Strategy<Value = FileFacts> {
        ("[ab]{0,2}", 0..3u64, 0..3u32).prop_map(|(path, size, crc32c)| FileFacts {
            path: path.into(),
            size,
            crc32c,
        })
    }

    fn tally(files: &[FileFacts]) -> Tally {
        let mut tally = Tally::default();
        files.iter().for_each(|file| tally.add(file));
        tally
    }

    proptest! {
        #[test]
        fn r09_equal_for_the_same_files_in_any_order_and_for_no_others(
            mut left in proptest::collection::vec(any_file(), 0..5),
            mut right in proptest::collection::vec(any_file(), 0..5),
        ) {
            let tallies = (tally(&left), tally(&right));
            let reversed: Vec<_> = left.iter().rev().cloned().collect();
            prop_assert_eq!(tally(&reversed), tallies.0);
            left.sort();
            right.sort();
            prop_assert_eq!(tallies.0 == tallies.1, left == right);
        }
    }
}
