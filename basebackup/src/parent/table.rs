//! A hash table on disk: from a path's digest to where its record lies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A slot: the digest's first eight bytes, and the record's place plus one. Zeros are an empty slot.
const SLOT_BYTES: usize = 16;
/// Slots that are read at a time.
const PROBE_SLOTS: u64 = 16;
/// The smallest table, in slots.
const MIN_SLOTS: u64 = 1024;

/// Open addressing with linear probing, at most half full, in a file without a name. What is read often stays in the
/// kernel's cache.
#[derive(Debug)]
pub(super) struct Table {
    file: File,
    slots: u64,
    used: u64,
}

impl Table {
    /// For so many entries, below `folder`.
    pub(super) fn new(folder: &Path, entries: u64) -> io::Result<Table> {
        let slots = entries.saturating_mul(2).max(MIN_SLOTS).checked_next_power_of_two();
        let slots = slots.filter(|slots| *slots <= 1 << 40).ok_or(io::ErrorKind::FileTooLarge)?;
        let file = tempfile::tempfile_in(folder)?;
        file.set_len(slots * SLOT_BYTES as u64)?;
        Ok(Table { file, slots, used: 0 })
    }

    /// Notes that the record of the path with this hash lies at `place`. What does not fit any more is left out.
    pub(super) fn insert(&mut self, hash: u64, place: u64) -> io::Result<()> {
        if self.used >= self.slots / 2 {
            return Ok(());
        }
        let mut free = None;
        self.probe(hash, |slot, found| {
            if found.is_none() {
                free = Some(slot);
            }
            Ok(found.is_none())
        })?;
        if let Some(slot) = free {
            let mut bytes = [0; SLOT_BYTES];
            bytes[..8].copy_from_slice(&hash.to_le_bytes());
            bytes[8..].copy_from_slice(&(place + 1).to_le_bytes());
            self.file.write_all_at(&bytes, slot * SLOT_BYTES as u64)?;
            self.used += 1;
        }
        Ok(())
    }

    /// Calls `is_it` for the place of each record whose path may have this hash, until it says so.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u64) -> io::Result<bool>) -> io::Result<()> {
        self.probe(hash, |_, found| match found {
            None => Ok(true),
            Some((other, _)) if other != hash => Ok(false),
            Some((_, place)) => is_it(place),
        })
    }

    /// Walks along the slots from where `hash` belongs until `stop` says so.
    fn probe(
        &self,
        hash: u64,
        mut stop: impl FnMut(u64, Option<(u64, u64)>) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut first = hash & (self.slots - 1) & !(PROBE_SLOTS - 1);
        let mut slots = [0; SLOT_BYTES * PROBE_SLOTS as usize];
        for _ in 0..self.slots / PROBE_SLOTS {
            self.file.read_exact_at(&mut slots, first * SLOT_BYTES as u64)?;
            for (number, slot) in slots.as_chunks::<8>().0.as_chunks::<2>().0.iter().enumerate() {
                let [hash, place] = slot.map(u64::from_le_bytes);
                let found = place.checked_sub(1).map(|place| (hash, place));
                if stop(first + number as u64, found)? {
                    return Ok(());
                }
            }
            first = (first + PROBE_SLOTS) & (self.slots - 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(table: &Table, hash: u64) -> Vec<u64> {
        let mut places = Vec::new();
        table
            .find(hash, |place| {
                places.push(place);
                Ok(false)
            })
            .unwrap();
        places
    }

    #[test]
    fn what_was_noted_is_found_also_where_hashes_collide() {
        let mut table = Table::new(&std::env::temp_dir(), 0).unwrap();
        // 500 of 1024 slots, many of them beginning at the same one and running over the table's end.
        let hash = |n: u64| if n.is_multiple_of(3) { u64::MAX } else { 1020 + (n % 7) * 1024 };
        (0..500).for_each(|n| table.insert(hash(n), n).unwrap());
        for n in 0..500 {
            let expected: Vec<u64> = (0..500).filter(|other| hash(*other) == hash(n)).collect();
            assert_eq!(find(&table, hash(n)), expected);
        }
        assert!(find(&table, 5).is_empty());
    }

    #[test]
    fn r11_a_table_that_is_full_takes_no_more() {
        let mut table = Table::new(&std::env::temp_dir(), 3).unwrap();
        (0..10_000).for_each(|n| table.insert(n, n).unwrap());
        assert_eq!(find(&table, 7), [7]);
        assert!(find(&table, 9_999).is_empty());
        assert!(Table::new(&std::env::temp_dir(), u64::MAX).is_err());
    }
}
