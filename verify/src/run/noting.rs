//! What a verification leaves behind in its event: how it ended, what is proven, how far it is.

use std::collections::BTreeSet;

use highwater_repository::{
    DamagedWal, Event, FoundDamage, JudgedBackup, Label, Outcome, PackId, label_of_backup,
};
use highwater_wal::{SegmentName, Timestamp, WalFile};

use super::Run;
use crate::backups::Whole;
use crate::error::Result;
use crate::finding::{Finding, Weight};
use crate::ledger::{self, Looked, This};
use crate::options::Options;
use crate::record::{ACTION, Proven, Record, runs_of};
use crate::report::Report;

impl Run<'_> {
    /// What was looked at: in one word, and in words.
    pub(super) fn scope(&self) -> (&'static str, String) {
        let since =
            self.base.as_ref().and_then(|base| base.since).map(|since| since.to_string()).unwrap_or_default();
        match self.options {
            Options { backup: Some(label), .. } => {
                ("part", format!("backup {label} and the WAL that it needs"))
            }
            Options { timeline: Some(timeline), .. } => ("part", format!("the WAL of timeline {timeline}")),
            Options { sample: Some(percent), .. } => {
                ("sample", format!("a random {percent} % of packs and segments, and all that is small"))
            }
            Options { since_last: true, .. } => (
                "new",
                format!("what is new since the last verification; everything was last looked at on {since}"),
            ),
            Options { resume: true, .. } => {
                ("everything", "everything, going on with what was begun".to_owned())
            }
            _ => ("everything", "everything".to_owned()),
        }
    }

    /// What is known to be damaged now: found by this verification, or by an earlier one and not looked at again.
    pub(super) fn all_damage(&self) -> (FoundDamage, DamagedWal) {
        let last = self.past.last.as_ref().map(|(_, record)| record.clone()).unwrap_or_default();
        let is_read =
            |timeline, number: u64| self.proven_wal.get(&timeline).is_some_and(|read| read.contains(number));
        let found = self.damaged_segments.keys();
        let wal = ledger::settle_wal(&last.damaged_wal, found, &self.there.inventory, is_read);
        (self.known_damage(&last.known), wal)
    }

    /// Tells what only earlier verifications have found: nobody has mended it, as far as anybody knows.
    pub(super) fn remember(&mut self, (backups, wal): &(FoundDamage, DamagedWal)) {
        if self.options.is_narrow() {
            return;
        }
        let mut remembered = Vec::new();
        for (id, damage) in &backups.backups {
            let label = label_of_backup(id);
            if !self.findings.blamed().contains_key(label) {
                let what = format!(
                    "{}; {}",
                    damage.what,
                    not_read_since(&format!("the verification of {}", damage.found_at))
                );
                remembered.push(Finding::damage(&damage.object, what).needed_by([label.to_owned()]));
            }
        }
        let (inventory, section) = (&self.there.inventory, self.cluster.section());
        for timeline in inventory.timelines() {
            for run in wal.runs_on(timeline) {
                let there =
                    inventory.segments_on(timeline).into_iter().flat_map(|set| set.within(run.clone()));
                let names = there
                    .map(|number| SegmentName::from_number(timeline, number, inventory.segment_size))
                    .filter(|name| !self.damaged_segments.contains_key(name));
                let names: Vec<SegmentName> = names.collect();
                let (Some(first), Some(last)) = (names.first(), names.last()) else { continue };
                let which =
                    if first == last { String::new() } else { format!("it and others up to {last} were ") };
                let what = format!("{which}{}", not_read_since("an earlier verification"));
                remembered.push(Finding::damage(section.wal(WalFile::Segment(*first)), what));
            }
        }
        self.findings.extend(remembered);
    }

    pub(super) fn record(&self, report: &Report, scope: &str, known: (FoundDamage, DamagedWal)) -> Record {
        let last = self.past.last.as_ref().map(|(_, record)| record.clone()).unwrap_or_default();
        let is_whole = report.is_well() && !self.options.is_narrow() && self.options.sample.is_none();
        let proven = is_whole.then(|| self.proven_now(None));
        let mut record = Record {
            system_id: report.system_id.clone(),
            deep: report.deep,
            scope: scope.to_owned(),
            sample: self.options.sample,
            began: Some(report.began),
            seconds: report.seconds,
            damage: report.damage(),
            notes: report.notes(),
            looked: report.looked,
            known: known.0,
            damaged_wal: known.1,
            // Whatever was read is also there.
            listed: proven.clone().or(last.listed),
            read: proven.filter(|_| self.options.deep).or(last.read),
            seen: Some(self.seen.clone()),
            expiring: self.past.is_expiring(),
            ..Record::default()
        };
        let damaged = report.findings.iter().filter(|finding| finding.weight == Weight::Damage);
        record.name_damaged(damaged.map(|finding| &finding.object));
        record
    }

    /// What is known against backups now.
    fn known_damage(&self, last: &FoundDamage) -> FoundDamage {
        let this = This {
            began: self.began,
            deep: self.options.deep,
            since: self.base.as_ref().map(|base| base.since.unwrap_or(Timestamp(i64::MIN))),
        };
        let is_whole = |label: &Label| {
            let is_wanted = self.options.backup.as_ref().is_none_or(|wanted| wanted == label);
            is_wanted && self.options.timeline.is_none() && self.options.sample.is_none()
        };
        let is_new = |backup: &Whole| {
            self.options.since_last
                && self.base.as_ref().is_some_and(|base| !base.backups.contains(&backup.id))
        };
        let looked = self.whole.iter().map(|backup| Looked {
            backup: JudgedBackup {
                id: backup.id.clone(),
                label: backup.label.to_string(),
                parent: backup.facts.parent.clone(),
            },
            is_whole: backup.is_read && is_whole(&backup.label),
            is_new: is_new(backup),
        });
        let looked: Vec<Looked> = looked.collect();
        let is_there = |label: &str| {
            let found = self.there.backups.iter().find(|(known, _)| known.as_str() == label);
            found.is_some_and(|(_, objects)| objects.manifest)
        };
        ledger::settle(this, last, self.findings.blamed(), &looked, is_there)
    }

    /// What is proven now; up to a pack where more are still to come.
    fn proven_now(&self, until: Option<PackId>) -> Proven {
        let base = self.base.clone().unwrap_or_default();
        let ids = self.whole.iter().filter(|backup| backup.is_read || base.backups.contains(&backup.id));
        let ids: BTreeSet<String> = ids.map(|backup| backup.id.clone()).collect();
        let mut proven = Proven { since: base.since.or(Some(self.began)), ..Proven::default() };
        match until {
            None => proven.backups = ids,
            Some(until) => {
                proven.backups = base.backups.clone();
                // What an earlier try had proven in later packs is forgotten: one position is remembered.
                proven.begun_backups = ids;
                proven.packs_until = Some(until.to_string());
            }
        }
        let inventory = &self.there.inventory;
        for timeline in inventory.timelines() {
            let mut set = self.proven_wal.get(&timeline).cloned().unwrap_or_default();
            let runs = base.wal.get(&timeline.get()).into_iter().flatten();
            for number in runs.flat_map(|(first, last)| *first..=*last) {
                if inventory.segments_on(timeline).is_some_and(|there| there.contains(number)) {
                    set.insert(number);
                }
            }
            if !set.is_empty() {
                proven.wal.insert(timeline.get(), runs_of(&set));
            }
        }
        proven
    }

    /// Notes how far it is, now and then, so that it can go on from there.
    pub(crate) async fn checkpoint(&mut self) -> Result<()> {
        let elapsed = self.clock.elapsed();
        let is_simple = self.options.sample.is_none() && !self.options.is_narrow();
        if elapsed < self.next_checkpoint || !is_simple || !self.options.deep {
            return Ok(());
        }
        // Each time a tenth longer: some thirty on the first day.
        self.checkpoint_gap = self.checkpoint_gap * 11 / 10;
        self.next_checkpoint = elapsed + self.checkpoint_gap;
        let is_well =
            self.troubles.is_empty() && self.bad_pages.is_empty() && self.damaged_segments.is_empty();
        if !is_well {
            return Ok(());
        }
        self.see();
        let last = self.past.last.as_ref().map(|(_, record)| record.clone()).unwrap_or_default();
        let record = Record {
            system_id: self.cluster.system_id().to_string(),
            deep: true,
            scope: "everything".to_owned(),
            began: Some(self.began),
            seconds: elapsed.as_secs_f64(),
            looked: self.looked,
            // It has found nothing yet, and takes nothing back before its end.
            known: last.known,
            damaged_wal: last.damaged_wal,
            listed: last.listed,
            read: Some(self.proven_now(self.packs_until)),
            seen: Some(self.seen.clone()),
            expiring: self.past.is_expiring(),
            ..Record::default()
        };
        self.note(Outcome::Begun, &record).await
    }

    pub(super) async fn note(&self, outcome: Outcome, record: &Record) -> Result<()> {
        let mut event = Event::new(ACTION, Some(self.cluster.name()), outcome);
        event.details = record.to_details();
        Ok(self.cluster.repository().note(&event).await?)
    }
}

/// That nobody has looked at something again that a verification found damaged.
fn not_read_since(which: &str) -> String {
    format!("found damaged by {which}, and not read since (`highwater verify --deep` reads it)")
}
