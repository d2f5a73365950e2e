//! Names by number, for the log.

use std::collections::HashMap;

use highwater_repository::{ClusterRepository, Error};
use highwater_wal::{Lsn, NamespaceRow, RelationFile};

use super::super::NameBook;
use super::feed::Seen;
use crate::log::{ClassChange, End, Named, Namer, Table};
use crate::{NamedRelation, Names, NamesAt, Path};

/// Rows of `pg_class` and `pg_namespace` that are remembered from the WAL; beyond these, what was taken as names has to do.
const MAX_REMEMBERED: usize = 100_000;

/// What is known of names: those that were taken, and those that the WAL tells.
#[derive(Debug)]
pub(super) struct LogNames {
    path: Path,
    book: NameBook,
    /// Those that were taken next to the place that was turned to last.
    taken: Names,
    turned_to: Option<Lsn>,
    /// What committed transactions wrote into `pg_class`, by file, each with the place of its commit, in that order.
    classes: HashMap<RelationFile, Vec<(Lsn, ClassChange)>>,
    /// What was seen of schemas, by database and OID.
    schemas: HashMap<(u32, u32), Vec<(Lsn, String)>>,
    remembered: usize,
}

impl LogNames {
    /// Lists the names that were taken.
    pub async fn open(cluster: &ClusterRepository, path: &Path) -> Result<LogNames, Error> {
        Ok(LogNames {
            path: path.clone(),
            book: NameBook::open(cluster).await?,
            taken: Names::default(),
            turned_to: None,
            classes: HashMap::new(),
            schemas: HashMap::new(),
            remembered: 0,
        })
    }

    /// Reads the names that were taken next to a place.
    pub async fn turn_to(&mut self, lsn: Lsn) -> Result<(), Error> {
        let between = |turned_to: Lsn| {
            let (low, high) = (turned_to.min(lsn), turned_to.max(lsn));
            self.book.taken().iter().any(|id| id.lsn >= low && id.lsn <= high)
        };
        if self.turned_to.is_none_or(between) {
            self.taken = self.book.around(&self.path, lsn).await?;
        }
        self.turned_to = Some(lsn);
        Ok(())
    }

    /// When and where the names were taken that lie next to the place that was turned to last.
    pub fn taken(&self) -> impl Iterator<Item = NamesAt> {
        self.taken.tables().iter().map(|table| table.at)
    }

    /// What of the names that were taken is damaged.
    pub fn damage(&self) -> impl Iterator<Item = String> {
        self.book
            .damaged()
            .map(|(_, reason)| format!("names that were taken are damaged and left out: {reason}"))
    }

    /// Remembers what a stretch tells of names.
    pub fn learn(&mut self, ends: &[End], seen: Seen) {
        for end in ends.iter().filter(|end| end.committed) {
            for class in &end.deeds.classes {
                self.remember(end.lsn, class.clone());
            }
        }
        for class in seen.classes {
            self.remember(class.lsn, class);
        }
        for NamespaceRow { origin, oid, name } in seen.schemas {
            let known = self.schemas.entry((origin.database, oid)).or_default();
            insert(known, origin.lsn, name, &mut self.remembered);
        }
    }

    /// Remembers a row of `pg_class`, as of this place.
    pub fn remember(&mut self, lsn: Lsn, class: ClassChange) {
        let Some(file) = class.file.filter(|_| class.rewrites == 0) else { return };
        let known = self.classes.entry(file).or_default();
        let same =
            |(_, known): &(Lsn, ClassChange)| known.name == class.name && known.namespace == class.namespace;
        let behind = known.partition_point(|(at, _)| *at <= lsn);
        if !known[..behind].last().is_some_and(same) {
            insert(known, lsn, class, &mut self.remembered);
        }
    }

    /// What the WAL tells of a file: the newest at or before the LSN, else the first behind it.
    fn in_wal(&self, file: RelationFile, lsn: Lsn) -> Option<&(Lsn, ClassChange)> {
        nearest(self.classes.get(&file)?, lsn)
    }

    fn table(&self, class: &ClassChange, file: RelationFile, lsn: Lsn) -> Table {
        Table {
            database: self.database(file.database, lsn),
            schema: self.schema(class.database, class.namespace, lsn),
            name: Some(class.name.clone()),
            oid: Some(class.oid),
            kind: Some(class.kind),
            tablespace: file.tablespace,
            database_oid: file.database,
            file: file.relation,
            unknown: None,
        }
    }
}

/// The newest at or before the LSN, else the first behind it.
fn nearest<T>(known: &[(Lsn, T)], lsn: Lsn) -> Option<&(Lsn, T)> {
    let behind = known.partition_point(|(at, _)| *at <= lsn);
    behind.checked_sub(1).and_then(|at| known.get(at)).or_else(|| known.get(behind))
}

fn insert<T>(known: &mut Vec<(Lsn, T)>, lsn: Lsn, item: T, remembered: &mut usize) {
    if *remembered < MAX_REMEMBERED {
        let at = known.partition_point(|(before, _)| *before <= lsn);
        known.insert(at, (lsn, item));
        *remembered += 1;
    }
}

impl Namer for LogNames {
    fn file(&self, file: RelationFile, lsn: Lsn) -> Named {
        let in_wal = self.in_wal(file, lsn);
        let from_wal = |(_, class): &(Lsn, ClassChange)| Named::Table(self.table(class, file, lsn));
        match self.taken.of(file, lsn) {
            crate::Named::Relation { relation, database, told_by, .. } => match in_wal {
                // The nearest before the place tells it best.
                Some(row) if row.0 <= lsn && (row.0 > told_by.lsn || told_by.lsn > lsn) => from_wal(row),
                _ => Named::Table(table_of(relation, database, file)),
            },
            crate::Named::Unknown(reason) => {
                in_wal.map_or_else(|| Named::Unknown(reason.to_string()), from_wal)
            }
        }
    }

    fn relation(&self, database: u32, oid: u32, lsn: Lsn) -> Option<Table> {
        let relation = self.taken.relation(database, oid, lsn)?;
        let none = RelationFile { tablespace: 0, database, relation: 0 };
        Some(table_of(relation, self.taken.database(database, lsn), relation.file.unwrap_or(none)))
    }

    fn schema(&self, database: u32, oid: u32, lsn: Lsn) -> Option<String> {
        let seen = self.schemas.get(&(database, oid)).and_then(|known| nearest(known, lsn));
        if let Some((_, name)) = seen {
            return Some(name.clone());
        }
        // initdb gives these the same numbers everywhere (pg_namespace.dat).
        match oid {
            11 => Some("pg_catalog".to_owned()),
            99 => Some("pg_toast".to_owned()),
            2200 => Some("public".to_owned()),
            _ => None,
        }
    }

    fn database(&self, oid: u32, lsn: Lsn) -> Option<String> {
        self.taken.database(oid, lsn).map(str::to_owned)
    }
}

fn table_of(relation: &NamedRelation, database: Option<&str>, file: RelationFile) -> Table {
    Table {
        database: database.map(str::to_owned),
        schema: Some(relation.schema.clone()),
        name: Some(relation.name.clone()),
        oid: Some(relation.oid),
        kind: Some(relation.kind.letter()),
        tablespace: file.tablespace,
        database_oid: file.database,
        file: file.relation,
        unknown: None,
    }
}
