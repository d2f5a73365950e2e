//! A made-up cluster that archives and is backed up day by day, in a repository in memory, with a clock of its own.

#![expect(dead_code, reason = "each test file uses a part of it")]

pub mod wal;

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_catalog::retention::{Clock, DAY, Rules};
use highwater_catalog::{Catalog, Plan, PlanError, Request, Target};
use highwater_expire::{Expiry, Options, Report, Result};
use highwater_repository::manifest::{EntryPath, File, PostgresBackup, Totals};
use highwater_repository::{
    Backups, ClusterRepository, Entry, EventId, ExtentCompressor, ExtentReader, ExtentRef, Item, Label,
    ManifestHead, ManifestReader, ManifestWriter, PackLimits, PackWriter, Repository, RepositoryConfig, Run,
    Started,
};
use highwater_storage::memory::MemoryStore;
use highwater_storage::{Body, Store};
use highwater_wal::{Lsn, SystemId, TimelineId, Timestamp, WalFile};

use wal::{Commit, SYSTEM, size};

pub const DAY_MICROS: i64 = DAY.as_micros() as i64;
/// Files of the made-up database; one of them changes each day.
const FILES: usize = 5;

pub fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// A timeline that is being written.
#[derive(Clone, Debug)]
pub struct Writing {
    pub timeline: TimelineId,
    pub next: u64,
    /// Its commits and those of its ancestors, in the order of the WAL.
    pub commits: Vec<Commit>,
    pub history: String,
}

/// The cluster and its repository.
#[derive(Debug)]
pub struct World {
    pub store: Arc<MemoryStore>,
    pub cluster: ClusterRepository,
    pub start: Timestamp,
    pub files: Vec<Vec<ExtentRef>>,
    pub stops: BTreeMap<String, (TimelineId, Lsn, Timestamp)>,
}

pub fn cluster_on(store: Arc<dyn Store>, system: SystemId) -> ClusterRepository {
    let repository = Repository::with_store(store, &RepositoryConfig::from_url("memory")).unwrap();
    repository.cluster(&"main".parse().unwrap(), system)
}

impl World {
    pub async fn new() -> World {
        World::of(SYSTEM).await
    }

    pub async fn of(system: SystemId) -> World {
        let store = Arc::new(MemoryStore::default());
        let cluster = cluster_on(store.clone(), system);
        let (_, _) = cluster.register(size(), 15).await.unwrap();
        // What is archived now is never older than what is made up for later.
        let start = Timestamp::from_datetime(time::OffsetDateTime::now_utc());
        World { store, cluster, start, files: Vec::new(), stops: BTreeMap::new() }
    }

    /// A moment: days after the beginning.
    pub fn at(&self, days: f64) -> Timestamp {
        Timestamp(self.start.0 + (days * DAY_MICROS as f64) as i64)
    }

    pub fn first_timeline(&self) -> Writing {
        Writing { timeline: tli(1), next: 1, commits: Vec::new(), history: String::new() }
    }

    /// Archives a segment with commits at these times.
    pub async fn write(&self, writing: &mut Writing, times: &[Timestamp]) {
        let system = self.cluster.system_id();
        let (name, bytes, summary, commits) = wal::segment(system, writing.timeline, writing.next, times);
        self.cluster.put_wal(WalFile::Segment(name), &bytes, Some(summary)).await.unwrap();
        writing.next += 1;
        writing.commits.extend(commits);
    }

    /// Promotes a standby that is as far as the server: it goes on with a timeline of its own in the next segment.
    pub async fn promote(&self, from: &Writing, timeline: u32) -> Writing {
        let fork = Lsn(from.next * size().bytes());
        let history = format!("{}{}\t{fork}\tpromoted\n", from.history, from.timeline);
        self.cluster.put_wal(WalFile::History(tli(timeline)), history.as_bytes(), None).await.unwrap();
        Writing { timeline: tli(timeline), history, ..from.clone() }
    }

    /// A backup that begins with the next segment and ends with the one after it.
    pub async fn back_up(&mut self, writing: &mut Writing, label: &str, end: Timestamp) -> Label {
        let start = Lsn(writing.next * size().bytes() + 40);
        self.write(writing, &[Timestamp(end.0 - 2)]).await;
        self.write(writing, &[Timestamp(end.0 - 1)]).await;
        let stop = Lsn(writing.next * size().bytes() - 8192);
        let backups = self.cluster.backups();
        let label: Label = label.parse().unwrap();
        self.put_started(&backups, &label, end).await;
        let mut writer = PackWriter::new(&backups, PackLimits { target_bytes: 1000, uploads: 2 });
        let mut compressor = ExtentCompressor::new(&backups.repository().compression()).unwrap();
        let changed = self.stops.len() % FILES;
        for file in 0..FILES {
            if self.files.len() > file && file != changed {
                continue;
            }
            let mut extents = Vec::new();
            for part in 0..3_u8 {
                let mut content: Vec<u8> = (0..2000).map(|_| rand::random()).collect();
                content[0] = part;
                extents.push(writer.add(&compressor.compress(&content).unwrap()).await.unwrap());
            }
            match self.files.get_mut(file) {
                Some(old) => *old = extents,
                None => self.files.push(extents),
            }
        }
        let packs = writer.finish().await.unwrap();
        let mut manifest = ManifestWriter::new(&backups, &label).unwrap();
        for (number, extents) in self.files.iter().enumerate() {
            let file = File {
                path: EntryPath::new(format!("base/5/{number}").as_bytes()).unwrap(),
                mode: 0o600,
                size: extents.iter().map(|extent| u64::from(extent.length)).sum(),
                mtime: 0,
                crc32c: None,
            };
            let mut runs = Vec::new();
            extents.iter().for_each(|extent| Run::push(&mut runs, *extent));
            manifest.add(&Entry::File(file, runs)).await.unwrap();
        }
        let head = ManifestHead {
            version: ManifestHead::VERSION,
            label: label.clone(),
            host: "h".to_owned(),
            program: "p".to_owned(),
            begun_at: end,
            finished_at: end,
            parent: None,
            totals: Totals { stored_bytes: packs.stored_bytes, packs: packs.packs, ..Totals::default() },
            parts: Vec::new(),
            postgres: Some(PostgresBackup {
                system_id: self.cluster.system_id(),
                server_version: 150_006,
                segment_size: size(),
                timeline: writing.timeline,
                start_lsn: start,
                checkpoint_lsn: start,
                start_time: Timestamp(end.0 - 3),
                stop_timeline: writing.timeline,
                stop_lsn: stop,
                stop_time: end,
                from_standby: false,
                tablespaces: Vec::new(),
            }),
        };
        manifest.finish(head).await.unwrap();
        self.stops.insert(label.to_string(), (writing.timeline, stop, end));
        label
    }

    /// Begins a backup at a made-up time, as [`Backups::start`] does at the real one.
    pub async fn put_started(&self, backups: &Backups, label: &Label, begun_at: Timestamp) {
        let started = Started {
            version: 1,
            label: label.clone(),
            id: EventId::random(),
            host: "h".to_owned(),
            process: 1,
            program: "p".to_owned(),
            begun_at,
        };
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();
        let frame = compressor.compress(&serde_json::to_vec(&started).unwrap()).unwrap();
        let body: Body = frame.into();
        let put = self.store.put_if_absent(&backups.section().started(label), &body).await.unwrap();
        assert_eq!(put, highwater_storage::Put::Created);
    }

    /// A pack that no manifest names.
    pub async fn put_stray_pack(&self) {
        let backups = self.cluster.backups();
        let mut compressor = ExtentCompressor::new(&backups.repository().compression()).unwrap();
        let mut writer = PackWriter::new(&backups, PackLimits::default());
        writer.add(&compressor.compress(b"stray").unwrap()).await.unwrap();
        writer.finish().await.unwrap();
    }

    pub async fn expire(&self, rules: &Rules, now: Timestamp) -> Report {
        expire(&self.cluster, rules, now, true).await.unwrap()
    }
}

pub async fn expire(
    cluster: &ClusterRepository,
    rules: &Rules,
    now: Timestamp,
    apply: bool,
) -> Result<Report> {
    let expiry = Expiry::open(cluster.clone(), &()).await?;
    let clock = Clock { here: now, archive: Some(now) };
    let options = Options { apply, ..Options::new(rules.clone(), clock) };
    expiry.run(&options, &()).await
}

pub async fn plan(cluster: &ClusterRepository, request: &Request) -> Result<Plan, PlanError> {
    Catalog::open(cluster.clone()).await?.plan(request).await
}

/// The plan for a time on a timeline.
pub fn at(time: Timestamp, timeline: TimelineId) -> Request {
    Request { timeline: Some(timeline), ..Request::new(Target::Time(time)) }
}

/// The labels of the backups that a user sees.
pub async fn listed(cluster: &ClusterRepository) -> Vec<String> {
    let catalog = Catalog::open(cluster.clone()).await.unwrap();
    catalog.inventory().backups.iter().map(|backup| backup.label.clone()).collect()
}

/// Reads a whole backup, every byte of it, and proves that it can be made consistent.
pub async fn assert_whole(cluster: &ClusterRepository, label: &str) {
    let backups = cluster.backups();
    let label: Label = label.parse().unwrap();
    let mut manifest = ManifestReader::open(&backups, &label).await.unwrap();
    let timeline = manifest.head().postgres.as_ref().unwrap().stop_timeline;
    let reader = ExtentReader::new(&backups);
    while let Some(item) = manifest.next().await.unwrap() {
        let Item::Runs(runs) = item else { continue };
        for run in runs {
            let Run::Extents(extents) = run else { continue };
            let fetched = reader.fetch(&extents).await.unwrap_or_else(|error| panic!("{label}: {error}"));
            fetched.each(&mut Vec::new(), |_, _| Ok::<_, highwater_repository::Error>(())).unwrap();
        }
    }
    let request = Request {
        timeline: Some(timeline),
        backup: Some(label.to_string()),
        ..Request::new(Target::Immediate)
    };
    plan(cluster, &request).await.unwrap_or_else(|error| panic!("{label}: {error}"));
}
