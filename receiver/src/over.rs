//! When an alarm is over: what was missing has come, or a base backup lies behind it.

use std::collections::BTreeMap;
use std::fmt;

use highwater_catalog::{Backup, Gap, Path};
use highwater_repository::{ClusterRepository, JudgedBackup, Label};
use highwater_wal::SegmentSize;

use crate::error::Result;
use crate::presence::Presence;

/// Why an alarm is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// All of it is in every repository.
    Filled,
    /// This base backup lies behind it.
    Answered(String),
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::Filled => f.write_str("it is in the repository now"),
            Over::Answered(label) => write!(f, "base backup {label} lies behind it"),
        }
    }
}

/// The gaps that are over, each with why.
pub(crate) type Ends = Vec<(Gap, Over)>;

/// Where is looked whether alarms are over.
#[derive(Debug)]
pub(crate) struct Outlook {
    clusters: Vec<ClusterRepository>,
    /// The way that the server has come.
    path: Path,
    size: SegmentSize,
    /// The complete backups of each repository, as they were when they were last listed: what is known of one does not change.
    backups: Vec<BTreeMap<Label, Backup>>,
}

impl Outlook {
    pub(crate) fn new(clusters: Vec<ClusterRepository>, path: Path, size: SegmentSize) -> Outlook {
        let backups = clusters.iter().map(|_| BTreeMap::new()).collect();
        Outlook { clusters, path, size, backups }
    }

    /// Those of the gaps that are over, and why.
    pub(crate) async fn over(&mut self, gaps: &[Gap]) -> Result<Ends> {
        let mut over = Vec::new();
        if gaps.is_empty() {
            return Ok(over);
        }
        for (cluster, backups) in self.clusters.iter().zip(&mut self.backups) {
            *backups = complete_backups(cluster, std::mem::take(backups)).await?;
        }
        for gap in gaps {
            if self.is_filled(gap).await? {
                over.push((*gap, Over::Filled));
            } else if let Some(label) = self.answer(gap).await? {
                over.push((*gap, Over::Answered(label)));
            }
        }
        Ok(over)
    }

    /// The backup that answers a gap. One that a verification has found damaged does not.
    async fn answer(&self, gap: &Gap) -> Result<Option<String>> {
        for (cluster, backups) in self.clusters.iter().zip(&self.backups) {
            let is_behind = |backup: &&Backup| gap.is_answered_by(backup, &self.path);
            let mut behind = backups.values().filter(is_behind).peekable();
            if behind.peek().is_none() {
                continue;
            }
            let judged = |backup: &Backup| JudgedBackup {
                id: backup.id.clone(),
                label: backup.label.clone(),
                parent: backup.parent.clone(),
            };
            let judged: Vec<JudgedBackup> = backups.values().map(judged).collect();
            let damaged = cluster.last_verification().await?.damage.against(&judged);
            if let Some(backup) = behind.find(|backup| !damaged.contains_key(&backup.id)) {
                return Ok(Some(backup.label.clone()));
            }
        }
        Ok(None)
    }

    /// Whether all of a gap is in every repository.
    async fn is_filled(&self, gap: &Gap) -> Result<bool> {
        // What the server has left behind a fork is another timeline's there.
        let leg = self.path.leg(gap.timeline);
        if leg.is_none_or(|leg| leg.end.is_some_and(|end| end <= gap.from)) {
            return Ok(false);
        }
        for cluster in &self.clusters {
            if !self.is_there(cluster, gap).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn is_there(&self, cluster: &ClusterRepository, gap: &Gap) -> Result<bool> {
        let size = self.size.bytes();
        let mut presence = Presence::new(cluster, self.size);
        for number in gap.from.0 / size..=gap.to.0.saturating_sub(1) / size {
            if !presence.has(self.path.segment(number, self.size), gap.to).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The complete backups that are not marked as expired, of which `known` are known; none of those that cannot be read here.
async fn complete_backups(
    cluster: &ClusterRepository,
    mut known: BTreeMap<Label, Backup>,
) -> Result<BTreeMap<Label, Backup>> {
    let backups = cluster.backups();
    let mut found = BTreeMap::new();
    for listed in
        backups.list().await?.into_iter().filter(|listed| listed.is_complete() && !listed.has("expired"))
    {
        let read = match known.remove(&listed.label) {
            Some(backup) => Some(backup),
            None => match backups.head_of_listed(&listed.label).await {
                Ok(head) => Backup::of_head(&head),
                Err(error) if error.is_damaged() || error.is_not_found() => None,
                Err(highwater_repository::Error::Locked { .. }) => None,
                Err(error) => return Err(error.into()),
            },
        };
        found.extend(read.map(|backup| (listed.label, backup)));
    }
    Ok(found)
}
