//! What a repository and a cluster say about themselves: `highwater.json` and `cluster.json`.
//!
//! Both are plain JSON, neither compressed nor encrypted: they are read before anything is known, also by people, and
//! hold no secret.

use highwater_storage::{Body, Key, Put};
use highwater_wal::{SegmentSize, SystemId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterRepository;
use crate::names::{ClusterName, RepositoryId};
use crate::{Error, Repository, Result, keys};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Neither object is ever longer.
const MAX_FACTS_BYTES: u64 = 64 << 10;

/// This program, as it is named in objects.
pub(crate) const PROGRAM: &str = concat!("highwater ", env!("CARGO_PKG_VERSION"));

/// The content of `highwater.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RepositoryFacts {
    /// Version of the repository's format.
    pub format: u32,
    /// Which repository this is, wherever it is moved to.
    pub repository: RepositoryId,
    /// When it was made, by the clock of the machine that did.
    pub created_at: Timestamp,
    /// The program that made it.
    pub created_by: String,
    /// The public keys to whom objects were encrypted when it was made. For people: whoever writes takes the keys from
    /// their own configuration, since what lies in the store could have been changed there.
    #[serde(default)]
    pub encrypted_to: Vec<String>,
}

/// The content of `cluster.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Version of these fields: 1.
    pub version: u32,
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Its system identifier.
    pub system_id: SystemId,
    /// Size of its WAL segments in bytes.
    pub segment_size: SegmentSize,
    /// PostgreSQL's major version, as in 15. A system identifier never changes its major version: pg_upgrade makes a new one.
    pub pg_version: u32,
    /// When the cluster came into the repository, by the clock of the machine that brought it.
    pub created_at: Timestamp,
}

impl ClusterFacts {
    /// Version of the fields that this program writes.
    pub const VERSION: u32 = 1;
}

impl RepositoryFacts {
    /// What a new repository says.
    pub(crate) fn new(encrypted_to: Vec<String>) -> RepositoryFacts {
        RepositoryFacts {
            format: FORMAT,
            repository: RepositoryId::random(),
            created_at: now(),
            created_by: PROGRAM.to_owned(),
            encrypted_to,
        }
    }

    pub(crate) async fn read(repository: &Repository) -> Result<RepositoryFacts> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let key = keys::repository_facts();
        let text = match repository.fetch(&key, MAX_FACTS_BYTES).await {
            Err(error) if error.is_not_found() => return Err(Error::NoRepository { url: repository.url() }),
            other => other?,
        };
        // A later format may have changed every other field.
        let Format { format } = parse(&key, &text)?;
        if format > FORMAT {
            return Err(Error::NewerFormat { url: repository.url(), found: format, known: FORMAT });
        }
        parse(&key, &text)
    }

    /// Puts them; where there are others already, gives those.
    pub(crate) async fn put_or_read(&self, repository: &Repository) -> Result<(RepositoryFacts, Put)> {
        match repository.store().put_if_absent(&keys::repository_facts(), &pretty(self)?).await? {
            Put::Created => Ok((self.clone(), Put::Created)),
            Put::Exists => Ok((RepositoryFacts::read(repository).await?, Put::Exists)),
        }
    }
}

impl ClusterRepository {
    /// What is known of the cluster.
    ///
    /// # Errors
    /// [`Error::UnknownCluster`] where it has not been brought into the repository; [`Error::NoClusterFacts`] where the
    /// object has gone from it; [`Error::Mismatch`] where the
    /// object lies in a place that it does not speak of.
    pub async fn facts(&self) -> Result<ClusterFacts> {
        let key = self.section().cluster_facts();
        let text = match self.repository().fetch(&key, MAX_FACTS_BYTES).await {
            Err(error) if error.is_not_found() => {
                if !self.repository().folders(&self.section().all()).await?.is_empty() {
                    return Err(Error::NoClusterFacts { key: key.to_string() });
                }
                return Err(Error::UnknownCluster {
                    cluster: self.name().to_string(),
                    system_id: self.system_id(),
                    url: self.repository().url(),
                });
            }
            other => other?,
        };
        let facts: ClusterFacts = parse(&key, &text)?;
        if facts.system_id != self.system_id() || &facts.cluster != self.name() {
            let reason =
                format!("it speaks of cluster {} with system identifier {}", facts.cluster, facts.system_id);
            return Err(Error::Mismatch { key: key.to_string(), reason });
        }
        Ok(facts)
    }

    /// Brings the cluster into the repository, or sees that what is there says the same.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the segment size or the major version differs.
    pub async fn register(&self, segment_size: SegmentSize, pg_version: u32) -> Result<(ClusterFacts, Put)> {
        let facts = ClusterFacts {
            version: ClusterFacts::VERSION,
            cluster: self.name().clone(),
            system_id: self.system_id(),
            segment_size,
            pg_version,
            created_at: now(),
        };
        let key = self.section().cluster_facts();
        if self.repository().store().put_if_absent(&key, &pretty(&facts)?).await? == Put::Created {
            return Ok((facts, Put::Created));
        }
        let there = self.facts().await?;
        if there.segment_size != segment_size || there.pg_version != pg_version {
            let reason = format!(
                "it says PostgreSQL {} with segments of {:?}, and here is PostgreSQL {pg_version} with segments of {segment_size:?}",
                there.pg_version, there.segment_size
            );
            return Err(Error::Mismatch { key: key.to_string(), reason });
        }
        Ok((there, Put::Exists))
    }
}

fn parse<T: DeserializeOwned>(key: &Key, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| Error::damaged(key, format!("its JSON: {error}")))
}

fn pretty<T: Serialize>(facts: &T) -> Result<Body> {
    let mut text = serde_json::to_vec_pretty(facts).map_err(|error| Error::Codec(error.into()))?;
    text.push(b'\n');
    Ok(text.into())
}

/// The time by this machine's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_datetime(time::OffsetDateTime::now_utc())
}

/// This machine's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
