//! How many files, from the manifest's beginning, are finished.

use std::collections::BTreeSet;

/// Files are begun in the manifest's order and finished in nearly that order.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    /// Files that have come so far.
    begun: u64,
    /// Those of them that are not finished.
    open: BTreeSet<u64>,
}

impl Watermark {
    /// The number of the file that comes next.
    pub(super) fn next(&self) -> u64 {
        self.begun
    }

    /// A file comes; gives its number. One that is `needless` to write is finished at once.
    pub(super) fn begin(&mut self, needless: bool) -> u64 {
        let number = self.begun;
        self.begun += 1;
        if !needless {
            self.open.insert(number);
        }
        number
    }

    /// The file of this number is finished.
    pub(super) fn finish(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// All files with smaller numbers are finished.
    pub(super) fn low(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_only_when_all_before_are_finished() {
        let mut mark = Watermark::default();
        assert_eq!(mark.low(), 0);
        let numbers: Vec<u64> = (0..4).map(|n| mark.begin(n == 2)).collect();
        assert_eq!((numbers, mark.low()), (vec![0, 1, 2, 3], 0));
        mark.finish(1);
        assert_eq!(mark.low(), 0);
        mark.finish(0);
        assert_eq!(mark.low(), 3);
        mark.finish(3);
        assert_eq!(mark.low(), 4);
    }
}
