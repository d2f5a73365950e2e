//! What must be so before a backup begins, and what the user should know beforehand.

use highwater_repository::{ClusterFacts, ClusterRepository};
use highwater_wal::{SystemId, WalFile};

use crate::server::ServerFacts;
use crate::{Error, Result};

/// The versions whose WAL can be read.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;

/// Whether this server can be backed up into that cluster's place in the repository.
pub(crate) fn check(identity: SystemId, server: &ServerFacts, cluster: &ClusterFacts) -> Result<()> {
    let unfit = |reason, hint| Err(Error::Unfit { reason, hint });
    let major = server.version / 10_000;
    if !VERSIONS.contains(&major) {
        return unfit(
            format!(
                "the server is PostgreSQL {major}, and this program knows {} to {}",
                VERSIONS.start(),
                VERSIONS.end()
            ),
            "use a newer version of Highwater, or upgrade the server",
        );
    }
    if server.system_id != identity {
        return unfit(
            format!(
                "the replication connection leads to cluster {identity}, and the SQL connection to {}",
                server.system_id
            ),
            "name one server in the connection string, or set target_session_attrs",
        );
    }
    if server.segment_size != cluster.segment_size {
        return unfit(
            format!(
                "the server's segments have {:?}, and the repository's {:?}",
                server.segment_size, cluster.segment_size
            ),
            "compare the cluster's name in the configuration with highwater list; after pg_resetwal \
             --wal-segsize it needs another name: a new [cluster.NAME], then highwater init",
        );
    }
    if server.archive_mode == "off" && !server.is_received && !server.is_standby {
        return unfit(
            "the server archives no WAL (archive_mode is off, and no highwater receive streams), and no backup is of use without it"
                .to_owned(),
            "set archive_mode = on and the archive_command that highwater init prints, and restart the server; or start highwater \
             receive",
        );
    }
    Ok(())
}

/// What may keep the backup from becoming complete, or of being of use.
pub(crate) async fn notes(server: &ServerFacts, cluster: &ClusterRepository) -> Vec<String> {
    let mut notes = Vec::new();
    if !server.has_checksums {
        notes.push("the cluster has no data checksums: damaged pages are backed up unnoticed (pg_checksums --enable)".to_owned());
    }
    if server.is_standby {
        notes.push(
            "this is a standby: the backup is complete when the primary has archived the WAL that it needs"
                .to_owned(),
        );
        return notes;
    }
    if server.archiver.is_failing {
        notes.push(format!(
            "archiving fails at present, and the backup will wait for it: {}",
            server.archiver
        ));
    }
    let last = server.archiver.last_archived.as_deref().and_then(|name| name.parse::<WalFile>().ok());
    if let Some(last) = last
        && let Err(error) = cluster.repository().store().size(&cluster.section().wal(last)).await
        && error.kind == highwater_storage::ErrorKind::NotFound
    {
        notes.push(format!(
            "the server has archived {last}, and it is not in {}: does its archive_command lead there?",
            cluster.repository().url()
        ));
    }
    notes
}
