//! What verifications have found, for plans that must not build on it (R12).

use std::collections::{BTreeMap, BTreeSet};

use highwater_repository::{Error, FoundDamage, JudgedBackup};
use highwater_wal::{SegmentName, WalFile};

use super::{Catalog, PlanError};
use crate::{Inventory, Plan};

/// What the newest verification has found.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// What is known against backups, by label.
    backups: BTreeMap<String, String>,
    /// Segments that were found damaged then, and were not read since.
    suspects: BTreeSet<SegmentName>,
    /// Sentences.
    pub notes: Vec<String>,
}

impl Catalog {
    /// Tells an inventory what the newest verification has found of backups; answers whether that is news. That it cannot be read is no
    /// reason to have no plan: it is told.
    pub(super) async fn ask_verification(&mut self, inventory: &mut Inventory) -> bool {
        if self.verified.is_none() {
            let read = self.read_verification().await;
            self.verified = Some(read);
        }
        let found = self.verified.iter().flat_map(|verified| verified.backups.clone()).collect();
        let is_news = inventory.found_damaged != found;
        inventory.found_damaged = found;
        is_news
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
        let section = self.cluster.section();
        let segment = |object: &String| {
            let segment: SegmentName = object.rsplit('/').next()?.parse().ok()?;
            (section.wal(WalFile::Segment(segment)).as_str() == object).then_some(segment)
        };
        Verified {
            backups: against(&last.damage, &self.inventory),
            suspects: last.objects.iter().filter_map(segment).collect(),
            notes: unreadable.into_iter().collect(),
        }
    }

    /// Reads the segments of a plan that were found damaged once. Those that still are, are noted; the first is the answer.
    ///
    /// # Errors
    /// Those of the repository, but for damage.
    pub(super) async fn read_suspects(&mut self, plan: &Plan) -> Result<Option<PlanError>, Error> {
        let size = self.inventory.segment_size;
        let is_needed = |segment: &SegmentName| {
            plan.wal.iter().any(|run| {
                let numbers = run.first.number(size)..=run.last.number(size);
                run.first.timeline == segment.timeline && numbers.contains(&segment.number(size))
            })
        };
        let Some(verified) = &mut self.verified else { return Ok(None) };
        let suspects: Vec<SegmentName> =
            verified.suspects.extract_if(.., |segment| is_needed(segment)).collect();
        let mut damage = None;
        for segment in suspects {
            match self.cluster.get_segment(segment, size).await {
                Err(error @ Error::Damaged { .. }) => {
                    let error = self.heads.note_damage(segment, error);
                    damage.get_or_insert(error.into());
                }
                // The listing has shown that it is there, or is just about to be proven wrong.
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(damage)
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
