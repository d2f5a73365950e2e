//! What a verification has found damaged of the WAL, and who does not build on it; and segments that are there in pieces.

use std::sync::LazyLock;

use bytes::Bytes;
use highwater_catalog::{Catalog, Plan, PlanError, Request, Target, Window};
use highwater_repository::{ClusterRepository, TailPiece, WalObject};
use highwater_storage::memory::Objects;
use highwater_verify::{Options, Report, verify};
use highwater_wal::{SegmentName, SegmentSize, TimelineId, WalFile};

use crate::again::runtime;
use crate::made::{Kind, Left, Made};

/// More rows than a segment holds, so that records run over borders.
const ROWS: u32 = 20_000;

/// A repository, made once for these tests.
static MADE: LazyLock<Made> = LazyLock::new(|| {
    let left = Left::by_a_server_that_wrote(ROWS);
    runtime().block_on(Made::of(&left, Kind::Lz4))
});

fn made() -> &'static Made {
    &MADE
}

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// The segments of the first timeline that are behind its last backup, in order.
async fn behind_backups(cluster: &ClusterRepository) -> Vec<SegmentName> {
    let catalog = Catalog::open(cluster.clone()).await.unwrap();
    let inventory = catalog.inventory();
    let first = inventory.backups.last().unwrap().stop.0 / size().bytes() + 1;
    let set = inventory.segments_on(TimelineId::FIRST).unwrap();
    set.within(first..=u64::MAX)
        .map(|number| SegmentName::from_number(TimelineId::FIRST, number, size()))
        .collect()
}

fn key(cluster: &ClusterRepository, segment: SegmentName) -> String {
    cluster.section().wal(WalFile::Segment(segment)).to_string()
}

/// The same objects with another content of a segment, which is as it was put: its summary tells of what it held before.
async fn put_otherwise(objects: &Objects, segment: SegmentName, spoil: impl Fn(&mut Vec<u8>)) -> Objects {
    let mut objects = objects.clone();
    let (cluster, _) = made().cluster(objects.clone());
    let WalObject { head, mut bytes } = cluster.prove_wal(WalFile::Segment(segment)).await.unwrap();
    spoil(&mut bytes);
    objects.remove(&key(&cluster, segment));
    let (cluster, store) = made().cluster(objects);
    cluster.put_wal(WalFile::Segment(segment), &bytes, head.summary).await.unwrap();
    store.objects().clone()
}

/// Verifies all of it; answers the objects then.
async fn verified(objects: Objects) -> (Report, Objects) {
    let (cluster, store) = made().cluster(objects);
    let report = verify(&cluster, &Options::deep(), &()).await.unwrap();
    (report, store.objects().clone())
}

async fn latest(objects: &Objects) -> Result<Plan, PlanError> {
    let (cluster, _) = made().cluster(objects.clone());
    let on_the_first = Request { timeline: Some(TimelineId::FIRST), ..Request::new(Target::Latest) };
    Catalog::open(cluster).await.unwrap().plan(&on_the_first).await
}

/// Verifies what is new; answers whether nothing is damaged, and the objects then.
async fn since_last(objects: Objects) -> (bool, Objects) {
    let (cluster, store) = made().cluster(objects);
    let options = Options { since_last: true, ..Options::deep() };
    let report = verify(&cluster, &options, &()).await.unwrap();
    (report.is_well(), store.objects().clone())
}

/// The last window of the first timeline.
async fn window(objects: &Objects) -> Window {
    let (cluster, _) = made().cluster(objects.clone());
    let branches = Catalog::open(cluster).await.unwrap().windows().await.unwrap().branches;
    branches.into_iter().find(|branch| branch.timeline == TimelineId::FIRST).unwrap().windows.pop().unwrap()
}

#[test]
fn r12_wal_that_a_verification_found_damaged_is_built_on_only_when_it_was_mended() {
    let sound = &made().objects;
    runtime().block_on(damaged_then_mended(sound));
}

async fn damaged_then_mended(sound: &Objects) {
    let (cluster, _) = made().cluster(sound.clone());
    let behind = behind_backups(&cluster).await;
    assert!(latest(sound).await.is_ok());
    let whole = window(sound).await;
    // A record inside a segment, and one that runs over its end: the segment behind it shows that.
    let runs_over = async |segment: &SegmentName| {
        let head = cluster.wal_head(WalFile::Segment(*segment)).await.unwrap();
        head.summary.unwrap().unfinished.is_some_and(|unfinished| unfinished.lsn.is_some())
    };
    let mut over = None;
    for pair in behind.windows(2) {
        if over.is_none() && runs_over(&pair[0]).await {
            over = Some((pair[0], pair[1]));
        }
    }
    let (before, across) = over.unwrap();
    for (spoilt, found, at) in
        [(before, before, size().bytes() as usize / 4), (before, across, size().bytes() as usize - 1)]
    {
        let objects = put_otherwise(sound, spoilt, |bytes| bytes[at] ^= 1).await;
        let (report, objects) = verified(objects).await;
        let told = report.findings.iter().find(|finding| finding.object == key(&cluster, found));
        assert!(told.is_some_and(|finding| finding.what.contains("offset")), "{:#?}", report.findings);

        match latest(&objects).await {
            Err(PlanError::Repository(error)) => {
                assert!(error.to_string().contains(&key(&cluster, found)), "{error}")
            }
            other => panic!("{other:#?}"),
        }
        let cut = window(&objects).await;
        assert_eq!(cut.until, found.start(size()));
        assert!(cut.hole_after.is_none_or(|hole| hole.first == found));

        // It is brought back: nobody has to verify before it is believed. When somebody has, nothing is remembered.
        let mut mended = objects.clone();
        mended.insert(key(&cluster, spoilt), sound[&key(&cluster, spoilt)].clone());
        assert!(latest(&mended).await.is_ok());
        assert_eq!(window(&mended).await, whole);
        let (again, mended) = verified(mended).await;
        assert!(again.is_well(), "{:#?}", again.findings);
        let (cluster, _) = made().cluster(mended);
        assert!(cluster.last_verification().await.unwrap().wal.is_empty());
        let (cluster, _) = made().cluster(objects);
        assert!(
            cluster.last_verification().await.unwrap().wal.contains(TimelineId::FIRST, found.number(size()))
        );
    }
}

#[test]
fn r19_what_was_found_damaged_is_no_news_and_is_looked_at_all_the_same() {
    let sound = &made().objects;
    runtime().block_on(found_damaged_after_it_was_proven(sound));
}

async fn found_damaged_after_it_was_proven(sound: &Objects) {
    let (cluster, _) = made().cluster(sound.clone());
    let segment = behind_backups(&cluster).await[0];
    let (report, proven) = verified(sound.clone()).await;
    assert!(report.is_well(), "{:#?}", report.findings);
    let spoilt = put_otherwise(&proven, segment, |bytes| bytes[100] ^= 1).await;
    let (report, objects) = verified(spoilt).await;
    assert!(!report.is_well());
    let (is_well, mut objects) = since_last(objects).await;
    assert!(!is_well, "it is damaged still, although nothing is new");
    objects.insert(key(&cluster, segment), sound[&key(&cluster, segment)].clone());
    let (is_well, objects) = since_last(objects).await;
    assert!(is_well);
    let (cluster, _) = made().cluster(objects);
    assert!(cluster.last_verification().await.unwrap().wal.is_empty(), "it was read and found right");
}

#[test]
fn r19_a_backup_that_was_found_damaged_is_read_again_until_it_is_mended() {
    runtime().block_on(a_damaged_backup_is_remembered(&made().objects));
}

async fn a_damaged_backup_is_remembered(sound: &Objects) {
    let (report, proven) = verified(sound.clone()).await;
    assert!(report.is_well(), "{:#?}", report.findings);
    let pack =
        proven.keys().filter(|key| key.contains("/packs/")).max_by_key(|key| proven[*key].len()).unwrap();
    let mut spoilt = proven.clone();
    let mut bytes = proven[pack].to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    spoilt.insert(pack.clone(), Bytes::from(bytes));
    let (report, objects) = verified(spoilt).await;
    assert!(!report.is_well());
    // A listing sees nothing of it, and must not say that all is well.
    let (cluster, store) = made().cluster(objects);
    let listing = Options { deep: false, ..Options::deep() };
    let report = verify(&cluster, &listing, &()).await.unwrap();
    assert!(!report.is_well());
    assert!(report.findings.iter().any(|finding| finding.what.contains("not read since")), "{report:#?}");
    let objects = store.objects().clone();
    let (is_well, mut objects) = since_last(objects).await;
    assert!(!is_well, "it is damaged still, although nothing is new");
    objects.insert(pack.clone(), sound[pack].clone());
    let (is_well, objects) = since_last(objects).await;
    assert!(is_well, "it was read again");
    let (cluster, _) = made().cluster(objects);
    assert!(cluster.last_verification().await.unwrap().damage.is_empty());
}

#[test]
fn r19_pieces_that_make_up_a_segment_are_that_segment() {
    let sound = &made().objects;
    runtime().block_on(in_pieces(sound));
}

async fn in_pieces(sound: &Objects) {
    let (cluster, _) = made().cluster(sound.clone());
    let segment = behind_backups(&cluster).await[0];
    let WalObject { bytes, .. } = cluster.prove_wal(WalFile::Segment(segment)).await.unwrap();
    let whole = bytes.len() as u32;
    for (until, is_whole) in [(whole, true), (whole - 8192, false)] {
        let mut objects = sound.clone();
        objects.remove(&key(&cluster, segment));
        let (cluster, store) = made().cluster(objects);
        for (from, to) in [(0, whole / 2), (whole / 2, until)] {
            let piece = TailPiece::new(segment, from, to);
            let content = Bytes::copy_from_slice(&bytes[from as usize..to as usize]);
            cluster.put_tail(piece, size(), &content[..], None).await.unwrap();
        }
        let objects = store.objects().clone();
        let (report, _) = verified(objects).await;
        let is_missing = report.findings.iter().any(|finding| finding.object == key(&cluster, segment));
        assert_eq!(is_missing, !is_whole, "{until}: {:#?}", report.findings);
        assert_eq!(report.is_well(), is_whole, "{until}: {:#?}", report.findings);
    }
}
