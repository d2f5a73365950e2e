//! Where to begin: where the repository ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use highwater_repository::{ClusterRepository, Digest, Plain, Tail, TailPiece};
use highwater_wal::{
    Check, Lsn, SegmentKind, SegmentName, SegmentSize, TimelineHistory, TimelineId, WalFile, check_segment,
};

use crate::engine::Place;
use crate::error::{Error, Result};
use crate::presence::last_whole;

/// How many pieces are read side by side.
const READS_AT_ONCE: usize = 16;

/// The timelines that a server's WAL has run along, oldest first, and where each was left; the last one was not.
pub(crate) type Way = Vec<(TimelineId, Option<Lsn>)>;

/// The way to a timeline, by its history; a timeline without one has no ancestors.
pub(crate) fn way(timeline: TimelineId, history: Option<&TimelineHistory>) -> Way {
    match history {
        Some(history) => history.path().into_iter().map(|stretch| (stretch.timeline, stretch.end)).collect(),
        None => vec![(timeline, None)],
    }
}

/// What one repository has of a timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Behind the last segment that is there whole.
    pub(crate) whole_end: Option<Lsn>,
    /// The pieces of segments that are not there whole.
    pub(crate) pieces: Vec<TailPiece>,
}

impl Kept {
    /// Behind the last of what is there, whatever is missing before it.
    pub(crate) fn end(&self, size: SegmentSize) -> Option<Lsn> {
        self.pieces.iter().map(|piece| piece.end(size)).max().max(self.whole_end)
    }
}

/// Where to go on, by what the repository has of a timeline: at the first segment that is not whole. `None` where it has nothing.
pub(crate) fn go_on(kept: &Kept, size: SegmentSize) -> Option<(Lsn, Lsn)> {
    let first_piece = kept.pieces.iter().map(|piece| piece.segment.start(size)).min();
    let begin = first_piece.or(kept.whole_end)?;
    // Up to where pieces and whole segments follow one another.
    let mut stored = begin;
    let mut pieces = kept.pieces.clone();
    pieces.sort();
    for piece in pieces {
        let (from, to) = (piece.segment.start(size) + u64::from(piece.from), piece.end(size));
        if from <= stored {
            stored = stored.max(to);
        }
    }
    Some((begin, stored))
}

/// The place on a way where the repository ends. `None` where it has nothing of any of its timelines.
pub(crate) fn place(
    kept: &[(TimelineId, Option<Lsn>, Kept)],
    size: SegmentSize,
) -> Option<(TimelineId, Lsn, Lsn)> {
    let mut newer: Option<TimelineId> = None;
    for (timeline, left_at, kept) in kept.iter().rev() {
        match (go_on(kept, size), left_at) {
            // All of this timeline is there: the next one begins in the segment where this one was left.
            (Some((begin, stored)), Some(left_at)) if is_all(begin, stored, *left_at, size) => {
                let next = newer.unwrap_or(*timeline);
                let begin = Lsn(left_at.0 - left_at.0 % size.bytes());
                return Some((next, begin, begin));
            }
            (Some((begin, stored)), _) => return Some((*timeline, begin, stored)),
            (None, _) => newer = Some(*timeline),
        }
    }
    None
}

/// Whether a timeline that was left at `left_at` is there up to that: as whole segments, and pieces of the one in which it was left.
fn is_all(begin: Lsn, stored: Lsn, left_at: Lsn, size: SegmentSize) -> bool {
    begin >= left_at || (begin + size.bytes() > left_at && stored >= left_at)
}

/// Takes the pieces out of the segment at `lsn` and before, of which the server has no more WAL. A segment that they have all of needs
/// none, and ends in no hole.
pub(crate) fn forget(
    kept: &mut [(TimelineId, Option<Lsn>, Kept)],
    timeline: TimelineId,
    lsn: Lsn,
    size: SegmentSize,
) {
    for (_, _, kept) in kept.iter_mut().filter(|(other, _, _)| *other == timeline) {
        let of_segment = kept.pieces.iter().copied().filter(|piece| piece.segment.start(size) == lsn);
        let mut of_segment: Vec<TailPiece> = of_segment.collect();
        of_segment.sort();
        if TailPiece::reach(&of_segment) == size.bytes() {
            kept.whole_end = kept.whole_end.max(Some(lsn + size.bytes()));
        }
        kept.pieces.retain(|piece| piece.segment.start(size) > lsn);
    }
}

/// How a timeline is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) size: SegmentSize,
    /// How a segment that is made whole out of its pieces is checked (R4).
    pub(crate) check: Check,
    /// Nothing of the timeline lies behind it: where the server's WAL ends, or where the timeline was left.
    pub(crate) until: Lsn,
}

/// Looks at what a repository has of a timeline. A segment that has come whole in pieces is put whole first.
pub(crate) async fn kept(cluster: &ClusterRepository, timeline: TimelineId, look: Look) -> Result<Kept> {
    let tails = kept_tails(cluster, timeline, look).await?;
    let pieces = tails.iter().flat_map(|tail| tail.pieces().iter().copied()).collect();
    let newest_log = SegmentName::containing(timeline, look.until, look.size).log;
    let whole_end = last_whole(cluster, timeline, newest_log, |_| true).await?;
    Ok(Kept { whole_end: whole_end.map(|segment| segment.end(look.size)), pieces })
}

/// What is there of segments that are not there whole.
async fn kept_tails(cluster: &ClusterRepository, timeline: TimelineId, look: Look) -> Result<Vec<Tail>> {
    let mut tails = Vec::new();
    for segment in cluster.tail_segments(timeline).await? {
        let tail = cluster.tail(segment).await?;
        match cluster.get_wal(WalFile::Segment(segment)).await {
            Err(error) if error.is_not_found() => {
                if !make_whole(cluster, &tail, look).await? {
                    tails.push(tail);
                }
            }
            // Pieces that a receiver had no time to remove.
            Ok(whole) => {
                let bytes = |piece: &TailPiece| whole.bytes.get(piece.from as usize..piece.to as usize);
                for piece in tail.pieces() {
                    let digest = match tail.plain(*piece).await {
                        Err(error) if error.is_damaged() => continue,
                        plain => plain?.digest,
                    };
                    if bytes(piece).map(Digest::of) != Some(digest) {
                        return Err(Error::OtherWal { timeline, lsn: piece.end(look.size) });
                    }
                }
                // Whoever may not delete may still receive.
                let _ = cluster.remove_tail(segment).await;
            }
            // Without the identity nobody can compare; the segment was compared with what is in it when it was put.
            Err(highwater_repository::Error::Locked { .. }) => _ = cluster.remove_tail(segment).await,
            // Its pieces are all that can be read of it: they stay.
            Err(error) if error.is_damaged() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(tails)
}

/// Puts a segment whole that is there in pieces, all of it; `false` where it is not, or cannot be read here.
async fn make_whole(cluster: &ClusterRepository, tail: &Tail, look: Look) -> Result<bool> {
    let Look { size, check, .. } = look;
    let segment = tail.segment();
    if tail.reach() < size.bytes() {
        return Ok(false);
    }
    let bytes = match tail.assemble(size, None).await {
        Ok(Some(read)) if read.end == segment.end(size) => read.object.bytes,
        Ok(_) | Err(highwater_repository::Error::Locked { .. }) => return Ok(false),
        Err(error) if error.is_damaged() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let system_id = Some(cluster.system_id());
    // What the server sends again may pass where this does not.
    let Ok(summary) = check_segment(segment, size, system_id, &bytes, check, SegmentKind::Complete) else {
        return Ok(false);
    };
    cluster.put_wal(WalFile::Segment(segment), &bytes, Some(summary)).await?;
    // Whoever may not delete may still receive.
    let _ = cluster.remove_tail(segment).await;
    Ok(true)
}

/// A place on a timeline with what the repositories have from there on. Of several, what counts is what all of them have.
pub(crate) async fn place_on(
    clusters: &[ClusterRepository],
    timeline: TimelineId,
    begin: Lsn,
    look: Look,
) -> Result<Place> {
    let mut place =
        Place { timeline, begin, stored: Lsn(u64::MAX), pieces: Vec::new(), damaged: BTreeSet::new() };
    let size = look.size;
    for cluster in clusters {
        let mut listed = Vec::new();
        for tail in kept_tails(cluster, timeline, look).await? {
            let tail = Arc::new(tail);
            listed.extend(tail.pieces().iter().map(|piece| (Arc::clone(&tail), *piece)));
        }
        listed.retain(|(_, piece)| piece.segment.start(size) >= begin);
        let reads =
            stream::iter(listed).map(|(tail, piece)| async move { (piece, read_piece(&tail, piece).await) });
        let mut reads = reads.buffer_unordered(READS_AT_ONCE);
        let mut sound = Vec::new();
        while let Some((piece, read)) = reads.next().await {
            match read {
                Ok(plain) => sound.push((piece, plain)),
                // Removed since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damaged() => drop(place.damaged.insert(piece)),
                Err(error) => return Err(error.into()),
            }
        }
        let only_here = Kept { whole_end: None, pieces: sound.iter().map(|(piece, _)| *piece).collect() };
        let stored = go_on(&only_here, size).filter(|(first, _)| *first == begin);
        place.stored = place.stored.min(stored.map_or(begin, |(_, stored)| stored));
        place.pieces.extend(sound);
    }
    Ok(place)
}

/// What a piece holds: all of it is read where it can be, since it is built upon.
async fn read_piece(tail: &Tail, piece: TailPiece) -> highwater_repository::Result<Plain> {
    match tail.get(piece).await {
        Ok((head, _)) => Ok(head.plain),
        Err(highwater_repository::Error::Locked { .. }) => tail.plain(piece).await,
        Err(error) => Err(error),
    }
}

/// Where to begin when the repository has nothing: in the segment of `lsn`, on the timeline of the way that has it.
pub(crate) fn fresh(way: &Way, lsn: Lsn, size: SegmentSize) -> (TimelineId, Lsn) {
    let begin = Lsn(lsn.0 - lsn.0 % size.bytes());
    // The segment in which a timeline was left is there of the next one, too, as a copy.
    let has_it = |(_, left_at): &&(TimelineId, Option<Lsn>)| {
        left_at.is_none_or(|left_at| begin + size.bytes() <= left_at)
    };
    let timeline =
        way.iter().find(has_it).or(way.last()).map_or(TimelineId::FIRST, |(timeline, _)| *timeline);
    (timeline, begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;
    const MIB: u64 = 1 << 20;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn piece(timeline: u32, number: u64, from: u32, to: u32) -> TailPiece {
        TailPiece::new(SegmentName::from_number(tli(timeline), number, SIZE), from, to)
    }

    fn kept(whole_end: Option<u64>, pieces: Vec<TailPiece>) -> Kept {
        Kept { whole_end: whole_end.map(|segments| Lsn(segments * 16 * MIB)), pieces }
    }

    #[test]
    fn r18_it_goes_on_where_the_repository_ends() {
        for (kept, expected) in [
            (kept(None, vec![]), None),
            (kept(Some(5), vec![]), Some((5 * 16 * MIB, 5 * 16 * MIB))),
            (kept(Some(5), vec![piece(1, 5, 0, 70)]), Some((5 * 16 * MIB, 5 * 16 * MIB + 70))),
            (
                kept(None, vec![piece(1, 5, 0, 70), piece(1, 5, 70, 90)]),
                Some((5 * 16 * MIB, 5 * 16 * MIB + 90)),
            ),
            // A segment that has come in pieces, with more behind it.
            (
                kept(Some(5), vec![piece(1, 5, 0, 16 << 20), piece(1, 6, 0, 9)]),
                Some((5 * 16 * MIB, 6 * 16 * MIB + 9)),
            ),
            // A gap: what is behind it is received again.
            (
                kept(Some(5), vec![piece(1, 5, 0, 70), piece(1, 5, 80, 90)]),
                Some((5 * 16 * MIB, 5 * 16 * MIB + 70)),
            ),
            // Segments behind the unfinished one came another way.
            (kept(Some(9), vec![piece(1, 5, 0, 70)]), Some((5 * 16 * MIB, 5 * 16 * MIB + 70))),
        ] {
            assert_eq!(
                go_on(&kept, SIZE),
                expected.map(|(begin, stored)| (Lsn(begin), Lsn(stored))),
                "{kept:?}"
            );
        }
    }

    #[test]
    fn r18_the_newest_timeline_of_the_servers_way_counts() {
        let left = Lsn(5 * 16 * MIB + 100);
        let at = |one: Kept, two: Kept| place(&[(tli(1), Some(left), one), (tli(2), None, two)], SIZE);
        let none = || kept(None, vec![]);
        assert_eq!(at(none(), none()), None);
        // The old one has not come to its end.
        let (five, six) = (Lsn(5 * 16 * MIB), Lsn(6 * 16 * MIB));
        assert_eq!(at(kept(Some(3), vec![]), none()), Some((tli(1), Lsn(3 * 16 * MIB), Lsn(3 * 16 * MIB))));
        assert_eq!(at(kept(Some(5), vec![piece(1, 5, 0, 70)]), none()), Some((tli(1), five, five + 70)));
        // It has, in pieces; what the old one wrote behind the fork does not count.
        assert_eq!(at(kept(Some(5), vec![piece(1, 5, 0, 100)]), none()), Some((tli(2), five, five)));
        assert_eq!(at(kept(Some(5), vec![piece(1, 5, 0, 200)]), none()), Some((tli(2), five, five)));
        // A segment before that which is there in pieces is to be whole.
        let four = Lsn(4 * 16 * MIB);
        let all = vec![piece(1, 4, 0, 16 << 20), piece(1, 5, 0, 200)];
        assert_eq!(at(kept(Some(4), all), none()), Some((tli(1), four, five + 200)));
        assert_eq!(at(kept(Some(8), vec![]), none()), Some((tli(2), five, five)));
        // The new one is there already.
        assert_eq!(at(kept(Some(5), vec![]), kept(Some(6), vec![])), Some((tli(2), six, six)));
    }

    #[test]
    fn r18_a_segment_that_is_there_in_pieces_ends_in_no_hole() {
        let (five, six) = (Lsn(5 * 16 * MIB), Lsn(6 * 16 * MIB));
        let all = piece(1, 5, 0, 16 << 20);
        for (pieces, expected) in [
            (vec![piece(1, 5, 0, 70)], None),
            (vec![all], Some((tli(1), six, six))),
            (vec![piece(1, 5, 0, 70), all, piece(1, 6, 0, 9)], Some((tli(1), six, six + 9))),
            (vec![piece(1, 5, 0, 70), piece(1, 6, 0, 9)], Some((tli(1), six, six + 9))),
        ] {
            let mut on_way = [(tli(1), None, kept(None, pieces.clone()))];
            forget(&mut on_way, tli(1), five, SIZE);
            assert_eq!(place(&on_way, SIZE), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_fresh_start_is_on_the_timeline_that_has_the_place() {
        let way = vec![(tli(1), Some(Lsn(5 * 16 * MIB + 100))), (tli(3), None)];
        for (lsn, timeline, begin) in [
            (4 * 16 * MIB + 7, 1, 4),
            (5 * 16 * MIB + 7, 3, 5),
            (5 * 16 * MIB + 200, 3, 5),
            (9 * 16 * MIB, 3, 9),
        ] {
            assert_eq!(fresh(&way, Lsn(lsn), SIZE), (tli(timeline), Lsn(begin * 16 * MIB)));
        }
        assert_eq!(super::way(tli(1), None), [(tli(1), None)]);
    }
}
