//! Names of relations, taken from servers of every version and compared with what they say themselves.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a panic is the right answer"
)]
#![allow(dead_code, reason = "not every test uses all that they have in common")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Setting;
use highwater_basebackup::{NAMES_LIMIT, NamesReport, Result, take_names};
use highwater_replication::Config as Connection;
use highwater_repository::{ClusterRepository, DatabaseNames, NamesId, NamesItem, RelationName};
use highwater_tests::{Postgres, VERSIONS};

async fn take(server: &Postgres, cluster: &ClusterRepository) -> Result<NamesReport> {
    let connection = Connection::parse(&server.connection_string()).unwrap();
    take_names(&connection, cluster, NAMES_LIMIT).await
}

type Read = Vec<(DatabaseNames, Vec<RelationName>)>;

async fn read(cluster: &ClusterRepository, id: &NamesId) -> Read {
    let mut reader = cluster.get_names(id).await.unwrap();
    let mut read: Read = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        match item {
            NamesItem::Database(database) => read.push((database, Vec::new())),
            NamesItem::Relation(relation) => read.last_mut().unwrap().1.push(relation),
        }
    }
    read
}

fn of<'a>(read: &'a Read, name: &str) -> &'a (DatabaseNames, Vec<RelationName>) {
    read.iter().find(|(database, _)| database.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Where each relation's file lies, as the server tells it: `oid → folder of tablespace/database/file`.
fn places_told(server: &Postgres, database: &str) -> BTreeMap<String, String> {
    let rows = server
        .session_in(database)
        .rows("select oid, pg_relation_filepath(oid) from pg_class where relkind in ('r','i','S','t','m') and relpersistence <> 't'");
    rows.into_iter()
        .map(|mut row| (row.remove(0).unwrap(), row.remove(0).expect("each of them has a file")))
        .collect()
}

/// The same out of the names.
fn places_read(server: &Postgres, read: &Read, database: &str) -> BTreeMap<String, String> {
    let catalog = format!("PG_{}_", server.version());
    let (found, relations) = of(read, database);
    let shared = &read[0].1;
    let told = shared.iter().chain(relations).filter(|relation| relation.file != 0);
    told.map(|relation| {
        let place = match relation.tablespace {
            1664 => format!("global/{}", relation.file),
            1663 => format!("base/{}/{}", found.oid, relation.file),
            other => format!("pg_tblspc/{other}/{catalog}/{}/{}", found.oid, relation.file),
        };
        (relation.oid.to_string(), place)
    })
    .collect()
}

/// `PG_15_202209061` depends on the version's catalog; the tests only need `PG_15_`.
fn without_catalog_version(place: String) -> String {
    place
        .split('/')
        .map(|part| if part.starts_with("PG_") { &part[..6] } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

const MAKE: &str = "\
create schema \"a.b\"; \
create table \"a.b\".\"quote\"\"d \\ new\nline ü 表\" (id int primary key, long text); \
create table parts (n int) partition by range (n); \
create table part_one partition of parts for values from (0) to (10); \
create table part_two partition of parts for values from (10) to (20) partition by range (n); \
create table part_two_a partition of part_two for values from (10) to (15); \
create materialized view seen as select 1 as n; \
create view only_a_view as select 1 as n; \
create sequence counter; \
create unlogged table quick (n int); \
create table moved (n int) tablespace space; \
create table emptied (n int)";

#[tokio::test(flavor = "multi_thread")]
async fn names_and_files_are_those_that_the_server_tells() {
    for version in VERSIONS {
        let setting = Setting::new(Postgres::builder().version(version)).await;
        let (server, cluster) = (&setting.server, setting.cluster().await);
        server.tablespace("space");
        server.sql(MAKE);
        // By itself: what a transaction has made it truncates in place.
        server.sql("truncate emptied");
        server.sql("vacuum full pg_class");
        server.sql("vacuum full pg_database");
        for sql in [
            "create database latin encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0",
            "create database bytes encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0",
            "create database elsewhere tablespace space",
            "create database closed allow_connections false",
            "create database \"odd \"\"name\"\" = 'x' ü\"",
        ] {
            server.sql(sql);
        }
        let mut latin = server.session_in("latin");
        latin.rows("set client_encoding to 'UTF8'");
        latin.rows("create table \"größe\" (n int)");
        server
            .session_in("bytes")
            .rows("do $$ begin execute format('create table %I ()', convert_from('\\x67f6df', 'SQL_ASCII')); end $$");
        server.session_in("elsewhere").rows("create table here (n int)");
        let mut temporary = server.session();
        temporary.rows("create temp table passing (n int)");

        let report = take(server, &cluster).await.unwrap_or_else(|error| panic!("{version}: {error}"));
        assert!(report.is_new && report.head.lsn <= report.head.until, "{report:?}");
        let unreadable: BTreeSet<&str> = report.unreadable.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(unreadable, BTreeSet::from(["closed", "template0"]), "{:?}", report.unreadable);
        let read = read(&cluster, &report.id).await;

        for database in ["postgres", "template1", "latin", "bytes", "elsewhere", "odd \"name\" = 'x' ü"] {
            let told = places_told(server, database).into_iter();
            let told: BTreeMap<_, _> =
                told.map(|(oid, place)| (oid, without_catalog_version(place))).collect();
            let found = places_read(server, &read, database).into_iter();
            let found: BTreeMap<_, _> =
                found.map(|(oid, place)| (oid, without_catalog_version(place))).collect();
            assert!(told.len() > 200);
            assert_eq!(found, told, "{version}: {database}");
        }

        let relations = &of(&read, "postgres").1;
        let named = |name: &str| {
            relations.iter().find(|relation| relation.name == name).unwrap_or_else(|| panic!("no {name}"))
        };
        let odd = named("quote\"d \\ new\nline ü 表");
        assert_eq!((odd.schema.as_str(), odd.kind, odd.persistence), ("a.b", 'r', 'p'));
        let of_odd: Vec<_> = relations.iter().filter(|relation| relation.table == Some(odd.oid)).collect();
        let kinds: Vec<char> = of_odd.iter().map(|relation| relation.kind).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == 't').count(), 1, "{of_odd:?}");
        assert_eq!(
            kinds.iter().filter(|kind| **kind == 'i').count(),
            2,
            "its key, its TOAST table's: {of_odd:?}"
        );
        assert_eq!((named("parts").kind, named("parts").file), ('p', 0));
        assert_eq!(named("part_one").partition_of, Some(named("parts").oid));
        assert_eq!(named("part_two_a").partition_of, Some(named("part_two").oid));
        assert_eq!(named("part_two").partition_of, Some(named("parts").oid));
        assert_eq!((named("seen").kind, named("counter").kind, named("quick").persistence), ('m', 'S', 'u'));
        assert_ne!(named("emptied").file, named("emptied").oid);
        for absent in ["only_a_view", "passing"] {
            assert!(relations.iter().all(|relation| relation.name != absent), "{absent}");
        }
        let has = |database, name| of(&read, database).1.iter().any(|relation| relation.name == name);
        assert!(has("latin", "größe") && has("bytes", "g\\xf6\\xdf"), "{version}");

        let again = take(server, &cluster).await.unwrap();
        assert!(!again.is_new && again.id == report.id, "nothing has changed");
        server.sql("alter table emptied rename to renamed");
        assert!(take(server, &cluster).await.unwrap().is_new);
        assert_eq!(cluster.list_names().await.unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_names_and_is_complete_without() {
    let setting = Setting::new(Postgres::builder()).await;
    setting.server.sql("create table t (n int)");
    let cluster = setting.cluster().await;
    let report = setting.back_up(|_| {}).await.unwrap();
    assert_eq!(cluster.list_names().await.unwrap(), [report.names.unwrap()]);

    // A role that may replicate, and connect to one database, but not read what the names are read with.
    setting.server.sql("revoke execute on function pg_relation_filenode(regclass) from public");
    setting.server.sql("create role careful login replication");
    let careful = setting.server.connection_string().replace("user=postgres", "user=careful");
    let report =
        setting.back_up(|options| options.connection = Connection::parse(&careful).unwrap()).await.unwrap();
    let reason = report.names.unwrap_err();
    assert!(reason.contains("pg_relation_filenode"), "{reason}");
    let (outcome, details) = setting.events().await.pop().unwrap();
    assert_eq!(outcome, "Done");
    assert!(details["names-missing"].as_str().unwrap().contains("pg_relation_filenode"), "{details}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_tells_names_too_and_its_timeline_after_a_promotion() {
    for version in [14, 18] {
        let setting = Setting::new(Postgres::builder().version(version)).await;
        let cluster = setting.cluster().await;
        let standby = setting.server.standby("next").start();
        setting.server.sql("create table t (n int)");
        let written = setting.server.value("select pg_current_wal_insert_lsn()");
        standby
            .wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), highwater_tests::PATIENCE);

        let report = take(&standby, &cluster).await.unwrap();
        assert!(report.head.from_standby && report.head.lsn >= written.parse().unwrap(), "{report:?}");
        let has_t = |read: &Read| of(read, "postgres").1.iter().any(|relation| relation.name == "t");
        assert!(has_t(&read(&cluster, &report.id).await));
        let of_primary = take(&setting.server, &cluster).await.unwrap();
        assert!(!of_primary.is_new, "both tell the same");

        standby.promote();
        standby.wait_for("select not pg_is_in_recovery()", highwater_tests::PATIENCE);
        let promoted = take(&standby, &cluster).await.unwrap();
        assert!(promoted.is_new && promoted.head.timeline.get() == 2 && !promoted.head.from_standby);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_and_tables_that_come_and_go_meanwhile_do_no_harm() {
    let setting = Setting::new(Postgres::builder()).await;
    let cluster = setting.cluster().await;
    let over = AtomicBool::new(false);
    let server = &setting.server;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut session = server.session();
            while !over.load(Ordering::Relaxed) {
                // A session of ours may be in template1 or in the database: PostgreSQL waits, and gives up after 5 s.
                session.rows("create database passing");
                session.rows("create table here (n int); create index on here (n); drop table here");
                session.rows("drop database passing with (force)");
            }
        });
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            runtime.block_on(async {
                for _ in 0..20 {
                    let report = take(server, &cluster).await.unwrap();
                    let kept = read(&cluster, &report.id).await;
                    assert!(of(&kept, "postgres").1.len() > 200);
                }
            });
        });
        over.store(true, Ordering::Relaxed);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be_had_in_time_are_an_error_that_says_so() {
    let setting = Setting::new(Postgres::builder()).await;
    let cluster = setting.cluster().await;
    let mut holding = setting.server.session();
    holding.rows("begin; lock table pg_class in access exclusive mode");
    let connection = Connection::parse(&setting.server.connection_string()).unwrap();
    let begun = std::time::Instant::now();
    let error = take_names(&connection, &cluster, Duration::from_secs(2)).await.unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(error.contains("more than 2 s") && error.contains("hint: "), "{error}");
    assert!(cluster.list_names().await.unwrap().is_empty());
}
