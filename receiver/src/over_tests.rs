//! Gaps in a repository: found in front of what is received, and over when they are filled or a base backup lies behind them.

use std::sync::Arc;

use highwater_catalog::{Gap, Path};
use highwater_repository::config::RepositoryConfig;
use highwater_repository::manifest::{PostgresBackup, Totals};
use highwater_repository::{
    ClusterRepository, Event, ManifestHead, ManifestWriter, Outcome, Repository, TailPiece,
};
use highwater_storage::memory::MemoryStore;
use highwater_wal::{
    Check, Lsn, SegmentKind, SegmentName, TimelineHistory, TimelineId, Timestamp, WalFile, check_segment,
};

use crate::over::{Outlook, Over};
use crate::presence::gap_before;
use crate::simulation::{SYSTEM, size, wal};

const SEGMENT: u64 = 1 << 20;

fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn segment(timeline: u32, number: u64) -> SegmentName {
    SegmentName::from_number(tli(timeline), number, size())
}

fn cluster() -> ClusterRepository {
    let store = Arc::new(MemoryStore::default());
    let repository = Repository::with_store(store, &RepositoryConfig::from_url("memory")).unwrap();
    repository.cluster(&"main".parse().unwrap(), SYSTEM)
}

async fn put_whole(cluster: &ClusterRepository, timeline: u32, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let name = segment(timeline, number);
        let bytes = wal(name.start(size()), SEGMENT);
        let name_on_first = segment(1, number);
        let checked =
            check_segment(name_on_first, size(), Some(SYSTEM), &bytes, Check::Header, SegmentKind::Complete);
        cluster.put_wal(WalFile::Segment(name), &bytes, Some(checked.unwrap())).await.unwrap();
    }
}

async fn put_piece(cluster: &ClusterRepository, timeline: u32, number: u64, to: u32) {
    let name = segment(timeline, number);
    let bytes = wal(name.start(size()), u64::from(to));
    cluster.put_tail(TailPiece::new(name, 0, to), size(), bytes.as_slice(), None).await.unwrap();
}

/// A backup from the middle of one segment to the middle of the next; answers its id.
async fn back_up(cluster: &ClusterRepository, label: &str, number: u64) -> String {
    let backups = cluster.backups();
    let started = backups.start(&label.parse().unwrap()).await.unwrap();
    let start = Lsn(number * SEGMENT + SEGMENT / 2);
    let head = ManifestHead {
        version: ManifestHead::VERSION,
        label: started.label.clone(),
        host: "h".to_owned(),
        program: "p".to_owned(),
        begun_at: Timestamp(1),
        finished_at: Timestamp(2),
        parent: None,
        totals: Totals::default(),
        parts: Vec::new(),
        postgres: Some(PostgresBackup {
            system_id: SYSTEM,
            server_version: 150_006,
            segment_size: size(),
            timeline: tli(1),
            start_lsn: start,
            checkpoint_lsn: start,
            start_time: Timestamp(1),
            stop_timeline: tli(1),
            stop_lsn: start + SEGMENT,
            stop_time: Timestamp(2),
            from_standby: false,
            tablespaces: Vec::new(),
        }),
    };
    let writer = ManifestWriter::new(&backups, &started.label).unwrap();
    writer.finish(head).await.unwrap().id()
}

/// Timeline 2 has left the first in the middle of segment 7.
fn second() -> Path {
    let text = format!("1\t{}\tx\n", Lsn(7 * SEGMENT + SEGMENT / 2));
    Path::from_history(&TimelineHistory::parse(tli(2), &text).unwrap())
}

fn gap(timeline: u32, from: u64, to: u64) -> Gap {
    Gap { timeline: tli(timeline), from: Lsn(from), to: Lsn(to) }
}

#[tokio::test]
async fn what_is_missing_in_front_of_the_place_where_it_begins_is_found() {
    let found = async |cluster: &ClusterRepository, path: &Path, begin: u64| {
        gap_before(cluster, path, Lsn(begin * SEGMENT), size()).await.unwrap()
    };
    let (first, one) = (Path::root(tli(1)), cluster());
    assert_eq!(found(&one, &first, 9).await, None, "the archive begins there");
    put_whole(&one, 1, [3, 4, 5]).await;
    for (begin, expected) in [(0, None), (3, None), (6, None), (7, Some(6)), (9, Some(6)), (5000, Some(6))] {
        let expected = expected.map(|from: u64| gap(1, from * SEGMENT, begin * SEGMENT));
        assert_eq!(found(&one, &first, begin).await, expected, "{begin}");
    }
    // Whole ones behind it, which came another way, are no WAL in front of it.
    put_whole(&one, 1, [12, 13]).await;
    assert_eq!(found(&one, &first, 9).await, Some(gap(1, 6 * SEGMENT, 9 * SEGMENT)));
    put_piece(&one, 1, 6, 700).await;
    assert_eq!(found(&one, &first, 9).await, Some(gap(1, 6 * SEGMENT + 700, 9 * SEGMENT)));
    assert_eq!(found(&one, &first, 7).await, Some(gap(1, 6 * SEGMENT + 700, 7 * SEGMENT)));
    put_piece(&one, 1, 6, SEGMENT as u32).await;
    assert_eq!(found(&one, &first, 7).await, None, "it is there in pieces");

    // So is what lies in front of whole segments: of several gaps the last.
    let several = cluster();
    put_whole(&several, 1, [1, 3, 4, 8]).await;
    for (begin, expected) in [(2, None), (4, Some((2, 3))), (8, Some((5, 8))), (9, Some((5, 8)))] {
        let expected = expected.map(|(from, to)| gap(1, from * SEGMENT, to * SEGMENT));
        assert_eq!(found(&several, &first, begin).await, expected, "{begin}");
    }

    let second = second();
    assert_eq!(found(&one, &second, 7).await, None);
    assert_eq!(found(&one, &second, 9).await, Some(gap(1, 7 * SEGMENT, 9 * SEGMENT)));
    put_whole(&one, 2, [7]).await;
    assert_eq!(found(&one, &second, 8).await, None);
    assert_eq!(found(&one, &second, 9).await, Some(gap(2, 8 * SEGMENT, 9 * SEGMENT)));
}

#[tokio::test]
async fn an_alarm_is_over_when_what_was_missing_is_in_every_repository() {
    let (one, two) = (cluster(), cluster());
    let mut outlook = Outlook::new(vec![one.clone(), two.clone()], Path::root(tli(1)), size());
    let gaps =
        [gap(1, 4 * SEGMENT + 300, 7 * SEGMENT), gap(1, 6 * SEGMENT, 6 * SEGMENT + 500), gap(2, 0, SEGMENT)];
    let mut over = async || -> Vec<Gap> {
        let over = outlook.over(&gaps).await.unwrap();
        assert!(over.iter().all(|(_, why)| *why == Over::Filled), "{over:?}");
        over.into_iter().map(|(gap, _)| gap).collect()
    };
    put_piece(&one, 1, 4, 300).await;
    put_whole(&one, 1, [5, 6]).await;
    put_whole(&two, 1, [4, 5]).await;
    assert_eq!(over().await, []);
    put_piece(&two, 1, 6, 499).await;
    assert_eq!(over().await, []);
    put_piece(&two, 1, 6, 500).await;
    assert_eq!(over().await, gaps[1..2]);
    put_whole(&one, 1, [4]).await;
    assert_eq!(over().await, gaps[1..2]);
    put_whole(&two, 1, [6]).await;
    assert_eq!(over().await, gaps[..2], "and of a timeline that the server was never on nobody can tell");
}

#[tokio::test]
async fn an_alarm_that_runs_over_a_fork_is_over_by_what_lies_on_the_way() {
    let cluster = cluster();
    let mut outlook = Outlook::new(vec![cluster.clone()], second(), size());
    let gaps = [gap(1, 6 * SEGMENT, 9 * SEGMENT), gap(1, 8 * SEGMENT, 9 * SEGMENT)];
    put_whole(&cluster, 1, [6, 7]).await;
    put_whole(&cluster, 2, [8]).await;
    assert_eq!(outlook.over(&gaps).await.unwrap(), []);
    put_whole(&cluster, 2, [7]).await;
    // What the first timeline had behind the fork is not what the second has there.
    assert_eq!(outlook.over(&gaps).await.unwrap(), [(gaps[0], Over::Filled)]);
}

#[tokio::test]
async fn an_alarm_is_over_when_a_sound_backup_lies_behind_the_loss() {
    let cluster = cluster();
    let mut outlook = Outlook::new(vec![cluster.clone()], Path::root(tli(1)), size());
    let gaps = [gap(1, 4 * SEGMENT + 300, 7 * SEGMENT)];
    let mut over = async || outlook.over(&gaps).await.unwrap();
    back_up(&cluster, "before", 6).await;
    assert_eq!(over().await, []);
    let behind = back_up(&cluster, "behind", 7).await;
    let answered = |label: &str| [(gaps[0], Over::Answered(label.to_owned()))];
    assert_eq!(over().await, answered("behind"));
    // A verification finds it damaged.
    let damage = serde_json::json!({
        behind: { "found_at": Timestamp(3), "deep": true, "in_packs": true, "object": "packs/00/1", "what": "a bit" }
    });
    let event = Event::new("verify", None, Outcome::Failed)
        .with("system_id", SYSTEM.to_string())
        .with("damaged_backups", damage);
    cluster.repository().note(&event).await.unwrap();
    assert_eq!(over().await, []);
    back_up(&cluster, "later", 9).await;
    assert_eq!(over().await, answered("later"));
    // It is to go.
    let label = "later".parse().unwrap();
    cluster.backups().mark_expired(&label, Timestamp(4), "no rule keeps it").await.unwrap();
    assert_eq!(over().await, []);
}
