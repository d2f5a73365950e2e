//! Makes WAL for the unit tests, byte by byte as a server lays it out (`CopyXLogRecordToWAL`).

use crate::body::RelationFile;
use crate::kind::xlog;
use crate::page::{FIRST_IS_CONTRECORD, FIRST_IS_OVERWRITE_CONTRECORD, LONG_HEADER};
use crate::record::{ALIGNMENT, RECORD_HEADER_LENGTH, record_crc};
use crate::{Lsn, PgVersion, SegmentName, SegmentSize, SystemId, TimelineId, rmgr};

pub(crate) const PAGE: usize = 8192;
pub(crate) const SYSTEM: SystemId = SystemId(7_000_000_000_000_000_001);

/// WAL that is being written, from the beginning of a segment on.
pub(crate) struct Wal {
    pub(crate) version: PgVersion,
    pub(crate) size: SegmentSize,
    pub(crate) timeline: TimelineId,
    pub(crate) start: Lsn,
    pub(crate) bytes: Vec<u8>,
    pub(crate) last: Lsn,
}

pub(crate) fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// The smallest segments there are, to keep tests quick.
pub(crate) fn mib() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

impl Wal {
    /// PostgreSQL 15, timeline 1, from the third 1 MiB segment on.
    pub(crate) fn new() -> Wal {
        let start = Lsn(3 << 20);
        Wal {
            version: PgVersion::V15,
            size: mib(),
            timeline: tli(1),
            start,
            bytes: Vec::new(),
            last: Lsn(start.0 - 64),
        }
    }

    pub(crate) fn name(&self) -> SegmentName {
        SegmentName::containing(self.timeline, self.start, self.size)
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> Lsn {
        self.start + self.bytes.len() as u64
    }

    /// Where the next record will start: behind the page header, if it is the first on its page.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.position() + if self.bytes.len().is_multiple_of(PAGE) { self.header_length() as u64 } else { 0 }
    }

    fn header_length(&self) -> usize {
        if self.position().0.is_multiple_of(self.size.bytes()) { 40 } else { 24 }
    }

    pub(crate) fn page_header(&mut self, flags: u16, remaining: usize) {
        let address = self.position();
        let long = self.header_length() == 40;
        let flags = flags | if long { LONG_HEADER } else { 0 };
        self.bytes.extend_from_slice(&self.version.page_magic().to_le_bytes());
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.bytes.extend_from_slice(&self.timeline.get().to_le_bytes());
        self.bytes.extend_from_slice(&address.0.to_le_bytes());
        self.bytes.extend_from_slice(&(remaining as u32).to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        if long {
            self.bytes.extend_from_slice(&SYSTEM.0.to_le_bytes());
            self.bytes.extend_from_slice(&(self.size.bytes() as u32).to_le_bytes());
            self.bytes.extend_from_slice(&(PAGE as u32).to_le_bytes());
        }
    }

    /// Writes a record whose body is there already.
    pub(crate) fn record_with_body(&mut self, rmgr: u8, info: u8, xid: u32, body: &[u8]) -> Lsn {
        if self.bytes.len().is_multiple_of(PAGE) {
            self.page_header(0, 0);
        }
        let lsn = self.position();
        let record = record_bytes(rmgr, info, xid, self.last, body);
        self.raw(&record);
        self.last = lsn;
        lsn
    }

    /// Writes bytes across pages, and fills up to where the next record can start.
    pub(crate) fn raw(&mut self, record: &[u8]) {
        let mut rest = record;
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(PAGE) {
                self.page_header(FIRST_IS_CONTRECORD, rest.len());
            }
            let room = PAGE - self.bytes.len() % PAGE;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }

    /// Writes a record with main data only.
    pub(crate) fn record(&mut self, rmgr: u8, info: u8, xid: u32, main: &[u8]) -> Lsn {
        self.record_with_body(rmgr, info, xid, &with_main(main))
    }

    /// A record of no interest, of this total length.
    pub(crate) fn filler(&mut self, length: usize) -> Lsn {
        let body = body_of_length(length - RECORD_HEADER_LENGTH);
        self.record_with_body(rmgr::HEAP, 0, 7, &body)
    }

    /// Fillers until a record would start `room` bytes before the end of the segment, on its last page.
    pub(crate) fn fill_up_to(&mut self, room: u64) {
        const NEAR: u64 = 64 + RECORD_HEADER_LENGTH as u64;
        let size = self.size.bytes();
        assert!(room < PAGE as u64 - NEAR);
        loop {
            let missing = (size - self.next_lsn().0 % size).checked_sub(room).unwrap();
            match missing {
                0 => return,
                1..NEAR => self.filler(missing as usize),
                _ if missing > 3 * PAGE as u64 => self.filler(3000),
                _ => self.filler(64),
            };
        }
    }

    pub(crate) fn commit(&mut self, xid: u32, time: i64) -> Lsn {
        self.record(rmgr::TRANSACTION, 0x00, xid, &time.to_le_bytes())
    }

    pub(crate) fn abort(&mut self, xid: u32, time: i64) -> Lsn {
        self.record(rmgr::TRANSACTION, 0x20, xid, &time.to_le_bytes())
    }

    pub(crate) fn end_of_recovery(&mut self, timeline: u32, previous: u32) -> Lsn {
        let main = fields(&[&5_i64.to_le_bytes(), &timeline.to_le_bytes(), &previous.to_le_bytes()]);
        self.record(rmgr::XLOG, xlog::END_OF_RECOVERY, 0, &main)
    }

    /// A switch record; zeros follow to the end of the segment.
    pub(crate) fn switch(&mut self) -> Lsn {
        let lsn = self.record_with_body(rmgr::XLOG, xlog::SWITCH, 0, &[]);
        self.zeros();
        lsn
    }

    /// Zeros up to the end of the segment.
    pub(crate) fn zeros(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(self.size.bytes() as usize), 0);
    }

    /// Cuts the WAL at the beginning of this page, and overwrites the record that ran into it.
    pub(crate) fn overwrite(&mut self, page: usize, record: Lsn, last: Lsn) -> Lsn {
        self.bytes.truncate(page * PAGE);
        self.last = last;
        self.page_header(FIRST_IS_OVERWRITE_CONTRECORD, 0);
        let main = fields(&[&record.0.to_le_bytes(), &9_i64.to_le_bytes()]);
        let lsn = self.position();
        let bytes = record_bytes(rmgr::XLOG, xlog::OVERWRITE_CONTRECORD, 0, last, &with_main(&main));
        self.raw(&bytes);
        self.last = lsn;
        lsn
    }

    /// The whole segments written, the last one full up to its end.
    pub(crate) fn segments(&self) -> Vec<(SegmentName, &[u8])> {
        let size = self.size.bytes() as usize;
        let name = |number: usize| {
            SegmentName::containing(self.timeline, self.start + (number * size) as u64, self.size)
        };
        self.bytes.chunks_exact(size).enumerate().map(|(number, bytes)| (name(number), bytes)).collect()
    }
}

pub(crate) fn fields(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(crate) fn relation_file(file: RelationFile) -> Vec<u8> {
    fields(&[&file.tablespace.to_le_bytes(), &file.database.to_le_bytes(), &file.relation.to_le_bytes()])
}

/// A body with main data only.
pub(crate) fn with_main(main: &[u8]) -> Vec<u8> {
    match main.len() {
        0 => Vec::new(),
        length @ 1..=255 => fields(&[&[255, length as u8], main]),
        length => fields(&[&[254], &(length as u32).to_le_bytes(), main]),
    }
}

/// A body of main data, of this length altogether.
fn body_of_length(length: usize) -> Vec<u8> {
    let main: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
    match length {
        0 => Vec::new(),
        1 => panic!("no body has one byte"),
        2..=257 => fields(&[&[255, length as u8 - 2], &main[2..]]),
        _ => fields(&[&[254], &(length as u32 - 5).to_le_bytes(), &main[5..]]),
    }
}

fn record_bytes(rmgr: u8, info: u8, xid: u32, previous: Lsn, body: &[u8]) -> Vec<u8> {
    let length = (RECORD_HEADER_LENGTH + body.len()) as u32;
    let head =
        fields(&[&length.to_le_bytes(), &xid.to_le_bytes(), &previous.0.to_le_bytes(), &[info, rmgr, 0, 0]]);
    let head = fields(&[&head, &[0; 4]]);
    let crc = record_crc(crc32c::crc32c(body), head.first_chunk().unwrap());
    fields(&[&head[..20], &crc.to_le_bytes(), body])
}
