//! WAL records: their header, their checksum and who writes them (`xlogrecord.h`, PostgreSQL 14–18).

use crate::Lsn;

/// Length of a record's header in bytes (`SizeOfXLogRecord`); the shortest record is just that.
pub const RECORD_HEADER_LENGTH: usize = 24;

/// The longest record that PostgreSQL can read back, in bytes (`MaxAllocSize`; 16 and later write at most 1020 MiB).
pub const MAX_RECORD_LENGTH: u32 = 0x3FFF_FFFF;

/// Where records and their continuations begin: at multiples of this many bytes (`MAXIMUM_ALIGNOF`).
pub(crate) const ALIGNMENT: usize = 8;

/// Numbers of the resource managers whose records this crate decodes (`rmgrlist.h`).
pub mod rmgr {
    /// Checkpoints, switches, restore points (`RM_XLOG_ID`).
    pub const XLOG: u8 = 0;
    /// Commits and aborts (`RM_XACT_ID`).
    pub const TRANSACTION: u8 = 1;
    /// Relation files (`RM_SMGR_ID`).
    pub const STORAGE: u8 = 2;
    /// Databases (`RM_DBASE_ID`).
    pub const DATABASE: u8 = 4;
    /// Tablespaces (`RM_TBLSPC_ID`).
    pub const TABLESPACE: u8 = 5;
    /// Which files the relations have whose files `pg_class` can't tell (`RM_RELMAP_ID`).
    pub const RELATION_MAP: u8 = 7;
    /// What a standby must know of running transactions (`RM_STANDBY_ID`).
    pub const STANDBY: u8 = 8;
    /// Tables, what didn't fit into the first (`RM_HEAP2_ID`).
    pub const HEAP2: u8 = 9;
    /// Tables (`RM_HEAP_ID`).
    pub const HEAP: u8 = 10;

    const NAMES: [&str; 22] = [
        "XLOG",
        "Transaction",
        "Storage",
        "CLOG",
        "Database",
        "Tablespace",
        "MultiXact",
        "RelMap",
        "Standby",
        "Heap2",
        "Heap",
        "Btree",
        "Hash",
        "Gin",
        "Gist",
        "Sequence",
        "SPGist",
        "BRIN",
        "CommitTs",
        "ReplicationOrigin",
        "Generic",
        "LogicalMessage",
    ];

    /// The first number that an extension can take (`RM_MIN_CUSTOM_ID`, PostgreSQL 15 and later).
    const FIRST_CUSTOM: u8 = 128;

    /// Whether a server of this version can have written a record of this resource manager (`RmgrIdIsValid`).
    pub fn is_valid(number: u8, version: crate::PgVersion) -> bool {
        usize::from(number) < NAMES.len() || (number >= FIRST_CUSTOM && version >= crate::PgVersion::V15)
    }

    /// The name that `pg_waldump` shows; extensions' are `custom128` to `custom255`.
    pub fn name(number: u8) -> std::borrow::Cow<'static, str> {
        match NAMES.get(usize::from(number)) {
            Some(name) => std::borrow::Cow::Borrowed(name),
            None => std::borrow::Cow::Owned(format!("custom{number:03}")),
        }
    }
}

/// A record's header (`XLogRecord`). Nothing of it has been checked: any bytes make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Length of the whole record in bytes, header included (`xl_tot_len`).
    pub length: u32,
    /// The transaction that wrote it, 0 for none (`xl_xid`).
    pub xid: u32,
    /// Where the record before it starts (`xl_prev`).
    pub previous: Lsn,
    /// What it is, to its resource manager: the high four bits of `xl_info`.
    pub info: u8,
    /// Its resource manager (`xl_rmid`).
    pub rmgr: u8,
    /// CRC-32C of the body, then of the header up to here (`xl_crc`).
    pub crc: u32,
}

/// The CRC-32C of a record: of its body, then of its header up to where the checksum stands.
pub(crate) fn record_crc(body_crc: u32, header: &[u8; RECORD_HEADER_LENGTH]) -> u32 {
    crc32c::crc32c_append(body_crc, &header[..CRC_OFFSET])
}

/// Where the checksum lies in the header; the bytes before it are checksummed.
const CRC_OFFSET: usize = 20;

impl RecordHeader {
    /// The header whose bytes these are.
    pub fn parse(bytes: &[u8; RECORD_HEADER_LENGTH]) -> RecordHeader {
        let [
            a0,
            a1,
            a2,
            a3,
            b0,
            b1,
            b2,
            b3,
            c0,
            c1,
            c2,
            c3,
            c4,
            c5,
            c6,
            c7,
            info,
            rmgr,
            _,
            _,
            d0,
            d1,
            d2,
            d3,
        ] = *bytes;
        RecordHeader {
            length: u32::from_le_bytes([a0, a1, a2, a3]),
            xid: u32::from_le_bytes([b0, b1, b2, b3]),
            previous: Lsn(u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7])),
            // The low bits are XLogInsert's own and mean nothing to the resource manager.
            info: info & 0xF0,
            rmgr,
            crc: u32::from_le_bytes([d0, d1, d2, d3]),
        }
    }
}
