//! The rows on the catalogs' pages, as they pass by.

use std::collections::HashMap;

use crate::body::RelationFile;

/// What the rows that are kept may take, in bytes: some 100,000 relations' worth.
const MAX_KEPT: usize = 32 << 20;

/// What a row takes beside its columns, in bytes.
const ROW_OVERHEAD: usize = 32;

/// The highest offset number a row can have, on a page of 32 KiB full of the smallest rows (`MaxHeapTuplesPerPage`).
const MAX_NUMBER: u16 = 1165;

/// Rows by page and offset number.
///
/// A row that was removed stays until another takes its place: nothing is asked about it. So what pruning does, or a page that
/// is cut off, need not be followed.
#[derive(Debug)]
pub(super) struct KeptRows {
    pages: HashMap<(RelationFile, u32), Page>,
    kept: usize,
    limit: usize,
    /// Counts accesses, to tell which page was used last.
    clock: u64,
    /// Something had to be forgotten.
    pub(super) has_forgotten: bool,
}

#[derive(Debug, Default)]
struct Page {
    used: u64,
    /// The columns of each row, by offset number; 0 is never used.
    rows: Vec<Option<Box<[u8]>>>,
}

impl Default for KeptRows {
    fn default() -> KeptRows {
        KeptRows::within(MAX_KEPT)
    }
}

impl KeptRows {
    /// With this bound, in bytes.
    pub(super) fn within(limit: usize) -> KeptRows {
        KeptRows { pages: HashMap::new(), kept: 0, limit, clock: 0, has_forgotten: false }
    }

    /// The columns of a row.
    pub(super) fn get(&mut self, file: RelationFile, block: u32, number: u16) -> Option<&[u8]> {
        self.clock += 1;
        let page = self.pages.get_mut(&(file, block))?;
        page.used = self.clock;
        page.rows.get(usize::from(number))?.as_deref()
    }

    /// Puts a row in place; answers whether that is news.
    pub(super) fn put(&mut self, file: RelationFile, block: u32, number: u16, columns: &[u8]) -> bool {
        if !(1..=MAX_NUMBER).contains(&number) {
            return false;
        }
        self.clock += 1;
        let page = self.pages.entry((file, block)).or_default();
        page.used = self.clock;
        let index = usize::from(number);
        if page.rows.len() <= index {
            page.rows.resize_with(index + 1, || None);
        }
        let Some(place) = page.rows.get_mut(index) else { return false };
        if place.as_deref() == Some(columns) {
            return false;
        }
        if let Some(old) = place.replace(columns.into()) {
            self.kept -= old.len() + ROW_OVERHEAD;
        }
        self.kept += columns.len() + ROW_OVERHEAD;
        if self.kept > self.limit {
            self.forget_half();
        }
        true
    }

    /// Forgets a row: another is in its place, and nobody knows what is in that.
    pub(super) fn remove(&mut self, file: RelationFile, block: u32, number: u16) {
        let page = self.pages.get_mut(&(file, block));
        if let Some(old) = page.and_then(|page| page.rows.get_mut(usize::from(number))?.take()) {
            self.kept -= old.len() + ROW_OVERHEAD;
        }
    }

    /// Forgets the half of the pages that wasn't used for longest.
    fn forget_half(&mut self) {
        let mut times: Vec<u64> = self.pages.values().map(|page| page.used).collect();
        times.sort_unstable();
        let Some(middle) = times.get(times.len() / 2).copied() else { return };
        self.pages.retain(|_, page| page.used > middle);
        self.has_forgotten = true;
        let rows = self.pages.values().flat_map(|page| page.rows.iter().flatten());
        self.kept = rows.map(|columns| columns.len() + ROW_OVERHEAD).sum();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.pages.clear();
        self.kept = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_what_was_used_last_stays() {
        const LIMIT: usize = 100 << 10;
        let file = RelationFile { tablespace: 1663, database: 5, relation: 1259 };
        let mut rows = KeptRows::within(LIMIT);
        assert!(rows.put(file, 0, 1, &[7; 200]) && !rows.put(file, 0, 1, &[7; 200]));
        for block in 1..500 {
            for number in 1..=40 {
                assert!(rows.put(file, block, number, &[number as u8; 170]));
                assert!(rows.kept <= LIMIT);
            }
            assert_eq!(rows.get(file, 0, 1), Some(&[7; 200][..]), "always in use");
            assert_eq!(rows.get(file, block, 40), Some(&[40; 170][..]));
        }
        assert!(rows.has_forgotten);
        assert_eq!(rows.get(file, 1, 1), None);
        assert!(!rows.put(file, 9, u16::MAX, &[1]), "no page has so many rows");
    }
}
