//! The bytes of a segment that is being received.

use std::io;

use bytes::{Bytes, BytesMut};
use highwater_repository::{Content, Digest};
use highwater_wal::{GrowingSummary, Lsn, SegmentName, SegmentSize, SystemId};

/// Pieces of memory, one behind the other, without copying.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunks(Vec<Bytes>);

impl Chunks {
    pub(crate) fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// The first `length` bytes, and the others.
    pub(crate) fn split_at(&self, length: usize) -> (Chunks, Chunks) {
        let (mut first, mut second, mut missing) = (Vec::new(), Vec::new(), length);
        for chunk in &self.0 {
            let cut = missing.min(chunk.len());
            missing -= cut;
            first.extend((cut > 0).then(|| chunk.slice(..cut)));
            second.extend((cut < chunk.len()).then(|| chunk.slice(cut..)));
        }
        (Chunks(first), Chunks(second))
    }

    pub(crate) fn digest(&self) -> Digest {
        match self.0.as_slice() {
            [one] => Digest::of(one),
            several => Digest::of(&several.concat()),
        }
    }
}

impl Content for Chunks {
    fn length(&self) -> u64 {
        self.0.iter().map(|chunk| chunk.len() as u64).sum()
    }

    fn block<'a>(&'a self, offset: u64, length: usize, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let mut skip = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        buffer.clear();
        for chunk in &self.0 {
            if skip >= chunk.len() {
                skip -= chunk.len();
                continue;
            }
            let rest = &chunk[skip..];
            skip = 0;
            if buffer.is_empty() && rest.len() >= length {
                return Ok(&rest[..length]);
            }
            buffer.extend_from_slice(&rest[..rest.len().min(length - buffer.len())]);
            if buffer.len() == length {
                return Ok(buffer);
            }
        }
        if length == 0 { Ok(&[]) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// What has come of a segment, and what its records say so far.
#[derive(Debug)]
pub(crate) struct SegmentBuffer {
    pub(crate) name: SegmentName,
    start: Lsn,
    size: u64,
    chunks: Vec<(Lsn, Bytes)>,
    open: BytesMut,
    /// Lent to the piece that is on its way.
    summary: Option<GrowingSummary<Bytes>>,
    /// Up to where the summary has been shown the bytes.
    shown: Lsn,
}

impl SegmentBuffer {
    /// For the bytes of a segment, in the memory of one that is put, where nobody holds that any more.
    pub(crate) fn new(
        name: SegmentName,
        size: SegmentSize,
        system_id: SystemId,
        mut space: BytesMut,
    ) -> SegmentBuffer {
        let bytes = size.bytes();
        let length = usize::try_from(bytes).unwrap_or(0);
        if !space.try_reclaim(length) {
            space = BytesMut::with_capacity(length);
        }
        SegmentBuffer {
            name,
            start: name.start(size),
            size: bytes,
            chunks: Vec::new(),
            open: space,
            summary: Some(GrowingSummary::new(name, size, Some(system_id))),
            shown: name.start(size),
        }
    }

    /// Its memory, for the next one.
    pub(crate) fn into_space(self) -> BytesMut {
        self.open
    }

    pub(crate) fn start(&self) -> Lsn {
        self.start
    }

    /// Behind the last byte that has come.
    pub(crate) fn end(&self) -> Lsn {
        let closed = self.chunks.last().map_or(self.start, |(at, chunk)| *at + chunk.len() as u64);
        closed + self.open.len() as u64
    }

    /// How many bytes are still to come.
    pub(crate) fn missing(&self) -> u64 {
        (self.start + self.size).bytes_since(self.end())
    }

    /// Takes bytes behind those that have come; not more than are missing.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    /// The bytes from `from` to `to`, which have come.
    pub(crate) fn slice(&mut self, from: Lsn, to: Lsn) -> Chunks {
        if !self.open.is_empty() {
            let at = self.end().0 - self.open.len() as u64;
            self.chunks.push((Lsn(at), self.open.split().freeze()));
        }
        let first = self.chunks.partition_point(|(at, chunk)| *at + chunk.len() as u64 <= from);
        let touched = self.chunks[first..].iter().take_while(|(at, _)| *at < to);
        let within = touched.map(|(at, chunk)| {
            let (first, last) = (from.max(*at), to.min(*at + chunk.len() as u64));
            chunk.slice(first.bytes_since(*at) as usize..last.bytes_since(*at) as usize)
        });
        Chunks(within.collect())
    }

    /// Lends the summary with the bytes that it has not seen, up to `to`. It comes back by [`SegmentBuffer::take_back`].
    pub(crate) fn lend_summary(&mut self, to: Lsn) -> Option<(GrowingSummary<Bytes>, Chunks)> {
        let unseen = self.slice(self.shown, to);
        let summary = self.summary.take()?;
        self.shown = self.shown.max(to);
        Some((summary, unseen))
    }

    pub(crate) fn take_back(&mut self, summary: GrowingSummary<Bytes>) {
        self.summary = Some(summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_segment_takes_the_memory_of_one_that_is_put_unless_somebody_holds_it() {
        let size = SegmentSize::new(1 << 20).unwrap();
        let name: SegmentName = "000000010000000000000003".parse().unwrap();
        let filled = |space: BytesMut| {
            let mut buffer = SegmentBuffer::new(name, size, SystemId(1), space);
            buffer.push(&[1; 1 << 10]);
            let first = buffer.slice(buffer.start(), buffer.end());
            buffer.push(&vec![2; (1 << 20) - (1 << 10)]);
            let all = buffer.slice(buffer.start(), buffer.end());
            assert_eq!(buffer.missing(), 0);
            (buffer, first, all.pieces()[0].as_ptr())
        };
        let (buffer, held, place) = filled(BytesMut::new());
        drop(held);
        let (buffer, held, again) = filled(buffer.into_space());
        assert_eq!(again, place);
        let (_, _, other) = filled(buffer.into_space());
        assert_ne!(other, place);
        assert_eq!(held.pieces()[0], [1; 1 << 10].as_slice());
    }

    proptest! {
        #[test]
        fn any_slice_of_what_came_is_what_came(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..40),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..10),
        ) {
            let size = SegmentSize::new(1 << 20).unwrap();
            let name: SegmentName = "000000010000000000000003".parse().unwrap();
            let mut buffer = SegmentBuffer::new(name, size, SystemId(1), BytesMut::new());
            let whole = pieces.concat();
            for (number, piece) in pieces.iter().enumerate() {
                buffer.push(piece);
                if number % 3 == 0 {
                    buffer.slice(buffer.start(), buffer.end());
                }
            }
            prop_assert_eq!(buffer.missing(), size.bytes() - whole.len() as u64);
            for (a, b) in cuts {
                let (a, b) = (a.index(whole.len() + 1), b.index(whole.len() + 1));
                let (from, to) = (a.min(b), a.max(b));
                let start = buffer.start();
                let chunks = buffer.slice(start + from as u64, start + to as u64);
                prop_assert_eq!(chunks.length(), (to - from) as u64);
                let mut space = Vec::new();
                prop_assert_eq!(chunks.block(0, to - from, &mut space).unwrap(), &whole[from..to]);
                let half = (to - from) / 2;
                let mut space = Vec::new();
                prop_assert_eq!(chunks.block(half as u64, to - from - half, &mut space).unwrap(), &whole[from + half..to]);
                prop_assert_eq!(chunks.digest(), Digest::of(&whole[from..to]));
                prop_assert!(chunks.block(0, to - from + 1, &mut Vec::new()).is_err());
                let (first, second) = chunks.split_at(half);
                prop_assert_eq!(first.digest(), Digest::of(&whole[from..from + half]));
                prop_assert_eq!(second.digest(), Digest::of(&whole[from + half..to]));
            }
        }
    }
}
