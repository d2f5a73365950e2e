//! Rows: what the records of heaps say (`heapam_xlog.h`, PostgreSQL 14–18).

use super::Change;
use crate::body::RecordBody;
use crate::bytes::Fields;
use crate::kind::Kind;
use crate::records::RawRecord;

/// Opcodes of [`crate::rmgr::HEAP`].
pub(crate) mod opcode {
    pub(crate) const INSERT: u8 = 0x00;
    pub(crate) const DELETE: u8 = 0x10;
    pub(crate) const UPDATE: u8 = 0x20;
    pub(crate) const TRUNCATE: u8 = 0x30;
    pub(crate) const HOT_UPDATE: u8 = 0x40;
    pub(crate) const CONFIRM: u8 = 0x50;
    pub(crate) const INPLACE: u8 = 0x70;
    /// The opcode's bits in `xl_info`.
    pub(crate) const MASK: u8 = 0x70;
    /// The page has nothing but what the record puts on it.
    pub(crate) const INIT_PAGE: u8 = 0x80;

    /// Of [`crate::rmgr::HEAP2`].
    pub(crate) const MULTI_INSERT: u8 = 0x50;
}

/// The heap's page in all of these records; an update's new row lies there.
pub(crate) const HEAP_BLOCK: u8 = 0;

const INSERT_IS_SPECULATIVE: u8 = 1 << 2;
const DELETE_IS_SUPER: u8 = 1 << 3;

/// Where the flags stand in `xl_heap_insert`, behind the row's offset number.
const INSERT_FLAGS: usize = 2;
/// Where the flags stand in `xl_heap_delete`, behind transaction, offset number and more flags.
const DELETE_FLAGS: usize = 7;

/// What a record of [`crate::rmgr::HEAP`] does.
pub(super) fn changes(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    let opcode = record.header.info & opcode::MASK;
    let (mut inserted, mut updated, mut deleted) = (0, 0, 0);
    let count = match opcode {
        opcode::INSERT | opcode::CONFIRM => &mut inserted,
        opcode::UPDATE | opcode::HOT_UPDATE => &mut updated,
        opcode::DELETE => &mut deleted,
        opcode::TRUNCATE => {
            if let Kind::Truncate { database, relations } = record.kind()? {
                each(Change::Truncated { database, relations });
            }
            return Some(());
        }
        _ => return Some(()),
    };
    *count = 1;
    let parts = record.parts()?;
    let counts = match opcode {
        opcode::INSERT => parts.main().get(INSERT_FLAGS)? & INSERT_IS_SPECULATIVE == 0,
        opcode::DELETE => parts.main().get(DELETE_FLAGS)? & DELETE_IS_SUPER == 0,
        _ => true,
    };
    let relation = heap(&parts)?;
    if counts {
        each(Change::Rows { relation, inserted, updated, deleted });
    }
    Some(())
}

/// What a record of [`crate::rmgr::HEAP2`] does.
pub(super) fn more_changes(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    if record.header.info & opcode::MASK != opcode::MULTI_INSERT {
        return Some(());
    }
    let parts = record.parts()?;
    let mut main = Fields(parts.main());
    // One byte of flags and one of padding.
    let _flags = main.u16()?;
    let inserted = u32::from(main.u16()?);
    each(Change::Rows { relation: heap(&parts)?, inserted, updated: 0, deleted: 0 });
    Some(())
}

fn heap(parts: &RecordBody<'_>) -> Option<crate::RelationFile> {
    parts.blocks().next().filter(|block| block.id == HEAP_BLOCK).map(|block| block.relation)
}
