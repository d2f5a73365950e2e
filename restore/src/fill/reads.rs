//! Gathering extents that lie close together in a pack into one ranged read.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_repository::ExtentRef;

use super::content::Content;

/// The most stored bytes of one read.
pub(super) const READ_BYTES: u64 = 4 << 20;
/// The most extents of one read: small files have small extents.
const READ_EXTENTS: usize = 4096;
/// As many bytes between two extents are read along: less work than another request.
const MAX_GAP_BYTES: u64 = 64 << 10;
/// As many reads are gathered at a time. A file of an incremental backup takes its extents from several packs in turn.
const OPEN_READS: usize = 16;
/// A read that so many extents have not added to is done with: else the file that waits for it would hold up the mark.
const PATIENCE_EXTENTS: u64 = 256;

/// An extent and where its bytes go.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) extent: ExtentRef,
    pub(super) file: Arc<Content>,
    /// Where in the file.
    pub(super) at: u64,
}

/// Extents of one pack in rising order, to be fetched by one ranged read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) pieces: Vec<Piece>,
    start: u64,
    end: u64,
    /// When the last extent came, counted in extents.
    touched: u64,
}

impl Read {
    fn new(piece: Piece, now: u64) -> Read {
        let (start, end) = (piece.extent.offset, end_of(&piece.extent));
        Read { pieces: vec![piece], start, end, touched: now }
    }

    /// Whether the extent can be added.
    fn takes(&self, extent: &ExtentRef) -> bool {
        self.pieces.first().is_some_and(|first| first.extent.pack == extent.pack)
            && (self.end..=self.end.saturating_add(MAX_GAP_BYTES)).contains(&extent.offset)
            && end_of(extent) - self.start <= READ_BYTES
            && self.pieces.len() < READ_EXTENTS
    }

    /// The extents.
    pub(super) fn extents(&self) -> Vec<ExtentRef> {
        self.pieces.iter().map(|piece| piece.extent).collect()
    }
}

fn end_of(extent: &ExtentRef) -> u64 {
    extent.offset.saturating_add(u64::from(extent.stored))
}

/// The reads that are being gathered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Gather {
    open: VecDeque<Read>,
    /// How many extents have come.
    now: u64,
}

impl Gather {
    /// Adds an extent. Gives a read that is to be done now, if there is one.
    pub(super) fn push(&mut self, piece: Piece) -> Option<Read> {
        self.now += 1;
        if let Some(index) = self.open.iter().position(|read| read.takes(&piece.extent)) {
            let mut read = self.open.remove(index)?;
            read.end = end_of(&piece.extent);
            read.pieces.push(piece);
            read.touched = self.now;
            // The ones not touched for longest stay in front.
            self.open.push_back(read);
        } else {
            self.open.push_back(Read::new(piece, self.now));
        }
        let oldest = self.open.front()?;
        let due = self.open.len() > OPEN_READS || self.now - oldest.touched > PATIENCE_EXTENTS;
        if due { self.open.pop_front() } else { None }
    }

    /// The reads that are left at the end.
    pub(super) fn rest(&mut self) -> Option<Read> {
        self.open.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use highwater_repository::{Digest, PackId};
    use proptest::prelude::*;

    use super::*;

    fn piece(pack: PackId, offset: u64, stored: u32, at: u64) -> Piece {
        let extent = ExtentRef { pack, offset, stored, length: 1, digest: Digest::of(b"x") };
        Piece { extent, file: Content::for_tests(), at }
    }

    fn packs() -> [PackId; 3] {
        ["0", "1", "2"].map(|digit| digit.repeat(32).parse().unwrap())
    }

    fn gathered(pieces: Vec<Piece>) -> Vec<Read> {
        let mut gather = Gather::default();
        let mut reads: Vec<Read> = pieces.into_iter().filter_map(|piece| gather.push(piece)).collect();
        reads.extend(std::iter::from_fn(|| gather.rest()));
        reads
    }

    #[test]
    fn neighbours_are_read_at_once_up_to_the_limit() {
        let [pack, ..] = packs();
        let pieces = (0..100).map(|n| piece(pack, n * 100_000, 100_000, n)).collect();
        let reads = gathered(pieces);
        assert_eq!(reads.iter().map(|read| read.pieces.len()).collect::<Vec<_>>(), [41, 41, 18]);
        let small = (0..10_000).map(|n| piece(pack, n * 10, 10, n)).collect();
        assert_eq!(gathered(small).len(), 3);
    }

    #[test]
    fn extents_from_several_packs_in_turn_are_still_gathered() {
        let pieces = (0..300).map(|n| piece(packs()[n as usize % 3], n / 3 * 10, 10, n)).collect();
        assert_eq!(gathered(pieces).len(), 3);
    }

    #[test]
    fn what_lies_far_apart_or_backward_is_read_apart() {
        let [pack, ..] = packs();
        let far = MAX_GAP_BYTES + 11;
        assert_eq!(gathered(vec![piece(pack, 0, 10, 0), piece(pack, far, 10, 1)]).len(), 2);
        assert_eq!(gathered(vec![piece(pack, 0, 10, 0), piece(pack, far - 1, 10, 1)]).len(), 1);
        assert_eq!(gathered(vec![piece(pack, 10, 10, 0), piece(pack, 0, 10, 1)]).len(), 2);
        assert_eq!(gathered(vec![piece(pack, 0, 10, 0), piece(pack, 0, 10, 1)]).len(), 2);
    }

    #[test]
    fn a_read_that_nothing_adds_to_is_done() {
        let [pack, other, _] = packs();
        let mut gather = Gather::default();
        assert!(gather.push(piece(other, 0, 10, 0)).is_none());
        let mut done = (1..=PATIENCE_EXTENTS + 1).filter_map(|n| gather.push(piece(pack, n * 10, 10, n)));
        assert_eq!(done.next().unwrap().pieces[0].extent.pack, other);
    }

    proptest! {
        #[test]
        fn each_extent_is_read_once_in_an_order_that_can_be_fetched(
            places in prop::collection::vec((0_usize..3, 0_u64..400_000, 1_u32..90_000), 0..200),
        ) {
            let pieces: Vec<Piece> = places.iter().enumerate()
                .map(|(at, (pack, offset, stored))| piece(packs()[*pack], *offset, *stored, at as u64))
                .collect();
            let reads = gathered(pieces);
            let mut seen: Vec<u64> = reads.iter().flat_map(|read| &read.pieces).map(|piece| piece.at).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..places.len() as u64).collect::<Vec<_>>());
            for read in reads {
                let extents = read.extents();
                let in_order = |pair: &[ExtentRef]| pair[0].pack == pair[1].pack && end_of(&pair[0]) <= pair[1].offset;
                prop_assert!(extents.windows(2).all(in_order));
                prop_assert!(end_of(&extents[extents.len() - 1]) - extents[0].offset <= READ_BYTES);
            }
        }
    }
}
