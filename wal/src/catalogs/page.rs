//! Heap pages taken apart (`bufpage.h`, `itemid.h`, `htup_details.h`, PostgreSQL 14–18).

use crate::bytes::Fields;

/// `SizeOfPageHeaderData`: the line pointers follow.
const HEADER_LENGTH: usize = 24;
/// Where the header tells where the line pointers end (`pd_lower`).
const LOWER_OFFSET: usize = 12;
/// `LP_NORMAL`
const IS_NORMAL: u32 = 1;

/// `SizeofHeapTupleHeader`: the null bitmap follows, then padding, then the columns.
const ROW_HEADER_LENGTH: usize = 23;

/// A row on a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageRow<'a> {
    /// The transaction that inserted it, 0 if it is frozen.
    pub(super) inserted_by: u32,
    /// No transaction has deleted or updated it, as far as the page knows, nor was its own rolled back.
    pub(super) is_live: bool,
    /// Its columns.
    pub(super) columns: &'a [u8],
}

/// The rows on a page with their offset numbers. What doesn't lie on the page is passed over.
pub(super) fn rows(page: &[u8]) -> impl Iterator<Item = (u16, PageRow<'_>)> {
    let lower = page.get(LOWER_OFFSET..).and_then(|rest| Fields(rest).u16()).unwrap_or(0);
    let pointers = page.get(HEADER_LENGTH..usize::from(lower)).unwrap_or_default();
    let rows = (1..).zip(pointers.as_chunks::<4>().0);
    rows.filter_map(|(number, pointer)| Some((number, row(page, u32::from_le_bytes(*pointer))?)))
}

/// The row that a line pointer points at: 15 bits of offset, 2 of state, 15 of length.
fn row(page: &[u8], pointer: u32) -> Option<PageRow<'_>> {
    const BITS: u32 = 0x7FFF;
    if pointer >> 15 & 3 != IS_NORMAL {
        return None;
    }
    let (offset, length) = ((pointer & BITS) as usize, (pointer >> 17 & BITS) as usize);
    let row = page.get(offset..offset + length)?;
    let mut fields = Fields(row);
    let (inserted_by, deleted_by) = (fields.u32()?, fields.u32()?);
    // Command and the place of the next version; then the flags, and where the columns begin.
    fields.take(10)?;
    let (_infomask2, infomask, columns) = (fields.u16()?, fields.u16()?, fields.u8()?);
    let has = |bits: u16| infomask & bits == bits;
    let is_deleted = deleted_by != 0 && !has(XMAX_INVALID) && infomask & XMAX_LOCK_ONLY == 0;
    let was_rolled_back = has(XMIN_INVALID) && !has(XMIN_FROZEN);
    Some(PageRow {
        inserted_by: if has(XMIN_FROZEN) { 0 } else { inserted_by },
        is_live: !is_deleted && !was_rolled_back,
        columns: row.get(usize::from(columns).max(ROW_HEADER_LENGTH)..)?,
    })
}

const XMAX_LOCK_ONLY: u16 = 0x0080;
const XMIN_INVALID: u16 = 0x0200;
const XMIN_FROZEN: u16 = 0x0300;
const XMAX_INVALID: u16 = 0x0800;

/// A row as a record has it: the part of its header that can't be told otherwise (`xl_heap_header`), what lies between
/// header and columns, columns. Answers with the columns.
pub(super) fn logged_columns(logged: &[u8]) -> Option<&[u8]> {
    /// The flags; a byte with where the columns begin follows.
    const FLAGS: usize = 4;
    let (begin, rest) = logged.get(FLAGS..)?.split_first()?;
    rest.get(usize::from(*begin).checked_sub(ROW_HEADER_LENGTH)?..)
}
