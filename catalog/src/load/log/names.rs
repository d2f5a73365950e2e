//! Names by number, for the log.

use std::collections::HashMap;

use highwater_repository::{ClusterRepository, Error};
use highwater_wal::{Lsn, MappedFile, NamespaceRow, RelationFile};

use super::super::NameBook;
use super::feed::Seen;
use crate::log::{ClassChange, End, Named, Namer, Table};
use crate::{NamedRelation, Names, NamesAt, Path};

/// Rows of `pg_class` and `pg_namespace` that are remembered from the WAL; beyond these, what was taken as names has to do.
const MAX_REMEMBERED: usize = 100_000;

/// Numbers below are those of relations that `initdb` made (`FirstNormalObjectId`, transam.h).
const FIRST_NORMAL_OID: u32 = 16384;

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
    /// Relations by the files that relation maps told of: database and file to OID.
    mapped: HashMap<(u32, u32), u32>,
    remembered: usize,
    /// The unbroken stretches of WAL, each by its beginning and end.
    stretches: Vec<(Lsn, Lsn)>,
}

impl LogNames {
    /// Lists the names that were taken.
    pub async fn open(
        cluster: &ClusterRepository,
        path: &Path,
        stretches: Vec<(Lsn, Lsn)>,
    ) -> Result<LogNames, Error> {
        Ok(LogNames {
            path: path.clone(),
            book: NameBook::open(cluster).await?,
            taken: Names::default(),
            turned_to: None,
            classes: HashMap::new(),
            schemas: HashMap::new(),
            mapped: HashMap::new(),
            remembered: 0,
            stretches,
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

    /// The names that lie next to the place that was turned to last.
    pub fn tables(&self) -> &[std::sync::Arc<crate::NamesTable>] {
        self.taken.tables()
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

    /// Remembers what relation maps said.
    pub fn learn_mapped(&mut self, mapped: &[MappedFile]) {
        for MappedFile { database, file, oid } in mapped {
            if self.mapped.len() < MAX_REMEMBERED {
                self.mapped.insert((*database, *file), *oid);
            }
        }
    }

    /// A relation whose file only the relation map tells.
    fn mapped(&self, file: RelationFile, lsn: Lsn) -> Option<Table> {
        let oid = *self.mapped.get(&(file.database, file.relation))?;
        let table = self.relation(file.database, oid, lsn)?;
        Some(Table { tablespace: file.tablespace, file: file.relation, ..table })
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
        nearest(self.classes.get(&file)?, lsn).filter(|(at, _)| self.hole_between(*at, lsn).is_none())
    }

    /// What names say of a file that were taken where nothing is missing in between.
    fn joined(&self, file: RelationFile, lsn: Lsn) -> Option<Table> {
        let joined =
            |table: &&std::sync::Arc<crate::NamesTable>| self.hole_between(table.at.lsn, lsn).is_none();
        let table = self.taken.tables().iter().filter(joined).find(|table| table.by_file(file).is_some())?;
        Some(table_of(table.by_file(file)?, table.database(file.database), file))
    }

    /// Where WAL is missing between two places: what was called something at one of them may be called otherwise at the other.
    fn hole_between(&self, one: Lsn, other: Lsn) -> Option<Lsn> {
        let (low, high) = (one.min(other), one.max(other));
        let ends = self.stretches.iter().map(|(_, end)| *end);
        // Behind the last nothing is missing as far as anybody knows.
        ends.take(self.stretches.len().saturating_sub(1)).find(|end| low <= *end && *end <= high)
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
                _ => match self.hole_between(told_by.lsn, lsn) {
                    // What initdb made is not renamed.
                    Some(_) if let Some(table) = self.joined(file, lsn) => Named::Table(table),
                    Some(hole) if relation.oid >= FIRST_NORMAL_OID => Named::Unknown(format!(
                        "it was called {}.{} when names were taken at {}, and may have got another name in the hole at {hole}",
                        relation.schema, relation.name, told_by.taken_at
                    )),
                    _ => Named::Table(table_of(relation, database, file)),
                },
            },
            crate::Named::Unknown(reason) => {
                let named = in_wal.map(from_wal).or_else(|| self.mapped(file, lsn).map(Named::Table));
                named.unwrap_or_else(|| Named::Unknown(reason.to_string()))
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

#[cfg(test)]
mod tests {
    use highwater_repository::{Repository, RepositoryConfig};
    use highwater_storage::memory::MemoryStore;
    use highwater_wal::{SystemId, TimelineId};

    use super::*;
    use crate::load::names::tests::put;

    #[tokio::test]
    async fn behind_a_hole_a_table_may_be_called_otherwise() {
        let store = std::sync::Arc::new(MemoryStore::default());
        let config = RepositoryConfig::from_url("memory");
        let cluster =
            Repository::with_store(store, &config).unwrap().cluster(&"main".parse().unwrap(), SystemId(7));
        let path = Path::root(TimelineId::FIRST);
        let file = RelationFile { tablespace: 1663, database: 5, relation: 16390 };
        let named = async |lsn: u64| {
            let stretches = vec![(Lsn(0), Lsn(200)), (Lsn(300), Lsn(500))];
            let mut names = LogNames::open(&cluster, &path, stretches).await.unwrap();
            names.turn_to(Lsn(lsn)).await.unwrap();
            match names.file(file, Lsn(lsn)) {
                Named::Table(table) => table.to_string(),
                Named::Unknown(reason) => reason,
            }
        };
        put(&cluster, 100, 100, &[(16390, "t")]).await;
        assert_eq!((named(50).await, named(150).await), ("public.t".to_owned(), "public.t".to_owned()));
        let behind = named(350).await;
        assert!(behind.contains("was called public.t") && behind.contains("hole at 0/C8"), "{behind}");
        put(&cluster, 400, 400, &[(16390, "renamed")]).await;
        assert_eq!(
            (named(150).await, named(350).await),
            ("public.t".to_owned(), "public.renamed".to_owned())
        );
    }
}
