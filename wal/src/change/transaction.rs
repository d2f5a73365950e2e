//! Transactions that aren't finished: subtransactions, prepared ones, running ones (`xact.h`, `standbydefs.h`, PostgreSQL 14–18).

use super::Change;
use crate::PgVersion;
use crate::bytes::Fields;
use crate::kind::numbers;
use crate::records::RawRecord;

const OPCODE_MASK: u8 = 0x70;
const PREPARE: u8 = 0x10;
const ASSIGNMENT: u8 = 0x50;
const RUNNING: u8 = 0x10;

/// What a record of [`crate::rmgr::TRANSACTION`] does, other than ending a transaction.
pub(super) fn changes(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    match record.header.info & OPCODE_MASK {
        ASSIGNMENT => {
            let mut main = Fields(record.parts()?.main());
            each(Change::Subtransactions { top: main.u32()?, xids: numbers(main.counted(4)?) });
        }
        PREPARE => each(prepared(record.version, record.parts()?.main())?),
        _ => {}
    }
    Some(())
}

/// The struct `xl_xact_prepare`, and the transaction's name behind it.
fn prepared(version: PgVersion, main: &[u8]) -> Option<Change> {
    /// Magic number and length.
    const XID: usize = 8;
    // 15 added the numbers of dropped statistics.
    let (name_length, length) = if version == PgVersion::V14 { (46, 64) } else { (54, 72) };
    let xid = Fields(main.get(XID..)?).u32()?;
    let name_length = Fields(main.get(name_length..)?).u16()?;
    let name = main.get(length..)?.get(..usize::from(name_length))?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Some(Change::Prepared { xid, name: String::from_utf8_lossy(name).into_owned() })
}

/// What a record of [`crate::rmgr::STANDBY`] tells.
pub(super) fn running(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    if record.header.info != RUNNING {
        return Some(());
    }
    let mut main = Fields(record.parts()?.main());
    let (transactions, subtransactions) = (main.u32()?, main.u32()?);
    // A bool and three bytes of padding.
    let [overflowed, ..] = main.array::<4>()?;
    let (next, oldest, _latest_completed) = (main.u32()?, main.u32()?, main.u32()?);
    let count = usize::try_from(transactions.checked_add(subtransactions)?).ok()?;
    let xids = numbers(main.take(count.checked_mul(4)?)?);
    each(Change::Running { next, oldest, xids, overflowed: overflowed != 0 });
    Some(())
}
