//! What there is: backups, marks, holds.

use std::collections::BTreeMap;

use highwater_catalog::retention::{Complete, Damaged, Holdings, Incomplete};
use highwater_catalog::{Backup, Inventory};
use highwater_repository::{
    Backups, Error as RepositoryError, FoundDamage, JudgedBackup, Label, ListedBackup,
};
use highwater_wal::Timestamp;

use crate::Result;
use crate::packs::Packs;
use crate::progress::{Phase, Progress};

/// The backups, and the folders in which they lie.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) holdings: Holdings,
    pub(crate) folders: BTreeMap<String, ListedBackup>,
    /// The complete ones, as damage is looked up for them.
    judged: Vec<JudgedBackup>,
}

impl Survey {
    /// Looks at every backup, and reads the manifests.
    pub(crate) async fn make(
        backups: &Backups,
        inventory: &Inventory,
        packs: &mut Packs,
        progress: &dyn Progress,
    ) -> Result<Survey> {
        let mut survey = Survey::default();
        let listed = backups.list().await?;
        packs.expect(listed.iter().filter(|objects| objects.is_complete()).count());
        for objects in listed {
            survey.look(backups, inventory, packs, progress, &objects).await?;
            survey.folders.insert(objects.label.to_string(), objects);
        }
        Ok(survey)
    }

    /// Adds what verifications have found, by which a backup that looks whole is none to rely on.
    pub(crate) fn note_damage(&mut self, found: &FoundDamage) {
        let against = found.against(&self.judged);
        for judged in &self.judged {
            let Some(damage) = against.get(&judged.id) else { continue };
            let complete = self.holdings.complete.iter_mut();
            for complete in complete.filter(|complete| complete.backup.label == judged.label) {
                complete.found_damaged = Some(format!(
                    "the verification of {} found {}: {}",
                    damage.found_at, damage.object, damage.what
                ));
            }
        }
    }

    async fn look(
        &mut self,
        backups: &Backups,
        inventory: &Inventory,
        packs: &mut Packs,
        progress: &dyn Progress,
        objects: &ListedBackup,
    ) -> Result<()> {
        let label = &objects.label;
        let is_leftover = !objects.is_complete() && !objects.has("started");
        if is_leftover || (objects.has("removing") && objects.has("expired")) {
            self.holdings.remains.push(label.to_string());
            if objects.is_complete() {
                // Its packs are known to have been its own, and go with it.
                // Where it cannot be read they are found as packs that nobody names.
                let _: std::result::Result<_, String> = unreadable(packs.read(backups, label).await)?;
            }
            return Ok(());
        }
        let marked_at = match objects.has("expired") {
            true => backups.expired(label).await?.map(|mark| mark.marked_at),
            false => None,
        };
        let hold = match objects.has("hold") {
            true => backups.held(label).await?.map(|hold| hold.reason),
            false => None,
        };
        let damaged = inventory.damaged_backups.iter().find(|damaged| damaged.label == label.as_str());
        let reason = match (of(inventory, label), damaged) {
            (Some(backup), _) if objects.is_complete() => {
                progress.phase(&Phase::Manifest(label.to_string()));
                match unreadable(packs.read(backups, label).await)? {
                    Ok((head, defect)) => {
                        let backup = backup.clone();
                        self.judged.push(JudgedBackup {
                            id: head.id(),
                            label: label.to_string(),
                            parent: head.parent.map(|parent| parent.to_string()),
                        });
                        let found_damaged = None;
                        let complete = Complete { backup, marked_at, hold, defect, found_damaged };
                        self.holdings.complete.push(complete);
                        return Ok(());
                    }
                    Err(reason) => reason,
                }
            }
            (_, Some(damaged)) => damaged.reason.clone(),
            _ if objects.is_complete() && objects.has("expired") => "its manifest is damaged".to_owned(),
            // Complete since the catalog was read, or not at all: in either case it may have been running until now.
            _ => return self.incomplete(backups, label, objects, marked_at).await,
        };
        let begun_at = begun(backups, label).await?.map(|(begun_at, _)| begun_at);
        let label = label.to_string();
        self.holdings.damaged.push(Damaged { label, reason, begun_at, marked_at, hold });
        Ok(())
    }

    async fn incomplete(
        &mut self,
        backups: &Backups,
        label: &Label,
        objects: &ListedBackup,
        marked_at: Option<Timestamp>,
    ) -> Result<()> {
        let begun = begun(backups, label).await?;
        let builds_on = match objects.has("parent") {
            true => backups.builds_on(label).await?.map(|parent| parent.to_string()),
            false => None,
        };
        self.holdings.incomplete.push(Incomplete {
            label: label.to_string(),
            begun_at: begun.as_ref().map(|(begun_at, _)| *begun_at),
            host: begun.map(|(_, host)| host),
            builds_on,
            marked_at,
        });
        Ok(())
    }
}

fn of<'a>(inventory: &'a Inventory, label: &Label) -> Option<&'a Backup> {
    let expired = inventory.expired.iter().map(|expired| &expired.backup);
    inventory.backups.iter().chain(expired).find(|backup| backup.label == label.as_str())
}

/// When a backup was begun, and by whom, where that can be read.
async fn begun(backups: &Backups, label: &Label) -> Result<Option<(Timestamp, String)>> {
    match backups.started(label).await {
        Ok(started) => Ok(Some((started.begun_at, started.host))),
        Err(error) if error.is_not_found() || error.is_damaged() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What of a manifest could be read; why not, where that is the manifest's fault.
fn unreadable<T>(read: Result<T>) -> Result<std::result::Result<T, String>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(crate::Error::Repository(error)) if is_fault(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

fn is_fault(error: &RepositoryError) -> bool {
    error.is_damaged() || error.is_not_found()
}
