//! What is there, by listing.

use highwater_repository::{Backups, ClusterRepository, Error, Label, ManifestHead};
use highwater_wal::{SystemId, TimelineHistory, TimelineId, WalFile};

use crate::{Backup, DamagedBackup, Inventory, Unfinished};

/// Pages of a timeline's files that are listed at most: at 1,000 files a page, 10 PiB of WAL in segments of 16 MiB.
const MAX_PAGES: usize = 1_000_000;

pub(super) async fn read(cluster: &ClusterRepository) -> Result<Inventory, Error> {
    let facts = cluster.facts().await?;
    let mut inventory = Inventory::empty(cluster.name().as_str(), cluster.system_id(), facts.segment_size);
    for timeline in cluster.timelines().await? {
        read_timeline(cluster, timeline, &mut inventory).await?;
    }
    let backups = cluster.backups();
    for label in backups.labels().await? {
        if let Err(error) = read_backup(cluster, &backups, &label, &mut inventory).await {
            let reason = damage(error)?;
            inventory.damaged_backups.push(DamagedBackup { label: label.to_string(), reason });
        }
    }
    inventory.other_systems = other_systems(cluster).await?;
    Ok(inventory)
}

/// What is damaged takes itself out, and nothing else. An object that could not be read for another reason is an error: it may be whole.
pub(super) fn damage(error: Error) -> Result<String, Error> {
    match error {
        Error::Damaged { key, reason } => Ok(format!("{key}: {reason}")),
        other => Err(other),
    }
}

async fn read_backup(
    cluster: &ClusterRepository,
    backups: &Backups,
    label: &Label,
    inventory: &mut Inventory,
) -> Result<(), Error> {
    match backups.head(label).await? {
        Some(head) => inventory.add_backup(backup_of(cluster, label, head)?),
        None => inventory.unfinished.extend(unfinished(backups, label).await?),
    }
    Ok(())
}

/// The other system identifiers that have backups under this cluster's name: `initdb` and `pg_upgrade` make new ones.
async fn other_systems(cluster: &ClusterRepository) -> Result<Vec<SystemId>, Error> {
    let repository = cluster.repository();
    let mut others = Vec::new();
    for system_id in repository.systems(cluster.name()).await? {
        let other = repository.cluster(cluster.name(), system_id);
        if system_id != cluster.system_id() && !other.backups().labels().await?.is_empty() {
            others.push(system_id);
        }
    }
    Ok(others)
}

async fn read_timeline(
    cluster: &ClusterRepository,
    timeline: TimelineId,
    inventory: &mut Inventory,
) -> Result<(), Error> {
    let mut after: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let page = cluster.list_wal(timeline, None, after.as_deref()).await?;
        for (file, _) in page.files {
            match file {
                WalFile::Segment(segment) => inventory.add_segment(segment),
                WalFile::History(timeline) => match read_history(cluster, timeline).await {
                    Ok(history) => inventory.add_history(history),
                    Err(error) => inventory.add_damaged_history(timeline, damage(error)?),
                },
                WalFile::Partial(segment) => inventory.add_partial(segment),
                WalFile::BackupLabel { .. } => {}
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

async fn read_history(cluster: &ClusterRepository, timeline: TimelineId) -> Result<TimelineHistory, Error> {
    let file = WalFile::History(timeline);
    let object = cluster.get_wal(file).await?;
    TimelineHistory::parse(timeline, &object.bytes)
        .map_err(|error| Error::damaged(cluster.section().wal(file), error.to_string()))
}

/// What the catalog needs of a manifest's head. The timeline is the one that the backup ended on: that is where it is consistent.
fn backup_of(cluster: &ClusterRepository, label: &Label, head: ManifestHead) -> Result<Backup, Error> {
    let Some(postgres) = head.postgres else {
        return Err(Error::damaged(cluster.section().manifest(label), "it is no backup of PostgreSQL"));
    };
    Ok(Backup {
        label: label.to_string(),
        timeline: postgres.stop_timeline,
        start: postgres.start_lsn,
        stop: postgres.stop_lsn,
        start_time: postgres.start_time,
        stop_time: postgres.stop_time,
        size_bytes: head.totals.bytes,
        stored_bytes: head.totals.stored_bytes,
        parent: head.parent.map(|parent| parent.to_string()),
    })
}

async fn unfinished(backups: &Backups, label: &Label) -> Result<Option<Unfinished>, Error> {
    match backups.started(label).await {
        Ok(started) => {
            Ok(Some(Unfinished { label: label.to_string(), started: started.begun_at, host: started.host }))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
