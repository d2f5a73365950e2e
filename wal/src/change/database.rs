//! Databases, tablespaces and the relation map (`dbcommands_xlog.h`, `tablespace.h`, `relmapper.c`, PostgreSQL 14–18).

use super::Change;
use crate::PgVersion;
use crate::bytes::Fields;
use crate::kind::Kind;
use crate::records::RawRecord;

const CREATE_BY_FILE_COPY: u8 = 0x00;
/// Pages in the WAL; since 15.
const CREATE_BY_WAL: u8 = 0x10;

const TABLESPACE_CREATE: u8 = 0x00;

const RELATION_MAP_UPDATE: u8 = 0x00;
/// `RELMAPPER_FILEMAGIC`
const RELATION_MAP_MAGIC: u32 = 0x0059_2717;

/// What a record of [`crate::rmgr::DATABASE`] does.
pub(super) fn changes(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    if let Kind::DatabaseDrop { database, tablespaces } = record.kind()? {
        each(Change::DatabaseDropped { database, tablespaces });
        return Some(());
    }
    let mut main = Fields(record.parts()?.main());
    match record.header.info {
        CREATE_BY_FILE_COPY => {
            let (database, tablespace) = (main.u32()?, main.u32()?);
            let (source, source_tablespace) = (main.u32()?, main.u32()?);
            each(if source == database {
                Change::DatabaseMoved { database, from: source_tablespace, to: tablespace }
            } else {
                Change::DatabaseCreated { database, tablespace, copied_from: Some(source) }
            });
        }
        CREATE_BY_WAL if record.version >= PgVersion::V15 => {
            let (database, tablespace) = (main.u32()?, main.u32()?);
            each(Change::DatabaseCreated { database, tablespace, copied_from: None });
        }
        _ => {}
    }
    Some(())
}

/// What a record of [`crate::rmgr::TABLESPACE`] does.
pub(super) fn tablespace_changes(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    if let Kind::TablespaceDrop { tablespace } = record.kind()? {
        each(Change::TablespaceDropped { tablespace });
    } else if record.header.info == TABLESPACE_CREATE {
        each(Change::TablespaceCreated { tablespace: Fields(record.parts()?.main()).u32()? });
    }
    Some(())
}

/// What a record of [`crate::rmgr::RELATION_MAP`] does.
pub(super) fn relation_map(record: &RawRecord<'_>, mut each: impl FnMut(Change)) -> Option<()> {
    if record.header.info != RELATION_MAP_UPDATE {
        return Some(());
    }
    let mut main = Fields(record.parts()?.main());
    let (database, tablespace) = (main.u32()?, main.u32()?);
    // The struct RelMapFile, of one length up to 15 and another from 16 on; the mappings in use come first.
    let mut map = Fields(main.counted(1)?);
    if map.u32()? != RELATION_MAP_MAGIC {
        return None;
    }
    let (mappings, _) = map.counted(8)?.as_chunks::<8>();
    let pair = |[a, b, c, d, e, f, g, h]: &[u8; 8]| {
        (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]))
    };
    each(Change::RelationMap { database, tablespace, files: mappings.iter().map(pair).collect() });
    Some(())
}
