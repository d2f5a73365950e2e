//! Replaying a target's kept corpus, as it is and mutated, on the ordinary compiler. The tests of the crates include it.

use std::fs;
use std::path::Path;

/// Mutations of each kept input.
const MUTATIONS: usize = 300;
/// As far as a mutation can lengthen an input, in bytes.
const MAX_LENGTH: usize = 64 << 10;

/// A small generator (xorshift64*), so that every run tries the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len());
        let length = self.below(16).min(input.len() - at);
        match self.below(6) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][self.below(6)],
            2 => drop(input.drain(at..at + length)),
            3 if input.len() < MAX_LENGTH => input.extend_from_within(at..at + length),
            4 => input.truncate(at),
            _ => {
                let from = self.below(other.len());
                let piece = &other[from..(from + self.below(64)).min(other.len())];
                drop(input.splice(at..at + length, piece.iter().copied()));
            }
        }
    }
}

/// Calls `body` with every input of `fuzz/corpus/<target>` and with mutations of it.
pub fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let inputs: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(inputs.len() >= 5, "{} has only {} inputs", folder.display(), inputs.len());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for input in &inputs {
        body(input);
        for _ in 0..MUTATIONS {
            let mut mutated = input.clone();
            for _ in 0..=random.below(4) {
                let other = random.below(inputs.len());
                random.mutate(&mut mutated, &inputs[other]);
            }
            body(&mutated);
        }
    }
}
