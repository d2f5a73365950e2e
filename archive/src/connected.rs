//! A repository that is kept open.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater_repository::config::RepositoryConfig;
use highwater_repository::{ClusterName, ClusterRepository, Repository, Stored};
use highwater_wal::{SegmentSize, SystemId};

use crate::error::Error;
use crate::put::{self, Prepared};
use crate::uploads::Connect;

/// After so long it is seen again that the repository is one and knows the cluster: a call without a worker sees it
/// each time.
const FACTS_ARE_GOOD_FOR: Duration = Duration::from_secs(30);

/// Connects to each of `repositories`, as often as it is called.
pub(crate) fn all(repositories: Vec<RepositoryConfig>, cluster: ClusterName, system_id: SystemId) -> Connect {
    Box::new(move || {
        let connected = repositories.iter().map(|config| {
            let repository = Repository::connect(&config.behind())?;
            Ok(Connected::new(config.label(), repository.cluster(&cluster, system_id)))
        });
        connected.collect()
    })
}

/// A repository with its connections, and what is known of the cluster there.
#[derive(Debug)]
pub(crate) struct Connected {
    /// The repository, for messages.
    pub label: String,
    cluster: ClusterRepository,
    segment_size: Mutex<Option<(Instant, SegmentSize)>>,
}

impl Connected {
    /// Nothing is asked of it yet.
    pub fn new(label: String, cluster: ClusterRepository) -> Connected {
        Connected { label, cluster, segment_size: Mutex::default() }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        self.cluster.repository()
    }

    /// Puts a file.
    pub async fn put(&self, prepared: Prepared) -> Result<Stored, Error> {
        let segment_size = self.segment_size().await?;
        put::put(&self.cluster, segment_size, prepared).await
    }

    async fn segment_size(&self) -> Result<SegmentSize, Error> {
        let known = *self.segment_size.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, size)) = known
            && seen.elapsed() < FACTS_ARE_GOOD_FOR
        {
            return Ok(size);
        }
        let size = put::segment_size(&self.cluster).await?;
        *self.segment_size.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), size));
        Ok(size)
    }
}
