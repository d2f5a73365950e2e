//! Backups: begun, complete, listed.

use highwater_wal::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{PROGRAM, host_name, now};
use crate::keys::{self, Section};
use crate::manifest::{ManifestHead, parse_head};
use crate::names::{EventId, Label};
use crate::{Error, Repository, Result};

/// The backups of one section of the repository, with their packs. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Backups {
    repository: Repository,
    section: Section,
}

/// What is put when a backup begins. It claims the label.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Started {
    /// Version of these fields: 1.
    pub version: u32,
    /// The backup's name.
    pub label: Label,
    /// Which try it is, should two have chosen the same label.
    pub id: EventId,
    /// The machine that makes it.
    pub host: String,
    /// Number of the process there.
    pub process: u32,
    /// The program.
    pub program: String,
    /// When, by that machine's clock.
    pub begun_at: Timestamp,
}

impl Backups {
    pub(crate) fn new(repository: Repository, section: Section) -> Backups {
        Backups { repository, section }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The names of the objects.
    pub fn section(&self) -> &Section {
        &self.section
    }

    /// Begins a backup: claims its label.
    ///
    /// # Errors
    /// [`Error::LabelTaken`] where there is a backup of that name, complete or not.
    pub async fn start(&self, label: &Label) -> Result<Started> {
        let started = Started {
            version: 1,
            label: label.clone(),
            id: EventId::random(),
            host: host_name(),
            process: std::process::id(),
            program: PROGRAM.to_owned(),
            begun_at: now(),
        };
        let body = self.repository.small_object(&started)?;
        // The body holds a random identity, so what is there with the same bytes was put by this very call.
        match self.repository.put_own(&self.section.started(label), &body).await {
            Ok(()) => Ok(started),
            Err(Error::Different(_)) => {
                let manifest = self.repository.store().size(&self.section.manifest(label)).await;
                Err(Error::LabelTaken { label: label.to_string(), is_complete: manifest.is_ok() })
            }
            Err(error) => Err(error),
        }
    }

    /// The labels of all backups, in order; each was begun, and may be complete, unfinished or expired.
    pub async fn labels(&self) -> Result<Vec<Label>> {
        let folders = self.repository.folders(&self.section.backups()).await?;
        Ok(folders.iter().filter_map(|folder| keys::folder_name(folder)).collect())
    }

    /// Who began a backup, and when.
    pub async fn started(&self, label: &Label) -> Result<Started> {
        self.repository.read_small(&self.section.started(label)).await
    }

    /// Whether a backup is to go: nothing new may build on it (R20).
    pub async fn is_expired(&self, label: &Label) -> Result<bool> {
        match self.repository.store().size(&self.section.expired(label)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == highwater_storage::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::Store(error)),
        }
    }

    /// The facts of a backup, by a ranged read; `None` where it is not complete.
    pub async fn head(&self, label: &Label) -> Result<Option<ManifestHead>> {
        let key = self.section.manifest(label);
        let beginning = match self.repository.fetch_beginning(&key).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let json = self.repository.read_head(&key, beginning).await?;
        parse_head(&key, &json, label).map(Some)
    }
}
