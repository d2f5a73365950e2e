//! Targets that are found by a search, where WAL is missing behind what was searched.

use super::super::*;
use super::{Kind, Rec, World, size, tli};
use highwater_wal::{SegmentName, Timestamp};

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
    let request = Request::new(target);
    let mut known = Known::default();
    for _ in 0..100 {
        match plan(inventory, &request, &known) {
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
