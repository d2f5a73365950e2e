//! WAL pages: the versions that write them and the headers that stand in front of them
//! (`xlog_internal.h`, PostgreSQL 14–18).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bytes::Fields;
use crate::{Lsn, SystemId};

/// A page begins with the rest of a record from the page before (`XLP_FIRST_IS_CONTRECORD`).
pub const FIRST_IS_CONTRECORD: u16 = 0x0001;
/// The header is a long one (`XLP_LONG_HEADER`): the first page of a segment.
pub const LONG_HEADER: u16 = 0x0002;
/// The record that ran into this page was given up after a crash (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`).
pub const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
/// Every flag there is (`XLP_ALL_FLAGS`): the three above, and one that means nothing to recovery (`XLP_BKP_REMOVABLE`).
pub const ALL_FLAGS: u16 = 0x000F;

/// Length of a short page header in bytes (`SizeOfXLogShortPHD`).
pub const SHORT_HEADER_LENGTH: usize = 24;
/// Length of a long page header in bytes (`SizeOfXLogLongPHD`).
pub const LONG_HEADER_LENGTH: usize = 40;

/// A major version of PostgreSQL whose WAL this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PgVersion {
    /// PostgreSQL 14.
    V14,
    /// PostgreSQL 15.
    V15,
    /// PostgreSQL 16.
    V16,
    /// PostgreSQL 17.
    V17,
    /// PostgreSQL 18.
    V18,
}

impl PgVersion {
    /// All of them, oldest first.
    pub const ALL: [PgVersion; 5] =
        [PgVersion::V14, PgVersion::V15, PgVersion::V16, PgVersion::V17, PgVersion::V18];

    /// What its pages begin with (`XLOG_PAGE_MAGIC`).
    pub fn page_magic(self) -> u16 {
        match self {
            PgVersion::V14 => 0xD10D,
            PgVersion::V15 => 0xD110,
            PgVersion::V16 => 0xD113,
            PgVersion::V17 => 0xD116,
            PgVersion::V18 => 0xD118,
        }
    }

    /// The version whose pages begin with `magic`, if it is one of these.
    pub fn from_page_magic(magic: u16) -> Option<PgVersion> {
        PgVersion::ALL.into_iter().find(|version| version.page_magic() == magic)
    }

    /// Its number, as in 15.
    pub fn major(self) -> u32 {
        match self {
            PgVersion::V14 => 14,
            PgVersion::V15 => 15,
            PgVersion::V16 => 16,
            PgVersion::V17 => 17,
            PgVersion::V18 => 18,
        }
    }

    /// The version of this number, if it is one of these.
    pub fn from_major(major: u32) -> Option<PgVersion> {
        PgVersion::ALL.into_iter().find(|version| version.major() == major)
    }
}

impl std::fmt::Display for PgVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgreSQL {}", self.major())
    }
}

impl Serialize for PgVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.major())
    }
}

impl<'de> Deserialize<'de> for PgVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PgVersion, D::Error> {
        let major = u32::deserialize(deserializer)?;
        PgVersion::from_major(major)
            .ok_or_else(|| serde::de::Error::custom(format!("PostgreSQL {major} is not one of 14 to 18")))
    }
}

/// What stands at the beginning of a WAL page. Nothing of it has been checked: any bytes make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Which version wrote it (`xlp_magic`).
    pub magic: u16,
    /// Flags (`xlp_info`).
    pub flags: u16,
    /// The timeline of the first record that starts on the page (`xlp_tli`); 0 in a page never written.
    pub timeline: u32,
    /// The LSN of the page's first byte (`xlp_pageaddr`).
    pub address: Lsn,
    /// Bytes of a record from the page before that are still to come, on this page and on later ones (`xlp_rem_len`).
    pub remaining: u32,
    /// The long header's fields, where the flags say that it is one.
    pub long: Option<LongHeader>,
}

/// What the first page of a segment tells besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// The cluster (`xlp_sysid`).
    pub system_id: SystemId,
    /// Bytes in a segment (`xlp_seg_size`).
    pub segment_size: u32,
    /// Bytes in a page (`xlp_xlog_blcksz`).
    pub page_size: u32,
}

impl PageHeader {
    /// The header at the beginning of `page`; `None` where there are fewer bytes than it has.
    pub fn parse(page: &[u8]) -> Option<PageHeader> {
        let mut fields = Fields(page);
        let (magic, flags, timeline) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (address, remaining) = (Lsn(fields.u64()?), fields.u32()?);
        let _padding = fields.u32()?;
        let long = if flags & LONG_HEADER == 0 {
            None
        } else {
            let system_id = SystemId(fields.u64()?);
            Some(LongHeader { system_id, segment_size: fields.u32()?, page_size: fields.u32()? })
        };
        Some(PageHeader { magic, flags, timeline, address, remaining, long })
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        if self.long.is_some() { LONG_HEADER_LENGTH } else { SHORT_HEADER_LENGTH }
    }

    /// Whether `flag` is set.
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_tells_the_version() {
        for version in PgVersion::ALL {
            assert_eq!(PgVersion::from_page_magic(version.page_magic()), Some(version));
            assert_eq!(PgVersion::from_major(version.major()), Some(version));
            let json = serde_json::to_string(&version).unwrap();
            assert_eq!(json, version.major().to_string());
            assert_eq!(serde_json::from_str::<PgVersion>(&json).unwrap(), version);
        }
        assert_eq!(PgVersion::from_page_magic(0xD106), None, "PostgreSQL 13");
        assert!(serde_json::from_str::<PgVersion>("13").is_err());
    }

    #[test]
    fn headers_are_read_field_by_field() {
        let mut page = Vec::new();
        page.extend_from_slice(&0xD110_u16.to_le_bytes());
        page.extend_from_slice(&(LONG_HEADER | FIRST_IS_CONTRECORD).to_le_bytes());
        page.extend_from_slice(&7_u32.to_le_bytes());
        page.extend_from_slice(&0x1_0200_0000_u64.to_le_bytes());
        page.extend_from_slice(&99_u32.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(&1234_u64.to_le_bytes());
        page.extend_from_slice(&(16_u32 << 20).to_le_bytes());
        page.extend_from_slice(&8192_u32.to_le_bytes());
        let header = PageHeader::parse(&page).unwrap();
        assert_eq!((header.magic, header.timeline, header.remaining), (0xD110, 7, 99));
        assert_eq!((header.address, header.length()), (Lsn(0x1_0200_0000), LONG_HEADER_LENGTH));
        let long = LongHeader { system_id: SystemId(1234), segment_size: 16 << 20, page_size: 8192 };
        assert_eq!(header.long, Some(long));
        assert_eq!(PageHeader::parse(&page[..39]), None);
        page[2] = 0;
        assert_eq!(PageHeader::parse(&page[..24]).unwrap().length(), SHORT_HEADER_LENGTH);
        assert_eq!(PageHeader::parse(&page[..23]), None);
    }
}
