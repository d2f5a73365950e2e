//! New timelines: their first segments, the old ones' last segments, and their histories.

use std::fs;
use std::time::Duration;

use highwater_tests::{Postgres, StopMode, VERSIONS, give_to_server_account};
use highwater_wal::{
    Kind, Lsn, Records, SegmentKind, SegmentName, SegmentSize, TimelineHistory, TimelineId, WalFile,
};

use crate::support::{ARCHIVE_COMMAND, archived, archived_segments, check};

const LIMIT: Duration = Duration::from_secs(60);

fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn primary(version: u32) -> Postgres {
    let builder =
        Postgres::builder().version(version).wal_segment_size_mb(1).setting("wal_keep_size", "100MB");
    let primary = builder.archive_command(ARCHIVE_COMMAND).start();
    primary.sql("create table t as select generate_series(1, 1000) as n");
    primary.sql("select pg_switch_wal()");
    primary.sql("insert into t values (0)");
    primary
}

/// Waits until `standby` has replayed all that `server` has written.
fn catch_up(server: &Postgres, standby: &Postgres) {
    let written = server.value("select coalesce(pg_last_wal_replay_lsn(), pg_current_wal_lsn())").to_owned();
    standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), LIMIT);
}

fn history(server: &Postgres, timeline: u32) -> TimelineHistory {
    let file = server.data_dir().join("pg_wal").join(tli(timeline).history_name());
    TimelineHistory::parse(tli(timeline), fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_promotion_leaves_a_partial_segment_and_one_that_begins_with_a_copy() {
    for version in VERSIONS {
        let primary = primary(version);
        let standby = primary.standby("one").archive_command(ARCHIVE_COMMAND).start();
        primary.sql("insert into t select generate_series(1, 200)");
        catch_up(&primary, &standby);
        standby.promote();
        standby.sql("insert into t select generate_series(1, 200)");
        standby.archive_now();
        let history = history(&standby, 2);
        assert_eq!(history.path()[0].timeline, tli(1));
        let fork = history.ancestors[0].switch_point;
        assert_eq!(history.ancestors[0].reason, "no recovery target specified");
        assert_eq!(TimelineHistory::parse(tli(2), history.to_string()).unwrap(), history);
        let files = archived(standby.data_dir().parent().unwrap());
        assert!(files.iter().any(|(file, _)| *file == WalFile::History(tli(2))));
        let (partial, path) = files
            .iter()
            .find_map(|(file, path)| match file {
                WalFile::Partial(name) => Some((*name, path)),
                _ => None,
            })
            .unwrap();
        assert_eq!(partial.timeline, tli(1));
        let bytes = fs::read(path).unwrap();
        let summary = check(partial, &bytes, SegmentKind::Partial).unwrap();
        assert_eq!(summary.end, Some(fork), "{version}");
        let refusal = check(partial, &bytes, SegmentKind::Complete).unwrap_err();
        assert!(refusal.lsn >= fork, "{refusal}");
        check(partial, &bytes, SegmentKind::Ended(fork)).unwrap();
        let (first, path) = &archived_segments(standby.data_dir().parent().unwrap(), 2)[0];
        assert_eq!(*first, partial.on(tli(2)));
        let summary = check(*first, &fs::read(path).unwrap(), SegmentKind::Complete).unwrap();
        let end = summary.end_of_recovery[0];
        assert_eq!((end.lsn, end.timeline, end.previous), (fork, tli(2), tli(1)), "{version}");
        read_over_the_fork(&primary, &standby, fork);
    }
}

/// The old timeline's segments up to the fork, then the new one's: every record once, in order.
fn read_over_the_fork(primary: &Postgres, standby: &Postgres, fork: Lsn) {
    let size = SegmentSize::new(1 << 20).unwrap();
    let at_fork = SegmentName::containing(tli(2), fork, size);
    let old = archived_segments(primary.folder(), 1).into_iter();
    let old = old.filter(|(name, _)| name.number(size) < at_fork.number(size));
    let new = archived_segments(standby.data_dir().parent().unwrap(), 2);
    let mut records = Records::new(size, None);
    let mut last = None;
    let mut timelines = Vec::new();
    for (name, path) in old.chain(new) {
        records.push_segment(name, fs::read(path).unwrap()).unwrap();
        for record in records.by_ref() {
            let record = record.unwrap_or_else(|refusal| panic!("{refusal}"));
            assert!(last.is_none_or(|last| last == record.header.previous));
            last = Some(record.lsn);
            if let Kind::EndOfRecovery(end) = record.kind {
                timelines.push((record.lsn, end.timeline));
            }
        }
    }
    assert_eq!(timelines, [(fork, tli(2))]);
}

#[test]
fn a_standby_that_archives_leaves_the_old_timelines_last_segment_under_its_full_name() {
    for version in [15, 18] {
        let primary = primary(version);
        let middle = primary.standby("middle").archive_command(ARCHIVE_COMMAND).start();
        catch_up(&primary, &middle);
        let last =
            middle.standby("last").archive_command(ARCHIVE_COMMAND).setting("archive_mode", "always").start();
        primary.sql("insert into t select generate_series(1, 200)");
        catch_up(&primary, &middle);
        catch_up(&middle, &last);
        primary.stop(StopMode::Immediate);
        middle.promote();
        middle.sql("insert into t values (-7)");
        last.wait_for("select count(*) = 1 from t where n = -7", LIMIT);
        let fork = history(&last, 2).ancestors[0].switch_point;
        let name = SegmentName::containing(tli(1), fork, SegmentSize::new(1 << 20).unwrap());
        let file = last.data_dir().parent().unwrap().join("archive").join(name.to_string());
        highwater_tests::wait_until("the segment is archived", LIMIT, || {
            file.metadata().is_ok_and(|metadata| metadata.len() == 1 << 20)
        });
        let bytes = fs::read(&file).unwrap();
        let refusal = check(name, &bytes, SegmentKind::Complete).unwrap_err();
        assert!(refusal.lsn >= fork, "{refusal}");
        let summary = check(name, &bytes, SegmentKind::Ended(fork)).unwrap();
        assert_eq!(summary.end, Some(fork));
        let later = check(name, &bytes, SegmentKind::Ended(refusal.lsn + 8)).unwrap_err();
        assert_eq!(later.lsn, refusal.lsn, "{later}");
    }
}

#[test]
fn a_target_before_the_fork_makes_a_history_whose_switch_points_go_back() {
    let primary = primary(15);
    let copy = primary.folder().join("copy");
    primary.copy_to(&copy);
    primary.sql("insert into t values (-1)");
    let target = primary.value("select pg_current_wal_lsn()");
    primary.sql("insert into t values (-2)");
    let standby = primary.standby("one").archive_command("cp %p ../archive/%f").start();
    catch_up(&primary, &standby);
    primary.archive_now();
    standby.promote();
    standby.archive_now();
    let signal = copy.join("recovery.signal");
    fs::write(&signal, "").unwrap();
    give_to_server_account(&signal);
    let recovered = Postgres::from_data_dir(&copy)
        .setting("restore_command", "cp ../archive/%f %p")
        .setting("archive_mode", "off")
        .setting("recovery_target_lsn", &target)
        .setting("recovery_target_action", "promote")
        .try_recover()
        .unwrap();
    assert_eq!(recovered.column("select n from t where n < 0 order by n"), ["-1"]);
    let history = history(&recovered, 3);
    let points: Vec<_> = history.ancestors.iter().map(|a| (a.timeline.get(), a.switch_point)).collect();
    assert_eq!(points.iter().map(|(timeline, _)| *timeline).collect::<Vec<_>>(), [1, 2]);
    assert!(points[1].1 < points[0].1, "{points:?}");
    let path = history.path();
    assert_eq!(path.iter().map(|stretch| stretch.timeline.get()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(path[0].end, Some(points[1].1));
}
