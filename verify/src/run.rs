//! A verification from its beginning to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use highwater_catalog::{Catalog, SegmentSet};
use highwater_repository::{
    ClusterRepository, Event, FoundDamage, JudgedBackup, Label, LogIndex, MOST_EVENTS, Outcome, PackId,
    Repository, RepositoryConfig,
};
use highwater_storage::{ErrorKind, Key};
use highwater_wal::{SegmentName, TimelineId, Timestamp, WalFile};

use crate::backups::Whole;
use crate::blame::{BadPage, Trouble};
use crate::chain;
use crate::error::{Error, Result};
use crate::finding::{Finding, Findings, Weight};
use crate::histories;
use crate::ledger::{self, Looked, This};
use crate::options::{Options, Progress};
use crate::past::Past;
use crate::record::{ACTION, Proven, Record, Seen, runs_of};
use crate::report::{self, Report};
use crate::there::There;
use crate::wal_files::{sample_name, stretches};

/// A verification on its way.
pub(crate) struct Run<'a> {
    pub(crate) cluster: &'a ClusterRepository,
    pub(crate) options: &'a Options,
    progress: &'a dyn Progress,
    pub(crate) there: There,
    pub(crate) catalog: Option<Catalog>,
    pub(crate) past: Past,
    /// What was proven before and need not be looked at again.
    pub(crate) base: Option<Proven>,
    pub(crate) findings: Findings,
    pub(crate) looked: report::Looked,
    pub(crate) unproven: BTreeSet<String>,
    pub(crate) seen: Seen,
    pub(crate) pg_version: u32,
    /// Complete backups.
    pub(crate) whole: Vec<Whole>,
    pub(crate) total_bytes: u64,
    /// Objects that were listed or are named, and were not there when they were to be read.
    pub(crate) gone: Vec<Key>,
    pub(crate) damaged_segments: BTreeMap<SegmentName, BTreeSet<String>>,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) bad_pages: Vec<BadPage>,
    pub(crate) more_bad_pages: u64,
    pub(crate) stray_packs: u64,
    pub(crate) stray_bytes: u64,
    /// The index object that was read last.
    pub(crate) log: Option<(Key, Option<LogIndex>)>,
    /// The last pack that was proven, while there are more.
    pub(crate) packs_until: Option<PackId>,
    proven_wal: BTreeMap<TimelineId, SegmentSet>,
    /// Whether retention was removing something while this went on.
    is_expiring: bool,
    began: Timestamp,
    clock: Instant,
    next_checkpoint: Duration,
    checkpoint_gap: Duration,
}

/// Verifies a cluster's part of a repository, and what belongs to all clusters. The result is noted as an event.
///
/// # Errors
/// Where it could not be carried through: nothing is known then. What is damaged or missing is no error, but in the report.
pub async fn verify(
    cluster: &ClusterRepository,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report> {
    check_options(options)?;
    let began = Event::new(ACTION, None, Outcome::Begun).time;
    let clock = Instant::now();
    // What is in a cache proves nothing of what is in the repository.
    let settings = RepositoryConfig { cache_directory: None, ..cluster.repository().config().clone() };
    let repository = &Repository::with_store(cluster.repository().store().clone(), &settings)?;
    let cluster = &repository.cluster(cluster.name(), cluster.system_id());
    let facts = repository.facts().await?;
    let is_locked = !facts.encrypted_to.is_empty() && !repository.has_identity().await?;
    if is_locked && !options.without_identity {
        return Err(Error::NoIdentity { url: repository.url() });
    }
    let size = cluster.facts().await?.segment_size;
    progress.at("listing", 0, None);
    let there = There::list(cluster, size).await?;
    let past = match is_locked {
        true => Past::default(),
        false => Past::read(repository, cluster.system_id(), &there.events, MOST_EVENTS).await?,
    };
    let mut run = Run {
        cluster,
        options,
        progress,
        there,
        catalog: None,
        past,
        base: None,
        findings: Findings::default(),
        looked: report::Looked::default(),
        unproven: BTreeSet::new(),
        seen: Seen::default(),
        pg_version: 0,
        whole: Vec::new(),
        total_bytes: 0,
        gone: Vec::new(),
        damaged_segments: BTreeMap::new(),
        troubles: Vec::new(),
        bad_pages: Vec::new(),
        more_bad_pages: 0,
        stray_packs: 0,
        stray_bytes: 0,
        log: None,
        packs_until: None,
        proven_wal: BTreeMap::new(),
        is_expiring: false,
        began,
        clock,
        next_checkpoint: options.checkpoint_after,
        checkpoint_gap: options.checkpoint_after,
    };
    if is_locked {
        run.without_identity();
        return run.finish(false).await;
    }
    run.base = run.base()?;
    run.everything().await?;
    run.finish(true).await
}

fn check_options(options: &Options) -> Result<()> {
    let wrong = |what: &str, hint| Err(Error::Options { what: what.to_owned(), hint });
    match options {
        Options { sample: Some(_), deep: false, .. } => {
            wrong("a sample is of what is read", "add --deep, or leave --sample away")
        }
        Options { sample: Some(percent), .. } if !(*percent > 0.0 && *percent <= 100.0) => {
            wrong("a sample has more than 0 and at most 100 percent", "as in --sample 10%")
        }
        Options { since_last: true, resume: true, .. } => {
            wrong("--resume goes on with what was begun", "leave --since-last away")
        }
        Options { backup: Some(_), timeline: Some(_), .. } => {
            wrong("either a backup or a timeline can be looked at alone", "leave one of the two away")
        }
        _ => Ok(()),
    }
}

impl Run<'_> {
    /// What was proven before, where that counts.
    fn base(&self) -> Result<Option<Proven>> {
        let last = self.past.last.as_ref().map(|(event, record)| (event.outcome, record));
        if self.options.resume {
            return match last {
                Some((Outcome::Begun, record)) if record.deep == self.options.deep => Ok(record.read.clone()),
                _ => Err(Error::Options {
                    what: "there is no verification that was cut short after it had noted how far it was"
                        .to_owned(),
                    hint: "leave --resume away; a verification notes how far it is after five minutes for the first time",
                }),
            };
        }
        if !self.options.since_last {
            return Ok(None);
        }
        let proven = last.and_then(|(_, record)| match self.options.deep {
            true => record.read.clone(),
            false => record.listed.clone(),
        });
        proven.map(Some).ok_or_else(|| Error::Options {
            what: format!("there is no whole {} that found nothing damaged", self.kind()),
            hint: "leave --since-last away",
        })
    }

    fn kind(&self) -> &'static str {
        if self.options.deep { "verification with --deep" } else { "verification" }
    }

    async fn everything(&mut self) -> Result<()> {
        self.facts().await?;
        self.histories().await?;
        self.heads().await?;
        if let Some(label) = &self.options.backup
            && !self.whole.iter().any(|backup| backup.label == *label)
        {
            let what = format!("there is no complete backup {label} that can be read");
            return Err(Error::Options { what, hint: "highwater list names the backups" });
        }
        if !self.options.is_narrow() {
            self.wrapped().await?;
            self.names().await?;
            self.tails().await?;
            self.marks_of_ends().await?;
            self.index().await?;
            if self.options.deep {
                self.events().await?;
            } else {
                self.looked.events = self.there.events.len() as u64;
            }
        }
        self.looked.segments = self.there.segments;
        if self.options.timeline.is_none() {
            let gathered = self.manifests().await?;
            self.packs(gathered).await?;
        }
        if self.options.deep && self.options.backup.is_none() {
            self.other_wal().await?;
        }
        let wanted = self.wanted_stretches();
        self.segments(&wanted).await?;
        self.blame().await?;
        Ok(())
    }

    fn wanted_stretches(&self) -> Vec<crate::wal_files::Stretch> {
        let inventory = &self.there.inventory;
        let size = inventory.segment_size;
        let needed = self.options.backup.as_ref().and_then(|label| {
            let backup = self.whole.iter().find(|backup| backup.label == *label)?;
            let path = inventory.path(backup.facts.timeline)?;
            let last = SegmentName::ending_at(backup.facts.timeline, backup.facts.stop, size).number(size);
            Some((path, backup.start.0 / size.bytes()..=last))
        });
        stretches(inventory, |timeline, number| {
            // What is there in pieces is looked at piece by piece.
            if inventory.is_in_pieces(SegmentName::from_number(timeline, number, size)) {
                return false;
            }
            if let Some((path, numbers)) = &needed {
                return numbers.contains(&number) && path.segment(number, size).timeline == timeline;
            }
            let is_new = self.base.as_ref().is_none_or(|base| !base.has(timeline, number));
            self.wants_timeline(timeline) && is_new && self.options.samples(&sample_name(timeline, number))
        })
    }

    pub(crate) fn wants_timeline(&self, timeline: TimelineId) -> bool {
        self.options.timeline.is_none_or(|wanted| wanted == timeline)
    }

    pub(crate) fn wants_backup(&self, backup: &Whole) -> bool {
        let is_known = || self.base.as_ref().is_some_and(|base| base.backups.contains(&backup.id));
        match &self.options.backup {
            Some(label) => backup.label == *label,
            // What older backups name tells which extents are new.
            None => self.options.deep || !is_known(),
        }
    }

    /// Notes that a segment was looked at.
    pub(crate) fn proven_segment(&mut self, name: SegmentName) {
        let number = name.number(self.there.inventory.segment_size);
        self.proven_wal.entry(name.timeline).or_default().insert(number);
    }

    /// Tells how far it is.
    pub(crate) fn tick(&self, phase: &str, _: Option<u64>) {
        let total = self.options.deep.then(|| {
            let unread = self.there.segments * self.there.inventory.segment_size.bytes();
            self.total_bytes.min(self.looked.stored_bytes.saturating_mul(4)) + unread
        });
        self.progress.at(phase, self.looked.bytes, total);
    }

    /// Whether an object is there after all.
    pub(crate) async fn is_there(&self, key: &Key) -> Result<bool> {
        match self.cluster.repository().store().size(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(highwater_repository::Error::from(error).into()),
        }
    }

    /// What can be told of an encrypted repository that nothing opens.
    fn without_identity(&mut self) {
        self.unproven.insert(
            "everything that is encrypted: what objects hold, which packs backups need, which segments they need".to_owned(),
        );
        self.looked.segments = self.there.segments;
        self.looked.events = self.there.events.len() as u64;
        self.looked.backups = self.there.backups.values().filter(|objects| objects.manifest).count() as u64;
    }

    /// Holes, and segments that are damaged, with who needs them.
    fn chains(&mut self) {
        let kept: Vec<_> =
            self.whole.iter().filter(|backup| !backup.expired).map(|backup| backup.facts.clone()).collect();
        let size = self.there.inventory.segment_size;
        let section = self.cluster.section();
        let wanted = |gap: &chain::Gap| match (&self.options.backup, self.options.timeline) {
            (Some(label), _) => gap.backups.iter().any(|name| name == label.as_str()),
            (_, Some(timeline)) => gap.first.timeline == timeline || gap.last.timeline == timeline,
            _ => true,
        };
        for gap in chain::gaps(&self.there.inventory, &kept).into_iter().filter(wanted) {
            let (first, last) = (gap.first.number(size), gap.last.number(size));
            let count = last - first + 1;
            let what = match count {
                1 => format!("this segment is missing: {}", gap.what),
                _ => format!("{count} segments are missing, from this one to {}: {}", gap.last, gap.what),
            };
            let is_cut_back = self.is_expiring && gap.backups.is_empty();
            let mut finding = match gap.weight {
                Weight::Damage if is_cut_back => Finding::note(
                    section.wal(WalFile::Segment(gap.first)),
                    format!("{what}; an expire was removing WAL meanwhile: verify again when it has ended"),
                ),
                Weight::Damage => Finding::damage(section.wal(WalFile::Segment(gap.first)), what),
                Weight::Note => Finding::note(section.wal(WalFile::Segment(gap.first)), what),
            };
            finding.moments = gap.moments;
            self.findings.push(finding.needed_by(gap.backups));
        }
        // What would be if the damaged ones were missing.
        let mut without = self.there.inventory.clone();
        self.damaged_segments.keys().for_each(|name| without.remove_segment(*name));
        let gaps = chain::gaps(&without, &kept);
        for (name, reasons) in &self.damaged_segments {
            let number = name.number(size);
            let gap = gaps.iter().find(|gap| {
                (gap.first.number(size)..=gap.last.number(size)).contains(&number)
                    && (gap.first.timeline..=gap.last.timeline).contains(&name.timeline)
            });
            for reason in reasons {
                let mut finding = Finding::damage(section.wal(WalFile::Segment(*name)), reason);
                if let Some(gap) = gap {
                    finding = finding.needed_by(gap.backups.clone());
                    finding.moments.clone_from(&gap.moments);
                }
                self.findings.push(finding);
            }
        }
    }

    /// Histories that are missing or contradict something.
    fn timelines(&mut self) {
        let section = self.cluster.section();
        for timeline in self.there.inventory.lost_histories() {
            if self.there.inventory.damaged_history(timeline).is_none() {
                let what = format!("it is missing, so nobody can say where timeline {timeline} forked off");
                self.findings.push(Finding::damage(section.wal(WalFile::History(timeline)), what));
            }
        }
        for (timeline, what) in histories::contradictions(&self.there.inventory) {
            self.findings.push(Finding::damage(section.wal(WalFile::History(timeline)), what));
        }
    }

    /// What was not there when it was to be read: retention may have removed it meanwhile, rightly.
    async fn judge_gone(&mut self) -> Result<()> {
        let gone = std::mem::take(&mut self.gone);
        let backups = self.cluster.section().backups();
        for key in gone {
            if self.is_there(&key).await? {
                continue;
            }
            let label = key
                .as_str()
                .strip_prefix(&backups)
                .and_then(|rest| rest.split_once('/'))
                .map(|(label, _)| label);
            match label.map(str::parse) {
                Some(Ok(label)) => {
                    let expired = self.there.backups.get(&label).is_some_and(|objects| objects.expired);
                    let manifest = self.cluster.section().manifest(&label);
                    // A backup that is being removed loses its manifest first.
                    let is_removed = manifest != key && !self.is_there(&manifest).await?;
                    let is_begun = self.is_there(&self.cluster.section().started(&label)).await?;
                    if expired
                        || (is_removed || !is_begun) && self.cluster.backups().is_expired(&label).await?
                    {
                        continue;
                    }
                    // Nothing is left of it.
                    if (is_removed || manifest == key)
                        && !is_begun
                        && (!self.was_seen(&manifest) || self.past.has_expired())
                    {
                        continue;
                    }
                    let finding = Finding::damage(&key, "it is missing");
                    let is_needed = key.name() != "started";
                    self.findings.push(finding.needed_by(is_needed.then(|| label.to_string())));
                }
                _ => match key.name().parse::<WalFile>() {
                    // Whether anybody needs it is seen with the holes.
                    Ok(WalFile::Segment(name)) => self.there.inventory.remove_segment(name),
                    Ok(_) if self.past.has_expired() => {}
                    _ => self.findings.push(Finding::damage(&key, "it is missing")),
                },
            }
        }
        Ok(())
    }

    fn was_seen(&self, key: &Key) -> bool {
        let seen = self.past.last.as_ref().and_then(|(_, record)| record.seen.as_ref());
        seen.is_some_and(|seen| seen.objects.contains(key.as_str()))
    }

    /// Reads what was noted since the listing: retention notes that it begins before it removes anything.
    async fn meanwhile(&mut self) -> Result<()> {
        let repository = self.cluster.repository();
        let last = self.there.events.last().map(|key| key.to_string());
        let (names, _) = repository.event_names(last.as_deref()).await?;
        for name in names {
            if let Ok(event) = repository.event(&name).await {
                self.past.since.insert(0, event);
            }
        }
        let began = self.began;
        let is_recent = |event: &Event| event.time >= began && self.past.is_removal(event);
        self.is_expiring = self.past.is_expiring() || self.past.since.iter().any(is_recent);
        Ok(())
    }

    async fn finish(mut self, can_read: bool) -> Result<Report> {
        if can_read {
            self.meanwhile().await?;
        }
        self.judge_gone().await?;
        self.see();
        if can_read {
            self.compare_with_last();
        }
        if !self.options.is_narrow() {
            self.listed_wrongly();
        }
        self.timelines();
        self.chains();
        self.ends(can_read).await?;
        self.count_leftovers();
        let scope = self.scope();
        let (findings, [more_damage, more_notes]) = self.findings.finish();
        let report = Report {
            cluster: self.cluster.name().to_string(),
            system_id: self.cluster.system_id().to_string(),
            repository: self.cluster.repository().url(),
            deep: self.options.deep,
            scope: scope.1,
            began: self.began,
            seconds: self.clock.elapsed().as_secs_f64(),
            looked: self.looked,
            findings,
            more_damage,
            more_notes,
            unproven: self.unproven.iter().cloned().collect(),
        };
        if can_read {
            let outcome = if report.is_well() { Outcome::Done } else { Outcome::Failed };
            let record = self.record(&report, scope.0);
            self.note(outcome, &record).await?;
        }
        Ok(report)
    }

    /// What listing alone has shown.
    fn listed_wrongly(&mut self) {
        for key in std::mem::take(&mut self.there.empty) {
            self.findings.push(Finding::damage(key, "it is empty"));
        }
        for name in std::mem::take(&mut self.there.strays) {
            self.findings.push(Finding::note(name, "no object of Highwater's has this name"));
        }
        if self.there.more_strays > 0 {
            let what =
                format!("{} more objects have names that none of Highwater's has", self.there.more_strays);
            self.findings.push(Finding::note(crate::there::below(self.cluster), what));
        }
        for (label, objects) in self.there.backups.clone() {
            if objects.expired && objects.manifest {
                let what = format!("backup {label} is expired: it goes in a later run of expire");
                self.findings.push(Finding::note(self.cluster.section().expired(&label), what));
            }
        }
    }

    fn count_leftovers(&mut self) {
        if self.stray_packs > 20 {
            let what = format!("no manifest names {} packs, {} bytes", self.stray_packs, self.stray_bytes);
            self.findings.push(Finding::note(self.cluster.section().packs(), what));
        }
        if self.more_bad_pages > 0 {
            let what = format!("{} more pages have wrong checksums", self.more_bad_pages);
            self.findings.push(Finding::damage(self.cluster.section().packs(), what));
        }
    }

    /// What was looked at: in one word, and in words.
    fn scope(&self) -> (&'static str, String) {
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

    fn record(&self, report: &Report, scope: &str) -> Record {
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
            known: self.known_damage(&last.known),
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
        let looked = self.whole.iter().map(|backup| Looked {
            backup: JudgedBackup {
                id: backup.id.clone(),
                label: backup.label.to_string(),
                parent: backup.facts.parent.clone(),
            },
            is_whole: backup.is_read && is_whole(&backup.label),
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
            listed: last.listed,
            read: Some(self.proven_now(self.packs_until)),
            seen: Some(self.seen.clone()),
            expiring: self.past.is_expiring(),
            ..Record::default()
        };
        self.note(Outcome::Begun, &record).await
    }

    async fn note(&self, outcome: Outcome, record: &Record) -> Result<()> {
        let mut event = Event::new(ACTION, Some(self.cluster.name()), outcome);
        event.details = record.to_details();
        Ok(self.cluster.repository().note(&event).await?)
    }
}

/// Lets something compute where it keeps no other task waiting.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
