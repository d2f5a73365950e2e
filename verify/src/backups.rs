//! Manifests: whether each is whole.

use highwater_catalog::Backup;
use highwater_repository::{ExtentReader, Item, Label, ManifestHead, ManifestReader, Run as Bytes};
use highwater_wal::Lsn;

use crate::control::{self, Pages};
use crate::error::{Error, Result};
use crate::finding::Finding;
use crate::named::{Gathered, Place, gather};
use crate::run::Run;
use crate::spool::Spool;
use crate::there::BackupObjects;
use crate::verdict::{Bad, verdict};

/// Where PostgreSQL keeps what it knows of the cluster.
const CONTROL: &str = "global/pg_control";
/// It has 8 KiB.
const MOST_CONTROL_BYTES: u64 = 64 << 10;

/// A complete backup.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) label: Label,
    pub(crate) facts: Backup,
    /// Whether it is about to be removed.
    pub(crate) expired: bool,
    /// Where recovery of it begins; a page that was changed later is repaired by it.
    pub(crate) start: Lsn,
    /// What its pages are like, where they have checksums.
    pub(crate) pages: Option<Pages>,
    /// How it is remembered.
    pub(crate) id: String,
    /// Whether its manifest could be read to its end.
    pub(crate) is_read: bool,
}

impl Run<'_> {
    /// The heads of all backups; which of them are complete.
    pub(crate) async fn heads(&mut self) -> Result<()> {
        let backups = self.cluster.backups();
        for (label, objects) in self.there.backups.clone() {
            let key = self.cluster.section().manifest(&label);
            match backups.head(&label).await {
                Ok(Some(head)) => self.head(&label, &objects, head).await?,
                Ok(None) if objects.manifest => self.gone.push(key),
                Ok(None) => self.unfinished(&label, &objects).await?,
                Err(error) => match verdict(error)? {
                    Bad::Damaged(reason) => {
                        let finding = Finding::damage(key, reason);
                        self.findings.push(finding.needed_by([label.to_string()]));
                    }
                    Bad::Missing => self.gone.push(key),
                },
            }
            self.marks(&label, &objects).await?;
        }
        Ok(())
    }

    /// What says that a backup was begun, is to go, or is not to go.
    async fn marks(&mut self, label: &Label, objects: &BackupObjects) -> Result<()> {
        let backups = self.cluster.backups();
        let key = self.cluster.section().started(label);
        if !objects.started {
            self.gone.push(key);
            return Ok(());
        }
        match backups.started(label).await {
            Ok(started) if started.label != *label => {
                let what = format!("it speaks of backup {}", started.label);
                self.findings.push(Finding::damage(key, what));
            }
            Ok(_) => {}
            Err(error) => match verdict(error)? {
                Bad::Damaged(reason) => self.findings.push(Finding::damage(key, reason)),
                Bad::Missing => self.gone.push(key),
            },
        }
        let section = self.cluster.section();
        let mut read = Vec::new();
        if objects.parent {
            read.push((section.parent(label), backups.builds_on(label).await.err()));
        }
        if objects.hold {
            read.push((section.hold(label), backups.held(label).await.err()));
        }
        if objects.expired {
            read.push((section.expired(label), backups.expired(label).await.err()));
        }
        for (key, error) in read {
            match error.map(verdict).transpose()? {
                Some(Bad::Damaged(reason)) => self.findings.push(Finding::damage(key, reason)),
                // A hold ends and a mark is taken back at any time.
                Some(Bad::Missing) | None => {}
            }
        }
        Ok(())
    }

    async fn head(&mut self, label: &Label, objects: &BackupObjects, head: ManifestHead) -> Result<()> {
        let key = self.cluster.section().manifest(label);
        let id = head.id();
        let (Some(postgres), Some(facts)) = (&head.postgres, Backup::of_head(&head)) else {
            self.findings.push(Finding::damage(key, "it is no backup of PostgreSQL"));
            return Ok(());
        };
        let size = self.there.inventory.segment_size;
        if (postgres.system_id, postgres.segment_size) != (self.cluster.system_id(), size) {
            let what = format!(
                "it is of the cluster with system identifier {} and segments of {} bytes",
                postgres.system_id,
                postgres.segment_size.bytes()
            );
            self.findings.push(Finding::damage(key, what).needed_by([label.to_string()]));
            return Ok(());
        }
        for number in objects.parts.iter().filter(|number| **number as usize > head.parts.len()) {
            let key = self.cluster.section().manifest_part(label, *number);
            self.there.stray(key);
        }
        self.there.inventory.add_backup(facts.clone());
        self.looked.backups += 1;
        self.total_bytes += facts.size_bytes;
        let (expired, start) = (objects.expired, postgres.start_lsn);
        self.whole.push(Whole {
            label: label.clone(),
            facts,
            expired,
            start,
            pages: None,
            id,
            is_read: false,
        });
        Ok(())
    }

    /// A backup without a manifest: it runs, was cut off, is being removed, or has lost it.
    async fn unfinished(&mut self, label: &Label, objects: &BackupObjects) -> Result<()> {
        let key = self.cluster.section().manifest(label);
        if objects.expired {
            return Ok(());
        }
        let is_done = self.past.since.iter().any(|event| {
            let names = event.details.get("label").and_then(|label| label.as_str()) == Some(label.as_str());
            let of_ours = event.cluster.as_ref() == Some(self.cluster.name());
            event.action == "backup"
                && event.outcome == highwater_repository::Outcome::Done
                && names
                && of_ours
        });
        if is_done {
            self.gone.push(key);
            return Ok(());
        }
        let what = match self.cluster.backups().started(label).await {
            Ok(started) => format!(
                "backup {label} runs, or was cut off: begun at {} on {}",
                started.begun_at, started.host
            ),
            Err(_) => format!("backup {label} is not complete"),
        };
        self.findings.push(Finding::note(key, what));
        Ok(())
    }

    /// Reads all manifests to their ends, and gathers what they name.
    pub(crate) async fn manifests(&mut self) -> Result<Gathered> {
        let scratch = self.options.scratch.clone();
        let mut gathered = match self.options.deep {
            true => Gathered::Extents(Spool::new(&scratch)),
            false => Gathered::Reaches(Spool::new(&scratch)),
        };
        for at in 0..self.whole.len() {
            let backup = self.whole[at].clone();
            if !self.wants_backup(&backup) {
                continue;
            }
            let pages = match self.options.deep {
                true => self.pages(&backup).await?,
                false => None,
            };
            self.whole[at].pages = pages;
            let known = self.known(&backup);
            match self.manifest(&backup, pages, known, &mut gathered).await {
                Ok(()) => self.whole[at].is_read = true,
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::Bad(error)) => self.bad_manifest(&backup, error)?,
            }
        }
        Ok(gathered)
    }

    fn bad_manifest(&mut self, backup: &Whole, error: highwater_repository::Error) -> Result<()> {
        let named = match &error {
            highwater_repository::Error::Damaged { key, .. }
            | highwater_repository::Error::Missing { key } => Some(key.clone()),
            highwater_repository::Error::Locked { key, .. } => Some(key.clone()),
            _ => None,
        };
        let key = named.unwrap_or_else(|| self.cluster.section().manifest(&backup.label).to_string());
        match verdict(error)? {
            Bad::Damaged(reason) => {
                self.findings.push(Finding::damage(key, reason).needed_by([backup.label.to_string()]));
            }
            Bad::Missing => match key.parse() {
                Ok(key) => self.gone.push(key),
                Err(_) => self.findings.push(Finding::damage(key, "it is missing")),
            },
        }
        Ok(())
    }

    /// 1 where all extents of a backup were proven before, 2 where those in the first packs were.
    fn known(&self, backup: &Whole) -> u8 {
        let Some(proven) = &self.base else { return 0 };
        u8::from(proven.backups.contains(&backup.id))
            | u8::from(proven.begun_backups.contains(&backup.id)) << 1
    }

    async fn manifest(
        &mut self,
        backup: &Whole,
        pages: Option<Pages>,
        known: u8,
        gathered: &mut Gathered,
    ) -> Result<(), Failed> {
        let backups = self.cluster.backups();
        let mut reader = ManifestReader::open(&backups, &backup.label).await.map_err(Failed::Bad)?;
        let told = reader.head().totals;
        let (mut files, mut folders, mut links, mut bytes) = (0, 0, 0, 0);
        let mut place = Place::default();
        let scratch = self.options.scratch.clone();
        let failed = |source| Failed::Error(Error::Scratch { folder: scratch.clone(), source });
        let mut turns = 0_u64;
        while let Some(item) = reader.next().await.map_err(Failed::Bad)? {
            match item {
                Item::Folder(_) => folders += 1,
                Item::Link(_) => links += 1,
                Item::File(file) => {
                    files += 1;
                    bytes += file.size;
                    place = Place::of(&file.path.to_string(), pages);
                }
                Item::Runs(runs) => {
                    for run in &runs {
                        gather(gathered, &mut place, run, backup.start, known).map_err(&failed)?;
                    }
                }
            }
            turns += 1;
            if turns.is_multiple_of(4096) {
                self.tick("manifests", None);
                tokio::task::yield_now().await;
            }
        }
        self.looked.backups_read += 1;
        self.looked.files += files;
        if (told.files, told.folders, told.links, told.bytes) != (files, folders, links, bytes) {
            let what = format!(
                "it tells of {} files with {} bytes, {} folders, {} links, and lists {files} with {bytes}, {folders}, {links}",
                told.files, told.bytes, told.folders, told.links
            );
            let key = self.cluster.section().manifest(&backup.label);
            self.findings.push(Finding::damage(key, what).needed_by([backup.label.to_string()]));
        }
        Ok(())
    }

    /// What a backup's `pg_control` says of its pages.
    async fn pages(&mut self, backup: &Whole) -> Result<Option<Pages>> {
        let found = match self.control(&backup.label).await {
            Ok(content) => match content {
                Some(content) => control::pages(&content),
                None => Err("it has no pg_control"),
            },
            // The reading of the manifest tells.
            Err(error) => match verdict(error)? {
                Bad::Damaged(_) | Bad::Missing => return Ok(None),
            },
        };
        match found {
            Ok(pages) => Ok(Some(pages)),
            Err(reason) => {
                self.unproven.insert(format!("pages of backup {}: {reason}", backup.label));
                Ok(None)
            }
        }
    }

    /// The content of a backup's `pg_control`. It stands among the last lines, as the server sends it last.
    async fn control(&self, label: &Label) -> highwater_repository::Result<Option<Vec<u8>>> {
        let backups = self.cluster.backups();
        for only_last in [true, false] {
            let mut reader = ManifestReader::open(&backups, label).await?;
            if only_last {
                reader = reader.only_last_lines();
            }
            let mut is_control = false;
            let mut content = Vec::new();
            while let Some(item) = reader.next().await? {
                match item {
                    Item::File(file) => {
                        is_control = file.path.to_string() == CONTROL && file.size <= MOST_CONTROL_BYTES
                    }
                    Item::Runs(runs) if is_control => self.read_runs(&runs, &mut content).await?,
                    Item::Runs(_) => {}
                    Item::Folder(_) | Item::Link(_) => is_control = false,
                }
                if !content.is_empty() && !is_control {
                    break;
                }
            }
            if !content.is_empty() {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    async fn read_runs(&self, runs: &[Bytes], content: &mut Vec<u8>) -> highwater_repository::Result<()> {
        let reader = ExtentReader::new(&self.cluster.backups());
        let mut buffer = Vec::new();
        for run in runs {
            match run {
                Bytes::Zeros(length) => content.resize(content.len() + *length as usize, 0),
                Bytes::Extents(extents) => {
                    for extent in extents {
                        let fetched = reader.fetch(std::slice::from_ref(extent)).await?;
                        fetched.each(&mut buffer, |_, bytes| {
                            content.extend_from_slice(bytes);
                            Ok::<(), highwater_repository::Error>(())
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Why a manifest was not read to its end.
enum Failed {
    /// It is bad, perhaps.
    Bad(highwater_repository::Error),
    /// The verification cannot go on.
    Error(Error),
}
