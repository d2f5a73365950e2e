//! Which table somebody may mean, by the names that were taken last.

use highwater_repository::Error;
use highwater_repository::config::distance;
use highwater_wal::Timestamp;

use super::{Catalog, NameBook};
use crate::log::TablePattern;
use crate::{NamedRelation, NamesTable, RelationKind};

/// As many names are offered.
const MOST_OFFERED: usize = 5;

/// What the names that were taken last say of a table's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NearNames {
    /// When they were taken; `None` where there are none.
    pub taken_at: Option<Timestamp>,
    /// Whether there is a table of the name.
    pub is_known: bool,
    /// Where it is a partitioned table: some of its partitions.
    pub partitions: Vec<String>,
    /// Names that differ little.
    pub near: Vec<String>,
}

impl NearNames {
    /// What to know of somebody's asking for a table of which nothing was found, in a sentence without its end; `None` where the names say
    /// nothing against it.
    pub fn advice(&self, table: &TablePattern) -> Option<String> {
        let taken_at = self.taken_at?;
        if !self.partitions.is_empty() {
            return Some(format!(
                "{table} is a partitioned table, and no transaction is known that emptied all of its partitions: ask for one of them, such as {}",
                self.partitions.join(", ")
            ));
        }
        if self.is_known {
            return None;
        }
        let near = match self.near.is_empty() {
            true => String::new(),
            false => format!("; like it are {}", self.near.join(", ")),
        };
        Some(format!(
            "there was no table {table} when names were taken last, at {taken_at}{near}; a name is written as in SQL, with quotes where it \
             has capitals"
        ))
    }
}

impl Catalog {
    /// What the names that were taken last say of a table's name.
    ///
    /// # Errors
    /// Those of the repository, damage apart.
    pub async fn names_near(&self, pattern: &TablePattern) -> Result<NearNames, Error> {
        let mut book = NameBook::open(self.cluster()).await?;
        for id in book.taken().to_vec().into_iter().rev() {
            if let Some(table) = book.table(id).await? {
                return Ok(near(&table, pattern));
            }
        }
        Ok(NearNames::default())
    }
}

fn near(names: &NamesTable, pattern: &TablePattern) -> NearNames {
    let in_database = |relation: &&NamedRelation| {
        let database = names.database(relation.database);
        pattern.database.as_deref().is_none_or(|wanted| database == Some(wanted))
    };
    let found: Vec<&NamedRelation> =
        names.find(pattern.schema.as_deref(), &pattern.name).filter(in_database).collect();
    let mut partitions = Vec::new();
    for parent in found.iter().filter(|relation| relation.kind == RelationKind::PartitionedTable) {
        partitions.extend(names.leaves_of(parent).into_iter().map(shown));
    }
    partitions.truncate(MOST_OFFERED);
    let is_table = |relation: &&NamedRelation| {
        let kinds = [RelationKind::Table, RelationKind::PartitionedTable, RelationKind::MaterializedView];
        kinds.contains(&relation.kind) && !relation.is_of_the_system()
    };
    let mut near: Vec<(usize, String)> = Vec::new();
    if found.is_empty() {
        for relation in names.relations().iter().filter(is_table) {
            let far = distance(&relation.name.to_lowercase(), &pattern.name.to_lowercase());
            if far <= 1 + relation.name.len().min(pattern.name.len()) / 4 {
                near.push((far, shown(relation)));
            }
        }
    }
    near.sort();
    near.dedup();
    NearNames {
        taken_at: Some(names.at.taken_at),
        is_known: !found.is_empty(),
        partitions,
        near: near.into_iter().take(MOST_OFFERED).map(|(_, name)| name).collect(),
    }
}

fn shown(relation: &NamedRelation) -> String {
    TablePattern { database: None, schema: Some(relation.schema.clone()), name: relation.name.clone() }
        .to_string()
}

#[cfg(test)]
mod tests {
    use highwater_wal::{Lsn, TimelineId};

    use super::*;
    use crate::NamesAt;

    #[test]
    fn a_name_that_nobody_knows_is_told_with_those_that_are_like_it() {
        let at = NamesAt { lsn: Lsn(1), timeline: TimelineId::FIRST, taken_at: Timestamp(0) };
        let mut names = NamesTable::new(at);
        names.add_database(5, "app".to_owned(), None);
        let mut add = |oid: u32, schema: &str, name: &str, kind: char, partition_of: Option<u32>| {
            names.add(NamedRelation {
                database: 5,
                oid,
                file: None,
                schema: schema.to_owned(),
                name: name.to_owned(),
                kind: RelationKind::from_letter(kind),
                is_logged: true,
                table: None,
                partition_of,
            });
        };
        add(1, "public", "orders", 'r', None);
        add(2, "public", "Customers", 'r', None);
        add(3, "public", "events", 'p', None);
        add(4, "public", "events_old", 'p', Some(3));
        add(5, "s", "events_2024", 'r', Some(4));
        add(6, "s", "events_2026", 'r', Some(3));
        add(7, "pg_catalog", "pg_order", 'r', None);
        let near = |name: &str| near(&names, &name.parse().unwrap());
        assert_eq!(near("orders").advice(&"orders".parse().unwrap()), None);
        assert!(near("app.public.orders").is_known);
        assert!(!near("other.public.orders").is_known);
        assert_eq!(near("oders").near, ["public.orders"]);
        assert_eq!(near("customers").near, ["public.\"Customers\""]);
        assert_eq!(near("nothing_like_it").near, [""; 0]);
        assert_eq!(near("events").partitions, ["s.events_2026", "s.events_2024"]);
        let advice = near("events").advice(&"events".parse().unwrap()).unwrap();
        assert!(advice.contains("is a partitioned table"), "{advice}");
        assert_eq!(NearNames::default().advice(&"x".parse().unwrap()), None);
    }
}
