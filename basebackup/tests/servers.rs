//! Backups of servers of every version, and servers started from them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the right answer")]
#![allow(dead_code, reason = "not every test uses all that they have in common")]

mod common;

use common::{Setting, Told};
use highwater_basebackup::{Phase, run};
use highwater_tests::{Load, Postgres, VERSIONS};

const ROWS: &str = "create table t as select n, md5(n::text) as text from generate_series(1, 20000) as n";

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_backed_up_and_starts_again() {
    for version in VERSIONS {
        let setting = Setting::new(Postgres::builder().version(version)).await;
        setting.server.sql(ROWS);
        let load = Load::start(&setting.server);
        load.wait_for_commits(50);
        let report = setting.back_up(|_| {}).await.unwrap_or_else(|error| panic!("{version}: {error}"));
        load.wait_for_commits(50);
        load.stop();
        setting.server.archive_now();

        let head = setting.head(report.label.as_str()).await.unwrap();
        let facts = head.postgres.unwrap();
        assert_eq!(facts.server_version / 10_000, version);
        assert!(report.wal_was_read && report.segments >= 1 && report.files > 500, "{report:?}");
        assert_eq!((facts.start_lsn, facts.stop_lsn), (report.start_lsn, report.stop_lsn));
        assert!(facts.start_lsn <= facts.checkpoint_lsn && facts.checkpoint_lsn < facts.stop_lsn);

        let restored = setting.recover(&report.label).await;
        for query in
            ["select count(*), sum(n) from t", "select count(*) from load_rows", "select * from load_total"]
        {
            assert_eq!(restored.rows(query), setting.server.rows(query), "{version}: {query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_and_segments_of_1_mib() {
    let setting = Setting::new(Postgres::builder().wal_segment_size_mb(1)).await;
    setting.server.tablespace("space");
    setting.server.sql("create table elsewhere tablespace space as select generate_series(1, 30000) as n");
    setting.server.sql(ROWS);
    let told = Told::default();
    let report = run(&setting.options(), &setting.repository, &told).await.unwrap();
    setting.server.sql("insert into elsewhere select 7");
    setting.server.archive_now();

    let tablespaces = setting.head(report.label.as_str()).await.unwrap().postgres.unwrap().tablespaces;
    assert_eq!(tablespaces.len(), 1);
    assert!(tablespaces[0].location.ends_with("tablespace-space"), "{tablespaces:?}");
    let restored = setting.recover(&report.label).await;
    assert_eq!(restored.value("select count(*) from elsewhere"), "30001");
    assert_eq!(restored.value("select count(*) from t"), "20000");

    let phases = told.phases.lock().unwrap();
    let begun = Phase::Begun { label: report.label.clone(), parent: None };
    for phase in
        [Phase::Connecting, begun, Phase::Checkpoint, Phase::Copying, Phase::Matching, Phase::Finishing]
    {
        assert!(phases.contains(&phase), "{phase:?} is not among {phases:?}");
    }
    let last = *told.amounts.lock().unwrap().last().unwrap();
    assert!(last.bytes == last.total_bytes && last.bytes >= report.bytes, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_taken_over_from_the_backup_before() {
    let setting = Setting::new(Postgres::builder()).await;
    setting
        .server
        .sql("create table big as select n, md5(n::text) as text from generate_series(1, 300000) as n");
    setting.server.sql("vacuum freeze big");
    let first = setting.back_up(|options| options.label = Some("first".parse().unwrap())).await.unwrap();
    assert_eq!((first.parent, first.reused_bytes), (None, 0));

    setting.server.sql("update big set text = 'changed' where n = 150000");
    let second = setting.back_up(|options| options.label = Some("second".parse().unwrap())).await.unwrap();
    assert_eq!(second.parent, Some(first.label));
    assert!(second.reused_bytes > second.bytes * 8 / 10, "{second:?}");
    assert!(second.stored_bytes < first.stored_bytes / 4, "{second:?}");
    let restored = setting.recover(&second.label).await;
    assert_eq!(restored.value("select count(*) from big where text = 'changed'"), "1");
    assert_eq!(restored.value("select count(*) from big"), "300000");

    let label = Some("third".parse().unwrap());
    let full = setting.back_up(|options| (options.label, options.full) = (label, true)).await.unwrap();
    assert_eq!((full.parent, full.reused_bytes), (None, 0));
}

/// The stop's time divides commits: those in the backup have earlier ones, and those that come later, later ones.
#[tokio::test(flavor = "multi_thread")]
async fn r10_times_are_the_servers_and_commits_lie_on_their_side_of_them() {
    let setting = Setting::new(Postgres::builder()).await;
    let load = Load::start(&setting.server);
    load.wait_for_commits(20);
    let before = setting.server.value("select max(pg_xact_commit_timestamp(xmin)) from load_rows");
    let report = setting.back_up(|_| {}).await.unwrap();
    let at_end = setting.server.value("select pg_current_wal_lsn()");
    load.wait_for_commits(20);
    load.stop();
    let after = setting.server.value(&format!(
        "select min(pg_xact_commit_timestamp(xmin)) from load_rows where pg_xact_commit_timestamp(xmin) > '{}'",
        report.stop_time
    ));
    for query in [
        format!("select '{before}'::timestamptz < '{}'::timestamptz", report.start_time),
        format!("select '{}'::timestamptz < '{}'::timestamptz", report.start_time, report.stop_time),
        format!("select '{after}'::timestamptz > '{}'::timestamptz", report.stop_time),
        format!("select '{at_end}'::pg_lsn >= '{}'::pg_lsn", report.stop_lsn),
        format!("select '{}'::timestamptz < clock_timestamp()", report.stop_time),
    ] {
        assert_eq!(setting.server.value(&query), "t", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_can_be_backed_up_too() {
    let setting = Setting::new(Postgres::builder()).await;
    setting.server.sql(ROWS);
    let standby = setting.server.standby("standby").start();
    let load = Load::start(&setting.server);
    load.wait_for_commits(100);
    setting.server.sql("checkpoint");
    standby.wait_for(
        "select pg_last_wal_replay_lsn() >= (select redo_lsn from pg_control_checkpoint())",
        highwater_tests::PATIENCE,
    );
    let options = common::options_for(&standby);
    let told = Told::default();
    let switching = async {
        // The standby's backup ends in a segment that only the primary can complete.
        loop {
            let is_waiting = |phase: &Phase| matches!(phase, Phase::Wal { missing: Some(_), .. });
            if told.phases.lock().unwrap().iter().any(is_waiting) {
                setting.server.archive_now();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let report = tokio::select! {
        report = run(&options, &setting.repository, &told) => report.unwrap(),
        () = switching => unreachable!("it never ends"),
    };
    load.stop();
    setting.server.archive_now();
    let facts = setting.head(report.label.as_str()).await.unwrap().postgres.unwrap();
    assert!(facts.from_standby);
    let restored = setting.recover(&report.label).await;
    for query in ["select count(*) from t", "select count(*) from load_rows"] {
        assert_eq!(restored.value(query), setting.server.value(query), "{query}");
    }
}
