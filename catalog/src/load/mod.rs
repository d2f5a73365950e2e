//! The catalog of a real repository: reads what the decisions need to know, and carries them through.

mod contents;
mod inventory;
mod names;
mod systems;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use highwater_repository::{ClusterRepository, WalHead};
use highwater_wal::{SegmentName, WalFile};

use crate::facts::{Known, Need};
use crate::plan::Unsettled;
use crate::{Branch, Inventory, Plan, Request, Target, Unreachable, plan, windows};

pub use names::NameBook;
pub use systems::newest_system;

/// How many summaries are read side by side.
const READS_AT_ONCE: usize = 16;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The target cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The repository could not be read, or something in it is damaged.
    #[error(transparent)]
    Repository(#[from] highwater_repository::Error),
}

/// What a repository holds of one system identifier of a cluster, and what was read of it so far.
#[derive(Debug)]
pub struct Catalog {
    cluster: ClusterRepository,
    inventory: Inventory,
    known: Known,
    heads: BTreeMap<SegmentName, Arc<WalHead>>,
    damaged: BTreeMap<SegmentName, String>,
}

impl Catalog {
    /// Lists the timelines, segments and backups. Segments' contents are read when a question needs them.
    ///
    /// # Errors
    /// Those of the repository. A history or a manifest that is damaged is none: the inventory tells of it.
    pub async fn open(cluster: ClusterRepository) -> Result<Catalog, highwater_repository::Error> {
        let inventory = inventory::read(&cluster).await?;
        Ok(Catalog {
            cluster,
            inventory,
            known: Known::default(),
            heads: BTreeMap::new(),
            damaged: BTreeMap::new(),
        })
    }

    /// What is there.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Where it is.
    pub fn cluster(&self) -> &ClusterRepository {
        &self.cluster
    }

    /// The way to a moment, see [`plan()`]. What is damaged and not needed for it is told in the plan's notes.
    pub async fn plan(&mut self, request: &Request) -> Result<Plan, PlanError> {
        let mut inventory = self.inventory.clone();
        let mut damage = None;
        loop {
            match self.settle(&inventory, |inventory, known| plan(inventory, request, known)).await {
                Ok(plan) => return self.without_damaged(plan, damage),
                // It ends: each round takes a segment out.
                Err(error) if self.take_out_damaged(&mut inventory) => {
                    damage.get_or_insert(error);
                }
                Err(error) => return Err(damage.unwrap_or(error)),
            }
        }
    }

    /// Which moments can be reached, see [`windows`]. A segment that is found damaged counts as missing, and is among
    /// [`Catalog::damaged_segments`] afterwards.
    pub async fn windows(&mut self) -> Result<Vec<Branch>, PlanError> {
        let mut inventory = self.inventory.clone();
        loop {
            match self.settle(&inventory, windows).await {
                // It ends: each round takes a segment out.
                Err(_) if self.take_out_damaged(&mut inventory) => {}
                settled => return settled,
            }
        }
    }

    /// Takes the segments that were found damaged out of an inventory; `false` where there are none in it.
    fn take_out_damaged(&self, inventory: &mut Inventory) -> bool {
        let mut found = false;
        for segment in self.damaged.keys() {
            found |= inventory.has(*segment);
            inventory.remove_segment(*segment);
        }
        found
    }

    /// A plan that was made as if damaged segments were missing. It stands where they lie on other timelines, or behind a stop
    /// that does not depend on what they hold; "everything" and "the last of that name" do.
    fn without_damaged(&self, mut plan: Plan, damage: Option<PlanError>) -> Result<Plan, PlanError> {
        let Some(damage) = damage else { return Ok(plan) };
        let is_fixed = matches!(plan.request.target, Target::Immediate | Target::Lsn(_) | Target::Time(_));
        let is_beside = |segment: &SegmentName| plan.path.iter().all(|leg| leg.timeline != segment.timeline);
        if !is_fixed && !self.damaged.keys().all(is_beside) {
            return Err(damage);
        }
        plan.notes.extend(
            self.damaged.values().map(|reason| format!("a segment is damaged and left aside: {reason}")),
        );
        Ok(plan)
    }

    /// Segments that were found damaged so far, with what is wrong. Only those that an answer depended on were looked at.
    pub fn damaged_segments(&self) -> &BTreeMap<SegmentName, String> {
        &self.damaged
    }

    /// What stands in front of segments' objects: the summary of each, and who archived it when. In the order of `segments`.
    ///
    /// Ask for what is needed next, at most for a few thousand at once: what was read is kept only within bounds.
    ///
    /// # Errors
    /// Those of the repository. A damaged head is noted in [`Catalog::damaged_segments`], too.
    pub async fn heads(
        &mut self,
        segments: &[SegmentName],
    ) -> Result<Vec<Arc<WalHead>>, highwater_repository::Error> {
        self.read_heads(segments.to_vec()).await?;
        let head = |segment: &SegmentName| self.heads.get(segment).cloned();
        segments.iter().map(|segment| head(segment).ok_or_else(|| self.vanished(*segment))).collect()
    }

    /// Asks again until the answer needs nothing more.
    async fn settle<T>(
        &mut self,
        inventory: &Inventory,
        ask: impl Fn(&Inventory, &Known) -> Result<T, Unsettled>,
    ) -> Result<T, PlanError> {
        // It ends: each round answers a need, no need comes twice, and there are as many as there are segments.
        loop {
            match ask(inventory, &self.known) {
                Ok(answer) => return Ok(answer),
                Err(Unsettled::Unreachable(reason)) => return Err(reason.into()),
                Err(Unsettled::Need(need)) => self.answer(inventory, need).await?,
            }
        }
    }

    async fn answer(&mut self, inventory: &Inventory, need: Need) -> Result<(), highwater_repository::Error> {
        match need {
            Need::Facts(joints) => {
                let segments = joints.iter().flat_map(|joint| [Some(joint.segment), joint.next]).flatten();
                self.read_heads(segments.collect()).await?;
                for joint in joints {
                    let next = joint.next.and_then(|next| self.heads.get(&next));
                    let head = self.heads.get(&joint.segment).ok_or_else(|| self.vanished(joint.segment))?;
                    let facts = contents::facts_of(head, next.map(Arc::as_ref));
                    self.known.add_facts(joint, facts);
                }
            }
            Need::Records(joint) => match contents::decode(&self.cluster, inventory, joint).await {
                Ok(decoded) => self.known.add_records(joint, decoded),
                Err((segment, error)) => return Err(self.note_damage(segment, error)),
            },
        }
        Ok(())
    }

    async fn read_heads(
        &mut self,
        mut segments: Vec<SegmentName>,
    ) -> Result<(), highwater_repository::Error> {
        segments.retain(|segment| !self.heads.contains_key(segment));
        segments.sort_unstable();
        segments.dedup();
        let cluster = &self.cluster;
        let reads = stream::iter(segments).map(|segment| async move {
            let head = cluster.wal_head(WalFile::Segment(segment)).await.map_err(|error| (segment, error))?;
            Ok::<_, (SegmentName, highwater_repository::Error)>((segment, Arc::new(head)))
        });
        let read: Result<Vec<_>, _> = reads.buffer_unordered(READS_AT_ONCE).try_collect().await;
        match read {
            Ok(read) => {
                self.heads.extend(read);
                Ok(())
            }
            Err((segment, error)) => Err(self.note_damage(segment, error)),
        }
    }

    fn note_damage(
        &mut self,
        segment: SegmentName,
        error: highwater_repository::Error,
    ) -> highwater_repository::Error {
        if let highwater_repository::Error::Damaged { key, reason } = &error {
            self.damaged.insert(segment, format!("{key}: {reason}"));
        }
        error
    }

    fn vanished(&self, segment: SegmentName) -> highwater_repository::Error {
        let key = self.cluster.section().wal(WalFile::Segment(segment));
        highwater_repository::Error::damaged(key, "it was listed and has no summary")
    }
}
