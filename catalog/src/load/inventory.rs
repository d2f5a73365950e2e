//! What is there, by listing.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use highwater_repository::{Backups, ClusterRepository, Error, Label, ListedBackup, ManifestHead};
use highwater_wal::{SystemId, TimelineHistory, TimelineId, Timestamp, WalFile};

use super::tail;
use crate::{Backup, DamagedBackup, ExpiredBackup, Inventory, Unfinished};

/// How many manifests' heads are read side by side.
const READS_AT_ONCE: usize = 16;

/// The logs of each timeline that have an index object.
pub(super) type IndexedLogs = BTreeMap<TimelineId, BTreeSet<u32>>;

/// What is there. Of the logs that are indexed the segments are not listed: all of them were there when the index object was put.
pub(super) async fn read(cluster: &ClusterRepository) -> Result<(Inventory, IndexedLogs), Error> {
    let facts = cluster.facts().await?;
    let mut inventory = Inventory::empty(cluster.name().as_str(), cluster.system_id(), facts.segment_size);
    // Before the segments: one that is completed meanwhile is in one of the two listings.
    let tails = tail::read(cluster, facts.segment_size).await?;
    // Listed first: a log that is completed meanwhile is then listed segment by segment.
    let mut indexed = cluster.indexed_logs().await?;
    let timelines = cluster.timelines().await?;
    indexed.retain(|timeline, _| timelines.contains(timeline));
    for timeline in timelines {
        let logs = indexed.entry(timeline).or_default();
        logs.iter().for_each(|log| inventory.add_log(timeline, *log));
        read_timeline(cluster, timeline, logs, &mut inventory).await?;
    }
    tail::add(&tails, &mut inventory);
    tail::read_lost(cluster, &mut inventory).await?;
    read_backups(cluster, &mut inventory).await?;
    inventory.other_systems = other_systems(cluster).await?;
    Ok((inventory, indexed))
}

async fn read_backups(cluster: &ClusterRepository, inventory: &mut Inventory) -> Result<(), Error> {
    let backups = cluster.backups();
    let listed = backups.list().await?;
    let (complete, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(ListedBackup::is_complete);
    let backups = &backups;
    let reads = stream::iter(complete)
        .map(|backup| async move { (read_backup(cluster, backups, &backup).await, backup) });
    let read: Vec<_> = reads.buffered(READS_AT_ONCE).collect().await;
    for (read, listed) in read {
        match read {
            Ok((backup, Some(marked_at))) => inventory.expired.push(ExpiredBackup { backup, marked_at }),
            Ok((backup, None)) => inventory.add_backup(backup),
            // Removed since it was listed.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let reason = damage(error)?;
                // Of what is to go nobody needs to know that it is damaged.
                if !listed.has("expired") {
                    inventory.damaged_backups.push(DamagedBackup { label: listed.label.to_string(), reason });
                }
            }
        }
    }
    for backup in others.into_iter().filter(|backup| !backup.has("expired")) {
        match unfinished(backups, &backup.label).await {
            Ok(found) => inventory.unfinished.extend(found),
            Err(error) => {
                let reason = damage(error)?;
                inventory.damaged_backups.push(DamagedBackup { label: backup.label.to_string(), reason });
            }
        }
    }
    Ok(())
}

/// A complete backup, and when it was marked as expired, if it was.
async fn read_backup(
    cluster: &ClusterRepository,
    backups: &Backups,
    listed: &ListedBackup,
) -> Result<(Backup, Option<Timestamp>), Error> {
    let label = &listed.label;
    let backup = backup_of(cluster, label, &backups.head_of_listed(label).await?)?;
    let mark = if listed.has("expired") { backups.expired(label).await? } else { None };
    Ok((backup, mark.map(|mark| mark.marked_at)))
}

/// What is damaged takes itself out, and nothing else. An object that could not be read for another reason is an error: it may be whole.
pub(super) fn damage(error: Error) -> Result<String, Error> {
    match error {
        Error::Damaged { key, reason } => Ok(format!("{key}: {reason}")),
        other => Err(other),
    }
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

/// Lists what no index object speaks of: what lies before, between and behind the logs that are indexed.
async fn read_timeline(
    cluster: &ClusterRepository,
    timeline: TimelineId,
    indexed: &BTreeSet<u32>,
    inventory: &mut Inventory,
) -> Result<(), Error> {
    let mut has_history = false;
    for (from, until) in gaps(indexed) {
        cluster
            .list_logs(timeline, from, until, |file, _| match file {
                WalFile::Segment(segment) => inventory.add_segment(segment),
                WalFile::History(of) => has_history |= of == timeline,
                WalFile::Partial(segment) => inventory.add_partial(segment),
                WalFile::BackupLabel { .. } => {}
            })
            .await?;
    }
    if has_history {
        match read_history(cluster, timeline).await {
            Ok(history) => inventory.add_history(history),
            Err(error) => inventory.add_damaged_history(timeline, damage(error)?),
        }
    }
    Ok(())
}

/// The stretches of logs between those that are given: the first and last log of each, where it has one. The first
/// begins with the timeline's history, also where no log lies before.
fn gaps(indexed: &BTreeSet<u32>) -> Vec<(Option<u32>, Option<u32>)> {
    let mut gaps = Vec::new();
    let mut from = None;
    for log in indexed {
        match (from, log.checked_sub(1)) {
            (None, before) => gaps.push((None, Some(before.unwrap_or(0)))),
            (Some(from), Some(before)) if from <= before => gaps.push((Some(from), Some(before))),
            _ => {}
        }
        from = Some(log.saturating_add(1));
    }
    if from != Some(u32::MAX) || !indexed.contains(&u32::MAX) {
        gaps.push((from, None));
    }
    gaps
}

async fn read_history(cluster: &ClusterRepository, timeline: TimelineId) -> Result<TimelineHistory, Error> {
    let file = WalFile::History(timeline);
    let object = cluster.get_wal(file).await?;
    TimelineHistory::parse(timeline, &object.bytes)
        .map_err(|error| Error::damaged(cluster.section().wal(file), error.to_string()))
}

impl Backup {
    /// What the catalog needs of a manifest's head; `None` where it is no backup of PostgreSQL. The timeline is the one that the
    /// backup ended on: that is where it is consistent.
    pub fn of_head(head: &ManifestHead) -> Option<Backup> {
        let postgres = head.postgres.as_ref()?;
        Some(Backup {
            label: head.label.to_string(),
            timeline: postgres.stop_timeline,
            start: postgres.start_lsn,
            stop: postgres.stop_lsn,
            start_time: postgres.start_time,
            stop_time: postgres.stop_time,
            size_bytes: head.totals.bytes,
            stored_bytes: head.totals.stored_bytes,
            parent: head.parent.as_ref().map(Label::to_string),
            id: head.id(),
        })
    }
}

fn backup_of(cluster: &ClusterRepository, label: &Label, head: &ManifestHead) -> Result<Backup, Error> {
    let no_postgres = || Error::damaged(cluster.section().manifest(label), "it is no backup of PostgreSQL");
    Backup::of_head(head).ok_or_else(no_postgres)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_indexed_is_listed() {
        for (indexed, expected) in [
            (&[][..], &[(None, None)][..]),
            (&[0], &[(None, Some(0)), (Some(1), None)]),
            (&[5], &[(None, Some(4)), (Some(6), None)]),
            (&[5, 6, 7], &[(None, Some(4)), (Some(8), None)]),
            (&[5, 7, 10], &[(None, Some(4)), (Some(6), Some(6)), (Some(8), Some(9)), (Some(11), None)]),
            (&[u32::MAX], &[(None, Some(u32::MAX - 1))]),
        ] {
            assert_eq!(gaps(&indexed.iter().copied().collect()), expected, "{indexed:?}");
        }
    }
}
