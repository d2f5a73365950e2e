//! Fetching ahead from a repository whose store fails as told.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_repository::{ClusterRepository, Repository, RepositoryConfig, Stored};
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::{ErrorKind, StoreConfig};
use highwater_wal::{
    Check, SegmentCheck, SegmentKind, SegmentName, SegmentSize, SystemId, TimelineId, WalFile,
};

use highwater_worker::Background;

use super::fetches::Fetches;

const SYSTEM: SystemId = SystemId(7_000_000_000_000_000_001);

struct Lab {
    folder: tempfile::TempDir,
    faults: Arc<FaultStore>,
    cluster: ClusterRepository,
    runtime: tokio::runtime::Runtime,
}

fn mib() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn segment(timeline: u32, number: u64) -> SegmentName {
    SegmentName::from_number(TimelineId::new(timeline).unwrap(), number, mib())
}

fn content(name: SegmentName) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0xD110_u16.to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(name.timeline.get().to_le_bytes());
    bytes.extend(name.start(mib()).0.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(SYSTEM.0.to_le_bytes());
    bytes.extend((1_u32 << 20).to_le_bytes());
    bytes.extend(8192_u32.to_le_bytes());
    bytes.resize(1 << 20, 0);
    bytes
}

impl Lab {
    /// A repository with these segments, and a data directory.
    fn with(segments: impl IntoIterator<Item = SegmentName>) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("data/pg_wal")).unwrap();
        let url = format!("file://{}/repository", folder.path().display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Repository::init(&RepositoryConfig::from_url(&url))).unwrap();
        let store = highwater_storage::open(&StoreConfig::from_url(&url)).unwrap();
        let faults = Arc::new(FaultStore::new(store, 1, []));
        let repository =
            Repository::with_store(Arc::clone(&faults) as _, &RepositoryConfig::from_url(&url)).unwrap();
        let cluster = repository.cluster(&"main".parse().unwrap(), SYSTEM);
        drop(runtime.block_on(cluster.register(mib(), 15)).unwrap().0);
        let lab = Lab { folder, faults, cluster, runtime };
        segments.into_iter().for_each(|name| lab.put(name));
        lab
    }

    fn put(&self, name: SegmentName) {
        let bytes = content(name);
        let mut check =
            SegmentCheck::new(name, mib(), None, mib().bytes(), Check::Header, SegmentKind::Complete)
                .unwrap();
        check.push(&bytes);
        let put = self.cluster.put_wal(WalFile::Segment(name), &bytes, Some(check.finish().unwrap()));
        assert_eq!(self.runtime.block_on(put).unwrap(), Stored::Created);
    }

    fn pg_wal(&self) -> std::path::PathBuf {
        self.folder.path().join("data/pg_wal")
    }

    fn fetches(&self, count: usize) -> Arc<Fetches> {
        let data = self.folder.path().join("data");
        let background = Background::start().unwrap();
        Fetches::new(vec![self.cluster.clone()], background, &self.pg_wal(), &data, count).unwrap()
    }

    /// Whether a segment has been asked of the store.
    fn was_asked(&self, name: SegmentName) -> bool {
        self.faults.calls(Operation::GetRange, &name.to_string()) > 0
    }
}

/// What is ready under this name, whole.
fn taken(fetches: &Fetches, name: SegmentName) -> Option<Vec<u8>> {
    let file = fetches.take(name, || true)?;
    let mut bytes = Vec::new();
    std::os::unix::fs::FileExt::read_at(&file, &mut [0], 0).unwrap();
    fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    Some(bytes)
}

fn wait_until_idle(fetches: &Fetches) {
    for _ in 0..4000 {
        if !fetches.is_busy() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never ends");
}

fn names(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn r07_r08_what_comes_next_is_ready_whole_and_has_no_name() {
    let lab = Lab::with((0..8).map(|number| segment(1, number)));
    let fetches = lab.fetches(3);
    fetches.go_on(segment(1, 0));
    for number in 1..8 {
        let name = segment(1, number);
        assert_eq!(taken(&fetches, name), Some(content(name)), "{name}");
        assert!(fetches.take(name, || true).is_none(), "it is handed over once");
        fetches.go_on(name);
    }
    wait_until_idle(&fetches);
    assert_eq!(names(&lab.pg_wal()), 0);
    assert!(taken(&fetches, segment(1, 8)).is_none(), "the archive ends");
    // It has come since, and is fetched when PostgreSQL was given what is before it.
    lab.put(segment(1, 8));
    fetches.go_on(segment(1, 7));
    assert!(taken(&fetches, segment(1, 8)).is_some());
}

#[test]
fn never_more_than_asked_for_is_ready_and_nothing_behind_the_target_is_fetched() {
    let lab = Lab::with((0..8).map(|number| segment(1, number)));
    let fetches = lab.fetches(3);
    fetches.go_on(segment(1, 0));
    wait_until_idle(&fetches);
    assert!(lab.was_asked(segment(1, 3)) && !lab.was_asked(segment(1, 4)));
    let settings = format!("recovery_target_lsn = '{}'\n", segment(1, 5).start(mib()) + 100);
    fs::write(lab.folder.path().join("data/postgresql.auto.conf"), settings).unwrap();
    fetches.go_on(segment(1, 4));
    wait_until_idle(&fetches);
    assert!(lab.was_asked(segment(1, 5)) && !lab.was_asked(segment(1, 6)));
    assert!(fetches.take(segment(1, 2), || true).is_none(), "what PostgreSQL has passed is let go");
    assert!(fetches.take(segment(1, 5), || true).is_some());
}

#[test]
fn forks_are_followed() {
    let lab = Lab::with([segment(1, 0), segment(1, 1), segment(1, 2), segment(2, 1), segment(2, 2)]);
    let fork = segment(1, 1).start(mib()) + 100;
    fs::write(lab.pg_wal().join("00000002.history"), format!("1\t{fork}\tx\n")).unwrap();
    let fetches = lab.fetches(2);
    fetches.go_on(segment(1, 0));
    wait_until_idle(&fetches);
    assert!(fetches.take(segment(2, 1), || true).is_some());
    assert!(fetches.take(segment(2, 2), || true).is_some());
    assert!(!lab.was_asked(segment(1, 1)) && !lab.was_asked(segment(1, 2)));
}

#[test]
fn r06_an_error_is_no_answer_and_nothing_behind_it_is_fetched() {
    for fault in [Fault::Before(ErrorKind::Unavailable), Fault::WrongBytes, Fault::CutOff] {
        let lab = Lab::with((0..6).map(|number| segment(1, number)));
        // A local folder is read as files, which no fault is given for: the damage is in the object.
        let name = segment(1, 2);
        if fault == Fault::Before(ErrorKind::Unavailable) {
            lab.faults.set_rules([Rule::on(Operation::GetRange, fault).keys(name.to_string())]);
        } else {
            let objects = lab.folder.path().join("repository/clusters/main");
            let path = objects.join(format!("{}/wal/00000001/{name}", SYSTEM));
            let mut bytes = fs::read(&path).unwrap();
            if fault == Fault::CutOff {
                bytes.truncate(bytes.len() - 9);
            } else {
                let last = bytes.len() - 20;
                bytes[last] ^= 1;
            }
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        let fetches = lab.fetches(4);
        fetches.go_on(segment(1, 0));
        wait_until_idle(&fetches);
        assert!(fetches.take(segment(1, 1), || true).is_some(), "{fault:?}");
        assert!(fetches.take(name, || true).is_none(), "{fault:?}");
        assert_eq!(names(&lab.pg_wal()), 0);
    }
}

#[test]
fn where_files_cannot_be_without_a_name_nothing_is_fetched() {
    let lab = Lab::with((0..3).map(|number| segment(1, number)));
    let fetches = lab.fetches(2);
    fs::remove_dir(lab.pg_wal()).unwrap();
    fetches.go_on(segment(1, 0));
    wait_until_idle(&fetches);
    assert!(fetches.take(segment(1, 1), || true).is_none());
}
