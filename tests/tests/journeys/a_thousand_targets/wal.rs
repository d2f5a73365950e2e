//! What lies in WAL, read slowly and without anything of Highwater: every record along a path of timelines, and of those that
//! matter to recovery what they say.
//!
//! Formats: `xlog_internal.h`, `xlogrecord.h`, `xact.h`, `twophase.c`; what is read of them is the same in PostgreSQL 14 to 18.

use std::fs;
use std::path::Path;

/// The segments are of 1 MiB.
pub const SEGMENT: u64 = 1 << 20;
const PAGE: u64 = 8192;
const PAGE_HEADER: u64 = 24;
const FIRST_PAGE_HEADER: u64 = 40;
const RECORD_HEADER: usize = 24;

/// `XLP_FIRST_IS_CONTRECORD`.
const GOES_ON: u16 = 1;

/// Resource managers, by their number (`rmgrlist.h`), and their records.
const XLOG: u8 = 0;
const XACT: u8 = 1;
const XLOG_SWITCH: u8 = 0x40;
const XLOG_RESTORE_POINT: u8 = 0x70;

/// Microseconds from 2000-01-01, as PostgreSQL counts.
pub type Micros = i64;

/// What a record says to recovery.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A transaction ended: `COMMIT`, `ROLLBACK` (also to a savepoint), or of a prepared one.
    End { xid: u32, time: Micros, committed: bool },
    /// `PREPARE TRANSACTION`.
    Prepared { xid: u32 },
    /// `pg_create_restore_point`.
    Point { name: String },
    /// Anything else.
    Other,
}

/// A record, where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub lsn: u64,
    pub xid: u32,
    pub manager: u8,
    pub what: What,
}

/// A stretch of a path: this timeline, from here on.
pub type Leg = (u32, u64);

/// All WAL along a path of timelines.
#[derive(Debug)]
pub struct Wal {
    /// Oldest first.
    pub legs: Vec<Leg>,
    pub records: Vec<Record>,
    /// Where the last segment ends.
    pub end: u64,
}

impl Wal {
    /// Reads the path to a timeline from a folder of segments and histories.
    pub fn read(folder: &Path, timeline: u32, version: u32) -> Wal {
        let legs = legs(folder, timeline);
        let first = fs::read_dir(folder).expect("the folder can be read").filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            (name.len() == 24 && name.starts_with("00000001")).then(|| number(&name))
        });
        let first = first.min().expect("timeline 1 has segments");
        let mut pages = Pages { version, first: first * SEGMENT, bytes: Vec::new() };
        for number in first.. {
            let leg = legs.iter().rev().find(|(_, begin)| begin / SEGMENT <= number).unwrap_or(&legs[0]);
            match fs::read(folder.join(name(leg.0, number))) {
                Ok(segment) => {
                    assert_eq!(segment.len() as u64, SEGMENT);
                    pages.bytes.extend(segment);
                }
                Err(_) => break,
            }
        }
        let end = pages.first + pages.bytes.len() as u64;
        Wal { records: pages.records(), legs, end }
    }

    /// Where another path parts from this one.
    pub fn parts_from(&self, other: &Wal) -> u64 {
        let same = self.legs.iter().zip(&other.legs).take_while(|(mine, theirs)| mine == theirs).count();
        let begin = |wal: &Wal| wal.legs.get(same).map_or(u64::MAX, |(_, begin)| *begin);
        begin(self).min(begin(other))
    }

    /// When the last transaction ended, in the order of the WAL.
    pub fn last_end(&self) -> Micros {
        let time = |record: &Record| match record.what {
            What::End { time, .. } => Some(time),
            _ => None,
        };
        self.records.iter().rev().find_map(time).expect("some transaction ended")
    }

    /// How many records begin before `lsn`.
    pub fn before(&self, lsn: u64) -> usize {
        self.records.partition_point(|record| record.lsn < lsn)
    }
}

/// A history has a line for each ancestor: its timeline, where it was left, and why.
fn legs(folder: &Path, timeline: u32) -> Vec<Leg> {
    let text = match timeline {
        1 => String::new(),
        _ => fs::read_to_string(folder.join(format!("{timeline:08X}.history"))).expect("there is a history"),
    };
    let mut legs = Vec::new();
    let mut begin = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut fields = line.split('\t');
        legs.push((fields.next().expect("a timeline").trim().parse().expect("a number"), begin));
        begin = lsn(fields.next().expect("where it was left"));
    }
    legs.push((timeline, begin));
    legs
}

/// The number of a segment, counted from the beginning of WAL.
fn number(name: &str) -> u64 {
    let part = |range| u64::from_str_radix(&name[range], 16).expect("hexadecimal digits");
    part(8..16) * (0x1_0000_0000 / SEGMENT) + part(16..24)
}

fn name(timeline: u32, number: u64) -> String {
    let in_log = 0x1_0000_0000 / SEGMENT;
    format!("{timeline:08X}{:08X}{:08X}", number / in_log, number % in_log)
}

/// `0/16B3A48` as a number.
pub fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').expect("an LSN has a slash");
    let part = |part| u64::from_str_radix(part, 16).expect("hexadecimal digits");
    part(high) << 32 | part(low)
}

/// A number as PostgreSQL writes an LSN.
pub fn show(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Unbroken WAL from the beginning of a segment on.
struct Pages {
    version: u32,
    first: u64,
    bytes: Vec<u8>,
}

impl Pages {
    fn at(&self, lsn: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(lsn - self.first).ok()?;
        self.bytes.get(from..from + length)
    }

    fn number<const N: usize>(&self, lsn: u64) -> Option<[u8; N]> {
        self.at(lsn, N)?.try_into().ok()
    }

    /// Where the content of the page that `lsn` begins starts; any other position stays.
    fn past_header(lsn: u64) -> u64 {
        match (lsn % SEGMENT, lsn % PAGE) {
            (0, _) => lsn + FIRST_PAGE_HEADER,
            (_, 0) => lsn + PAGE_HEADER,
            _ => lsn,
        }
    }

    /// `length` bytes of content from `lsn` on, and where they end.
    fn content(&self, lsn: u64, length: usize) -> Option<(Vec<u8>, u64)> {
        let (mut at, mut content) = (lsn, Vec::with_capacity(length));
        while content.len() < length {
            at = Self::past_header(at);
            let on_page = usize::try_from(PAGE - at % PAGE).ok()?.min(length - content.len());
            content.extend_from_slice(self.at(at, on_page)?);
            at += on_page as u64;
        }
        Some((content, at))
    }

    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut at = self.first_record();
        while let Some((record, next)) = self.record(Self::past_header(at)) {
            records.push(record);
            at = next;
        }
        records
    }

    /// The first record that begins in the first segment: one from before may end in it.
    fn first_record(&self) -> u64 {
        let header = |offset| u16::from_le_bytes(self.number(self.first + offset).expect("a page header"));
        if header(2) & GOES_ON == 0 {
            return self.first;
        }
        let rest = u32::from_le_bytes(self.number(self.first + 16).expect("a page header"));
        let (_, end) = self.content(self.first, rest as usize).expect("it ends in what is there");
        end.next_multiple_of(8)
    }

    /// The record at `lsn`, and where to look for the next.
    fn record(&self, lsn: u64) -> Option<(Record, u64)> {
        let length = u32::from_le_bytes(self.number(lsn)?) as usize;
        if length < RECORD_HEADER {
            return None;
        }
        let (bytes, end) = self.content(lsn, length)?;
        let xid = u32_at(&bytes, 4);
        let (info, manager) = (bytes[16] & 0xF0, bytes[17]);
        let next = match (manager, info) {
            (XLOG, XLOG_SWITCH) => end.next_multiple_of(SEGMENT),
            _ => end.next_multiple_of(8),
        };
        let what = what(manager, info, xid, &bytes, self.version);
        Some((Record { lsn, xid, manager, what }, next))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn what(manager: u8, info: u8, xid: u32, bytes: &[u8], version: u32) -> What {
    let main = || main_data(bytes);
    if (manager, info) == (XLOG, XLOG_RESTORE_POINT) {
        let name = &main()[8..];
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        return What::Point { name: String::from_utf8_lossy(&name[..length]).into_owned() };
    }
    match (manager, info & 0x70) {
        (XACT, 0x00 | 0x20) => What::End { xid, time: i64_at(main(), 0), committed: info & 0x70 == 0 },
        (XACT, 0x10) => What::Prepared { xid: u32_at(main(), 8) },
        (XACT, 0x30 | 0x40) => {
            let (main, committed) = (main(), info & 0x70 == 0x30);
            What::End { xid: prepared_xid(main, bytes[16], version), time: i64_at(main, 0), committed }
        }
        _ => What::Other,
    }
}

/// The main data of a record without blocks: behind the record's header, and a short one of its own.
fn main_data(bytes: &[u8]) -> &[u8] {
    let mut at = RECORD_HEADER;
    loop {
        match bytes[at] {
            253 => at += 3,
            252 => at += 5,
            255 => return &bytes[at + 2..],
            254 => return &bytes[at + 5..],
            other => panic!("header {other} in a record without blocks"),
        }
    }
}

/// The number of a prepared transaction, behind all else that a commit or abort record may tell.
fn prepared_xid(main: &[u8], info: u8, version: u32) -> u32 {
    // `xl_xact_stats_item` has a longer number of its object since PostgreSQL 18.
    let stats_item = if version >= 18 { 16 } else { 12 };
    assert_ne!(info & 0x80, 0, "the end of a prepared transaction has more to tell");
    let told = u32_at(main, 8);
    let mut at = 12;
    let lists = [(1 << 1, 4), (1 << 2, 12), (1 << 8, stats_item), (1 << 3, 16)];
    if told & 1 != 0 {
        at += 8;
    }
    for (flag, size) in lists {
        if told & flag != 0 {
            at += 4 + u32_at(main, at) as usize * size;
        }
    }
    assert_ne!(told & 1 << 4, 0, "it names the prepared transaction");
    u32_at(main, at)
}
