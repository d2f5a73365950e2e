//! Why a piece of WAL is refused, and where.

use std::fmt;

use crate::record::rmgr;
use crate::{Lsn, PgVersion, SegmentName, SegmentSize, SystemId, TimelineId};

/// A piece of WAL that is not as it must be.
///
/// Its message names the segment, the offset and the LSN, says what was found and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The segment.
    pub segment: SegmentName,
    /// Where in the segment, in bytes: the page or the record at fault.
    pub offset: u64,
    /// The same place as an LSN.
    pub lsn: Lsn,
    /// What is wrong there.
    pub reason: Reason,
}

impl Refusal {
    pub(crate) fn new(segment: SegmentName, size: SegmentSize, lsn: Lsn, reason: Reason) -> Refusal {
        Refusal { segment, offset: lsn.0 % size.bytes(), lsn, reason }
    }
}

impl Refusal {
    /// Where in the segment, and what: for messages that name the segment themselves and say what to do.
    pub fn clause(&self) -> String {
        format!("offset {} (LSN {}): {}", self.offset, self.lsn, self.reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WAL segment {}, {}; hint: {}", self.segment, self.clause(), self.reason.hint())
    }
}

impl std::error::Error for Refusal {}

/// What is wrong with a piece of WAL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file isn't as long as a segment.
    #[error("the file has {found} bytes, a segment of this cluster has {expected}")]
    Length {
        /// Bytes in the file.
        found: u64,
        /// Bytes in a segment.
        expected: u64,
    },
    /// No cluster with this segment size has a segment of this name.
    #[error("no segment has this name where segments have {0} bytes")]
    Name(u64),
    /// The page doesn't begin with the magic number of a known version.
    #[error("the page begins with 0x{0:04X}, which no version of PostgreSQL from 14 to 18 writes")]
    Magic(u16),
    /// The page was written by another version than the segment's first page.
    #[error("the page begins with 0x{found:04X}, the segment's first page with 0x{expected:04X}")]
    OtherMagic {
        /// On this page.
        found: u16,
        /// On the first.
        expected: u16,
    },
    /// Flags that don't exist, don't go together, or don't belong on this page.
    #[error("the page header's flags 0x{0:04X} can't be on this page")]
    PageFlags(u16),
    /// The page belongs elsewhere.
    #[error("the page says that it is the one at {found}")]
    PageAddress {
        /// What the header says.
        found: Lsn,
    },
    /// The page is of a later timeline than the file.
    #[error("the page is of timeline {found}, the file of timeline {named}")]
    Timeline {
        /// What the header says.
        found: u32,
        /// What the name says.
        named: TimelineId,
    },
    /// The page is of an earlier timeline than a page before it.
    #[error("the page is of timeline {found}, a page before it of timeline {before}")]
    TimelineGoesBack {
        /// What the header says.
        found: u32,
        /// What an earlier page says.
        before: u32,
    },
    /// The file has another timeline's WAL from its first to its last byte.
    #[error("all of it is WAL of timeline {found}, the file of timeline {named}")]
    OtherTimeline {
        /// What the last page says.
        found: u32,
        /// What the name says.
        named: TimelineId,
    },
    /// Another cluster's WAL.
    #[error("it is WAL of the cluster with system identifier {found}, not {expected}")]
    SystemId {
        /// What the long page header says.
        found: SystemId,
        /// The cluster's.
        expected: SystemId,
    },
    /// The long page header tells another segment size.
    #[error("the page header says that segments have {found} bytes, they have {expected}")]
    SegmentSize {
        /// What the long page header says.
        found: u32,
        /// The cluster's.
        expected: u64,
    },
    /// The long page header tells a page size that PostgreSQL doesn't have, or another one than before.
    #[error("the page header says that WAL pages have {0} bytes, which can't be")]
    PageSize(u32),
    /// The page doesn't go on with the record that ran into it, or not with as much of it as is missing.
    #[error("{expected} bytes of the record at {record} are missing, the page goes on with {found}")]
    Continuation {
        /// Where that record starts; [`Lsn::INVALID`] for one that starts in an earlier segment.
        record: Lsn,
        /// Bytes that the page header tells.
        found: u32,
        /// Bytes missing.
        expected: u32,
    },
    /// The page goes on with a record, but none runs into it.
    #[error("the page begins with {0} bytes of a record that doesn't run into it")]
    UnexpectedContinuation(u32),
    /// The record's length can't be.
    #[error("the record's length of {0} bytes can't be")]
    RecordLength(u32),
    /// The record's link backwards doesn't point at the record before it.
    #[error("the record's link backwards is {found}, it should be {}", expected.map_or_else(|| "before the segment".to_owned(), |lsn| lsn.to_string()))]
    Previous {
        /// What the record says.
        found: Lsn,
        /// Where the record before starts; `None` if that lies in an earlier segment.
        expected: Option<Lsn>,
    },
    /// No such resource manager.
    #[error("the record's resource manager {0} doesn't exist")]
    ResourceManager(u8),
    /// The checksum doesn't match: at least one byte has changed.
    #[error("the record's CRC-32C is {found:08X}, its bytes give {computed:08X}")]
    Crc {
        /// In the record.
        found: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// A page that overwrites a record cut off by a crash doesn't begin by naming that record, or the other way round.
    #[error(
        "the page header and the first record disagree on whether a record cut off by a crash is overwritten here, or which"
    )]
    Overwrite,
    /// The record has the right checksum, but isn't laid out as the version in the page header does it.
    #[error("the {} record (info 0x{info:02X}) isn't laid out as {version} does it", rmgr::name(*rmgr))]
    Layout {
        /// The resource manager.
        rmgr: u8,
        /// What it is to the resource manager.
        info: u8,
        /// The version.
        version: PgVersion,
    },
    /// The WAL ends before the end of the segment (or of the timeline) without a switch record: only zeros follow.
    #[error("the WAL ends here, {missing} bytes before it should: only zeros follow")]
    Ends {
        /// Bytes from here to where the WAL should end.
        missing: u64,
    },
    /// This isn't the WAL that comes next, or reading didn't start at the beginning of a segment.
    #[error("the WAL from {expected} on should come next")]
    OutOfOrder {
        /// What comes next.
        expected: Lsn,
    },
}

impl Reason {
    fn hint(&self) -> &'static str {
        match self {
            Reason::Length { .. } | Reason::Name(_) | Reason::SegmentSize { .. } => {
                "a file that was cut short or belongs to another cluster is not archived; compare with \"SHOW wal_segment_size\""
            }
            Reason::Magic(_) => {
                "for a server that encrypts its WAL, or a version this program doesn't know yet, set archive-check = \"header\""
            }
            Reason::SystemId { .. } => {
                "the archive belongs to another cluster; after initdb or pg_upgrade run \"highwater adopt\""
            }
            Reason::Ends { .. } => {
                "the file is damaged, unless this timeline ended here when a standby was promoted; compare with pg_waldump, and set archive-check = \"header\" to archive it as it is"
            }
            Reason::Layout { .. } => {
                "the server isn't a plain PostgreSQL; set archive-check = \"header\" to archive its WAL all the same"
            }
            Reason::OutOfOrder { .. } => {
                "this is a mistake in the program that reads the WAL; please report it"
            }
            _ => {
                "the file is damaged or not what its name says; PostgreSQL keeps it until it is archived, so compare it with pg_waldump and check disk and memory"
            }
        }
    }
}
