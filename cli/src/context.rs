//! What every command needs first: the configuration, the repository, the cluster in it.

use highwater_catalog::{Catalog, newest_system};
use highwater_replication::{Client, Mode, Password, connect};
use highwater_repository::{
    ClusterConfig, ClusterName, ClusterRepository, Config, Repository, RepositoryConfig,
};

use crate::args::Common;
use crate::error::Error;

/// What the arguments and the configuration say.
#[derive(Debug)]
pub struct Context {
    /// What every command takes.
    pub common: Common,
    /// The configuration; none where a repository was named by its URL and there is no file.
    pub config: Option<Config>,
}

impl Context {
    /// Reads the configuration. A repository named by URL does not need one.
    pub fn load(common: &Common) -> Result<Context, Error> {
        let config = match Config::load(common.config.as_deref()) {
            Ok(config) => Some(config),
            Err(_) if common.config.is_none() && names_url(common) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Context { common: common.clone(), config })
    }

    /// The settings of the repository to use.
    pub fn repository_config(&self) -> Result<RepositoryConfig, Error> {
        let configured = || self.config.iter().flat_map(|config| &config.repositories);
        let Some(wanted) = &self.common.repository else {
            return configured().next().cloned().ok_or_else(|| {
                Error::usage("no repository is configured; hint: name one with --repository, or write [repository] into the configuration")
            });
        };
        if let Some(found) = configured().find(|repository| {
            repository.name.as_ref() == Some(wanted) || repository.store.url.to_string() == *wanted
        }) {
            return Ok(found.clone());
        }
        if names_url(&self.common) {
            return Ok(RepositoryConfig::from_url(wanted).with_cache_of_environment());
        }
        let known: Vec<String> = configured().map(RepositoryConfig::label).collect();
        Err(Error::usage(format!(
            "there is no repository \"{wanted}\" in the configuration; hint: it has {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        )))
    }

    /// The settings of every repository that archiving goes to: all that are configured, unless one was named.
    pub fn repository_configs(&self) -> Result<Vec<RepositoryConfig>, Error> {
        match (&self.common.repository, &self.config) {
            (None, Some(config)) => Ok(config.repositories.clone()),
            _ => Ok(vec![self.repository_config()?]),
        }
    }

    /// The repository to use.
    pub async fn repository(&self) -> Result<Repository, Error> {
        Ok(Repository::open(&self.repository_config()?).await?)
    }

    /// The settings of the cluster.
    pub fn cluster_config(&self) -> Result<&ClusterConfig, Error> {
        match &self.config {
            Some(config) => Ok(config.cluster(self.common.cluster.as_ref())?),
            None => Err(Error::usage(
                "this needs the cluster's connection; hint: write [cluster.NAME] into the configuration, or name it with --config",
            )),
        }
    }

    /// The cluster's name: as given, else the only one that is configured.
    pub fn cluster_name(&self) -> Result<ClusterName, Error> {
        match &self.common.cluster {
            Some(name) => Ok(name.clone()),
            None => Ok(self.cluster_config()?.name.clone()),
        }
    }

    /// The part of the repository that belongs to the cluster.
    pub async fn cluster(&self) -> Result<ClusterRepository, Error> {
        let repository = self.repository().await?;
        let name = self.cluster_name()?;
        let system_id = match self.common.system_id {
            Some(system_id) => system_id,
            None => newest_system(&repository, &name).await?,
        };
        Ok(repository.cluster(&name, system_id))
    }

    /// What the repository holds of the cluster.
    pub async fn catalog(&self) -> Result<Catalog, Error> {
        Ok(Catalog::open(self.cluster().await?).await?)
    }

    /// How the cluster's server is reached.
    pub fn connection(&self) -> Result<highwater_replication::Config, Error> {
        connection_of(self.cluster_config()?, None)
    }

    /// A connection to the cluster's server.
    pub async fn connect(&self, mode: Mode) -> Result<Client, Error> {
        Ok(connect(&self.connection()?, mode).await?)
    }
}

/// How a cluster's server is reached: by what was said, else by what is configured.
pub fn connection_of(
    cluster: &ClusterConfig,
    given: Option<&str>,
) -> Result<highwater_replication::Config, Error> {
    let configured = cluster.connection.as_ref().map(|connection| connection.expose());
    let Some(connection) = given.or(configured) else {
        return Err(Error::usage(format!(
            "cluster {} has no connection; hint: set connection in [cluster.{}], as in \"host=/run/postgresql user=postgres\"",
            cluster.name, cluster.name
        )));
    };
    let mut config = highwater_replication::Config::parse(connection)?;
    if let Some(password) = cluster.password()? {
        config.password = Some(Password::new(password.expose()));
    }
    Ok(config)
}

fn names_url(common: &Common) -> bool {
    common.repository.as_ref().is_some_and(|name| name.contains("://"))
}
