//! The catalog of a real repository: reads what the decisions need to know, and carries them through.

mod before;
mod contents;
mod heads;
mod index;
mod inventory;
mod log;
mod names;
mod near;
mod speed;
mod systems;
mod tail;
mod verified;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_repository::{ClusterRepository, LogEdge, LogSummary, WalHead};
use highwater_wal::{Lsn, SegmentName, TimelineId, Timestamp};

use crate::facts::{Joint, Known, LogJoint, Need};
use crate::plan::Unsettled;
use crate::retention::{Decision, Holdings, Rules, decide};
use crate::{Branch, Inventory, Plan, Request, Target, Unreachable, plan, windows};

pub use index::Made;
pub use log::{LogItem, LogProgress, LogQuery, LogReport, LogSink};
pub use names::NameBook;
pub use near::NearNames;
pub use speed::RestoreSpeed;
pub use systems::newest_system;

use heads::{Heads, LogName};
use verified::Verified;

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

/// Which moments can be reached.
#[derive(Debug)]
pub struct Windows {
    /// What counts as being there: without segments that are damaged.
    pub inventory: Inventory,
    /// For each timeline whose origin is known.
    pub branches: Vec<Branch>,
}

/// What a repository holds of one system identifier of a cluster, and what was read of it so far.
#[derive(Debug)]
pub struct Catalog {
    cluster: ClusterRepository,
    inventory: Inventory,
    known: Known,
    heads: Heads,
    /// Logs whose segments were listed although an index object speaks for them.
    listed: BTreeSet<LogName>,
    /// Logs that windows speak of and that are too many to list.
    unlisted_logs: usize,
    /// What verifications have found, once something has asked.
    verified: Option<Verified>,
}

impl Catalog {
    /// Lists the timelines, logs, segments and backups. Segments' contents are read when a question needs them.
    ///
    /// Where a log has an index object its segments are taken to be there, and are not listed; [`Catalog::plan`] lists those
    /// that it builds on.
    ///
    /// # Errors
    /// Those of the repository. A history or a manifest that is damaged is none: the inventory tells of it.
    pub async fn open(cluster: ClusterRepository) -> Result<Catalog, highwater_repository::Error> {
        let (inventory, indexed) = inventory::read(&cluster).await?;
        let heads = Heads::new(cluster.clone(), inventory.segment_size, indexed);
        let listed = BTreeSet::new();
        let known = Known::default();
        Ok(Catalog { cluster, inventory, known, heads, listed, unlisted_logs: 0, verified: None })
    }

    /// What is there.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Where it is.
    pub fn cluster(&self) -> &ClusterRepository {
        &self.cluster
    }

    /// The way to a moment, see [`plan()`]. What is damaged and not needed for it is told in the plan's notes. Every segment that it
    /// needs was seen in a listing of this catalog (R12), and what the newest verification has found damaged is not built on: of backups it is
    /// believed, segments are read to see whether they still are.
    pub async fn plan(&mut self, request: &Request) -> Result<Plan, PlanError> {
        let request = &self.settle_before(request).await?;
        let mut inventory = self.inventory.clone();
        let mut damage = None;
        loop {
            match self.settle(&inventory, |inventory, known| plan(inventory, request, known)).await {
                // It ends: each log is listed once.
                Ok(plan) if self.list_again(&plan, &mut inventory).await? => {}
                // It ends: that is asked once.
                Ok(_) if self.ask_verification(&mut inventory).await => {}
                // It ends: each segment is read once.
                Ok(plan) if let Some(error) = self.read_suspects(&plan).await? => {
                    self.take_out_damaged(&mut inventory).await?;
                    damage.get_or_insert(error);
                }
                Ok(mut plan) => {
                    plan.notes.extend(before::notes(&plan.request.target));
                    plan.notes.extend(self.verification_notes().iter().cloned());
                    return self.without_damaged(plan, damage);
                }
                // It ends: each log is listed once.
                Err(_) if self.list_gone(&mut inventory).await? => {}
                // It ends: each round takes a segment out.
                Err(error) if self.take_out_damaged(&mut inventory).await? => {
                    damage.get_or_insert(error);
                }
                // There is a way without that segment: it is the backup that keeps from it.
                Err(error @ PlanError::Unreachable(Unreachable::FoundDamaged { .. })) => return Err(error),
                Err(error) => return Err(damage.unwrap_or(error)),
            }
        }
    }

    /// How fast restores of this cluster were, where any is recorded: what an estimate can be made from.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn restore_speed(&self) -> Result<Option<RestoreSpeed>, highwater_repository::Error> {
        speed::read(&self.cluster).await
    }

    /// Which moments can be reached, see [`windows`]. A segment that is found damaged counts as missing, and is among
    /// [`Catalog::damaged_segments`] afterwards; so does one that the newest verification has found damaged and that still is, or is one of too
    /// many to be read again ([`Catalog::verification_notes`] tells of those). Every segment of a window was seen in a listing of this catalog, but for
    /// those of [`Catalog::unlisted_logs`].
    pub async fn windows(&mut self) -> Result<Windows, PlanError> {
        let mut inventory = self.inventory.clone();
        loop {
            match self.settle(&inventory, windows).await {
                // It ends: each log is listed once.
                Ok(branches) if self.list_windows(&branches, &mut inventory).await? => {}
                // It ends: that is asked once.
                Ok(_) if self.ask_verification(&mut inventory).await => {}
                // It ends: each of them is judged once.
                Ok(_) if self.take_out_suspects(&mut inventory).await? => {}
                Ok(branches) => return Ok(Windows { inventory, branches }),
                // It ends: each log is listed once.
                Err(_) if self.list_gone(&mut inventory).await? => {}
                // It ends: each round takes a segment out.
                Err(_) if self.take_out_damaged(&mut inventory).await? => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What may go at the moment `now`, see [`crate::retention::decide()`]. A segment that is found damaged counts as
    /// missing, as for [`Catalog::windows`].
    pub async fn retention(
        &mut self,
        holdings: &Holdings,
        rules: &Rules,
        now: Timestamp,
        retire: bool,
    ) -> Result<Decision, PlanError> {
        let mut inventory = self.inventory.clone();
        loop {
            let ask =
                |inventory: &Inventory, known: &Known| decide(inventory, holdings, rules, now, retire, known);
            match self.settle(&inventory, ask).await {
                // It ends: each log is listed once.
                Err(_) if self.list_gone(&mut inventory).await? => {}
                // It ends: each round takes a segment out.
                Err(_) if self.take_out_damaged(&mut inventory).await? => {}
                settled => return settled,
            }
        }
    }

    /// Takes the segments that were found damaged out of an inventory, but for the pieces of one that lie in front of the damage; `false`
    /// where there are none in it.
    async fn take_out_damaged(
        &mut self,
        inventory: &mut Inventory,
    ) -> Result<bool, highwater_repository::Error> {
        let mut found = false;
        for segment in self.heads.damaged().keys().copied().collect::<Vec<_>>() {
            if !inventory.has(segment) {
                continue;
            }
            match self.beginning_in_pieces(inventory, segment).await? {
                Some(end) if end == inventory.end_of(segment) => {}
                Some(end) => {
                    inventory.shorten(segment, end);
                    found = true;
                }
                None => {
                    inventory.remove_segment(segment);
                    found = true;
                }
            }
        }
        Ok(found)
    }

    /// Up to where a damaged segment can be read that is there in pieces only; `None` where nothing of it can.
    async fn beginning_in_pieces(
        &mut self,
        inventory: &Inventory,
        segment: SegmentName,
    ) -> Result<Option<Lsn>, highwater_repository::Error> {
        if !inventory.is_in_pieces(segment) {
            return Ok(None);
        }
        if let Some(head) = self.heads.shortened(segment) {
            return Ok(head.received);
        }
        match self.cluster.get_segment(segment, inventory.segment_size, Some(0)).await {
            Ok(object) => {
                // Where all pieces are sound, what they hold is not.
                let end = object.head.received.filter(|end| *end < inventory.end_of(segment));
                if end.is_some() {
                    self.known.forget(segment);
                    self.heads.shorten(segment, object.head);
                }
                Ok(end)
            }
            Err(error) if error.is_not_found() || error.is_damaged() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A plan that was made as if damaged segments were missing. It stands where they lie on other timelines, or behind a stop
    /// that does not depend on what they hold; "everything" and "the last of that name" do.
    fn without_damaged(&self, mut plan: Plan, damage: Option<PlanError>) -> Result<Plan, PlanError> {
        plan.notes.extend(self.heads.notes().iter().cloned());
        let Some(damage) = damage else { return Ok(plan) };
        let is_fixed = matches!(
            plan.request.target,
            Target::Immediate | Target::Lsn(_) | Target::Time(_) | Target::Before(_)
        );
        let is_beside = |segment: &SegmentName| plan.path.iter().all(|leg| leg.timeline != segment.timeline);
        if !is_fixed && !self.heads.damaged().keys().all(is_beside) {
            return Err(damage);
        }
        plan.notes.extend(
            self.heads
                .damaged()
                .values()
                .map(|reason| format!("a segment is damaged and left aside: {reason}")),
        );
        Ok(plan)
    }

    /// Segments that were found damaged so far, with what is wrong. Only those that an answer depended on were looked at.
    pub fn damaged_segments(&self) -> &BTreeMap<SegmentName, String> {
        self.heads.damaged()
    }

    /// Index objects that were passed over so far, and why: sentences. They cost time and no answer.
    pub fn index_notes(&self) -> &[String] {
        self.heads.notes()
    }

    /// Where the repository's WAL of the newest timeline ends: behind the last piece of a segment that is being received, or behind the
    /// last whole one.
    pub fn newest_end(&self) -> Option<(TimelineId, Lsn)> {
        let timeline = self.inventory.newest_timeline()?;
        Some((timeline, self.inventory.end_on(timeline)?))
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
        self.heads.of(segments).await
    }

    /// What all segments of a log hold, all in all: it tells whether any of them is worth a look. `None` where not every segment of
    /// the log is there.
    ///
    /// # Errors
    /// As for [`Catalog::heads`].
    pub async fn log(
        &mut self,
        timeline: TimelineId,
        log: u32,
    ) -> Result<Option<Arc<LogSummary>>, highwater_repository::Error> {
        if !self.inventory.has_whole_log(timeline, log) {
            return Ok(None);
        }
        match self.heads.logs(&BTreeSet::from([(timeline, log)])).await {
            // Only its index object has spoken of all of it, and that cannot be read.
            Err(error) if error.is_not_found() => {
                let mut inventory = self.inventory.clone();
                self.list_gone(&mut inventory).await?;
                return Ok(None);
            }
            read => read?,
        }
        Ok(self.heads.log((timeline, log)).cloned())
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
            Need::Facts(joints) => self.answer_facts(joints).await?,
            Need::Logs(joints) => self.answer_logs(joints).await?,
            Need::Records(joint) => match contents::decode(&self.cluster, inventory, joint).await {
                Ok(decoded) => self.known.add_records(joint, decoded),
                Err((segment, error)) => return Err(self.heads.note_damage(segment, error)),
            },
        }
        Ok(())
    }

    async fn answer_facts(&mut self, joints: Vec<Joint>) -> Result<(), highwater_repository::Error> {
        let segments = joints.iter().flat_map(|joint| [Some(joint.segment), joint.next]).flatten();
        let segments: Vec<SegmentName> = segments.collect::<BTreeSet<_>>().into_iter().collect();
        let heads = self.heads.of(&segments).await?;
        let heads: BTreeMap<SegmentName, Arc<WalHead>> = segments.into_iter().zip(heads).collect();
        for joint in joints {
            let next = joint.next.and_then(|next| heads.get(&next));
            if let Some(head) = heads.get(&joint.segment) {
                self.known.add_facts(joint, contents::facts_of(head, next.map(Arc::as_ref)));
            }
        }
        Ok(())
    }

    async fn answer_logs(&mut self, joints: Vec<LogJoint>) -> Result<(), highwater_repository::Error> {
        // Where the log behind is indexed, the beginning of its index object tells how it begins.
        let behind = joints.iter().filter_map(|joint| joint.next).map(|next| (next.timeline, next.log));
        let behind = behind.filter(|name| self.heads.is_indexed(*name));
        let names = joints.iter().map(|joint| (joint.timeline, joint.log)).chain(behind).collect();
        self.heads.logs(&names).await?;
        for joint in joints {
            let next = match joint.next {
                Some(next) => Some(self.beginning_of(next).await?),
                None => None,
            };
            if let Some(log) = self.heads.log((joint.timeline, joint.log)) {
                self.known.add_log(joint, contents::log_facts_of(log, next.as_ref()));
            }
        }
        Ok(())
    }

    /// How a segment begins: what of it belongs to a record of the segment before.
    async fn beginning_of(&mut self, segment: SegmentName) -> Result<LogEdge, highwater_repository::Error> {
        let log = self.heads.log((segment.timeline, segment.log));
        let begins = log.and_then(|log| log.begins.as_ref()).filter(|begins| begins.segment == segment);
        if let Some(begins) = begins {
            return Ok(begins.clone());
        }
        let heads = self.heads.of(&[segment]).await?;
        let summary = heads.first().and_then(|head| head.summary.as_ref());
        summary.map(|summary| LogEdge::of_beginning(segment, summary)).ok_or_else(|| {
            let key = self.cluster.section().wal(highwater_wal::WalFile::Segment(segment));
            highwater_repository::Error::damaged(key, "it was listed and has no summary")
        })
    }
}
