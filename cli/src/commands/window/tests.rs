use highwater_catalog::windows;

use super::text;
use crate::commands::golden::{World, at, is_golden, show};

fn told(name: &str, world: &World) -> String {
    let branches = world.settle(windows).unwrap();
    let text = text(&world.inventory, &branches, &show);
    is_golden(name, &text);
    text
}

#[test]
fn one_timeline() {
    let world = World::new()
        .segments(1, 2..=9)
        .backup("monday", 1, 3, at(3, 0))
        .backup("tuesday", 1, 6, at(6, 0))
        .commit(1, 4, 731, at(4, 0))
        .commit(1, 8, 742, at(8, 30));
    told("window-one-timeline", &world);
}

#[test]
fn an_idle_archive_reaches_further_than_its_last_commit() {
    let world = World::new().segments(1, 2..=12).backup("daily", 1, 3, at(3, 0)).commit(1, 4, 731, at(4, 0));
    let text = told("window-idle", &world);
    assert!(
        text.contains("last commit 2026-11-20 10:04:00 +00:00")
            && text.contains("until       2026-11-20 11:00:00")
    );
}

#[test]
fn after_failovers_that_left_nothing_behind_there_is_one_column() {
    let world = World::new()
        .segments(1, 2..=4)
        .segments(2, 5..=7)
        .segments(3, 8..=9)
        .history(2, "1\t0/580000\tno recovery target specified\n")
        .history(3, "1\t0/580000\tno recovery target specified\n2\t0/880000\tno recovery target specified\n")
        .backup("first", 1, 3, at(3, 0))
        .backup("second", 2, 6, at(6, 0))
        .commit(1, 4, 731, at(4, 0))
        .commit(2, 7, 742, at(7, 0))
        .commit(3, 9, 750, at(9, 0));
    told("window-failovers", &world);
}

#[test]
fn a_cluster_that_went_back_has_a_branch_beside_the_old_timeline() {
    let world = World::new()
        .segments(1, 2..=9)
        .segments(2, 5..=7)
        .history(2, "1\t0/5C0000\tbefore 2026-11-20 10:05:01.5+00\n")
        .backup("daily", 1, 3, at(3, 0))
        .commit(1, 5, 731, at(5, 0))
        .commit(1, 8, 750, at(8, 0))
        .commit(2, 6, 732, at(9, 0));
    let text = told("window-went-back", &world);
    assert!(text.contains("├─◆") && text.contains("recovery target: before"));
}

#[test]
fn holes_say_what_they_cut_off() {
    let world = World::new()
        .segments(1, 2..=4)
        .segments(1, 7..=8)
        .segments(1, 11..=14)
        .backup("first", 1, 3, at(3, 0))
        .backup("lost", 1, 9, at(9, 0))
        .backup("second", 1, 12, at(12, 0))
        .commit(1, 4, 731, at(4, 0))
        .commit(1, 13, 750, at(13, 0));
    let text = told("window-holes", &world);
    assert!(text.contains("and it makes unusable: lost"));
}

#[test]
fn three_levels_of_branches() {
    let world = World::new()
        .segments(1, 2..=12)
        .segments(2, 4..=9)
        .segments(3, 6..=8)
        .segments(4, 7..=10)
        .segments(5, 5..=6)
        .history(2, "1\t0/480000\tafter transaction 730\n")
        .history(3, "1\t0/480000\tafter transaction 730\n2\t0/680000\tbefore LSN 0/680000\n")
        .history(
            4,
            "1\t0/480000\tafter transaction 730\n2\t0/680000\tbefore LSN 0/680000\n3\t0/780000\tat restore point \"x\"\n",
        )
        .history(5, "1\t0/580000\tno recovery target specified\n")
        .backup("root", 1, 2, at(2, 0))
        .backup("deep", 4, 8, at(8, 0))
        .commit(1, 11, 760, at(11, 0))
        .commit(2, 8, 741, at(8, 0))
        .commit(3, 8, 751, at(8, 10))
        .commit(4, 9, 770, at(9, 0));
    told("window-three-levels", &world);
}

#[test]
fn a_fork_that_the_archive_does_not_reach() {
    let world = World::new()
        .segments(1, 2..=4)
        .history(2, "1\t0/780000\tno recovery target specified\n")
        .backup("daily", 1, 3, at(3, 0))
        .commit(1, 4, 731, at(4, 0));
    let text = told("window-fork-unreached", &world);
    assert!(text.contains("not reached"));
}

#[test]
fn a_hole_over_a_fork() {
    let world = World::new()
        .segments(1, 2..=4)
        .segments(2, 8..=9)
        .history(2, "1\t0/780000\tno recovery target specified\n")
        .backup("daily", 1, 3, at(3, 0))
        .commit(1, 4, 731, at(4, 0));
    told("window-hole-over-a-fork", &world);
}

#[test]
fn r12_no_window_begins_with_a_backup_that_was_found_damaged() {
    let mut world = World::new()
        .segments(1, 2..=9)
        .segments(1, 12..=19)
        .backup("monday", 1, 3, at(3, 0))
        .backup("tuesday", 1, 6, at(6, 0))
        .backup("wednesday", 1, 8, at(8, 0))
        .backup("thursday", 1, 13, at(13, 0))
        .commit(1, 8, 742, at(8, 30))
        .commit(1, 18, 750, at(18, 30));
    let found = ["monday", "wednesday", "thursday"].map(|label| {
        (label.to_owned(), format!("the verification of 2026-11-20 found packs/{label}: a bit is wrong"))
    });
    world.inventory.found_damaged = found.into();
    let text = told("window-found-damaged", &world);
    assert!(text.contains("backup monday, found DAMAGED") && text.contains("with backup tuesday instead"));
    assert!(text.contains("no backup that is not damaged leads to the moments"));
    let branches = world.settle(windows).unwrap();
    let from: Vec<&str> = branches[0].windows.iter().map(|window| window.backups[0].as_str()).collect();
    assert_eq!(from, ["tuesday"]);
    world.inventory.found_damaged.insert("tuesday".to_owned(), "it lacks a pack".to_owned());
    let branches = world.settle(windows).unwrap();
    assert!(branches[0].windows.is_empty() && branches[0].doubted.len() == 4);
}
