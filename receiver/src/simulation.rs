//! Thousands of segments without a server, into a store that fails as it likes: what was acknowledged is always there (R17), nothing
//! that is there is ever changed and nothing goes that is needed (R2), and after every end it goes on (R18).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_repository::config::RepositoryConfig;
use highwater_repository::{ClusterRepository, Codec, Repository};
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::memory::MemoryStore;
use highwater_storage::{Body, ErrorKind, Growing, Key, Listing, Put, Store};
use highwater_wal::{Check, Lsn, PgVersion, SegmentName, SegmentSize, SystemId, TimelineId, WalFile};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{advance, timeout};

use crate::engine::{Engine, Place, Taking};
use crate::error::Result;
use crate::origin::{self, Look};
use crate::packing::Packing;
use crate::progress::Policy;
use crate::target::{Repositories, Strips};

pub(crate) const SYSTEM: SystemId = SystemId(7);
/// The most bytes that come at once: more than a server sends in one message.
const MOST_AT_ONCE: u64 = 300_000;
const PAGE: u64 = 4096;

pub(crate) fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn segment_at(lsn: Lsn) -> SegmentName {
    SegmentName::containing(TimelineId::FIRST, lsn, size())
}

/// The header of the segment that begins at `start`.
fn header(start: Lsn) -> Vec<u8> {
    let mut header = Vec::with_capacity(40);
    header.extend(PgVersion::V15.page_magic().to_le_bytes());
    header.extend(2_u16.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header.extend(start.0.to_le_bytes());
    header.extend([0; 8]);
    header.extend(SYSTEM.0.to_le_bytes());
    header.extend((size().bytes() as u32).to_le_bytes());
    header.extend(8192_u32.to_le_bytes());
    header
}

/// What the server has at a place: what changes from page to page stands for records.
pub(crate) fn wal(from: Lsn, length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length as usize);
    let mut at = from.0;
    while at < from.0 + length {
        let end = (at - at % PAGE + PAGE).min(from.0 + length);
        bytes.resize((end - from.0) as usize, (at / PAGE * 131 % 251) as u8);
        at = end;
    }
    let mut start = segment_at(from).start(size());
    while start.0 < from.0 + length {
        for (at, byte) in (start.0..).zip(header(start)) {
            if (from.0..from.0 + length).contains(&at) {
                bytes[(at - from.0) as usize] = byte;
            }
        }
        start = start + size().bytes();
    }
    bytes
}

/// What lies in the store, by its names.
#[derive(Debug, Default)]
struct There {
    whole: BTreeSet<SegmentName>,
    /// By their objects; those of a strip come one by one.
    pieces: BTreeMap<SegmentName, BTreeMap<String, Vec<(u32, u32)>>>,
    /// How many pieces went into strips.
    in_strips: u64,
    /// All segments before it are there whole.
    whole_until: Lsn,
    /// The last mark.
    mark: Lsn,
}

impl There {
    fn put(&mut self, key: &str) {
        if let Some(mark) = mark_of(key) {
            assert!(mark <= self.durable(), "{mark} is marked, {} is durable", self.durable());
            self.mark = self.mark.max(mark);
            return;
        }
        match piece_of(key) {
            Some((segment, piece)) => self.add(segment, key, piece),
            None => drop(self.whole.insert(key.rsplit('/').next().unwrap().parse().unwrap())),
        }
        while self.whole.contains(&segment_at(self.whole_until)) {
            self.whole_until = segment_at(self.whole_until).end(size());
        }
    }

    fn add(&mut self, segment: SegmentName, key: &str, piece: Option<(u32, u32)>) {
        self.pieces.entry(segment).or_default().entry(key.to_owned()).or_default().extend(piece);
    }

    fn remove(&mut self, key: &str) {
        if let Some(mark) = mark_of(key) {
            assert!(mark < self.mark, "the last mark goes");
            return;
        }
        let (segment, _) = piece_of(key).expect("only pieces are ever removed");
        assert!(self.whole.contains(&segment), "{key} goes, and {segment} is not there whole");
        self.pieces.get_mut(&segment).unwrap().remove(key);
    }

    /// Up to where everything is there.
    fn durable(&self) -> Lsn {
        let mut end = self.whole_until;
        while let Some(pieces) = self.pieces.get(&segment_at(end)) {
            let start = segment_at(end).start(size());
            let before = end;
            let mut pieces: Vec<&(u32, u32)> = pieces.values().flatten().collect();
            pieces.sort();
            for (from, to) in pieces {
                if start + u64::from(*from) <= end {
                    end = end.max(start + u64::from(*to));
                }
            }
            if !end.0.is_multiple_of(size().bytes()) || end == before {
                break;
            }
        }
        end
    }
}

fn mark_of(key: &str) -> Option<Lsn> {
    let (_, mark) = key.split_once("/reached/00000001/")?;
    Some(Lsn(u64::from_str_radix(mark, 16).unwrap()))
}

/// The segment of an object with pieces, and which one it is where its name says so.
fn piece_of(key: &str) -> Option<(SegmentName, Option<(u32, u32)>)> {
    let (_, below) = key.split_once("/tail/00000001/")?;
    let (segment, piece) = below.split_once('/')?;
    if piece.starts_with("strip-") {
        return Some((segment.parse().unwrap(), None));
    }
    let (from, to) = piece.split_once('-')?;
    let number = |text| u32::from_str_radix(text, 16).unwrap();
    Some((segment.parse().unwrap(), Some((number(from), number(to)))))
}

/// A store that lets nobody remove what is needed, and tells what is there.
#[derive(Debug, Default)]
struct Watched {
    objects: MemoryStore,
    there: Arc<Mutex<There>>,
}

/// A strip of it.
#[derive(Debug)]
struct WatchedStrip {
    inner: Box<dyn Growing>,
    there: Arc<Mutex<There>>,
    key: Key,
}

#[async_trait]
impl Growing for WatchedStrip {
    async fn append(&mut self, body: Body, behind: Body) -> highwater_storage::Result<()> {
        let frame = body.to_bytes();
        self.inner.append(body, behind).await?;
        let field = |at: usize| Some(u32::from_le_bytes(*frame.get(at..)?.first_chunk()?));
        let (Some(from), Some(to), Some(length)) = (field(12), field(16), field(20)) else { return Ok(()) };
        // Half of a frame is none.
        if frame.len() >= 64 + length as usize {
            let mut there = self.there.lock().unwrap();
            let (segment, _) = piece_of(self.key.as_str()).unwrap();
            there.add(segment, self.key.as_str(), Some((from, to)));
            there.in_strips += 1;
        }
        Ok(())
    }

    fn room(&self) -> u64 {
        self.inner.room()
    }
}

impl Watched {
    fn there(&self) -> MutexGuard<'_, There> {
        self.there.lock().unwrap()
    }
}

#[async_trait]
impl Store for Watched {
    async fn put_if_absent(&self, key: &Key, body: &Body) -> highwater_storage::Result<Put> {
        let put = self.objects.put_if_absent(key, body).await?;
        self.there().put(key.as_str());
        Ok(put)
    }

    async fn grow(&self, key: &Key, bytes: u64) -> highwater_storage::Result<Option<Box<dyn Growing>>> {
        let Some(inner) = self.objects.grow(key, bytes).await? else { return Ok(None) };
        let (segment, _) = piece_of(key.as_str()).unwrap();
        self.there().add(segment, key.as_str(), None);
        Ok(Some(Box::new(WatchedStrip { inner, there: Arc::clone(&self.there), key: key.clone() })))
    }

    async fn get(&self, key: &Key) -> highwater_storage::Result<Bytes> {
        self.objects.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> highwater_storage::Result<Bytes> {
        self.objects.get_range(key, range).await
    }

    async fn size(&self, key: &Key) -> highwater_storage::Result<u64> {
        self.objects.size(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        folders: bool,
    ) -> highwater_storage::Result<Listing> {
        self.objects.list(prefix, after, folders).await
    }

    async fn delete(&self, key: &Key) -> highwater_storage::Result<()> {
        self.there().remove(key.as_str());
        self.objects.delete(key).await
    }

    fn url(&self) -> String {
        self.objects.url()
    }
}

/// A few of a hundred calls fail, in every way there is.
fn faults() -> Vec<Rule> {
    use Operation::{Append, Delete, Get, GetRange, Grow, List, PutIfAbsent, Size};
    let slow = |operation| Rule::on(operation, Fault::Slow(Duration::from_millis(300))).probability(0.05);
    let before = |operation| Rule::on(operation, Fault::Before(ErrorKind::Unavailable)).probability(0.01);
    let mut rules = vec![
        Rule::on(PutIfAbsent, Fault::After(ErrorKind::TimedOut)).probability(0.02),
        Rule::on(PutIfAbsent, Fault::Conflict).probability(0.01),
        Rule::on(PutIfAbsent, Fault::Precondition).probability(0.01),
        Rule::on(PutIfAbsent, Fault::Before(ErrorKind::NoSpace)).probability(0.01),
        Rule::on(Grow, Fault::After(ErrorKind::TimedOut)).probability(0.02),
        Rule::on(Append, Fault::After(ErrorKind::TimedOut)).probability(0.02),
        Rule::on(Append, Fault::CutOff).probability(0.02),
        Rule::on(Delete, Fault::After(ErrorKind::TimedOut)).probability(0.02),
        Rule::on(Get, Fault::CutOff).probability(0.01),
        Rule::on(GetRange, Fault::CutOff).probability(0.01),
        Rule::on(Get, Fault::WrongBytes).probability(0.01),
    ];
    rules.extend(
        [PutIfAbsent, Grow, Append, Delete, Get, GetRange, List, Size]
            .into_iter()
            .flat_map(|operation| [slow(operation), before(operation)]),
    );
    rules
}

/// What a receiver that starts finds.
pub(crate) async fn look(cluster: &ClusterRepository, position: Lsn) -> Result<Place> {
    let timeline = TimelineId::FIRST;
    let look = Look { size: size(), check: Check::Header, until: position };
    let kept = origin::kept(cluster, timeline, look).await?;
    let place = origin::place(&[(timeline, None, kept)], size());
    let begin = place.map_or(Lsn(0), |(_, begin, _)| begin);
    origin::place_on(std::slice::from_ref(cluster), timeline, begin, look).await
}

struct Simulation {
    store: Arc<Watched>,
    faulty: Arc<FaultStore>,
    cluster: ClusterRepository,
    policy: Policy,
    random: StdRng,
    end: Lsn,
    acknowledged: Lsn,
}

impl Simulation {
    fn new(seed: u64, segments: u64, policy: Policy) -> Simulation {
        let store = Arc::new(Watched::default());
        let faulty = Arc::new(FaultStore::new(store.clone(), seed, faults()));
        // Zstandard's checksums are quick in a build for tests, too.
        let mut config = RepositoryConfig::from_url("memory");
        (config.compression, config.threads) = (Codec::Zstd, 1);
        let repository = Repository::with_store(faulty.clone(), &config).unwrap();
        let cluster = repository.cluster(&"main".parse().unwrap(), SYSTEM);
        let end = Lsn(segments * size().bytes() + 12_345);
        let random = StdRng::seed_from_u64(!seed);
        Simulation { store, faulty, cluster, policy, random, end, acknowledged: Lsn(0) }
    }

    /// One life of the receiver: until a call fails, it is killed, or all is there.
    async fn live(&mut self) -> Result<()> {
        let place = look(&self.cluster, self.end).await?;
        let taking = Taking { size: size(), system_id: SYSTEM, check: Check::Header, policy: self.policy };
        let target = Repositories {
            clusters: vec![self.cluster.clone()],
            size: size(),
            system_id: SYSTEM,
            check: Check::Header,
            damaged: place.damaged.clone(),
            strips: Strips::default(),
            whole: Arc::default(),
            packing: Packing::in_place(),
        };
        let mut engine = Engine::new(taking, Arc::new(target), place);
        loop {
            let at = engine.progress().received();
            if engine.has_room() && at < self.end {
                let length = self.random.random_range(1..MOST_AT_ONCE).min(self.end.bytes_since(at));
                engine.receive(at, &wal(at, length))?;
            }
            if self.random.random_range(0..20) == 0 || at == self.end {
                engine.flush_now();
            }
            advance(Duration::from_millis(self.random.random_range(0..400))).await;
            engine.begin_puts();
            if at == self.end && engine.is_settled() {
                return Ok(());
            }
            let patience = Duration::from_millis(self.random.random_range(0..60));
            let result = timeout(patience, engine.finished()).await;
            // Looked at before the failure is acted upon: what was said to the server cannot be taken back.
            self.check(engine.progress().acknowledged());
            match result {
                Ok(Err(error)) if self.random.random_range(0..2) == 0 => {
                    engine.let_end().await;
                    return Err(error);
                }
                // Killed: what was on its way may arrive after the next life has begun.
                Ok(Err(error)) => return Err(error),
                _ if self.random.random_range(0..400) == 0 => return Ok(()),
                _ => {}
            }
        }
    }

    fn check(&mut self, acknowledged: Option<Lsn>) {
        self.acknowledged = self.acknowledged.max(acknowledged.unwrap_or(Lsn(0)));
        let durable = self.store.there().durable();
        assert!(self.acknowledged <= durable, "{} was acknowledged, {durable} is durable", self.acknowledged);
    }

    async fn run(mut self, segments: u64) {
        let mut lives = 0;
        while self.store.there().durable() < self.end {
            lives += 1;
            assert!(lives < 100 * segments, "it does not get on");
            // What failed is tried again by the next life.
            let _ = self.live().await;
            self.check(None);
        }
        assert!(self.faulty.given() > segments / 20 && lives > segments / 100, "nothing has failed");
        // Nothing on the way is left that could come later.
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.faulty.set_rules([]);
        assert_eq!(self.store.there().whole_until.0, segments * size().bytes());
        assert!(self.store.there().mark > Lsn(0), "nothing was marked");
        let in_strips = self.store.there().in_strips;
        assert_eq!(self.policy.synchronous, in_strips > segments, "{in_strips} pieces in strips");
        for number in (0..segments).step_by(5) {
            let start = Lsn(number * size().bytes());
            let object = self.cluster.get_wal(WalFile::Segment(segment_at(start))).await.unwrap();
            assert!(object.bytes == wal(start, size().bytes()), "segment {number} is not the server's");
        }
        let rest = self.cluster.get_segment(segment_at(self.end), size(), None).await.unwrap();
        let start = segment_at(self.end).start(size());
        assert_eq!(rest.bytes[..12_345], wal(start, 12_345));
    }
}

#[tokio::test(start_paused = true)]
async fn r17_r18_seven_thousand_segments_under_a_store_that_fails() {
    Simulation::new(1, 7000, Policy { flush_bytes: 400_000, ..Policy::default() }).run(7000).await;
}

#[tokio::test(start_paused = true)]
async fn r17_r18_three_thousand_segments_of_a_synchronous_stream_under_a_store_that_fails() {
    Simulation::new(2, 3000, Policy { synchronous: true, ..Policy::default() }).run(3000).await;
}
