//! A verification from its beginning to its end.
//!
//! - `conclude`: what is concluded when everything was looked at
//! - `noting`: what it leaves behind in its event

mod conclude;
mod noting;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use highwater_catalog::{Catalog, SegmentSet};
use highwater_repository::{
    ClusterRepository, Event, LogIndex, MOST_EVENTS, Outcome, PackId, Repository, RepositoryConfig,
};
use highwater_storage::{ErrorKind, Key};
use highwater_wal::{SegmentName, TimelineId, Timestamp};

use crate::backups::Whole;
use crate::blame::{BadPage, Trouble};
use crate::error::{Error, Result};
use crate::finding::Findings;
use crate::options::{Options, Progress};
use crate::past::Past;
use crate::record::{ACTION, Proven, Seen};
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
        let known = last.map(|(_, record)| &record.known.backups);
        let proven = proven.map(|mut proven| {
            // What was found damaged since is looked at until it is mended.
            proven.backups.retain(|id| known.is_none_or(|known| !known.contains_key(id)));
            proven
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
        if let Some(timeline) = self.options.timeline
            && !self.there.inventory.timelines().contains(&timeline)
        {
            let what = format!("there is no timeline {timeline}");
            return Err(Error::Options { what, hint: "highwater window names the timelines" });
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
        let is_known_damaged = |timeline, number| {
            let last = self.past.last.as_ref().map(|(_, record)| &record.damaged_wal);
            last.is_some_and(|damaged| damaged.contains(timeline, number))
        };
        stretches(inventory, |timeline, number| {
            // What is there in pieces is looked at piece by piece.
            if inventory.is_in_pieces(SegmentName::from_number(timeline, number, size)) {
                return false;
            }
            if let Some((path, numbers)) = &needed {
                return numbers.contains(&number) && path.segment(number, size).timeline == timeline;
            }
            // What was proven before and found damaged since is no news, and is looked at until it is mended.
            let is_new = self
                .base
                .as_ref()
                .is_none_or(|base| !base.has(timeline, number) || is_known_damaged(timeline, number));
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
        let known = self.all_damage();
        self.remember(&known);
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
            let record = self.record(&report, scope.0, known);
            self.note(outcome, &record).await?;
        }
        Ok(report)
    }
}

/// Lets something compute where it keeps no other task waiting.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
