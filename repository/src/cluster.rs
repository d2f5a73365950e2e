//! One system identifier of a cluster in a repository.

use highwater_wal::SystemId;

use crate::Repository;
use crate::backups::Backups;
use crate::keys::Section;
use crate::names::ClusterName;

/// The part of a repository that belongs to one system identifier of a cluster. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct ClusterRepository {
    repository: Repository,
    name: ClusterName,
    system_id: SystemId,
    section: Section,
}

impl ClusterRepository {
    pub(crate) fn new(repository: Repository, name: ClusterName, system_id: SystemId) -> ClusterRepository {
        let section = Section::cluster(&name, system_id);
        ClusterRepository { repository, name, system_id, section }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The cluster's name.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Its system identifier.
    pub fn system_id(&self) -> SystemId {
        self.system_id
    }

    /// The names of its objects.
    pub fn section(&self) -> &Section {
        &self.section
    }

    /// Its backups and their packs.
    pub fn backups(&self) -> Backups {
        Backups::new(self.repository.clone(), self.section.clone())
    }
}
