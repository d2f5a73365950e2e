//! Settings from variables of the environment, laid over those of the file.

use std::ffi::OsString;

use super::table::{File, Table, unknown};
use super::value::{Content, Value};
use super::{cluster_settings, repository_settings, retention_settings};
use crate::names::ClusterName;
use crate::{Error, Result};

pub(super) const REPOSITORY: &str = "HIGHWATER_REPOSITORY_";
const CLUSTER: &str = "HIGHWATER_CLUSTER_";
const RETENTION: &str = "HIGHWATER_RETENTION_";

/// Adds what the variables say; each replaces the file's setting. Variables of other names are passed over.
pub(super) fn overlay(
    file: &mut File<'_>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<()> {
    let mut variables = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        if ![REPOSITORY, CLUSTER, RETENTION].iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let value = value.into_string().map_err(|_| Error::Config {
            place: format!("environment variable {name}"),
            message: "its value is not UTF-8".to_owned(),
            hint: "set it again".to_owned(),
        })?;
        variables.push((name.to_owned(), value));
    }
    // The environment has no order of its own; with one, the same variables always give the same message.
    variables.sort();
    for (name, value) in variables {
        let place = format!("environment variable {name}");
        let (table, setting) = if let Some(rest) = name.strip_prefix(REPOSITORY) {
            repository_setting(file, rest, &place)?
        } else if let Some(rest) = name.strip_prefix(RETENTION) {
            retention_setting(file, rest, &place)?
        } else {
            cluster_setting(file, &name[CLUSTER.len()..], &place)?
        };
        table.settings.insert(setting.to_owned(), Value { place, content: Content::Variable(value) });
    }
    Ok(())
}

/// How a setting or a name is written in a variable.
fn shouted(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn repository_setting<'f, 'a>(
    file: &'f mut File<'a>,
    rest: &str,
    place: &str,
) -> Result<(&'f mut Table<'a>, &'static str)> {
    if let Some(setting) = repository_settings().find(|setting| shouted(setting) == rest) {
        if file.repositories.is_empty() {
            file.repositories.push(Table { place: place.to_owned(), settings: Default::default() });
        }
        return match file.repositories.as_mut_slice() {
            [one] => Ok((one, setting)),
            several => Err(Error::Config {
                place: place.to_owned(),
                message: format!("it does not say which of the {} repositories it is for", several.len()),
                hint: format!("put the repository's name before the setting, as in {REPOSITORY}NAME_{rest}"),
            }),
        };
    }
    for table in &mut file.repositories {
        let Some(name) = table.settings.get("name").and_then(text) else { continue };
        let Some(rest) = rest.strip_prefix(&shouted(&name)).and_then(|rest| rest.strip_prefix('_')) else {
            continue;
        };
        if let Some(setting) = repository_settings().find(|setting| shouted(setting) == rest) {
            return Ok((table, setting));
        }
    }
    let name = rest.to_ascii_lowercase().replace('_', "-");
    Err(unknown(place.to_owned(), &name, repository_settings(), "a repository"))
}

fn retention_setting<'f, 'a>(
    file: &'f mut File<'a>,
    rest: &str,
    place: &str,
) -> Result<(&'f mut Table<'a>, &'static str)> {
    let Some(setting) = retention_settings().find(|setting| shouted(setting) == rest) else {
        let name = rest.to_ascii_lowercase().replace('_', "-");
        return Err(unknown(place.to_owned(), &name, retention_settings(), "retention"));
    };
    let empty = || Table { place: place.to_owned(), settings: Default::default() };
    Ok((file.retention.get_or_insert_with(empty), setting))
}

fn text(value: &Value<'_>) -> Option<String> {
    match &value.content {
        Content::File(value) => value.as_ref().as_str().map(str::to_owned),
        Content::Variable(text) => Some(text.clone()),
    }
}

fn cluster_setting<'f, 'a>(
    file: &'f mut File<'a>,
    rest: &str,
    place: &str,
) -> Result<(&'f mut Table<'a>, &'static str)> {
    // The longest setting wins: …_PASSWORD_FILE is not the setting "file" of a cluster "…_password".
    let of_cluster = cluster_settings().map(|setting| (false, setting, shouted(setting)));
    let of_retention =
        retention_settings().map(|setting| (true, setting, format!("RETENTION_{}", shouted(setting))));
    let settings = of_cluster.chain(of_retention).filter_map(|(is_retention, setting, shouted)| {
        let name = rest.strip_suffix(&shouted)?.strip_suffix('_')?;
        (!name.is_empty()).then_some((is_retention, setting, name))
    });
    let Some((is_retention, setting, shouted_name)) = settings.min_by_key(|(_, _, name)| name.len()) else {
        let name = rest.split_once('_').map_or(rest, |(_, setting)| setting);
        let name = name.to_ascii_lowercase().replace('_', "-");
        return Err(unknown(place.to_owned(), &name, cluster_settings(), "a cluster"));
    };
    let mut names = file.clusters.keys().filter(|name| shouted(name.as_str()) == shouted_name);
    let name = match (names.next(), names.next()) {
        (Some(one), None) => one.clone(),
        (None, _) => shouted_name.to_ascii_lowercase().parse::<ClusterName>()?,
        (Some(one), Some(other)) => {
            return Err(Error::Config {
                place: place.to_owned(),
                message: format!("it could mean cluster {one} or cluster {other}"),
                hint: "set it in the file".to_owned(),
            });
        }
    };
    let empty = || Table { place: place.to_owned(), settings: Default::default() };
    let cluster = file.clusters.entry(name.clone()).or_insert_with(empty);
    let table = match is_retention {
        true => file.cluster_retention.entry(name).or_insert_with(empty),
        false => cluster,
    };
    Ok((table, setting))
}
