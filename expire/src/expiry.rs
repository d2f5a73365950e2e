//! One run.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use highwater_catalog::Catalog;
use highwater_catalog::retention::{Decision, Fate, State, Verdict};
use highwater_repository::{
    Backups, Claim, ClusterRepository, Event, Label, LastVerification, ListedBackup, Outcome, StoredPack,
};
use highwater_wal::{SegmentName, Timestamp};

use crate::Result;
use crate::empty_strips::EmptyStrips;
use crate::options::Options;
use crate::packs::Packs;
use crate::progress::{Phase, Progress};
use crate::report::{Gone, Report};
use crate::survey::Survey;
use crate::wal::Removal;

/// What events of retention are called.
pub(crate) const ACTION: &str = "expire";
/// Packs that are removed at the same time.
const AT_A_TIME: usize = 16;

/// One system identifier of a cluster, looked through.
#[derive(Debug)]
pub struct Expiry {
    catalog: Catalog,
    packs: Packs,
    survey: Survey,
    newest: Option<Timestamp>,
    verified: LastVerification,
}

impl Expiry {
    /// Looks at everything that there is of a cluster: packs first, so that each of them belongs to a backup that is seen.
    ///
    /// # Errors
    /// Those of the repository. Where it is encrypted, the identity is needed: manifests are read.
    pub async fn open(cluster: ClusterRepository, progress: &dyn Progress) -> Result<Expiry> {
        progress.phase(&Phase::Listing);
        let backups = cluster.backups();
        let mut packs = Packs::list(&backups).await?;
        let mut catalog = Catalog::open(cluster).await?;
        let mut survey = Survey::make(&backups, catalog.inventory(), &mut packs, progress).await?;
        let verified = catalog.cluster().last_verification().await?;
        survey.note_damage(&verified.damage);
        let newest = newest_moment(&mut catalog, &survey).await?;
        Ok(Expiry { catalog, packs, survey, newest, verified })
    }

    /// The newest moment that the cluster's servers tell of, in its backups and in the last segment of each timeline.
    pub fn newest_moment(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Tells what goes, and with [`Options::apply`] removes it. A run that was applied, or failed at it, is noted in the events.
    ///
    /// # Errors
    /// [`crate::Error`]. What was done until then is whole: the next run goes on.
    pub async fn run(mut self, options: &Options, progress: &dyn Progress) -> Result<Report> {
        options.check()?;
        progress.phase(&Phase::Deciding);
        let now = options.clock.now();
        let holdings = &self.survey.holdings;
        let decision = self.catalog.retention(holdings, &options.rules, now, options.retire).await?;
        let cluster = self.catalog.cluster();
        let mut strips = EmptyStrips::of_last_run(cluster).await?;
        if !options.apply {
            return self.tell(options, &decision, &mut strips, progress).await;
        }
        let event = |outcome| {
            Event::new(ACTION, Some(cluster.name()), outcome)
                .with("system_id", cluster.system_id().to_string())
        };
        // Whoever misses something meanwhile, or after a run that was cut off, finds out why.
        cluster.repository().note(&event(Outcome::Begun)).await?;
        let outcome = self.apply(options, &decision, &mut strips, progress).await;
        let event = match &outcome {
            Ok(report) => strips.note(noted(event(Outcome::Done), report)),
            Err(error) => event(Outcome::Failed).with("error", error.to_string()),
        };
        match (cluster.repository().note(&event).await, outcome) {
            (Ok(()), outcome) => outcome,
            (Err(error), Ok(mut report)) => {
                report.notes.push(format!("what was done could not be noted: {error}"));
                Ok(report)
            }
            (Err(_), Err(error)) => Err(error),
        }
    }

    fn report(&self, options: &Options, decision: &Decision, removed: Gone, notes: Vec<String>) -> Report {
        let cluster = self.catalog.cluster();
        let mut all = self.catalog.inventory().troubles();
        all.extend(
            self.catalog.damaged_segments().values().map(|reason| format!("a segment is damaged: {reason}")),
        );
        all.extend(self.damage_notes());
        all.extend(blocked(decision));
        all.extend(notes);
        Report {
            cluster: cluster.name().to_string(),
            system_id: cluster.system_id(),
            is_applied: options.apply,
            now: options.clock.now(),
            promised_from: decision.promised_from,
            verdicts: decision.verdicts.clone(),
            removed,
            notes: all,
        }
    }

    /// What to know of what verifications have found.
    fn damage_notes(&self) -> Vec<String> {
        let damaged = self.survey.holdings.complete.iter();
        let damaged: Vec<&str> = damaged
            .filter(|complete| complete.found_damaged.is_some())
            .map(|complete| complete.backup.label.as_str())
            .collect();
        let mut notes = Vec::new();
        if !damaged.is_empty() {
            notes.push(format!(
                "a verification has found damage in {}: such a backup counts for no rule, and stays as long as it would if it were whole; hint: bring back what is named, then `highwater verify --deep` takes this back; else take `highwater backup --full`",
                damaged.join(", ")
            ));
        }
        if !self.verified.unreadable.is_empty() {
            notes.push(format!(
                "{} cannot be read: it may be the newest verification, and what that found is not known here; hint: `highwater verify` finds it again",
                self.verified.unreadable[0]
            ));
        }
        notes
    }

    async fn tell(
        &self,
        options: &Options,
        decision: &Decision,
        strips: &mut EmptyStrips,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let mut notes = Vec::new();
        let going: BTreeSet<String> = removals(decision).map(|verdict| verdict.label.clone()).collect();
        let wal = Removal { catalog: &self.catalog, decision, options };
        let mut removed = wal.run(strips, progress, &mut notes).await?;
        count_packs(&mut removed, &self.free_packs(decision, &going));
        self.count_folders(&mut removed, &going);
        Ok(self.report(options, decision, removed, notes))
    }

    async fn apply(
        &self,
        options: &Options,
        decision: &Decision,
        strips: &mut EmptyStrips,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let backups = self.catalog.cluster().backups();
        let mut notes = Vec::new();
        progress.phase(&Phase::Marking);
        self.mark(&backups, options, decision).await?;

        let mut going = BTreeSet::new();
        let mut is_stale = false;
        for verdict in removals(decision) {
            progress.phase(&Phase::Removing(verdict.label.clone()));
            match self.remove_backup(&backups, verdict).await? {
                Claim::Granted => {
                    going.insert(verdict.label.clone());
                }
                Claim::Withdrawn => {
                    notes.push(format!(
                        "{} stays: it was held, or its mark was taken back, just now",
                        verdict.label
                    ));
                    is_stale = true;
                }
            }
        }
        let free = self.free_packs(decision, &going);
        remove_packs(&backups, &free, progress).await?;
        for label in &going {
            if let Some(folder) = self.survey.folders.get(label) {
                backups.remove_rest(folder).await?;
            }
        }
        let mut removed = Gone::default();
        if is_stale {
            // What that backup needs was not counted in.
            notes.push("WAL is left to the next run".to_owned());
        } else {
            let wal = Removal { catalog: &self.catalog, decision, options };
            removed = wal.run(strips, progress, &mut notes).await?;
        }
        count_packs(&mut removed, &free);
        self.count_folders(&mut removed, &going);
        Ok(self.report(options, decision, removed, notes))
    }

    /// Takes marks back, and marks. Taking back comes first: should another run be removing what this one keeps again, this one has
    /// decided on what is not so, and ends.
    async fn mark(&self, backups: &Backups, options: &Options, decision: &Decision) -> Result<()> {
        for verdict in decision.of(|fate| *fate == Fate::KeepAgain) {
            backups.unmark(&label(verdict)?).await?;
        }
        for verdict in decision.of(|fate| *fate == Fate::Mark) {
            backups.mark_expired(&label(verdict)?, options.clock.to_note(), &verdict.reasons()).await?;
        }
        Ok(())
    }

    /// Removes the manifest of a backup that is to go, so that the backup does not exist any more.
    async fn remove_backup(&self, backups: &Backups, verdict: &Verdict) -> Result<Claim> {
        let label = label(verdict)?;
        if verdict.state == State::Remains {
            // It was claimed before, or there is nothing left that could be held.
            backups.remove_manifest(&label).await?;
            return Ok(Claim::Granted);
        }
        let listed = backups.list_one(&label).await?;
        if verdict.state == State::Incomplete && listed.is_some_and(|listed| listed.is_complete()) {
            // It was given up, and has come to its end all the same: the next run sees it as what it is.
            return Ok(Claim::Withdrawn);
        }
        if backups.claim_removal(&label).await? == Claim::Withdrawn {
            return Ok(Claim::Withdrawn);
        }
        backups.remove_manifest(&label).await?;
        Ok(Claim::Granted)
    }

    /// The packs that go with these backups.
    fn free_packs(&self, decision: &Decision, going: &BTreeSet<String>) -> Vec<StoredPack> {
        let spared = |state| removals(decision).any(|v| v.state == state && !going.contains(&v.label));
        // A damaged manifest that stays may name any pack.
        if decision.packs_kept_for.is_some() || spared(State::Damaged) {
            return Vec::new();
        }
        let with_unnamed = decision.unnamed_packs_kept_for.is_none() && !spared(State::Incomplete);
        self.packs.free(|label| going.contains(label), with_unnamed)
    }

    fn count_folders(&self, removed: &mut Gone, going: &BTreeSet<String>) {
        let folders = going.iter().filter_map(|label| self.survey.folders.get(label));
        removed.other_bytes = folders.map(ListedBackup::stored_bytes).sum();
    }
}

fn removals(decision: &Decision) -> impl Iterator<Item = &Verdict> {
    decision.of(|fate| *fate == Fate::Remove)
}

fn label(verdict: &Verdict) -> Result<Label> {
    Ok(verdict.label.parse()?)
}

fn count_packs(removed: &mut Gone, free: &[StoredPack]) {
    removed.packs = free.len() as u64;
    removed.pack_bytes = free.iter().map(|pack| pack.stored_bytes).sum();
}

async fn remove_packs(backups: &Backups, free: &[StoredPack], progress: &dyn Progress) -> Result<()> {
    let total = free.len() as u64;
    let removals = stream::iter(free).map(|pack| backups.remove_pack(pack.id)).buffered(AT_A_TIME);
    let mut removals = std::pin::pin!(removals);
    let mut done = 0;
    while removals.try_next().await?.is_some() {
        done += 1;
        progress.phase(&Phase::Packs(done, total));
    }
    Ok(())
}

/// Why some packs stay that could go.
fn blocked(decision: &Decision) -> Option<String> {
    if let Some(label) = &decision.packs_kept_for {
        return Some(format!(
            "no pack is removed while the manifest of {label} is damaged, since it may name any of them"
        ));
    }
    let label = decision.unnamed_packs_kept_for.as_ref()?;
    Some(format!("packs that no manifest names stay while {label} is being made, since they may be its own"))
}

/// The newest moment that is told of, by the servers' clocks.
async fn newest_moment(catalog: &mut Catalog, survey: &Survey) -> Result<Option<Timestamp>> {
    let inventory = catalog.inventory();
    let size = inventory.segment_size;
    let last = |timeline| {
        let number = inventory.segments_on(timeline)?.last()?;
        Some(SegmentName::from_number(timeline, number, size))
    };
    let last: Vec<SegmentName> = inventory.timelines().into_iter().filter_map(last).collect();
    let mut newest = survey.holdings.complete.iter().map(|complete| complete.backup.stop_time).max();
    for segment in last {
        match catalog.cluster().segment_head(segment, Some(0)).await {
            Ok(head) => {
                let held = head.summary.as_ref().and_then(|summary| summary.max_time);
                newest = newest.max(held).max(head.archived.written);
            }
            // It tells nothing then.
            Err(error) if error.is_damaged() || error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(newest)
}

/// What the audit trail says of a run.
fn noted(event: Event, report: &Report) -> Event {
    let labels = |wanted: fn(&Fate) -> bool| -> Vec<String> {
        let verdicts = report.verdicts.iter().filter(|verdict| wanted(&verdict.fate));
        verdicts.map(|verdict| verdict.label.clone()).collect()
    };
    event
        .with("kept", labels(|fate| matches!(fate, Fate::Keep | Fate::KeepAgain)).len())
        .with("marked", labels(|fate| *fate == Fate::Mark))
        .with("unmarked", labels(|fate| *fate == Fate::KeepAgain))
        .with("removed", labels(|fate| *fate == Fate::Remove))
        .with("packs", report.removed.packs)
        .with("wal_files", report.removed.wal_files)
        .with("bytes", report.removed.bytes())
}
