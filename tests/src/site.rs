//! Highwater set up: a configuration, a repository, and the clusters that it keeps.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::build::binary;
use crate::postgres::{Builder, Postgres};
use crate::program::Program;
use crate::s3::S3;
use crate::scratch::Scratch;

/// The name of the cluster of [`Site::start_server`].
pub const CLUSTER: &str = "main";

/// A `highwater.toml` in a folder of its own, with one repository. What is told here before a server is added is
/// how the repository is to be.
#[derive(Debug)]
pub struct Site {
    scratch: Scratch,
    url: String,
    settings: Vec<String>,
    clusters: Mutex<Vec<String>>,
}

impl Site {
    /// The repository is a folder of this site's, see [`Site::repository_folder`].
    pub fn on_folder() -> Self {
        let scratch = Scratch::new();
        let url = format!("file://{}", scratch.join("repository").display());
        Self::new(scratch, url)
    }

    /// The repository is this folder: of a [`SmallDisk`](crate::SmallDisk), of another site.
    pub fn on_this_folder(folder: &Path) -> Self {
        Self::new(Scratch::new(), format!("file://{}", folder.display()))
    }

    /// The repository is a new bucket of this server.
    pub fn on_s3(store: &S3) -> Self {
        Self::on_s3_behind(store, &store.endpoint())
    }

    /// The same, reached through another endpoint: a [`Proxy`](crate::Proxy)'s.
    pub fn on_s3_behind(store: &S3, endpoint: &str) -> Self {
        Self::new(Scratch::new(), format!("s3://{}/highwater", store.new_bucket()))
            .repository_setting("endpoint", endpoint)
            .repository_setting("region", store.region())
            .repository_setting("access-key-id", store.access_key())
            .repository_setting("secret-access-key", store.secret_key())
    }

    fn new(scratch: Scratch, url: String) -> Self {
        let site = Self { scratch, url, settings: Vec::new(), clusters: Mutex::default() };
        site.write(&[]);
        site
    }

    /// A setting of `[repository]` whose value is a text.
    pub fn repository_setting(self, name: &str, value: &str) -> Self {
        self.repository_line(&format!("{name} = '{value}'"))
    }

    /// A line of `[repository]`, in TOML.
    pub fn repository_line(mut self, line: &str) -> Self {
        self.settings.push(line.to_owned());
        self.write(&self.clusters.lock().unwrap_or_else(PoisonError::into_inner));
        self
    }

    /// Adds `[cluster.NAME]` for a server that runs.
    pub fn add_cluster(&self, name: &str, server: &Postgres) {
        let (connection, data) = (server.connection_string(), server.data_dir().display());
        let cluster =
            format!("[cluster.{name}]\nconnection = \"{connection}\"\ndata-directory = \"{data}\"\n");
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.push(cluster);
        self.write(&clusters);
    }

    fn write(&self, clusters: &[String]) {
        let settings = self.settings.join("\n");
        let text = format!("[repository]\nurl = \"{}\"\n{settings}\n\n{}", self.url, clusters.join("\n"));
        self.scratch.file("highwater.toml", text);
    }

    /// Starts a server as cluster `main`, makes the repository with `highwater init`, and turns archiving on.
    pub fn start_server(&self, builder: Builder) -> Postgres {
        let server = builder.setting("archive_mode", "on").start();
        self.add_cluster(CLUSTER, &server);
        self.highwater(["init"]).run().succeeds();
        server.configure("archive_command", &self.archive_command());
        server
    }

    /// `highwater` with these arguments and this configuration.
    pub fn highwater<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Program {
        self.program("highwater", arguments)
    }

    /// Another of the binaries with this configuration.
    pub fn program<A: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = A>) -> Program {
        Program::new(binary(name), arguments).config(&self.config())
    }

    /// The `archive_command` of PostgreSQL for this configuration.
    pub fn archive_command(&self) -> String {
        self.server_command("highwater-archive-cmd", "%p")
    }

    /// The `restore_command` of PostgreSQL for this configuration.
    pub fn restore_command(&self) -> String {
        self.server_command("highwater-restore-cmd", "%f %p")
    }

    fn server_command(&self, name: &str, arguments: &str) -> String {
        format!("HIGHWATER_CONFIG={} {} {arguments}", self.config().display(), binary(name).display())
    }

    /// The path of `highwater.toml`.
    pub fn config(&self) -> PathBuf {
        self.scratch.join("highwater.toml")
    }

    /// The repository's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The repository's folder. Panics when it is in an S3 server.
    pub fn repository_folder(&self) -> PathBuf {
        self.url.strip_prefix("file://").expect("this repository is no folder").into()
    }

    /// The paths, below the repository's folder, of all objects in it whose path contains `part`, in order.
    pub fn objects(&self, part: &str) -> Vec<PathBuf> {
        let root = self.repository_folder();
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            {
                let path = entry.expect("a folder can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.strip_prefix(&root).is_ok_and(|key| key.to_string_lossy().contains(part)) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// A path inside this site's folder, in which the servers' account may write: to restore into.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}
