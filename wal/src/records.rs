//! Reads records off contiguous WAL that comes in pieces: segment after segment, or as a server streams it.

use std::collections::VecDeque;

use crate::body::RecordBody;
use crate::first_page::check_first_header;
use crate::kind::Kind;
use crate::page::LONG_HEADER_LENGTH;
use crate::record::RecordHeader;
use crate::refusal::{Reason, Refusal};
use crate::walker::{Fault, Step, Walker};
use crate::{Lsn, PgVersion, SegmentName, SegmentSize, SystemId, TimelineId, Unfinished};

/// A record with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub lsn: Lsn,
    /// The LSN behind it; behind a switch record, the segment's end.
    pub end: Lsn,
    /// Its header.
    pub header: RecordHeader,
    /// What it says.
    pub kind: Kind,
}

/// A record whose body is still in the WAL it was read from.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Where it starts.
    pub lsn: Lsn,
    /// The LSN behind it; behind a switch record, the segment's end.
    pub end: Lsn,
    /// Its header.
    pub header: RecordHeader,
    /// The version of the server that wrote it.
    pub version: PgVersion,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// What it says; `None` where its body isn't laid out as this version does it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::decode(self.version, &self.header, self.body)
    }

    /// The parts of its body; `None` where its lengths don't add up.
    pub fn parts(&self) -> Option<RecordBody<'a>> {
        RecordBody::parse(self.version, self.body)
    }
}

/// Reads the records of contiguous WAL, across the borders of pages and segments and from one timeline to the next.
///
/// Push WAL, from the beginning of a segment on, in pieces of any length, each where the one before ended; after each
/// push iterate until `None`, which means that the next record needs more. Every record is checked as
/// [`crate::check_segment`] does it. After a refusal there is nothing more to be had.
///
/// Where a timeline branched off in the middle of a segment, push the new timeline's segment: it begins with a copy of
/// the old one's.
///
/// Memory: the pieces pushed and not yet read, one page, and the body of one record that runs across pages (at most
/// 1 GiB, and never more than has been pushed of it).
///
/// ```
/// use highwater_wal::{Lsn, Records, SegmentSize, TimelineId};
/// let mut records = Records::new(SegmentSize::DEFAULT, None);
/// records.push(TimelineId::FIRST, Lsn(0x100_0000), vec![0x10, 0xD1])?;
/// assert!(records.next().is_none(), "two bytes are not a record yet");
/// # Ok::<(), highwater_wal::Refusal>(())
/// ```
#[derive(Debug)]
pub struct Records<B> {
    size: SegmentSize,
    system_id: Option<SystemId>,
    walker: Option<Walker>,
    /// What was pushed and isn't wholly read.
    pieces: VecDeque<Piece<B>>,
    /// The LSN behind what was pushed; [`Lsn::INVALID`] before the first push.
    pushed: Lsn,
    /// The beginning of a page that lies in more than one piece.
    page: Vec<u8>,
    /// Where the page being read begins in the first piece, if that has all of it; to be looked for if `None`.
    page_at: Option<usize>,
    refused: Option<Refusal>,
    /// The LSN behind the last whole record.
    end: Option<Lsn>,
}

/// What reading on came to.
enum Found {
    /// A record, which the walker has.
    Record,
    /// Nothing, until more is pushed.
    NotYet,
    /// A refusal.
    Refused,
}

#[derive(Debug)]
struct Piece<B> {
    timeline: TimelineId,
    start: Lsn,
    bytes: B,
}

impl<B: AsRef<[u8]>> Piece<B> {
    fn end(&self) -> Lsn {
        self.start + self.bytes.as_ref().len() as u64
    }

    /// The bytes from `lsn` on.
    fn from(&self, lsn: Lsn) -> &[u8] {
        let skip = usize::try_from(lsn.bytes_since(self.start)).unwrap_or(usize::MAX);
        self.bytes.as_ref().get(skip..).unwrap_or_default()
    }
}

impl<B: AsRef<[u8]>> Records<B> {
    /// A reader for WAL of segments of this size, of this cluster (or of any).
    pub fn new(size: SegmentSize, system_id: Option<SystemId>) -> Records<B> {
        Records {
            size,
            system_id,
            walker: None,
            pieces: VecDeque::new(),
            pushed: Lsn::INVALID,
            page: Vec::new(),
            page_at: None,
            refused: None,
            end: None,
        }
    }

    /// Adds WAL of this timeline that begins at `start`.
    ///
    /// # Errors
    /// If it isn't what comes next: the first push begins a segment, every other goes on where the last one ended or,
    /// behind a switch record that has been read, at the next segment. Or the refusal that ended the reading before.
    pub fn push(&mut self, timeline: TimelineId, start: Lsn, bytes: B) -> Result<(), Refusal> {
        if let Some(refusal) = &self.refused {
            return Err(refusal.clone());
        }
        if let Some(expected) = self.expected(start) {
            return Err(self.refusal(timeline, (start, Reason::OutOfOrder { expected })));
        }
        let piece = Piece { timeline, start, bytes };
        self.pushed = piece.end();
        if self.pushed > start {
            self.pieces.push_back(piece);
        }
        Ok(())
    }

    /// What should come next, if `start` can't.
    fn expected(&self, start: Lsn) -> Option<Lsn> {
        if !self.pushed.is_valid() {
            let segment_start = Lsn(start.0 - start.0 % self.size.bytes());
            return (start != segment_start).then_some(segment_start);
        }
        let behind_switch =
            self.pieces.is_empty() && self.walker.as_ref().is_some_and(|w| w.position() == start);
        (start != self.pushed && !behind_switch).then_some(self.pushed)
    }

    /// Adds a whole segment: [`Records::push`] with the timeline and the start of its name.
    ///
    /// # Errors
    /// As [`Records::push`].
    pub fn push_segment(&mut self, name: SegmentName, bytes: B) -> Result<(), Refusal> {
        self.push(name.timeline, name.start(self.size), bytes)
    }

    /// The LSN behind the last record that was handed out.
    pub fn end(&self) -> Option<Lsn> {
        self.end
    }

    /// The record that runs on behind what was pushed, once all of that has been read.
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.walker.as_ref()?.unfinished()
    }

    /// The next record with its body, which isn't copied where it lies in one page; `None` as for the iterator.
    ///
    /// # Errors
    /// What is wrong with the WAL, and where. After it there is only `None`.
    // Inlined, the record isn't copied, which right after it was written takes longer than finding it.
    #[inline(always)]
    pub fn next_raw(&mut self) -> Option<Result<RawRecord<'_>, Refusal>> {
        match self.find() {
            Found::Record => {}
            Found::NotYet => return None,
            Found::Refused => return self.refused.clone().map(Err),
        }
        let walker = self.walker.as_ref()?;
        let found = walker.found();
        self.end = Some(found.end);
        let body = walker.body(current_page(walker, &self.page, &self.pieces, self.page_at));
        let version = walker.format().version;
        Some(Ok(RawRecord { lsn: found.lsn, end: found.end, header: found.header, version, body }))
    }

    /// Steps through the WAL up to the end of the next record. A refusal is told once.
    #[inline(never)]
    fn find(&mut self) -> Found {
        if self.refused.is_some() {
            return Found::NotYet;
        }
        match self.step() {
            Ok(true) => Found::Record,
            Ok(false) => Found::NotYet,
            Err((timeline, fault)) => {
                self.refused = Some(self.refusal(timeline, fault));
                self.pieces.clear();
                Found::Refused
            }
        }
    }

    /// Steps through the WAL up to the end of the next record; `false` where it needs more.
    fn step(&mut self) -> Result<bool, (TimelineId, Fault)> {
        loop {
            let Some(walker) = &mut self.walker else {
                if !self.begin()? {
                    return Ok(false);
                }
                continue;
            };
            if self.page_at.is_none() && self.page.is_empty() {
                self.page_at = whole_page(walker, &self.pieces);
                if let (Some(_), Some(piece)) = (self.page_at, self.pieces.front()) {
                    walker.name_timeline(piece.timeline);
                }
            }
            let page = current_page(walker, &self.page, &self.pieces, self.page_at);
            match walker.step(page).map_err(|fault| (walker.named(), fault))? {
                Step::Record => return Ok(true),
                Step::PageDone => {
                    walker.next_page();
                    self.page_at = None;
                    self.page.clear();
                    self.forget_read();
                }
                Step::SegmentDone => {
                    walker.next_segment();
                    self.page_at = None;
                    self.page.clear();
                    self.forget_read();
                }
                Step::NeedsMore => {
                    if !self.gather() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Makes the walker as soon as there is a whole long page header; `false` until then.
    fn begin(&mut self) -> Result<bool, (TimelineId, Fault)> {
        let Some(first) = self.pieces.front() else { return Ok(false) };
        let (timeline, start) = (first.timeline, first.start);
        let bytes = self.pieces.iter().flat_map(|piece| piece.bytes.as_ref()).take(LONG_HEADER_LENGTH);
        let head: Vec<u8> = bytes.copied().collect();
        if head.len() < LONG_HEADER_LENGTH {
            return Ok(false);
        }
        let name = SegmentName::containing(timeline, start, self.size);
        let fault = |reason| (timeline, (start, reason));
        let (header, format) = check_first_header(name, self.size, self.system_id, &head).map_err(fault)?;
        let format = format.ok_or(fault(Reason::Magic(header.magic)))?;
        self.walker = Some(Walker::new(name, self.size, format, true));
        Ok(true)
    }

    /// Puts more of the page together from the pieces; `false` if there are none with more of it.
    fn gather(&mut self) -> bool {
        let (Some(walker), Some(piece)) = (&mut self.walker, self.pieces.front()) else { return false };
        let wanted = walker.page() + self.page.len() as u64;
        let missing = walker.format().page_size - self.page.len();
        let bytes = piece.from(wanted);
        let bytes = &bytes[..bytes.len().min(missing)];
        if self.page.is_empty() {
            walker.name_timeline(piece.timeline);
        }
        self.page.extend_from_slice(bytes);
        let gathered = !bytes.is_empty();
        let upto = walker.page() + self.page.len() as u64;
        let used_up = self.pieces.pop_front_if(|piece| piece.end() <= upto).is_some();
        gathered || used_up
    }

    /// Drops the pieces that lie before the page that comes next, and takes the timeline of the one it lies in.
    fn forget_read(&mut self) {
        let Some(walker) = &mut self.walker else { return };
        while self.pieces.pop_front_if(|piece| piece.end() <= walker.page()).is_some() {}
        if let Some(piece) = self.pieces.front() {
            walker.name_timeline(piece.timeline);
        }
    }

    fn refusal(&self, timeline: TimelineId, (lsn, reason): Fault) -> Refusal {
        Refusal::new(SegmentName::containing(timeline, lsn, self.size), self.size, lsn, reason)
    }
}

/// Where the page being read begins in the first piece, if that has all of it.
fn whole_page<B: AsRef<[u8]>>(walker: &Walker, pieces: &VecDeque<Piece<B>>) -> Option<usize> {
    let piece = pieces.front()?;
    let at = usize::try_from(walker.page().bytes_since(piece.start)).ok()?;
    piece.bytes.as_ref().get(at..)?.get(..walker.format().page_size).map(|_| at)
}

/// The page being read, as far as it is there: gathered, or straight in the first piece, from `page_at` on.
#[inline]
fn current_page<'a, B: AsRef<[u8]>>(
    walker: &Walker,
    gathered: &'a [u8],
    pieces: &'a VecDeque<Piece<B>>,
    page_at: Option<usize>,
) -> &'a [u8] {
    let (Some(at), Some(piece)) = (page_at, pieces.front()) else { return gathered };
    piece.bytes.as_ref().get(at..at + walker.format().page_size).unwrap_or_default()
}

impl<B: AsRef<[u8]>> Iterator for Records<B> {
    type Item = Result<Record, Refusal>;

    fn next(&mut self) -> Option<Result<Record, Refusal>> {
        let raw = match self.next_raw()? {
            Ok(raw) => raw,
            Err(refusal) => return Some(Err(refusal)),
        };
        let RawRecord { lsn, end, header, version, .. } = raw;
        if let Some(kind) = raw.kind() {
            return Some(Ok(Record { lsn, end, header, kind }));
        }
        let reason = Reason::Layout { rmgr: header.rmgr, info: header.info, version };
        let timeline = self.walker.as_ref().map_or(TimelineId::FIRST, Walker::named);
        let refusal = self.refusal(timeline, (lsn, reason));
        self.refused = Some(refusal.clone());
        Some(Err(refusal))
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
