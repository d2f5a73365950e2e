//! The decision against what it promises, on the made-up histories that plans are tested with: branches, holes, clocks that go
//! back, backups that overlap.

use std::time::Duration;

use highwater_wal::{Lsn, SegmentName, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::facts::Known;
use crate::plan::tests::{World, size, tli, world};
use crate::plan::{Unsettled, plan};
use crate::{Backup, Inventory, Plan, Request, Target};

mod found;

/// Answers everything that is asked until there is an answer.
fn settle<T>(
    world: &World,
    inventory: &Inventory,
    ask: impl Fn(&Known) -> Result<T, Unsettled>,
) -> Result<T, Unsettled> {
    let mut known = Known::default();
    for _ in 0..1000 {
        match ask(&known) {
            Err(Unsettled::Need(need)) => world.answer(&need, inventory, &mut known),
            settled => return settled,
        }
    }
    panic!("it does not settle");
}

/// What somebody has done before, and wants now.
#[derive(Debug, Clone)]
struct Case {
    world: World,
    rules: Rules,
    now: Timestamp,
    marks: Vec<Option<Timestamp>>,
    holds: Vec<bool>,
    defects: Vec<bool>,
    found_damaged: Vec<bool>,
    /// A backup that is being made, and what it builds on.
    running: Option<(i64, usize)>,
}

const MICRO: Duration = Duration::from_micros(1);

prop_compose! {
    fn case()(
        world in world(),
        window in prop::option::of(0_u32..70),
        backups in 0_u32..4,
        weekly in 0_u32..3,
        (minimum_age, grace, now) in (0_u32..40, 0_u32..20, 0_i64..90),
        marks in prop::collection::vec(prop::option::weighted(0.3, 0_i64..90), 4),
        holds in prop::collection::vec(prop::bool::weighted(0.1), 4),
        defects in prop::collection::vec(prop::bool::weighted(0.1), 4),
        found_damaged in prop::collection::vec(prop::bool::weighted(0.15), 4),
        running in prop::option::weighted(0.2, (0_i64..90, 0_usize..3)),
    ) -> Case {
        let rules = Rules {
            window: window.map(|window| MICRO * window),
            backups,
            weekly,
            minimum_age: MICRO * minimum_age,
            grace: MICRO * grace,
            abandoned_after: MICRO * 30,
            ..Rules::default()
        };
        let marks = marks.into_iter().map(|mark| mark.map(Timestamp)).collect();
        Case { world, rules, now: Timestamp(now), marks, holds, defects, found_damaged, running }
    }
}

impl Case {
    fn holdings(&self) -> Holdings {
        let complete = self.world.backups.iter().enumerate().map(|(n, backup)| Complete {
            backup: backup.clone(),
            marked_at: self.marks[n],
            hold: self.holds[n].then(|| "because".to_owned()),
            defect: self.defects[n].then(|| "a pack is missing".to_owned()),
            found_damaged: self.found_damaged[n].then(|| "a bit".to_owned()),
        });
        let incomplete = self.running.iter().map(|(begun_at, parent)| Incomplete {
            label: "running".to_owned(),
            begun_at: Some(Timestamp(*begun_at)),
            host: None,
            builds_on: Some(format!("b{parent}")),
            marked_at: None,
        });
        Holdings { complete: complete.collect(), incomplete: incomplete.collect(), ..Holdings::default() }
    }

    fn decide(&self, inventory: &Inventory, holdings: &Holdings, now: Timestamp) -> Decision {
        settle(&self.world, inventory, |known| decide(inventory, holdings, &self.rules, now, false, known))
            .expect("a decision always settles")
    }

    /// The inventory with these backups alone.
    fn with_backups(&self, wanted: impl Fn(&Backup) -> bool) -> Inventory {
        let mut inventory = self.world.inventory();
        inventory.backups.retain(|backup| wanted(backup));
        inventory
    }

    /// Takes the WAL away that goes.
    fn without_wal(&self, mut inventory: Inventory, decision: &Decision) -> Inventory {
        for segment in self.going(&inventory, decision) {
            inventory.remove_segment(segment);
        }
        inventory
    }

    fn going(&self, inventory: &Inventory, decision: &Decision) -> Vec<SegmentName> {
        let is_old = |segment: &SegmentName| {
            self.world.facts(*segment).covers_until.is_none_or(|time| time < decision.wal_untouched_from)
        };
        decision.wal.not_needed(inventory).filter(is_old).collect()
    }

    /// Whether the backup can be made consistent along any path, and nothing is known against it.
    fn can_be_restored(&self, complete: &Complete, inventory: &Inventory) -> bool {
        let of = |timeline| Request {
            timeline: Some(timeline),
            backup: Some(complete.backup.label.clone()),
            ..Request::new(Target::Immediate)
        };
        let mut timelines = self.world.records.iter().map(|(timeline, _)| *timeline);
        is_sound(complete) && timelines.any(|timeline| self.plan(inventory, &of(timeline)).is_some())
    }

    fn plan(&self, inventory: &Inventory, request: &Request) -> Option<Plan> {
        settle(&self.world, inventory, |known| plan(inventory, request, known)).ok()
    }
}

fn fate<'a>(decision: &'a Decision, label: &str) -> &'a Fate {
    &decision.verdicts.iter().find(|verdict| verdict.label == label).unwrap().fate
}

fn is_sound(complete: &Complete) -> bool {
    complete.defect.is_none() && complete.found_damaged.is_none()
}

fn stays(decision: &Decision, label: &str) -> bool {
    matches!(fate(decision, label), Fate::Keep | Fate::KeepAgain)
}

/// The plan's answer, without what is only told beside it.
fn answer(plan: &Plan) -> impl PartialEq + std::fmt::Debug + use<> {
    (plan.backup.label.clone(), plan.stop, plan.wal.clone(), plan.last_before, plan.first_after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Every moment of the promised time that could be reached before can be reached afterwards, from the same backup, with the
    /// same commits, on every timeline.
    #[test]
    fn r19_what_is_promised_can_be_reached_afterwards(
        case in case(), ages in prop::collection::vec(0_i64..70, 6), exclusive in any::<bool>()
    ) {
        let holdings = case.holdings();
        let decision = case.decide(&case.world.inventory(), &holdings, case.now);
        let Some(from) = decision.promised_from else { return Ok(()) };
        let sound = |backup: &Backup| holdings.complete.iter().any(|c| c.backup == *backup && is_sound(c));
        let before = case.with_backups(sound);
        let kept = case.with_backups(|backup| sound(backup) && stays(&decision, &backup.label));
        let after = case.without_wal(kept, &decision);
        for (timeline, _) in &case.world.records {
            for age in &ages {
                let target = Target::Time(Timestamp(from.0 + age));
                let request = Request { timeline: Some(*timeline), exclusive, ..Request::new(target) };
                if let Some(then) = case.plan(&before, &request) {
                    let now = case.plan(&after, &request);
                    prop_assert_eq!(now.as_ref().map(answer), Some(answer(&then)), "{:?}", &request);
                }
            }
        }
    }

    /// What was promised a grace ago can still be carried out with the backups that were there then.
    #[test]
    fn r20_a_restore_that_is_running_finds_its_wal(case in case(), ages in prop::collection::vec(0_i64..70, 6)) {
        let holdings = case.holdings();
        let decision = case.decide(&case.world.inventory(), &holdings, case.now);
        let there = |backup: &Backup| {
            let sound = holdings.complete.iter().any(|c| c.backup == *backup && is_sound(c));
            sound && *fate(&decision, &backup.label) != Fate::Remove
        };
        let earlier = Timestamp(case.now.0 - case.rules.grace.as_micros() as i64);
        let then = case.decide(&case.world.inventory(), &holdings, earlier);
        let Some(from) = then.promised_from else { return Ok(()) };
        let before = case.with_backups(there);
        let after = case.without_wal(before.clone(), &decision);
        for (timeline, _) in &case.world.records {
            for age in &ages {
                let target = Target::Time(Timestamp(from.0 + age));
                let request = Request { timeline: Some(*timeline), ..Request::new(target) };
                if let Some(then) = case.plan(&before, &request) {
                    let now = case.plan(&after, &request);
                    prop_assert_eq!(now.as_ref().map(answer), Some(answer(&then)), "{:?}", &request);
                }
            }
        }
    }

    #[test]
    fn r20_a_mark_that_is_taken_back_brings_its_moments_back(case in case(), ages in prop::collection::vec(0_i64..70, 6)) {
        marks_bring_their_moments_back(&case, &ages)?;
    }

    /// As long as a backup is there, marked or not, so is the WAL that makes it consistent.
    #[test]
    fn r19_a_backup_that_stays_can_be_made_consistent(case in case()) {
        let holdings = case.holdings();
        let decision = case.decide(&case.world.inventory(), &holdings, case.now);
        let before = case.world.inventory();
        let after = case.without_wal(before.clone(), &decision);
        for backup in case.world.backups.iter().filter(|b| *fate(&decision, &b.label) != Fate::Remove) {
            for (timeline, _) in &case.world.records {
                let request = Request {
                    timeline: Some(*timeline), backup: Some(backup.label.clone()), ..Request::new(Target::Immediate)
                };
                if let Some(then) = case.plan(&before, &request) {
                    let now = case.plan(&after, &request);
                    prop_assert_eq!(now.map(|plan| (plan.stop, plan.wal)), Some((then.stop, then.wal)));
                }
            }
        }
    }

    /// The newest that can be restored stays; so does what is held, young, or one of the newest; and no backup is removed that was not
    /// marked a grace ago, or that a running one builds on.
    #[test]
    fn r19_r20_what_never_goes(case in case()) {
        let holdings = case.holdings();
        let inventory = case.world.inventory();
        let decision = case.decide(&inventory, &holdings, case.now);
        let mut good: Vec<&Complete> =
            holdings.complete.iter().filter(|complete| case.can_be_restored(complete, &inventory)).collect();
        good.sort_by_key(|complete| (complete.backup.stop_time, complete.backup.stop, &complete.backup.label));
        for newest in good.iter().rev().take(case.rules.backups.max(1) as usize) {
            prop_assert!(stays(&decision, &newest.backup.label), "{}", newest.backup.label);
        }
        let untouched = Timestamp(case.now.0 - case.rules.minimum_age.as_micros() as i64);
        for complete in &holdings.complete {
            let label = &complete.backup.label;
            if good.is_empty() || complete.hold.is_some() || complete.backup.stop_time >= untouched {
                prop_assert!(stays(&decision, label), "{label}");
            }
            if *fate(&decision, label) == Fate::Remove {
                let marked_at = complete.marked_at.unwrap();
                prop_assert!(marked_at.0 + case.rules.grace.as_micros() as i64 <= case.now.0);
                let is_parent = |(_, parent): &(i64, usize)| format!("b{parent}") == *label;
                prop_assert!(!case.running.iter().any(is_parent));
            }
        }
        for segment in case.going(&inventory, &decision) {
            prop_assert!(!good.is_empty());
            prop_assert!(case.world.facts(segment).covers_until.is_none_or(|time| time < untouched));
        }
        // While a backup is being made, packs that no manifest names may be its own.
        prop_assert_eq!(decision.unnamed_packs_kept_for.is_some(), case.running.is_some());
    }

    #[test]
    fn r19_knowing_of_damage_removes_nothing(case in case()) {
        knowing_of_damage_removes_nothing(&case)?;
    }

    #[test]
    fn a_second_run_finds_nothing_to_do_and_time_only_takes_away(case in case(), later in 0_i64..40) {
        a_second_run_finds_nothing_to_do(&case, later)?;
    }
}

/// What a verification has found takes nothing away: no backup and no WAL goes that would have stayed without it.
fn knowing_of_damage_removes_nothing(case: &Case) -> Result<(), TestCaseError> {
    let inventory = case.world.inventory();
    let holdings = case.holdings();
    let decision = case.decide(&inventory, &holdings, case.now);
    let mut unknowing = holdings.clone();
    unknowing.complete.iter_mut().for_each(|complete| complete.found_damaged = None);
    let unknowing = case.decide(&inventory, &unknowing, case.now);
    for complete in &holdings.complete {
        let label = &complete.backup.label;
        prop_assert!(stays(&decision, label) || !stays(&unknowing, label), "{label} goes");
        if complete.found_damaged.is_some() {
            let verdict = decision.verdicts.iter().find(|verdict| verdict.label == *label).unwrap();
            prop_assert!(verdict.reasons().starts_with("DAMAGED"), "{verdict:?}");
        }
    }
    // What is marked keeps the WAL behind it as long as it is there; what stays for good keeps what makes it consistent. And from a
    // backup that stays for the knowledge alone moments are reached for which older ones had needed more WAL.
    let is_going = |verdict: &Verdict| matches!(verdict.fate, Fate::Mark | Fate::Wait { .. });
    let is_spared =
        |verdict: &Verdict| verdict.fate == Fate::Remove && *fate(&decision, &verdict.label) != Fate::Remove;
    if !unknowing.verdicts.iter().any(|verdict| is_going(verdict) || is_spared(verdict)) {
        let (gone, then) = (case.going(&inventory, &decision), case.going(&inventory, &unknowing));
        prop_assert!(gone.iter().all(|segment| then.contains(segment)), "{gone:?} {then:?}");
    }
    Ok(())
}

/// Whatever the rules were before: as long as a backup is marked and there, what lies behind it can be reached. Behind one whose own
/// WAL is missing nothing lies that its mark could bring back.
fn marks_bring_their_moments_back(case: &Case, ages: &[i64]) -> Result<(), TestCaseError> {
    let holdings = case.holdings();
    let inventory = case.world.inventory();
    let decision = case.decide(&inventory, &holdings, case.now);
    let there = |backup: &Backup| {
        let sound = holdings.complete.iter().any(|c| c.backup == *backup && is_sound(c));
        sound && *fate(&decision, &backup.label) != Fate::Remove
    };
    let before = case.with_backups(there);
    let after = case.without_wal(before.clone(), &decision);
    let is_marked = |label: &str| matches!(fate(&decision, label), Fate::Mark | Fate::Wait { .. });
    let marked = holdings.complete.iter().filter(|complete| is_marked(&complete.backup.label));
    for marked in marked.filter(|complete| case.can_be_restored(complete, &inventory)) {
        for (timeline, _) in &case.world.records {
            for age in ages {
                let target = Target::Time(Timestamp(marked.backup.stop_time.0 + age));
                let request = Request { timeline: Some(*timeline), ..Request::new(target) };
                if let Some(then) = case.plan(&before, &request) {
                    let now = case.plan(&after, &request);
                    prop_assert_eq!(now.as_ref().map(answer), Some(answer(&then)), "{:?}", &request);
                }
            }
        }
    }
    Ok(())
}

/// What was carried out once is not carried out again; and what goes later has not come back. Where a clock went back, what is left
/// of the WAL may seem to reach further than it did: then something stays that need not.
fn a_second_run_finds_nothing_to_do(case: &Case, later: i64) -> Result<(), TestCaseError> {
    let holdings = case.holdings();
    let inventory = case.world.inventory();
    let decision = case.decide(&inventory, &holdings, case.now);
    let then = case.decide(&inventory, &holdings, Timestamp(case.now.0 + later));
    for complete in &holdings.complete {
        let label = &complete.backup.label;
        prop_assert!(!stays(&then, label) || stays(&decision, label), "{label} comes back");
    }
    let mut carried_out = holdings.clone();
    carried_out.complete.retain(|c| *fate(&decision, &c.backup.label) != Fate::Remove);
    for complete in &mut carried_out.complete {
        match fate(&decision, &complete.backup.label) {
            Fate::Mark => complete.marked_at = Some(Timestamp(case.now.0 + 1_000)),
            Fate::KeepAgain => complete.marked_at = None,
            _ => {}
        }
    }
    carried_out.incomplete.retain(|i| *fate(&decision, &i.label) != Fate::Remove);
    for incomplete in &mut carried_out.incomplete {
        if *fate(&decision, &incomplete.label) == Fate::Mark {
            incomplete.marked_at = Some(Timestamp(case.now.0 + 1_000));
        }
    }
    let left = case.without_wal(inventory, &decision);
    let again = case.decide(&left, &carried_out, case.now);
    for verdict in &again.verdicts {
        let was = fate(&decision, &verdict.label);
        prop_assert!(
            !stays(&decision, &verdict.label) || verdict.fate == Fate::Keep,
            "{verdict:?} after {was:?}"
        );
        let is_same = matches!(verdict.fate, Fate::Keep | Fate::Wait { .. })
            && (verdict.fate == Fate::Keep) == stays(&decision, &verdict.label);
        prop_assert!(is_same || !case.world.monotone, "{verdict:?} after {was:?}");
    }
    // The promise of a grace ago may have begun with a backup that has gone since.
    let left = case.without_wal(left, &again);
    let once_more = case.decide(&left, &carried_out, case.now);
    prop_assert!(!case.world.monotone || case.going(&left, &once_more).is_empty());
    Ok(())
}

fn backup(label: &str, number: u64, stop_time: i64) -> Backup {
    Backup {
        label: label.to_owned(),
        timeline: tli(1),
        start: Lsn(number * size().bytes()),
        stop: Lsn((number + 1) * size().bytes()),
        start_time: Timestamp(0),
        stop_time: Timestamp(stop_time),
        size_bytes: 1,
        stored_bytes: 1,
        parent: None,
        id: String::new(),
    }
}

fn complete(backup: Backup) -> Complete {
    Complete { backup, marked_at: None, hold: None, defect: None, found_damaged: None }
}

#[test]
fn r19_a_clock_that_is_ahead_makes_nothing_old() {
    let clock = |here, archive: Option<i64>| Clock { here: Timestamp(here), archive: archive.map(Timestamp) };
    assert_eq!(clock(9_000, Some(70)).now(), Timestamp(70));
    assert_eq!(clock(60, Some(70)).now(), Timestamp(60));
    assert_eq!(clock(60, None).now(), Timestamp(60));
    assert_eq!(clock(60, Some(70)).to_note(), Timestamp(70), "a clock that is behind shortens no grace");
    assert_eq!(clock(9_000, Some(70)).to_note(), Timestamp(9_000));
}

#[test]
fn r19_wal_of_a_timeline_that_nobody_can_place_stays() {
    let mut inventory = Inventory::empty("main", highwater_wal::SystemId(7), size());
    for (timeline, number) in [(1, 3), (1, 9), (3, 4)] {
        inventory.add_segment(SegmentName::from_number(tli(timeline), number, size()));
    }
    let holdings = Holdings { complete: vec![complete(backup("b", 9, 50))], ..Holdings::default() };
    let rules = Rules { backups: 1, minimum_age: MICRO, grace: MICRO, ..Rules::default() };
    let facts = |known: &mut Known, need| match need {
        crate::Need::Facts(joints) => {
            for joint in joints {
                let facts = crate::SegmentFacts {
                    first_record: None,
                    last_record: None,
                    times: None,
                    last_commit: None,
                    first_commit: None,
                    xids: None,
                    restore_points: Vec::new(),
                    covers_until: None,
                    crossing: crate::Crossing::None,
                    crossing_xid: None,
                };
                known.add_facts(joint, facts);
            }
        }
        other => panic!("{other:?} is not needed"),
    };
    let mut known = Known::default();
    let decision = loop {
        match decide(&inventory, &holdings, &rules, Timestamp(80), false, &known) {
            Ok(decision) => break decision,
            Err(Unsettled::Need(need)) => facts(&mut known, need),
            Err(other) => panic!("{other:?}"),
        }
    };
    let going: Vec<String> = decision.wal.not_needed(&inventory).map(|name| name.to_string()).collect();
    assert_eq!(going, [SegmentName::from_number(tli(1), 3, size()).to_string()]);
    assert!(decision.wal.needs(tli(9), 0), "a timeline that came later is not judged");
}

#[test]
fn r20_a_damaged_manifest_keeps_all_packs_and_goes_when_it_is_old() {
    let inventory = Inventory::empty("main", highwater_wal::SystemId(7), size());
    let damaged = |begun_at: Option<i64>, marked_at: Option<i64>| Damaged {
        label: "d".to_owned(),
        reason: "a bit".to_owned(),
        begun_at: begun_at.map(Timestamp),
        marked_at: marked_at.map(Timestamp),
        hold: None,
    };
    let rules = Rules { backups: 1, minimum_age: MICRO * 5, grace: MICRO, ..Rules::default() };
    for (what, retire, expected) in [
        (damaged(Some(10), None), false, Fate::Keep),
        (damaged(Some(10), None), true, Fate::Mark),
        (damaged(Some(10), Some(20)), true, Fate::Remove),
        (damaged(Some(10), Some(80)), true, Fate::Wait { until: Timestamp(81), builder: None }),
        (damaged(Some(79), None), true, Fate::Keep),
        (damaged(None, None), true, Fate::Keep),
    ] {
        let holdings = Holdings { damaged: vec![what], ..Holdings::default() };
        let now = Timestamp(80);
        let decision = decide(&inventory, &holdings, &rules, now, retire, &Known::default()).unwrap();
        assert_eq!(fate(&decision, "d"), &expected, "{holdings:?}");
        assert_eq!(decision.packs_kept_for.is_none(), expected == Fate::Remove);
    }
}

#[test]
fn reasons_are_sentences() {
    for (reason, text) in [
        (Reason::Period { period: Period::Week, name: "2026-W47".to_owned() }, "newest of week 2026-W47"),
        (Reason::Young { minimum_age_seconds: 604_800 }, "younger than 7 days"),
        (Reason::Young { minimum_age_seconds: 3600 }, "younger than 1 hour"),
        (Reason::Young { minimum_age_seconds: 90 }, "younger than 90 seconds"),
        (Reason::Held { reason: "audit".to_owned() }, "held: audit"),
        (Reason::Newest { of: 3 }, "one of the 3 newest"),
    ] {
        assert_eq!(reason.to_string(), text);
    }
}
