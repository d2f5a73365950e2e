//! `pg_class` and `pg_namespace` out of the WAL are what the servers have in them, at every moment.

use std::collections::{BTreeMap, HashMap};

use crate::wal_of::{builder, position, read};
use highwater_tests::{Postgres, VERSIONS};
use highwater_wal::{CatalogRow, CatalogRows, ClassRow, Kind, Lsn, RowChange, Untold};

/// What is compared of a relation: name, schema, file number, kind, persistence, toast table.
type Relation = (String, u32, u32, char, char, u32);

/// Relations and schemas by OID.
#[derive(Clone, Debug, Default, PartialEq)]
struct Names {
    relations: BTreeMap<u32, Relation>,
    schemas: BTreeMap<u32, String>,
}

/// What a database holds at a moment.
struct Moment {
    lsn: Lsn,
    database: u32,
    what: String,
    truth: Names,
}

fn moment(server: &Postgres, database: &str, what: &str) -> Moment {
    let mut session = server.session_in(database);
    let text = |value: &Option<String>| value.clone().unwrap();
    let number = |value: &Option<String>| text(value).parse::<u32>().unwrap();
    let letter = |value: &Option<String>| text(value).parse::<char>().unwrap();
    let relations = session.rows(
        "select oid, relname, relnamespace, relfilenode, relkind, relpersistence, reltoastrelid from pg_class",
    );
    let relation = |row: &Vec<Option<String>>| {
        let known = (
            text(&row[1]),
            number(&row[2]),
            number(&row[3]),
            letter(&row[4]),
            letter(&row[5]),
            number(&row[6]),
        );
        (number(&row[0]), known)
    };
    let schemas = session.rows("select oid, nspname from pg_namespace");
    Moment {
        lsn: position(server),
        database: session.rows("select oid from pg_database where datname = current_database()")[0][0]
            .as_deref()
            .unwrap()
            .parse()
            .unwrap(),
        what: what.to_owned(),
        truth: Names {
            relations: relations.iter().map(relation).collect(),
            schemas: schemas.iter().map(|row| (number(&row[0]), text(&row[1]))).collect(),
        },
    }
}

/// What transactions do to the names in all databases.
#[derive(Default)]
struct Replay {
    databases: HashMap<u32, Names>,
    /// Rows by the transaction that wrote them.
    pending: HashMap<u32, Vec<CatalogRow>>,
    untold: Vec<(Lsn, RowChange, Untold)>,
}

impl Replay {
    fn take(&mut self, row: CatalogRow) {
        let origin = row.origin();
        if let CatalogRow::Untold(row) = row {
            self.untold.push((origin.lsn, origin.change, row.reason));
        } else if origin.change == RowChange::Seen {
            self.apply(row);
        } else {
            self.pending.entry(origin.xid).or_default().push(row);
        }
    }

    fn apply(&mut self, row: CatalogRow) {
        match row {
            CatalogRow::Class(row) => {
                let names = self.databases.entry(row.origin.database).or_default();
                if row.origin.change == RowChange::Deleted {
                    names.relations.remove(&row.oid);
                } else {
                    let oid = row.oid;
                    names.relations.insert(oid, known(row));
                }
            }
            CatalogRow::Namespace(row) => {
                let names = self.databases.entry(row.origin.database).or_default();
                if row.origin.change == RowChange::Deleted {
                    names.schemas.remove(&row.oid);
                } else {
                    names.schemas.insert(row.oid, row.name);
                }
            }
            CatalogRow::Untold(_) => {}
        }
    }

    /// A transaction ended; its rows and its subtransactions' come in the order of the WAL.
    fn end(&mut self, kind: Kind) {
        let (finished, committed) = match kind {
            Kind::Commit(finished) => (finished, true),
            Kind::Abort(finished) => (finished, false),
            _ => return,
        };
        let xids = [finished.xid].into_iter().chain(finished.subtransactions);
        let mut rows: Vec<_> = xids.flat_map(|xid| self.pending.remove(&xid).unwrap_or_default()).collect();
        rows.sort_by_key(|row| row.origin().lsn);
        if committed {
            rows.into_iter().for_each(|row| self.apply(row));
        }
    }
}

fn known(row: ClassRow) -> Relation {
    let file = row.file.map_or(0, |file| file.relation);
    (row.name, row.namespace, file, row.kind, row.persistence, row.toast)
}

/// Reads the WAL and compares what is known with each moment: all that is there since initdb has to be.
fn compare(server: &Postgres, moments: &[Moment]) -> Replay {
    let mut catalogs = CatalogRows::default();
    let mut replay = Replay::default();
    let mut next = moments.iter().peekable();
    let end = moments.last().unwrap().lsn;
    read(server, end, |record| {
        while let Some(moment) = next.next_if(|moment| moment.lsn <= record.lsn) {
            compare_moment(server.version(), &replay, moment);
        }
        catalogs.feed(record, |row| replay.take(row));
        replay.end(record.kind().unwrap());
    });
    next.for_each(|moment| compare_moment(server.version(), &replay, moment));
    replay
}

fn compare_moment(version: u32, replay: &Replay, moment: &Moment) {
    let Moment { database, what, truth, .. } = moment;
    let found = replay.databases.get(database).cloned().unwrap_or_default();
    for (oid, relation) in truth.relations.iter().filter(|(oid, _)| **oid >= 16384) {
        let found = found.relations.get(oid);
        assert_eq!(found, Some(relation), "{version}, {what}: {oid}");
    }
    for (oid, relation) in &found.relations {
        assert_eq!(Some(relation), truth.relations.get(oid), "{version}, {what}: {oid}");
    }
    for (oid, schema) in truth.schemas.iter().filter(|(oid, _)| **oid >= 16384) {
        assert_eq!(found.schemas.get(oid), Some(schema), "{version}, {what}");
    }
    for (oid, schema) in &found.schemas {
        assert_eq!(Some(schema), truth.schemas.get(oid), "{version}, {what}: {oid}");
    }
}

/// What gives relations other names, schemas or files, in statements that are a transaction each.
const STATEMENTS: &[&str] = &[
    "create schema a",
    "create table a.plain (n int primary key, word text)",
    "create table copied as select n, n::text as word from generate_series(1, 500) n",
    "create table a.\"Ein längerer Name mit Ümlauten\" (n int)",
    "insert into a.plain select n, 'x' from generate_series(1, 100) n",
    "alter table a.plain rename to renamed",
    "alter table a.renamed set schema public",
    "alter table renamed alter n type bigint",
    "truncate renamed",
    "vacuum full renamed",
    "cluster renamed using plain_pkey",
    "alter table renamed set unlogged",
    "alter table renamed set logged",
    "create index named on copied (word)",
    "reindex table copied",
    "reindex index concurrently named",
    "create materialized view seen as select * from copied",
    "refresh materialized view seen",
    "create view looked as select * from copied",
    "create sequence counted",
    "select nextval('counted')",
    "grant select on copied to public",
    "analyze",
    "drop table renamed",
    "alter schema a rename to b",
    "create table parts (n int) partition by range (n)",
    "create table part partition of parts for values from (0) to (10)",
    "begin; create table lost (n int); savepoint s; create table lost_too (n int); rollback to s; create table kept (n int); drop table lost; commit",
    "begin; create table never (n int); rollback",
    "begin; create table half (n int); alter table half rename to prepared; prepare transaction 'p'",
    "commit prepared 'p'",
    "create temporary table passing (n int); drop table passing",
    "alter table copied rename to a_name_that_is_as_long_as_a_name_can_be_in_postgresql_63_bytes",
    "drop schema b cascade",
];

fn exercise(server: &Postgres, moments: &mut Vec<Moment>, what: &str) {
    for (index, statement) in STATEMENTS.iter().enumerate() {
        let mut session = server.session();
        session.rows(statement);
        if index % 5 == 0 {
            moments.push(moment(server, "postgres", &format!("{what}, after {statement}")));
        }
    }
    moments.push(moment(server, "postgres", what));
    for table in [
        "a_name_that_is_as_long_as_a_name_can_be_in_postgresql_63_bytes cascade",
        "kept",
        "parts",
        "prepared",
    ] {
        server.sql(&format!("drop table {table}"));
    }
    server.sql("drop sequence counted");
    moments.push(moment(server, "postgres", &format!("{what}, all dropped")));
}

/// In the middle of a checkpoint cycle, right after a checkpoint, and when the catalogs have moved.
fn through_all(server: &Postgres) -> Vec<Moment> {
    let mut moments = Vec::new();
    exercise(server, &mut moments, "at first");
    server.sql("checkpoint");
    exercise(server, &mut moments, "behind a checkpoint");
    for statement in ["create table one (n int)", "alter table one rename to two", "drop table two"] {
        server.sql("checkpoint");
        server.sql(statement);
        moments.push(moment(server, "postgres", statement));
    }
    server.session().rows("vacuum full pg_class");
    moments.push(moment(server, "postgres", "vacuum full pg_class"));
    exercise(server, &mut moments, "pg_class has moved");
    server.session().rows("vacuum full");
    exercise(server, &mut moments, "everything has moved");
    server.sql("checkpoint");
    server
        .session()
        .rows("begin; cluster pg_class using pg_class_oid_index; create table clustered (n int); commit");
    moments.push(moment(server, "postgres", "created in the transaction that moved pg_class"));
    server.session().rows("create database other");
    server.session_in("other").rows("create table elsewhere (n int); alter table elsewhere rename to there");
    moments.push(moment(server, "other", "in a new database"));
    moments
}

#[test]
fn every_version_and_every_way_to_change_a_name() {
    for version in VERSIONS {
        let server = builder(version).setting("autovacuum", "off").start();
        let moments = through_all(&server);
        let replay = compare(&server, &moments);
        assert_eq!(replay.untold, [], "{version}");
    }
}

#[test]
fn page_images_however_they_are_stored() {
    let settings: &[(u32, &[(&str, &str)])] = &[
        (14, &[("wal_compression", "on")]),
        (15, &[("wal_compression", "pglz"), ("wal_level", "logical")]),
        (15, &[("wal_compression", "lz4")]),
        (15, &[("wal_compression", "zstd"), ("wal_consistency_checking", "all")]),
        (16, &[("wal_consistency_checking", "heap,heap2")]),
        (17, &[("wal_compression", "pglz")]),
        (18, &[("wal_compression", "pglz"), ("wal_level", "logical")]),
    ];
    for (version, settings) in settings {
        let mut builder = builder(*version);
        for (name, value) in *settings {
            builder = builder.setting(name, value);
        }
        let server = builder.start();
        let mut moments = Vec::new();
        server.sql("checkpoint");
        exercise(&server, &mut moments, &format!("{settings:?}"));
        server.session().rows("vacuum full");
        server.sql("checkpoint");
        exercise(&server, &mut moments, &format!("{settings:?}, moved"));
        let replay = compare(&server, &moments);
        assert_eq!(replay.untold, [], "{version} {settings:?}");
    }
}

/// What happened to rows, by record, as it is told when only these records are fed. Rows that were only seen are left out.
fn told(server: &Postgres, end: Lsn, fed: impl Fn(usize) -> bool) -> BTreeMap<Lsn, Vec<CatalogRow>> {
    let mut catalogs = CatalogRows::default();
    let mut told: BTreeMap<Lsn, Vec<CatalogRow>> = BTreeMap::new();
    let mut index = 0;
    read(server, end, |record| {
        if fed(index) {
            catalogs.feed(record, |row| {
                if row.origin().change != RowChange::Seen {
                    told.entry(record.lsn).or_default().push(row);
                }
            });
        }
        index += 1;
    });
    told
}

/// What was written in records that weren't read isn't known, and where a row turns on it, that is said; what is told is
/// the same as when everything is read.
#[test]
fn reading_that_begins_anywhere_or_leaves_something_out_tells_nothing_wrong() {
    for version in [14, 18] {
        let server = builder(version).setting("autovacuum", "off").start();
        let mut moments = Vec::new();
        exercise(&server, &mut moments, "once");
        let end = position(&server);
        let mut records = 0;
        read(&server, end, |_| records += 1);
        let whole = told(&server, end, |_| true);
        let mut untold = 0;
        for part in 1..10 {
            let begin = records * part / 10;
            let gap = begin..begin + records / 50;
            for found in [
                told(&server, end, |index| index >= begin),
                told(&server, end, |index| !gap.contains(&index)),
            ] {
                for (lsn, rows) in found {
                    for (row, expected) in rows.iter().zip(&whole[&lsn]) {
                        match row {
                            CatalogRow::Untold(row) => {
                                assert_eq!(row.reason, Untold::NotSeen, "{version}");
                                assert_eq!(row.origin, expected.origin(), "{version}");
                                untold += 1;
                            }
                            // A row that is logged whole is told also where the one before it is not known.
                            CatalogRow::Class(row) if row.was.is_none() => {
                                let CatalogRow::Class(expected) = expected else { panic!("{expected:?}") };
                                let expected = ClassRow { was: None, ..expected.clone() };
                                assert_eq!(*row, expected, "{version}");
                            }
                            row => assert_eq!(row, expected, "{version}"),
                        }
                    }
                    assert_eq!(rows.len(), whole[&lsn].len(), "{version}");
                }
            }
        }
        assert!(untold > 10, "{version}: nothing depended on what wasn't read");
    }
}
