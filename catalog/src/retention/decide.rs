//! The decision.

use std::collections::BTreeMap;

use highwater_wal::Timestamp;

use super::holdings::{Complete, Damaged, Holdings, Incomplete};
use super::needed::NeededWal;
use super::promise::{on_paths, promised_from};
use super::rules::{Period, Rules, after, before};
use super::verdict::{Fate, Reason, State, Verdict};
use crate::facts::Known;
use crate::plan::{Unsettled, run_end};
use crate::{Backup, Inventory};

/// What stays and what goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// From when on every moment that can be reached stays so; `None` where there is no good backup, or nothing is to stay.
    pub promised_from: Option<Timestamp>,
    /// What comes of each backup: complete ones in the order of their ends, then others.
    pub verdicts: Vec<Verdict>,
    /// Which WAL stays.
    pub wal: NeededWal,
    /// WAL of this moment or a later one stays, needed or not.
    pub wal_untouched_from: Timestamp,
    /// A backup whose damaged manifest may name any pack, so that no pack can go.
    pub packs_kept_for: Option<String>,
    /// A backup that is being made, whose packs no manifest names yet, so that only packs go of which it is known whose they were.
    pub unnamed_packs_kept_for: Option<String>,
}

impl Decision {
    /// The verdicts of one fate.
    pub fn of(&self, wanted: impl Fn(&Fate) -> bool) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(move |verdict| wanted(&verdict.fate))
    }
}

/// Decides what may go at the moment `now`.
///
/// `inventory` tells of timelines and WAL; its own backups are not looked at. With `retire` nothing goes on: the cluster has
/// another system identifier now, and of this one only what lies in the window, is held or is young stays.
///
/// # Errors
/// [`Unsettled::Need`] where something has to be read first.
pub fn decide(
    inventory: &Inventory,
    holdings: &Holdings,
    rules: &Rules,
    now: Timestamp,
    retire: bool,
    known: &Known,
) -> Result<Decision, Unsettled> {
    let reader = Reader { inventory, holdings, rules, now, retire };
    let good = reader.good();
    let from = reader.promised_from(&good, now);
    let mut kept = reader.kept_by_rules(&good, from, known)?;
    // What is known against a backup never takes anything away: what would stay without that knowledge stays.
    let hopeful = reader.hopeful();
    if hopeful.len() > good.len() {
        let if_whole = reader.kept_by_rules(&hopeful, reader.promised_from(&hopeful, now), known)?;
        for (label, reasons) in if_whole {
            let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            let reason = Reason::IfWhole { reason: words.join(", ") };
            kept.entry(label).or_insert_with(|| vec![reason]);
        }
    }
    let spared_from = [from, reader.promised_from(&hopeful, now)].into_iter().flatten().min();
    let verdicts = reader.verdicts(&good, spared_from, &kept);
    let is_staying =
        |label: &str| verdicts.iter().any(|verdict| verdict.label == label && verdict.fate != Fate::Remove);
    let stays = |fate: &Verdict| fate.fate != Fate::Remove;
    let is_going = |label: &str| {
        let is_marked = |fate: &Fate| matches!(fate, Fate::Mark | Fate::Wait { .. });
        verdicts.iter().any(|verdict| verdict.label == label && is_marked(&verdict.fate))
    };
    let (wal, wal_from) = reader.wal(&good, &hopeful, from, is_staying, is_going, known)?;
    let of = |state| verdicts.iter().find(|verdict| verdict.state == state && stays(verdict));
    Ok(Decision {
        promised_from: from,
        wal,
        wal_untouched_from: wal_from.min(reader.untouched_from()),
        packs_kept_for: of(State::Damaged).map(|verdict| verdict.label.clone()),
        unnamed_packs_kept_for: of(State::Incomplete).map(|verdict| verdict.label.clone()),
        verdicts,
    })
}

struct Reader<'a> {
    inventory: &'a Inventory,
    holdings: &'a Holdings,
    rules: &'a Rules,
    now: Timestamp,
    retire: bool,
}

type Kept = BTreeMap<String, Vec<Reason>>;

impl Reader<'_> {
    /// Complete backups that can be restored, the newest last: all their packs and all the WAL that makes them consistent are
    /// there, and no verification has found them damaged. Those that are going are none.
    fn good(&self) -> Vec<Backup> {
        self.usable(|complete| complete.found_damaged.is_none())
    }

    /// The same with those that a verification has found damaged.
    fn hopeful(&self) -> Vec<Backup> {
        self.usable(|_| true)
    }

    fn usable(&self, wanted: impl Fn(&Complete) -> bool) -> Vec<Backup> {
        let complete = self.holdings.complete.iter().filter(|complete| wanted(complete));
        let sound = complete
            .filter(|complete| complete.defect.is_none() && self.wal_defect(&complete.backup).is_none());
        let mut good: Vec<Backup> = sound.map(|complete| complete.backup.clone()).collect();
        good.sort_by(|one, other| {
            (one.stop_time, one.stop, &one.label).cmp(&(other.stop_time, other.stop, &other.label))
        });
        good
    }

    /// Why a backup cannot be made consistent along any path.
    fn wal_defect(&self, backup: &Backup) -> Option<String> {
        let paths =
            self.inventory.timelines().into_iter().filter_map(|timeline| self.inventory.path(timeline));
        let mut covering = paths.filter(|path| path.covers(backup.timeline, backup.stop));
        let is_whole = covering.any(|path| run_end(self.inventory, &path, backup).is_some());
        (!is_whole).then(|| "WAL between its start and its end is missing".to_owned())
    }

    fn promised_from(&self, good: &[Backup], at: Timestamp) -> Option<Timestamp> {
        if self.retire {
            return self.rules.window.map(|window| before(at, window));
        }
        promised_from(good, self.rules, at)
    }

    /// What is younger is not touched.
    fn untouched_from(&self) -> Timestamp {
        before(self.now, self.rules.minimum_age)
    }

    fn with_backups(&self, backups: impl IntoIterator<Item = Backup>) -> Inventory {
        let mut inventory = self.inventory.clone();
        inventory.backups.clear();
        backups.into_iter().for_each(|backup| inventory.add_backup(backup));
        inventory
    }

    /// The good backups that rules keep, with the rules.
    fn kept_by_rules(
        &self,
        good: &[Backup],
        from: Option<Timestamp>,
        known: &Known,
    ) -> Result<Kept, Unsettled> {
        let mut kept = Kept::new();
        let mut keep = |label: &str, reason: Reason| {
            let reasons = kept.entry(label.to_owned()).or_default();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        if let Some(last) = good.last().filter(|_| !self.retire) {
            keep(&last.label, Reason::LastGood);
        }
        if let Some(from) = from {
            for on_path in on_paths(&self.with_backups(good.to_vec()), from, known)? {
                let timeline = on_path.timeline();
                on_path.bases.iter().for_each(|label| keep(label, Reason::Base { timeline }));
                on_path.within.iter().for_each(|label| keep(label, Reason::Promised));
            }
        }
        if self.retire {
            return Ok(kept);
        }
        let of = self.rules.backups;
        good.iter().rev().take(of as usize).for_each(|backup| keep(&backup.label, Reason::Newest { of }));
        for (period, count) in Period::all(self.rules) {
            let mut names: Vec<String> = Vec::new();
            for backup in good.iter().rev() {
                let name = period.of(backup.stop_time, self.rules.zone);
                if names.len() as u64 == u64::from(count) {
                    break;
                }
                if names.last() != Some(&name) {
                    keep(&backup.label, Reason::Period { period, name: name.clone() });
                    names.push(name);
                }
            }
        }
        Ok(kept)
    }

    fn verdicts(&self, good: &[Backup], from: Option<Timestamp>, kept: &Kept) -> Vec<Verdict> {
        let spared = from.unwrap_or(self.untouched_from()).min(self.untouched_from());
        let nothing_good = good.is_empty() && !self.retire;
        let mut complete: Vec<&Complete> = self.holdings.complete.iter().collect();
        complete.sort_by_key(|complete| (complete.backup.stop_time, &complete.backup.label));
        let complete =
            complete.into_iter().map(|complete| self.complete(complete, spared, nothing_good, kept));
        let damaged = self.holdings.damaged.iter().map(|damaged| self.damaged(damaged, spared, nothing_good));
        let incomplete = self.holdings.incomplete.iter().map(|incomplete| self.incomplete(incomplete));
        let remains = self.holdings.remains.iter().map(|label| Verdict {
            label: label.clone(),
            state: State::Remains,
            time: None,
            fate: Fate::Remove,
            why: vec![Reason::NoRule],
        });
        complete.chain(damaged).chain(incomplete).chain(remains).collect()
    }

    fn young(&self) -> Reason {
        Reason::Young { minimum_age_seconds: self.rules.minimum_age.as_secs() }
    }

    fn complete(&self, complete: &Complete, spared: Timestamp, nothing_good: bool, kept: &Kept) -> Verdict {
        let Complete { backup, marked_at, hold, defect, found_damaged } = complete;
        let mut why: Vec<Reason> =
            hold.iter().map(|reason| Reason::Held { reason: reason.clone() }).collect();
        why.extend(kept.get(&backup.label).into_iter().flatten().cloned());
        if backup.stop_time >= self.untouched_from() {
            why.push(self.young());
        }
        if nothing_good {
            why.push(Reason::NothingGood);
        }
        let defect = defect.clone().or_else(|| self.wal_defect(backup));
        let is_bad = defect.is_some() || found_damaged.is_some();
        if is_bad && why.is_empty() && backup.stop_time >= spared {
            // What it lacks may be found again while the others of its time are kept.
            why.push(Reason::Promised);
        }
        let keep = !why.is_empty();
        why.extend(defect.map(|reason| Reason::Defective { reason }));
        // That comes first: whoever reads must not take it for one that can be relied on.
        let damage = found_damaged.iter().map(|reason| Reason::FoundDamaged { reason: reason.clone() });
        why.splice(0..0, damage);
        let time = Some(backup.stop_time);
        self.verdict(&backup.label, State::Complete, time, keep, *marked_at, why)
    }

    fn damaged(&self, damaged: &Damaged, spared: Timestamp, nothing_good: bool) -> Verdict {
        let Damaged { label, reason, begun_at, marked_at, hold } = damaged;
        let mut why: Vec<Reason> =
            hold.iter().map(|reason| Reason::Held { reason: reason.clone() }).collect();
        match begun_at {
            None => why.push(Reason::NoAge),
            Some(begun_at) if *begun_at >= spared => why.push(Reason::Promised),
            Some(_) => {}
        }
        if nothing_good {
            why.push(Reason::NothingGood);
        }
        let keep = !why.is_empty();
        why.push(Reason::Defective { reason: reason.clone() });
        self.verdict(label, State::Damaged, *begun_at, keep, *marked_at, why)
    }

    fn incomplete(&self, incomplete: &Incomplete) -> Verdict {
        let Incomplete { label, begun_at, marked_at, .. } = incomplete;
        let abandoned = |begun_at: Timestamp| begun_at < before(self.now, self.rules.abandoned_after);
        let (keep, why) = match begun_at {
            // A mark is not taken back: the backup that it gave up would have ended by now with an error.
            _ if marked_at.is_some() => (false, Reason::Abandoned),
            Some(begun_at) if abandoned(*begun_at) => (false, Reason::Abandoned),
            Some(_) => (true, Reason::InProgress),
            None => (true, Reason::NoAge),
        };
        self.verdict(label, State::Incomplete, *begun_at, keep, *marked_at, vec![why])
    }

    fn verdict(
        &self,
        label: &str,
        state: State,
        time: Option<Timestamp>,
        keep: bool,
        marked_at: Option<Timestamp>,
        mut why: Vec<Reason>,
    ) -> Verdict {
        let fate = match (keep, marked_at) {
            (true, None) => Fate::Keep,
            (true, Some(_)) => Fate::KeepAgain,
            (false, None) => Fate::Mark,
            (false, Some(marked_at)) => {
                let until = after(marked_at, self.rules.grace);
                let builds_here = |other: &&Incomplete| {
                    other.builds_on.as_deref() == Some(label) && self.incomplete(other).fate != Fate::Remove
                };
                let builder =
                    self.holdings.incomplete.iter().filter(|other| other.label != label).find(builds_here);
                match builder {
                    None if until <= self.now => Fate::Remove,
                    builder => Fate::Wait { until, builder: builder.map(|builder| builder.label.clone()) },
                }
            }
        };
        if why.is_empty() {
            why.push(Reason::NoRule);
        }
        Verdict { label: label.to_owned(), state, time, fate, why }
    }

    /// The WAL that stays: what makes each backup consistent that is still there, and what was promised so long ago as restores may
    /// still be running, from whichever backup they were planned. And from when on it stays in any case.
    fn wal(
        &self,
        good: &[Backup],
        hopeful: &[Backup],
        from: Option<Timestamp>,
        is_staying: impl Fn(&str) -> bool,
        is_going: impl Fn(&str) -> bool,
        known: &Known,
    ) -> Result<(NeededWal, Timestamp), Unsettled> {
        if good.is_empty() && !self.retire {
            return Ok((NeededWal::everything(), Timestamp(i64::MIN)));
        }
        let mut needed = NeededWal::nothing(self.inventory);
        for complete in self.holdings.complete.iter().filter(|complete| is_staying(&complete.backup.label)) {
            needed.add_backup(&complete.backup, self.inventory);
        }
        let a_grace_ago = before(self.now, self.rules.grace);
        let earlier = self.promised_from(good, a_grace_ago);
        let if_whole = [self.now, a_grace_ago].map(|at| self.promised_from(hopeful, at));
        // A backup that is being made needs WAL from before it was begun: from the checkpoint that it starts from.
        let begun = self.holdings.incomplete.iter().filter(|incomplete| is_staying(&incomplete.label));
        let begun = begun.filter_map(|incomplete| incomplete.begun_at);
        let begun = begun.map(|begun_at| before(begun_at, self.rules.grace));
        // Marks are taken back while their grace lasts, and restores may have begun before: with the moments behind their backups.
        let marked = hopeful.iter().filter(|backup| is_going(&backup.label)).map(|backup| backup.stop_time);
        let from = [from, earlier].into_iter().chain(if_whole).flatten().chain(begun).chain(marked).min();
        if let Some(from) = from {
            for backups in [good, hopeful].into_iter().take(if hopeful.len() > good.len() { 2 } else { 1 }) {
                let staying = backups.iter().filter(|backup| is_staying(&backup.label)).cloned();
                for on_path in on_paths(&self.with_backups(staying), from, known)? {
                    needed.add_path(&on_path.path, self.inventory, on_path.first, u64::MAX);
                }
            }
        }
        Ok((needed, from.unwrap_or(self.now)))
    }
}
