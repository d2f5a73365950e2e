//! `highwater.toml` and the environment: where the repositories and the clusters are.
//!
//! The file is the one named by `--config`, else by `HIGHWATER_CONFIG`, else `/etc/highwater/highwater.toml`. It has a
//! table `[repository]`, or several `[[repository]]`, each then with a `name`, and a table `[cluster.NAME]` for each
//! cluster. Each setting can also be given by a variable of the environment, which wins: the path to it in capitals
//! with `_` for what is no letter or digit, behind `HIGHWATER_`:
//!
//! | setting | variable |
//! | --- | --- |
//! | `url` of the only `[repository]` | `HIGHWATER_REPOSITORY_URL` |
//! | `encrypt-to` of the `[[repository]]` named `off-site` | `HIGHWATER_REPOSITORY_OFF_SITE_ENCRYPT_TO` (a list is separated by commas) |
//! | `data-directory` of `[cluster.main]` | `HIGHWATER_CLUSTER_MAIN_DATA_DIRECTORY` |
//! | `window` of `[retention]` | `HIGHWATER_RETENTION_WINDOW` |
//! | `window` of `[cluster.main.retention]` | `HIGHWATER_CLUSTER_MAIN_RETENTION_WINDOW` |
//!
//! A variable may name a cluster that is not in the file, in small letters then, and the only repository, so that no
//! file is needed at all. A setting that is not known is an error, since what it should have done would be missed:
//! `encrypt_too` must not end in an unencrypted repository. Secrets come from files or the environment and are never
//! printed (R21).

mod ahead;
mod environment;
mod nearest;
mod retention;
mod table;
mod value;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use highwater_storage::{Secret, StoreConfig};
use highwater_wal::Check;
pub use nearest::distance;
pub use retention::RetentionConfig;
use serde::{Deserialize, Deserializer};

use self::table::{File, Table};
use crate::cache;
use crate::codec::{Codec, Compression};
use crate::digest::Digest;
use crate::names::ClusterName;
use crate::{Error, Result};

/// Where the file is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/highwater/highwater.toml";
/// The variable that names the file.
pub const PATH_VARIABLE: &str = "HIGHWATER_CONFIG";
/// A longer file than this is none of ours.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Everything that is configured.
///
/// ```
/// use highwater_repository::Config;
/// let config = Config::parse(
///     r#"
///     [repository]
///     url = "file:///var/lib/highwater"
///     [cluster.main]
///     data-directory = "/var/lib/postgresql/15/main"
///     "#,
///     "highwater.toml",
///     [("HIGHWATER_REPOSITORY_COMPRESSION".into(), "zstd".into())],
/// )?;
/// assert_eq!(config.cluster(None)?.name.as_str(), "main");
/// assert_eq!(config.repositories[0].compression, highwater_repository::Codec::Zstd);
/// # Ok::<(), highwater_repository::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read from, for messages.
    pub place: String,
    /// Digest of the file's text: what two programs compare that must have read the same.
    pub text: Digest,
    /// The repositories, at least one; WAL goes into each of them (R1).
    pub repositories: Vec<RepositoryConfig>,
    /// The clusters, in order of their names.
    pub clusters: Vec<ClusterConfig>,
    /// What is to be kept of every cluster.
    pub retention: RetentionConfig,
}

/// A repository: where it is, and how objects are made for it.
#[derive(Clone, Debug)]
pub struct RepositoryConfig {
    /// Its name, where it has one; needed with several.
    pub name: Option<String>,
    /// Where it is and how it is reached.
    pub store: StoreConfig,
    /// How new objects are compressed.
    pub compression: Codec,
    /// Level of Zstandard, 1 to 19.
    pub compression_level: i32,
    /// How many threads work on one segment; by default the machine's processors, at most 4.
    pub threads: usize,
    /// Public keys to whom new objects are encrypted (`age1…`); with none they are not.
    pub encrypt_to: Vec<String>,
    /// File with the private keys that read encrypted objects.
    pub identity_file: Option<PathBuf>,
    /// What unwraps the private key in the repository.
    pub passphrase: Option<Secret>,
    /// File with it.
    pub passphrase_file: Option<PathBuf>,
    /// Whether a store is accepted that was seen to replace objects (R2).
    pub allow_unsafe_store: bool,
    /// Folder on this machine for copies of objects, so that they need not be fetched again; without one there are no copies.
    pub cache_directory: Option<PathBuf>,
}

/// A cluster of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name in the repository.
    pub name: ClusterName,
    /// How it is reached: a connection string as libpq takes it. It may hold a password, so it is never printed.
    pub connection: Option<Secret>,
    /// Password for the connection.
    pub password: Option<Secret>,
    /// File with it.
    pub password_file: Option<PathBuf>,
    /// Its data directory on this machine.
    pub data_directory: Option<PathBuf>,
    /// How WAL is checked before it is archived (R4).
    pub archive_check: Check,
    /// What is to be kept of it, as far as that differs from other clusters.
    pub retention: RetentionConfig,
    /// How many segments are on their way into a remote repository at once; with 0 one at a time, each by its own call.
    pub archive_ahead: usize,
    /// How many segments a recovery has fetched before it asks for them; with 0 none.
    pub restore_ahead: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RepositorySettings {
    name: Option<String>,
    #[serde(default)]
    compression: Codec,
    #[serde(default = "default_level", deserialize_with = "level")]
    compression_level: i32,
    #[serde(default = "default_threads", deserialize_with = "threads")]
    threads: usize,
    #[serde(default)]
    encrypt_to: Vec<String>,
    identity_file: Option<PathBuf>,
    passphrase: Option<Secret>,
    passphrase_file: Option<PathBuf>,
    #[serde(default)]
    allow_unsafe_store: bool,
    cache_directory: Option<PathBuf>,
}

impl RepositorySettings {
    const SETTINGS: &[&str] = &[
        "name",
        "compression",
        "compression-level",
        "threads",
        "encrypt-to",
        "identity-file",
        "passphrase",
        "passphrase-file",
        "allow-unsafe-store",
        "cache-directory",
    ];
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ClusterSettings {
    connection: Option<Secret>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    data_directory: Option<PathBuf>,
    #[serde(default)]
    archive_check: Check,
    #[serde(default = "ahead::archive", deserialize_with = "ahead::count")]
    archive_ahead: usize,
    #[serde(default = "ahead::restore", deserialize_with = "ahead::count")]
    restore_ahead: usize,
}

impl ClusterSettings {
    const SETTINGS: &[&str] = &[
        "connection",
        "password",
        "password-file",
        "data-directory",
        "archive-check",
        "archive-ahead",
        "restore-ahead",
    ];
}

/// The settings of a repository, those of its store among them.
fn repository_settings() -> impl Iterator<Item = &'static str> + Clone {
    RepositorySettings::SETTINGS.iter().chain(StoreConfig::SETTINGS).copied()
}

/// The settings of a cluster.
fn cluster_settings() -> impl Iterator<Item = &'static str> + Clone {
    ClusterSettings::SETTINGS.iter().copied()
}

/// The settings of what is kept.
fn retention_settings() -> impl Iterator<Item = &'static str> + Clone {
    RetentionConfig::SETTINGS.iter().copied()
}

fn default_level() -> i32 {
    Compression::DEFAULT_LEVEL
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(4))
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    within(i32::deserialize(deserializer)?, 1, 19)
}

fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(usize::deserialize(deserializer)?, 1, Compression::MAX_THREADS)
}

fn within<T: PartialOrd + std::fmt::Display, E: serde::de::Error>(value: T, low: T, high: T) -> Result<T, E> {
    if value < low || value > high {
        return Err(E::custom(format!("{value} is not from {low} to {high}")));
    }
    Ok(value)
}

impl Config {
    /// Reads the configuration of this process: `path` is what `--config` says.
    ///
    /// # Errors
    /// [`Error::Config`] with file and line, or variable, and what to do.
    pub fn load(path: Option<&Path>) -> Result<Config> {
        let named = path.map(Path::to_owned).or_else(|| std::env::var_os(PATH_VARIABLE).map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_PATH.into());
        let place = path.display().to_string();
        match read_small(&path) {
            Ok(text) => Config::parse(&text, &place, std::env::vars_os()),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Config::parse("", &place, std::env::vars_os())
            }
            Err(error) => Err(Error::Config {
                place,
                message: format!("cannot read the configuration: {error}"),
                hint: format!("write it, or name another with --config or {PATH_VARIABLE}"),
            }),
        }
    }

    /// Reads a file alone, without the environment: what a program sees that is started with another one.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of_file(path: &Path) -> Result<Config> {
        let place = path.display().to_string();
        match read_small(path) {
            Ok(text) => Config::parse(&text, &place, []),
            Err(error) => Err(Error::Config {
                place,
                message: format!("cannot read the configuration: {error}"),
                hint: format!("write it, or name another with --config or {PATH_VARIABLE}"),
            }),
        }
    }

    /// The file that is read when `named` is what `--config` says.
    pub fn path(named: Option<&Path>) -> PathBuf {
        let named = named.map(Path::to_owned).or_else(|| std::env::var_os(PATH_VARIABLE).map(PathBuf::from));
        named.unwrap_or_else(|| DEFAULT_PATH.into())
    }

    /// The names of the variables in an environment that are settings of repositories, in order.
    pub fn repository_variables(environment: impl IntoIterator<Item = OsString>) -> Vec<String> {
        let names = environment.into_iter().filter_map(|name| name.into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(environment::REPOSITORY)).collect();
        names.sort();
        names
    }

    /// What the text of a file and an environment say. `place` names the file in messages.
    pub fn parse(
        text: &str,
        place: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config> {
        let mut file = File::parse(text, place)?;
        let environment: Vec<(OsString, OsString)> = environment.into_iter().collect();
        let variable = |wanted: &str| {
            environment.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        };
        environment::overlay(&mut file, environment.iter().cloned())?;
        let mut repositories = Vec::new();
        for table in file.repositories {
            repositories.push(RepositoryConfig::from_table(table)?.with_cache(variable));
        }
        if repositories.is_empty() {
            return Err(Error::Config {
                place: place.to_owned(),
                message: "no repository is configured".to_owned(),
                hint: "write a table [repository] with its url, or set HIGHWATER_REPOSITORY_URL".to_owned(),
            });
        }
        check_names(&repositories, place)?;
        let mut clusters = Vec::new();
        for (name, table) in file.clusters {
            let retention = file.cluster_retention.remove(&name);
            clusters.push(ClusterConfig::from_table(name, table, retention)?);
        }
        let retention = file.retention.map(Table::read).transpose()?.unwrap_or_default();
        let text = Digest::of(text.as_bytes());
        Ok(Config { place: place.to_owned(), text, repositories, clusters, retention })
    }

    /// What is to be kept of a cluster: its own settings, else those for every cluster.
    pub fn retention(&self, name: &ClusterName) -> RetentionConfig {
        let own = self.clusters.iter().find(|cluster| &cluster.name == name);
        own.map(|cluster| cluster.retention.clone()).unwrap_or_default().or(&self.retention)
    }

    /// The cluster of this name; without a name, the only one.
    pub fn cluster(&self, name: Option<&ClusterName>) -> Result<&ClusterConfig> {
        let found = match name {
            Some(name) => self.clusters.iter().find(|cluster| &cluster.name == name),
            None if self.clusters.len() == 1 => self.clusters.first(),
            None => None,
        };
        let known =
            || self.clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| Error::Config {
            place: self.place.clone(),
            message: match name {
                Some(name) => format!("there is no cluster {name}"),
                None => format!("{} clusters are configured, and none was named", self.clusters.len()),
            },
            hint: match self.clusters.len() {
                0 => "write a table [cluster.NAME] with its connection and data-directory".to_owned(),
                _ => format!("name one of these with --cluster: {}", known()),
            },
        })
    }
}

/// With several repositories, each needs a name of its own.
fn check_names(repositories: &[RepositoryConfig], place: &str) -> Result<()> {
    for (index, repository) in repositories.iter().enumerate() {
        let message = match &repository.name {
            None if repositories.len() > 1 => format!("the repository {} has no name", repository.label()),
            Some(name) if repositories[..index].iter().any(|other| other.name.as_ref() == Some(name)) => {
                format!("two repositories are named {name}")
            }
            _ => continue,
        };
        let hint =
            "with several repositories, give each a name of its own, as in name = \"off-site\"".to_owned();
        return Err(Error::Config { place: place.to_owned(), message, hint });
    }
    Ok(())
}

impl RepositoryConfig {
    /// A repository at `url` with nothing else set.
    pub fn from_url(url: impl Into<String>) -> RepositoryConfig {
        RepositoryConfig {
            name: None,
            store: StoreConfig::from_url(url),
            compression: Codec::default(),
            compression_level: default_level(),
            threads: default_threads(),
            encrypt_to: Vec::new(),
            identity_file: None,
            passphrase: None,
            passphrase_file: None,
            allow_unsafe_store: false,
            cache_directory: None,
        }
    }

    fn from_table(table: Table<'_>) -> Result<RepositoryConfig> {
        let (own, store) = table.split(|name| RepositorySettings::SETTINGS.contains(&name));
        let own: RepositorySettings = own.read()?;
        Ok(RepositoryConfig {
            name: own.name,
            store: store.read()?,
            compression: own.compression,
            compression_level: own.compression_level,
            threads: own.threads,
            encrypt_to: own.encrypt_to,
            identity_file: own.identity_file,
            passphrase: own.passphrase,
            passphrase_file: own.passphrase_file,
            allow_unsafe_store: own.allow_unsafe_store,
            cache_directory: own.cache_directory,
        })
    }

    /// The same with the folder for copies that its setting names, or else the environment. A folder of one's own has none unless the
    /// setting names it: it is read as quickly as a copy.
    fn with_cache(mut self, variable: impl Fn(&str) -> Option<OsString>) -> RepositoryConfig {
        self.cache_directory = match self.cache_directory.take() {
            Some(setting) => cache::chosen(setting),
            None if self.store.url.is_folder() && variable(cache::VARIABLE).is_none() => None,
            None => cache::default_folder(variable),
        };
        self
    }

    /// The same with the folder for copies that this process's environment names: `HIGHWATER_CACHE_DIRECTORY`, else one
    /// in the user's cache folder. [`Config::load`] has done that.
    #[must_use]
    pub fn with_cache_of_environment(self) -> RepositoryConfig {
        self.with_cache(|name| std::env::var_os(name))
    }

    /// Its name, or its URL where it has none; for messages.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.store.url.to_string())
    }

    /// How new objects are compressed.
    pub fn compression(&self) -> Compression {
        Compression { codec: self.compression, level: self.compression_level, threads: self.threads }
    }

    /// The passphrase, from the setting or its file.
    pub(crate) fn passphrase(&self) -> Result<Option<Secret>> {
        secret(&self.passphrase, self.passphrase_file.as_deref(), "passphrase")
    }
}

impl ClusterConfig {
    fn from_table(
        name: ClusterName,
        table: Table<'_>,
        retention: Option<Table<'_>>,
    ) -> Result<ClusterConfig> {
        let settings: ClusterSettings = table.read()?;
        Ok(ClusterConfig {
            name,
            connection: settings.connection,
            password: settings.password,
            password_file: settings.password_file,
            data_directory: settings.data_directory,
            archive_check: settings.archive_check,
            retention: retention.map(Table::read).transpose()?.unwrap_or_default(),
            archive_ahead: settings.archive_ahead,
            restore_ahead: settings.restore_ahead,
        })
    }

    /// The password, from the setting or its file; `None` where neither is set.
    pub fn password(&self) -> Result<Option<Secret>> {
        secret(&self.password, self.password_file.as_deref(), "password")
    }
}

/// A secret from its setting or from its file, without the line feed that ends it.
fn secret(setting: &Option<Secret>, file: Option<&Path>, what: &str) -> Result<Option<Secret>> {
    let Some(path) = file else { return Ok(setting.clone()) };
    let failed =
        |message: String, hint: &'static str| Error::File { path: path.display().to_string(), message, hint };
    if setting.is_some() {
        return Err(failed(format!("{what} and {what}-file are both set"), "leave one of them"));
    }
    let text = read_small(path).map_err(|error| {
        failed(
            format!("cannot read the {what}: {error}"),
            "see that the file is there and belongs to this user",
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(failed(format!("the {what} is empty"), "write it into the first line"));
    }
    Ok(Some(Secret::new(text)))
}

/// The text of a file of at most [`MAX_FILE_BYTES`].
pub(crate) fn read_small(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
