//! What a record does to rows, relations and databases (PostgreSQL 14–18).
//!
//! Counted is what a transaction did to rows as its statements meant it, read from the records of heaps. What servers
//! write beside it is left out: locks, pruning, freezing, visibility, statistics updated in place, and the copying of
//! rows that `VACUUM FULL` and `CLUSTER` do as whole pages. A speculative insertion (`INSERT … ON CONFLICT`) counts
//! when it is confirmed, so that one that met a conflict counts as nothing. (Rows that it had put into a toast table
//! before count as inserted there.) A row that an `UPDATE` moves to another partition is deleted in one relation
//! and inserted in the other.

mod database;
mod heap;
mod transaction;

use crate::body::RelationFile;
use crate::kind::Kind;
use crate::record::rmgr;
use crate::records::RawRecord;

pub(crate) use heap::{HEAP_BLOCK, opcode};

/// Something that a record does. Whether it lasts is decided by the end of the record's transaction (`header.xid`,
/// which may be a subtransaction's), but for what is said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Rows of a heap: a table, a materialised view, a toast table, a catalog.
    Rows {
        /// The heap's file.
        relation: RelationFile,
        /// Rows inserted.
        inserted: u32,
        /// Rows updated within the relation.
        updated: u32,
        /// Rows deleted.
        deleted: u32,
    },
    /// A relation gets a new file (main fork): it was created, rewritten or truncated. An index's looks the same.
    Created {
        /// The file.
        relation: RelationFile,
    },
    /// A relation's file (main fork) is cut to a number of blocks, in place; for good, whatever becomes of the transaction.
    Cut {
        /// The file.
        relation: RelationFile,
        /// How many blocks it keeps.
        blocks: u32,
    },
    /// `TRUNCATE`; written with `wal_level = logical` only.
    Truncated {
        /// OID of the database.
        database: u32,
        /// OIDs of the relations (not file numbers), and of the sequences that start anew.
        relations: Vec<u32>,
    },
    /// `CREATE DATABASE`.
    DatabaseCreated {
        /// Its OID.
        database: u32,
        /// OID of the tablespace its files are made in. One that is copied may get files in others too, each told by itself.
        tablespace: u32,
        /// OID of the database whose files are copied; `None` if their pages are in the WAL that follows.
        copied_from: Option<u32>,
    },
    /// `DROP DATABASE`, or the end of a `CREATE DATABASE` that failed. The files are gone, whatever becomes of the
    /// transaction.
    DatabaseDropped {
        /// Its OID.
        database: u32,
        /// OIDs of the tablespaces it had files in.
        tablespaces: Vec<u32>,
    },
    /// `ALTER DATABASE … SET TABLESPACE`: the files are copied. That the old ones are removed later isn't told.
    DatabaseMoved {
        /// Its OID.
        database: u32,
        /// OID of the tablespace it leaves.
        from: u32,
        /// OID of its new tablespace.
        to: u32,
    },
    /// `CREATE TABLESPACE`.
    TablespaceCreated {
        /// Its OID.
        tablespace: u32,
    },
    /// `DROP TABLESPACE`.
    TablespaceDropped {
        /// Its OID.
        tablespace: u32,
    },
    /// These are subtransactions of that transaction, which is told early where there are many (64 and more). The full
    /// list is in the record that ends the transaction.
    Subtransactions {
        /// The transaction.
        top: u32,
        /// Its subtransactions.
        xids: Vec<u32>,
    },
    /// `PREPARE TRANSACTION`.
    Prepared {
        /// The transaction.
        xid: u32,
        /// The name that `COMMIT PREPARED` takes; bytes that aren't UTF-8 are replaced.
        name: String,
    },
    /// The files of relations whose files `pg_class` doesn't tell, `pg_class` among them (`VACUUM FULL pg_class`
    /// gives it another). Holds at once.
    RelationMap {
        /// OID of the database; 0 for the relations that all databases share.
        database: u32,
        /// OID of the tablespace they lie in.
        tablespace: u32,
        /// Each relation's OID and its file's number: all of them, not only those that changed.
        files: Vec<(u32, u32)>,
    },
    /// The transactions that were running, written with every checkpoint and every few seconds between.
    Running {
        /// The number that the next transaction gets.
        next: u32,
        /// The oldest transaction that was running; `next` if none was.
        oldest: u32,
        /// Transactions that were running, and their subtransactions unless `overflowed`.
        xids: Vec<u32>,
        /// Some subtransactions are missing in `xids`.
        overflowed: bool,
    },
}

impl RawRecord<'_> {
    /// Tells what the record does, for those that do something; `None` where its body isn't laid out as this version
    /// does it. Nothing is allocated for records of rows.
    ///
    /// ```
    /// use highwater_wal::{Change, Records, Refusal};
    /// fn rows(records: &mut Records<Vec<u8>>) -> Result<u64, Refusal> {
    ///     let mut rows = 0;
    ///     while let Some(record) = records.next_raw() {
    ///         record?.changes(|change| {
    ///             if let Change::Rows { inserted, updated, deleted, .. } = change {
    ///                 rows += u64::from(inserted + updated + deleted);
    ///             }
    ///         });
    ///     }
    ///     Ok(rows)
    /// }
    /// ```
    #[inline]
    pub fn changes(&self, each: impl FnMut(Change)) -> Option<()> {
        match self.header.rmgr {
            rmgr::HEAP => heap::changes(self, each),
            rmgr::HEAP2 => heap::more_changes(self, each),
            rmgr::TRANSACTION => transaction::changes(self, each),
            rmgr::STORAGE => self.kind().map(|kind| storage(&kind).map_or((), each)),
            rmgr::DATABASE => database::changes(self, each),
            rmgr::TABLESPACE => database::tablespace_changes(self, each),
            rmgr::RELATION_MAP => database::relation_map(self, each),
            rmgr::STANDBY => transaction::running(self, each),
            _ => Some(()),
        }
    }
}

fn storage(kind: &Kind) -> Option<Change> {
    match *kind {
        Kind::StorageCreate { relation, main_fork: true } => Some(Change::Created { relation }),
        Kind::StorageTruncate { relation, blocks, main_fork: true } => Some(Change::Cut { relation, blocks }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
