use highwater_catalog::{Request, RestoreSpeed, Target, plan};
use highwater_wal::Lsn;

use super::{Estimate, text};
use crate::commands::golden::{World, at, is_golden, show, tli};

/// A failover from timeline 1 to 2, and a clock that went back in segment 7.
fn world() -> World {
    World::new()
        .segments(1, 2..=4)
        .segments(2, 5..=9)
        .history(2, "1\t0/580000\tno recovery target specified\n")
        .backup("daily", 1, 3, at(3, 0))
        .commit(1, 4, 731, at(4, 0))
        .commit(2, 6, 740, at(6, 0))
        .commit(2, 7, 741, at(9, 0))
        .commit(2, 7, 742, at(7, 0))
        .commit(2, 8, 743, at(10, 0))
}

fn told(name: &str, request: &Request, recorded: Option<RestoreSpeed>) -> String {
    let found = world().settle(|inventory, known| plan(inventory, request, known)).unwrap();
    let text = text(&found, &Estimate::from(recorded, &found), &show);
    is_golden(name, &text);
    text
}

#[test]
fn a_time() {
    let text = told("plan-time", &Request::new(Target::Time(at(5, 0))), None);
    assert!(text.contains("no restore has been recorded yet"), "{text}");
    assert!(!text.contains("Clock"), "{text}");
}

#[test]
fn a_time_that_the_clock_passed_twice() {
    let text = told("plan-time-clock-went-back", &Request::new(Target::Time(at(8, 0))), None);
    assert!(text.contains("transaction 741 at") && text.contains("order in the WAL decides"), "{text}");
}

#[test]
fn a_transaction_with_an_estimate() {
    let recorded =
        RestoreSpeed { restores: 3, bytes_per_second: 120e6, latest: at(1, 0), on_this_host: true };
    told("plan-xid", &Request { exclusive: true, ..Request::new(Target::Xid(740)) }, Some(recorded));
}

#[test]
fn an_lsn_between_commits_that_are_out_of_order() {
    let text = told("plan-lsn-clock-went-back", &Request::new(Target::Lsn(Lsn(0x7C_0000))), None);
    assert!(text.contains("Clock"), "{text}");
}

#[test]
fn everything_and_as_little_as_can_be() {
    told("plan-latest", &Request::new(Target::Latest), None);
    told("plan-immediate", &Request::new(Target::Immediate), None);
    told("plan-timeline", &Request { timeline: Some(tli(1)), ..Request::new(Target::Latest) }, None);
}
