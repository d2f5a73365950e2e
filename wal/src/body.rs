//! What follows a record's header: references to blocks, and data (`xlogrecord.h`, PostgreSQL 14–18).

use crate::PgVersion;
use crate::bytes::Fields;
use crate::image::{Image, ImageHeader};

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
    /// The full-page image.
    pub image: Option<Image<'a>>,
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
        let [a, b, c, d, e, f, g, h, i, j, k, l] = fields.array::<{ RelationFile::LENGTH }>()?;
        let number = u32::from_le_bytes;
        Some(RelationFile {
            tablespace: number([a, b, c, d]),
            database: number([e, f, g, h]),
            relation: number([i, j, k, l]),
        })
    }
}

/// The parts of a record behind its header. Nothing is copied or allocated.
#[derive(Clone, Copy, Debug)]
pub struct RecordBody<'a> {
    version: PgVersion,
    headers: &'a [u8],
    /// What the headers announce, but the main data.
    data: &'a [u8],
    main: &'a [u8],
    image_length: usize,
    /// The number and the relation of the first block.
    first: Option<(u8, RelationFile)>,
}

impl<'a> RecordBody<'a> {
    /// Takes the body of a record apart (`DecodeXLogRecord`); `None` where its lengths don't add up.
    #[inline]
    pub fn parse(version: PgVersion, body: &'a [u8]) -> Option<RecordBody<'a>> {
        let mut headers = Headers::new(version, body);
        let (mut data_length, mut main_length, mut image_length) = (0_usize, 0, 0);
        let mut first = None;
        while headers.fields.0.len() > data_length {
            match headers.next()? {
                Header::Block(block) => {
                    let image = block.image_length();
                    image_length += image;
                    data_length += image + block.data_length;
                    first.get_or_insert((block.id, block.relation));
                }
                Header::Other => {}
                Header::Main(length) => {
                    main_length = length;
                    break;
                }
            }
        }
        let (headers, rest) = body.split_at(body.len() - headers.fields.0.len());
        let (data, main) = rest.split_at_checked(data_length)?;
        (main.len() == main_length).then_some(RecordBody {
            version,
            headers,
            data,
            main,
            image_length,
            first,
        })
    }

    /// The blocks it is about.
    pub fn blocks(&self) -> impl Iterator<Item = BlockRef<'a>> + use<'a> {
        let mut headers = Headers::new(self.version, self.headers);
        let mut data = Fields(self.data);
        std::iter::from_fn(move || {
            let block = loop {
                match headers.next()? {
                    Header::Block(block) => break block,
                    Header::Other => {}
                    Header::Main(_) => return None,
                }
            };
            let BlockHeader { id, relation, fork, block, image, data_length } = block;
            let image = match image {
                None => None,
                Some(header) => Some(Image::new(header, data.take(header.length())?)),
            };
            Some(BlockRef { id, relation, fork, block, image, data: data.take(data_length)? })
        })
    }

    /// The relation that the block with this number is of, where that is the first.
    pub(crate) fn relation_of_first(&self, id: u8) -> Option<RelationFile> {
        self.first.filter(|(first, _)| *first == id).map(|(_, relation)| relation)
    }

    /// What the resource manager has written that belongs to no block.
    pub fn main(&self) -> &'a [u8] {
        self.main
    }

    /// Bytes of full-page images.
    pub fn image_length(&self) -> usize {
        self.image_length
    }
}

/// The lengths that a body can have that begins with these bytes, by the headers in it, which tell how much data
/// follows, but not which of them is the last.
pub(crate) fn possible_lengths(version: PgVersion, beginning: &[u8]) -> Vec<usize> {
    let mut headers = Headers::new(version, beginning);
    let mut data_length: usize = 0;
    let mut lengths = vec![0];
    while let Some(header) = headers.next() {
        data_length += match &header {
            Header::Block(block) => block.image_length() + block.data_length,
            Header::Other => 0,
            Header::Main(length) => *length,
        };
        lengths.push(beginning.len() - headers.fields.0.len() + data_length);
        if matches!(header, Header::Main(_)) {
            break;
        }
    }
    lengths
}

const MAX_BLOCK_ID: u8 = 32;
const ID_DATA_SHORT: u8 = 255;
const ID_DATA_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOPLEVEL_XID: u8 = 252;
const BLOCK_FORK_MASK: u8 = 0x0F;
const BLOCK_HAS_IMAGE: u8 = 0x10;
const BLOCK_SAME_RELATION: u8 = 0x80;

/// A block reference's header: lengths; image and data follow behind all headers.
struct BlockHeader {
    id: u8,
    relation: RelationFile,
    fork: u8,
    block: u32,
    image: Option<ImageHeader>,
    data_length: usize,
}

impl BlockHeader {
    fn image_length(&self) -> usize {
        self.image.map_or(0, |image| image.length())
    }
}

/// The relation of the first block that a record is about; for records of heaps, of all its blocks. Nothing else of
/// the body is looked at.
#[inline]
pub(crate) fn first_relation(version: PgVersion, body: &[u8]) -> Option<RelationFile> {
    first_block(version, body).map(|(relation, _)| relation)
}

/// The relation of the first block, and the main data where there is no other header than these two; else `None`.
#[inline]
pub(crate) fn only_block(version: PgVersion, body: &[u8]) -> Option<(RelationFile, &[u8])> {
    let (relation, rest) = first_block(version, body)?;
    let [_, _, _, _, ID_DATA_SHORT, length, data @ ..] = rest else { return None };
    Some((relation, data.get(data.len().checked_sub(usize::from(*length))?..)?))
}

/// The relation of the first block, and what follows, from the block's number on.
#[inline]
fn first_block(version: PgVersion, body: &[u8]) -> Option<(RelationFile, &[u8])> {
    // Block references come before all other headers.
    let [0..=MAX_BLOCK_ID, fork_flags, _, _, rest @ ..] = body else { return None };
    let mut fields = Fields(rest);
    if fork_flags & BLOCK_HAS_IMAGE != 0 {
        ImageHeader::read(version, &mut fields)?;
    }
    if fork_flags & BLOCK_SAME_RELATION != 0 {
        return None;
    }
    Some((RelationFile::read(&mut fields)?, fields.0))
}

/// Reads the headers at the beginning of a body.
struct Headers<'a> {
    version: PgVersion,
    fields: Fields<'a>,
    /// The relation of the block before, which the next one may share.
    relation: Option<RelationFile>,
}

/// One of the headers of a body.
enum Header {
    Block(BlockHeader),
    /// Something for logical decoding.
    Other,
    /// The length of the main data; it is always the last.
    Main(usize),
}

impl<'a> Headers<'a> {
    fn new(version: PgVersion, body: &'a [u8]) -> Headers<'a> {
        Headers { version, fields: Fields(body), relation: None }
    }

    /// Reads one header; `None` where there is none that PostgreSQL would have written.
    // Inlined, what it returns never goes through memory: reading WAL with all bodies takes an eighth less time.
    #[inline(always)]
    fn next(&mut self) -> Option<Header> {
        match self.fields.u8()? {
            ID_DATA_SHORT => self.fields.u8().map(|length| Header::Main(usize::from(length))),
            ID_DATA_LONG => self.fields.u32().map(|length| Header::Main(length as usize)),
            ID_ORIGIN => self.fields.u16().map(|_| Header::Other),
            ID_TOPLEVEL_XID => self.fields.u32().map(|_| Header::Other),
            id if id <= MAX_BLOCK_ID => self.block(id).map(Header::Block),
            _ => None,
        }
    }

    /// The rest of a block reference's header.
    #[inline(always)]
    fn block(&mut self, id: u8) -> Option<BlockHeader> {
        let fields = &mut self.fields;
        let [fork_flags, data_length @ ..] = fields.array::<3>()?;
        let data_length = usize::from(u16::from_le_bytes(data_length));
        let image = if fork_flags & BLOCK_HAS_IMAGE == 0 {
            None
        } else {
            Some(ImageHeader::read(self.version, fields)?)
        };
        if fork_flags & BLOCK_SAME_RELATION == 0 {
            self.relation = Some(RelationFile::read(fields)?);
        }
        let (relation, fork) = (self.relation?, fork_flags & BLOCK_FORK_MASK);
        Some(BlockHeader { id, relation, fork, block: fields.u32()?, image, data_length })
    }
}
