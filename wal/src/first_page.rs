//! The header of a segment's first page: what it must say, and what it tells of all pages of the cluster.

use crate::page::PageHeader;
use crate::refusal::Reason;
use crate::{PgVersion, SegmentName, SegmentSize, SystemId};

/// What all segments of a cluster have in common, as a long page header tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) version: PgVersion,
    pub(crate) system_id: SystemId,
    pub(crate) page_size: usize,
}

/// Checks the first page header of a segment; the version may be one that this crate doesn't know.
pub(crate) fn check_first_header(
    name: SegmentName,
    size: SegmentSize,
    system_id: Option<SystemId>,
    bytes: &[u8],
) -> Result<(PageHeader, Option<Format>), Reason> {
    let too_short = || Reason::Length { found: bytes.len() as u64, expected: size.bytes() };
    let header = PageHeader::parse(bytes).ok_or_else(too_short)?;
    let version = PgVersion::from_page_magic(header.magic);
    let Some(long) = header.long else {
        // A page of some other kind has no known magic number either, and that says more.
        return Err(version.map_or(Reason::Magic(header.magic), |_| Reason::PageFlags(header.flags)));
    };
    if header.address != name.start(size) {
        return Err(Reason::PageAddress { found: header.address });
    }
    if header.timeline == 0 || header.timeline > name.timeline.get() {
        return Err(Reason::Timeline { found: header.timeline, named: name.timeline });
    }
    if let Some(expected) = system_id.filter(|expected| *expected != long.system_id) {
        return Err(Reason::SystemId { found: long.system_id, expected });
    }
    if u64::from(long.segment_size) != size.bytes() {
        return Err(Reason::SegmentSize { found: long.segment_size, expected: size.bytes() });
    }
    // What "configure --with-wal-blocksize" takes, in kilobytes: 1, 2, 4, 8, 16, 32, 64.
    if !(long.page_size.is_power_of_two() && (1 << 10..=1 << 16).contains(&long.page_size)) {
        return Err(Reason::PageSize(long.page_size));
    }
    let page_size = long.page_size as usize;
    Ok((header, version.map(|version| Format { version, system_id: long.system_id, page_size })))
}
