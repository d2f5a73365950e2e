//! Cases that the properties have found.

use super::*;
use crate::plan::tests::{FIRST_LSN, Kind, Rec};

/// The records of 256 MiB, four to a segment, end transactions at these times.
const LENGTH: u64 = 256 << 20;

fn lsn(number: u64) -> Lsn {
    Lsn(FIRST_LSN + number * LENGTH)
}

fn ends(times: &[i64]) -> Vec<Rec> {
    let kind = |time: &i64| Kind::End { time: *time, xid: 1, committed: true };
    let rec = |(number, time)| Rec { lsn: lsn(number), end: lsn(number + 1), kind: kind(time) };
    (0..).zip(times).map(rec).collect()
}

/// A backup during a single record.
fn during(label: &str, timeline: u32, number: u64, stop_time: i64) -> Backup {
    let of_first_timeline = backup(label, 0, stop_time);
    Backup { timeline: tli(timeline), start: lsn(number), stop: lsn(number + 1), ..of_first_timeline }
}

fn of(records: &[&[i64]], fork: Option<u64>, backups: Vec<Backup>, now: i64) -> Case {
    let records = (1..).zip(records).map(|(timeline, times)| (tli(timeline), ends(times))).collect();
    let world = World { records, fork: fork.map(lsn), backups, missing: Vec::new(), monotone: false };
    let none = vec![false; 4];
    Case {
        world,
        rules: Rules { minimum_age: Duration::ZERO, grace: Duration::ZERO, ..Rules::default() },
        now: Timestamp(now),
        marks: vec![None; 4],
        holds: none.clone(),
        defects: none.clone(),
        found_damaged: none,
        running: None,
    }
}

/// A clock went back: timeline 1 tells of the moment 44 behind `old` alone, in front of `late`. That goes with `old`, and `late` reaches nothing of what
/// is promised: it is not kept for it, to be given up by the next run.
#[test]
fn r20_moments_that_go_keep_no_backup_behind_them() {
    let backups = vec![during("old", 1, 0, 0), during("late", 1, 4, 0), during("new", 2, 3, 1)];
    let mut case = of(&[&[0, 0, 0, 44, 0, 0, 0, 0], &[0; 8]], Some(3), backups, 34);
    case.marks[0] = Some(Timestamp(0));
    let decision = case.decide(&case.world.inventory(), &case.holdings(), case.now);
    assert_eq!(decision.promised_from, Some(Timestamp(1)));
    assert_eq!(fate(&decision, "new"), &Fate::Keep);
    assert_eq!(fate(&decision, "old"), &Fate::Remove);
    assert_eq!(fate(&decision, "late"), &Fate::Mark);
    a_second_run_finds_nothing_to_do(&case, 0).unwrap();
}

/// The last segment is not archived, so that nothing can be restored from `broken`: its mark keeps no WAL, and what somebody holds
/// stays consistent.
#[test]
fn r20_a_marked_backup_without_its_wal_has_no_moments() {
    let backups = vec![during("broken", 1, 12, 0), during("held", 1, 0, 0), during("new", 1, 8, 19)];
    let mut case = of(&[&[0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0]], None, backups, 19);
    case.holds[1] = true;
    let inventory = case.world.inventory();
    let decision = case.decide(&inventory, &case.holdings(), case.now);
    assert_eq!(fate(&decision, "broken"), &Fate::Mark);
    let going = case.going(&inventory, &decision);
    assert_eq!(going, [SegmentName::from_number(tli(1), 2, size())]);
    marks_bring_their_moments_back(&case, &[0, 19]).unwrap();
}

/// `new` is known to be damaged, so that `later` stays though its grace is over. From it the moments of timeline 2 are reached, and no
/// longer over the WAL that leads there from `early`.
#[test]
fn r19_a_backup_that_stays_for_the_damage_of_another_serves_for_older_ones() {
    let backups = vec![during("later", 2, 8, 1), during("early", 1, 0, 0), during("new", 1, 4, 54)];
    let second = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1];
    let mut case = of(&[&[0, 0, 0, 0, 54, 54, 54, 54], &second], Some(3), backups, 54);
    case.rules.grace = MICRO * 13;
    case.marks[0] = Some(Timestamp(0));
    let inventory = case.world.inventory();
    let unknowing = case.decide(&inventory, &case.holdings(), case.now);
    assert_eq!(fate(&unknowing, "later"), &Fate::Remove);
    assert_eq!(case.going(&inventory, &unknowing), []);
    case.found_damaged[2] = true;
    let decision = case.decide(&inventory, &case.holdings(), case.now);
    assert_eq!(fate(&decision, "later"), &Fate::KeepAgain);
    assert_eq!(case.going(&inventory, &decision), [SegmentName::from_number(tli(2), 2, size())]);
    let request = Request { timeline: Some(tli(2)), ..Request::new(Target::Time(Timestamp(1))) };
    let plan = case.plan(&case.without_wal(inventory, &decision), &request).unwrap();
    assert_eq!(plan.backup.label, "later");
    knowing_of_damage_removes_nothing(&case).unwrap();
}
