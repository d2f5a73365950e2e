//! WAL records: their header, their checksum and the parts of their body (`xlogrecord.h`, PostgreSQL 14–18).

use crate::bytes::Fields;
use crate::{Lsn, PgVersion};

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
pub(crate) const CRC_OFFSET: usize = 20;

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

/// A reference to a block of a relation file in a record, with what the record says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef<'a> {
    /// Its number within the record.
    pub id: u8,
    /// The relation file.
    pub relation: RelationFile,
    /// 0 main, 1 free space map, 2 visibility map, 3 init.
    pub fork: u8,
    /// The block's number in the fork.
    pub block: u32,
    /// The full-page image as it is stored, without its hole, perhaps compressed.
    pub image: Option<&'a [u8]>,
    /// What the resource manager has written about the block.
    pub data: &'a [u8],
}

/// A relation's file: tablespace, database and file number (`RelFileLocator`, before 16 `RelFileNode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    /// OID of the tablespace; 1663 is `pg_default`.
    pub tablespace: u32,
    /// OID of the database; 0 for shared relations.
    pub database: u32,
    /// The file's number: `pg_class.relfilenode`, not the relation's OID.
    pub relation: u32,
}

impl RelationFile {
    /// Its length in WAL records, in bytes.
    pub(crate) const LENGTH: usize = 12;

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<RelationFile> {
        Some(RelationFile { tablespace: fields.u32()?, database: fields.u32()?, relation: fields.u32()? })
    }
}

/// The parts of a record behind its header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBody<'a> {
    /// The blocks it is about.
    pub blocks: Vec<BlockRef<'a>>,
    /// What else the resource manager has written.
    pub main: &'a [u8],
}

/// A block reference's header: lengths, before the data behind all headers is cut up.
struct BlockHeader {
    id: u8,
    relation: RelationFile,
    fork: u8,
    block: u32,
    image_length: Option<usize>,
    data_length: usize,
}

const MAX_BLOCK_ID: u8 = 32;
const ID_DATA_SHORT: u8 = 255;
const ID_DATA_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOPLEVEL_XID: u8 = 252;
const BLOCK_FORK_MASK: u8 = 0x0F;
const BLOCK_HAS_IMAGE: u8 = 0x10;
const BLOCK_SAME_RELATION: u8 = 0x80;
const IMAGE_HAS_HOLE: u8 = 0x01;

/// Reads the headers at the beginning of a body.
struct Headers<'a> {
    version: PgVersion,
    fields: Fields<'a>,
    blocks: Vec<BlockHeader>,
    main_length: usize,
    /// Bytes of data that the headers read so far announce.
    data_length: usize,
}

/// What the next header was.
#[derive(PartialEq)]
enum Header {
    /// That of the main data, which is always the last.
    Main,
    Other,
}

impl<'a> Headers<'a> {
    fn new(version: PgVersion, body: &'a [u8]) -> Headers<'a> {
        Headers { version, fields: Fields(body), blocks: Vec::new(), main_length: 0, data_length: 0 }
    }

    /// Reads one header; `None` where PostgreSQL would have written another.
    fn next(&mut self) -> Option<Header> {
        match self.fields.u8()? {
            id @ (ID_DATA_SHORT | ID_DATA_LONG) => {
                let short = id == ID_DATA_SHORT;
                let length = if short { u32::from(self.fields.u8()?) } else { self.fields.u32()? };
                self.main_length = usize::try_from(length).ok()?;
                self.data_length = self.data_length.checked_add(self.main_length)?;
                return Some(Header::Main);
            }
            ID_ORIGIN => drop(self.fields.u16()?),
            ID_TOPLEVEL_XID => drop(self.fields.u32()?),
            id if id <= MAX_BLOCK_ID => {
                let block = block_header(self.version, id, &mut self.fields, self.blocks.last())?;
                self.data_length += block.image_length.unwrap_or(0) + block.data_length;
                self.blocks.push(block);
            }
            _ => return None,
        }
        Some(Header::Other)
    }
}

/// The lengths that a body can have that begins with these bytes, by the headers in it, which tell how much data
/// follows, but not which of them is the last.
pub(crate) fn possible_lengths(version: PgVersion, beginning: &[u8]) -> Vec<usize> {
    let mut headers = Headers::new(version, beginning);
    let mut lengths = vec![0];
    while let Some(header) = headers.next() {
        lengths.push(beginning.len() - headers.fields.0.len() + headers.data_length);
        if header == Header::Main {
            break;
        }
    }
    lengths
}

impl<'a> RecordBody<'a> {
    /// Takes the body of a record apart (`DecodeXLogRecord`); `None` where its lengths don't add up.
    pub fn parse(version: PgVersion, body: &'a [u8]) -> Option<RecordBody<'a>> {
        let mut headers = Headers::new(version, body);
        while headers.fields.0.len() > headers.data_length {
            if headers.next()? == Header::Main {
                break;
            }
        }
        let Headers { mut fields, main_length, data_length, .. } = headers;
        if fields.0.len() != data_length {
            return None;
        }
        let mut blocks = Vec::with_capacity(headers.blocks.len());
        for BlockHeader { id, relation, fork, block, image_length, data_length } in headers.blocks {
            let image = match image_length {
                None => None,
                Some(length) => Some(fields.take(length)?),
            };
            blocks.push(BlockRef { id, relation, fork, block, image, data: fields.take(data_length)? });
        }
        Some(RecordBody { blocks, main: fields.take(main_length)? })
    }

    /// Bytes of full-page images.
    pub fn image_length(&self) -> usize {
        self.blocks.iter().filter_map(|block| block.image).map(<[u8]>::len).sum()
    }
}

fn block_header(
    version: PgVersion,
    id: u8,
    fields: &mut Fields<'_>,
    before: Option<&BlockHeader>,
) -> Option<BlockHeader> {
    let fork_flags = fields.u8()?;
    let data_length = usize::from(fields.u16()?);
    let image_length = if fork_flags & BLOCK_HAS_IMAGE == 0 {
        None
    } else {
        let (length, _hole_offset, image_info) = (fields.u16()?, fields.u16()?, fields.u8()?);
        // 14 has one flag for "compressed", later ones have one for each method.
        let compressed = image_info & if version == PgVersion::V14 { 0x02 } else { 0x1C } != 0;
        if compressed && image_info & IMAGE_HAS_HOLE != 0 {
            let _hole_length = fields.u16()?;
        }
        Some(usize::from(length))
    };
    let relation =
        if fork_flags & BLOCK_SAME_RELATION == 0 { RelationFile::read(fields)? } else { before?.relation };
    let fork = fork_flags & BLOCK_FORK_MASK;
    Some(BlockHeader { id, relation, fork, block: fields.u32()?, image_length, data_length })
}
