//! A small repository with one of everything, out of a real server's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_repository::manifest::{Entry, File, Folder, PostgresBackup, Totals};
use highwater_repository::{
    ClusterRepository, Codec, Compression, DatabaseNames, EntryPath, Event, ExtentCompressor, KeyPair,
    ManifestHead, ManifestWriter, NamesWriter, Outcome, PackLimits, PackWriter, RelationName, Repository,
    RepositoryConfig, Run,
};
use highwater_storage::memory::{MemoryStore, Objects};
use highwater_tests::{Postgres, Scratch, StopMode, give_to_server_account};
use highwater_wal::{
    Check, Lsn, SegmentKind, SegmentSize, SystemId, TimelineId, Timestamp, WalFile, check_segment,
};

/// Files of the data directory that are backed up: what is small, and has pages.
const FILES: [&str; 9] = [
    "PG_VERSION",
    "base/1/1259",
    "base/1/1247",
    "base/1/2619",
    "base/1/2619_fsm",
    "base/1/2619_vm",
    "base/1/PG_VERSION",
    "global/1262",
    "global/pg_control",
];

/// What a server has left: its archive, its files, where its backups began and ended.
pub struct Left {
    _scratch: Scratch,
    pub archive: PathBuf,
    pub data: PathBuf,
    pub system_id: SystemId,
    pub backups: Vec<(Lsn, Lsn)>,
}

impl Left {
    /// A server with two backups and a second timeline.
    pub fn by_a_server() -> Left {
        Left::by_a_server_that_wrote(500)
    }

    /// The same with so many rows behind the backups.
    pub fn by_a_server_that_wrote(rows: u32) -> Left {
        let scratch = Scratch::new();
        let archive = scratch.join("archive");
        fs::create_dir(&archive).unwrap();
        give_to_server_account(&archive);
        let command = format!("cp %p {}/%f", archive.display());
        let server = Postgres::builder().wal_segment_size_mb(1).setting("archive_mode", "on").start();
        server.configure("archive_command", &command);
        server.sql("create table t (n int, text text)");
        let mut backups = Vec::new();
        for round in 0..2 {
            let mut session = server.session();
            let start = one(&session.rows("select pg_backup_start('made', true)"));
            server.sql(&format!(
                "insert into t select n, md5(n::text) from generate_series({round}, {round} + 500) n"
            ));
            let stop = one(&session.rows("select lsn from pg_backup_stop(false)"));
            backups.push((start.parse().unwrap(), stop.parse().unwrap()));
            server.archive_now();
        }
        server.sql(&format!("insert into t select n, md5(n::text) from generate_series(1, {rows}) n"));
        server.archive_now();
        server.sql("checkpoint");
        server.sql("insert into t values (7, 'on the first timeline')");
        let data = scratch.join("data");
        server.copy_to(&data);
        let system_id = server.value("select system_identifier from pg_control_system()").parse().unwrap();
        server.configure("restore_command", "false");
        server.stop(StopMode::Fast);
        fs::write(server.data_dir().join("recovery.signal"), "").unwrap();
        give_to_server_account(&server.data_dir().join("recovery.signal"));
        server.start_again().unwrap();
        server.wait_until_recovered().unwrap();
        server.sql("insert into t select n, md5(n::text) from generate_series(1, 500) n");
        server.archive_now();
        server.archive_now();
        server.stop(StopMode::Fast);
        Left { _scratch: scratch, archive, data, system_id, backups }
    }
}

fn one(rows: &highwater_tests::Rows) -> String {
    rows[0][0].clone().unwrap()
}

/// How objects are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Lz4,
    Zstd,
    Encrypted,
}

/// A repository's objects, and how to read them.
pub struct Made {
    pub objects: Objects,
    pub config: RepositoryConfig,
    pub system_id: SystemId,
    _folder: tempfile::TempDir,
}

impl Made {
    pub async fn of(left: &Left, kind: Kind) -> Made {
        let folder = tempfile::tempdir().unwrap();
        let mut config = RepositoryConfig::from_url("memory");
        if kind == Kind::Zstd {
            config.compression = Codec::Zstd;
        }
        if kind == Kind::Encrypted {
            let pair = KeyPair::generate();
            let path = folder.path().join("identity.txt");
            pair.write_identity_file(&path).unwrap();
            config.encrypt_to.push(pair.recipient().to_owned());
            config.identity_file = Some(path);
        }
        let store = Arc::new(MemoryStore::default());
        let repository = Repository::with_store(store.clone(), &config).unwrap();
        repository.make_or_join().await.unwrap();
        let cluster = repository.cluster(&"main".parse().unwrap(), left.system_id);
        let size = SegmentSize::new(1 << 20).unwrap();
        let _ = cluster.register(size, 15).await.unwrap();
        let mut files: Vec<PathBuf> =
            fs::read_dir(&left.archive).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for path in files {
            archive(&cluster, &path, size).await;
        }
        let mut kept = Vec::new();
        for (number, (start, stop)) in left.backups.iter().enumerate() {
            back_up(&cluster, &left.data, number, (*start, *stop), &mut kept).await;
        }
        names(&cluster, &left.backups).await;
        repository.note(&Event::new("init", None, Outcome::Done)).await.unwrap();
        repository
            .note(&Event::new("backup", Some(cluster.name()), Outcome::Done).with("label", "second"))
            .await
            .unwrap();
        Made { objects: store.objects().clone(), config, system_id: left.system_id, _folder: folder }
    }

    /// The cluster in a repository of these objects.
    pub fn cluster(&self, objects: Objects) -> (ClusterRepository, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::of(objects));
        let repository = Repository::with_store(store.clone(), &self.config).unwrap();
        (repository.cluster(&"main".parse().unwrap(), self.system_id), store)
    }
}

/// Names of relations.
async fn names(cluster: &ClusterRepository, backups: &[(Lsn, Lsn)]) {
    let mut names = NamesWriter::new().unwrap();
    let database = DatabaseNames { oid: 5, name: "postgres".to_owned(), tablespace: 1663, unreadable: None };
    names.database(&database).unwrap();
    for number in 0..20 {
        let relation = RelationName {
            oid: 16384 + number,
            file: 16384 + number,
            tablespace: 1663,
            schema: "public".to_owned(),
            name: format!("table_{number}"),
            kind: 'r',
            persistence: 'p',
            table: None,
            partition_of: None,
        };
        names.relation(&relation).unwrap();
    }
    let (lsn, until) = backups[0];
    cluster
        .put_names(&names.finish(Timestamp(1), TimelineId::FIRST, lsn, until, false).unwrap())
        .await
        .unwrap();
}

async fn archive(cluster: &ClusterRepository, path: &Path, size: SegmentSize) {
    let file: WalFile = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let bytes = fs::read(path).unwrap();
    let check =
        |name, kind| check_segment(name, size, Some(cluster.system_id()), &bytes, Check::Full, kind).unwrap();
    let summary = match file {
        WalFile::Segment(name) => Some(check(name, SegmentKind::Complete)),
        WalFile::Partial(name) => Some(check(name, SegmentKind::Partial)),
        _ => None,
    };
    cluster.put_wal(file, &bytes, summary).await.unwrap();
}

/// The second backup takes over what the first one stored, but for one file.
async fn back_up(
    cluster: &ClusterRepository,
    data: &Path,
    number: usize,
    (start, stop): (Lsn, Lsn),
    kept: &mut Vec<(String, Vec<Run>)>,
) {
    let label = ["first", "second"][number].parse().unwrap();
    let backups = cluster.backups();
    backups.start(&label).await.unwrap();
    let compression: Compression = cluster.repository().compression();
    let mut compressor = ExtentCompressor::new(&compression).unwrap();
    let mut packs = PackWriter::new(&backups, PackLimits { target_bytes: 20 << 10, uploads: 1 });
    let mut manifest = ManifestWriter::new(&backups, &label).unwrap();
    for folder in ["base", "base/1", "global"] {
        let path = EntryPath::new(folder).unwrap();
        manifest.add(&Entry::Folder(Folder { path, mode: 0o700 })).await.unwrap();
    }
    for name in FILES {
        let content = fs::read(data.join(name)).unwrap();
        let before = kept.iter().find(|(kept, _)| kept == name && name != "base/1/1247");
        let runs = match before {
            Some((_, runs)) => runs.clone(),
            None => {
                let mut runs = Vec::new();
                for extent in content.chunks(32 << 10) {
                    if extent.iter().all(|byte| *byte == 0) {
                        Run::push_zeros(&mut runs, extent.len() as u64);
                    } else {
                        let compressed = compressor.compress(extent).unwrap();
                        Run::push(&mut runs, packs.add(&compressed).await.unwrap());
                    }
                }
                kept.push((name.to_owned(), runs.clone()));
                runs
            }
        };
        let file = File {
            path: EntryPath::new(name).unwrap(),
            mode: 0o600,
            size: content.len() as u64,
            mtime: 0,
            crc32c: Some(crc32c::crc32c(&content)),
        };
        manifest.add(&Entry::File(file, runs)).await.unwrap();
    }
    packs.finish().await.unwrap();
    let timeline = TimelineId::FIRST;
    let head = ManifestHead {
        version: ManifestHead::VERSION,
        label,
        host: "here".to_owned(),
        program: "a test".to_owned(),
        begun_at: Timestamp(1),
        finished_at: Timestamp(2),
        parent: None,
        totals: Totals::default(),
        parts: Vec::new(),
        postgres: Some(PostgresBackup {
            system_id: cluster.system_id(),
            server_version: 150_006,
            segment_size: SegmentSize::new(1 << 20).unwrap(),
            timeline,
            start_lsn: start,
            checkpoint_lsn: start,
            start_time: Timestamp(1),
            stop_timeline: timeline,
            stop_lsn: stop,
            stop_time: Timestamp(number as i64 + 2),
            from_standby: false,
            tablespaces: Vec::new(),
        }),
    };
    manifest.finish(head).await.unwrap();
}
