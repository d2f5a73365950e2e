//! Rows: what the records of heaps say (`heapam_xlog.h`, PostgreSQL 14–18).

use super::Change;
use crate::body::{RelationFile, first_relation, only_block};
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

/// What a record of [`crate::rmgr::HEAP`] does. Of updates only the block is looked at.
#[inline]
pub(super) fn changes(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    let rows = |relation, inserted, updated, deleted| Change::Rows { relation, inserted, updated, deleted };
    match record.header.info & opcode::MASK {
        opcode::UPDATE | opcode::HOT_UPDATE => {
            each(rows(first_relation(record.version, record.body)?, 0, 1, 0))
        }
        opcode::CONFIRM => each(rows(first_relation(record.version, record.body)?, 1, 0, 0)),
        opcode::INSERT => {
            let (relation, flags) = relation_and_flags(record, INSERT_FLAGS)?;
            if flags & INSERT_IS_SPECULATIVE == 0 {
                each(rows(relation, 1, 0, 0));
            }
        }
        opcode::DELETE => {
            let (relation, flags) = relation_and_flags(record, DELETE_FLAGS)?;
            if flags & DELETE_IS_SUPER == 0 {
                each(rows(relation, 0, 0, 1));
            }
        }
        opcode::TRUNCATE => {
            if let Kind::Truncate { database, relations } = record.kind()? {
                each(Change::Truncated { database, relations });
            }
        }
        _ => {}
    }
    Some(())
}

/// The relation, and the byte of flags at this place in the main data.
#[inline]
fn relation_and_flags(record: &RawRecord<'_>, at: usize) -> Option<(RelationFile, u8)> {
    let (relation, main) = match only_block(record.version, record.body) {
        Some(found) => found,
        None => {
            let parts = record.parts()?;
            (parts.relation_of_first(HEAP_BLOCK)?, parts.main())
        }
    };
    Some((relation, *main.get(at)?))
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
    let relation = parts.relation_of_first(HEAP_BLOCK)?;
    each(Change::Rows { relation, inserted, updated: 0, deleted: 0 });
    Some(())
}
