//! Restored clusters, started: PostgreSQL stops where the plan says, and a clone keeps away from its original.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use highwater_catalog::{Plan, Stop};
use highwater_repository::Codec;
use highwater_repository::manifest::Tablespace;
use highwater_restore::{Action, Kind, Options, RestoreCommand};
use highwater_tests::{Postgres, Program, Scratch, StopMode, VERSIONS, give_to_server_account};
use highwater_wal::{Lsn, SystemId};

use crate::fixture::{Facts, Home, Kept};

/// A server with a tablespace, backed up while it runs, with two rows committed behind the backup's end.
struct Scene {
    scratch: Scratch,
    home: Home,
    original: Postgres,
    kept: Kept,
    /// Between the two rows.
    between: Lsn,
}

impl Scene {
    async fn new(version: u32) -> Scene {
        let scratch = Scratch::new();
        let wal = scratch.folder("wal");
        let original = Postgres::builder()
            .version(version)
            .wal_segment_size_mb(16)
            .archive_command(&format!("test ! -e {0}/%f && cp %p {0}/%f", wal.display()))
            // All of these would spoil a restore that leaves them as they are.
            .setting("recovery_target_time", "2020-01-01 00:00:00+00")
            .setting("recovery_target_timeline", "latest")
            .setting("recovery_min_apply_delay", "1h")
            .setting("recovery_end_command", "false")
            .setting("primary_conninfo", "host=/nowhere")
            .start();
        let space = original.tablespace("elsewhere");
        original.sql("create table t (n int)");
        original.sql("create table far tablespace elsewhere as select generate_series(1, 10000) as n");
        original.sql("alter system set work_mem = '8MB'");
        original.sql("alter system set restore_command = 'an old one'");
        let (copy, start, stop) = back_up(&original, &scratch);
        let oid =
            original.value("select oid from pg_tablespace where spcname = 'elsewhere'").parse().unwrap();
        let facts = Facts {
            system_id: SystemId(
                original.value("select system_identifier from pg_control_system()").parse().unwrap(),
            ),
            server_version: original.value("show server_version_num").parse().unwrap(),
            start,
            stop,
            tablespaces: vec![Tablespace { oid, location: space.display().to_string() }],
        };
        let home = Home::new(Codec::Lz4, false).await;
        let kept = home.back_up(&copy, &facts).await;
        original.sql("insert into t values (1)");
        let between = original.value("select pg_current_wal_insert_lsn()").parse().unwrap();
        original.sql("select pg_create_restore_point('between')");
        original.sql("insert into t values (2)");
        original.archive_now();
        Scene { scratch, home, original, kept, between }
    }

    fn options(&self, target: &Path) -> Options {
        let script = self.scratch.file("fetch wal.sh", "#!/bin/sh\nexec cp \"$1/$2\" \"$3\"\n");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut options = Options::new(target, RestoreCommand::new(script, [self.wal()]).unwrap());
        let space = self.original.folder().join("tablespace-elsewhere");
        let to = target.with_extension("space");
        options.tablespaces.push(format!("{}={}", space.display(), to.display()).parse().unwrap());
        options
    }

    fn wal(&self) -> PathBuf {
        self.scratch.join("wal")
    }

    fn archived(&self) -> usize {
        fs::read_dir(self.wal()).unwrap().count()
    }

    fn stop_at(&mut self, stop: Stop) {
        self.kept.plan = Plan { stop, ..self.kept.plan.clone() };
    }
}

/// Copies the data directory of a running server as the manual's "low-level API" has it. Gives the copy, and where the
/// backup starts and stops.
fn back_up(server: &Postgres, scratch: &Scratch) -> (PathBuf, Lsn, Lsn) {
    let mut session = server.session();
    let (start, stop) = match server.version() {
        14 => ("pg_start_backup('copy', true, false)", "pg_stop_backup(false)"),
        _ => ("pg_backup_start('copy', true)", "pg_backup_stop()"),
    };
    session.rows(&format!("select {start}"));
    let copy = scratch.join("copy");
    // Files may go while they are copied: that is what the WAL is for.
    let _ = Program::new("/bin/cp", ["-a".as_ref(), server.data_dir().as_os_str(), copy.as_os_str()]).run();
    let row = session.rows(&format!("select lsn, labelfile, spcmapfile from {stop}")).remove(0);
    let [lsn, label, map] = [0, 1, 2].map(|column: usize| row[column].clone().unwrap());
    for (name, content) in [("backup_label", &label), ("tablespace_map", &map)] {
        fs::write(copy.join(name), content).unwrap();
    }
    let start = label.lines().next().unwrap().split_whitespace().nth(3).unwrap().parse().unwrap();
    (copy, start, lsn.parse().unwrap())
}

fn rows(server: &Postgres) -> Vec<String> {
    server.column("select n from t order by n")
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_every_version_stops_where_the_plan_says() {
    for version in VERSIONS {
        let mut scene = Scene::new(version).await;
        for (name, stop, expected) in [
            ("consistent", Stop::Consistent, &[][..]),
            ("before", Stop::Record { lsn: scene.between, inclusive: false }, &["1"]),
            ("after", Stop::Record { lsn: scene.between, inclusive: true }, &["1"]),
        ] {
            scene.stop_at(stop);
            let target = scene.scratch.join(name);
            let report = scene.kept.restore(&scene.options(&target)).await.unwrap();
            let restored = Postgres::from_data_dir(&target)
                .try_recover()
                .unwrap_or_else(|error| panic!("{error}\n{report}"));
            assert_eq!(rows(&restored), expected, "{version} {name}");
            assert_eq!(restored.value("select count(*) from far"), "10000");
            assert_eq!(restored.value("show work_mem"), "8MB");
            let place = restored
                .value("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'elsewhere'");
            assert_eq!(Path::new(&place), target.with_extension("space"));
            restored.restart();
            assert_eq!(rows(&restored), expected, "{version} {name}, started again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_clone_keeps_away_from_the_archive_of_its_original() {
    let mut scene = Scene::new(15).await;
    scene.stop_at(Stop::Record { lsn: scene.between, inclusive: false });
    let archived = scene.archived();
    let target = scene.scratch.join("clone");
    scene.kept.restore(&scene.options(&target)).await.unwrap();
    let clone = Postgres::from_data_dir(&target).try_recover().unwrap();
    clone.sql("insert into t values (3)");
    clone.sql("select pg_switch_wal()");
    assert_eq!(clone.value("show archive_mode"), "off");
    assert_eq!(clone.value("show primary_conninfo"), "");
    clone.stop(StopMode::Fast);
    assert_eq!(scene.archived(), archived, "the clone has archived");

    let target = scene.scratch.join("takeover");
    let options = Options { kind: Kind::Takeover, ..scene.options(&target) };
    scene.kept.restore(&options).await.unwrap();
    scene.original.stop(StopMode::Fast);
    let taken_over = Postgres::from_data_dir(&target).try_recover().unwrap();
    taken_over.archive_now();
    assert!(scene.wal().join("00000002.history").exists(), "a cluster that lives on archives");
    drop(scene.home);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_does_at_the_stop_what_was_asked() {
    let mut scene = Scene::new(15).await;
    scene.stop_at(Stop::Record { lsn: scene.between, inclusive: false });
    let target = scene.scratch.join("pause");
    scene.kept.restore(&Options { action: Action::Pause, ..scene.options(&target) }).await.unwrap();
    let paused = Postgres::from_data_dir(&target).setting("hot_standby", "on").start();
    paused.wait_for("select pg_get_wal_replay_pause_state() = 'paused'", highwater_tests::PATIENCE);
    assert_eq!(rows(&paused), ["1"]);
    paused.sql("select pg_wal_replay_resume()");
    paused.wait_until_recovered().unwrap();

    let target = scene.scratch.join("shutdown");
    scene.kept.restore(&Options { action: Action::Shutdown, ..scene.options(&target) }).await.unwrap();
    let down = Postgres::from_data_dir(&target).try_recover().unwrap_err();
    assert!(down.log.contains("shutdown at recovery target"), "{down}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_outside_the_data_directory_does_not_start_the_original() {
    let scene = Scene::new(15).await;
    let etc = scene.scratch.folder("etc");
    let other = Home::new(Codec::Lz4, false).await;
    let copy = scene.scratch.join("copy");
    let conf = fs::read_to_string(copy.join("postgresql.conf")).unwrap();
    let original = scene.original.data_dir().display().to_string();
    let lines = format!(
        "{conf}\ndata_directory = '{original}'\nhba_file = '{}'\n",
        etc.join("pg_hba.conf").display()
    );
    fs::write(etc.join("postgresql.conf"), lines).unwrap();
    fs::copy(copy.join("pg_hba.conf"), etc.join("pg_hba.conf")).unwrap();
    for name in ["postgresql.conf", "pg_hba.conf"] {
        give_to_server_account(&etc.join(name));
        fs::remove_file(copy.join(name)).unwrap();
    }
    let space = scene.original.folder().join("tablespace-elsewhere").display().to_string();
    let oid =
        scene.original.value("select oid from pg_tablespace where spcname = 'elsewhere'").parse().unwrap();
    let plan = &scene.kept.plan.backup;
    let facts = Facts {
        system_id: scene.kept.cluster.system_id(),
        server_version: 150_000,
        start: plan.start,
        stop: plan.stop,
        tablespaces: vec![Tablespace { oid, location: space }],
    };
    let kept = other.back_up(&copy, &facts).await;
    let target = scene.scratch.join("target");
    let report = kept.restore(&scene.options(&target)).await.unwrap();
    let expected = format!("-c data_directory={}", target.display());
    assert!(
        report.start.contains("-c config_file=/etc/postgresql/15/") && report.start.contains(&expected),
        "{report}"
    );
    let restored = Postgres::from_data_dir(&target)
        .setting("config_file", &etc.join("postgresql.conf").display().to_string())
        .setting("data_directory", &target.display().to_string())
        .try_recover()
        .unwrap();
    assert_eq!(restored.value("show data_directory"), target.display().to_string());
    assert_eq!(restored.value("show archive_mode"), "off");
}
