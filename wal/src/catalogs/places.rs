//! Which files the two catalogs lie in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Catalog, CatalogPlace, CatalogRow, MappedFile, RowChange};
use crate::Change;
use crate::body::RelationFile;

impl Catalog {
    /// The OID of the catalog, which its file is numbered by until it is rewritten.
    pub const fn oid(self) -> u32 {
        match self {
            Catalog::Class => 1259,
            Catalog::Namespace => 2615,
        }
    }

    /// The catalog with this OID.
    pub(super) const fn of_oid(oid: u32) -> Option<Catalog> {
        match oid {
            1259 => Some(Catalog::Class),
            2615 => Some(Catalog::Namespace),
            _ => None,
        }
    }
}

/// How many files are known at most that catalogs were moved to; those of the lowest databases are forgotten first.
const MAX_MOVED: usize = 4096;

/// The files that catalogs were moved to, by `VACUUM FULL` or `CLUSTER`. Where none is known for a database, a catalog lies
/// in the file that has its OID as number; no other relation can have that one.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By database and file number.
    moved: BTreeMap<(u32, u32), Catalog>,
    /// What relation maps said of files that initdb did not make, at most as many.
    pub(super) mapped: BTreeSet<MappedFile>,
}

impl Places {
    /// The catalog that lies in this file.
    #[inline]
    pub(super) fn catalog_in(&self, file: RelationFile) -> Option<Catalog> {
        Catalog::of_oid(file.relation).or_else(|| {
            if self.moved.is_empty() {
                None
            } else {
                self.moved.get(&(file.database, file.relation)).copied()
            }
        })
    }

    /// A catalog lies in this file, or is about to: older ones may still be written to by then.
    pub(super) fn add(&mut self, catalog: Catalog, database: u32, relation: u32) {
        if relation != catalog.oid() {
            if self.moved.len() >= MAX_MOVED {
                self.moved.pop_first();
            }
            self.moved.insert((database, relation), catalog);
        }
    }

    /// The files that catalogs were moved to.
    pub(super) fn moved(&self) -> impl Iterator<Item = CatalogPlace> + '_ {
        let place =
            |(&(database, file), &catalog): (&(u32, u32), &Catalog)| CatalogPlace { catalog, database, file };
        self.moved.iter().map(place)
    }

    /// A catalog lies in this file and no other.
    pub(super) fn settle(&mut self, catalog: Catalog, database: u32, relation: u32) {
        self.moved.retain(|(other, _), found| *other != database || *found != catalog);
        self.add(catalog, database, relation);
    }

    /// Takes note of a row that tells where a catalog lies, or will lie once it has been rewritten. A copy of a
    /// relation that the relation map tells about has no file in its row; its file has its OID as number.
    pub(super) fn note_row(&mut self, row: &CatalogRow) {
        let CatalogRow::Class(row) = row else { return };
        if row.origin.change == RowChange::Deleted {
            return;
        }
        let database = row.origin.database;
        if let Some(catalog) = Catalog::of_oid(row.rewrites) {
            self.add(catalog, database, row.file.map_or(row.oid, |file| file.relation));
        }
        if let (Some(catalog), Some(file)) = (Catalog::of_oid(row.oid), row.file) {
            self.add(catalog, database, file.relation);
        }
    }

    /// Takes note of a change that moves catalogs.
    pub(super) fn note(&mut self, change: &Change) {
        if let Change::RelationMap { database, files, .. } = change {
            let moved = files.iter().filter(|(oid, file)| oid != file);
            let mapped = moved.map(|&(oid, file)| MappedFile { database: *database, file, oid });
            self.mapped.extend(mapped);
            while self.mapped.len() > MAX_MOVED {
                self.mapped.pop_first();
            }
        }
        match change {
            Change::RelationMap { database, files, .. } if *database != 0 => {
                for (oid, file) in files {
                    if let Some(catalog) = Catalog::of_oid(*oid) {
                        self.settle(catalog, *database, *file);
                    }
                }
            }
            // The relation map is copied with the other files.
            Change::DatabaseCreated { database, copied_from: Some(source), .. } => {
                let copied: Vec<_> = self.moved.range((*source, 0)..=(*source, u32::MAX)).collect();
                let copied: Vec<_> =
                    copied.into_iter().map(|((_, file), catalog)| (*catalog, *file)).collect();
                copied.into_iter().for_each(|(catalog, file)| self.add(catalog, *database, file));
            }
            Change::DatabaseDropped { database, .. } => {
                self.moved.retain(|(other, _), _| other != database);
            }
            _ => {}
        }
    }
}
