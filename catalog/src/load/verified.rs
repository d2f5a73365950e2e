//! What verifications have found, for plans and windows that must not build on it (R12).

use std::collections::BTreeMap;

use highwater_repository::{DamagedWal, Error, FoundDamage, JudgedBackup};
use highwater_wal::{SegmentName, Summary, TimelineId, WalFile, Walk};

use super::{Catalog, PlanError};
use crate::{Inventory, Plan, SegmentSet};

/// As many bytes of segments that were found damaged are read again for windows. Of more, the verification is believed.
const MOST_READ_AGAIN_BYTES: u64 = 256 << 20;

/// What the newest verification has found.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// What is known against backups, by label.
    backups: BTreeMap<String, String>,
    /// Segments that were found damaged then, and were not read since.
    suspects: BTreeMap<TimelineId, SegmentSet>,
    /// When that was, in words.
    at: String,
    /// Sentences.
    pub notes: Vec<String>,
}

impl Verified {
    /// Takes out the suspects of a timeline in a range of numbers.
    fn take(&mut self, timeline: TimelineId, numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let Some(set) = self.suspects.get_mut(&timeline) else { return Vec::new() };
        let taken: Vec<u64> = set.within(numbers).collect();
        taken.iter().for_each(|number| set.remove(*number));
        taken
    }
}

impl Catalog {
    /// What verifications have found damaged of backups whose manifests can be read, by label, in words.
    pub async fn found_damaged(&mut self) -> &BTreeMap<String, String> {
        self.learn().await;
        &self.learnt().backups
    }

    /// How many segments that are there the newest verification has found damaged, whatever was mended since.
    pub async fn found_damaged_segments(&mut self) -> u64 {
        self.learn().await;
        self.learnt().suspects.values().map(SegmentSet::count).sum()
    }

    /// What else there is to say of verifications, once something has asked what they have found. Sentences.
    pub fn verification_notes(&self) -> &[String] {
        self.verified.as_ref().map(|verified| verified.notes.as_slice()).unwrap_or_default()
    }

    /// Tells an inventory what the newest verification has found of backups; answers whether that is news. That it cannot be read is no
    /// reason to have no plan: it is told.
    pub(super) async fn ask_verification(&mut self, inventory: &mut Inventory) -> bool {
        let found = self.found_damaged().await.clone();
        let is_news = inventory.found_damaged != found;
        inventory.found_damaged = found;
        is_news
    }

    async fn learn(&mut self) {
        if self.verified.is_none() {
            self.verified = Some(self.read_verification().await);
        }
    }

    fn learnt(&mut self) -> &mut Verified {
        self.verified.get_or_insert_default()
    }

    async fn read_verification(&self) -> Verified {
        let last = match self.cluster.last_verification().await {
            Ok(last) => last,
            Err(error) => {
                let note =
                    format!("what verifications have found cannot be read, and is not looked at: {error}");
                return Verified { notes: vec![note], ..Verified::default() };
            }
        };
        let unreadable = last.unreadable.first().map(|object| {
            format!("{object} cannot be read, and may tell of damage: `highwater verify --deep` looks anew")
        });
        Verified {
            backups: against(&last.damage, &self.inventory),
            suspects: suspects(&last.wal, &self.inventory),
            at: last.at.map_or_else(String::new, |at| format!("the verification of {at}")),
            notes: unreadable.into_iter().collect(),
        }
    }

    /// Reads the segments of a plan that were found damaged once. Those that still are, are noted; the first is the answer.
    ///
    /// # Errors
    /// Those of the repository, but for damage.
    pub(super) async fn read_suspects(&mut self, plan: &Plan) -> Result<Option<PlanError>, Error> {
        let size = self.inventory.segment_size;
        let mut damage = None;
        for run in &plan.wal {
            let timeline = run.first.timeline;
            for number in self.learnt().take(timeline, run.first.number(size)..=run.last.number(size)) {
                let segment = SegmentName::from_number(timeline, number, size);
                if let Some(error) = self.read_again(segment).await? {
                    damage.get_or_insert(error.into());
                }
            }
        }
        Ok(damage)
    }

    /// Reads segments that were found damaged once, the newest of them, and takes out of an inventory those that still are, and those that
    /// are too many to be read; `false` where there are none.
    ///
    /// # Errors
    /// Those of the repository, but for damage.
    pub(super) async fn take_out_suspects(&mut self, inventory: &mut Inventory) -> Result<bool, Error> {
        let size = inventory.segment_size;
        let mut left = (MOST_READ_AGAIN_BYTES / size.bytes()).max(1);
        let (mut found, mut believed) = (false, 0_u64);
        let suspects = std::mem::take(&mut self.learnt().suspects);
        for (timeline, set) in suspects.into_iter().rev() {
            let numbers: Vec<u64> = set.within(0..=u64::MAX).collect();
            for number in numbers.into_iter().rev() {
                let segment = SegmentName::from_number(timeline, number, size);
                let is_read = left > 0;
                left = left.saturating_sub(1);
                if is_read && self.read_again(segment).await?.is_none() {
                    continue;
                }
                believed += u64::from(!is_read);
                inventory.remove_segment(segment);
                found = true;
            }
        }
        if believed > 0 {
            let verified = self.learnt();
            verified.notes.push(format!(
                "{believed} more segments that {} found damaged were not read again, and count as missing: `highwater verify --deep` tells \
                 whether they still are",
                verified.at
            ));
        }
        Ok(found)
    }

    /// Reads a segment that was found damaged. If it still is, that is noted, and is the answer.
    async fn read_again(&mut self, segment: SegmentName) -> Result<Option<Error>, Error> {
        let Some(reason) = self.wrong_with(segment).await? else { return Ok(None) };
        let key = self.cluster.section().wal(WalFile::Segment(segment));
        Ok(Some(self.heads.note_damage(segment, Error::damaged(key, reason))))
    }

    /// What is wrong with a segment, read as closely as a verification reads it, with what runs into it. `None` where it is right, or has
    /// gone: the listing has shown that it is there, or is just about to be proven wrong.
    async fn wrong_with(&self, segment: SegmentName) -> Result<Option<String>, Error> {
        let (size, system_id) = (self.inventory.segment_size, self.cluster.system_id());
        let mut walk = Walk::new(size, system_id);
        let mut previous: Option<Summary> = None;
        for name in self.leading_into(segment).await? {
            let read = match self.cluster.prove_wal(WalFile::Segment(name)).await {
                Ok(object) => object.head.summary.map(|summary| (summary, object.bytes)),
                Err(Error::Damaged { reason, .. }) if name == segment => return Ok(Some(reason)),
                Err(error) if error.is_not_found() && name == segment => return Ok(None),
                Err(error) if error.is_damaged() || error.is_not_found() => None,
                Err(error) => return Err(error),
            };
            let Some((summary, bytes)) = read else {
                if name == segment {
                    return Ok(Some("it has no summary".to_owned()));
                }
                walk.begin_anew();
                previous = None;
                continue;
            };
            let mut wrong = summary.is_of(name, size, system_id);
            if let (Ok(()), Some(previous)) = (&wrong, &previous) {
                wrong = previous.goes_on_in(&summary);
            }
            if wrong.is_ok() && summary.pg_version.is_some() {
                wrong = walk.read(name, bytes, &summary).wrong.map_or(Ok(()), Err);
            }
            if name == segment {
                let goes_on = self.inventory.has(name.next(size));
                return Ok(wrong.and_then(|()| if goes_on { summary.leads_on() } else { Ok(()) }).err());
            }
            previous = Some(summary);
        }
        Ok(None)
    }

    /// The segments in which what runs into a segment begins and goes on, as far as they are there, and the segment itself.
    async fn leading_into(&self, segment: SegmentName) -> Result<Vec<SegmentName>, Error> {
        let mut names = vec![segment];
        // It ends: no record is longer than 1 GiB, and each round goes a segment back.
        while let Some(before) = self.before(names[names.len() - 1]) {
            names.push(before);
            let head = match self.cluster.wal_head(WalFile::Segment(before)).await {
                Ok(head) => head,
                Err(error) if error.is_damaged() || error.is_not_found() => break,
                Err(error) => return Err(error),
            };
            let unfinished = head.summary.and_then(|summary| summary.unfinished);
            if unfinished.is_none_or(|unfinished| unfinished.lsn.is_some()) {
                break;
            }
        }
        names.reverse();
        Ok(names)
    }

    /// The segment in front of one, where it is there and whole.
    fn before(&self, segment: SegmentName) -> Option<SegmentName> {
        let size = self.inventory.segment_size;
        let number = segment.number(size).checked_sub(1)?;
        let same = SegmentName::from_number(segment.timeline, number, size);
        let on_path = self.inventory.path(segment.timeline).map(|path| path.segment(number, size));
        let found = [Some(same), on_path].into_iter().flatten().find(|name| self.inventory.has(*name));
        found.filter(|name| !self.inventory.is_in_pieces(*name))
    }
}

/// What is known against backups, in words, by label.
fn against(found: &FoundDamage, inventory: &Inventory) -> BTreeMap<String, String> {
    let judged: Vec<JudgedBackup> = inventory
        .backups
        .iter()
        .map(|backup| JudgedBackup {
            id: backup.id.clone(),
            label: backup.label.clone(),
            parent: backup.parent.clone(),
        })
        .collect();
    let damage = found.against(&judged);
    let told = judged.into_iter().filter_map(|backup| {
        let damage = damage.get(&backup.id)?;
        let (at, object, what) = (damage.found_at, &damage.object, &damage.what);
        Some((backup.label, format!("the verification of {at} found {object}: {what}")))
    });
    told.collect()
}

/// The segments among those that are there.
fn suspects(damaged: &DamagedWal, inventory: &Inventory) -> BTreeMap<TimelineId, SegmentSet> {
    let mut suspects: BTreeMap<TimelineId, SegmentSet> = BTreeMap::new();
    for timeline in inventory.timelines() {
        let Some(there) = inventory.segments_on(timeline) else { continue };
        let found: SegmentSet = damaged.runs_on(timeline).flat_map(|run| there.within(run)).collect();
        if !found.is_empty() {
            suspects.insert(timeline, found);
        }
    }
    suspects
}
