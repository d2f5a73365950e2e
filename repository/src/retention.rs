//! What retention leaves in a backup's folder, and what it takes away (R2, R19, R20).
//!
//! Objects never change, so each step is an object of its own, and who takes a step that another one must not take at the
//! same time puts its object first and then looks for the other's: of two that do so, at least one sees the other.
//!
//! | object | put by | then it looks for |
//! | --- | --- | --- |
//! | `expired` | the first run of retention: nothing new builds on the backup | |
//! | `parent` | a backup, before it takes anything over | the parent's `expired` |
//! | `removing` | a later run, before it removes anything | `hold`, and whether `expired` is still there |
//! | `hold` | somebody who wants the backup to stay | `removing` |

use highwater_storage::{ErrorKind, Key, Put};
use highwater_wal::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backups::{Backups, ListedBackup};
use crate::facts::{PROGRAM, host_name};
use crate::names::{EventId, Label, PackId};
use crate::{Error, Result};

/// The longest reason of a hold, in bytes.
const MAX_REASON_BYTES: usize = 1 << 10;

/// What says that a backup is to go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expired {
    /// Version of these fields: 1.
    pub version: u32,
    /// The backup's name.
    pub label: Label,
    /// When it was marked; never before the newest moment that the repository told of by then.
    pub marked_at: Timestamp,
    /// The machine that marked it.
    pub host: String,
    /// The program.
    pub program: String,
    /// Why it may go.
    pub reason: String,
}

/// What keeps a backup whatever the rules say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Version of these fields: 1.
    pub version: u32,
    /// The backup's name.
    pub label: Label,
    /// Which hold this is.
    pub id: EventId,
    /// Since when, by the clock of `host`.
    pub held_at: Timestamp,
    /// The machine on which it was asked for.
    pub host: String,
    /// The program.
    pub program: String,
    /// Why, in the words of whoever asked.
    pub reason: String,
}

/// What a running backup builds on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct BuildsOn {
    version: u32,
    label: Label,
    parent: Label,
}

/// Whether a backup may be removed, as [`Backups::claim_removal`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// It may, and nobody can hold it any more.
    Granted,
    /// Somebody holds it, or its mark was taken back.
    Withdrawn,
}

impl Backups {
    /// Marks a backup as expired, complete or not (R20). A mark that is there already stands.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mark_expired(&self, label: &Label, marked_at: Timestamp, reason: &str) -> Result<()> {
        let mark = Expired {
            version: 1,
            label: label.clone(),
            marked_at,
            host: host_name(),
            program: PROGRAM.to_owned(),
            reason: reason.to_owned(),
        };
        let body = self.repository().small_object(&mark)?;
        // Two runs at a time may mark the same backup: whichever came first stands, and says the same.
        let (Put::Created | Put::Exists) =
            self.repository().store().put_if_absent(&self.section().expired(label), &body).await?;
        Ok(())
    }

    /// When and why a backup was marked; `None` where it is not.
    ///
    /// # Errors
    /// Those of the store, and [`Error::Damaged`].
    pub async fn expired(&self, label: &Label) -> Result<Option<Expired>> {
        let key = self.section().expired(label);
        let mark: Option<Expired> = self.if_there(&key).await?;
        mark.map(|mark| of_label(&key, label, &mark.label).map(|()| mark)).transpose()
    }

    /// Takes a mark back.
    ///
    /// # Errors
    /// [`Error::Refused`] where the backup is being removed, and those of the store.
    pub async fn unmark(&self, label: &Label) -> Result<()> {
        self.repository().store().delete(&self.section().expired(label)).await?;
        match self.is_there(&self.section().removing(label)).await? {
            true => Err(going(label)),
            false => Ok(()),
        }
    }

    /// Holds a complete backup: no rule removes it. Where it was marked as expired, the mark is taken back.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such backup, where it is held already, or where it is being removed; and those of
    /// the store.
    pub async fn hold(&self, label: &Label, held_at: Timestamp, reason: &str) -> Result<Hold> {
        let refused = |reason: String, hint| Error::Refused { what: format!("backup {label}"), reason, hint };
        if reason.trim().is_empty() || reason.len() > MAX_REASON_BYTES {
            return Err(refused(
                "a hold needs a reason, of at most 1 KiB".to_owned(),
                "say who wants it kept, and why",
            ));
        }
        if let Some(held) = self.held(label).await? {
            let reason = format!("it is held since {}: {}", held.held_at, held.reason);
            return Err(refused(reason, "release it first (--release) to give another reason"));
        }
        if !self.is_there(&self.section().manifest(label)).await? {
            let reason = "there is no complete backup of that name".to_owned();
            return Err(refused(reason, "highwater list shows the backups"));
        }
        let hold = Hold {
            version: 1,
            label: label.clone(),
            id: EventId::random(),
            held_at,
            host: host_name(),
            program: PROGRAM.to_owned(),
            reason: reason.trim().to_owned(),
        };
        self.repository()
            .put_own(&self.section().hold(label), &self.repository().small_object(&hold)?)
            .await?;
        let unmarked = match self.is_there(&self.section().removing(label)).await? {
            true => Err(going(label)),
            false => self.unmark(label).await,
        };
        if let Err(error) = unmarked {
            self.release(label).await?;
            return Err(error);
        }
        Ok(hold)
    }

    /// Who holds a backup, and why; `None` where nobody does.
    ///
    /// # Errors
    /// Those of the store, and [`Error::Damaged`].
    pub async fn held(&self, label: &Label) -> Result<Option<Hold>> {
        let key = self.section().hold(label);
        let hold: Option<Hold> = self.if_there(&key).await?;
        hold.map(|hold| of_label(&key, label, &hold.label).map(|()| hold)).transpose()
    }

    /// Ends a hold. What nobody holds is fine.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn release(&self, label: &Label) -> Result<()> {
        Ok(self.repository().store().delete(&self.section().hold(label)).await?)
    }

    /// Notes that the backup `label`, which is being made, takes extents over from `parent`, and answers whether it may: not from
    /// one that was marked as expired meanwhile. From then on the parent's manifest stays until this backup is complete or given
    /// up (R20).
    ///
    /// # Errors
    /// Those of the store.
    pub async fn build_on(&self, label: &Label, parent: &Label) -> Result<bool> {
        let content = BuildsOn { version: 1, label: label.clone(), parent: parent.clone() };
        let body = self.repository().small_object(&content)?;
        self.repository().put_own(&self.section().parent(label), &body).await?;
        Ok(!self.is_expired(parent).await?)
    }

    /// Which backup one that is not complete builds on; `None` where it has noted none.
    ///
    /// # Errors
    /// Those of the store, and [`Error::Damaged`].
    pub async fn builds_on(&self, label: &Label) -> Result<Option<Label>> {
        let key = self.section().parent(label);
        let content: Option<BuildsOn> = self.if_there(&key).await?;
        content.map(|content| of_label(&key, label, &content.label).map(|()| content.parent)).transpose()
    }

    /// Begins to remove a backup that is marked as expired. Once granted, nothing brings it back.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn claim_removal(&self, label: &Label) -> Result<Claim> {
        #[derive(Serialize)]
        struct Removing<'a> {
            version: u32,
            label: &'a Label,
            host: String,
        }
        let content = Removing { version: 1, label, host: host_name() };
        let key = self.section().removing(label);
        let body = self.repository().small_object(&content)?;
        let put = self.repository().store().put_if_absent(&key, &body).await?;
        let is_held = self.is_there(&self.section().hold(label)).await?;
        if is_held || !self.is_expired(label).await? {
            // The claim of another run is that run's: it may have been granted before the hold came.
            if put == Put::Created {
                self.repository().store().delete(&key).await?;
            }
            return Ok(Claim::Withdrawn);
        }
        Ok(Claim::Granted)
    }

    /// Removes the manifest of a backup: from then on the backup does not exist, and its packs are named by others or by nobody.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_manifest(&self, label: &Label) -> Result<()> {
        Ok(self.repository().store().delete(&self.section().manifest(label)).await?)
    }

    /// Removes what is left in the folder of a backup without a manifest. The mark goes last: until then nobody can take the label.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_rest(&self, backup: &ListedBackup) -> Result<()> {
        let last = ["started", "removing", "expired"];
        let others = backup.names().filter(|name| !last.contains(name));
        for name in others.chain(last) {
            let key: Key = format!("{}{name}", self.section().backup(&backup.label)).parse()?;
            self.repository().store().delete(&key).await?;
        }
        Ok(())
    }

    /// Removes a pack.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_pack(&self, id: PackId) -> Result<()> {
        Ok(self.repository().store().delete(&self.section().pack(id)).await?)
    }

    async fn if_there<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        match self.repository().read_small(key).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn is_there(&self, key: &Key) -> Result<bool> {
        match self.repository().store().size(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::Store(error)),
        }
    }
}

/// An object that lies in the folder of another backup than it speaks of is not what was put there.
fn of_label(key: &Key, label: &Label, told: &Label) -> Result<()> {
    match told == label {
        true => Ok(()),
        false => Err(Error::damaged(key, format!("it speaks of backup {told}"))),
    }
}

fn going(label: &Label) -> Error {
    Error::Refused {
        what: format!("backup {label}"),
        reason: "it had expired and is being removed".to_owned(),
        hint: "hold another one (highwater list shows them), or take a new backup",
    }
}
