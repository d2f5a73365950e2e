//! The names that were taken at one time, to be looked up by number.

use std::collections::{BTreeMap, HashMap};

use highwater_wal::{Catalog, CatalogPlace, RelationFile};
use serde::{Serialize, Serializer};

use super::NamesAt;

/// What a relation is (`pg_class.relkind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// A table, perhaps a partition.
    Table,
    /// An index.
    Index,
    /// A sequence.
    Sequence,
    /// A TOAST table.
    Toast,
    /// A materialized view.
    MaterializedView,
    /// A partitioned table, which has no file.
    PartitionedTable,
    /// Another one, by its letter.
    Other(char),
}

impl RelationKind {
    /// From `pg_class.relkind`.
    pub fn from_letter(letter: char) -> RelationKind {
        match letter {
            'r' => RelationKind::Table,
            'i' => RelationKind::Index,
            'S' => RelationKind::Sequence,
            't' => RelationKind::Toast,
            'm' => RelationKind::MaterializedView,
            'p' => RelationKind::PartitionedTable,
            other => RelationKind::Other(other),
        }
    }

    /// As in `pg_class.relkind`.
    pub fn letter(self) -> char {
        match self {
            RelationKind::Table => 'r',
            RelationKind::Index => 'i',
            RelationKind::Sequence => 'S',
            RelationKind::Toast => 't',
            RelationKind::MaterializedView => 'm',
            RelationKind::PartitionedTable => 'p',
            RelationKind::Other(letter) => letter,
        }
    }
}

impl std::fmt::Display for RelationKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RelationKind::Table => f.write_str("table"),
            RelationKind::Index => f.write_str("index"),
            RelationKind::Sequence => f.write_str("sequence"),
            RelationKind::Toast => f.write_str("TOAST table"),
            RelationKind::MaterializedView => f.write_str("materialized view"),
            RelationKind::PartitionedTable => f.write_str("partitioned table"),
            RelationKind::Other(letter) => write!(f, "relation of kind {letter}"),
        }
    }
}

impl Serialize for RelationKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A relation and what it was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedRelation {
    /// OID of its database; 0 for one that all share.
    pub database: u32,
    /// Its OID.
    pub oid: u32,
    /// Its file; `None` for a partitioned table.
    #[serde(skip)]
    pub file: Option<RelationFile>,
    /// The name of its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Whether it is written to the WAL; an unlogged one is not.
    pub is_logged: bool,
    /// OID of the table that a TOAST table or an index belongs to.
    pub table: Option<u32>,
    /// OID of the partitioned table right above a partition.
    pub partition_of: Option<u32>,
}

impl NamedRelation {
    /// Whether it belongs to PostgreSQL itself.
    pub fn is_of_the_system(&self) -> bool {
        matches!(self.schema.as_str(), "pg_catalog" | "information_schema")
            // A catalog's TOAST table has an OID that initdb gave it.
            || (self.schema == "pg_toast" && self.oid < FIRST_NORMAL_OID)
    }
}

/// `FirstNormalObjectId`, transam.h.
const FIRST_NORMAL_OID: u32 = 16384;

#[derive(Debug)]
struct Database {
    name: String,
    unreadable: Option<String>,
}

/// The names that were taken at one time.
#[derive(Debug)]
pub struct NamesTable {
    /// When and where.
    pub at: NamesAt,
    databases: BTreeMap<u32, Database>,
    relations: Vec<NamedRelation>,
    by_file: HashMap<RelationFile, u32>,
    by_oid: HashMap<(u32, u32), u32>,
}

impl NamesTable {
    /// A table with nothing in it yet.
    pub fn new(at: NamesAt) -> NamesTable {
        NamesTable {
            at,
            databases: BTreeMap::new(),
            relations: Vec::new(),
            by_file: HashMap::new(),
            by_oid: HashMap::new(),
        }
    }

    /// Adds a database; with the reason, in a clause, where its relations could not be read. 0 stands for what all share.
    pub fn add_database(&mut self, oid: u32, name: String, unreadable: Option<String>) {
        self.databases.insert(oid, Database { name, unreadable });
    }

    /// Adds a relation.
    pub fn add(&mut self, relation: NamedRelation) {
        // No object holds as many relations as would not fit.
        let index = self.relations.len() as u32;
        if let Some(file) = relation.file {
            self.by_file.insert(file, index);
        }
        self.by_oid.insert((relation.database, relation.oid), index);
        self.relations.push(relation);
    }

    fn at_index(&self, index: Option<&u32>) -> Option<&NamedRelation> {
        self.relations.get(*index? as usize)
    }

    /// The relation that has a file.
    pub fn by_file(&self, file: RelationFile) -> Option<&NamedRelation> {
        self.at_index(self.by_file.get(&file))
    }

    /// The relation with an OID; of the shared ones in any database.
    pub fn by_oid(&self, database: u32, oid: u32) -> Option<&NamedRelation> {
        self.at_index(self.by_oid.get(&(database, oid)))
    }

    /// The name of a database.
    pub fn database(&self, oid: u32) -> Option<&str> {
        self.databases.get(&oid).map(|database| database.name.as_str()).filter(|_| oid != 0)
    }

    /// The name of a database whose relations could not be read, and why.
    pub fn unreadable(&self, oid: u32) -> Option<(&str, &str)> {
        let database = self.databases.get(&oid)?;
        Some((database.name.as_str(), database.unreadable.as_deref()?))
    }

    /// Where each database's catalogs lay that names are made of.
    pub fn catalog_places(&self) -> impl Iterator<Item = CatalogPlace> + '_ {
        let all = |database: &u32| [(*database, Catalog::Class), (*database, Catalog::Namespace)];
        self.databases.keys().flat_map(all).filter_map(|(database, catalog)| {
            let file = self.by_oid(database, catalog.oid())?.file?;
            (database != 0).then_some(CatalogPlace { catalog, database, file: file.relation })
        })
    }

    /// All relations.
    pub fn relations(&self) -> &[NamedRelation] {
        &self.relations
    }

    /// The partitions below a partitioned table that are no partitioned tables themselves.
    pub fn leaves_of(&self, parent: &NamedRelation) -> Vec<&NamedRelation> {
        let (mut parents, mut leaves) = (vec![parent.oid], Vec::new());
        // Each is below one other only, and nothing is below itself: as many rounds as there are partitioned tables.
        while let Some(oid) = parents.pop() {
            let is_below = |relation: &&NamedRelation| {
                relation.partition_of == Some(oid) && relation.database == parent.database
            };
            for relation in self.relations.iter().filter(is_below) {
                match relation.kind {
                    RelationKind::PartitionedTable => parents.push(relation.oid),
                    RelationKind::Table => leaves.push(relation),
                    // A partitioned index has partitions, too; a foreign table has no rows here.
                    _ => {}
                }
            }
        }
        leaves
    }

    /// The relations of one name, in any database; in one schema or in any, those of the system left out where no schema is named.
    pub fn find<'a>(
        &'a self,
        schema: Option<&'a str>,
        name: &'a str,
    ) -> impl Iterator<Item = &'a NamedRelation> {
        self.relations.iter().filter(move |relation| {
            relation.name == name
                && match schema {
                    Some(schema) => relation.schema == schema,
                    None => !relation.is_of_the_system(),
                }
        })
    }
}
