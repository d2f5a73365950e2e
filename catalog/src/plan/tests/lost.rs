//! What can be asked for where WAL is missing behind what is there.

use super::super::*;
use super::{Kind, Rec, World, size, tli};
use highwater_wal::{Ancestor, SegmentName, TimelineHistory, Timestamp};

/// A commit and a restore point in the second segment, other WAL in those behind it up to the fourth.
fn world() -> World {
    let at = |number: u64, place: u64| Lsn(number * size().bytes() + place);
    let rec = |number: u64, place: u64, kind: Kind| Rec {
        lsn: at(number, place),
        end: at(number, place + 100),
        kind,
    };
    let mut records = vec![
        rec(1, 40, Kind::Other),
        rec(2, 40, Kind::End { time: 5, xid: 7, committed: true }),
        rec(2, 1000, Kind::Point { time: 6, name: "release".to_owned() }),
    ];
    records.extend((3..=5).map(|number| rec(number, 40, Kind::Other)));
    let backup = Backup {
        label: "a".to_owned(),
        timeline: tli(1),
        start: at(1, 40),
        stop: at(1, 400),
        start_time: Timestamp(0),
        stop_time: Timestamp(0),
        size_bytes: 1,
        stored_bytes: 1,
        parent: None,
        id: String::new(),
    };
    let records = vec![(tli(1), records)];
    World { records, fork: None, backups: vec![backup], missing: Vec::new(), monotone: true }
}

fn ask(world: &World, inventory: &Inventory, target: Target) -> Result<Plan, Unreachable> {
    ask_for(world, inventory, &Request::new(target))
}

fn ask_for(world: &World, inventory: &Inventory, request: &Request) -> Result<Plan, Unreachable> {
    let mut known = Known::default();
    for _ in 0..100 {
        match plan(inventory, request, &known) {
            Err(Unsettled::Need(need)) => world.answer(&need, inventory, &mut known),
            Err(Unsettled::Unreachable(reason)) => return Err(reason),
            Ok(plan) => return Ok(plan),
        }
    }
    panic!("it does not settle");
}

#[test]
fn r12_a_search_that_could_not_see_all_says_so() {
    let name = |name: &str| Target::Name(name.to_owned());
    let whole = world();
    let sound = whole.inventory();
    let mut lost = sound.clone();
    lost.add_lost_end(tli(1), Lsn(9 * size().bytes()));
    let hole = World { missing: vec![SegmentName::from_number(tli(1), 3, size())], ..world() };
    let holed = hole.inventory();
    for (world, inventory, is_missing) in
        [(&whole, &sound, None), (&whole, &lost, Some("has gone from it")), (&hole, &holed, Some("segment"))]
    {
        // What was found is there, and stays what it is whatever lies behind: the stop is a position.
        let by_xid = ask(world, inventory, Target::Xid(7)).unwrap();
        assert_eq!(by_xid.notes, [""; 0], "a transaction ends once");
        let by_name = ask(world, inventory, name("release")).unwrap();
        let tells = |text: &str| {
            is_missing
                .map_or(!text.contains("missing"), |what| text.contains("missing is") && text.contains(what))
        };
        assert_eq!(by_name.notes.len(), usize::from(is_missing.is_some()), "{is_missing:?}");
        assert!(
            by_name.notes.iter().all(|note| note.contains("WARNING") && tells(note)),
            "{:?}",
            by_name.notes
        );
        // What was not found may lie in what is missing.
        for target in [Target::Xid(8), name("nowhere")] {
            let refused = ask(world, inventory, target).unwrap_err().to_string();
            assert_eq!(refused.contains("it may lie in what is missing"), is_missing.is_some(), "{refused}");
        }
    }
}

fn at(number: u64, place: u64) -> Lsn {
    Lsn(number * size().bytes() + place)
}

fn of_first(number: u64) -> SegmentName {
    SegmentName::from_number(tli(1), number, size())
}

/// Timeline 2 left the first, and nothing of it is there.
fn left_at(inventory: &mut Inventory, fork: Lsn) {
    let ancestors = vec![Ancestor { timeline: tli(1), switch_point: fork, reason: "promotion".to_owned() }];
    inventory.add_history(TimelineHistory { timeline: tli(2), ancestors });
}

#[test]
fn r06_a_plan_that_stops_in_front_of_what_is_missing_says_so_whatever_shows_it() {
    let world = world();
    let on =
        |timeline: u32, target: Target| Request { timeline: Some(tli(timeline)), ..Request::new(target) };
    let pieces = Some(at(5, 500));
    for (what, pieces, fork, partial, missing) in [
        ("nothing is missing", None, None, None, None),
        ("only pieces are there", pieces, None, None, None),
        (
            "the fork lies in a later segment than the last piece",
            pieces,
            Some(at(7, 100)),
            None,
            Some((5, 6)),
        ),
        ("and a .partial file does", pieces, Some(at(7, 100)), Some(7), Some((5, 6))),
        ("nobody has the history", pieces, None, Some(6), Some((5, 5))),
        ("the fork lies in the segment of the last piece", pieces, Some(at(5, 800)), None, Some((5, 5))),
        ("the fork lies behind the last piece", pieces, Some(at(5, 500)), None, None),
        ("the fork lies in the pieces", pieces, Some(at(5, 30)), None, None),
        ("whole segments end before that of the fork", None, Some(at(7, 100)), None, Some((5, 6))),
        ("nobody has the history of those", None, None, Some(6), Some((5, 5))),
        ("the segment of the fork was not finished", None, Some(at(5, 100)), Some(5), None),
    ] {
        let mut inventory = world.inventory();
        pieces.into_iter().for_each(|end| inventory.add_tail(of_first(5), end));
        fork.into_iter().for_each(|fork| left_at(&mut inventory, fork));
        partial.into_iter().for_each(|number| inventory.add_partial(of_first(number)));
        let last = if pieces.is_some() { at(5, 40) } else { at(4, 40) };
        let mut requests = vec![on(1, Target::Latest), on(1, Target::Lsn(last))];
        // Also where the path goes on over the fork.
        requests.extend(fork.filter(|fork| *fork > at(6, 0)).map(|_| on(2, Target::Lsn(last))));
        for request in requests {
            let plan =
                ask_for(&world, &inventory, &request).unwrap_or_else(|reason| panic!("{what}: {reason}"));
            assert_eq!(plan.stop, Stop::Record { lsn: last, inclusive: true }, "{what}");
            assert_eq!(plan.in_pieces, pieces, "{what}");
            let hole = plan.hole_behind.map(|hole| {
                assert_eq!(hole.from, pieces, "{what}");
                (hole.first.number(size()), hole.last.number(size()))
            });
            assert_eq!(hole, missing, "{what}");
            let is_told = request.target == Target::Latest && missing.is_some();
            assert_eq!(plan.notes.len(), usize::from(is_told), "{what}: {:?}", plan.notes);
        }
        // What proves that there was more is no end of the archive.
        let is_all = missing.is_none() && fork.is_none();
        assert_eq!(ask(&world, &inventory, Target::Latest).is_ok(), is_all, "{what}");
        let behind = ask_for(&world, &inventory, &on(1, Target::Lsn(at(9, 0)))).unwrap_err();
        assert_eq!(matches!(behind, Unreachable::Hole { .. }), missing.is_some(), "{what}: {behind}");
    }
}

#[test]
fn r12_what_is_offered_instead_of_a_fork_that_is_not_reached_can_be_had() {
    let world = world();
    for (pieces, fork, offered) in [
        (Some(at(5, 500)), at(7, 100), "--timeline 1 --latest"),
        (Some(at(5, 500)), at(5, 800), "--timeline 1 --latest"),
        // No record is known to begin there or later.
        (Some(at(5, 500)), at(5, 400), "--timeline 1 --latest"),
        (None, at(6, 0), "--timeline 1 --latest"),
        // The old primary went on: what it wrote behind the fork is not what was asked for.
        (None, at(3, 500), "--timeline 1 --lsn 0/C00001F4 --exclusive"),
    ] {
        let mut inventory = world.inventory();
        pieces.into_iter().for_each(|end| inventory.add_tail(of_first(5), end));
        left_at(&mut inventory, fork);
        let reason = ask(&world, &inventory, Target::Latest).unwrap_err();
        assert!(reason.to_string().ends_with(&format!("ask for {offered}")), "{reason}");
        let Unreachable::ForkUnreached { instead: Some(request), .. } = reason else { panic!("{reason}") };
        let plan = ask_for(&world, &inventory, &request).unwrap();
        assert_eq!(plan.timeline, tli(1));
    }
    let mut inventory = world.inventory();
    left_at(&mut inventory, at(7, 0));
    inventory.backups.clear();
    inventory.add_backup(Backup {
        timeline: tli(2),
        start: at(8, 40),
        stop: at(8, 400),
        ..world.backups[0].clone()
    });
    let reason = ask(&world, &inventory, Target::Latest).unwrap_err().to_string();
    assert!(!reason.contains("--timeline 1"), "{reason}");
}
