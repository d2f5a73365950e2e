//! The worker on a store that fails as told, beside a PostgreSQL that is played.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_repository::config::{ClusterConfig, RepositoryConfig};
use highwater_repository::{ClusterRepository, Config, Plain, Repository};
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::memory::MemoryStore;
use highwater_storage::{ErrorKind, Put, Store, gate};
use highwater_wal::{SegmentName, SegmentSize, SystemId, TimelineId, WalFile};

use super::connected::Connected;
use super::uploads::Uploads;
use super::{Reply, Request};
use crate::archive;
use crate::job::Job;

const SYSTEM: SystemId = SystemId(7_000_000_000_000_000_001);

/// The names of the files of WAL in a store, in the order in which they came to be.
fn order(store: &MemoryStore) -> Vec<String> {
    let keys = store.created();
    let of_wal = keys.iter().filter(|key| key.contains("/wal/"));
    of_wal.map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
}

/// A data directory and a repository.
struct Lab {
    folder: tempfile::TempDir,
    memory: Arc<MemoryStore>,
    faults: Arc<FaultStore>,
    cluster: ClusterConfig,
    runtime: tokio::runtime::Runtime,
}

fn mib() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn segment(number: u64) -> WalFile {
    WalFile::Segment(SegmentName::from_number(TimelineId::FIRST, number, mib()))
}

impl Lab {
    fn new(seed: u64) -> Lab {
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

    fn repository(&self, store: Arc<dyn Store>) -> ClusterRepository {
        repository(store, &self.cluster)
    }

    /// A worker that was just started.
    fn worker(&self) -> Arc<Uploads> {
        self.worker_for(vec![Arc::clone(&self.faults)])
    }

    /// The same for several repositories.
    fn worker_for(&self, stores: Vec<Arc<FaultStore>>) -> Arc<Uploads> {
        let cluster = self.cluster.clone();
        let connect = move || {
            let connected = stores.iter().enumerate().map(|(number, store)| {
                Connected::new(number.to_string(), repository(Arc::clone(store) as _, &cluster))
            });
            Ok(connected.collect())
        };
        Uploads::new(self.cluster.clone(), self.pg_wal(), SYSTEM, Box::new(connect)).unwrap()
    }

    fn pg_wal(&self) -> PathBuf {
        self.folder.path().join("pg_wal")
    }

    fn path(&self, file: WalFile) -> PathBuf {
        self.pg_wal().join(file.to_string())
    }

    fn mark(&self, file: WalFile) -> PathBuf {
        self.pg_wal().join(format!("archive_status/{file}.ready"))
    }

    /// Writes a segment whose content `seed` decides, over what is there, and marks it as ready.
    fn write(&self, number: u64, seed: u64) -> WalFile {
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

    fn job(&self, file: WalFile) -> Job<'_> {
        Job::new(&self.cluster, &self.path(file)).unwrap()
    }

    /// What a call asks the worker.
    fn asked(&self, worker: &Arc<Uploads>, file: WalFile) -> Reply {
        let job = self.job(file);
        let (stamp, timeline_ended) = (job.source.stamp, job.known.timeline_ended);
        let request = Request { file, folder: self.pg_wal(), stamp, timeline_ended };
        let reply = worker.make_durable(&request, || true);
        worker.go_ahead();
        reply
    }

    /// What a call does itself.
    fn done_without(&self, file: WalFile) -> Result<(), crate::Error> {
        let job = self.job(file);
        let connected = Connected::new("one".to_owned(), self.repository(Arc::clone(&self.faults) as _));
        let prepared = archive::prepare(&job, &[connected.repository().clone()])?.remove(0);
        self.runtime.block_on(connected.put(prepared)).map(drop)
    }

    /// Whether the repository has exactly what lies in `pg_wal`.
    fn is_durable(&self, file: WalFile) -> bool {
        let clean = self.repository(self.memory.clone());
        let object = self.runtime.block_on(clean.get_wal(file)).unwrap();
        object.head.plain == Plain::of(&fs::read(self.path(file)).unwrap())
    }

    /// Whether the repository has this segment, as its object tells.
    fn holds(&self, file: WalFile, number: u64) -> bool {
        let clean = self.repository(self.memory.clone());
        let head = self.runtime.block_on(clean.wal_head(file)).unwrap();
        head.file == segment(number) && (!number.is_multiple_of(41) || self.is_durable(file))
    }

    fn wait_for(&self, file: WalFile) {
        for _ in 0..2000 {
            if order(&self.memory).contains(&file.to_string()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{file} was not put");
    }
}

fn repository(store: Arc<dyn Store>, cluster: &ClusterConfig) -> ClusterRepository {
    let mut config = RepositoryConfig::from_url("s3://b");
    config.threads = 1;
    Repository::with_store(store, &config).unwrap().cluster(&cluster.name, SYSTEM)
}

fn is_durable(reply: &Reply) -> bool {
    matches!(reply, Reply::Durable(_))
}

/// Everything that a store can do to a call, each now and then.
fn weather() -> Vec<Rule> {
    let on = |operation, fault, probability| Rule::on(operation, fault).probability(probability);
    let slow = Fault::Slow(Duration::from_millis(3));
    vec![
        on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Unavailable), 0.02),
        on(Operation::PutIfAbsent, Fault::After(ErrorKind::TimedOut), 0.02),
        on(Operation::PutIfAbsent, Fault::Precondition, 0.02),
        on(Operation::PutIfAbsent, Fault::Conflict, 0.01),
        on(Operation::PutIfAbsent, slow, 0.05),
        on(Operation::GetRange, Fault::Before(ErrorKind::Unavailable), 0.02),
        on(Operation::GetRange, Fault::CutOff, 0.02),
        on(Operation::GetRange, Fault::WrongBytes, 0.02),
        on(Operation::GetRange, Fault::Busy, 0.02),
        on(Operation::GetRange, slow, 0.02),
    ]
}

#[test]
fn r01_r02_ten_thousand_segments_through_bad_weather() {
    const SEGMENTS: u64 = 10_000;
    /// The last of them are marked as ready before PostgreSQL gets to the first.
    const BEHIND: u64 = 12;
    let lab = Lab::new(42);
    lab.faults.set_rules(weather());
    let mut worker = lab.worker();
    let (mut written, mut by_worker, mut by_call, mut refused) = (0, 0, 0, 0);
    for number in 0..SEGMENTS {
        while written < SEGMENTS && written <= number + BEHIND {
            // Some stand alone, as on a quiet server.
            if number % 100 < 3 && written > number {
                break;
            }
            if written >= 40 && written % 2 == 0 {
                // As PostgreSQL does with segments that it needs no more: the same file under another name.
                fs::rename(lab.path(segment(written - 40)), lab.path(segment(written))).unwrap();
            }
            lab.write(written, written * 7);
            written += 1;
        }
        if number % 997 == 500 {
            // The worker was killed: what it had begun with may or may not still happen.
            worker = lab.worker();
        }
        let file = segment(number);
        let mut tries = 0;
        while {
            tries += 1;
            let done = is_durable(&lab.asked(&worker, file));
            by_worker += u32::from(done);
            let by_itself = !done && lab.done_without(file).is_ok();
            by_call += u32::from(by_itself);
            !done && !by_itself
        } {
            refused += 1;
            assert!(tries < 100, "{file} is never archived");
        }
        assert!(lab.holds(file, number), "{file} was acknowledged");
        fs::remove_file(lab.mark(file)).unwrap();
        if number >= 40 && lab.path(segment(number - 40)).exists() {
            fs::remove_file(lab.path(segment(number - 40))).unwrap();
        }
    }
    assert!(lab.faults.given() > 1000, "the weather was too fine: {}", lab.faults.given());
    assert!(by_worker > 8000 && by_call > 20 && refused > 0, "{by_worker} {by_call} {refused}");
    // None before the one before it: not at any moment, since nothing is ever removed.
    let expected: Vec<String> = (0..SEGMENTS).map(|number| segment(number).to_string()).collect();
    assert_eq!(order(&lab.memory), expected);
    // Nothing was changed: each is still what was written then.
    let clean = lab.repository(lab.memory.clone());
    for number in (0..SEGMENTS).step_by(37) {
        let object = lab.runtime.block_on(clean.get_wal(segment(number))).unwrap();
        assert_eq!(object.bytes[64..72], (number * 7).to_le_bytes());
    }
}

#[test]
fn r03_another_file_of_the_same_name_is_never_taken_for_the_one_that_was_put_ahead() {
    let lab = Lab::new(1);
    let worker = lab.worker();
    for number in 0..6 {
        lab.write(number, number);
    }
    assert!(is_durable(&lab.asked(&worker, segment(0))));
    fs::remove_file(lab.mark(segment(0))).unwrap();
    (1..6).for_each(|number| lab.wait_for(segment(number)));
    // The same content in another file is verified by its digest.
    let content = fs::read(lab.path(segment(1))).unwrap();
    fs::remove_file(lab.path(segment(1))).unwrap();
    fs::write(lab.path(segment(1)), content).unwrap();
    assert!(is_durable(&lab.asked(&worker, segment(1))));
    // Other content is put, which the repository refuses.
    lab.write(2, 99);
    assert!(!is_durable(&lab.asked(&worker, segment(2))));
    let error = lab.done_without(segment(2)).unwrap_err().to_string();
    assert!(error.contains("has other content under this name"), "{error}");
    // So is a file in its place with every time that can be set at will.
    let path = lab.path(segment(3));
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::remove_file(&path).unwrap();
    lab.write(3, 99);
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert!(!is_durable(&lab.asked(&worker, segment(3))));
    assert!(is_durable(&lab.asked(&worker, segment(4))), "the next one is not affected");
}

#[test]
fn nothing_overtakes_what_could_not_be_put() {
    let lab = Lab::new(2);
    let worker = lab.worker();
    for number in 0..8 {
        lab.write(number, number);
    }
    let fault =
        Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Denied)).keys(segment(2).to_string());
    lab.faults.set_rules([fault]);
    for number in 0..2 {
        assert!(is_durable(&lab.asked(&worker, segment(number))));
        fs::remove_file(lab.mark(segment(number))).unwrap();
    }
    for _ in 0..3 {
        assert!(!is_durable(&lab.asked(&worker, segment(2))));
    }
    assert_eq!(order(&lab.memory), [segment(0).to_string(), segment(1).to_string()]);
    lab.faults.set_rules([]);
    for number in 2..8 {
        assert!(is_durable(&lab.asked(&worker, segment(number))));
        fs::remove_file(lab.mark(segment(number))).unwrap();
    }
    assert_eq!(order(&lab.memory).len(), 8);
}

#[test]
fn r05_a_clone_is_seen_for_every_file() {
    let lab = Lab::new(3);
    let worker = lab.worker();
    for number in 0..2 {
        lab.write(number, number);
    }
    fs::write(lab.folder.path().join("global/pg_control"), 5_u64.to_le_bytes()).unwrap();
    let file = segment(0);
    let stamp = lab.job(file).source.stamp;
    let request = Request { file, folder: lab.pg_wal(), stamp, timeline_ended: None };
    let Reply::DoItYourself(reason) = worker.make_durable(&request, || true) else { panic!() };
    assert!(reason.contains("another cluster's"), "{reason}");
    assert_eq!(order(&lab.memory), [""; 0]);
}

#[test]
fn a_caller_that_has_gone_is_not_waited_for_and_its_file_is_put() {
    let lab = Lab::new(4);
    let worker = lab.worker();
    let file = lab.write(0, 0);
    let slow = Rule::on(Operation::PutIfAbsent, Fault::Slow(Duration::from_secs(2))).times(1);
    lab.faults.set_rules([slow]);
    let stamp = lab.job(file).source.stamp;
    let request = Request { file, folder: lab.pg_wal(), stamp, timeline_ended: None };
    assert!(!is_durable(&worker.make_durable(&request, || false)));
    assert!(worker.is_busy());
    lab.wait_for(file);
    assert!(is_durable(&lab.asked(&worker, file)));
}

#[test]
fn several_callers_are_answered_and_other_folders_are_not() {
    let lab = Lab::new(5);
    let worker = lab.worker();
    let files: Vec<WalFile> = (0..8).map(|number| lab.write(number, number)).collect();
    let requests = files.iter().map(|file| {
        let stamp = lab.job(*file).source.stamp;
        Request { file: *file, folder: lab.pg_wal(), stamp, timeline_ended: None }
    });
    std::thread::scope(|scope| {
        let asked: Vec<_> = requests
            .map(|request| {
                let worker = &worker;
                scope.spawn(move || worker.make_durable(&request, || true))
            })
            .collect();
        for reply in asked {
            let reply = reply.join().unwrap();
            assert!(is_durable(&reply), "{reply:?}");
        }
    });
    let (file, stamp) = (files[0], lab.job(files[0]).source.stamp);
    let request = Request { file, folder: "/elsewhere".into(), stamp, timeline_ended: None };
    assert!(!is_durable(&worker.make_durable(&request, || true)));
}

#[test]
fn a_put_behind_a_gate_that_is_lost_does_not_happen() {
    let lab = Lab::new(6);
    let file = lab.write(0, 0);
    let job = lab.job(file);
    let connected = Connected::new("one".to_owned(), lab.repository(Arc::clone(&lab.faults) as _));
    let prepared = archive::prepare(&job, &[connected.repository().clone()]).unwrap().remove(0);
    let (keeper, gate) = gate();
    drop(keeper);
    let result = lab.runtime.block_on(super::uploads::put_after(&connected, prepared, Some(gate)));
    assert!(matches!(result, Err(crate::Error::NotItsTurn)));
    assert_eq!(order(&lab.memory), [""; 0]);
}

#[test]
fn r01_an_answer_that_leaves_out_a_repository_is_none() {
    let repositories = ["s3://a", "s3://b", "s3://b"].map(RepositoryConfig::from_url);
    let told = |labels: &[&str]| {
        let durable = labels.iter().map(|label| ((*label).to_owned(), true)).collect();
        super::answers(durable, &repositories)
    };
    assert_eq!(told(&["s3://b", "s3://a", "s3://b"]).unwrap().len(), 3);
    for labels in [&[][..], &["s3://a", "s3://b"], &["s3://a", "s3://b", "s3://c"]] {
        assert!(told(labels).is_err(), "{labels:?}");
    }
}

#[test]
fn r01_nothing_is_durable_that_one_repository_does_not_have() {
    let lab = Lab::new(7);
    let other = Arc::new(lab.memory.copy());
    let second = Arc::new(FaultStore::new(Arc::clone(&other) as _, 8, []));
    let worker = lab.worker_for(vec![Arc::clone(&lab.faults), Arc::clone(&second)]);
    for number in 0..8 {
        lab.write(number, number);
    }
    second.set_rules([
        Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Denied)).keys(segment(1).to_string())
    ]);
    assert!(is_durable(&lab.asked(&worker, segment(0))));
    fs::remove_file(lab.mark(segment(0))).unwrap();
    for _ in 0..3 {
        assert!(!is_durable(&lab.asked(&worker, segment(1))));
    }
    assert_eq!(order(&other), [segment(0).to_string()], "nothing comes behind a hole");
    second.set_rules([]);
    for number in 1..8 {
        let Reply::Durable(stored) = lab.asked(&worker, segment(number)) else { panic!("segment {number}") };
        assert_eq!(stored.len(), 2);
        fs::remove_file(lab.mark(segment(number))).unwrap();
        assert_eq!(order(&other)[number as usize], segment(number).to_string());
    }
    assert_eq!(order(&lab.memory), order(&other));
}

#[test]
fn so_many_segments_are_on_their_way_at_once_and_no_more() {
    let lab = Lab::new(9);
    let worker = lab.worker();
    for number in 0..20 {
        lab.write(number, number);
    }
    let slow = Rule::on(Operation::PutIfAbsent, Fault::Slow(Duration::from_secs(1)));
    lab.faults.set_rules([slow.keys(segment(0).to_string())]);
    let most = lab.cluster.archive_ahead as u64;
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| lab.asked(&worker, segment(0)));
        let mut seen = 0;
        while order(&lab.memory).is_empty() {
            let begun = lab.faults.calls(Operation::PutIfAbsent, "");
            if order(&lab.memory).is_empty() {
                seen = seen.max(begun);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(seen, most, "while the first one was on its way");
        assert!(is_durable(&asked.join().unwrap()));
    });
}

#[test]
fn a_long_backlog_is_worked_off_though_it_is_looked_at_now_and_then() {
    let lab = Lab::new(10);
    let worker = lab.worker();
    let most: u64 = 150;
    for number in 0..most {
        lab.write(number, number);
    }
    for number in 0..most {
        assert!(is_durable(&lab.asked(&worker, segment(number))), "segment {number}");
        fs::remove_file(lab.mark(segment(number))).unwrap();
        fs::remove_file(lab.path(segment(number))).unwrap();
        if number == 100 {
            // What comes first of all, though it is marked behind what was seen.
            let history = WalFile::History(TimelineId::new(2).unwrap());
            fs::write(lab.path(history), "1\t0/90000000\tx\n").unwrap();
            fs::write(lab.mark(history), "").unwrap();
            assert!(is_durable(&lab.asked(&worker, history)));
            fs::remove_file(lab.mark(history)).unwrap();
        }
    }
    let expected: Vec<String> = (0..most).map(|number| segment(number).to_string()).collect();
    let segments: Vec<String> =
        order(&lab.memory).into_iter().filter(|name| !name.ends_with(".history")).collect();
    assert_eq!(segments, expected);
}
