//! A made-up archive in a folder: as many segments as wanted on three timelines, each with a real summary, and a body only where a
//! plan reads records.
//!
//! Timeline 1 begins with segment 1. Timeline 2 leaves it and timeline 3 leaves timeline 2, each some segments before the
//! parent's end, as when an old primary goes on for a while. On timelines 1 and 2 each segment has commits; the last tenth of
//! timeline 3 is idle. Segment n tells of the ten seconds from `time_of(n)` on, and of transactions from `xid_of(n)` on.

use std::path::{Path, PathBuf};

use highwater_repository::manifest::{PostgresBackup, Totals};
use highwater_repository::{
    Archived, ClusterRepository, Codec, Digest, ManifestHead, ManifestWriter, Plain, Repository,
    RepositoryConfig, WalHead,
};
use highwater_wal::{
    Check, CheckpointPoint, CommitPoint, Lsn, PgVersion, SegmentKind, SegmentName, SegmentSize, Summary,
    SystemId, TimelineId, Timestamp, Unfinished, WalFile, check_segment,
};

pub const SYSTEM: SystemId = SystemId(7_000_000_000_000_000_007);
/// One segment of so many was archived when summaries did not tell of dropped tablespaces.
const OLD_EVERY: u64 = 1000;
/// Segments that a parent timeline goes on for behind a fork.
const BESIDE: u64 = 40;
/// Seconds that a segment tells of.
const SECONDS: i64 = 10;
/// Transactions in a segment.
const XIDS: u32 = 100;
/// Every so many borders the record that runs over it is a commit.
const COMMITS_OVER_BORDERS: u64 = 50;

/// One timeline of the archive.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub timeline: TimelineId,
    /// The numbers of its first and last segment.
    pub first: u64,
    pub last: u64,
}

#[derive(Clone, Debug)]
pub struct Archive {
    pub folder: PathBuf,
    pub size: SegmentSize,
    pub stretches: [Stretch; 3],
    /// The first segment of timeline 3 without commits.
    pub idle_from: u64,
    /// Segments between two backups.
    pub backup_every: u64,
}

pub fn time_of(number: u64) -> Timestamp {
    Timestamp(number as i64 * SECONDS * 1_000_000)
}

pub fn xid_of(number: u64) -> u32 {
    1000 + number as u32 * XIDS
}

/// The commits of a segment that has a body: seconds behind its time, and the transaction.
pub const COMMITS: [(i64, u32); 4] = [(1, 0), (3, 1), (5, 2), (7, 3)];

/// A restore point in every segment that has a body on timeline 2; in the WAL that a plan reads, in one of them.
pub const POINT: &str = "before_migration";

/// The transaction of [`COMMITS`] that drops a table, in every segment that has a body on timeline 2, and the table's file.
pub const DROP: u32 = 2;
const DROPPED: [u32; 3] = [1663, 5, 16_400];

fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

impl Archive {
    /// An archive of so many segments below `folder`, not made yet.
    pub fn new(folder: &Path, segments: u64, size: SegmentSize, backup_every: u64) -> Archive {
        let (one, two) = (segments / 2, segments / 10 * 3);
        let second = one - BESIDE;
        let third = second + two - BESIDE;
        let last = third + segments - one - two - 1;
        let stretch = |number, first, last| Stretch { timeline: tli(number), first, last };
        Archive {
            folder: folder.to_owned(),
            size,
            stretches: [stretch(1, 1, one), stretch(2, second, second + two - 1), stretch(3, third, last)],
            idle_from: last - segments / 10,
            backup_every,
        }
    }

    pub fn name(&self, timeline: u32, number: u64) -> SegmentName {
        SegmentName::from_number(tli(timeline), number, self.size)
    }

    /// Whether a segment has a body: the middle of each timeline, its end, the last with commits, the end of the last backup.
    pub fn has_body(&self, stretch: &Stretch, number: u64) -> bool {
        number == stretch.last
            || number == self.middle(stretch)
            || (stretch.timeline == tli(3) && number + 1 == self.idle_from)
            || (stretch.timeline == tli(3) && number == self.last_backup(stretch) + 1)
    }

    /// The number of the segment that the last backup of a timeline starts in.
    fn last_backup(&self, stretch: &Stretch) -> u64 {
        let behind = stretch.last - stretch.first - 5;
        stretch.first + behind / self.backup_every * self.backup_every + 1
    }

    /// A segment of a timeline in whose records a plan can stop.
    pub fn middle(&self, stretch: &Stretch) -> u64 {
        let middle = stretch.first + (stretch.last - stretch.first) / 2;
        // Some way behind a backup, as the usual target is.
        middle / self.backup_every * self.backup_every + self.backup_every / 2
    }

    pub fn config(&self) -> RepositoryConfig {
        let mut config = RepositoryConfig::from_url(format!("file://{}", self.folder.display()));
        config.compression = Codec::Zstd;
        config
    }

    pub fn cluster(&self, repository: &Repository) -> ClusterRepository {
        repository.cluster(&"main".parse().unwrap(), SYSTEM)
    }

    /// Makes it. Segments' objects are written as files, without a sync for each.
    pub async fn make(&self) {
        let (repository, _) = Repository::init(&self.config()).await.unwrap();
        let cluster = self.cluster(&repository);
        let (_, put) = cluster.register(self.size, 15).await.unwrap();
        assert_eq!(put, highwater_storage::Put::Created, "the folder held an archive");
        for stretch in &self.stretches {
            self.make_timeline(&cluster, stretch).await;
        }
        for (child, parent) in [(1, 0), (2, 1)] {
            let mut history = String::new();
            for (stretch, behind) in self.stretches[..=parent].iter().zip(&self.stretches[1..=child]) {
                let fork = Lsn(behind.first * self.size.bytes() + 0x2000);
                history += &format!("{}\t{fork}\tno recovery target specified\n", stretch.timeline);
            }
            let file = WalFile::History(self.stretches[child].timeline);
            cluster.put_wal(file, history.as_bytes(), None).await.unwrap();
        }
    }

    async fn make_timeline(&self, cluster: &ClusterRepository, stretch: &Stretch) {
        let folder = self.folder.join(cluster.section().wal_of(stretch.timeline));
        std::fs::create_dir_all(&folder).unwrap();
        for number in stretch.first..=stretch.last {
            let name = self.name(stretch.timeline.get(), number);
            if self.has_body(stretch, number) {
                let bytes = body(self.size, name, number);
                let summary =
                    check_segment(name, self.size, Some(SYSTEM), &bytes, Check::Full, SegmentKind::Complete);
                let put = cluster.put_wal(WalFile::Segment(name), &bytes, Some(summary.unwrap())).await;
                put.unwrap();
            } else {
                std::fs::write(folder.join(name.to_string()), self.head_object(stretch, number)).unwrap();
            }
            let behind = stretch.last - stretch.first;
            if (number - stretch.first).is_multiple_of(self.backup_every)
                && number - stretch.first + 4 < behind
            {
                self.make_backup(cluster, stretch.timeline, number + 1).await;
            }
        }
    }

    /// A backup that starts in a segment and ends in the next one.
    async fn make_backup(&self, cluster: &ClusterRepository, timeline: TimelineId, number: u64) {
        let label = format!("b-{timeline}-{number:09}").parse().unwrap();
        let backups = cluster.backups();
        backups.start(&label).await.unwrap();
        let start = Lsn(number * self.size.bytes() + 0x28);
        let postgres = PostgresBackup {
            system_id: SYSTEM,
            server_version: 150_006,
            segment_size: self.size,
            timeline,
            start_lsn: start,
            checkpoint_lsn: start + 0x38,
            start_time: time_of(number),
            stop_timeline: timeline,
            stop_lsn: start + self.size.bytes(),
            stop_time: time_of(number + 2),
            from_standby: false,
            tablespaces: Vec::new(),
        };
        let head = ManifestHead {
            version: ManifestHead::VERSION,
            label: label.clone(),
            host: "db1".to_owned(),
            program: "made up".to_owned(),
            begun_at: time_of(number),
            finished_at: time_of(number + 2),
            parent: None,
            totals: Totals::default(),
            parts: Vec::new(),
            postgres: Some(postgres),
        };
        ManifestWriter::new(&backups, &label).unwrap().finish(head).await.unwrap();
    }

    /// The object of a segment without a body.
    fn head_object(&self, stretch: &Stretch, number: u64) -> Vec<u8> {
        let name = self.name(stretch.timeline.get(), number);
        let digest = Digest::of(name.to_string().as_bytes());
        let mut summary = self.summary(stretch, number);
        summary.digest = digest.to_string();
        let head = WalHead {
            version: WalHead::VERSION,
            file: WalFile::Segment(name),
            plain: Plain { length: self.size.bytes(), digest },
            archived: Archived {
                host: "db1".to_owned(),
                time: time_of(number + 1),
                program: "made up".to_owned(),
                written: Some(time_of(number + 1)),
            },
            summary: Some(summary),
            received: None,
        };
        // A skippable frame: docs/FORMAT.md.
        let json = serde_json::to_vec(&head).unwrap();
        let mut object = 0x184D_2A50_u32.to_le_bytes().to_vec();
        object.extend((json.len() as u32 + 65).to_le_bytes());
        object.extend(&json);
        object.push(b'\n');
        object.extend(Digest::of(&json).to_string().as_bytes());
        object
    }

    /// What the segment before `number` on its path is: a segment that has a body ends with a switch, so nothing runs on.
    fn runs_on(&self, stretch: &Stretch, number: u64) -> bool {
        let last = stretch.last;
        (stretch.first..last).contains(&number)
            && !self.has_body(stretch, number)
            && !self.has_body(stretch, number + 1)
            // Where a timeline leaves its parent its first segment goes on as the parent's does.
            && self.stretches.iter().all(|other| other.first != number + 1)
    }

    fn summary(&self, stretch: &Stretch, number: u64) -> Summary {
        let name = self.name(stretch.timeline.get(), number);
        let (start, end) = (name.start(self.size), name.end(self.size));
        let mut summary = Summary::new(name, self.size, SYSTEM, PgVersion::V15.page_magic(), 0);
        if number % OLD_EVERY == 3 {
            summary.version = 2;
        }
        summary.first_record = Some(start + 0x60);
        summary.last_record = Some(Lsn(end.0 - 0x100));
        summary.end = Some(end);
        summary.records = 150_000;
        if number > stretch.first && self.runs_on(stretch, number - 1) {
            summary.continued = 84;
            summary.runs_in = hex(&over_border(number - 1)[16..64]);
        }
        if self.runs_on(stretch, number) {
            summary.unfinished = Some(Unfinished { lsn: Some(Lsn(end.0 - 16)), remaining: 84 });
            summary.runs_out = hex(&over_border(number)[..16]);
            summary.end = Some(Lsn(end.0 - 16));
        }
        if number.is_multiple_of(20) {
            summary.checkpoints.push(CheckpointPoint {
                lsn: start + 0x1000,
                redo: start + 0x800,
                time: time_of(number),
                timeline: stretch.timeline,
                shutdown: false,
            });
        }
        if stretch.timeline == tli(3) && number >= self.idle_from {
            return summary;
        }
        let commit = |offset: u64, second: i64, xid: u32| CommitPoint {
            lsn: start + offset,
            end: start + offset + 0x28,
            time: Timestamp(time_of(number).0 + second * 1_000_000),
            xid,
        };
        let (first, last) = (xid_of(number), xid_of(number) + XIDS - 2);
        summary.commits = u64::from(XIDS) - 1;
        summary.first_commit = Some(commit(0x100, 0, first));
        summary.last_commit = Some(commit(0x10_0000 - 0x100, SECONDS - 1, last));
        summary.min_time = summary.first_commit.map(|commit| commit.time);
        summary.max_time = summary.last_commit.map(|commit| commit.time);
        (summary.min_xid, summary.max_xid) = (Some(first), Some(last));
        summary
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first bytes of the record that runs over the end of a segment: a commit now and then.
fn over_border(number: u64) -> [u8; 64] {
    let is_commit = number.is_multiple_of(COMMITS_OVER_BORDERS);
    let time = Timestamp(time_of(number).0 + (SECONDS - 1) * 1_000_000);
    let mut record = [0; 64];
    let xid = xid_of(number) + XIDS - 1;
    record[..4].copy_from_slice(&100_u32.to_le_bytes());
    record[4..8].copy_from_slice(&xid.to_le_bytes());
    // The resource manager: Transaction or Heap.
    record[17] = if is_commit { 1 } else { 10 };
    record[24..26].copy_from_slice(&[255, 74]);
    record[26..34].copy_from_slice(&time.0.to_le_bytes());
    record
}

/// A segment with the records of [`COMMITS`] and a switch: a page that is written and zeros.
fn body(size: SegmentSize, name: SegmentName, number: u64) -> Vec<u8> {
    let start = name.start(size);
    let mut bytes = Vec::with_capacity(size.bytes() as usize);
    bytes.extend(PgVersion::V15.page_magic().to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(name.timeline.get().to_le_bytes());
    bytes.extend(start.0.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(SYSTEM.0.to_le_bytes());
    bytes.extend((size.bytes() as u32).to_le_bytes());
    bytes.extend(8192_u32.to_le_bytes());
    let mut previous = Lsn(start.0 - 64);
    let mut add = |manager: u8, info: u8, xid: u32, body: &[u8]| {
        let lsn = start + bytes.len() as u64;
        let mut header = (24 + body.len() as u32).to_le_bytes().to_vec();
        header.extend(xid.to_le_bytes());
        header.extend(previous.0.to_le_bytes());
        header.extend([info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &header);
        bytes.extend(header);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        previous = lsn;
    };
    // Who is running: nobody, so that all that ends here began here.
    let next = xid_of(number);
    let running = [0, 0, 0, next, next, next - 1];
    let main: Vec<u8> =
        [255, 24].into_iter().chain(running.iter().flat_map(|number: &u32| number.to_le_bytes())).collect();
    add(8, 0x10, 0, &main);
    for (second, xid) in COMMITS {
        if name.timeline == tli(2) && second == 7 {
            let mut main = vec![255, 72];
            main.extend((time_of(number).0 + 6_000_000).to_le_bytes());
            main.extend(POINT.as_bytes());
            main.resize(2 + 72, 0);
            add(0, 0x70, 0, &main);
        }
        let time = (time_of(number).0 + second * 1_000_000).to_le_bytes();
        if name.timeline == tli(2) && xid == DROP {
            // What it tells beside the time: its database and tablespace, and the file that goes.
            let [tablespace, database, file] = DROPPED;
            let more = [1 | 4, database, tablespace, 1, tablespace, database, file];
            let mut main = vec![255, 36];
            main.extend(time);
            main.extend(more.iter().flat_map(|number| number.to_le_bytes()));
            add(1, 0x80, xid_of(number) + xid, &main);
            continue;
        }
        let mut main = vec![255, 8];
        main.extend(time);
        add(1, 0, xid_of(number) + xid, &main);
    }
    add(0, 0x40, 0, &[]);
    bytes.resize(size.bytes() as usize, 0);
    bytes
}
