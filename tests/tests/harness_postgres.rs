//! The harness itself: PostgreSQL servers start, stop, die, recover, are copied.

use std::time::Duration;

use highwater_tests::{Clock, Postgres, StopMode, VERSIONS};

#[test]
fn every_version_starts_and_answers() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).wal_segment_size_mb(1).start();
        assert!(server.value("show server_version").starts_with(&version.to_string()), "{version}");
        assert_eq!(server.value("show wal_segment_size"), "1MB");
        assert_eq!(server.value("show data_checksums"), "on");
    }
}

#[test]
fn a_killed_server_recovers() {
    let server = Postgres::start();
    server.sql("create table t as select generate_series(1, 10) as n");
    server.kill9();
    assert!(!server.is_running());
    server.start_again().unwrap();
    assert_eq!(server.value("select sum(n) from t"), "55");
    assert!(server.log().contains("automatic recovery in progress"));
    server.restart();
    assert!(!server.log().contains("automatic recovery in progress"));
}

#[test]
fn a_start_that_fails_tells_why() {
    let server = Postgres::start();
    server.stop(StopMode::Fast);
    std::fs::remove_file(server.data_dir().join("global/pg_control")).unwrap();
    let failure = Postgres::from_data_dir(server.data_dir()).try_start().unwrap_err();
    assert!(failure.log.contains("could not find the database system"), "{failure}");
}

#[test]
fn a_standby_follows_and_is_promoted() {
    for version in VERSIONS {
        let primary = Postgres::builder().version(version).start();
        primary.sql("create table t (n int)");
        let standby = primary.standby("one").start();
        primary.sql("insert into t values (1)");
        standby.wait_for("select count(*) = 1 from t", Duration::from_secs(30));
        standby.promote();
        standby.sql("insert into t values (2)");
        assert_eq!(standby.value("select left(pg_walfile_name(pg_current_wal_lsn()), 8)"), "00000002");
    }
}

#[test]
fn archiving_and_tablespaces_work() {
    let server = Postgres::builder().archive_command("test ! -e ../%f && cp %p ../%f").start();
    let folder = server.tablespace("elsewhere");
    server.sql("create table t (n int) tablespace elsewhere");
    assert!(folder.read_dir().unwrap().next().is_some());
    let segment = server.archive_now();
    assert_eq!(server.folder().join(segment).metadata().unwrap().len(), 16 << 20);
}

#[test]
fn settings_change_while_the_server_runs() {
    let server = Postgres::builder().setting("archive_mode", "on").start();
    server.configure("archive_timeout", "60s");
    assert_eq!(server.value("show archive_timeout"), "1min");
    server.configure("archive_command", "cp %p '../%f'");
    assert_eq!(server.folder().join(server.archive_now()).metadata().unwrap().len(), 16 << 20);
}

#[test]
fn tls_and_passwords_can_be_asked_for() {
    for version in VERSIONS {
        let server = Postgres::builder()
            .version(version)
            .tls()
            .hba("hostssl all all 127.0.0.1/32 scram-sha-256")
            .start();
        server.sql("create role app login password 'secret'");
        let url = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=app dbname=postgres sslmode=verify-full sslrootcert={}",
            server.address().port(),
            server.ca_certificate().display()
        );
        let psql = |password| {
            let mut command = std::process::Command::new(highwater_tests::client_program(15, "psql"));
            command.args(["-XAtc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()", &url]);
            command.env("PGPASSWORD", password).output().unwrap()
        };
        assert_eq!(String::from_utf8_lossy(&psql("secret").stdout).trim(), "t", "{version}");
        assert!(!psql("wrong").status.success());
    }
}

#[test]
fn errors_carry_their_code() {
    let server = Postgres::start();
    let error = server.try_rows("select 1/0").unwrap_err();
    assert_eq!(error.code, "22012");
    let mut session = server.session();
    assert!(session.try_rows("nonsense").is_err());
    assert_eq!(session.rows("select null, 1"), [[None, Some("1".to_owned())]]);
}

#[test]
fn a_servers_clock_is_moved_while_it_runs() {
    for version in VERSIONS {
        let clock = Clock::new();
        let server = Postgres::builder().version(version).clock(&clock).start();
        let before = server.now();
        let later = |hours: i64| {
            format!(
                "select clock_timestamp() - '{before}'::timestamptz between '{hours} h' and '{hours} h 5 min'"
            )
        };
        clock.off_by(2 * 3600);
        assert_eq!(server.value(&later(2)), "t", "PostgreSQL {version}");
        clock.off_by(0);
        assert_eq!(server.value(&later(0)), "t", "PostgreSQL {version}");
        clock.stand_still_at("2026-02-03 04:05:06");
        assert_eq!(server.column("select clock_timestamp()"), server.column("select clock_timestamp()"));
        assert_eq!(server.now(), "2026-02-03 04:05:06+00");
        clock.off_by(-3600);
        assert_eq!(server.value(&later(-1)), "t", "PostgreSQL {version}");
    }
}
