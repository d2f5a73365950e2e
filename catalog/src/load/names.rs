//! The names that were taken, read when they are needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_repository::{ClusterRepository, Error, NamesId, NamesItem, RelationName};
use highwater_wal::{Lsn, RelationFile};

use super::inventory::damage;
use crate::names::names_around;
use crate::{NamedRelation, Names, NamesAt, NamesTable, Path, RelationKind};

/// So many tables of names are kept in memory: those around the last LSN that was asked for.
const KEPT: usize = 4;

/// OID of the tablespace of what all databases share (`GLOBALTABLESPACE_OID`).
const GLOBAL_TABLESPACE: u32 = 1664;

/// The names that were taken of a cluster. The list of them is read at once, they themselves when they are needed.
#[derive(Debug)]
pub struct NameBook {
    cluster: ClusterRepository,
    taken: Vec<NamesId>,
    tables: BTreeMap<NamesId, Read>,
    damaged: BTreeMap<NamesId, String>,
    reads: u64,
}

/// One that has been read.
#[derive(Debug, Clone)]
struct Read {
    table: Arc<NamesTable>,
    /// The end of the WAL when the last name of it was read.
    until: Lsn,
    /// When it was last asked for, counted in questions.
    used: u64,
}

impl NameBook {
    /// Lists what was taken.
    ///
    /// # Errors
    /// Those of the repository.
    pub async fn open(cluster: &ClusterRepository) -> Result<NameBook, Error> {
        Ok(NameBook {
            cluster: cluster.clone(),
            taken: cluster.list_names().await?,
            tables: BTreeMap::new(),
            damaged: BTreeMap::new(),
            reads: 0,
        })
    }

    /// What was taken, in the order of time.
    pub fn taken(&self) -> &[NamesId] {
        &self.taken
    }

    /// What was found damaged so far, and with which reason. It counts as not taken.
    pub fn damaged(&self) -> impl Iterator<Item = (&NamesId, &str)> {
        self.damaged.iter().map(|(id, reason)| (id, reason.as_str()))
    }

    /// The names next to an LSN on a path. Two such tables are read at most, or three where the LSN lies in between the first and the
    /// last name of one; what was read for the LSN before is kept.
    ///
    /// # Errors
    /// Those of the repository, damage apart.
    pub async fn around(&mut self, path: &Path, lsn: Lsn) -> Result<Names, Error> {
        let mut found = self.next_to(path, lsn).await?;
        // While names were read something could have been dropped that was still there at the LSN that they go by.
        let is_within = |read: &Read| read.table.at.lsn <= lsn && lsn < read.until;
        if let Some(read) = found.iter().find(|read| is_within(read)) {
            let before = Lsn(read.table.at.lsn.0.saturating_sub(1));
            found.extend(self.next_to(path, before).await?);
        }
        let mut found: Vec<_> = found.into_iter().map(|read| read.table).collect();
        found.sort_by_key(|table| table.at);
        found.dedup_by_key(|table| table.at);
        Ok(Names::new(path, found))
    }

    /// Those right before and behind an LSN that can be read.
    async fn next_to(&mut self, path: &Path, lsn: Lsn) -> Result<Vec<Read>, Error> {
        // It ends: each round reads both, or finds one more damaged.
        loop {
            let around = names_around(path, self.sound(), at_of, lsn);
            let mut found = Vec::new();
            for id in around.both() {
                found.extend(self.read(id).await?);
            }
            if found.len() == around.both().count() {
                return Ok(found);
            }
        }
    }

    /// One of those that were taken; `None` where it is damaged, which [`NameBook::damaged`] tells then.
    ///
    /// # Errors
    /// Those of the repository, damage apart.
    pub async fn table(&mut self, id: NamesId) -> Result<Option<Arc<NamesTable>>, Error> {
        Ok(self.read(id).await?.map(|read| read.table))
    }

    fn sound(&self) -> impl Iterator<Item = NamesId> {
        self.taken.iter().copied().filter(|id| !self.damaged.contains_key(id))
    }

    async fn read(&mut self, id: NamesId) -> Result<Option<Read>, Error> {
        self.reads += 1;
        if let Some(read) = self.tables.get_mut(&id) {
            read.used = self.reads;
            return Ok(Some(read.clone()));
        }
        if self.damaged.contains_key(&id) {
            return Ok(None);
        }
        match read_table(&self.cluster, &id).await {
            Ok((table, until)) => {
                while self.tables.len() >= KEPT {
                    let oldest = self.tables.iter().min_by_key(|(_, read)| read.used).map(|(id, _)| *id);
                    oldest.and_then(|id| self.tables.remove(&id));
                }
                let read = Read { table: Arc::new(table), until, used: self.reads };
                self.tables.insert(id, read.clone());
                Ok(Some(read))
            }
            Err(error) => {
                self.damaged.insert(id, damage(error)?);
                Ok(None)
            }
        }
    }
}

fn at_of(id: NamesId) -> NamesAt {
    NamesAt { lsn: id.lsn, timeline: id.timeline, taken_at: id.taken_at }
}

async fn read_table(cluster: &ClusterRepository, id: &NamesId) -> Result<(NamesTable, Lsn), Error> {
    let mut reader = cluster.get_names(id).await?;
    let mut table = NamesTable::new(at_of(*id));
    let mut database = 0;
    while let Some(item) = reader.next()? {
        match item {
            NamesItem::Database(found) => {
                database = found.oid;
                table.add_database(found.oid, found.name, found.unreadable);
            }
            NamesItem::Relation(found) => table.add(relation_of(database, found)),
        }
    }
    Ok((table, reader.head().until))
}

fn relation_of(database: u32, found: RelationName) -> NamedRelation {
    let shared = found.tablespace == GLOBAL_TABLESPACE;
    let database = if shared { 0 } else { database };
    let file = RelationFile { tablespace: found.tablespace, database, relation: found.file };
    NamedRelation {
        database,
        oid: found.oid,
        file: Some(file).filter(|file| file.relation != 0),
        schema: found.schema,
        name: found.name,
        kind: RelationKind::from_letter(found.kind),
        is_logged: found.persistence == 'p',
        table: found.table,
        partition_of: found.partition_of,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use highwater_repository::{DatabaseNames, NamesWriter, Repository, RepositoryConfig};
    use highwater_wal::{SystemId, TimelineId, Timestamp};

    use super::*;
    use crate::Named;

    const FILE: RelationFile = RelationFile { tablespace: 1663, database: 5, relation: 16390 };

    fn relation(file: u32, name: &str) -> RelationName {
        RelationName {
            oid: file,
            file,
            tablespace: 1663,
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind: 'r',
            persistence: 'p',
            table: None,
            partition_of: None,
        }
    }

    /// Puts names of relations, each by its file, of one database.
    pub async fn put(
        cluster: &ClusterRepository,
        lsn: u64,
        until: u64,
        relations: &[(u32, &str)],
    ) -> NamesId {
        let mut writer = NamesWriter::new().unwrap();
        let app = DatabaseNames { oid: 5, name: "app".to_owned(), tablespace: 1663, unreadable: None };
        writer.database(&app).unwrap();
        for (file, name) in relations {
            writer.relation(&relation(*file, name)).unwrap();
        }
        let taken = Timestamp(lsn as i64);
        let names = writer.finish(taken, TimelineId::FIRST, Lsn(lsn), Lsn(until), false).unwrap();
        cluster.put_names(&names).await.unwrap();
        names.id()
    }

    #[tokio::test]
    async fn names_are_read_where_they_are_needed_and_damaged_ones_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/repository", folder.path().display());
        let (repository, _) = Repository::init(&RepositoryConfig::from_url(&url)).await.unwrap();
        let cluster = repository.cluster(&"main".parse().unwrap(), SystemId(7));
        put(&cluster, 100, 110, &[(16390, "t"), (16400, "gone")]).await;
        put(&cluster, 200, 220, &[(16390, "t2")]).await;
        let last = put(&cluster, 300, 300, &[(16390, "t3")]).await;

        let path = Path::root(TimelineId::FIRST);
        let mut book = NameBook::open(&cluster).await.unwrap();
        assert_eq!(book.taken().len(), 3);
        let named = async |book: &mut NameBook, file: RelationFile, lsn: u64| {
            let names = book.around(&path, Lsn(lsn)).await.unwrap();
            match names.of(file, Lsn(lsn)) {
                Named::Relation { relation, .. } => relation.name.clone(),
                Named::Unknown(reason) => reason.to_string(),
            }
        };
        assert_eq!(named(&mut book, FILE, 50).await, "t");
        assert_eq!(named(&mut book, FILE, 150).await, "t");
        assert_eq!(named(&mut book, FILE, 300).await, "t3");
        let gone = RelationFile { relation: 16400, ..FILE };
        assert_eq!(named(&mut book, gone, 210).await, "gone", "dropped while names were taken");
        assert!(named(&mut book, gone, 230).await.starts_with("made after"));

        let object = folder.path().join("repository").join(cluster.section().names_at(&last).as_str());
        let mut bytes = std::fs::read(&object).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&object, bytes).unwrap();
        let mut book = NameBook::open(&cluster).await.unwrap();
        assert_eq!(named(&mut book, FILE, 300).await, "t2");
        let damaged: Vec<_> = book.damaged().collect();
        assert!(
            matches!(damaged[..], [(id, reason)] if *id == last && reason.contains("/names/")),
            "{damaged:?}"
        );
    }
}
