//! Whether a WAL segment may be archived (R4), and what it holds, in one pass.
//!
//! # What a healthy server leaves, and is taken
//!
//! - A record that runs in from the segment before, or on into the next one: half a record has no checksum. That it
//!   fits its neighbours can be told from [`Summary::continued`] and [`Summary::unfinished`].
//! - A switch record. What follows isn't looked at: zeros as a rule, but after a crash at the wrong moment whatever the
//!   file held before it was recycled; recovery never reads it.
//! - A record cut off by a crash, with the page behind it overwritten (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`). What was
//!   cut off isn't looked at; the page must begin with the record that names it, because recovery stops otherwise.
//! - Pages of earlier timelines at the beginning: a new timeline's first segment begins with a copy of the old one's.
//! - In a `.partial` file anything behind the last good record.
//!
//! # What isn't taken
//!
//! A segment that isn't partial must be full of WAL up to its end, by records or by a switch. Where only zeros follow
//! the last record, either the file lost its end (a crash of the machine, a copy of a file that was still being
//! written), or it is the last segment of a timeline that ended. PostgreSQL names the latter `.partial`, with two
//! exceptions: a standby with `archive_mode = always` archives it under its full name when the server above it is
//! promoted, and so does a server that was rewound. Both have the history of the timeline that took over in `pg_wal`:
//! [`SegmentKind::Ended`] is for them. A file that lost its end would otherwise make a hole that shows at the restore.

use serde::{Deserialize, Serialize};

use crate::body::possible_lengths;
use crate::border;
use crate::first_page::{Format, check_first_header};
use crate::kind::{self, Kind, xlog};
use crate::record::{RECORD_HEADER_LENGTH, RecordHeader, record_crc, rmgr};
use crate::refusal::{Reason, Refusal};
use crate::walker::{Fault, Found, Step, Walker};
use crate::{Lsn, SegmentName, SegmentSize, Summary, SystemId, Unfinished};

/// How closely a segment is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Everything R4 asks for.
    #[default]
    Full,
    /// Length and first page header only. The records are still read as far as they can be, for the summary, but
    /// nothing in them is refused. For servers that encrypt their WAL, and as the way out of a refusal.
    Header,
}

/// What is expected behind the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// A completed segment: WAL, or a switch record, up to its end.
    Complete,
    /// A `.partial` file: anything.
    Partial,
    /// A segment of a timeline that ended at this LSN, as the history of a later timeline says: records up to there at
    /// least, then anything. With an LSN behind the segment that is a complete one, with one before it anything goes.
    Ended(Lsn),
}

/// Checks a segment before it is archived and tells what it holds.
///
/// ```
/// use highwater_wal::{check_segment, Check, SegmentKind, SegmentSize};
/// let size = SegmentSize::new(1 << 20)?;
/// let refusal = check_segment("000000010000000000000001".parse()?, size, None, &[0; 100], Check::Full, SegmentKind::Complete);
/// assert!(refusal.unwrap_err().to_string().contains("the file has 100 bytes"));
/// # Ok::<(), highwater_wal::Error>(())
/// ```
///
/// # Errors
/// The first thing in the segment that isn't as it must be, with its offset.
pub fn check_segment(
    name: SegmentName,
    size: SegmentSize,
    system_id: Option<SystemId>,
    bytes: &[u8],
    level: Check,
    kind: SegmentKind,
) -> Result<Summary, Refusal> {
    let mut check = SegmentCheck::new(name, size, system_id, bytes.len() as u64, level, kind)?;
    check.push(bytes);
    check.finish()
}

/// [`check_segment`] of a segment that comes in pieces, so that it need not be in memory as a whole.
///
/// Memory: none that grows with the segment, but for the body of a commit (or another record of those that are
/// decoded) that runs across pages.
#[derive(Debug)]
pub struct SegmentCheck {
    name: SegmentName,
    size: SegmentSize,
    system_id: Option<SystemId>,
    level: Check,
    kind: SegmentKind,
    /// How many bytes have come.
    pushed: u64,
    begun: Option<Result<Begun, Refusal>>,
}

/// What is known once the first page has come.
#[derive(Debug)]
struct Begun {
    summary: Summary,
    /// None for a page magic that no known version has.
    walker: Option<Walker>,
    /// How reading the records ended; not yet while there may be more.
    walked: Option<Result<(), Fault>>,
    runs_out: border::RunsOut,
    last_page: Vec<u8>,
    /// Behind the last byte that is not zero, from the segment's start.
    zeros_from: u64,
}

impl SegmentCheck {
    /// A segment in a file of `length` bytes.
    ///
    /// # Errors
    /// A name or length that no such segment has.
    pub fn new(
        name: SegmentName,
        size: SegmentSize,
        system_id: Option<SystemId>,
        length: u64,
        level: Check,
        kind: SegmentKind,
    ) -> Result<SegmentCheck, Refusal> {
        if !name.fits(size) {
            let (lsn, reason) = (name.start(size), Reason::Name(size.bytes()));
            return Err(Refusal { segment: name, offset: 0, lsn, reason });
        }
        let check = SegmentCheck { name, size, system_id, level, kind, pushed: 0, begun: None };
        check.has_length(length)?;
        Ok(check)
    }

    fn has_length(&self, found: u64) -> Result<(), Refusal> {
        let expected = self.size.bytes();
        if found == expected {
            return Ok(());
        }
        Err(self.refusal((self.name.start(self.size), Reason::Length { found, expected })))
    }

    fn refusal(&self, (lsn, reason): Fault) -> Refusal {
        Refusal::new(self.name, self.size, lsn, reason)
    }

    /// Takes the next piece: whole pages (of at most 64 KiB) of the segment, in order.
    pub fn push(&mut self, piece: &[u8]) {
        let mut begun = self.begun.take().unwrap_or_else(|| self.begin(piece));
        if let Ok(begun) = &mut begun {
            begun.take(self.name.start(self.size), self.pushed, piece);
        }
        self.begun = Some(begun);
        self.pushed += piece.len() as u64;
    }

    fn begin(&self, beginning: &[u8]) -> Result<Begun, Refusal> {
        let Self { name, size, .. } = *self;
        let refuse = |reason| self.refusal((name.start(size), reason));
        let (header, format) = check_first_header(name, size, self.system_id, beginning).map_err(refuse)?;
        let system_id = header.long.map_or(SystemId(0), |long| long.system_id);
        let mut summary = Summary::new(name, size, system_id, header.magic, header.remaining);
        if format.is_some() {
            border::keep_what_runs_in(&mut summary, beginning);
        } else if self.level == Check::Full {
            return Err(refuse(Reason::Magic(header.magic)));
        }
        Ok(Begun {
            summary,
            walker: format.map(|format| Walker::new(name, size, format, false)),
            walked: None,
            runs_out: border::RunsOut::default(),
            last_page: Vec::new(),
            zeros_from: 0,
        })
    }

    /// What the segment holds, once all of it has come.
    ///
    /// # Errors
    /// As [`check_segment`].
    pub fn finish(mut self) -> Result<Summary, Refusal> {
        self.has_length(self.pushed)?;
        // That all of it has come makes sure that the first page has.
        let begun = self.begun.take().unwrap_or_else(|| self.begin(&[]))?;
        let Begun { mut summary, walker, walked, runs_out, last_page, zeros_from } = begun;
        let Some(walker) = walker else { return Ok(summary) };
        let walked = walked.unwrap_or(Ok(()));
        if walked.is_ok() {
            summary.unfinished = walker.unfinished();
            runs_out.keep(&mut summary);
        }
        if self.level == Check::Header {
            return Ok(summary);
        }
        let (start, end) = (self.name.start(self.size), self.name.end(self.size));
        let needed = match self.kind {
            SegmentKind::Complete => end,
            SegmentKind::Partial => start,
            SegmentKind::Ended(lsn) => lsn.min(end),
        };
        match walked {
            Ok(()) => {
                check_unfinished(&walker, &last_page, end).map_err(|fault| self.refusal(fault))?;
                if needed == end {
                    check_reaches_timeline(self.name, &walker, &summary)
                        .map_err(|fault| self.refusal(fault))?;
                }
            }
            // A fault in the very first page header is a wrong file, whatever its kind.
            Err(fault) if fault.0 <= start || fault.0 < needed => {
                return Err(self.refusal(or_end_of_wal(fault, start + zeros_from, needed)));
            }
            Err(_) => {}
        }
        Ok(summary)
    }
}

impl Begun {
    /// Takes the piece that begins `offset` bytes behind `start`.
    fn take(&mut self, start: Lsn, offset: u64, piece: &[u8]) {
        if let Some(last) = last_byte_of_use(piece) {
            self.zeros_from = offset + last as u64 + 1;
        }
        let Some(walker) = &mut self.walker else { return };
        let page_size = walker.format().page_size;
        if let Some(page) = piece.chunks(page_size).next_back() {
            self.last_page.clear();
            self.last_page.extend_from_slice(page);
        }
        for (index, page) in piece.chunks(page_size).enumerate() {
            if self.walked.is_some() {
                return;
            }
            self.walked = walk(walker, page, &mut self.summary).transpose();
            self.runs_out.look(walker, start + offset + (index * page_size) as u64, page);
        }
    }
}

/// Where the last byte is that is not zero.
fn last_byte_of_use(bytes: &[u8]) -> Option<usize> {
    const STEP: usize = 4096;
    let (index, last) =
        bytes.chunks(STEP).enumerate().rfind(|(_, step)| **step != [0; STEP][..step.len()])?;
    last.iter().rposition(|byte| *byte != 0).map(|at| index * STEP + at)
}

/// Checks only that a segment is the one its name says, by the header of its first page; `beginning` is as much of
/// that page as there is. For segments whose digest was compared: what is in them was checked when they were archived.
///
/// # Errors
/// What the header says otherwise.
pub fn check_first_page(
    name: SegmentName,
    size: SegmentSize,
    system_id: Option<SystemId>,
    beginning: &[u8],
) -> Result<(), Refusal> {
    let checked = check_first_header(name, size, system_id, beginning);
    checked.map(drop).map_err(|reason| Refusal::new(name, size, name.start(size), reason))
}

/// Reads the records that end on this page into the summary. Answers when nothing behind the page is to be read.
fn walk(walker: &mut Walker, page: &[u8], summary: &mut Summary) -> Result<Option<()>, Fault> {
    let version = walker.format().version;
    loop {
        match walker.step(page)? {
            Step::Record => {
                let Found { lsn, end, header, .. } = *walker.found();
                if kind::is_decoded(&header) {
                    let layout = Reason::Layout { rmgr: header.rmgr, info: header.info, version };
                    let body = walker.body(page);
                    let kind = Kind::decode(version, &header, body).ok_or((lsn, layout))?;
                    summary.note(lsn, end, header.xid, kind);
                }
                summary.count(lsn, end);
            }
            // A segment's length is a multiple of every page size, so that a page is never short.
            Step::PageDone | Step::NeedsMore => break,
            Step::SegmentDone => {
                note_switch_from_before(summary);
                return Ok(Some(()));
            }
        }
    }
    walker.next_page();
    Ok(None)
}

/// A switch record that began in the segment before and ends in this one leaves all of this one unused.
fn note_switch_from_before(summary: &mut Summary) {
    if summary.switch.is_none() {
        let length = RECORD_HEADER_LENGTH as u64;
        let before = length.saturating_sub(u64::from(summary.continued));
        summary.switch = Some(Lsn(summary.start.0.saturating_sub(before)));
    }
}

/// A record whose length has been hurt can look like one that runs over the segment's end. It is found out if the
/// lengths of its parts lead to an earlier end at which its checksum is right. (A record that begins before the last
/// page is held by its length to what the next page's header says.)
fn check_unfinished(walker: &Walker, last_page: &[u8], end: Lsn) -> Result<(), Fault> {
    let (Some(Unfinished { lsn: Some(lsn), .. }), Some(header)) =
        (walker.unfinished(), walker.unfinished_header())
    else {
        return Ok(());
    };
    let Format { version, page_size, .. } = walker.format();
    let length = usize::try_from(end.bytes_since(lsn)).unwrap_or(usize::MAX);
    if length >= page_size {
        return Ok(());
    }
    let Some(record) = last_page.len().checked_sub(length).and_then(|offset| last_page.get(offset..)) else {
        return Ok(());
    };
    let Some((head, body)) = record.split_first_chunk::<RECORD_HEADER_LENGTH>() else { return Ok(()) };
    let is_right = |length: usize| {
        let (Some(body), Ok(total)) = (body.get(..length), u32::try_from(RECORD_HEADER_LENGTH + length))
        else {
            return false;
        };
        let mut head = *head;
        head[..4].copy_from_slice(&total.to_le_bytes());
        record_crc(crc32c::crc32c(body), &head) == header.crc
    };
    if possible_lengths(version, body).into_iter().any(is_right) {
        return Err((lsn, Reason::RecordLength(header.length)));
    }
    Ok(())
}

/// A file named after a timeline must get there. Its first pages may be a copy of an earlier timeline's, so the last
/// page tells, unless the new timeline begins on that very page: with the end of a recovery, a checkpoint, or a change
/// of `full_page_writes` before them; or with a record of which the segment has too little to tell.
fn check_reaches_timeline(name: SegmentName, walker: &Walker, summary: &Summary) -> Result<(), Fault> {
    let found = walker.timeline();
    if found == name.timeline.get() {
        return Ok(());
    }
    let begins = |header: RecordHeader| {
        let opcodes = [xlog::END_OF_RECOVERY, xlog::CHECKPOINT_SHUTDOWN, xlog::FPW_CHANGE];
        header.rmgr == rmgr::XLOG && opcodes.contains(&header.info)
    };
    let recovered = summary.end_of_recovery.last().is_some_and(|end| end.timeline == name.timeline);
    let checkpointed =
        summary.checkpoints.last().is_some_and(|checkpoint| checkpoint.timeline == name.timeline);
    let starts_here = walker.unfinished().is_some_and(|record| record.lsn.is_some());
    let may_begin_later = starts_here && walker.unfinished_header().is_none_or(begins);
    if recovered || checkpointed || may_begin_later {
        return Ok(());
    }
    Err((summary.start, Reason::OtherTimeline { found, named: name.timeline }))
}

/// The fault itself, or that the WAL ends there if nothing but zeros follows.
fn or_end_of_wal((lsn, reason): Fault, zeros_from: Lsn, needed: Lsn) -> Fault {
    let missing = needed.bytes_since(lsn);
    if missing > 0 && zeros_from <= lsn { (lsn, Reason::Ends { missing }) } else { (lsn, reason) }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "check_end_tests.rs"]
mod end_tests;
