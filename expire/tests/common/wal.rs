//! WAL as a server lays it out, small enough for a year of it: each segment holds commits and a switch.

use highwater_wal::{
    Check, Lsn, PgVersion, SegmentKind, SegmentName, SegmentSize, Summary, SystemId, TimelineId, Timestamp,
    check_segment,
};

pub const SYSTEM: SystemId = SystemId(7_000_000_000_000_000_001);

const RECORD_HEADER_BYTES: usize = 24;
const LONG_PAGE_HEADER_BYTES: u64 = 40;

pub fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// A commit in a made-up segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    pub lsn: Lsn,
    pub time: Timestamp,
}

/// A segment with commits at these times, and what its summary says. It ends in a switch.
pub fn segment(
    system: SystemId,
    timeline: TimelineId,
    number: u64,
    times: &[Timestamp],
) -> (SegmentName, Vec<u8>, Summary, Vec<Commit>) {
    let name = SegmentName::from_number(timeline, number, size());
    let start = name.start(size());
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&PgVersion::V15.page_magic().to_le_bytes());
    bytes.extend_from_slice(&2_u16.to_le_bytes());
    bytes.extend_from_slice(&timeline.get().to_le_bytes());
    bytes.extend_from_slice(&start.0.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&system.0.to_le_bytes());
    bytes.extend_from_slice(&(size().bytes() as u32).to_le_bytes());
    bytes.extend_from_slice(&8192_u32.to_le_bytes());
    assert_eq!(bytes.len() as u64, LONG_PAGE_HEADER_BYTES);
    let mut commits = Vec::new();
    let mut previous = Lsn(start.0 - 64);
    for time in times {
        let lsn = start + bytes.len() as u64;
        let mut body = vec![255, 8];
        body.extend_from_slice(&time.0.to_le_bytes());
        push(&mut bytes, previous, 1, 0, 700 + number as u32, &body);
        commits.push(Commit { lsn, time: *time });
        previous = lsn;
    }
    push(&mut bytes, previous, 0, 0x40, 0, &[]);
    assert!(bytes.len() < 8192, "all on the first page");
    bytes.resize(size().bytes() as usize, 0);
    let summary =
        check_segment(name, size(), Some(system), &bytes, Check::Full, SegmentKind::Complete).unwrap();
    (name, bytes, summary, commits)
}

fn push(bytes: &mut Vec<u8>, previous: Lsn, rmgr: u8, info: u8, xid: u32, body: &[u8]) {
    let length = (RECORD_HEADER_BYTES + body.len()) as u32;
    let mut head = Vec::new();
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&xid.to_le_bytes());
    head.extend_from_slice(&previous.0.to_le_bytes());
    head.extend_from_slice(&[info, rmgr, 0, 0]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(body), &head);
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
