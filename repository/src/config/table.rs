//! The file's tables, with the place of each setting.

use std::collections::BTreeMap;

use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::value::{Content, Fault, Value};
use super::{cluster_settings, repository_settings, retention_settings};
use crate::names::ClusterName;
use crate::{Error, Result};

/// The settings of one repository or cluster.
#[derive(Debug)]
pub(super) struct Table<'a> {
    /// File and line.
    pub(super) place: String,
    pub(super) settings: BTreeMap<String, Value<'a>>,
}

/// All tables of the file.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) repositories: Vec<Table<'a>>,
    pub(super) clusters: BTreeMap<ClusterName, Table<'a>>,
    /// `[retention]`.
    pub(super) retention: Option<Table<'a>>,
    /// `[cluster.NAME.retention]`.
    pub(super) cluster_retention: BTreeMap<ClusterName, Table<'a>>,
}

/// The name of the tables that say what is kept.
const RETENTION: &str = "retention";

impl<'a> File<'a> {
    /// Takes the text apart; refuses settings that are not known.
    pub(super) fn parse(text: &'a str, place: &str) -> Result<File<'a>> {
        let lines = Lines { text, place };
        let root = DeTable::parse(text).map_err(|error| Error::Config {
            place: lines.at(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
            hint: "the file is TOML: texts stand in quotes, tables in brackets".to_owned(),
        })?;
        let mut file = File {
            repositories: Vec::new(),
            clusters: BTreeMap::new(),
            retention: None,
            cluster_retention: BTreeMap::new(),
        };
        for (name, value) in root.into_inner() {
            let at = lines.at(name.span().start);
            match (name.as_ref().as_ref(), value.into_inner()) {
                ("repository", DeValue::Table(table)) => {
                    file.repositories.push(lines.table(at, table, repository_settings(), "a repository")?);
                }
                ("repository", DeValue::Array(tables)) => {
                    for table in tables {
                        let at = lines.at(table.span().start);
                        match table.into_inner() {
                            DeValue::Table(table) => {
                                file.repositories.push(lines.table(
                                    at,
                                    table,
                                    repository_settings(),
                                    "a repository",
                                )?);
                            }
                            _ => return Err(not_a_table(at, "repository", "[repository]")),
                        }
                    }
                }
                ("cluster", DeValue::Table(clusters)) => {
                    for (name, value) in clusters {
                        let at = lines.at(name.span().start);
                        let DeValue::Table(mut table) = value.into_inner() else {
                            return Err(not_a_table(at, name.as_ref(), "[cluster.NAME]"));
                        };
                        let cluster: ClusterName =
                            name.as_ref().parse().map_err(|error: Error| Error::Config {
                                place: at.clone(),
                                message: "the cluster's name".to_owned(),
                                hint: error.to_string(),
                            })?;
                        if let Some(retention) = table.remove(RETENTION) {
                            let at = lines.at(retention.span().start);
                            let DeValue::Table(retention) = retention.into_inner() else {
                                return Err(not_a_table(at, RETENTION, "[cluster.NAME.retention]"));
                            };
                            let retention = lines.table(at, retention, retention_settings(), RETENTION)?;
                            file.cluster_retention.insert(cluster.clone(), retention);
                        }
                        let table = lines.table(at, table, cluster_settings(), "a cluster")?;
                        file.clusters.insert(cluster, table);
                    }
                }
                (RETENTION, DeValue::Table(table)) => {
                    file.retention = Some(lines.table(at, table, retention_settings(), RETENTION)?);
                }
                (RETENTION, _) => return Err(not_a_table(at, RETENTION, "[retention]")),
                ("repository", _) => return Err(not_a_table(at, "repository", "[repository]")),
                ("cluster", _) => return Err(not_a_table(at, "cluster", "[cluster.NAME]")),
                (other, _) => {
                    return Err(unknown(
                        at,
                        other,
                        ["repository", "cluster", RETENTION].into_iter(),
                        "the file",
                    ));
                }
            }
        }
        Ok(file)
    }
}

fn not_a_table(place: String, name: &str, header: &str) -> Error {
    Error::Config {
        place,
        message: format!("{name} is not a table"),
        hint: format!("begin it with a line {header}"),
    }
}

/// The error for a setting that is not known.
pub(super) fn unknown<'k>(
    place: String,
    name: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    of: &str,
) -> Error {
    let hint = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("{of} has these: {}", known.collect::<Vec<_>>().join(", ")),
    };
    Error::Config { place, message: format!("the setting {name} is not known"), hint }
}

/// Finds the line of a place in the text.
struct Lines<'t> {
    text: &'t str,
    place: &'t str,
}

impl Lines<'_> {
    fn at(&self, offset: usize) -> String {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        format!("{} line {}", self.place, 1 + before.iter().filter(|byte| **byte == b'\n').count())
    }

    fn table<'a, 'k>(
        &self,
        place: String,
        table: DeTable<'a>,
        known: impl Iterator<Item = &'k str> + Clone,
        of: &str,
    ) -> Result<Table<'a>> {
        let mut settings = BTreeMap::new();
        for (name, value) in table {
            let place = self.at(name.span().start);
            let name = name.into_inner().into_owned();
            if !known.clone().any(|known| known == name) {
                return Err(unknown(place, &name, known, of));
            }
            settings.insert(name, Value { place, content: Content::File(value) });
        }
        Ok(Table { place, settings })
    }
}

impl<'a> Table<'a> {
    /// The settings for which `belongs` says yes, and the others.
    pub(super) fn split(self, belongs: impl Fn(&str) -> bool) -> (Table<'a>, Table<'a>) {
        let (ours, theirs) = self.settings.into_iter().partition(|(name, _)| belongs(name));
        (Table { place: self.place.clone(), settings: ours }, Table { place: self.place, settings: theirs })
    }

    /// Reads the settings as a struct.
    pub(super) fn read<T: Deserialize<'a>>(self) -> Result<T> {
        let place = self.place.clone();
        T::deserialize(self).map_err(|fault| Error::Config {
            place: fault.place.unwrap_or(place),
            message: fault.message,
            hint: "correct the setting; docs/OPERATIONS.md lists all of them".to_owned(),
        })
    }
}

impl<'de> de::Deserializer<'de> for Table<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Fault> {
        visitor.visit_map(Settings { rest: self.settings.into_iter(), value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Settings<'a> {
    rest: std::collections::btree_map::IntoIter<String, Value<'a>>,
    value: Option<(String, Value<'a>)>,
}

impl<'de> MapAccess<'de> for Settings<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> std::result::Result<Option<K::Value>, Fault> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        let key = seed.deserialize(name.as_str().into_deserializer()).map(Some);
        self.value = Some((name, value));
        key
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> std::result::Result<V::Value, Fault> {
        match self.value.take() {
            Some((name, value)) => value.read(&name, seed),
            None => Err(de::Error::custom("a value was asked for before its name")),
        }
    }
}
