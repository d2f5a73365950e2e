//! What the two commands have done before they are asked for it.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{ClusterConfig, RepositoryConfig, within};

/// How long one request of a process behind is retried. A call has the configured budget when it asks itself.
const RETRY_BUDGET: Duration = Duration::from_secs(5);

impl ClusterConfig {
    /// Segments on their way at once where nothing is said.
    pub const DEFAULT_ARCHIVE_AHEAD: usize = 4;
    /// Segments fetched ahead where nothing is said.
    pub const DEFAULT_RESTORE_AHEAD: usize = 8;
    /// The most of either.
    pub const MAX_AHEAD: usize = 32;
}

impl RepositoryConfig {
    /// The same repository for what happens behind a command: retried shortly, and one thread for a segment, since several are worked on.
    #[must_use]
    pub fn behind(&self) -> RepositoryConfig {
        let mut repository = self.clone();
        repository.store.most_retry_budget = Some(RETRY_BUDGET);
        repository.threads = 1;
        repository
    }
}

pub(super) fn archive() -> usize {
    ClusterConfig::DEFAULT_ARCHIVE_AHEAD
}

pub(super) fn restore() -> usize {
    ClusterConfig::DEFAULT_RESTORE_AHEAD
}

pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(usize::deserialize(deserializer)?, 0, ClusterConfig::MAX_AHEAD)
}
