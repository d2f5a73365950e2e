//! What a record of a heap does to rows, with the rows as far as they are in it (`heapam_xlog.h`, PostgreSQL 14–18).

use super::RowChange;
use super::page::logged_columns;
use crate::body::{BlockRef, RecordBody};
use crate::bytes::Fields;
use crate::change::{HEAP_BLOCK, opcode};
use crate::record::{RecordHeader, rmgr};

/// What a record does to the rows of a heap.
#[derive(Debug)]
pub(super) enum Act<'a> {
    /// Nothing that matters: locks, pruning, freezing, images of pages.
    Nothing,
    /// Inserts rows, each with its offset number; columns are `None` where the record has none beside an image.
    Insert { block: u32, rows: Vec<(u16, Option<&'a [u8]>)> },
    /// Puts a new row in place of an old one; both with block and offset number.
    Update { old: (u32, u16), new: (u32, u16), logged: Option<Logged<'a>> },
    /// Deletes a row.
    Delete { block: u32, number: u16 },
    /// Overwrites the columns of a row.
    InPlace { block: u32, number: u16, columns: &'a [u8] },
}

/// The new row of an update as it is logged: without what it shares with the old one, at the beginning and the end of
/// the columns.
#[derive(Debug)]
pub(super) struct Logged<'a> {
    pub(super) prefix: usize,
    pub(super) suffix: usize,
    pub(super) columns: &'a [u8],
}

/// The old page, where an update puts the new row on another.
const OLD_BLOCK: u8 = 1;

const PREFIX_FROM_OLD: u8 = 1 << 5;
const SUFFIX_FROM_OLD: u8 = 1 << 6;

impl<'a> Act<'a> {
    /// Reads it off a record; `None` where that isn't laid out as it should be.
    pub(super) fn of(header: &RecordHeader, parts: &RecordBody<'a>) -> Option<Act<'a>> {
        let main = Fields(parts.main());
        let of_heap = |id| parts.blocks().find(move |block| block.id == id && block.fork == 0);
        match (header.rmgr, header.info & opcode::MASK) {
            (rmgr::HEAP, opcode::INSERT) => insert(main, of_heap(HEAP_BLOCK)?),
            (rmgr::HEAP, opcode::UPDATE | opcode::HOT_UPDATE) => {
                update(main, of_heap(HEAP_BLOCK)?, of_heap(OLD_BLOCK))
            }
            (rmgr::HEAP, opcode::DELETE) => delete(main, of_heap(HEAP_BLOCK)?),
            (rmgr::HEAP, opcode::INPLACE) => in_place(main, of_heap(HEAP_BLOCK)?),
            (rmgr::HEAP2, opcode::MULTI_INSERT) => {
                insert_many(main, of_heap(HEAP_BLOCK)?, header.info & opcode::INIT_PAGE != 0)
            }
            _ => Some(Act::Nothing),
        }
    }

    /// What it does to the row with this offset number on its first page.
    pub(super) fn change_of(&self, number: u16) -> Option<RowChange> {
        let (is_this, change) = match self {
            Act::Nothing | Act::InPlace { .. } => return None,
            Act::Insert { rows, .. } => (rows.iter().any(|(row, _)| *row == number), RowChange::Inserted),
            Act::Update { new: (_, row), .. } => (*row == number, RowChange::Updated),
            Act::Delete { number: row, .. } => (*row == number, RowChange::Deleted),
        };
        is_this.then_some(change)
    }
}

fn insert<'a>(mut main: Fields<'a>, heap: BlockRef<'a>) -> Option<Act<'a>> {
    let number = main.u16()?;
    let columns = if heap.data.is_empty() { None } else { Some(logged_columns(heap.data)?) };
    Some(Act::Insert { block: heap.block, rows: vec![(number, columns)] })
}

/// Rows of a multi-insert begin at even places; each has its length in front. Offset numbers are left out where the page has
/// nothing else.
fn insert_many<'a>(mut main: Fields<'a>, heap: BlockRef<'a>, is_new_page: bool) -> Option<Act<'a>> {
    let _flags = main.u16()?;
    let count = main.u16()?;
    let mut data = Fields(heap.data);
    let mut rows = Vec::with_capacity(usize::from(count).min(heap.data.len()));
    for index in 1..=count {
        let number = if is_new_page { index } else { main.u16()? };
        let columns = if heap.data.is_empty() {
            None
        } else {
            data.take((heap.data.len() - data.0.len()) % 2)?;
            let length = usize::from(data.u16()?);
            // Behind the length stands what an insertion has in front of a row, too.
            let logged = data.take(LOGGED_HEADER_LENGTH + length)?;
            Some(logged_columns(logged)?)
        };
        rows.push((number, columns));
    }
    Some(Act::Insert { block: heap.block, rows })
}

/// `SizeOfHeapHeader`
const LOGGED_HEADER_LENGTH: usize = 5;

fn update<'a>(mut main: Fields<'a>, new: BlockRef<'a>, old: Option<BlockRef<'a>>) -> Option<Act<'a>> {
    let _old_deleter = main.u32()?;
    let old_number = main.u16()?;
    let [_old_flags, flags] = main.array()?;
    let _new_deleter = main.u32()?;
    let new_number = main.u16()?;
    let logged = if new.data.is_empty() { None } else { Some(logged(flags, new.data)?) };
    let old_block = old.map_or(new.block, |old| old.block);
    Some(Act::Update { old: (old_block, old_number), new: (new.block, new_number), logged })
}

fn logged(flags: u8, data: &[u8]) -> Option<Logged<'_>> {
    let mut fields = Fields(data);
    let mut shared = |flag| if flags & flag == 0 { Some(0) } else { fields.u16().map(usize::from) };
    let (prefix, suffix) = (shared(PREFIX_FROM_OLD)?, shared(SUFFIX_FROM_OLD)?);
    Some(Logged { prefix, suffix, columns: logged_columns(fields.0)? })
}

fn delete<'a>(mut main: Fields<'a>, heap: BlockRef<'a>) -> Option<Act<'a>> {
    let _deleter = main.u32()?;
    Some(Act::Delete { block: heap.block, number: main.u16()? })
}

fn in_place<'a>(mut main: Fields<'a>, heap: BlockRef<'a>) -> Option<Act<'a>> {
    let number = main.u16()?;
    if heap.data.is_empty() {
        return Some(Act::Nothing);
    }
    Some(Act::InPlace { block: heap.block, number, columns: heap.data })
}
