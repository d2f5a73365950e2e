//! `highwater init`: makes or joins a repository, brings the cluster into it, and prints the lines for postgresql.conf.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use highwater_basebackup::advice::ServerSettings;
use highwater_replication::{Mode, connect};
use highwater_repository::{
    ClusterConfig, ClusterRepository, Config, Initialised, KeyPair, PASSPHRASE_WORK_FACTOR, Repository,
    RepositoryConfig, Secret,
};
use highwater_wal::Check;
use serde_json::json;

use crate::archive_command;
use crate::args::{Common, InitArgs};
use crate::context::{Context, connection_of};
use crate::error::Error;
use crate::output;

pub async fn run(common: &Common, args: &InitArgs) -> Result<(), Error> {
    let setup = Setup::new(common, args)?;
    let connection = connection_of(&setup.cluster, args.connection.as_deref())?;
    // The server first: nothing is left half made when it does not answer.
    let mut client = connect(&connection, Mode::Sql).await?;
    let server = ServerSettings::ask(&mut client).await?;
    client.close().await;

    let keys = Keys::new(args)?;
    let mut configs = setup.repositories.clone();
    if let Some(pair) = &keys.pair {
        for config in configs.iter_mut().filter(|config| config.encrypt_to.is_empty()) {
            config.encrypt_to = vec![pair.recipient().to_owned()];
        }
    }
    let (mut made, mut clusters) = (Vec::new(), Vec::new());
    for config in &configs {
        let (repository, initialised) = Repository::init(config).await?;
        keys.store(&repository).await?;
        let cluster = repository.cluster(&setup.cluster.name, server.system_id);
        // What was there before was compared: another segment size or version is an error.
        let _ = cluster.register(server.segment_size, server.major_version()).await?;
        made.push((repository, initialised));
        clusters.push(cluster);
    }
    let notes = match put_history(&connection, &clusters).await {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!(
            "The history of the server's timeline is not in the repository yet: {error}\n\
             Mend that, and run `highwater check`, which puts it there."
        )],
    };
    let written = setup.write_config(args, &server, &keys)?;
    let answer = Answer { setup: &setup, server: &server, keys: &keys, made: &made, written, notes };
    if common.json { output::json(&answer.json()) } else { output::print(&answer.text()) }
}

/// Puts the history of the timeline that the server is on: an archive that begins after a promotion would lack it, since the
/// server archives it but once.
async fn put_history(
    connection: &highwater_replication::Config,
    clusters: &[ClusterRepository],
) -> Result<(), Error> {
    let mut client = connect(connection, Mode::Replication).await?;
    let timeline = client.identify_system().await?.timeline;
    for cluster in clusters {
        highwater_basebackup::put_history(&mut client, timeline, cluster).await?;
    }
    client.close().await;
    Ok(())
}

/// What is to be set up: from the configuration, or from the arguments where there is none yet.
struct Setup {
    /// Where the configuration is, or will be.
    path: PathBuf,
    /// Whether it is there already.
    exists: bool,
    repositories: Vec<RepositoryConfig>,
    cluster: ClusterConfig,
}

impl Setup {
    fn new(common: &Common, args: &InitArgs) -> Result<Setup, Error> {
        let path = Config::path(common.config.as_deref());
        let path = std::path::absolute(&path)
            .map_err(|source| Error::Io { what: format!("find {}", path.display()), source })?;
        if path.exists() {
            return Setup::configured(common, args, path);
        }
        let Some(url) = &common.repository else {
            return Err(Error::usage(format!(
                "there is no configuration {}; hint: name the repository with --repository URL, and it will be written",
                path.display()
            )));
        };
        let Some(name) = common.cluster.clone() else {
            return Err(Error::usage("the cluster needs a name in the repository; hint: add --cluster main"));
        };
        let mut repository = RepositoryConfig::from_url(url);
        repository.allow_unsafe_store = args.allow_unsafe_store;
        let cluster = ClusterConfig {
            name,
            connection: args.connection.clone().map(Secret::new),
            password: None,
            password_file: None,
            data_directory: None,
            archive_check: Check::default(),
            retention: Default::default(),
            archive_ahead: ClusterConfig::DEFAULT_ARCHIVE_AHEAD,
            restore_ahead: ClusterConfig::DEFAULT_RESTORE_AHEAD,
        };
        Ok(Setup { path, exists: false, repositories: vec![repository], cluster })
    }

    /// With a configuration all of its repositories are made (R1: a segment has to be in each of them).
    fn configured(common: &Common, args: &InitArgs, path: PathBuf) -> Result<Setup, Error> {
        let config = Config::load(Some(&path))?;
        let cluster = config.cluster(common.cluster.as_ref())?.clone();
        let context = Context { common: common.clone(), config: Some(config) };
        let mut repositories = context.repository_configs()?;
        for repository in &mut repositories {
            repository.allow_unsafe_store |= args.allow_unsafe_store;
        }
        Ok(Setup { path, exists: true, repositories, cluster })
    }

    /// Writes the configuration where there was none. `None`: there was one.
    fn write_config(
        &self,
        args: &InitArgs,
        server: &ServerSettings,
        keys: &Keys,
    ) -> Result<Option<Written>, Error> {
        if self.exists {
            return Ok(None);
        }
        let text = self.config_text(args, server, keys);
        match write_new(&self.path, &text) {
            Ok(()) => Ok(Some(Written::To(self.path.clone()))),
            Err(error) => Ok(Some(Written::Not { path: self.path.clone(), text, error: error.to_string() })),
        }
    }

    fn config_text(&self, args: &InitArgs, server: &ServerSettings, keys: &Keys) -> String {
        let mut text = String::from("[repository]\n");
        for repository in &self.repositories {
            text += &format!("url = {}\n", quoted(repository.store.url.expose()));
        }
        if let Some(pair) = &keys.pair {
            text += &format!("encrypt-to = [{}]\n", quoted(pair.recipient()));
        }
        for line in keys.lines().lines() {
            text += &format!("{}\n", line.trim_start());
        }
        if args.allow_unsafe_store {
            text += "allow-unsafe-store = true\n";
        }
        text += &format!("\n[cluster.{}]\n", self.cluster.name);
        if let Some(connection) = &args.connection {
            text += &format!("connection = {}\n", quoted(connection));
        }
        text + &format!("data-directory = {}\n", quoted(&server.data_directory))
    }
}

/// What became of the new configuration.
enum Written {
    To(PathBuf),
    Not { path: PathBuf, text: String, error: String },
}

/// Readable by its owner only: a connection string can hold a password.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A TOML string.
fn quoted(text: impl ToString) -> String {
    let text = text.to_string();
    let escaped: String = text
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => format!("\\u{:04X}", u32::from(c)).chars().collect(),
            c => vec![c],
        })
        .collect();
    format!("\"{escaped}\"")
}

/// The key pair that is made, and where its private half goes.
struct Keys {
    pair: Option<KeyPair>,
    identity_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    passphrase: Option<Secret>,
}

impl Keys {
    fn new(args: &InitArgs) -> Result<Keys, Error> {
        let mut keys = Keys { pair: None, identity_file: None, passphrase_file: None, passphrase: None };
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|source| Error::Io { what: format!("find {}", path.display()), source })
        };
        if let Some(path) = &args.new_identity {
            let pair = KeyPair::generate();
            pair.write_identity_file(path)?;
            keys.identity_file = Some(absolute(path)?);
            keys.pair = Some(pair);
        } else if let Some(path) = &args.new_passphrase_file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
            let passphrase = text.strip_suffix('\n').unwrap_or(&text);
            if passphrase.is_empty() {
                return Err(Error::usage(format!(
                    "{} is empty; hint: write the passphrase into it",
                    path.display()
                )));
            }
            keys.passphrase = Some(Secret::new(passphrase));
            keys.passphrase_file = Some(absolute(path)?);
            keys.pair = Some(KeyPair::generate());
        }
        Ok(keys)
    }

    /// The settings that name where the private key is, indented.
    fn lines(&self) -> String {
        let mut text = String::new();
        for (setting, path) in
            [("identity-file", &self.identity_file), ("passphrase-file", &self.passphrase_file)]
        {
            text += &path
                .as_ref()
                .map_or_else(String::new, |path| format!("    {setting} = {}\n", quoted(path.display())));
        }
        text
    }

    /// Puts the wrapped private key into a repository, where a passphrase was given.
    async fn store(&self, repository: &Repository) -> Result<(), Error> {
        if let (Some(pair), Some(passphrase)) = (&self.pair, &self.passphrase) {
            repository.put_wrapped_identity(pair, passphrase, PASSPHRASE_WORK_FACTOR).await?;
        }
        Ok(())
    }
}

/// What is told at the end.
struct Answer<'a> {
    setup: &'a Setup,
    server: &'a ServerSettings,
    keys: &'a Keys,
    made: &'a [(Repository, Initialised)],
    written: Option<Written>,
    /// What could not be done, and does not keep the rest from working.
    notes: Vec<String>,
}

impl Answer<'_> {
    /// The lines for postgresql.conf.
    fn lines(&self) -> [String; 3] {
        [
            "archive_mode = on".to_owned(),
            archive_command::line(&self.setup.path, &self.setup.cluster.name),
            "archive_timeout = 60".to_owned(),
        ]
    }

    /// What a configuration that was there before lacks of a new key pair.
    fn lines_for_keys(&self) -> String {
        let (Some(pair), true) = (&self.keys.pair, self.setup.exists) else { return String::new() };
        let mut text = format!(
            "Nothing is encrypted to the new key before {} says so. Set this in its [repository]:\n\n",
            self.setup.path.display()
        );
        for repository in &self.setup.repositories {
            if let (Some(name), true) = (&repository.name, self.setup.repositories.len() > 1) {
                text += &format!("    # the one named {name}\n");
            }
            let all = repository.encrypt_to.iter().map(String::as_str).chain([pair.recipient()]);
            let all: Vec<String> = all.map(quoted).collect();
            text += &format!("    encrypt-to = [{}]\n", all.join(", "));
            text += &self.keys.lines();
        }
        text + "\n"
    }

    fn json(&self) -> serde_json::Value {
        let repositories: Vec<_> = self
            .made
            .iter()
            .map(|(repository, made)| {
                json!({
                    "url": repository.url(), "is_new": made.is_new, "unsafe_store": made.unsafe_store,
                    "repository": made.facts.repository.to_string(),
                })
            })
            .collect();
        json!({
            "cluster": self.setup.cluster.name.to_string(),
            "system_id": self.server.system_id,
            "repositories": repositories,
            "recipient": self.keys.pair.as_ref().map(KeyPair::recipient),
            "config": self.setup.path,
            "postgresql_conf": self.lines(),
            "notes": self.notes,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (repository, made) in self.made {
            let what = if made.is_new { "Made" } else { "Joined" };
            text += &format!("{what} the repository {}.\n", repository.url());
            if let Some(reason) = &made.unsafe_store {
                text += &format!(
                    "WARNING: its store is not safe ({reason}): two writers could overwrite each other's objects.\n"
                );
            }
        }
        let Setup { cluster, .. } = self.setup;
        let (version, size) = (self.server.major_version(), self.server.segment_size);
        let system_id = self.server.system_id;
        text += &format!(
            "Cluster {}: PostgreSQL {version}, system identifier {system_id}, segments of {size:?}.\n",
            cluster.name
        );
        if let (Some(pair), false) = (&self.keys.pair, self.setup.exists) {
            text += &format!("Encrypted to {}.\n", pair.recipient());
        }
        if let Some(path) = &self.keys.identity_file {
            text += &format!(
                "The private key is in {}. KEEP A COPY ELSEWHERE: without it nothing can be restored.\n\
                 A host that only archives does not need it: remove identity-file from its configuration.\n",
                path.display()
            );
        }
        text += &self.lines_for_keys();
        self.notes.iter().for_each(|note| text += &format!("{note}\n"));
        match &self.written {
            None => {}
            Some(Written::To(path)) => text += &format!("Wrote the configuration {}.\n", path.display()),
            Some(Written::Not { path, text: config, error }) => {
                text += &format!(
                    "Could not write {} ({error}). Write this into it:\n\n{config}\n",
                    path.display()
                );
            }
        }
        let lines = self.lines().map(|line| format!("    {line}\n")).concat();
        text + &format!(
            "\nPut these lines into postgresql.conf, then restart the server (archive_mode needs that):\n\n{lines}\nThen run `highwater check`.\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_strings_are_read_back() {
        for text in ["host=/run/postgresql", "a\"b\\c", "tab\tend", "password='it''s'"] {
            let line = format!("value = {}", quoted(text));
            let read: std::collections::BTreeMap<String, String> = toml::from_str(&line).unwrap();
            assert_eq!(read["value"], text);
        }
    }
}
