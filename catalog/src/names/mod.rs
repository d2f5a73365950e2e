//! Which relation a file was at some LSN, told by the names that were taken around it.
//!
//! A record in the WAL has numbers: tablespace, database, file. Names are taken now and then ([`NamesTable`]). A file number is
//! given once: PostgreSQL takes it from the counter of OIDs, and only where no file has it (`GetNewRelFileNumber`, catalog.c). So whichever
//! table of names on the same path knows a file, before or after the LSN, tells which relation it was. What the relation was
//! called just then is told best by the newest that was taken at or before; [`Named::Relation`] says which it was.
//!
//! What was made and gone between two of them is in neither. The rows that the WAL puts into `pg_class` tell its name then;
//! that is the business of whoever reads records.

mod table;

use std::sync::Arc;

use highwater_wal::{Lsn, RelationFile, TimelineId, Timestamp};
use serde::Serialize;

use crate::Path;

pub use table::{NamedRelation, NamesTable, RelationKind};

/// When and where names were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NamesAt {
    /// The end of the WAL then.
    pub lsn: Lsn,
    /// The timeline of the server.
    pub timeline: TimelineId,
    /// When, by the server's clock.
    pub taken_at: Timestamp,
}

/// Which names to read for an LSN on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around<T> {
    /// The newest at or before it.
    pub before: Option<T>,
    /// The first behind it.
    pub after: Option<T>,
}

impl<T> Around<T> {
    /// Both of them, the one before first.
    pub fn both(self) -> impl Iterator<Item = T> {
        [self.before, self.after].into_iter().flatten()
    }
}

/// Whether what was taken at that place belongs to a path: it was on one of the path's timelines, before the path leaves it.
fn is_on(path: &Path, at: NamesAt) -> bool {
    path.covers(at.timeline, at.lsn)
}

/// The names on a path that lie next to an LSN. `at` tells the place of each.
pub fn names_around<T: Copy>(
    path: &Path,
    taken: impl IntoIterator<Item = T>,
    at: impl Fn(T) -> NamesAt,
    lsn: Lsn,
) -> Around<T> {
    let mut around = Around { before: None, after: None };
    for one in taken {
        let place = at(one);
        if !is_on(path, place) {
            continue;
        }
        let slot = if place.lsn <= lsn { &mut around.before } else { &mut around.after };
        let is_nearer = |other: T| match place.lsn <= lsn {
            true => place >= at(other),
            false => place < at(other),
        };
        if slot.is_none_or(is_nearer) {
            *slot = Some(one);
        }
    }
    around
}

/// What a file was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A relation.
    Relation {
        /// The relation.
        relation: &'a NamedRelation,
        /// The table that it belongs to, where it is a TOAST table or an index, and the names know that.
        table: Option<&'a NamedRelation>,
        /// The name of its database; `None` for a relation that all share.
        database: Option<&'a str>,
        /// Which names tell this. Where their LSN is behind the one that was asked for, the relation may have been called otherwise then.
        told_by: NamesAt,
    },
    /// Nobody knows, and why, in a clause.
    Unknown(Unknown<'a>),
}

/// Why a file has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown<'a> {
    /// No names were taken on this path.
    NothingTaken,
    /// The database's relations could not be read when names were taken.
    Unreadable {
        /// The name of the database.
        database: &'a str,
        /// Why, in a clause.
        reason: &'a str,
    },
    /// It is in none of the names on the path: it was made after the one and gone before the other.
    Between(Around<NamesAt>),
}

impl std::fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unknown::NothingTaken => {
                f.write_str("no names were taken on this path of timelines (highwater names takes them)")
            }
            Unknown::Unreadable { database, reason } => {
                write!(f, "the names of {database} were not read: {reason}")
            }
            Unknown::Between(Around { before: Some(before), after: Some(after) }) => write!(
                f,
                "made after the names of {} were taken, and gone before those of {}",
                before.taken_at, after.taken_at
            ),
            Unknown::Between(Around { before: Some(before), after: None }) => {
                write!(f, "made after the latest names were taken, at {}", before.taken_at)
            }
            Unknown::Between(Around { before: None, after }) => match after {
                Some(after) => write!(f, "gone before the first names were taken, at {}", after.taken_at),
                None => f.write_str("in none of the names that were taken"),
            },
        }
    }
}

/// The names on one path of timelines.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// In the order of their LSNs.
    tables: Vec<Arc<NamesTable>>,
}

impl Names {
    /// Those of these that lie on the path.
    pub fn new(path: &Path, tables: impl IntoIterator<Item = Arc<NamesTable>>) -> Names {
        let mut tables: Vec<_> = tables.into_iter().filter(|table| is_on(path, table.at)).collect();
        tables.sort_by_key(|table| table.at);
        Names { tables }
    }

    /// In the order in which they are asked: the newest at or before the LSN, the first behind it, then those further
    /// back, then those further on.
    fn nearest_first(&self, lsn: Lsn) -> impl Iterator<Item = &NamesTable> {
        let behind = self.tables.partition_point(|table| table.at.lsn <= lsn);
        let (before, after) = self.tables.split_at(behind);
        let (mut before, mut after) = (before.iter().rev(), after.iter());
        let nearest = [before.next(), after.next()].into_iter().flatten();
        nearest.chain(before).chain(after).map(Arc::as_ref)
    }

    /// What a file was, as far as the names tell.
    pub fn of(&self, file: RelationFile, lsn: Lsn) -> Named<'_> {
        let mut unreadable = None;
        for table in self.nearest_first(lsn) {
            if let Some(relation) = table.by_file(file) {
                return Named::Relation {
                    relation,
                    table: relation.table.and_then(|oid| table.by_oid(file.database, oid)),
                    database: table.database(file.database),
                    told_by: table.at,
                };
            }
            if unreadable.is_none() {
                unreadable = table.unreadable(file.database);
            }
        }
        Named::Unknown(match unreadable {
            Some((database, reason)) => Unknown::Unreadable { database, reason },
            None if self.tables.is_empty() => Unknown::NothingTaken,
            None => {
                let at = |table: &Arc<NamesTable>| table.at;
                let behind = self.tables.partition_point(|table| table.at.lsn <= lsn);
                let (before, after) = self.tables.split_at(behind);
                Unknown::Between(Around { before: before.last().map(at), after: after.first().map(at) })
            }
        })
    }

    /// A relation by its OID, which it keeps when it is given another file.
    pub fn relation(&self, database: u32, oid: u32, lsn: Lsn) -> Option<&NamedRelation> {
        self.nearest_first(lsn).find_map(|table| table.by_oid(database, oid))
    }

    /// The name of a database.
    pub fn database(&self, oid: u32, lsn: Lsn) -> Option<&str> {
        self.nearest_first(lsn).find_map(|table| table.database(oid))
    }

    /// The names themselves, in the order of their LSNs.
    pub fn tables(&self) -> &[Arc<NamesTable>] {
        &self.tables
    }
}

#[cfg(test)]
mod tests;
