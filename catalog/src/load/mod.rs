//! The catalog of a real repository: reads what the decisions need to know, and carries them through.

mod contents;
mod inventory;
mod systems;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use highwater_repository::{ClusterRepository, WalHead};
use highwater_wal::{SegmentName, WalFile};

use crate::facts::{Known, Need};
use crate::plan::Unsettled;
use crate::{Branch, Inventory, Plan, Request, Unreachable, plan, windows};

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
}

impl Catalog {
    /// Lists the timelines, segments and backups. Segments' contents are read when a question needs them.
    ///
    /// # Errors
    /// Those of the repository; a history or a manifest that is damaged.
    pub async fn open(cluster: ClusterRepository) -> Result<Catalog, highwater_repository::Error> {
        let inventory = inventory::read(&cluster).await?;
        Ok(Catalog { cluster, inventory, known: Known::default(), heads: BTreeMap::new() })
    }

    /// What is there.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Where it is.
    pub fn cluster(&self) -> &ClusterRepository {
        &self.cluster
    }

    /// The way to a moment, see [`plan()`].
    pub async fn plan(&mut self, request: &Request) -> Result<Plan, PlanError> {
        self.settle(|inventory, known| plan(inventory, request, known)).await
    }

    /// Which moments can be reached, see [`windows`].
    pub async fn windows(&mut self) -> Result<Vec<Branch>, PlanError> {
        self.settle(windows).await
    }

    /// Asks again until the answer needs nothing more.
    async fn settle<T>(
        &mut self,
        ask: impl Fn(&Inventory, &Known) -> Result<T, Unsettled>,
    ) -> Result<T, PlanError> {
        // It ends: each round answers a need, no need comes twice, and there are as many as there are segments.
        loop {
            match ask(&self.inventory, &self.known) {
                Ok(answer) => return Ok(answer),
                Err(Unsettled::Unreachable(reason)) => return Err(reason.into()),
                Err(Unsettled::Need(need)) => self.answer(need).await?,
            }
        }
    }

    async fn answer(&mut self, need: Need) -> Result<(), highwater_repository::Error> {
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
            Need::Records(joint) => {
                let decoded = contents::decode(&self.cluster, &self.inventory, joint).await?;
                self.known.add_records(joint, decoded);
            }
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
            let head = cluster.wal_head(WalFile::Segment(segment)).await?;
            Ok::<_, highwater_repository::Error>((segment, Arc::new(head)))
        });
        let read: Vec<_> = reads.buffer_unordered(READS_AT_ONCE).try_collect().await?;
        self.heads.extend(read);
        Ok(())
    }

    fn vanished(&self, segment: SegmentName) -> highwater_repository::Error {
        let key = self.cluster.section().wal(WalFile::Segment(segment));
        highwater_repository::Error::damaged(key, "it was listed and has no summary")
    }
}
