//! Which system identifier a cluster's name means.

use highwater_repository::{ClusterName, Error, Repository};
use highwater_wal::SystemId;

/// The system identifier that came into the repository last under this name. `initdb` and `pg_upgrade` make new ones.
///
/// # Errors
/// [`Error::NoSuchCluster`] where the repository has none of this name, and those of the store.
pub async fn newest_system(repository: &Repository, name: &ClusterName) -> Result<SystemId, Error> {
    let mut newest = None;
    for system_id in repository.systems(name).await? {
        let facts = repository.cluster(name, system_id).facts().await?;
        newest = newest.max(Some((facts.created_at, system_id)));
    }
    match newest {
        Some((_, system_id)) => Ok(system_id),
        None => {
            let known = repository.clusters().await?;
            Err(Error::NoSuchCluster { cluster: name.clone(), known, url: repository.url() })
        }
    }
}
