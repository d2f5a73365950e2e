//! A run that is cut off at any step, and what others do meanwhile (R20).

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use std::sync::Arc;

use common::wal::{SYSTEM, size};
use common::{World, Writing, assert_whole, at, cluster_on, expire, listed, plan, tli};
use highwater_catalog::retention::{DAY, Fate, Rules, Verdict};
use highwater_catalog::{Request, Target, Unreachable};
use highwater_expire::{Error, Report};
use highwater_repository::{Label, TailPiece};
use highwater_storage::ErrorKind;
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::memory::MemoryStore;
use highwater_wal::{Lsn, SegmentName, Summary, Timestamp, WalFile};

fn rules() -> Rules {
    Rules { window: Some(3 * DAY), weekly: 2, minimum_age: 2 * DAY, ..Rules::default() }
}

/// Twelve days, a backup each, all of it old enough to go but for the last days.
async fn twelve_days() -> (World, Writing) {
    let mut world = World::new().await;
    let mut main = world.first_timeline();
    for day in 1..=12 {
        world.write(&mut main, &[world.at(f64::from(day) + 0.1)]).await;
        let end = world.at(f64::from(day) + 0.2);
        world.back_up(&mut main, &format!("day-{day:02}"), end).await;
    }
    (world, main)
}

fn fate<'a>(report: &'a Report, label: &str) -> &'a Fate {
    &report.verdicts.iter().find(|verdict| verdict.label == label).unwrap().fate
}

fn with_fate(report: &Report, wanted: impl Fn(&Fate) -> bool) -> Vec<String> {
    let verdicts = report.verdicts.iter().filter(|verdict| wanted(&verdict.fate));
    verdicts.map(|verdict| verdict.label.clone()).collect()
}

/// Whatever is listed can be restored whole, and each moment of the window can be reached.
async fn assert_sound(
    store: &Arc<MemoryStore>,
    main: &Writing,
    from: Timestamp,
    until: Timestamp,
    kept: &[String],
) {
    let cluster = cluster_on(store.clone(), SYSTEM);
    let labels = listed(&cluster).await;
    for label in kept {
        assert!(labels.contains(label), "{label} has gone: {labels:?}");
    }
    for label in &labels {
        assert_whole(&cluster, label).await;
    }
    for part in 0..6 {
        let time = Timestamp(from.0 + (until.0 - from.0) / 6 * part);
        plan(&cluster, &at(time, main.timeline)).await.unwrap_or_else(|error| panic!("{time}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_killed_at_any_step_what_stays_is_whole_and_the_next_run_goes_on() {
    let (world, main) = twelve_days().await;
    world.put_stray_pack().await;
    let (first, second) = (world.at(12.5), world.at(13.6));
    let marked = world.expire(&rules(), first).await;
    assert!(with_fate(&marked, |fate| *fate == Fate::Mark).len() >= 5, "{marked:?}");
    let (from, until) = (Timestamp(second.0 - 3 * common::DAY_MICROS), world.at(12.2));

    let whole = Arc::new(world.store.copy());
    let done = expire(&cluster_on(whole.clone(), SYSTEM), &rules(), second, true).await.unwrap();
    assert!(with_fate(&done, |fate| *fate == Fate::Remove).len() >= 5, "{done:?}");
    let kept = with_fate(&done, |fate| *fate == Fate::Keep);
    assert!(kept.len() >= 4, "{kept:?}");
    let expected = whole.names("");
    let left: Vec<&String> = expected.iter().filter(|name| !name.starts_with("events/")).collect();

    let mut cut_off = 0;
    for operation in [Operation::Delete, Operation::PutIfAbsent] {
        for fault in [Fault::Before(ErrorKind::Other), Fault::After(ErrorKind::Other)] {
            for step in 0.. {
                let store = Arc::new(world.store.copy());
                let faults =
                    Arc::new(FaultStore::new(store.clone(), 1, [Rule::on(operation, fault).skip(step)]));
                let run = expire(&cluster_on(faults.clone(), SYSTEM), &rules(), second, true).await;
                assert_sound(&store, &main, from, until, &kept).await;
                if run.is_ok() && faults.given() == 0 {
                    break;
                }
                cut_off += 1;
                let again = expire(&cluster_on(store.clone(), SYSTEM), &rules(), second, true).await.unwrap();
                assert_sound(&store, &main, from, until, &kept).await;
                let after = store.names("");
                let after: Vec<&String> = after.iter().filter(|name| !name.starts_with("events/")).collect();
                assert_eq!(after, left, "step {step}: {again:?}");
            }
        }
    }
    assert!(cut_off > 40, "{cut_off}");
}

#[tokio::test]
async fn r19_a_dry_run_changes_nothing_and_tells_the_same() {
    let (world, _) = twelve_days().await;
    world.expire(&rules(), world.at(12.5)).await;
    let (before, now) = (world.store.names(""), world.at(13.6));
    let told = expire(&world.cluster, &rules(), now, false).await.unwrap();
    assert_eq!(world.store.names(""), before);
    let done = world.expire(&rules(), now).await;
    assert_eq!((&told.verdicts, told.removed), (&done.verdicts, done.removed));
    assert!(done.removed.packs > 0 && done.removed.wal_files > 0 && done.removed.other_bytes > 0);
    let events = world.store.names("events/");
    assert_eq!(events.len(), 4, "each applied run is noted when it begins and when it ends");
}

/// Puts a piece of a segment as a receiver does.
async fn receive(world: &World, timeline: u32, number: u64) -> String {
    let segment = SegmentName::from_number(tli(timeline), number, size());
    let summary = Summary::new(segment, size(), SYSTEM, 0xD110, 0);
    let piece = TailPiece::new(segment, 0, 5000);
    world.cluster.put_tail(piece, size(), &[7_u8; 5000][..], Some(summary)).await.unwrap();
    world.cluster.section().tail_piece(segment, piece.from, piece.to).to_string()
}

#[tokio::test]
async fn r20_an_empty_strip_goes_a_grace_after_it_was_seen_where_nothing_needs_its_segment() {
    let (world, main) = twelve_days().await;
    // A branch that was left before all that is promised.
    let history = format!("1\t{}\tpromoted\n", Lsn(3 * size().bytes()));
    world.cluster.put_wal(WalFile::History(tli(2)), history.as_bytes(), None).await.unwrap();
    let strip = async |timeline, number| {
        let segment = SegmentName::from_number(tli(timeline), number, size());
        let before = world.store.names("/strip-");
        world.cluster.begin_strip(segment).await.unwrap().expect("memory has strips");
        let mut made = world.store.names("/strip-");
        made.retain(|name| !before.contains(name));
        made.pop().unwrap()
    };
    let (needed, not_needed) = (strip(1, main.next).await, strip(2, 3).await);
    let there = || world.store.names("/strip-");
    let first = world.expire(&rules(), world.at(12.5)).await;
    assert_eq!(there(), [needed.as_str(), not_needed.as_str()], "it may have been made just now: {first:?}");
    world.expire(&rules(), world.at(13.4)).await;
    assert_eq!(there().len(), 2, "not a day has gone by since it was seen");
    // One that was made since.
    let later = strip(2, 3).await;
    let told = expire(&world.cluster, &rules(), world.at(13.6), false).await.unwrap();
    assert_eq!(there().len(), 3);
    let done = world.expire(&rules(), world.at(13.6)).await;
    assert_eq!(told.removed, done.removed);
    assert_eq!(there(), [needed.as_str(), later.as_str()]);
    // Its first piece was cut off.
    let object = world.store.objects()[&later].clone();
    let mut written = object.to_vec();
    written[0] = b'H';
    world.store.spoil(&later, written);
    world.expire(&rules(), world.at(14.7)).await;
    assert_eq!(there(), [needed.as_str()], "that was never acknowledged");
}

#[tokio::test]
async fn r19_pieces_go_as_segments_do_and_where_their_segment_is_whole() {
    let (world, main) = twelve_days().await;
    let newest = receive(&world, 1, main.next).await;
    let left_over = receive(&world, 1, main.next - 1).await;
    // A branch that was left before all that is promised.
    let history = format!("1\t{}\tpromoted\n", Lsn(3 * size().bytes()));
    world.cluster.put_wal(WalFile::History(tli(2)), history.as_bytes(), None).await.unwrap();
    let abandoned = receive(&world, 2, 3).await;
    let ends = |segments: u64| Lsn(segments * size().bytes() + 5000);
    for (timeline, lsn) in [(tli(1), ends(2)), (tli(1), ends(main.next)), (tli(2), ends(3))] {
        world.cluster.mark_reached(timeline, lsn).await.unwrap();
    }
    let before = world.store.names("/tail/");
    assert_eq!(before.len(), 3);
    let told = expire(&world.cluster, &rules(), world.at(12.5), false).await.unwrap();
    assert_eq!(world.store.names("/tail/"), before);
    let first = world.expire(&rules(), world.at(12.5)).await;
    assert_eq!(told.removed, first.removed);
    let stayed = world.store.names("/tail/");
    assert!(stayed.contains(&newest) && !stayed.contains(&left_over), "{stayed:?}");
    world.expire(&rules(), world.at(13.6)).await;
    assert_eq!(world.store.names("/tail/"), [newest], "{abandoned} is reached by nothing that is kept");
    // What was removed by a rule is missed by nobody.
    let marks = world.cluster.reached_behind(tli(1), None).await.unwrap();
    assert_eq!(marks, [ends(main.next)]);
    assert!(world.cluster.reached_behind(tli(2), None).await.unwrap().is_empty());
}

#[tokio::test]
async fn r19_without_a_rule_or_with_a_clock_that_is_ahead_nothing_goes() {
    let (world, _) = twelve_days().await;
    let before = world.store.names("");
    let none = expire(&world.cluster, &Rules::default(), world.at(400.0), true).await.unwrap_err();
    assert!(matches!(none, Error::NoRule), "{none}");
    assert_eq!(world.store.names(""), before);

    let expiry = highwater_expire::Expiry::open(world.cluster.clone(), &()).await.unwrap();
    let archive = expiry.newest_moment();
    assert_eq!(archive, Some(world.at(12.2)));
    let clock = highwater_catalog::retention::Clock { here: world.at(40_000.0), archive };
    let options = highwater_expire::Options { apply: true, ..highwater_expire::Options::new(rules(), clock) };
    let report = expiry.run(&options, &()).await.unwrap();
    assert_eq!(report.now, world.at(12.2));
    assert!(with_fate(&report, |fate| *fate == Fate::Keep).len() >= 4);
    // The grace has not begun to pass, either.
    let again = expire(&world.cluster, &rules(), world.at(13.9), true).await.unwrap();
    assert_eq!(with_fate(&again, |fate| *fate == Fate::Remove), [""; 0]);
}

#[tokio::test]
async fn r20_a_marked_backup_is_gone_for_everybody_and_a_hold_brings_it_back() {
    let (world, _) = twelve_days().await;
    world.expire(&rules(), world.at(12.5)).await;
    let label: Label = "day-02".parse().unwrap();
    assert!(!listed(&world.cluster).await.contains(&label.to_string()));
    let request = Request { backup: Some(label.to_string()), ..Request::new(Target::Immediate) };
    let refused = plan(&world.cluster, &request).await.unwrap_err();
    assert!(refused.to_string().contains("highwater hold day-02"), "{refused}");
    assert!(matches!(refused, highwater_catalog::PlanError::Unreachable(Unreachable::ExpiredBackup { .. })));

    world.cluster.backups().hold(&label, world.at(12.6), "the audit").await.unwrap();
    let report = world.expire(&rules(), world.at(13.6)).await;
    assert_eq!(fate(&report, "day-02"), &Fate::Keep);
    assert_whole(&world.cluster, "day-02").await;
    assert_eq!(fate(&report, "day-01"), &Fate::Remove);

    world.cluster.backups().release(&label).await.unwrap();
    let report = world.expire(&rules(), world.at(14.0)).await;
    assert_eq!(fate(&report, "day-02"), &Fate::Mark);
    // The rules are made wider before it goes.
    let wider = Rules { backups: 20, ..rules() };
    let report = world.expire(&wider, world.at(15.5)).await;
    assert_eq!(fate(&report, "day-02"), &Fate::KeepAgain);
    assert_whole(&world.cluster, "day-02").await;
}

#[tokio::test]
async fn r20_packs_of_a_backup_in_progress_stay_and_so_does_what_it_builds_on() {
    let (world, _) = twelve_days().await;
    let backups = world.cluster.backups();
    world.expire(&rules(), world.at(12.5)).await;
    let running: Label = "running".parse().unwrap();
    world.put_started(&backups, &running, world.at(12.4)).await;
    // It had chosen its parent before the mark came, and noted it.
    backups.build_on(&running, &"day-01".parse().unwrap()).await.unwrap();
    let before = world.store.names("/packs/").len();
    world.put_stray_pack().await;

    let report = world.expire(&rules(), world.at(13.6)).await;
    assert_eq!(fate(&report, "running"), &Fate::Keep);
    let Fate::Wait { builder, .. } = fate(&report, "day-01") else { panic!("{report:?}") };
    assert_eq!(builder.as_deref(), Some("running"));
    assert_whole_marked(&world, "day-01").await;
    assert!(report.notes.iter().any(|note| note.contains("running")), "{:?}", report.notes);
    assert!(world.store.names("/packs/").len() < before + 1, "what others alone named is gone");

    // Nobody ends it: it is given up, and a day later its packs go, whatever they were.
    let given_up = world.expire(&rules(), world.at(20.0)).await;
    assert_eq!(fate(&given_up, "running"), &Fate::Mark);
    let gone = world.expire(&rules(), world.at(21.5)).await;
    assert_eq!(fate(&gone, "running"), &Fate::Remove);
    let after = world.expire(&rules(), world.at(21.6)).await;
    assert_eq!(world.store.names("/running/"), [""; 0]);
    assert_eq!(fate(&after, "day-12"), &Fate::Keep);
    for label in listed(&world.cluster).await {
        assert_whole(&world.cluster, &label).await;
    }
    assert!(!world.store.names("/packs/").is_empty());
}

/// A marked backup is whole as long as it is there.
async fn assert_whole_marked(world: &World, label: &str) {
    let copy = Arc::new(world.store.copy());
    copy.objects().remove(&format!("clusters/main/{SYSTEM}/backups/{label}/expired")).unwrap();
    assert_whole(&cluster_on(copy, SYSTEM), label).await;
}

#[tokio::test]
async fn r19_a_backup_whose_packs_are_gone_counts_for_nothing() {
    let (world, _) = twelve_days().await;
    // The newest loses a pack that no other names.
    let all = world.store.names("/packs/");
    let only = Rules { backups: 1, minimum_age: DAY / 24, ..Rules::default() };
    let mut lost = None;
    for pack in &all {
        let copy = Arc::new(world.store.copy());
        copy.objects().remove(pack).unwrap();
        let report = expire(&cluster_on(copy, SYSTEM), &only, world.at(12.5), false).await.unwrap();
        let is_defective = |verdict: &&Verdict| verdict.reasons().contains("missing or cut short");
        let found: Vec<&Verdict> = report.verdicts.iter().filter(is_defective).collect();
        if found.len() == 1 && found[0].label == "day-12" {
            lost = Some(pack);
        }
    }
    world.store.objects().remove(lost.unwrap()).unwrap();
    let report = world.expire(&only, world.at(12.5)).await;
    assert_eq!(fate(&report, "day-11"), &Fate::Keep, "{report:?}");
    assert_whole(&world.cluster, "day-11").await;
}

#[tokio::test]
async fn r20_a_damaged_manifest_keeps_every_pack() {
    let (world, _) = twelve_days().await;
    world.expire(&rules(), world.at(12.5)).await;
    world.store.spoil(&format!("clusters/main/{SYSTEM}/backups/day-11/manifest"), &b"spoilt"[..]);
    let packs = world.store.names("/packs/");
    let report = world.expire(&rules(), world.at(13.6)).await;
    assert!(with_fate(&report, |fate| *fate == Fate::Remove).contains(&"day-01".to_owned()));
    assert_eq!(world.store.names("/packs/"), packs);
    assert!(report.notes.iter().any(|note| note.contains("day-11")), "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_two_runs_at_once_do_what_one_does() {
    let (world, main) = twelve_days().await;
    world.expire(&rules(), world.at(12.5)).await;
    let now = world.at(13.6);
    let alone = Arc::new(world.store.copy());
    expire(&cluster_on(alone.clone(), SYSTEM), &rules(), now, true).await.unwrap();
    let rules = rules();
    let runs = (0..3).map(|_| expire(&world.cluster, &rules, now, true));
    for run in futures_util::future::join_all(runs).await {
        run.unwrap();
    }
    let left = |store: &MemoryStore| {
        let names = store.names("").into_iter();
        names.filter(|name| !name.starts_with("events/")).collect::<Vec<_>>()
    };
    assert_eq!(left(&world.store), left(&alone));
    let from = Timestamp(now.0 - 3 * common::DAY_MICROS);
    assert_sound(&world.store, &main, from, world.at(12.2), &[]).await;
}
