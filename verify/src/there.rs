//! What is there, by listing: every object's name is looked at, also of those that nothing else would ever read.

use std::collections::{BTreeMap, BTreeSet};

use highwater_catalog::{Backup, Inventory};
use highwater_repository::{ClusterName, ClusterRepository, Label, Repository, TailPiece, keys};
use highwater_storage::{Entry, Key};
use highwater_wal::{Lsn, SegmentName, SegmentSize, SystemId, TimelineId, WalFile};

use crate::error::{Error, Result};

/// Pages of a listing that are read at most: at 1,000 objects a page, more than there can be.
const MAX_PAGES: usize = 1_000_000;
/// As many names that mean nothing are told.
const MAX_STRAYS: usize = 1000;

/// The folders of a cluster.
const CLUSTER_FOLDERS: [&str; 7] = ["wal/", "tail/", "reached/", "index/", "names/", "backups/", "packs/"];

/// What there is of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackupObjects {
    pub(crate) started: bool,
    pub(crate) manifest: bool,
    pub(crate) parts: Vec<u32>,
    pub(crate) expired: bool,
    pub(crate) hold: bool,
    pub(crate) parent: bool,
}

/// All objects but packs, which are too many.
#[derive(Debug)]
pub(crate) struct There {
    pub(crate) backups: BTreeMap<Label, BackupObjects>,
    /// Segments and partial ones; histories are read later.
    pub(crate) inventory: Inventory,
    /// Files of WAL that are no segments.
    pub(crate) other_wal: Vec<WalFile>,
    pub(crate) names: Vec<Key>,
    pub(crate) index: Vec<Key>,
    pub(crate) wrapped: Vec<Key>,
    pub(crate) events: Vec<Key>,
    /// Pieces of segments, in order.
    pub(crate) tails: BTreeMap<SegmentName, Vec<TailPiece>>,
    /// Marks of how far timelines' WAL was there.
    pub(crate) marks: BTreeMap<TimelineId, BTreeSet<Lsn>>,
    /// Names that mean nothing, and what is to be said of them.
    pub(crate) strays: Vec<String>,
    pub(crate) more_strays: u64,
    /// Objects without content, which nothing writes.
    pub(crate) empty: Vec<Key>,
    pub(crate) segments: u64,
}

/// Lists everything below `prefix`, page by page.
pub(crate) async fn each(
    repository: &Repository,
    prefix: &str,
    folders: bool,
    mut object: impl FnMut(Entry),
    mut folder: impl FnMut(String),
) -> Result<()> {
    let mut after: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let page = repository.store().list(prefix, after.as_deref(), folders).await;
        let page = page.map_err(highwater_repository::Error::from)?;
        page.entries.into_iter().for_each(&mut object);
        page.folders.into_iter().for_each(&mut folder);
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
    Err(Error::Internal(format!("the listing of {prefix} does not end")))
}

impl There {
    /// Lists it. Backups come before the WAL: so every complete backup's segments are in the listing of those.
    pub(crate) async fn list(cluster: &ClusterRepository, size: SegmentSize) -> Result<There> {
        let mut there = There {
            backups: BTreeMap::new(),
            inventory: Inventory::empty(cluster.name().as_str(), cluster.system_id(), size),
            other_wal: Vec::new(),
            names: Vec::new(),
            index: Vec::new(),
            wrapped: Vec::new(),
            events: Vec::new(),
            tails: BTreeMap::new(),
            marks: BTreeMap::new(),
            strays: Vec::new(),
            more_strays: 0,
            empty: Vec::new(),
            segments: 0,
        };
        let repository = cluster.repository();
        let section = cluster.section();
        each(repository, &section.backups(), false, |entry| there.backup_object(cluster, entry), |_| {})
            .await?;
        // Before the segments: one that is completed meanwhile is in one of the two listings.
        let mut unfinished = BTreeSet::new();
        let tails = section.tail_timelines();
        each(repository, &tails, false, |entry| unfinished.extend(there.tail_object(entry)), |_| {}).await?;
        for segment in unfinished {
            let tail = cluster.tail(segment).await?;
            there.tails.insert(segment, tail.pieces().to_vec());
        }
        each(repository, &section.wal_timelines(), false, |entry| there.wal_object(cluster, entry), |_| {})
            .await?;
        there.count_complete_tails(size);
        each(repository, &section.reached(), false, |entry| there.mark(cluster, entry), |_| {}).await?;
        for (name, list) in [("names/", 0), ("index/", 1)] {
            let prefix = format!("{}{name}", below(cluster));
            let mut found = Vec::new();
            each(repository, &prefix, false, |entry| found.push(entry), |_| {}).await?;
            for entry in found {
                there.is_empty(&entry);
                if list == 0 { there.names.push(entry.key) } else { there.index.push(entry.key) }
            }
        }
        there.roots(cluster).await?;
        each(repository, keys::WRAPPED_IDENTITIES, false, |entry| there.key_object(entry), |_| {}).await?;
        // Last: what was done meanwhile is told there.
        each(repository, keys::EVENTS, false, |entry| there.event_object(entry), |_| {}).await?;
        Ok(there)
    }

    fn is_empty(&mut self, entry: &Entry) {
        if entry.size == 0 {
            self.empty.push(entry.key.clone());
        }
    }

    pub(crate) fn stray(&mut self, name: impl ToString) {
        if self.strays.len() < MAX_STRAYS {
            self.strays.push(name.to_string());
        } else {
            self.more_strays += 1;
        }
    }

    fn backup_object(&mut self, cluster: &ClusterRepository, entry: Entry) {
        self.is_empty(&entry);
        let section = cluster.section();
        let rest = entry.key.as_str().strip_prefix(&section.backups());
        let Some((label, name)) = rest.and_then(|rest| rest.split_once('/')) else {
            return self.stray(entry.key);
        };
        let Ok(label) = label.parse::<Label>() else { return self.stray(entry.key) };
        let part = name.strip_prefix("manifest.").and_then(|number| number.parse::<u32>().ok());
        let is_part = part.is_some_and(|number| section.manifest_part(&label, number) == entry.key);
        if !matches!(name, "started" | "parent" | "manifest" | "expired" | "hold" | "removing") && !is_part {
            return self.stray(entry.key);
        }
        let objects = self.backups.entry(label).or_default();
        match name {
            "started" => objects.started = true,
            "manifest" => objects.manifest = true,
            "expired" => objects.expired = true,
            "hold" => objects.hold = true,
            "parent" => objects.parent = true,
            "removing" => {}
            _ => objects.parts.extend(part),
        }
    }

    fn wal_object(&mut self, cluster: &ClusterRepository, entry: Entry) {
        self.is_empty(&entry);
        let file = entry.key.name().parse::<WalFile>().ok();
        let Some(file) = file.filter(|file| cluster.section().wal(*file) == entry.key) else {
            return self.stray(entry.key);
        };
        match file {
            WalFile::Segment(segment) if segment.fits(self.inventory.segment_size) => {
                self.segments += 1;
                self.inventory.add_segment(segment);
            }
            WalFile::Segment(_) => self.stray(entry.key),
            other => {
                if let WalFile::Partial(segment) = other {
                    self.inventory.add_partial(segment);
                }
                self.other_wal.push(other);
            }
        }
    }

    /// The segment that the object has pieces of.
    fn tail_object(&mut self, entry: Entry) -> Option<SegmentName> {
        self.is_empty(&entry);
        let segment = entry.key.as_str().rsplit('/').nth(1).and_then(|name| name.parse::<SegmentName>().ok());
        let segment = segment.filter(|segment| keys::tail_object_of(*segment, entry.key.name()).is_some());
        if segment.is_none() {
            self.stray(entry.key);
        }
        segment
    }

    /// A segment that is there in pieces, and all of it, is there.
    fn count_complete_tails(&mut self, size: SegmentSize) {
        for (segment, pieces) in &self.tails {
            if TailPiece::reach(pieces) == size.bytes() {
                self.inventory.add_tail(*segment, segment.end(size));
            }
        }
    }

    /// All that is there, with the newest segment of each timeline where that is there in pieces: what is missing before it is a hole.
    /// Not where one of `backups` needs more of it than there is.
    pub(crate) fn with_newest_pieces(&self, backups: &[Backup]) -> Inventory {
        let mut seen = self.inventory.clone();
        let size = seen.segment_size;
        // In order: the last one of each timeline stays.
        let newest: BTreeMap<TimelineId, (SegmentName, &Vec<TailPiece>)> =
            self.tails.iter().map(|(segment, pieces)| (segment.timeline, (*segment, pieces))).collect();
        for (timeline, (segment, pieces)) in newest {
            let start = segment.start(size);
            let end = start + TailPiece::reach(pieces);
            let is_last = self.inventory.end_on(timeline).is_none_or(|whole| whole <= start);
            let is_enough = !backups.iter().any(|backup| {
                SegmentName::ending_at(backup.timeline, backup.stop, size) == segment && backup.stop > end
            });
            if is_last && is_enough && end > start {
                seen.add_tail(segment, end);
            }
        }
        seen
    }

    fn mark(&mut self, cluster: &ClusterRepository, entry: Entry) {
        self.is_empty(&entry);
        let folder = entry.key.as_str().strip_suffix(entry.key.name()).unwrap_or_default();
        let mark = keys::timeline_of_folder(folder).zip(keys::lsn_of_mark(&entry.key));
        match mark.filter(|(timeline, lsn)| cluster.section().reached_at(*timeline, *lsn) == entry.key) {
            Some((timeline, lsn)) => drop(self.marks.entry(timeline).or_default().insert(lsn)),
            None => self.stray(entry.key),
        }
    }

    /// Where the WAL of a timeline ends, as far as there are segments or pieces.
    pub(crate) fn end_of(&self, timeline: TimelineId) -> Option<Lsn> {
        let size = self.inventory.segment_size;
        let of_timeline = self.tails.iter().filter(|(segment, _)| segment.timeline == timeline);
        let in_pieces =
            of_timeline.map(|(segment, pieces)| segment.start(size) + TailPiece::reach(pieces)).max();
        in_pieces.max(self.inventory.end_on(timeline))
    }

    fn key_object(&mut self, entry: Entry) {
        self.is_empty(&entry);
        self.wrapped.push(entry.key);
    }

    fn event_object(&mut self, entry: Entry) {
        self.is_empty(&entry);
        self.events.push(entry.key);
    }

    /// What lies where nothing should: beside the folders that there are.
    async fn roots(&mut self, cluster: &ClusterRepository) -> Result<()> {
        let repository = cluster.repository();
        let places: [(String, &[&str], &[&str]); 4] = [
            (
                String::new(),
                &["highwater.json"],
                &["keys/", "clusters/", "events/", "probe/", "snapshots/", "sets/"],
            ),
            (keys::CLUSTERS.to_owned(), &[], &[]),
            (keys::systems(cluster.name()), &[], &[]),
            (below(cluster), &["cluster.json"], &CLUSTER_FOLDERS),
        ];
        for (prefix, objects, folders) in places {
            let (mut found, mut below) = (Vec::new(), Vec::new());
            each(repository, &prefix, true, |entry| found.push(entry), |folder| below.push(folder)).await?;
            for entry in found {
                self.is_empty(&entry);
                if !objects.iter().any(|name| *entry.key.as_str() == format!("{prefix}{name}")) {
                    self.stray(entry.key);
                }
            }
            for folder in below {
                let is_known = match folders {
                    [] if prefix == keys::CLUSTERS => keys::folder_name::<ClusterName>(&folder).is_some(),
                    [] => keys::folder_name::<SystemId>(&folder).is_some(),
                    names => names.iter().any(|name| folder == format!("{prefix}{name}")),
                };
                if !is_known {
                    self.stray(folder);
                }
            }
        }
        Ok(())
    }
}

/// What the names of all objects of a cluster begin with.
pub(crate) fn below(cluster: &ClusterRepository) -> String {
    format!("{}{}/", keys::systems(cluster.name()), cluster.system_id())
}
