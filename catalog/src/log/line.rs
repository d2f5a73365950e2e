//! A line of the log, as it is told.

use highwater_wal::{Lsn, RelationFile, TimelineId, Timestamp};
use serde::Serialize;

use super::deeds::Rows;
use super::filter::quoted;

/// OID of `pg_class`.
pub(super) const PG_CLASS: u32 = 1259;
/// Numbers below are those of relations that `initdb` made (`FirstNormalObjectId`, transam.h).
const FIRST_NORMAL_OID: u32 = 16384;

/// A relation, as well as it can be named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Table {
    /// The database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its OID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// `pg_class.relkind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<char>,
    /// The tablespace of its file, by OID.
    pub tablespace: u32,
    /// The database of its file, by OID; 0 for one that all databases share.
    pub database_oid: u32,
    /// The number of its file; 0 for one that has none.
    pub file: u32,
    /// Why it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Table {
    /// Whether it is a table of the users', or may be one.
    pub(super) fn is_of_users(&self) -> bool {
        let system = matches!(self.schema.as_deref(), Some("pg_catalog" | "information_schema" | "pg_toast"));
        let is_table = matches!(self.kind, None | Some('r' | 'm' | 'p'));
        let by_initdb = self.name.is_none() && self.file < FIRST_NORMAL_OID;
        is_table && !system && !by_initdb
    }

    pub(super) fn is_class(&self) -> bool {
        self.oid == Some(PG_CLASS) || self.name.is_none() && self.file == PG_CLASS
    }

    pub(super) fn file(&self) -> RelationFile {
        RelationFile { tablespace: self.tablespace, database: self.database_oid, relation: self.file }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.schema, &self.name) {
            (Some(schema), Some(name)) => write!(f, "{}.{}", quoted(schema), quoted(name)),
            (None, Some(name)) => f.write_str(&quoted(name)),
            _ => write!(f, "file {}/{}/{}", self.tablespace, self.database_oid, self.file),
        }
    }
}

/// Whether a relation file's name is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// It is.
    Table(Table),
    /// It is not, for this reason.
    Unknown(String),
}

/// Knows names by number.
pub trait Namer {
    /// The relation that had a file at a place in the WAL.
    fn file(&self, file: RelationFile, lsn: Lsn) -> Named;
    /// A relation by its OID.
    fn relation(&self, database: u32, oid: u32, lsn: Lsn) -> Option<Table>;
    /// A schema by its OID.
    fn schema(&self, database: u32, oid: u32, lsn: Lsn) -> Option<String>;
    /// A database by its OID.
    fn database(&self, oid: u32, lsn: Lsn) -> Option<String>;
}

/// What became of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was made.
    Created,
    /// It is gone.
    Dropped,
    /// It was made and dropped.
    CreatedAndDropped,
    /// It was emptied (`TRUNCATE`).
    Truncated,
    /// It got a new file with the rows that it had (`VACUUM FULL`, `CLUSTER`, some forms of `ALTER TABLE`, `SET TABLESPACE`, `REFRESH
    /// MATERIALIZED VIEW`).
    Rewritten,
    /// Its file is gone; whether it got another cannot be told.
    Gone,
}

/// What a transaction did to a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableLine {
    /// The table.
    #[serde(flatten)]
    pub table: Table,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// Rows changed.
    #[serde(flatten)]
    pub rows: Rows,
    /// Rows that a rewrite has written one by one into the new file.
    #[serde(skip_serializing_if = "is_zero")]
    pub copied: u64,
}

impl TableLine {
    /// Takes note of what became of a table as one of its files tells it: that it may have lost its rows counts for more than that
    /// others of its files did not.
    pub(super) fn came_to(&mut self, fate: Fate) {
        let is_worse = match self.fate {
            None => true,
            Some(Fate::Rewritten) => matches!(fate, Fate::Gone | Fate::Truncated),
            Some(Fate::Gone) => fate == Fate::Truncated,
            Some(Fate::Created | Fate::Dropped | Fate::CreatedAndDropped | Fate::Truncated) => false,
        };
        if is_worse {
            self.fate = Some(fate);
        }
    }
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Its OID.
    pub oid: u32,
    /// Its name, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A line of the log: a transaction, or a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When, by the server's clock.
    pub time: Timestamp,
    /// Where its record starts.
    pub lsn: Lsn,
    /// The LSN behind its record.
    pub end: Lsn,
    /// Where the transaction's first record starts that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Lsn>,
    /// The timeline.
    pub timeline: TimelineId,
    /// The transaction; 0 for a restore point.
    pub xid: u32,
    /// Committed, not rolled back.
    pub committed: bool,
    /// It had been prepared.
    pub prepared: bool,
    /// Its subtransactions.
    pub subtransactions: usize,
    /// Whether all that it did is told. If not, it began before what was read, and did at least this.
    pub is_whole: bool,
    /// The name, where it is a restore point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_point: Option<String>,
    /// The database that it ran in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What it did to tables.
    pub tables: Vec<TableLine>,
    /// Rows in relations that are not shown: catalogs, toast tables.
    pub rows_elsewhere: u64,
    /// What is not told because one transaction touched too many relations.
    #[serde(skip_serializing_if = "is_zero")]
    pub rows_left_out: u64,
    /// Databases made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub databases_created: Vec<Database>,
    /// Databases dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub databases_dropped: Vec<Database>,
    /// Tablespaces dropped, by OID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tablespaces_dropped: Vec<u32>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
