//! An index changes no answer, whatever becomes of it.

use std::ops::ControlFlow;

use highwater_catalog::{
    Catalog, LogFilter, LogItem, LogProgress, LogQuery, LogSink, Plan, PlanError, Request, Target,
    Unreachable,
};
use highwater_repository::Indexed;
use highwater_wal::{Lsn, SegmentName, TimelineId, WalFile};

use super::Site;

/// The holes that the log tells.
#[derive(Default)]
struct Told {
    holes: Vec<(SegmentName, SegmentName)>,
}

impl LogSink for Told {
    fn item(&mut self, item: LogItem) -> ControlFlow<()> {
        if let LogItem::Hole(hole) = item {
            self.holes.push((hole.first, hole.last));
        }
        ControlFlow::Continue(())
    }

    fn progress(&mut self, _: &LogProgress) {}
}

async fn answers(site: &Site, catalog: &mut Catalog) -> Vec<(&'static str, Result<Plan, String>)> {
    let mut answers = Vec::new();
    for (what, request) in site.requests() {
        let answer = match catalog.plan(&request).await {
            Ok(plan) => Ok(plan),
            Err(PlanError::Unreachable(reason)) => Err(reason.to_string()),
            Err(PlanError::Repository(error)) => panic!("{what}: {error}"),
        };
        answers.push((what, answer));
    }
    answers
}

#[tokio::test]
async fn every_answer_is_the_same_with_an_index_and_without() {
    let site = Site::new(3000, 400).await;
    let (mut plain, _) = site.open().await;
    assert!(plain.unindexed_logs() >= 8);
    let without = answers(&site, &mut plain).await;
    let windows = plain.windows().await.unwrap().branches;
    assert!(without.iter().filter(|(_, answer)| answer.is_ok()).count() >= 9, "{without:#?}");

    // By now the questions have led through some whole logs, which are indexed. Here the rest follows.
    let (mut maker, _) = site.open().await;
    assert!(maker.unindexed_logs() < plain.unindexed_logs());
    maker.index_logs(usize::MAX, |_| {}).await.unwrap();
    let (mut indexed, _) = site.open().await;
    assert_eq!(indexed.unindexed_logs(), 0);
    assert_eq!(
        indexed.inventory().segments_on(TimelineId::FIRST),
        plain.inventory().segments_on(TimelineId::FIRST)
    );
    assert_eq!(answers(&site, &mut indexed).await, without);
    assert_eq!(indexed.windows().await.unwrap().branches, windows);
    assert_eq!(indexed.index_notes(), [""; 0]);
}

#[tokio::test]
async fn a_damaged_index_object_is_passed_over_and_named() {
    let site = Site::new(1500, 400).await;
    let (mut plain, _) = site.open().await;
    plain.index_logs(usize::MAX, |_| {}).await.unwrap();
    let without = answers(&site, &mut plain).await;
    let cluster = plain.cluster().clone();
    let key = cluster.section().index(TimelineId::FIRST, 1);
    let path = site.archive.folder.join(key.as_str());
    let whole = std::fs::read(&path).unwrap();
    for spoil in [
        |bytes: &mut Vec<u8>| bytes[100] ^= 1,
        |bytes: &mut Vec<u8>| {
            bytes.truncate(60);
        },
    ] {
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let (mut catalog, _) = site.open().await;
        let stripped = |answers: Vec<(&'static str, Result<Plan, String>)>| -> Vec<_> {
            let without_notes = |plan: Plan| Plan { notes: Vec::new(), ..plan };
            answers.into_iter().map(|(what, answer)| (what, answer.map(without_notes))).collect()
        };
        assert_eq!(stripped(answers(&site, &mut catalog).await), stripped(without.clone()));
        assert!(
            catalog.index_notes().iter().any(|note| note.contains(key.as_str())),
            "{:?}",
            catalog.index_notes()
        );
    }
}

#[tokio::test]
async fn r12_an_index_that_speaks_of_a_segment_that_is_gone_proves_nothing() {
    let site = Site::new(1500, 400).await;
    let (mut catalog, _) = site.open().await;
    catalog.index_logs(usize::MAX, |_| {}).await.unwrap();
    let (_, request) = site.requests().into_iter().find(|(what, _)| *what == "a time on timeline 1").unwrap();
    let plan = catalog.plan(&request).await.unwrap();
    let gone = plan.wal[0].first.next(site.archive.size);
    let cluster = catalog.cluster().clone();
    let key = cluster.section().wal(WalFile::Segment(gone));
    std::fs::remove_file(site.archive.folder.join(key.as_str())).unwrap();
    let (mut catalog, _) = site.open().await;
    assert!(catalog.inventory().has(gone), "the index still says so");
    let answer = catalog.plan(&request).await;
    match answer {
        Ok(other) => {
            assert_ne!(other.backup, plan.backup, "an older backup cannot lead over the hole either")
        }
        Err(error) => assert!(error.to_string().contains(&gone.to_string()), "{error}"),
    }
    assert!(!catalog.inventory().has(gone));
    assert_eq!(catalog.index_notes().len(), 1, "{:?}", catalog.index_notes());

    let (mut catalog, _) = site.open().await;
    let branches = catalog.windows().await.unwrap().branches;
    for branch in &branches {
        let tells = |reason: &str| reason.contains(&gone.to_string());
        assert!(branch.broken.iter().any(|broken| tells(&broken.reason)), "{branch:#?}");
        assert_ne!(branch.windows[0].backups[0], plan.backup.label);
    }

    // The log calls it what it is, too: nothing in it is damaged.
    let size = site.archive.size;
    let filter = LogFilter { from: Some(gone.start(size)), to: Some(gone.end(size)), ..LogFilter::default() };
    let (mut other, _) = site.open().await;
    let mut told = Told::default();
    let query = LogQuery { filter, timeline: Some(gone.timeline) };
    let report = other.what_happened(&query, &mut told).await.unwrap();
    assert_eq!((told.holes, report.holes, report.damaged), (vec![(gone, gone)], 1, 0));
    assert_eq!(catalog.index_notes().len(), 1, "{:?}", catalog.index_notes());
}

#[tokio::test]
async fn r22_behind_an_index_object_that_cannot_be_read_a_missing_segment_is_a_hole() {
    let site = Site::new(1500, 400).await;
    let (mut catalog, _) = site.open().await;
    catalog.index_logs(usize::MAX, |_| {}).await.unwrap();
    let (_, request) = site.requests().into_iter().find(|(what, _)| *what == "a time on timeline 1").unwrap();
    let gone = catalog.plan(&request).await.unwrap().wal[0].first.next(site.archive.size);
    let section = catalog.cluster().section();
    let path = |key: String| site.archive.folder.join(key);
    let index = path(section.index(gone.timeline, gone.log).to_string());
    std::fs::remove_file(path(section.wal(WalFile::Segment(gone)).to_string())).unwrap();
    let size = site.archive.size;
    let mut all = Vec::new();
    for content in [None, Some(&b""[..]), Some(b"no index")] {
        std::fs::remove_file(&index).ok();
        content.iter().for_each(|content| std::fs::write(&index, content).unwrap());
        let (mut catalog, _) = site.open().await;
        let windows = catalog.windows().await.unwrap().branches;
        let (mut catalog, _) = site.open().await;
        let plans: Vec<_> = answers(&site, &mut catalog).await.into_iter().collect();
        let plans: Vec<_> = plans
            .into_iter()
            .map(|(what, plan)| (what, plan.map(|plan| Plan { notes: Vec::new(), ..plan })))
            .collect();
        let (mut catalog, _) = site.open().await;
        let filter =
            LogFilter { from: Some(Lsn(size.bytes())), to: Some(gone.end(size) + 9), ..LogFilter::default() };
        let mut told = Told::default();
        let query = LogQuery { filter, timeline: Some(gone.timeline) };
        catalog.what_happened(&query, &mut told).await.unwrap();
        assert_eq!(told.holes, [(gone, gone)], "{content:?}");
        all.push((windows, plans));
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:#?}");
}

#[tokio::test]
async fn r12_an_index_object_proves_that_the_end_of_a_timeline_was_there() {
    let site = Site::new(3000, 400).await;
    let (mut catalog, _) = site.open().await;
    catalog.index_logs(usize::MAX, |_| {}).await.unwrap();
    let size = site.archive.size;
    let second = &site.archive.stretches[1];
    // The last that is left has records that can be read.
    let left = site.archive.name(2, site.archive.middle(second));
    let (_, log_end) = size.numbers_of_log(left.log).into_inner();
    assert!(log_end < second.last && left.number(size) < log_end);
    let cluster = catalog.cluster().clone();
    for number in left.number(size) + 1..=second.last {
        let key = cluster.section().wal(WalFile::Segment(site.archive.name(2, number)));
        std::fs::remove_file(site.archive.folder.join(key.as_str())).unwrap();
    }
    for log in left.log + 1..=site.archive.name(2, second.last).log {
        let key = cluster.section().index(second.timeline, log);
        let _ = std::fs::remove_file(site.archive.folder.join(key.as_str()));
    }

    let until = site.archive.name(2, log_end).end(size);
    let (mut catalog, _) = site.open().await;
    // The backups behind have lost their own WAL.
    let backup = site.requests().into_iter().find(|(what, _)| *what == "a time on timeline 2").unwrap().1;
    let backup = Some(catalog.plan(&backup).await.unwrap().backup.label);
    let (mut catalog, _) = site.open().await;
    let latest = Request { timeline: Some(second.timeline), backup, ..Request::new(Target::Latest) };
    match catalog.plan(&latest).await {
        Err(PlanError::Unreachable(Unreachable::EndLost { hole, last, .. })) => {
            assert_eq!((hole.first, hole.was_there_until), (left.next(size), Some(until)));
            let last = Request { target: Target::Lsn(last.unwrap()), ..latest };
            assert!(catalog.plan(&last).await.is_ok(), "the last record that is there can be asked for");
        }
        other => panic!("{other:#?}"),
    }
    let (mut catalog, _) = site.open().await;
    let branches = catalog.windows().await.unwrap().branches;
    let branch = branches.iter().find(|branch| branch.timeline == second.timeline).unwrap();
    let window = branch.windows.last().unwrap();
    assert_eq!(window.until, left.end(size));
    assert_eq!(window.hole_after.as_ref().and_then(|hole| hole.was_there_until), Some(until));
}

#[tokio::test]
async fn a_log_with_a_hole_gets_no_index_until_it_is_filled() {
    let site = Site::new(1500, 400).await;
    let (catalog, _) = site.open().await;
    let cluster = catalog.cluster().clone();
    let late = site.archive.name(1, 300);
    let path = site.archive.folder.join(cluster.section().wal(WalFile::Segment(late)).as_str());
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    let (mut catalog, _) = site.open().await;
    catalog.index_logs(usize::MAX, |_| {}).await.unwrap();
    let indexed = cluster.indexed_logs().await.unwrap();
    assert!(!indexed[&TimelineId::FIRST].contains(&1), "{indexed:?}");
    assert!(indexed[&TimelineId::FIRST].contains(&0));
    std::fs::rename(&aside, &path).unwrap();
    let (mut catalog, _) = site.open().await;
    assert_eq!(catalog.unindexed_logs(), 1);
    catalog.index_logs(usize::MAX, |_| {}).await.unwrap();
    assert!(cluster.indexed_logs().await.unwrap()[&TimelineId::FIRST].contains(&1));
}

#[tokio::test]
async fn two_makers_at_once_make_one_and_a_maker_that_loses_to_retention_takes_it_back() {
    let site = Site::new(1500, 400).await;
    let (catalog, _) = site.open().await;
    let cluster = catalog.cluster().clone();
    let size = site.archive.size;
    let read = || async { cluster.read_log(TimelineId::FIRST, 1, size).await.unwrap() };
    let (one, other) = (read().await, read().await);
    let both = futures_util::future::join(cluster.put_index(&one), cluster.put_index(&other)).await;
    let mut outcomes = [both.0.unwrap(), both.1.unwrap()];
    outcomes.sort_by_key(|outcome| *outcome != Indexed::Created);
    assert_eq!(outcomes, [Indexed::Created, Indexed::There]);

    // Retention: the index object goes first, then segments. A maker that had listed the log before puts its object in between.
    cluster.remove_index(TimelineId::FIRST, 1).await.unwrap();
    let gone = cluster.section().wal(WalFile::Segment(site.archive.name(1, 256)));
    cluster.repository().store().delete(&gone).await.unwrap();
    assert_eq!(cluster.put_index(&one).await.unwrap(), Indexed::Incomplete);
    assert!(
        cluster.indexed_logs().await.unwrap().get(&TimelineId::FIRST).is_none_or(|logs| !logs.contains(&1))
    );
}
