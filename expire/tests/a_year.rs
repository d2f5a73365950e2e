//! A year of daily backups, expired every day, with promotions and a server that goes on beside them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod common;

use common::{DAY_MICROS, World, Writing, assert_whole, at, listed, plan, tli};
use highwater_catalog::retention::{DAY, Rules};
use highwater_wal::Timestamp;

const WINDOW_DAYS: i64 = 14;

fn rules() -> Rules {
    Rules { window: Some(DAY * WINDOW_DAYS as u32), weekly: 6, monthly: 4, ..Rules::default() }
}

/// The commit that recovery to a time ends with, found the slow way.
fn last_commit(writing: &Writing, time: Timestamp) -> Option<Timestamp> {
    writing.commits.iter().take_while(|commit| commit.time <= time).last().map(|commit| commit.time)
}

/// Random moments of the window on a timeline: each can be planned, and ends with the right commit.
async fn assert_reached(world: &World, writing: &Writing, from: Timestamp, until: Timestamp, count: usize) {
    for _ in 0..count {
        let time = Timestamp(rand::random_range(from.0..=until.0));
        let plan = plan(&world.cluster, &at(time, writing.timeline)).await;
        let plan = plan.unwrap_or_else(|error| panic!("{time} on {}: {error}", writing.timeline));
        let expected = last_commit(writing, time);
        assert_eq!(plan.last_before.map(|commit| commit.time), expected, "{time} on {}", writing.timeline);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_a_year_of_daily_backups() {
    let mut world = World::new().await;
    let mut main = world.first_timeline();
    // The old primary goes on for three days after the first promotion.
    let mut beside: Option<(Writing, i64)> = None;
    let mut most_segments = 0;
    let mut most_packs = 0;
    for day in 1..=365_i64 {
        let moment = |hours: f64| world.at(day as f64 + hours / 24.0);
        if day == 120 || day == 250 {
            let old = main.clone();
            main = world.promote(&old, main.timeline.get() + 1).await;
            beside = (day == 120).then_some((old, day));
        }
        world.write(&mut main, &[moment(1.0), moment(3.0)]).await;
        if let Some((old, since)) = &mut beside
            && day < *since + 3
        {
            world.write(old, &[moment(2.0)]).await;
        }
        let now = moment(6.0);
        let (end, label) = (moment(5.0), format!("day-{day:03}"));
        world.back_up(&mut main, &label, end).await;
        world.expire(&rules(), now).await;

        let labels = listed(&world.cluster).await;
        assert_eq!(labels.last(), Some(&label), "the newest stays");
        most_segments = most_segments.max(world.store.names("/wal/").len());
        most_packs = most_packs.max(world.store.names("/packs/").len());
        if day % 20 != 0 && !(120..140).contains(&day) {
            continue;
        }
        // Nothing can be reached before the first backup.
        let from = (now.0 - WINDOW_DAYS * DAY_MICROS).max(world.at(1.0 + 5.0 / 24.0).0);
        assert_reached(&world, &main, Timestamp(from), end, 5).await;
        if let Some((old, since)) = &beside
            && old.commits.last().unwrap().time.0 >= from
        {
            // It was promoted in the segment behind the last backup on it.
            let until = old.commits.last().unwrap().time;
            assert!(day >= *since);
            assert_reached(&world, old, Timestamp(from), until, 5).await;
        }
    }
    let labels = listed(&world.cluster).await;
    for label in &labels {
        assert_whole(&world.cluster, label).await;
    }
    // 15 of the window, and as many weeks and months as have not been counted with them.
    let days: Vec<i64> = labels.iter().map(|label| label[4..].parse().unwrap()).collect();
    assert!(days.iter().rev().take(15).copied().eq((351..=365).rev()), "{days:?}");
    assert!((20..=24).contains(&labels.len()), "{labels:?}");
    // The old primary's WAL is gone, but for the segment in which nothing of its own lies; histories stay.
    let old = world.store.names("/wal/00000001/");
    assert!(old.len() <= 2, "{old:?}");
    assert_eq!(world.store.names(".history").len(), 2);
    // Three segments a day, for the window, its grace and its base; and two for each backup that is older.
    assert!(most_segments < 3 * (WINDOW_DAYS as usize + 3) + 2 * 12 + 12, "{most_segments}");
    assert!(most_packs < 25 * 16, "{most_packs}");
    let missing = tli(9);
    assert!(plan(&world.cluster, &at(world.at(300.0), missing)).await.is_err());
}
