//! The commands of the replication protocol, and queries, on every version.

use crate::common::{replication, sql, value};
use highwater_replication::{Error, escape_identifier, escape_literal};
use highwater_tests::{Postgres, VERSIONS};
use highwater_wal::{Lsn, SystemId, TimelineHistory, TimelineId};

#[tokio::test]
async fn a_cluster_says_who_it_is() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).wal_segment_size_mb(1).start();
        let mut client = replication(&server.connection_string()).await.unwrap();
        assert_eq!(client.server_version().major(), version);
        assert_eq!(client.server_version().0.to_string(), server.value("show server_version_num"));
        let before: Lsn = server.value("select pg_current_wal_flush_lsn()").parse().unwrap();
        let identity = client.identify_system().await.unwrap();
        let system_id: SystemId =
            server.value("select system_identifier from pg_control_system()").parse().unwrap();
        assert_eq!((identity.system_id, identity.timeline), (system_id, TimelineId::FIRST));
        assert!(identity.position >= before && identity.database.is_none());
        for (setting, expected) in
            [("wal_segment_size", "1MB"), ("data_checksums", "on"), ("DateStyle", "ISO, MDY")]
        {
            assert_eq!(client.show(setting).await.unwrap(), expected, "{version}");
        }
        let error = client.show("no_such_setting").await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("42704"), "{error}");
        assert_eq!(client.timeline_history(TimelineId::FIRST).await.unwrap(), None);
        client.close().await;
        server.wait_for("select count(*) = 0 from pg_stat_replication", highwater_tests::PATIENCE);
        assert!(!server.log().contains("unexpected EOF"), "{}", server.log());
    }
}

#[tokio::test]
async fn a_timeline_has_its_history() {
    for version in VERSIONS {
        let primary = Postgres::builder().version(version).start();
        let standby = primary.standby("one").start();
        standby.promote();
        let mut client = replication(&standby.connection_string()).await.unwrap();
        let timeline = client.identify_system().await.unwrap().timeline;
        assert_eq!(timeline.get(), 2);
        let file = client.timeline_history(timeline).await.unwrap().unwrap();
        assert_eq!(file.name, "00000002.history");
        let on_disk = std::fs::read(standby.data_dir().join("pg_wal/00000002.history")).unwrap();
        assert_eq!(file.content, on_disk);
        let history = TimelineHistory::parse(timeline, std::str::from_utf8(&file.content).unwrap()).unwrap();
        assert_eq!(history.ancestors[0].timeline, TimelineId::FIRST);
        assert_eq!(client.timeline_history(TimelineId::new(77).unwrap()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn queries_give_rows_as_text() {
    let server = Postgres::start();
    let mut client = sql(&server.connection_string()).await.unwrap();
    let odd = r#"it's a "back\slash" ü"#;
    let query = format!("select {} as {}, null, 7", escape_literal(odd), escape_identifier(odd));
    let rows = client.query(&query).await.unwrap();
    assert_eq!(rows.columns, [odd, "?column?", "?column?"]);
    let row = rows.single().unwrap();
    assert_eq!(
        (row.text(0).unwrap(), row.text(1).unwrap(), row.parse::<u8>(2).unwrap()),
        (Some(odd), None, 7)
    );
    assert_eq!(value(&mut client, "show client_encoding").await, "UTF8");

    assert_eq!(
        client.query("create table t as select generate_series(1, 5000) as n").await.unwrap().tag,
        "SELECT 5000"
    );
    let rows = client.query("select n from t order by n").await.unwrap();
    assert_eq!((rows.rows.len(), rows.rows[4999].parse::<u32>(0).unwrap()), (5000, 5000));
    client.query("do $$ begin raise warning 'careful'; end $$").await.unwrap();
    assert_eq!(client.take_notices()[0].message, "careful");

    let error = client.query("select 1/0").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
    assert_eq!(value(&mut client, "select 1").await, "1", "an error leaves the connection usable");
    let large = client.query("select repeat('x', 20000000)").await.unwrap_err();
    assert!(matches!(large, Error::MessageTooLong { .. }), "{large}");

    let mut client = sql(&server.connection_string()).await.unwrap();
    let error = client.query("copy t to stdout").await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    let mut client = sql(&server.connection_string()).await.unwrap();
    let error = client.query("select 1; select 2").await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn settings_of_the_connection_string_reach_the_server() {
    let server = Postgres::start();
    let text = format!("{} application_name=nightly options='-c work_mem=7MB'", server.connection_string());
    let mut client = sql(&text).await.unwrap();
    assert_eq!(value(&mut client, "show work_mem").await, "7MB");
    let client = replication(&text).await.unwrap();
    let query = "select application_name from pg_stat_activity where backend_type = 'walsender'";
    assert_eq!(server.value(query), "nightly");
    drop(client);
    server.wait_for(
        "select count(*) = 0 from pg_stat_activity where backend_type = 'walsender'",
        highwater_tests::PATIENCE,
    );
}

#[tokio::test]
async fn what_a_role_may_not_do_is_explained() {
    let server = Postgres::start();
    server.sql("create role plain login");
    let text = server.connection_string().replace("user=postgres", "user=plain");
    let error = replication(&text).await.map(drop).unwrap_err();
    assert_eq!(error.sqlstate(), Some("42501"), "{error}");
    assert!(error.to_string().contains("REPLICATION"), "{error}");
}
