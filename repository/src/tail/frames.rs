//! What a strip is made of: frames, one directly behind the other, and zeros behind the last. Pure.
//!
//! A frame holds a piece, or marks that all before it was durable when it was written. What is no whole frame at the end, with nothing whole
//! behind it, and no longer than what is written at once, was never acknowledged; anything else is damage.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;

use crate::Error;

/// How long a strip is from the moment it is there. A synchronous server under load fills one in about a second; what is not filled
/// is zeros on the disk.
pub(super) const STRIP_BYTES: u64 = 4 << 20;
/// A frame with its mark is no longer. So is what may not be durable yet: the mark before a frame, and the frame.
pub(super) const AT_ONCE_BYTES: u64 = 1 << 20;

/// Frames begin at multiples of this, and their headers have this many bytes.
const HEADER_BYTES: usize = 64;
/// What a header begins with; the last character is the version.
const MAGIC: &[u8; 8] = b"HWSTRIP1";
/// Where the digest stands, which is of what is before it and behind it.
const DIGEST: Range<usize> = 32..64;

const KIND_PIECE: u32 = 1;
const KIND_MARK: u32 = 2;

/// Which strip: sixteen hexadecimal digits in small letters, random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StripId(u64);

impl StripId {
    /// A new one.
    pub fn random() -> StripId {
        StripId(rand::random())
    }
}

impl fmt::Display for StripId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for StripId {
    type Err = Error;

    fn from_str(text: &str) -> Result<StripId, Error> {
        let id = u64::from_str_radix(text, 16).ok().map(StripId);
        id.filter(|id| id.to_string() == text).ok_or_else(|| Error::Name {
            what: "the name of a strip",
            text: text.to_owned(),
            hint: "it has 16 hexadecimal digits in small letters",
        })
    }
}

/// How many bytes a frame has with a piece whose object would have `length`.
pub(super) fn frame_bytes(length: u64) -> u64 {
    HEADER_BYTES as u64 + length.next_multiple_of(HEADER_BYTES as u64)
}

/// How many bytes a mark has.
pub(super) const MARK_BYTES: u64 = HEADER_BYTES as u64;

/// The frame at `at` with the bytes `from` to `to` of the segment, as the object of such a piece.
pub(super) fn piece(at: u32, from: u32, to: u32, mut object: Vec<Bytes>) -> Vec<Bytes> {
    let length: usize = object.iter().map(Bytes::len).sum();
    let padding = length.next_multiple_of(HEADER_BYTES) - length;
    if padding > 0 {
        object.push(Bytes::from_static(&[0; HEADER_BYTES]).slice(..padding));
    }
    // It is much shorter than 4 GiB.
    let header = header([KIND_PIECE, from, to, length as u32, at], &object);
    object.insert(0, header);
    object
}

/// The mark at `at`: all before it is durable, which goes up to `to`.
pub(super) fn mark(at: u32, to: u32) -> Bytes {
    header([KIND_MARK, to, to, 0, at], &[])
}

fn header(fields: [u32; 5], content: &[Bytes]) -> Bytes {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    fields.iter().for_each(|field| header.extend_from_slice(&field.to_le_bytes()));
    header.extend_from_slice(&[0; 4]);
    let mut digest = blake3::Hasher::new();
    digest.update(&header);
    for piece in content {
        digest.update(piece);
    }
    header.extend_from_slice(digest.finalize().as_bytes());
    header.into()
}

/// A frame that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Frame {
    Piece(Found),
    Mark { to: u32 },
}

/// A piece in a strip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) from: u32,
    pub(super) to: u32,
    /// Where its object lies.
    pub(super) object: Range<usize>,
}

impl Frame {
    /// The whole frame at `at`, and where it ends.
    fn at(strip: &[u8], at: usize) -> Option<(Frame, usize)> {
        let header = strip.get(at..at.checked_add(HEADER_BYTES)?)?;
        let field = |number: usize| {
            let bytes = header.get(8 + 4 * number..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        if !header.starts_with(MAGIC) || field(4)? as usize != at {
            return None;
        }
        let (kind, from, to, length) = (field(0)?, field(1)?, field(2)?, field(3)? as usize);
        let start = at + HEADER_BYTES;
        let end = start.checked_add(length.checked_next_multiple_of(HEADER_BYTES)?)?;
        let mut digest = blake3::Hasher::new();
        digest.update(&header[..DIGEST.start]).update(strip.get(start..end)?);
        if digest.finalize().as_bytes()[..] != header[DIGEST] {
            return None;
        }
        match kind {
            KIND_PIECE if from < to => {
                Some((Frame::Piece(Found { from, to, object: start..start + length }), end))
            }
            KIND_MARK if length == 0 => Some((Frame::Mark { to }, end)),
            _ => None,
        }
    }

    /// The first whole frame at or behind `at`, and where it begins; behind `end` there are zeros.
    fn behind(strip: &[u8], at: usize, end: usize) -> Option<(Frame, usize)> {
        let places = (at..end).step_by(HEADER_BYTES);
        places.filter_map(|place| Some((Frame::at(strip, place)?.0, place))).next()
    }
}

/// What should be a whole frame and is none, though something whole lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where.
    pub(super) at: usize,
    /// The bytes of the segment that it can have held; none where the two are the same.
    pub(super) from: u32,
    pub(super) to: u32,
}

/// What is in a strip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) pieces: Vec<Found>,
    pub(super) damage: Vec<Damage>,
    /// Where something begins at the end that is not whole: it was never acknowledged.
    pub(super) torn: Option<usize>,
    /// Where something begins at the end that is longer than that can be: it is damaged, and nobody can tell what it held.
    pub(super) spoilt_end: Option<usize>,
}

/// Where the zeros begin that a strip ends with.
fn zeros_from(strip: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let blocks = strip.chunks(ZEROS.len()).enumerate();
    let last = blocks.rev().find(|(_, block)| Some(*block) != ZEROS.get(..block.len()));
    let end = last.and_then(|(number, block)| {
        Some(number * ZEROS.len() + block.iter().rposition(|byte| *byte != 0)? + 1)
    });
    end.unwrap_or_default()
}

/// Reads a strip, as much of it as there is.
pub(super) fn scan(strip: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let (mut at, mut reached) = (0, 0);
    let end = zeros_from(strip);
    loop {
        match Frame::at(strip, at) {
            Some((Frame::Piece(found), end)) => {
                reached = found.to;
                scan.pieces.push(found);
                at = end;
            }
            Some((Frame::Mark { .. }, end)) => at = end,
            None => {
                let Some((frame, behind)) = Frame::behind(strip, at + HEADER_BYTES, end) else { break };
                let (Frame::Piece(Found { from: to, .. }) | Frame::Mark { to }) = frame;
                scan.damage.push(Damage { at, from: reached.min(to), to });
                at = behind;
            }
        }
    }
    match end.saturating_sub(at) as u64 {
        0 => {}
        1..=AT_ONCE_BYTES => scan.torn = Some(at),
        _ => scan.spoilt_end = Some(at),
    }
    scan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A strip with these pieces one behind the other, each with its mark, and zeros behind; and where each frame begins.
    fn strip(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let (mut strip, mut places, mut from) = (Vec::new(), Vec::new(), 100);
        for (number, length) in lengths.iter().enumerate() {
            let object =
                vec![Bytes::from(vec![number as u8; *length / 2]), vec![7; length - length / 2].into()];
            let to = from + *length as u32 + 1;
            places.push(strip.len());
            let frame = piece(strip.len() as u32, from, to, object).concat();
            assert_eq!(frame.len() as u64, frame_bytes(*length as u64));
            strip.extend(frame);
            places.push(strip.len());
            strip.extend(mark(strip.len() as u32, to));
            from = to;
        }
        places.push(strip.len());
        strip.resize(strip.len() + 300, 0);
        (strip, places)
    }

    fn bounds(scan: &Scan) -> Vec<(u32, u32)> {
        scan.pieces.iter().map(|found| (found.from, found.to)).collect()
    }

    const LENGTHS: [usize; 4] = [10, 64, 1, 200];
    const BOUNDS: [(u32, u32); 4] = [(100, 111), (111, 176), (176, 178), (178, 379)];

    #[test]
    fn what_was_added_is_found() {
        let (strip, places) = strip(&LENGTHS);
        let scanned = scan(&strip);
        assert_eq!(bounds(&scanned), BOUNDS);
        assert_eq!((&scanned.damage, scanned.torn), (&Vec::new(), None));
        for (found, length) in scanned.pieces.iter().zip(LENGTHS) {
            assert_eq!(found.object.len(), length);
            assert_eq!(strip[found.object.end - 1], 7);
        }
        // A copy that was made while it grew.
        for place in places {
            let before = scan(&strip[..place]);
            assert!(
                before.damage.is_empty() && before.torn.is_none() && BOUNDS.starts_with(&bounds(&before))
            );
        }
        assert_eq!(scan(&[]), Scan::default());
        assert_eq!(scan(&[0; 1000]), Scan::default());
    }

    #[test]
    fn a_last_frame_that_is_torn_at_any_byte_was_never_there() {
        let (whole, places) = strip(&LENGTHS);
        let [.., last, mark, _] = places[..] else { panic!() };
        let mut torn = 0;
        for cut in last..mark {
            // The rest never came, or the file ends.
            let mut zeros = whole.clone();
            zeros[cut..].fill(0);
            for strip in [&zeros[..], &whole[..cut]] {
                let scanned = scan(strip);
                assert!(scanned.damage.is_empty(), "{cut}: {scanned:?}");
                let is_whole = strip.len() >= mark && strip[..mark] == whole[..mark];
                assert_eq!(bounds(&scanned), BOUNDS[..if is_whole { 4 } else { 3 }], "{cut}");
                let has_begun = strip[last..].iter().any(|byte| *byte != 0);
                assert_eq!(scanned.torn, (has_begun && !is_whole).then_some(last), "{cut}");
                torn += usize::from(scanned.torn.is_some());
            }
            // Blocks that came in another order.
            let mut late = whole.clone();
            late[mark..].fill(0);
            late[last..cut].fill(0);
            let expected = if cut == last { &BOUNDS[..] } else { &BOUNDS[..3] };
            assert_eq!(bounds(&scan(&late)), expected, "{cut}");
            assert!(scan(&late).damage.is_empty());
        }
        assert!(torn > 300);
    }

    #[test]
    fn r07_a_byte_that_is_another_is_told_wherever_it_is() {
        let (whole, places) = strip(&LENGTHS);
        let last_mark = places[places.len() - 2];
        for at in 0..whole.len() {
            let mut spoilt = whole.clone();
            spoilt[at] ^= 0x10;
            let scanned = scan(&spoilt);
            match at < last_mark {
                true => {
                    let [damage] = scanned.damage[..] else { panic!("{at}: {scanned:?}") };
                    assert!(places.contains(&damage.at) && damage.at <= at, "{at}");
                    // What it can have held is all that is not found.
                    let mut all = bounds(&scanned);
                    all.extend((damage.from < damage.to).then_some((damage.from, damage.to)));
                    all.sort();
                    assert!(all == BOUNDS || (damage.from == 0 && all[1..] == BOUNDS[1..]), "{at}: {all:?}");
                }
                false => {
                    assert_eq!((bounds(&scanned), scanned.torn.is_some()), (BOUNDS.to_vec(), true), "{at}")
                }
            }
        }
    }

    #[test]
    fn r07_what_is_longer_than_is_written_at_once_was_never_torn() {
        let (whole, places) = strip(&LENGTHS);
        let [.., last_mark, end] = places[..] else { panic!() };
        let at_once = AT_ONCE_BYTES as usize;
        // The last frame that is whole ends at the first, and the last byte that is not zero is the second.
        for (from, last, is_torn) in [
            (end, end, true),
            (end, end + at_once - 1, true),
            (end, end + at_once, false),
            (end, STRIP_BYTES as usize - 1, false),
            (last_mark, last_mark + at_once - 1, true),
            (last_mark, last_mark + at_once, false),
            (0, at_once - 1, true),
            (0, at_once, false),
        ] {
            let mut spoilt = whole[..from].to_vec();
            spoilt.resize(STRIP_BYTES as usize, 0);
            spoilt[last] = 1;
            let scanned = scan(&spoilt);
            let expected = if is_torn { (Some(from), None) } else { (None, Some(from)) };
            assert_eq!((scanned.torn, scanned.spoilt_end), expected, "{from} {last}");
            assert_eq!(bounds(&scanned), BOUNDS[..if from == 0 { 0 } else { 4 }]);
            assert!(scanned.damage.is_empty());
        }
        // Garbage from some frame to the end, as a disk gives it back.
        for (number, place) in places.iter().enumerate() {
            let mut spoilt = whole[..*place].to_vec();
            let noise = (0_u32..).flat_map(|at| *blake3::hash(&at.to_le_bytes()).as_bytes());
            spoilt.extend(noise.take(STRIP_BYTES as usize - place));
            let scanned = scan(&spoilt);
            assert_eq!((scanned.torn, scanned.spoilt_end), (None, Some(*place)), "{number}");
            assert_eq!(bounds(&scanned), BOUNDS[..number.div_ceil(2)]);
        }
    }

    #[test]
    fn a_frame_counts_only_where_it_was_written() {
        let (whole, places) = strip(&LENGTHS);
        let mut moved = whole[places[2]..].to_vec();
        assert!(scan(&moved).pieces.is_empty() && scan(&moved).torn == Some(0));
        moved.splice(0..0, whole[..places[1]].iter().copied());
        assert_eq!(bounds(&scan(&moved)), BOUNDS[..1]);
    }

    #[test]
    fn names_are_read_back() {
        let id = StripId::random();
        assert_eq!(id.to_string().parse::<StripId>().unwrap(), id);
        for strange in ["", "0", "00000000000000AB", "+0000000000000ab", "00000000000000000"] {
            assert!(strange.parse::<StripId>().is_err(), "{strange}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            lengths in prop::collection::vec(0_usize..300, 0..6),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut strip, _) = strip(&lengths);
            for (at, byte) in edits {
                let at = at.index(strip.len());
                strip[at] = byte;
            }
            strip.truncate(cut.index(strip.len() + 1));
            let scanned = scan(&strip);
            prop_assert!(scanned.pieces.iter().all(|found| found.object.end <= strip.len() && found.from < found.to));
            prop_assert!(scanned.damage.iter().all(|damage| damage.from <= damage.to));
        }
    }
}
