//! Plans against a slow, obvious model of how PostgreSQL stops.

mod lost;
mod world;

use highwater_wal::{SegmentName, Timestamp};
use proptest::prelude::*;

use super::*;
pub(crate) use world::{FIRST_LSN, Kind, Rec, World, size, tli, world};
use world::{commits_while, is_commit};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// PostgreSQL's own rule, spelled out: replay from the backup, stop before the first end of a transaction later than the time.
    #[test]
    fn r15_a_time_stops_where_postgresql_would(world in world(), time in 0_i64..62, exclusive in any::<bool>()) {
        let timeline = Some(world.newest().0);
        let request = Request { exclusive, timeline, ..Request::new(Target::Time(Timestamp(time))) };
        let too_late = |rec: &Rec| matches!(rec.kind, Kind::End { time: at, .. } if at > time || (exclusive && at == time));
        if let Ok(plan) = world.settle(&request) {
            let readable = world.readable(&plan.backup);
            prop_assert!(plan.backup.stop_time <= Timestamp(time));
            prop_assert_eq!(world.applied(&plan), commits_while(&readable, |rec| !too_late(rec)));
            let newer = world.usable().into_iter().take_while(|b| b.label != plan.backup.label);
            for backup in newer {
                let reached = backup.stop_time <= Timestamp(time)
                    && !world.readable(backup).iter().any(|rec| rec.lsn < backup.stop && too_late(rec));
                prop_assert!(!reached, "a newer backup reaches it too: {}", backup.label);
            }
        } else if world.monotone {
            for backup in world.usable().iter().filter(|b| b.stop_time <= Timestamp(time)) {
                let readable = world.readable(backup);
                let stop = readable.iter().find(|rec| too_late(rec));
                prop_assert!(stop.is_none_or(|rec| rec.lsn < backup.stop), "it could be reached from {}", backup.label);
            }
        }
    }

    /// Without a timeline: the same as on the newest, unless timeline 1 gives another answer for the same time.
    #[test]
    fn r15_a_time_that_two_timelines_reach_with_other_commits_is_refused(
        world in world(), time in 0_i64..62, exclusive in any::<bool>()
    ) {
        let request = Request { exclusive, ..Request::new(Target::Time(Timestamp(time))) };
        let on = |timeline| world.settle(&Request { timeline: Some(timeline), ..request.clone() });
        let newest = on(world.newest().0);
        let answer = world.settle(&request);
        if world.fork.is_none() {
            prop_assert_eq!(answer.map(|plan| plan.stop), newest.map(|plan| plan.stop));
            return Ok(());
        }
        let in_time = |rec: &Rec| match rec.kind {
            Kind::End { time: at, .. } => at < time || (!exclusive && at == time),
            _ => false,
        };
        let left_behind = world.left_behind();
        let old = on(tli(1)).ok();
        let differs = old.as_ref().is_some_and(|plan| {
            let border = match plan.stop {
                Stop::Consistent => plan.backup.stop,
                Stop::Record { lsn, inclusive } => lsn + u64::from(inclusive),
            };
            // What was written between the fork and the backup cannot be seen where it is gone.
            let inventory = world.inventory();
            let mut between = world.fork.unwrap().0 / size().bytes()..plan.backup.start.0 / size().bytes();
            let is_unseen = between.any(|number| !inventory.has(SegmentName::from_number(tli(1), number, size())));
            is_unseen || left_behind.iter().any(|rec| rec.lsn < border)
        });
        match (newest, answer) {
            (Ok(newest), Ok(answer)) => {
                prop_assert!(!differs, "two answers");
                prop_assert_eq!(&newest.stop, &answer.stop);
                prop_assert_eq!(&newest.backup, &answer.backup);
                let left_out = old.is_none() && left_behind.iter().any(|rec| in_time(rec));
                prop_assert_eq!(!answer.notes.is_empty(), left_out, "{:?}", answer.notes);
            }
            (Ok(_), Err(reason)) => {
                let is_question = matches!(reason, Unreachable::SeveralTimelines { .. });
                prop_assert!(differs && is_question, "{reason}");
            }
            (Err(_), Ok(_)) => prop_assert!(false, "only the newest timeline is followed unasked"),
            (Err(_), Err(Unreachable::OnOtherTimeline { .. })) => prop_assert!(old.is_some()),
            (Err(newest), Err(reason)) => {
                prop_assert_eq!(newest, reason);
                let has_own = world.inventory().segments_on(tli(1)).is_some_and(|set| {
                    set.last().is_some_and(|last| last >= world.fork.unwrap().0 / size().bytes())
                });
                prop_assert!(old.is_none() || !has_own, "timeline 1 reaches it");
            }
        }
    }

    #[test]
    fn an_lsn_stops_at_the_first_record_there(world in world(), at in 0_u64..40 << 20, exclusive in any::<bool>()) {
        let request = Request { exclusive, ..Request::new(Target::Lsn(Lsn(at))) };
        let reaches = |backup: &&&Backup| {
            backup.stop <= Lsn(at) && world.readable(backup).iter().any(|rec| rec.lsn >= Lsn(at))
        };
        let usable = world.usable();
        let expected = usable.iter().find(reaches);
        match world.settle(&request) {
            Ok(plan) => {
                let readable = world.readable(&plan.backup);
                let mut commits = commits_while(&readable, |rec| rec.lsn < Lsn(at));
                let stop = readable.iter().find(|rec| rec.lsn >= Lsn(at)).unwrap();
                if !exclusive && is_commit(stop) {
                    commits.push(stop.lsn);
                }
                prop_assert_eq!(world.applied(&plan), commits);
                prop_assert!(expected.is_some_and(|b| b.label == plan.backup.label));
            }
            Err(_) => prop_assert!(
                usable.iter().find(|b| b.stop <= Lsn(at)).is_none_or(|b| !world.readable(b).iter().any(|rec| rec.lsn >= Lsn(at)))
            ),
        }
    }

    #[test]
    fn a_transaction_stops_at_its_end(world in world(), xid in 1_u32..30, exclusive in any::<bool>()) {
        let request = Request { exclusive, ..Request::new(Target::Xid(xid)) };
        if let Ok(plan) = world.settle(&request) {
            let Stop::Record { lsn, inclusive } = plan.stop else { panic!("an xid is a record") };
            prop_assert_eq!(inclusive, !exclusive);
            let readable = world.readable(&plan.backup);
            let stop = readable.iter().find(|rec| rec.lsn == lsn).unwrap();
            let ends_it = matches!(stop.kind, Kind::End { xid: ended, .. } if ended == xid);
            prop_assert!(ends_it);
            prop_assert!(lsn >= plan.backup.stop);
        } else {
            let ends_it = |rec: &&Rec| matches!(rec.kind, Kind::End { xid: ended, .. } if ended == xid);
            // Of several transactions with one id the latest is meant, whether or not it can be reached.
            if world.newest().1.iter().filter(ends_it).count() == 1 {
                for backup in world.usable() {
                    let readable = world.readable(backup);
                    let end = readable.iter().copied().find(ends_it);
                    prop_assert!(end.is_none_or(|rec| rec.lsn < backup.stop), "it could be reached from {}", backup.label);
                }
            }
        }
    }

    #[test]
    fn r12_every_segment_of_a_plan_is_there(world in world(), choice in 0_u8..5, value in 0_i64..62) {
        let target = match choice {
            0 => Target::Latest,
            1 => Target::Immediate,
            2 => Target::Time(Timestamp(value)),
            3 => Target::Xid(value as u32),
            _ => Target::Name(format!("p{}", value % 4)),
        };
        let Ok(plan) = world.settle(&Request::new(target)) else { return Ok(()) };
        let inventory = world.inventory();
        let mut number = plan.backup.start.0 / size().bytes();
        for run in &plan.wal {
            prop_assert_eq!(run.first.number(size()), number);
            for _ in 0..run.segments {
                let name = SegmentName::from_number(run.first.timeline, number, size());
                prop_assert!(inventory.segments_on(name.timeline).unwrap().contains(number));
                number += 1;
            }
            prop_assert_eq!(run.last.number(size()) + 1, number);
        }
        prop_assert!(number * size().bytes() >= plan.backup.stop.0);
        // What is said of the commits around the stop agrees with what recovery applies.
        let applied = world.applied(&plan);
        prop_assert_eq!(plan.last_before.map(|t| t.lsn), applied.last().copied());
        let readable = world.readable(&plan.backup);
        let next = readable.iter().filter(|rec| is_commit(rec)).nth(applied.len());
        prop_assert_eq!(plan.first_after.map(|t| t.lsn), next.map(|rec| rec.lsn));
    }

    #[test]
    fn the_latest_is_everything(world in world()) {
        if let Ok(plan) = world.settle(&Request::new(Target::Latest)) {
            let readable = world.readable(&plan.backup);
            prop_assert_eq!(world.applied(&plan), commits_while(&readable, |_| true));
            // What a history proves to have been written is in it, or it is no plan.
            let run = world.path(plan.timeline).run_from(&world.inventory(), plan.backup.start.0 / size().bytes());
            let reached = Lsn((run.unwrap() + 1) * size().bytes());
            prop_assert!(world.fork.is_none_or(|fork| fork <= reached));
            prop_assert_eq!(plan.notes.is_empty(), world.left_behind().is_empty(), "{:?}", plan.notes);
        }
    }
}
