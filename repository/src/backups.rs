//! Backups: begun, complete, listed.

use std::collections::BTreeMap;

use highwater_wal::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{PROGRAM, host_name, now};
use crate::keys::{self, Section};
use crate::manifest::{ManifestHead, parse_head};
use crate::names::{EventId, Label};
use crate::repository::MAX_PAGES;
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

/// A backup in a listing: begun, and perhaps complete or expired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedBackup {
    /// Its name.
    pub label: Label,
    /// The last part of each object's name, with its length as stored.
    objects: BTreeMap<String, u64>,
}

impl ListedBackup {
    /// Whether its folder holds an object of this name.
    pub fn has(&self, object: &str) -> bool {
        self.objects.contains_key(object)
    }

    /// Whether it is complete: its manifest is there.
    pub fn is_complete(&self) -> bool {
        self.has("manifest")
    }

    /// The last parts of its objects' names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().map(String::as_str)
    }

    /// All its objects as they are stored, in bytes; packs are not among them.
    pub fn stored_bytes(&self) -> u64 {
        self.objects.values().sum()
    }
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
        // Of a backup that is being removed the mark goes last: who took its label before would be marked from the beginning.
        if self.is_expired(label).await? {
            return Err(Error::LabelTaken { label: label.to_string(), is_complete: false });
        }
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

    /// All backups in the order of their labels, each with the objects in its folder: one listing for all of them.
    pub async fn list(&self) -> Result<Vec<ListedBackup>> {
        self.list_below(&self.section.backups()).await
    }

    /// What the folder of one backup holds; `None` where there is nothing.
    pub async fn list_one(&self, label: &Label) -> Result<Option<ListedBackup>> {
        Ok(self.list_below(&self.section.backup(label)).await?.pop())
    }

    async fn list_below(&self, prefix: &str) -> Result<Vec<ListedBackup>> {
        let folder = self.section.backups();
        let mut found: BTreeMap<Label, BTreeMap<String, u64>> = BTreeMap::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page = self.repository.store().list(prefix, after.as_deref(), false).await?;
            for entry in &page.entries {
                let name = entry.key.as_str().strip_prefix(&folder).and_then(|name| name.split_once('/'));
                if let Some((label, object)) = name
                    && let Ok(label) = label.parse()
                {
                    found.entry(label).or_default().insert(object.to_owned(), entry.size);
                }
            }
            after = page.next;
            if after.is_none() {
                let listed = found.into_iter().map(|(label, objects)| ListedBackup { label, objects });
                return Ok(listed.collect());
            }
        }
        Err(self.repository.endless(prefix))
    }

    /// The facts of a backup whose manifest is known to be there, from a listing: an earlier reading may be taken out of
    /// the cache.
    pub async fn head_of_listed(&self, label: &Label) -> Result<ManifestHead> {
        let key = self.section.manifest(label);
        self.repository.read_listed_head(&key, |json| parse_head(&key, json, label)).await
    }

    /// Who began a backup, and when.
    pub async fn started(&self, label: &Label) -> Result<Started> {
        self.repository.read_small(&self.section.started(label)).await
    }

    /// Whether a backup is to go: nothing new may build on it (R20).
    pub async fn is_expired(&self, label: &Label) -> Result<bool> {
        self.is_there(&self.section.expired(label)).await
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
