//! Goes through WAL page by page and finds the records, as `xlogreader.c` does (PostgreSQL 14–18).
//!
//! Everything that reads records uses this: it knows where it is, what the next page must look like, and the record
//! that is running across pages. It holds no page and keeps the body of a running record only where that will be
//! decoded, piece by piece as the pieces come, so no length is trusted before its bytes are there.

use std::ops::Range;

use crate::first_page::Format;
use crate::kind::{self, Kind, xlog};
use crate::page::{self, PageHeader};
use crate::record::{ALIGNMENT, MAX_RECORD_LENGTH, RECORD_HEADER_LENGTH, RecordHeader, record_crc, rmgr};
use crate::refusal::Reason;
use crate::{Lsn, SegmentName, SegmentSize, TimelineId, Unfinished};

/// A record that has been found whole, with the right checksum.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lsn: Lsn,
    /// The LSN behind it: where the next record, or the header of the next page, begins (`EndRecPtr`).
    pub(crate) end: Lsn,
    pub(crate) header: RecordHeader,
    body: Body,
}

/// Where a record's body is.
#[derive(Debug)]
enum Body {
    InPage(Range<usize>),
    /// It ran across pages: in [`Walker::body`], if it was kept.
    Kept,
}

/// What [`Walker::step`] came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record is whole: [`Walker::found`]. It isn't handed out here, since copying it right after it was written takes longer
    /// than finding it.
    Record,
    /// The page is done: go on with the next one.
    PageDone,
    /// Nothing more until the page has more bytes.
    NeedsMore,
    /// A switch record was met: go on with the next segment.
    SegmentDone,
}

/// What is kept allocated, in bytes, from one record that runs across pages to the next.
const BODY_CAPACITY: usize = 1 << 20;

/// A refusal without the segment's name: a place and what is wrong there.
pub(crate) type Fault = (Lsn, Reason);

/// What the next page has to go on with.
#[derive(Debug)]
enum Running {
    Nothing,
    /// So many bytes of a record that began before reading did.
    Unknown {
        remaining: u32,
    },
    Record(Partial),
}

/// A record of which only a part has been read.
#[derive(Debug)]
struct Partial {
    lsn: Lsn,
    length: u32,
    /// How much of it has been read.
    got: u32,
    header: [u8; RECORD_HEADER_LENGTH],
    /// Of the body, as far as read.
    crc: u32,
    keep: bool,
}

/// Finds the records in page after page of contiguous WAL.
#[derive(Debug)]
pub(crate) struct Walker {
    size: SegmentSize,
    format: Format,
    keep_all: bool,
    /// The latest timeline that a page may be of.
    named: TimelineId,
    /// The timeline of the last page read.
    timeline: u32,
    /// The page being read, and how far it has been: 0 if not even its header.
    page: Lsn,
    at: usize,
    /// Where reading began, and the last whole record found since.
    began: Lsn,
    last: Option<Lsn>,
    running: Running,
    body: Vec<u8>,
    /// The page says that its first record overwrites another: this one, or one that began before reading did.
    overwrites: Option<Option<Lsn>>,
    /// A switch record has been found.
    switched: bool,
    /// The last record found whole.
    found: Found,
}

impl Walker {
    /// Starts at the beginning of the segment `name`. With `keep_all`, bodies of all records are kept; else only those
    /// that [`crate::Kind::decode`] makes something of.
    pub(crate) fn new(name: SegmentName, size: SegmentSize, format: Format, keep_all: bool) -> Walker {
        Walker {
            size,
            format,
            keep_all,
            named: name.timeline,
            timeline: 0,
            page: name.start(size),
            at: 0,
            began: name.start(size),
            last: None,
            running: Running::Nothing,
            body: Vec::new(),
            overwrites: None,
            switched: false,
            found: Found {
                lsn: Lsn::INVALID,
                end: Lsn::INVALID,
                header: RecordHeader::parse(&[0; RECORD_HEADER_LENGTH]),
                body: Body::Kept,
            },
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn named(&self) -> TimelineId {
        self.named
    }

    /// The LSN behind all that has been read.
    pub(crate) fn position(&self) -> Lsn {
        self.page + self.at as u64
    }

    /// The first byte of the page being read.
    pub(crate) fn page(&self) -> Lsn {
        self.page
    }

    /// The timeline in the last page header read; 0 before the first.
    pub(crate) fn timeline(&self) -> u32 {
        self.timeline
    }

    /// The record that is running on behind what was read.
    pub(crate) fn unfinished(&self) -> Option<Unfinished> {
        match &self.running {
            Running::Nothing => None,
            Running::Unknown { remaining } => Some(Unfinished { lsn: None, remaining: *remaining }),
            Running::Record(partial) => {
                Some(Unfinished { lsn: Some(partial.lsn), remaining: partial.length - partial.got })
            }
        }
    }

    /// The header of the record that is running on, if all of that has been read.
    pub(crate) fn unfinished_header(&self) -> Option<RecordHeader> {
        match &self.running {
            Running::Record(partial) if partial.got as usize >= RECORD_HEADER_LENGTH => {
                Some(RecordHeader::parse(&partial.header))
            }
            Running::Record(_) | Running::Unknown { .. } | Running::Nothing => None,
        }
    }

    /// Goes on with a file of this timeline.
    pub(crate) fn name_timeline(&mut self, timeline: TimelineId) {
        self.named = timeline;
    }

    /// Goes on with the next page.
    pub(crate) fn next_page(&mut self) {
        self.page = self.page + self.format.page_size as u64;
        self.at = 0;
    }

    /// Goes on with the next segment.
    pub(crate) fn next_segment(&mut self) {
        self.page = self.position().next_multiple_of(self.size.bytes());
        self.at = 0;
        self.switched = false;
    }

    /// Reads on in the current page, of which `page` is the beginning, or all.
    pub(crate) fn step(&mut self, page: &[u8]) -> Result<Step, Fault> {
        if self.switched {
            return Ok(Step::SegmentDone);
        }
        if self.at == 0 {
            let Some(header) = PageHeader::parse(page) else { return Ok(Step::NeedsMore) };
            self.check_header(&header).map_err(|reason| (self.page, reason))?;
            self.at = header.length();
        }
        if !matches!(self.running, Running::Nothing) {
            return self.go_on(page);
        }
        if self.at >= self.format.page_size {
            return Ok(Step::PageDone);
        }
        self.start(page)
    }

    fn check_header(&mut self, header: &PageHeader) -> Result<(), Reason> {
        if header.magic != self.format.version.page_magic() {
            return Err(Reason::OtherMagic {
                found: header.magic,
                expected: self.format.version.page_magic(),
            });
        }
        let starts_segment = self.page.0.is_multiple_of(self.size.bytes());
        let goes_on = header.has(page::FIRST_IS_CONTRECORD);
        let overwrites = header.has(page::FIRST_IS_OVERWRITE_CONTRECORD);
        if header.flags & !page::ALL_FLAGS != 0
            || header.has(page::LONG_HEADER) != starts_segment
            || (goes_on && overwrites)
        {
            return Err(Reason::PageFlags(header.flags));
        }
        if header.address != self.page {
            return Err(Reason::PageAddress { found: header.address });
        }
        if let Some(long) = header.long {
            self.check_long_header(long)?;
        }
        if header.timeline == 0 || header.timeline > self.named.get() {
            return Err(Reason::Timeline { found: header.timeline, named: self.named });
        }
        if header.timeline < self.timeline {
            return Err(Reason::TimelineGoesBack { found: header.timeline, before: self.timeline });
        }
        self.timeline = header.timeline;
        self.check_continuation(header, goes_on, overwrites)
    }

    fn check_long_header(&self, long: page::LongHeader) -> Result<(), Reason> {
        if long.system_id != self.format.system_id {
            return Err(Reason::SystemId { found: long.system_id, expected: self.format.system_id });
        }
        if u64::from(long.segment_size) != self.size.bytes() {
            return Err(Reason::SegmentSize { found: long.segment_size, expected: self.size.bytes() });
        }
        if long.page_size as usize != self.format.page_size {
            return Err(Reason::PageSize(long.page_size));
        }
        Ok(())
    }

    /// Whether the page goes on with what ran into it. PostgreSQL doesn't look at a length without the flag; a server
    /// always writes 0 there, so anything else is a header that was hurt.
    fn check_continuation(
        &mut self,
        header: &PageHeader,
        goes_on: bool,
        overwrites: bool,
    ) -> Result<(), Reason> {
        let found = header.remaining;
        if goes_on != (found > 0) {
            return Err(Reason::PageFlags(header.flags));
        }
        let Some(Unfinished { lsn: record, remaining: expected }) = self.unfinished() else {
            if self.page == self.began {
                if goes_on {
                    self.running = Running::Unknown { remaining: found };
                }
                self.overwrites = overwrites.then_some(None);
                return Ok(());
            }
            return match (goes_on, overwrites) {
                (true, _) => Err(Reason::UnexpectedContinuation(found)),
                (false, true) => Err(Reason::Overwrite),
                (false, false) => Ok(()),
            };
        };
        if overwrites {
            self.overwrites = Some(record);
            self.running = Running::Nothing;
            self.body.clear();
            return Ok(());
        }
        if found != expected {
            return Err(Reason::Continuation { record: record.unwrap_or(Lsn::INVALID), found, expected });
        }
        Ok(())
    }

    /// A new record begins here.
    #[inline(always)]
    fn start(&mut self, page: &[u8]) -> Result<Step, Fault> {
        let lsn = self.position();
        let room = self.format.page_size - self.at;
        let Some(rest) = page.get(self.at..) else { return Ok(Step::NeedsMore) };
        let Some(length) = rest.first_chunk().map(|length| u32::from_le_bytes(*length)) else {
            return Ok(Step::NeedsMore);
        };
        if (length as usize) < RECORD_HEADER_LENGTH {
            return Err((lsn, Reason::RecordLength(length)));
        }
        if let Some(bytes) = rest.first_chunk::<RECORD_HEADER_LENGTH>() {
            // Read in place: a copy would wait for what has just been written.
            self.found.header = RecordHeader::parse(bytes);
            self.check_record_header(lsn, &self.found.header).map_err(|reason| (lsn, reason))?;
            if let Some(body) = rest.get(RECORD_HEADER_LENGTH..length as usize) {
                let computed = record_crc(crc32c::crc32c(body), bytes);
                let body = self.at + RECORD_HEADER_LENGTH..self.at + length as usize;
                let next = self.at + (length as usize).next_multiple_of(ALIGNMENT);
                return self.finish(page, lsn, computed, Body::InPage(body), next);
            }
        }
        if rest.len() < room {
            return Ok(Step::NeedsMore);
        }
        self.body.clear();
        self.body.shrink_to(BODY_CAPACITY);
        let mut partial =
            Partial { lsn, length, got: 0, header: [0; RECORD_HEADER_LENGTH], crc: 0, keep: false };
        self.take(&mut partial, rest).map_err(|reason| (lsn, reason))?;
        self.running = Running::Record(partial);
        Ok(Step::PageDone)
    }

    /// The page begins with more of the record that is running.
    fn go_on(&mut self, page: &[u8]) -> Result<Step, Fault> {
        let room = self.format.page_size - self.at;
        let missing = self.unfinished().map_or(0, |record| record.remaining) as usize;
        let (here, ends) = (room.min(missing), missing <= room);
        let Some(piece) = page.get(self.at..self.at + here) else { return Ok(Step::NeedsMore) };
        let next = self.at + here.next_multiple_of(ALIGNMENT);
        match std::mem::replace(&mut self.running, Running::Nothing) {
            Running::Nothing => Ok(Step::PageDone),
            Running::Unknown { remaining } if !ends => {
                self.running = Running::Unknown { remaining: remaining - here as u32 };
                Ok(Step::PageDone)
            }
            Running::Unknown { remaining } => {
                if self.page == self.began && is_end_of_switch(piece) {
                    let Some(rest) = page.get(next..self.format.page_size) else {
                        self.running = Running::Unknown { remaining };
                        return Ok(Step::NeedsMore);
                    };
                    self.switched = rest.iter().all(|byte| *byte == 0);
                }
                self.at = next;
                self.step(page)
            }
            Running::Record(mut partial) => {
                let lsn = partial.lsn;
                self.take(&mut partial, piece).map_err(|reason| (lsn, reason))?;
                if !ends {
                    self.running = Running::Record(partial);
                    return Ok(Step::PageDone);
                }
                self.found.header = RecordHeader::parse(&partial.header);
                let computed = record_crc(partial.crc, &partial.header);
                self.finish(page, lsn, computed, Body::Kept, next)
            }
        }
    }

    /// The record that [`Walker::step`] has just found.
    #[inline]
    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    /// The body of the record that [`Walker::step`] has just found in `page`; empty if it wasn't kept.
    #[inline]
    pub(crate) fn body<'a>(&'a self, page: &'a [u8]) -> &'a [u8] {
        match &self.found.body {
            Body::InPage(range) => page.get(range.clone()).unwrap_or_default(),
            Body::Kept => &self.body,
        }
    }

    /// The record whose header was read last is whole: its bytes give the checksum `computed`, and what follows it begins
    /// at `next` in the page.
    #[inline(always)]
    fn finish(
        &mut self,
        page: &[u8],
        lsn: Lsn,
        computed: u32,
        body: Body,
        next: usize,
    ) -> Result<Step, Fault> {
        let header = &self.found.header;
        if computed != header.crc {
            return Err((lsn, Reason::Crc { found: header.crc, computed }));
        }
        let is_xlog = header.rmgr == rmgr::XLOG;
        let is_switch = is_xlog && header.info == xlog::SWITCH;
        let behind = self.page + next as u64;
        let end = if is_switch { behind.next_multiple_of(self.size.bytes()) } else { behind };
        let is_overwrite = is_xlog && header.info == xlog::OVERWRITE_CONTRECORD;
        (self.found.lsn, self.found.end, self.found.body) = (lsn, end, body);
        if self.overwrites.is_some() || is_overwrite {
            self.check_overwrite(&self.found.header, self.body(page)).map_err(|reason| (lsn, reason))?;
            self.overwrites = None;
        }
        self.at = next;
        self.last = Some(lsn);
        self.switched = is_switch;
        Ok(Step::Record)
    }

    /// Adds a piece to a record that runs across pages.
    fn take(&mut self, partial: &mut Partial, piece: &[u8]) -> Result<(), Reason> {
        let got = partial.got as usize;
        let for_header = RECORD_HEADER_LENGTH.saturating_sub(got).min(piece.len());
        let (header, body) = piece.split_at(for_header);
        if for_header > 0 {
            partial.header[got..got + for_header].copy_from_slice(header);
        }
        partial.got += piece.len() as u32;
        if for_header > 0 && got + for_header == RECORD_HEADER_LENGTH {
            let header = RecordHeader::parse(&partial.header);
            self.check_record_header(partial.lsn, &header)?;
            partial.keep = self.keep_all || kind::is_decoded(&header);
        }
        partial.crc = crc32c::crc32c_append(partial.crc, body);
        if partial.keep {
            self.body.extend_from_slice(body);
        }
        Ok(())
    }

    /// The flag in the page header and the page's first record go together, and the record names the one that was cut
    /// off (`VerifyOverwriteContrecord`, where recovery would stop).
    fn check_overwrite(&self, header: &RecordHeader, body: &[u8]) -> Result<(), Reason> {
        let (Some(record), Some(Kind::OverwriteContrecord { overwritten, .. })) =
            (self.overwrites, Kind::decode(self.format.version, header, body))
        else {
            return Err(Reason::Overwrite);
        };
        let agrees = record.map_or(overwritten < self.began, |record| record == overwritten);
        if agrees { Ok(()) } else { Err(Reason::Overwrite) }
    }

    /// What `ValidXLogRecordHeader` checks.
    #[inline(always)]
    fn check_record_header(&self, lsn: Lsn, header: &RecordHeader) -> Result<(), Reason> {
        if (header.length as usize) < RECORD_HEADER_LENGTH || header.length > MAX_RECORD_LENGTH {
            return Err(Reason::RecordLength(header.length));
        }
        if !rmgr::is_valid(header.rmgr, self.format.version) {
            return Err(Reason::ResourceManager(header.rmgr));
        }
        let linked = match self.last {
            Some(last) => header.previous == last,
            None => header.previous < self.began.min(lsn),
        };
        if linked { Ok(()) } else { Err(Reason::Previous { found: header.previous, expected: self.last }) }
    }
}

/// Whether the end of a record that began in the segment before looks like the end of a switch record: its last 8 or
/// 16 bytes, with what it is, two bytes of padding and the checksum.
fn is_end_of_switch(piece: &[u8]) -> bool {
    let [.., info, number, 0, 0, _, _, _, _] = piece else { return false };
    matches!(piece.len(), 8 | 16) && *number == rmgr::XLOG && info & 0xF0 == xlog::SWITCH
}
