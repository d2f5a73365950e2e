//! What the repository holds of one cluster, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use highwater_wal::{Lsn, SegmentName, SegmentSize, SystemId, TimelineHistory, TimelineId, Timestamp};
use serde::Serialize;

use crate::{Path, SegmentSet};

/// What of a complete base backup matters for finding a way to a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Its name in the repository.
    pub label: String,
    /// The timeline it was taken on.
    pub timeline: TimelineId,
    /// Where recovery of it begins: the redo position of its checkpoint.
    pub start: Lsn,
    /// Where it is consistent: no moment before this one can be reached from it.
    pub stop: Lsn,
    /// When it began, by the server's clock.
    pub start_time: Timestamp,
    /// When it ended, by the server's clock.
    pub stop_time: Timestamp,
    /// Bytes of the database as restored.
    pub size_bytes: u64,
    /// Bytes that this backup added to the repository.
    pub stored_bytes: u64,
    /// The backup from which unchanged content was taken over, if any. It need not be there any more.
    pub parent: Option<String>,
    /// Tells it from a later one of the same label, as verifications name backups.
    #[serde(skip)]
    pub id: String,
}

/// A backup that was begun and has no manifest: it is running, or it was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// Its name in the repository.
    pub label: String,
    /// When it was begun.
    pub started: Timestamp,
    /// The host that began it.
    pub host: String,
}

/// A backup whose manifest cannot be read: nothing can be restored from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedBackup {
    /// Its name in the repository.
    pub label: String,
    /// The object, and what is wrong with it.
    pub reason: String,
}

/// A complete backup that is marked as expired: no plan uses it, and retention removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpiredBackup {
    /// The backup.
    #[serde(flatten)]
    pub backup: Backup,
    /// When it was marked.
    pub marked_at: Timestamp,
}

/// The end of a timeline's WAL that was in the repository, and is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LostEnd {
    /// Up to where it is there.
    pub reached: Lsn,
    /// Up to where it is known to have been.
    pub known: Lsn,
}

/// Everything the repository holds of one system identifier of a cluster.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The cluster's name in the repository.
    pub cluster: String,
    /// Which `initdb` it comes from.
    pub system_id: SystemId,
    /// The size of its WAL segments.
    pub segment_size: SegmentSize,
    /// Complete backups, in the order of their stop positions.
    pub backups: Vec<Backup>,
    /// Those that are marked as expired; they are not among the others.
    pub expired: Vec<ExpiredBackup>,
    /// Backups without a manifest.
    pub unfinished: Vec<Unfinished>,
    /// Backups that cannot be used.
    pub damaged_backups: Vec<DamagedBackup>,
    /// What verifications have found damaged of backups whose manifests can be read, by label, in words.
    pub found_damaged: BTreeMap<String, String>,
    /// Other system identifiers of the same cluster name that have backups.
    pub other_systems: Vec<SystemId>,
    histories: BTreeMap<TimelineId, TimelineHistory>,
    damaged_histories: BTreeMap<TimelineId, String>,
    segments: BTreeMap<TimelineId, SegmentSet>,
    partials: BTreeSet<SegmentName>,
    tails: BTreeMap<SegmentName, Lsn>,
    lost_ends: BTreeMap<TimelineId, LostEnd>,
}

impl Inventory {
    /// An inventory of nothing.
    pub fn empty(cluster: &str, system_id: SystemId, segment_size: SegmentSize) -> Inventory {
        Inventory {
            cluster: cluster.to_owned(),
            system_id,
            segment_size,
            backups: Vec::new(),
            expired: Vec::new(),
            unfinished: Vec::new(),
            damaged_backups: Vec::new(),
            found_damaged: BTreeMap::new(),
            other_systems: Vec::new(),
            histories: BTreeMap::new(),
            damaged_histories: BTreeMap::new(),
            segments: BTreeMap::new(),
            partials: BTreeSet::new(),
            tails: BTreeMap::new(),
            lost_ends: BTreeMap::new(),
        }
    }

    /// Adds an archived segment.
    pub fn add_segment(&mut self, name: SegmentName) {
        self.segments.entry(name.timeline).or_default().insert(name.number(self.segment_size));
    }

    /// Adds a segment of which there are pieces up to `end`, and which is not there whole. It counts as archived; a log with such a
    /// one is none of which every segment is archived, and no unbroken run goes on behind an unfinished one.
    pub fn add_tail(&mut self, name: SegmentName, end: Lsn) {
        if !self.has(name) {
            self.add_segment(name);
            self.tails.insert(name, end);
        }
    }

    /// Where the pieces of a segment end of which not all is there; `None` for any other.
    pub fn unfinished_end(&self, name: SegmentName) -> Option<Lsn> {
        self.tails.get(&name).copied().filter(|end| *end < name.end(self.segment_size))
    }

    /// Of a segment that is there in pieces only that much can be read: its timeline went on.
    pub(crate) fn shorten(&mut self, name: SegmentName, end: Lsn) {
        let known = self.end_of(name);
        self.tails.insert(name, end);
        self.add_lost_end(name.timeline, known);
    }

    /// The segments that are there in pieces only, with how many bytes of them are.
    pub(crate) fn in_pieces(&self) -> impl Iterator<Item = (SegmentName, u64)> {
        self.tails.keys().map(|name| (*name, self.bytes_of(*name)))
    }

    /// Whether a segment that counts as archived is there in pieces only.
    pub fn is_in_pieces(&self, name: SegmentName) -> bool {
        self.tails.contains_key(&name)
    }

    /// How many bytes are there of a segment that is archived, whole or in pieces.
    pub fn bytes_of(&self, name: SegmentName) -> u64 {
        self.end_of(name).bytes_since(name.start(self.segment_size))
    }

    /// Up to where a segment is there that is archived, whole or in pieces.
    pub fn end_of(&self, name: SegmentName) -> Lsn {
        self.unfinished_end(name).unwrap_or(name.end(self.segment_size))
    }

    /// The number of the first segment of a timeline from `number` on that is there in part only.
    pub(crate) fn first_unfinished(&self, timeline: TimelineId, number: u64) -> Option<u64> {
        let from = SegmentName::from_number(timeline, number, self.segment_size);
        let mut tails = self.tails.range(from..).map(|(name, _)| *name);
        tails
            .find(|name| name.timeline != timeline || self.unfinished_end(*name).is_some())
            .filter(|name| name.timeline == timeline)
            .map(|name| name.number(self.segment_size))
    }

    /// Where the WAL of a timeline ends that is there; `None` where there is none.
    pub fn end_on(&self, timeline: TimelineId) -> Option<Lsn> {
        let number = self.segments_on(timeline)?.runs().last().map(|run| *run.end())?;
        Some(self.end_of(SegmentName::from_number(timeline, number, self.segment_size)))
    }

    /// Notes that the WAL of a timeline was there up to `known`, which is behind its end now.
    pub fn add_lost_end(&mut self, timeline: TimelineId, known: Lsn) {
        let known = self.lost_end(timeline).map_or(known, |lost| lost.known.max(known));
        if let Some(reached) = self.end_on(timeline).filter(|reached| *reached < known) {
            self.lost_ends.insert(timeline, LostEnd { reached, known });
        }
    }

    /// What of a timeline's end was there once, and is not any more.
    pub fn lost_end(&self, timeline: TimelineId) -> Option<LostEnd> {
        self.lost_ends.get(&timeline).copied()
    }

    /// Adds all segments of a log of a timeline: its index object says that they are there.
    pub fn add_log(&mut self, timeline: TimelineId, log: u32) {
        self.segments.entry(timeline).or_default().insert_range(self.segment_size.numbers_of_log(log));
    }

    /// Takes all segments of a log out.
    pub fn remove_log(&mut self, timeline: TimelineId, log: u32) {
        if let Some(set) = self.segments.get_mut(&timeline) {
            self.segment_size.numbers_of_log(log).for_each(|number| set.remove(number));
        }
    }

    /// Whether every segment of a log of a timeline is archived.
    pub fn has_whole_log(&self, timeline: TimelineId, log: u32) -> bool {
        let (first, last) = self.segment_size.numbers_of_log(log).into_inner();
        let is_in_pieces = self.tails.keys().any(|tail| (tail.timeline, tail.log) == (timeline, log));
        let run = self.segments.get(&timeline).and_then(|set| set.run_at(first));
        !is_in_pieces && run.is_some_and(|run| run >= last)
    }

    /// The logs of a timeline of which every segment is archived, in order.
    pub fn whole_logs(&self, timeline: TimelineId) -> impl Iterator<Item = u32> {
        let per_log = self.segment_size.segments_per_log();
        let runs = self.segments.get(&timeline).into_iter().flat_map(SegmentSet::runs);
        let logs = runs.flat_map(move |run| run.start() / per_log..=run.end() / per_log);
        logs.filter_map(|log| u32::try_from(log).ok()).filter(move |log| self.has_whole_log(timeline, *log))
    }

    /// Up to where the WAL of a timeline went, as other things that are there prove: a history of a timeline that left it there, or a
    /// `.partial` file, in front of whose segment there was WAL.
    fn shown_end(&self, timeline: TimelineId) -> Option<Lsn> {
        let forks = self.histories.values().filter_map(|history| history.left_at(timeline));
        let partials = self.partials.iter().filter(|partial| partial.timeline == timeline);
        forks.chain(partials.map(|partial| partial.start(self.segment_size))).max()
    }

    /// The same, where WAL in front of it is missing behind `last`, the last segment that is there of its timeline without a hole. The
    /// segment that it lies in itself may be there under the name of the timeline that began in it, or be the `.partial` file.
    pub fn went_on_behind(&self, last: SegmentName) -> Option<Lsn> {
        let shown = self.shown_end(last.timeline)?;
        let is_missing = match self.unfinished_end(last) {
            Some(end) => end < shown,
            None => last.next(self.segment_size).end(self.segment_size) <= shown,
        };
        is_missing.then_some(shown)
    }

    /// Takes a segment out that cannot be read: to recovery it is a hole.
    pub fn remove_segment(&mut self, name: SegmentName) {
        if let Some(set) = self.segments.get_mut(&name.timeline) {
            set.remove(name.number(self.segment_size));
        }
    }

    /// Adds an archived `.partial` file: the last segment of a timeline, as far as it was written when a standby was promoted.
    pub fn add_partial(&mut self, name: SegmentName) {
        self.partials.insert(name);
    }

    /// Adds a timeline history that is archived and cannot be read, with the reason.
    pub fn add_damaged_history(&mut self, timeline: TimelineId, reason: String) {
        self.damaged_histories.insert(timeline, reason);
    }

    /// Adds an archived timeline history.
    pub fn add_history(&mut self, history: TimelineHistory) {
        self.histories.insert(history.timeline, history);
    }

    /// Adds a complete backup.
    pub fn add_backup(&mut self, backup: Backup) {
        let at =
            self.backups.partition_point(|other| (other.stop, &other.label) <= (backup.stop, &backup.label));
        self.backups.insert(at, backup);
    }

    /// The archived segments of a timeline, if there are any.
    pub fn segments_on(&self, timeline: TimelineId) -> Option<&SegmentSet> {
        self.segments.get(&timeline)
    }

    /// Whether a segment is archived.
    pub fn has(&self, segment: SegmentName) -> bool {
        self.segments
            .get(&segment.timeline)
            .is_some_and(|set| set.contains(segment.number(self.segment_size)))
    }

    /// The archived history of a timeline.
    pub fn history(&self, timeline: TimelineId) -> Option<&TimelineHistory> {
        self.histories.get(&timeline)
    }

    /// What is wrong with the archived history of a timeline.
    pub fn damaged_history(&self, timeline: TimelineId) -> Option<&str> {
        self.damaged_histories.get(&timeline).map(String::as_str)
    }

    /// The histories that are there and damaged, with what is wrong with each.
    pub fn damaged_histories(&self) -> impl Iterator<Item = (TimelineId, &str)> {
        self.damaged_histories.iter().map(|(timeline, reason)| (*timeline, reason.as_str()))
    }

    /// Whether the history of a timeline is archived and sound.
    pub fn has_history(&self, timeline: TimelineId) -> bool {
        self.histories.contains_key(&timeline)
    }

    /// The timelines whose history is not archived, though something else of them is, or a later one comes from them. The first
    /// has none.
    pub fn lost_histories(&self) -> BTreeSet<TimelineId> {
        let with_wal =
            self.segments.keys().copied().chain(self.partials.iter().map(|partial| partial.timeline));
        let ancestors = self.histories.values().flat_map(|history| &history.ancestors);
        let named = with_wal.chain(ancestors.map(|ancestor| ancestor.timeline));
        named.filter(|timeline| *timeline != TimelineId::FIRST && !self.has_history(*timeline)).collect()
    }

    /// The archived `.partial` files.
    pub fn partials(&self) -> impl Iterator<Item = SegmentName> {
        self.partials.iter().copied()
    }

    /// The archived `.partial` files of a segment number, of any timeline.
    pub fn partials_of(&self, number: u64) -> impl Iterator<Item = SegmentName> {
        self.partials.iter().copied().filter(move |name| name.number(self.segment_size) == number)
    }

    /// What is damaged, and what cannot be used for want of something else. Sentences that name the object.
    pub fn troubles(&self) -> Vec<String> {
        let backups = self.damaged_backups.iter();
        let backups = backups
            .map(|backup| format!("backup {} is damaged and is left out: {}", backup.label, backup.reason));
        let histories = self.damaged_histories.iter().map(|(timeline, reason)| {
            format!(
                "{} is damaged, so nobody can say where timeline {timeline} forked off: {reason}",
                timeline.history_name()
            )
        });
        let without = self.segments.iter().filter(|(timeline, _)| {
            self.path(**timeline).is_none() && self.damaged_history(**timeline).is_none()
        });
        let without = without.map(|(timeline, set)| {
            format!(
                "{} is not in the archive, so nobody can say where timeline {timeline} forked off, of which {} segments \
                 are there: archive it from pg_wal of a server that has it",
                timeline.history_name(),
                set.count()
            )
        });
        backups.chain(histories).chain(without).collect()
    }

    /// What else lies in the repository under this cluster's name.
    pub fn remarks(&self) -> Vec<String> {
        let remark = |id: &SystemId| {
            format!(
                "there are also backups of {} under system identifier {id}; --system-id {id} has them",
                self.cluster
            )
        };
        self.other_systems.iter().map(remark).collect()
    }

    /// [`Inventory::troubles`] and [`Inventory::remarks`].
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.troubles();
        notes.extend(self.remarks());
        notes
    }

    /// Every timeline that anything is known of, in the order of their numbers.
    pub fn timelines(&self) -> Vec<TimelineId> {
        let named = self.segments.keys().chain(self.histories.keys()).chain(self.damaged_histories.keys());
        let mut all: Vec<TimelineId> = named.copied().collect();
        all.extend(self.histories.values().flat_map(|history| history.ancestors.iter().map(|a| a.timeline)));
        all.extend(self.backups.iter().map(|backup| backup.timeline));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The newest timeline: the one with the highest number, as PostgreSQL's `recovery_target_timeline = 'latest'` takes it.
    pub fn newest_timeline(&self) -> Option<TimelineId> {
        self.timelines().last().copied()
    }

    /// The path to a timeline. `None` where the timeline is unknown, or where it is not the first and its history is missing:
    /// without it nobody can say where it came from.
    pub fn path(&self, timeline: TimelineId) -> Option<Path> {
        if let Some(history) = self.histories.get(&timeline) {
            return Some(Path::from_history(history));
        }
        let known = self.timelines().contains(&timeline);
        (known && timeline == TimelineId::FIRST).then(|| Path::root(timeline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_a_history_is_lost_where_anything_speaks_of_its_timeline() {
        let size = SegmentSize::DEFAULT;
        let mut inventory = Inventory::empty("main", SystemId(7), size);
        let lost = |inventory: &Inventory| {
            inventory.lost_histories().into_iter().map(TimelineId::get).collect::<Vec<u32>>()
        };
        let tli = |number| TimelineId::new(number).unwrap();
        let segment = |number| SegmentName::containing(tli(number), Lsn(0x0500_0000), size);
        inventory.add_segment(segment(1));
        assert_eq!(lost(&inventory), [0; 0]);
        inventory.add_segment(segment(2));
        inventory.add_partial(segment(4));
        let history = |timeline, content: &str| TimelineHistory::parse(timeline, content).unwrap();
        inventory.add_history(history(tli(u32::MAX), "1\t0/5000100\tx\n6\t0/5000200\tx\n"));
        assert_eq!(lost(&inventory), [2, 4, 6]);
        inventory.add_history(history(tli(2), "1\t0/5000100\tx\n"));
        assert_eq!(lost(&inventory), [4, 6]);
    }
}
