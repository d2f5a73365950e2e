//! A repository with a backup of a folder in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_catalog::{Backup, Plan, Replay, Request, Stop, Target};
use highwater_repository::manifest::{Entry, File, Folder, Link, PostgresBackup, Tablespace, Totals};
use highwater_repository::{
    Backups, ClusterRepository, Codec, EntryPath, ExtentCompressor, KeyPair, Label, ManifestHead,
    ManifestWriter, PackLimits, PackWriter, Repository, RepositoryConfig, Run,
};
use highwater_restore::{Error, Options, Report, RestoreCommand, Silent, restore};
use highwater_storage::faults::{FaultStore, Rule};
use highwater_wal::{Lsn, SegmentSize, SystemId, TimelineId, Timestamp};

/// Packs are small, so that there are several of them.
const PACK_BYTES: u64 = 256 << 10;
const EXTENT_BYTES: usize = 128 << 10;

/// Of every cluster that is made up.
pub const SYSTEM_ID: SystemId = SystemId(7_301_927_410_293);
/// Its tablespace.
pub const TABLESPACE: u32 = 16385;

/// What a backup is of, beside the files.
#[derive(Debug, Clone)]
pub struct Facts {
    pub system_id: SystemId,
    pub server_version: u32,
    pub start: Lsn,
    pub stop: Lsn,
    pub tablespaces: Vec<Tablespace>,
}

/// A repository in a folder, behind a store that can be made to fail.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub faults: Arc<FaultStore>,
    pub repository: Repository,
}

impl Home {
    pub async fn new(codec: Codec, encrypted: bool) -> Home {
        let folder = tempfile::tempdir().unwrap();
        let mut config = RepositoryConfig::from_url(format!("file://{}/repository", folder.path().display()));
        config.compression = codec;
        if encrypted {
            let pair = KeyPair::generate();
            let file = folder.path().join("identity.txt");
            pair.write_identity_file(&file).unwrap();
            config.encrypt_to = vec![pair.recipient().to_owned()];
            config.identity_file = Some(file);
        }
        let store = highwater_storage::create(&config.store).unwrap();
        let faults = Arc::new(FaultStore::new(store, 1, []));
        let repository = Repository::with_store(faults.clone(), &config).unwrap();
        repository.make_or_join().await.unwrap();
        Home { folder, faults, repository }
    }

    /// From now on the store fails like this.
    pub fn fail(&self, rules: impl IntoIterator<Item = Rule>) {
        self.faults.set_rules(rules);
    }

    /// A path beside the repository.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn cluster(&self, system_id: SystemId) -> ClusterRepository {
        self.repository.cluster(&"main".parse().unwrap(), system_id)
    }

    /// Stores a data directory as a backup.
    pub async fn back_up(&self, data: &Path, facts: &Facts) -> Kept {
        let cluster = self.cluster(facts.system_id);
        let _ = cluster.register(SegmentSize::DEFAULT, facts.server_version / 10_000).await.unwrap();
        let backups = cluster.backups();
        let label: Label = "daily".parse().unwrap();
        backups.start(&label).await.unwrap();
        let mut packer = Packer::new(&backups, &label);
        packer.folder(data, "", &facts.tablespaces).await;
        packer.packs.finish().await.unwrap();
        let head = packer.manifest.finish(head(&label, facts)).await.unwrap();
        let plan = plan(&head);
        Kept { cluster, plan }
    }
}

/// A backup in a repository, and a plan that starts from it.
pub struct Kept {
    pub cluster: ClusterRepository,
    pub plan: Plan,
}

impl Kept {
    pub async fn restore(&self, options: &Options) -> Result<Report, Error> {
        restore(&self.cluster, &self.plan, options, &Silent).await
    }
}

struct Packer {
    compressor: ExtentCompressor,
    packs: PackWriter,
    manifest: ManifestWriter,
}

impl Packer {
    fn new(backups: &Backups, label: &Label) -> Packer {
        let compression = backups.repository().compression();
        Packer {
            compressor: ExtentCompressor::new(&compression).unwrap(),
            packs: PackWriter::new(backups, PackLimits { target_bytes: PACK_BYTES, uploads: 2 }),
            manifest: ManifestWriter::new(backups, label).unwrap(),
        }
    }

    async fn folder(&mut self, folder: &Path, below: &str, tablespaces: &[Tablespace]) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let (path, facts) = (entry.path(), entry.metadata().unwrap());
            let name = [below.as_bytes(), entry.file_name().as_bytes()].concat();
            let inside = EntryPath::new(&name).unwrap();
            let mode = (facts.mode() & 0o7777) as u16;
            if facts.is_symlink() {
                let target = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
                self.manifest.add(&Entry::Link(Link { path: inside.clone(), target })).await.unwrap();
                let oid = tablespaces
                    .iter()
                    .find(|tablespace| name.ends_with(tablespace.oid.to_string().as_bytes()));
                let location = oid.map(|tablespace| PathBuf::from(&tablespace.location));
                if let Some(location) = location {
                    Box::pin(self.folder(&location, &format!("{inside}/"), &[])).await;
                }
            } else if facts.is_dir() {
                self.manifest.add(&Entry::Folder(Folder { path: inside.clone(), mode })).await.unwrap();
                Box::pin(self.folder(&path, &format!("{inside}/"), tablespaces)).await;
            } else if name != b"backup_manifest" {
                self.file(&path, inside, mode).await;
            }
        }
    }

    async fn file(&mut self, from: &Path, path: EntryPath, mode: u16) {
        let content = fs::read(from).unwrap();
        let mut runs = Vec::new();
        for extent in content.chunks(EXTENT_BYTES) {
            if extent.iter().all(|byte| *byte == 0) {
                Run::push_zeros(&mut runs, extent.len() as u64);
            } else {
                let compressed = self.compressor.compress(extent).unwrap();
                Run::push(&mut runs, self.packs.add(&compressed).await.unwrap());
            }
        }
        let (size, crc32c) = (content.len() as u64, Some(crc32c::crc32c(&content)));
        self.manifest.add(&Entry::File(File { path, mode, size, mtime: 0, crc32c }, runs)).await.unwrap();
    }
}

fn head(label: &Label, facts: &Facts) -> ManifestHead {
    ManifestHead {
        version: ManifestHead::VERSION,
        label: label.clone(),
        host: "here".to_owned(),
        program: "a test".to_owned(),
        begun_at: Timestamp(1),
        finished_at: Timestamp(2),
        parent: None,
        totals: Totals::default(),
        parts: Vec::new(),
        postgres: Some(PostgresBackup {
            system_id: facts.system_id,
            server_version: facts.server_version,
            segment_size: SegmentSize::DEFAULT,
            timeline: TimelineId::FIRST,
            start_lsn: facts.start,
            checkpoint_lsn: facts.start,
            start_time: Timestamp(1),
            stop_timeline: TimelineId::FIRST,
            stop_lsn: facts.stop,
            stop_time: Timestamp(2),
            from_standby: false,
            tablespaces: facts.tablespaces.clone(),
        }),
    }
}

fn plan(head: &ManifestHead) -> Plan {
    let facts = head.postgres.as_ref().unwrap();
    Plan {
        request: Request::new(Target::Latest),
        timeline: TimelineId::FIRST,
        path: Vec::new(),
        steps: Vec::new(),
        backup: Backup {
            label: head.label.to_string(),
            timeline: facts.stop_timeline,
            start: facts.start_lsn,
            stop: facts.stop_lsn,
            start_time: facts.start_time,
            stop_time: facts.stop_time,
            size_bytes: head.totals.bytes,
            stored_bytes: head.totals.stored_bytes,
            parent: None,
            id: String::new(),
        },
        wal: Vec::new(),
        segments: 1,
        wal_bytes: 16 << 20,
        replay: Replay { from: Lsn(0), to: Lsn(0), bytes: 0 },
        stop: Stop::Consistent,
        last_before: None,
        first_after: None,
        clock: None,
        in_pieces: None,
        hole_behind: None,
        notes: Vec::new(),
    }
}

/// A data directory that no server has made, with one of everything.
pub struct MadeUp {
    pub folder: tempfile::TempDir,
    pub facts: Facts,
}

impl MadeUp {
    pub fn new() -> MadeUp {
        let folder = tempfile::tempdir().unwrap();
        let space = folder.path().join("space");
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join("data").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("PG_VERSION", b"15\n");
        write(
            "backup_label",
            b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 1\n",
        );
        write("global/pg_control", &[&SYSTEM_ID.0.to_le_bytes()[..], &noise(288, 9), &[0; 7896]].concat());
        write("postgresql.conf", b"port = 5432\n");
        write("postgresql.auto.conf", b"# Do not edit!\nwork_mem = '8MB'\nrestore_command = 'old'\n");
        for (number, size) in
            [0, 1, 8192, 131_072, 131_073, 300_000, 1_500_000, 40, 8192, 700_000].into_iter().enumerate()
        {
            write(&format!("base/5/{}", 16384 + number), &noise(size, number as u32));
        }
        write("base/5/zeros", &[0; 400_000]);
        write("base/5/hole", &[&noise(131_072, 77)[..], &[0; 262_144], &noise(10, 78)].concat());
        write("base/5/zero-tail", &[&noise(131_072, 79)[..], &[0; 200_000]].concat());
        fs::write(folder.path().join("data/base/5").join(OsStr::from_bytes(b"no\xfftext")), "x").unwrap();
        for stale in [
            "postmaster.pid",
            "standby.signal",
            "tablespace_map",
            "highwater.clone",
            "pg_wal/000000010000000000000001",
        ] {
            write(stale, b"stale");
        }
        fs::create_dir_all(folder.path().join("data/pg_wal/archive_status")).unwrap();
        fs::create_dir_all(folder.path().join("data/pg_tblspc")).unwrap();
        fs::create_dir_all(space.join("PG_15_202209061/5")).unwrap();
        fs::write(space.join("PG_15_202209061/5/17000"), noise(200_000, 99)).unwrap();
        symlink(&space, folder.path().join(format!("data/pg_tblspc/{TABLESPACE}"))).unwrap();
        let tablespaces = vec![Tablespace { oid: TABLESPACE, location: space.display().to_string() }];
        let (start, stop) = (Lsn(0x0200_0028), Lsn(0x0200_0100));
        let facts = Facts { system_id: SYSTEM_ID, server_version: 150_006, start, stop, tablespaces };
        MadeUp { folder, facts }
    }

    /// The same with so many files that not all are on their way at a time.
    pub fn large() -> MadeUp {
        let made_up = MadeUp::new();
        for number in 0..60 {
            fs::write(
                made_up.data().join(format!("base/5/{}", 20000 + number)),
                noise(200_000, 1000 + number),
            )
            .unwrap();
        }
        made_up
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The original tablespace's folder.
    pub fn space(&self) -> PathBuf {
        self.folder.path().join("space")
    }
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Options that map the made-up tablespace beside `target`.
pub fn options(made_up: &MadeUp, target: &Path) -> Options {
    let none: [&str; 0] = [];
    let mut options = Options::new(target, RestoreCommand::new("/bin/false", none).unwrap());
    let mapping = format!("{}={}", made_up.space().display(), target.with_extension("space").display());
    options.tablespaces.push(mapping.parse().unwrap());
    options
}

/// Every file below a folder, by its path, links not followed; folders with `None`.
pub fn tree(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            let facts = fs::symlink_metadata(&path).unwrap();
            let content = match () {
                () if facts.is_dir() => {
                    folders.push(path);
                    None
                }
                () if facts.is_symlink() => {
                    Some(fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
                }
                () => Some(fs::read(&path).unwrap()),
            };
            found.insert(name, content);
        }
    }
    found
}

/// Asserts that a restore of the made-up cluster into `target` is whole.
pub fn assert_whole(made_up: &MadeUp, target: &Path) {
    let mut expected = tree(&made_up.data());
    let mut found = tree(target);
    for stale in ["postmaster.pid", "standby.signal", "tablespace_map", "pg_wal/000000010000000000000001"] {
        expected.remove(stale);
    }
    let space = target.with_extension("space");
    let link = format!("pg_tblspc/{TABLESPACE}");
    expected.insert(link, Some(space.clone().into_os_string().into_encoded_bytes()));
    for ours in ["highwater.clone", "postgresql.auto.conf", "recovery.signal"] {
        expected.remove(ours);
        assert!(found.remove(ours).is_some(), "{ours} is missing");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected, "contents differ");
    assert!(tree(&space) == tree(&made_up.space()), "the tablespace's contents differ");
}
