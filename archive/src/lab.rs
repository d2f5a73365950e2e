//! What the tests of working ahead have in common: a data directory that a played PostgreSQL writes into, and a store that
//! fails as told.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_repository::config::{ClusterConfig, RepositoryConfig};
use highwater_repository::{ClusterRepository, Config, Plain, Repository};
use highwater_storage::faults::FaultStore;
use highwater_storage::memory::MemoryStore;
use highwater_storage::{Put, Store};
use highwater_wal::{SegmentName, SegmentSize, SystemId, TimelineId, WalFile};

use crate::ask::{Reply, Request};
use crate::connected::Connected;
use crate::job::Job;
use crate::put;
use crate::uploads::{Connect, Received, Uploads, Work};

pub(crate) const SYSTEM: SystemId = SystemId(7_000_000_000_000_000_001);

/// The names of the files of WAL in a store, in the order in which they came to be.
pub(crate) fn order(store: &MemoryStore) -> Vec<String> {
    let keys = store.created();
    let of_wal = keys.iter().filter(|key| key.contains("/wal/"));
    of_wal.map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
}

/// A data directory and a repository.
pub(crate) struct Lab {
    pub folder: tempfile::TempDir,
    pub memory: Arc<MemoryStore>,
    pub faults: Arc<FaultStore>,
    pub cluster: ClusterConfig,
    pub runtime: tokio::runtime::Runtime,
}

pub(crate) fn mib() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

pub(crate) fn segment(number: u64) -> WalFile {
    WalFile::Segment(SegmentName::from_number(TimelineId::FIRST, number, mib()))
}

impl Lab {
    pub fn new(seed: u64) -> Lab {
        let folder =
            tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
        for name in ["global", "pg_wal/archive_status"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("global/pg_control"), SYSTEM.0.to_le_bytes()).unwrap();
        let settings = "[repository]\nurl = 's3://b'\n[cluster.main]\narchive-check = 'header'\n";
        let cluster = Config::parse(settings, "x", []).unwrap().cluster(None).unwrap().clone();
        let memory = Arc::new(MemoryStore::default());
        let faults = Arc::new(FaultStore::new(memory.clone(), seed, []));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lab = Lab { folder, memory, faults, cluster, runtime };
        let facts = |key: &str, text: String| {
            lab.runtime
                .block_on(lab.memory.put_if_absent(&key.parse().unwrap(), &text.into_bytes().into()))
                .unwrap()
        };
        let id = "00112233445566778899aabbccddeeff";
        let text = format!(
            r#"{{"format":1,"repository":"{id}","created_at":"2026-01-01T00:00:00Z","created_by":"t"}}"#
        );
        assert_eq!(facts("highwater.json", text), Put::Created);
        let clean = lab.repository(lab.memory.clone());
        let (_, put) = lab.runtime.block_on(clean.register(mib(), 15)).unwrap();
        assert_eq!(put, Put::Created);
        lab
    }

    pub fn repository(&self, store: Arc<dyn Store>) -> ClusterRepository {
        repository(store, &self.cluster)
    }

    /// A worker that was just started.
    pub fn worker(&self) -> Arc<Uploads> {
        self.worker_for(vec![Arc::clone(&self.faults)])
    }

    /// The same for several repositories.
    pub fn worker_for(&self, stores: Vec<Arc<FaultStore>>) -> Arc<Uploads> {
        Uploads::new(self.work(self.connect(stores), None)).unwrap()
    }

    /// What is archived from here.
    pub fn work(&self, connect: Connect, received: Option<Received>) -> Work {
        let (cluster, folder) = (self.cluster.clone(), self.pg_wal());
        Work { cluster, folder, system_id: SYSTEM, connect, received, encoders: 2 }
    }

    /// Connects to repositories in these stores.
    pub fn connect(&self, stores: Vec<Arc<FaultStore>>) -> Connect {
        connect(&self.cluster, stores)
    }

    pub fn pg_wal(&self) -> PathBuf {
        self.folder.path().join("pg_wal")
    }

    pub fn path(&self, file: WalFile) -> PathBuf {
        self.pg_wal().join(file.to_string())
    }

    pub fn mark(&self, file: WalFile) -> PathBuf {
        self.pg_wal().join(format!("archive_status/{file}.ready"))
    }

    /// Writes a segment whose content `seed` decides, over what is there, and marks it as ready.
    pub fn write(&self, number: u64, seed: u64) -> WalFile {
        let file = segment(number);
        let name = SegmentName::from_number(TimelineId::FIRST, number, mib());
        let mut header = Vec::new();
        header.extend(0xD110_u16.to_le_bytes());
        header.extend(2_u16.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend(name.start(mib()).0.to_le_bytes());
        header.extend([0; 8]);
        header.extend(SYSTEM.0.to_le_bytes());
        header.extend((1_u32 << 20).to_le_bytes());
        header.extend(8192_u32.to_le_bytes());
        header.resize(64, 0);
        header.extend(seed.to_le_bytes());
        let target =
            fs::File::options().create(true).truncate(false).write(true).open(self.path(file)).unwrap();
        target.set_len(1 << 20).unwrap();
        target.write_all_at(&header, 0).unwrap();
        fs::write(self.mark(file), "").unwrap();
        file
    }

    pub fn job(&self, file: WalFile) -> Job<'_> {
        Job::new(&self.cluster, &self.path(file)).unwrap()
    }

    /// What a call asks.
    pub fn request(&self, file: WalFile) -> Request {
        Request::new(&self.job(file), &self.path(file)).unwrap()
    }

    /// What a call is answered by the worker.
    pub fn asked(&self, worker: &Arc<Uploads>, file: WalFile) -> Reply {
        let reply = worker.make_durable(&self.request(file), || true);
        worker.go_ahead();
        reply
    }

    /// What a call does itself.
    pub fn done_without(&self, file: WalFile) -> Result<(), crate::Error> {
        let job = self.job(file);
        let connected = Connected::new("one".to_owned(), self.repository(Arc::clone(&self.faults) as _));
        let prepared = put::prepare(&job, &[connected.repository().clone()])?.remove(0);
        self.runtime.block_on(connected.put(prepared)).map(drop)
    }

    /// Whether the repository has exactly what lies in `pg_wal`.
    pub fn is_durable(&self, file: WalFile) -> bool {
        let clean = self.repository(self.memory.clone());
        let object = self.runtime.block_on(clean.get_wal(file)).unwrap();
        object.head.plain == Plain::of(&fs::read(self.path(file)).unwrap())
    }

    /// Whether the repository has this segment, as its object tells.
    pub fn holds(&self, file: WalFile, number: u64) -> bool {
        let clean = self.repository(self.memory.clone());
        let head = self.runtime.block_on(clean.wal_head(file)).unwrap();
        head.file == segment(number) && (!number.is_multiple_of(41) || self.is_durable(file))
    }

    pub fn wait_for(&self, file: WalFile) {
        for _ in 0..2000 {
            if order(&self.memory).contains(&file.to_string()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{file} was not put");
    }
}

pub(crate) fn repository(store: Arc<dyn Store>, cluster: &ClusterConfig) -> ClusterRepository {
    let mut config = RepositoryConfig::from_url("s3://b");
    config.threads = 1;
    Repository::with_store(store, &config).unwrap().cluster(&cluster.name, SYSTEM)
}

/// Connects to repositories in these stores.
pub(crate) fn connect(cluster: &ClusterConfig, stores: Vec<Arc<FaultStore>>) -> Connect {
    let cluster = cluster.clone();
    Box::new(move || {
        let connected = stores.iter().enumerate().map(|(number, store)| {
            Connected::new(number.to_string(), repository(Arc::clone(store) as _, &cluster))
        });
        Ok(connected.collect())
    })
}

pub(crate) fn is_durable(reply: &Reply) -> bool {
    matches!(reply, Reply::Durable(_))
}
