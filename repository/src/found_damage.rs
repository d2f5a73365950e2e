//! What verifications have found damaged, as they leave it in their events, for whoever must not rely on such a backup or segment.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::StreamExt;
use highwater_storage::Key;
use highwater_wal::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::damaged_wal::DamagedWal;
use crate::names::Label;
use crate::{ClusterRepository, Event, Result};

/// What events of verifications are called.
pub const VERIFY: &str = "verify";
/// The detail of such an event that tells of damaged segments: a [`DamagedWal`].
const DAMAGED_WAL: &str = "damaged_wal";
/// As many events are read at most, from the newest on, to find the last verification.
pub const MOST_EVENTS: usize = 20_000;

/// What was found damaged of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackupDamage {
    /// When the verification began that found it last, by the clock of its machine.
    pub found_at: Timestamp,
    /// Whether only a verification that reads everything can find it.
    pub deep: bool,
    /// Whether it lies in packs, which backups share.
    pub in_packs: bool,
    /// The first damaged object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

impl BackupDamage {
    /// Whether who takes extents over may have it, too, without anybody seeing it in a listing.
    fn is_handed_on(&self) -> bool {
        self.in_packs && self.deep
    }
}

/// A backup, as damage is looked up for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JudgedBackup {
    /// [`crate::ManifestHead::id`].
    pub id: String,
    /// Its label.
    pub label: String,
    /// The label of the backup from which it took extents over.
    pub parent: Option<String>,
}

/// What is known against backups.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FoundDamage {
    /// Backups that were found damaged, by [`crate::ManifestHead::id`].
    #[serde(rename = "damaged_backups", skip_serializing_if = "BTreeMap::is_empty")]
    pub backups: BTreeMap<String, BackupDamage>,
    /// Backups that build on one of these and were read and found whole themselves.
    #[serde(rename = "sound_backups", skip_serializing_if = "BTreeSet::is_empty")]
    pub sound: BTreeSet<String>,
}

impl FoundDamage {
    /// Whether nothing is known against any backup.
    pub fn is_empty(&self) -> bool {
        self.backups.is_empty()
    }

    /// What is known against each of these backups, by id. One that took extents over from a damaged one may have taken the damage with
    /// them: it counts as damaged until somebody has read it.
    pub fn against(&self, backups: &[JudgedBackup]) -> BTreeMap<String, BackupDamage> {
        let mut against: BTreeMap<String, BackupDamage> = backups
            .iter()
            .filter_map(|backup| Some((backup.id.clone(), self.backups.get(&backup.id)?.clone())))
            .collect();
        // Each round goes from parents to children, and there are no more generations than backups.
        for _ in 0..backups.len() {
            let heirs: Vec<(String, BackupDamage)> = backups
                .iter()
                .filter(|backup| !against.contains_key(&backup.id) && !self.sound.contains(&backup.id))
                .filter_map(|backup| {
                    let parent = backup.parent.as_ref()?;
                    let known = self.backups.iter().chain(&against);
                    let mut of_parent =
                        known.filter(|(id, damage)| damage.is_handed_on() && label_of_backup(id) == parent);
                    let (_, damage) = of_parent.next()?;
                    let what = format!(
                        "it takes over extents of {parent}, which is damaged, and was not read since"
                    );
                    Some((backup.id.clone(), BackupDamage { what, deep: true, ..damage.clone() }))
                })
                .collect();
            if heirs.is_empty() {
                break;
            }
            against.extend(heirs);
        }
        against
    }
}

impl crate::ManifestHead {
    /// Tells this backup from any other, also from a later one of the same label.
    pub fn id(&self) -> String {
        backup_id(&self.label, self.finished_at)
    }
}

fn backup_id(label: &Label, finished_at: Timestamp) -> String {
    format!("{label}@{finished_at}")
}

/// The label of the backup that [`crate::ManifestHead::id`] tells from others. No label has an `@`.
pub fn label_of_backup(backup_id: &str) -> &str {
    backup_id.split('@').next().unwrap_or(backup_id)
}

/// What the newest verification tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LastVerification {
    /// When it was noted; `None` where there is none, or none that can be read.
    pub at: Option<Timestamp>,
    /// What it leaves as known against backups.
    pub damage: FoundDamage,
    /// The segments that it leaves as damaged.
    pub wal: DamagedWal,
    /// Newer events that cannot be read, and may be of a newer verification.
    pub unreadable: Vec<Key>,
}

impl ClusterRepository {
    /// What the newest verification of this system identifier tells, among the newest [`MOST_EVENTS`] events.
    ///
    /// # Errors
    /// Those of the repository; damaged events are passed over and named.
    pub async fn last_verification(&self) -> Result<LastVerification> {
        let repository = self.repository();
        let names = repository.newest_event_names(None, MOST_EVENTS).await?;
        let system_id = self.system_id().to_string();
        let mut last = LastVerification::default();
        let mut events = repository.read_events(names.iter());
        while let Some((name, event)) = events.next().await {
            match event {
                Ok(event) if is_verification(&event, &system_id) => {
                    // What it says and nobody understands must not be taken for nothing.
                    let wal = event.details.get(DAMAGED_WAL).cloned().map(serde_json::from_value);
                    let wal = wal.transpose().map(Option::unwrap_or_default);
                    match wal.and_then(|wal| Ok((wal, serde_json::from_value(Value::Object(event.details))?)))
                    {
                        Ok((wal, damage)) => {
                            (last.at, last.damage, last.wal) = (Some(event.time), damage, wal);
                            return Ok(last);
                        }
                        Err(_) => last.unreadable.push(name.clone()),
                    }
                }
                Ok(_) => {}
                Err(error) if error.is_damaged() || error.is_not_found() => {
                    last.unreadable.push(name.clone())
                }
                Err(error) => return Err(error),
            }
        }
        Ok(last)
    }
}

fn is_verification(event: &Event, system_id: &str) -> bool {
    event.action == VERIFY && event.details.get("system_id").and_then(Value::as_str) == Some(system_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(in_packs: bool) -> BackupDamage {
        BackupDamage {
            found_at: Timestamp(5),
            deep: true,
            in_packs,
            object: "packs/00/1".to_owned(),
            what: "a bit".to_owned(),
        }
    }

    fn backup(label: &str, parent: Option<&str>) -> JudgedBackup {
        JudgedBackup { id: format!("{label}@1"), label: label.to_owned(), parent: parent.map(str::to_owned) }
    }

    #[test]
    fn r19_whoever_takes_extents_over_from_a_damaged_backup_is_doubted_until_it_was_read() {
        let backups = [
            backup("a", None),
            backup("b", Some("a")),
            backup("c", Some("b")),
            backup("d", Some("c")),
            backup("full", None),
        ];
        let against = |found: &FoundDamage| -> Vec<String> {
            found.against(&backups).into_keys().map(|id| id.replace("@1", "")).collect()
        };
        let mut found = FoundDamage::default();
        assert_eq!(against(&found), [""; 0]);
        found.backups.insert("b@1".to_owned(), damage(true));
        assert_eq!(against(&found), ["b", "c", "d"]);
        found.sound.insert("d@1".to_owned());
        assert_eq!(against(&found), ["b", "c"]);
        // The damaged one has gone, or is another of that label.
        found.backups = [("a@0".to_owned(), damage(true))].into();
        assert_eq!(against(&found), ["b", "c"]);
        found.backups = [("b@1".to_owned(), damage(false))].into();
        assert_eq!(against(&found), ["b"], "WAL is its own");
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(serde_json::from_value::<FoundDamage>(json).unwrap(), found);
    }
}
