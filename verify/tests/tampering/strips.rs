//! Whatever is done to a strip: `verify --deep` says so.

use std::sync::Arc;

use highwater_repository::{ClusterRepository, KeyPair, Repository, RepositoryConfig, TailPiece};
use highwater_storage::memory::{MemoryStore, Objects};
use highwater_verify::{Options, Report, Weight, verify};
use highwater_wal::{SegmentName, SegmentSize, SystemId, TimelineId};

const BOUNDS: [(u32, u32); 3] = [(0, 40), (40, 300), (300, 301)];
/// Of the zeros behind the frames so many are looked at.
const ZEROS: usize = 70;

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn segment() -> SegmentName {
    SegmentName::from_number(TimelineId::FIRST, 1, size())
}

fn cluster(config: &RepositoryConfig, objects: Objects) -> (ClusterRepository, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::of(objects));
    let repository = Repository::with_store(store.clone(), config).unwrap();
    (repository.cluster(&"main".parse().unwrap(), SystemId(7)), store)
}

/// A repository with nothing but a strip, and a mark of how far it went.
async fn made(config: &RepositoryConfig) -> Objects {
    let (cluster, store) = cluster(config, Objects::new());
    cluster.repository().make_or_join().await.unwrap();
    let _ = cluster.register(size(), 15).await.unwrap();
    let mut strip = cluster.begin_strip(segment()).await.unwrap().unwrap();
    for (from, to) in BOUNDS {
        let piece = TailPiece::new(segment(), from, to);
        let bytes: Vec<u8> = (from..to).map(|at| at as u8).collect();
        assert!(strip.put(piece, size(), &bytes[..], None).await.unwrap());
    }
    cluster.mark_reached(TimelineId::FIRST, segment().start(size()) + 301).await.unwrap();
    store.objects().clone()
}

async fn looked(config: &RepositoryConfig, objects: &Objects, key: &str, strip: Vec<u8>) -> Report {
    let (cluster, store) = cluster(config, objects.clone());
    store.spoil(key, strip);
    verify(&cluster, &Options::deep(), &()).await.unwrap()
}

#[tokio::test]
async fn r07_every_byte_of_a_strip_is_looked_at_and_every_cut_that_takes_something() {
    let folder = tempfile::tempdir().unwrap();
    let mut encrypted = RepositoryConfig::from_url("memory");
    let (pair, path) = (KeyPair::generate(), folder.path().join("identity.txt"));
    pair.write_identity_file(&path).unwrap();
    encrypted.encrypt_to.push(pair.recipient().to_owned());
    encrypted.identity_file = Some(path);
    for config in [RepositoryConfig::from_url("memory"), encrypted] {
        let objects = made(&config).await;
        let key = objects.keys().find(|key| key.contains("strip-")).unwrap().clone();
        let whole = objects[&key].to_vec();
        let report = looked(&config, &objects, &key, whole.clone()).await;
        assert!(report.is_well() && report.findings.is_empty(), "{:#?}", report.findings);
        let places = (0..whole.len()).step_by(64);
        let frames: Vec<usize> = places.filter(|at| whole[*at..].starts_with(b"HWSTRIP1")).collect();
        assert_eq!(frames.len(), 6);

        let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for at in (0..end).step_by(3).chain(frames.clone()).chain(end..end + ZEROS) {
            let mut spoilt = whole.clone();
            spoilt[at] ^= 1 << (at % 8);
            let findings = looked(&config, &objects, &key, spoilt).await.findings;
            let is_told = findings.iter().any(|finding| {
                // Behind the last piece nothing was acknowledged.
                let is_as_bad = (finding.weight == Weight::Damage) == (at < frames[5]);
                is_as_bad && (finding.object == key || finding.what.contains(&key))
            });
            assert!(is_told, "byte {at}: {findings:#?}");
        }
        let is_damaged = |report: &Report, what: &str| {
            let mut damage = report
                .findings
                .iter()
                .filter(|finding| finding.weight == Weight::Damage && finding.object == key);
            damage.any(|finding| finding.what.contains(what))
        };
        let cuts = (0..end + ZEROS).step_by(7).chain(frames.iter().copied()).chain([whole.len() - 1]);
        for cut in cuts {
            let report = looked(&config, &objects, &key, whole[..cut].to_vec()).await;
            let what = format!("it is {cut} bytes long and should be 4194304");
            assert!(is_damaged(&report, &what), "cut at {cut}: {:#?}", report.findings);
        }
        for from in frames {
            let mut spoilt = whole.clone();
            spoilt[from..].iter_mut().for_each(|byte| *byte = !*byte);
            let report = looked(&config, &objects, &key, spoilt).await;
            assert!(
                is_damaged(&report, &format!("the frame at byte {from} ")),
                "{from}: {:#?}",
                report.findings
            );
        }
    }
}
