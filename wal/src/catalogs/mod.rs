//! Names out of the WAL: the rows that are written into `pg_class` and `pg_namespace` (PostgreSQL 14–18).
//!
//! A record has numbers, people have names. What a relation file was called stands in the row that `CREATE`, `ALTER` or
//! `TRUNCATE` writes into `pg_class`, and that row is in the WAL: in the record that writes it, or, where that is the first
//! change of a page after a checkpoint, in the image of the page. An update that leaves the row on its page may hold only what
//! differs from the old row; it is completed from the page, which is known once an image of it or all rows on it have been
//! seen. So the pages of these two catalogs are kept as they pass by, within a bound.
//!
//! `pg_class` itself may move to another file (`VACUUM FULL pg_class`), which the relation map tells; where
//! `pg_namespace` lies, its row in `pg_class` tells.

mod act;
mod layout;
mod page;
mod places;
mod rows;
mod tracker;

use crate::Lsn;
use crate::body::RelationFile;
use crate::image::ImageError;

pub use tracker::CatalogRows;

/// One of the two catalogs that names are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Catalog {
    /// `pg_class`: tables, indexes, sequences, views and so on.
    Class,
    /// `pg_namespace`: schemas.
    Namespace,
}

/// A file in which one of them lies, or lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogPlace {
    /// Which one.
    pub catalog: Catalog,
    /// OID of the database.
    pub database: u32,
    /// The number of the file.
    pub file: u32,
}

/// A file of a relation whose file only the relation map tells: `pg_class`, `pg_attribute`, `pg_database` and some more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappedFile {
    /// OID of the database; 0 for a relation that all share.
    pub database: u32,
    /// The number of the file.
    pub file: u32,
    /// OID of the relation.
    pub oid: u32,
}

impl CatalogPlace {
    /// Whether one of the catalogs lies in a file of this number in every database where it has not been moved.
    pub const fn is_initial(file: u32) -> bool {
        Catalog::of_oid(file).is_some()
    }
}

/// A row of `pg_class` or `pg_namespace` in the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogRow {
    /// A row of `pg_class`.
    Class(ClassRow),
    /// A row of `pg_namespace`.
    Namespace(NamespaceRow),
    /// There was a row, but it can't be told what is in it.
    Untold(UntoldRow),
}

impl CatalogRow {
    /// Where it comes from.
    pub fn origin(&self) -> RowOrigin {
        match self {
            CatalogRow::Class(row) => row.origin,
            CatalogRow::Namespace(row) => row.origin,
            CatalogRow::Untold(row) => row.origin,
        }
    }
}

/// How a row came to be in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// It was inserted.
    Inserted,
    /// It was updated; this is what it is now.
    Updated,
    /// It was deleted; this is what it was.
    Deleted,
    /// Nothing happened to it: it lies on a page whose image the record has, and had not been seen before.
    Seen,
}

/// Where and by whom something happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOrigin {
    /// Where the record starts.
    pub lsn: Lsn,
    /// The transaction, possibly a subtransaction, that did it. For a row that was only [`RowChange::Seen`] the one that
    /// had written it; 0 if that is long committed ("frozen").
    pub xid: u32,
    /// OID of the database.
    pub database: u32,
    /// What happened.
    pub change: RowChange,
}

/// A row of `pg_class`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRow {
    /// Where it comes from.
    pub origin: RowOrigin,
    /// OID of the relation.
    pub oid: u32,
    /// Its name; bytes that aren't UTF-8 are replaced.
    pub name: String,
    /// OID of its schema.
    pub namespace: u32,
    /// Its file. `None` where it has none (a view, a partitioned table), or where the relation map tells it.
    pub file: Option<RelationFile>,
    /// Of an update: the file that it had before, where the row that was updated is known.
    pub was: Option<RelationFile>,
    /// `relkind`: `r` table, `i` index, `S` sequence, `t` toast table, `v` view, `m` materialised view, `p` partitioned
    /// table, `I` partitioned index, `f` foreign table, `c` composite type.
    pub kind: char,
    /// `relpersistence`: `p` permanent, `u` unlogged, `t` temporary.
    pub persistence: char,
    /// OID of its toast table; 0 for none.
    pub toast: u32,
    /// OID of the table that this one is a copy of while that is being rewritten; 0 otherwise. The copy gives its file
    /// away when it is done, and vanishes.
    pub rewrites: u32,
}

/// A row of `pg_namespace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceRow {
    /// Where it comes from.
    pub origin: RowOrigin,
    /// OID of the schema.
    pub oid: u32,
    /// Its name; bytes that aren't UTF-8 are replaced.
    pub name: String,
}

/// A row of which only that it is there is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntoldRow {
    /// Where it comes from.
    pub origin: RowOrigin,
    /// Which catalog it is in.
    pub catalog: Catalog,
    /// Why it can't be told.
    pub reason: Untold,
}

/// Why it can't be told what is in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// The record has only what changed, and the page it lies on was last seen before reading began.
    #[error("its record holds only what changed, and reading began behind the image of its page")]
    NotSeen,
    /// The record has only what changed, and the page had to be forgotten because [`CatalogRows`] has a bound.
    #[error("its record holds only what changed, and the image of its page has been forgotten")]
    Forgotten,
    /// The page's image can't be unpacked.
    #[error("{0}")]
    Image(ImageError),
    /// The record or the row isn't laid out as this version does it.
    #[error("it is not laid out as this version's servers do it")]
    Layout,
}

#[cfg(test)]
mod tests;
