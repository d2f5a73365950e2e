//! Where the columns lie in rows of `pg_class` and `pg_namespace` (`pg_class.h`, `pg_namespace.h`, PostgreSQL 14–18).
//!
//! All that are read have a fixed length and are never null, so that each lies at a fixed place behind the row's header.

use super::{CatalogRow, ClassRow, NamespaceRow, RowOrigin};
use crate::PgVersion;
use crate::body::RelationFile;
use crate::bytes::Fields;

/// `NAMEDATALEN`
const NAME_LENGTH: usize = 64;

/// `GLOBALTABLESPACE_OID`
const SHARED_TABLESPACE: u32 = 1664;

/// A row of `pg_class`, from its columns; `home` is the file of the `pg_class` that it is in. `None` where it is too short.
pub(super) fn class(
    version: PgVersion,
    origin: RowOrigin,
    home: RelationFile,
    row: &[u8],
) -> Option<ClassRow> {
    let mut fields = Fields(row);
    let oid = fields.u32()?;
    let name = name(&mut fields)?;
    let namespace = fields.u32()?;
    let [_row_type, _of_type, _owner, _access_method] = words(&mut fields)?;
    let [number, tablespace] = words(&mut fields)?;
    let [_pages, _rows, _all_visible] = words(&mut fields)?;
    if version >= PgVersion::V18 {
        let _all_frozen = fields.u32()?;
    }
    let toast = fields.u32()?;
    let [_has_index, is_shared, persistence, kind] = fields.array::<4>()?;
    let [_columns, _checks] = [fields.u16()?, fields.u16()?];
    let _flags = fields.array::<8>()?;
    let rewrites = fields.u32()?;
    let file = RelationFile {
        // pg_class lies in its database's default tablespace, always: 0 means the same.
        tablespace: match (is_shared, tablespace) {
            (0, 0) => home.tablespace,
            (0, other) => other,
            _ => SHARED_TABLESPACE,
        },
        database: if is_shared == 0 { home.database } else { 0 },
        relation: number,
    };
    Some(ClassRow {
        origin,
        oid,
        name,
        namespace,
        file: (number != 0).then_some(file),
        was: None,
        kind: char::from(kind),
        persistence: char::from(persistence),
        toast,
        rewrites,
    })
}

/// A row of `pg_namespace`, from its columns.
pub(super) fn namespace(origin: RowOrigin, row: &[u8]) -> Option<CatalogRow> {
    let mut fields = Fields(row);
    Some(CatalogRow::Namespace(NamespaceRow { origin, oid: fields.u32()?, name: name(&mut fields)? }))
}

fn name(fields: &mut Fields<'_>) -> Option<String> {
    let name = fields.take(NAME_LENGTH)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn words<const N: usize>(fields: &mut Fields<'_>) -> Option<[u32; N]> {
    let mut words = [0; N];
    for word in &mut words {
        *word = fields.u32()?;
    }
    Some(words)
}
