//! What one transaction did, as its records tell it.

use std::collections::HashMap;

use highwater_wal::{Lsn, RelationFile};
use serde::Serialize;

/// Relations, and other things, of each sort that are listed for one transaction; what goes beyond is only counted, so that no
/// transaction takes more memory than that.
pub const MAX_LISTED_DEEDS: usize = 10_000;

/// As many relations are looked through one by one; a transaction that touches more gets an index.
const LOOKED_THROUGH: usize = 16;

/// Rows changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rows {
    /// Inserted.
    pub inserted: u64,
    /// Updated.
    pub updated: u64,
    /// Deleted.
    pub deleted: u64,
}

impl Rows {
    /// All of them.
    pub fn total(self) -> u64 {
        self.inserted.saturating_add(self.updated).saturating_add(self.deleted)
    }

    /// Adds others.
    pub fn add(&mut self, other: Rows) {
        self.inserted = self.inserted.saturating_add(other.inserted);
        self.updated = self.updated.saturating_add(other.updated);
        self.deleted = self.deleted.saturating_add(other.deleted);
    }
}

/// Rows changed in one relation file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRows {
    /// The file.
    pub file: RelationFile,
    /// The rows.
    pub rows: Rows,
}

/// What happened to a row of `pg_class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFate {
    /// It is new.
    Inserted,
    /// It was updated; it says what the relation is now.
    Updated,
    /// It was deleted; it says what the relation was.
    Deleted,
}

/// A row of `pg_class` that a transaction has written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassChange {
    /// Where the record starts.
    pub lsn: Lsn,
    /// What happened to the row.
    pub fate: RowFate,
    /// OID of the database.
    pub database: u32,
    /// OID of the relation.
    pub oid: u32,
    /// Its file; `None` where it has none, or where the relation map tells it.
    pub file: Option<RelationFile>,
    /// Of an update: the file that it had before, where that is known.
    pub was: Option<RelationFile>,
    /// Its name.
    pub name: String,
    /// OID of its schema.
    pub namespace: u32,
    /// `pg_class.relkind`: `r` table, `i` index, `t` toast table, …
    pub kind: char,
    /// OID of the table that this one is a copy of while that is being rewritten; 0 otherwise.
    pub rewrites: u32,
}

impl ClassChange {
    /// Whether this is what took the file from its relation: the row is gone, or has another file since.
    pub fn took(&self, file: RelationFile) -> bool {
        match self.fate {
            RowFate::Deleted => self.file == Some(file),
            RowFate::Inserted | RowFate::Updated => self.was == Some(file) && self.file != self.was,
        }
    }
}

/// What a transaction did, or a subtransaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Where its first record starts that was read.
    pub first: Option<Lsn>,
    rows: Vec<FileRows>,
    /// Where in `rows` a file is, once there are many.
    index: HashMap<RelationFile, usize>,
    /// Relation files made.
    pub created: Vec<RelationFile>,
    /// Rows of `pg_class` written and deleted, in order.
    pub classes: Vec<ClassChange>,
    /// Whether it was seen to write or delete rows of `pg_class`, be it that nobody can say what is in them.
    pub has_class_rows: bool,
    /// Truncated tables, by database and OID (told only with `wal_level = logical`).
    pub truncated: Vec<(u32, u32)>,
    /// Files cut to nothing in place.
    pub emptied: Vec<RelationFile>,
    /// Databases made, by OID.
    pub databases_created: Vec<u32>,
    /// Databases dropped, by OID.
    pub databases_dropped: Vec<u32>,
    /// Tablespaces dropped, by OID.
    pub tablespaces_dropped: Vec<u32>,
    /// Things that are not listed because there were too many, and the rows in relations that are not.
    pub left_out: u64,
}

impl Deeds {
    /// Rows changed, by relation file, in the order in which the files came up.
    pub fn rows(&self) -> &[FileRows] {
        &self.rows
    }

    /// Adds rows changed.
    pub fn add_rows(&mut self, file: RelationFile, rows: Rows) {
        match self.place_of(file) {
            Some(place) => self.rows[place].rows.add(rows),
            None if self.rows.len() < MAX_LISTED_DEEDS => {
                self.rows.push(FileRows { file, rows });
                self.index_all();
            }
            None => self.left_out = self.left_out.saturating_add(rows.total()),
        }
    }

    fn place_of(&self, file: RelationFile) -> Option<usize> {
        if self.index.is_empty() {
            // What was written last is most often written again.
            return self.rows.iter().rposition(|known| known.file == file);
        }
        self.index.get(&file).copied()
    }

    fn index_all(&mut self) {
        let place = self.rows.len() - 1;
        if place == LOOKED_THROUGH {
            self.index = self.rows.iter().enumerate().map(|(place, known)| (known.file, place)).collect();
        } else if place > LOOKED_THROUGH {
            self.index.insert(self.rows[place].file, place);
        }
    }

    /// Adds what an older stretch of the WAL, or a subtransaction, holds of the same transaction. `older` says that the other's records
    /// come before these.
    pub fn join(&mut self, other: Deeds, older: bool) {
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        for FileRows { file, rows } in other.rows {
            self.add_rows(file, rows);
        }
        self.has_class_rows |= other.has_class_rows;
        let left_out = &mut self.left_out;
        *left_out = left_out.saturating_add(other.left_out);
        extend(&mut self.created, other.created, older, left_out);
        extend(&mut self.classes, other.classes, older, left_out);
        extend(&mut self.truncated, other.truncated, older, left_out);
        extend(&mut self.emptied, other.emptied, older, left_out);
        extend(&mut self.databases_created, other.databases_created, older, left_out);
        extend(&mut self.databases_dropped, other.databases_dropped, older, left_out);
        extend(&mut self.tablespaces_dropped, other.tablespaces_dropped, older, left_out);
    }
}

/// Adds to a list, within its bound.
pub(super) fn push<T>(list: &mut Vec<T>, item: T, left_out: &mut u64) {
    if list.len() < MAX_LISTED_DEEDS {
        list.push(item);
    } else {
        *left_out = left_out.saturating_add(1);
    }
}

fn extend<T>(list: &mut Vec<T>, mut other: Vec<T>, older: bool, left_out: &mut u64) {
    if older {
        std::mem::swap(list, &mut other);
    }
    for item in other {
        push(list, item, left_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(relation: u32) -> RelationFile {
        RelationFile { tablespace: 1663, database: 5, relation }
    }

    #[test]
    fn rows_are_counted_by_file_however_many_there_are() {
        let mut deeds = Deeds::default();
        for round in 0..3 {
            for relation in 0..100 {
                deeds.add_rows(file(relation), Rows { inserted: round, updated: 1, deleted: 0 });
            }
        }
        assert_eq!(deeds.rows().len(), 100);
        for (relation, counted) in deeds.rows().iter().enumerate() {
            assert_eq!(counted.file.relation as usize, relation);
            assert_eq!(counted.rows, Rows { inserted: 3, updated: 3, deleted: 0 });
        }
    }

    #[test]
    fn lists_are_bounded_and_say_so() {
        let mut deeds = Deeds::default();
        for relation in 0..=MAX_LISTED_DEEDS as u32 {
            deeds.add_rows(file(relation), Rows { inserted: 2, ..Rows::default() });
        }
        assert_eq!((deeds.rows().len(), deeds.left_out), (MAX_LISTED_DEEDS, 2));
        deeds.created = vec![file(1); MAX_LISTED_DEEDS];
        let older = Deeds { created: vec![file(2); 3], ..Deeds::default() };
        deeds.join(older, true);
        assert_eq!((deeds.created.len(), deeds.created[0], deeds.left_out), (MAX_LISTED_DEEDS, file(2), 5));
    }
}
