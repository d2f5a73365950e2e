//! What happens to databases, tablespaces, files and transactions, on every version.

use crate::wal_of::{builder, position, read};
use highwater_tests::{Postgres, VERSIONS};
use highwater_wal::{Change, Kind, RelationFile};

/// All changes but rows, with the transaction of each.
fn changes(server: &Postgres) -> Vec<(u32, Change)> {
    let mut found = Vec::new();
    read(server, position(server), |record| {
        let told = record.changes(|change| {
            if !matches!(change, Change::Rows { .. }) {
                found.push((record.header.xid, change));
            }
        });
        told.unwrap();
    });
    found
}

fn number(server: &Postgres, query: &str) -> u32 {
    server.value(query).parse().unwrap()
}

#[test]
fn databases_and_tablespaces_come_move_and_go() {
    for version in VERSIONS {
        let server = builder(version).start();
        let oid =
            |name: &str| number(&server, &format!("select oid from pg_database where datname = '{name}'"));
        server.tablespace("fast");
        let fast = number(&server, "select oid from pg_tablespace where spcname = 'fast'");
        server.session().rows("create database plain");
        let plain = oid("plain");
        if version >= 15 {
            server.session().rows("create database copied strategy = file_copy");
        } else {
            server.session().rows("create database copied");
        }
        let copied = oid("copied");
        server.session().rows("alter database copied set tablespace fast");
        server.session().rows("drop database plain");
        server.session().rows("drop database copied");
        server.session().rows("drop tablespace fast");
        let found = changes(&server);
        let all: Vec<_> = found.into_iter().map(|(_, change)| change).collect();
        let template = oid("template1");
        let made =
            |database, copied_from| Change::DatabaseCreated { database, tablespace: 1663, copied_from };
        let expected = [
            Change::TablespaceCreated { tablespace: fast },
            made(plain, (version < 15).then_some(template)),
            made(copied, Some(template)),
            Change::DatabaseMoved { database: copied, from: 1663, to: fast },
            Change::DatabaseDropped { database: plain, tablespaces: vec![1663] },
            Change::DatabaseDropped { database: copied, tablespaces: vec![fast] },
            Change::TablespaceDropped { tablespace: fast },
        ];
        let is_of_interest = |change: &&Change| {
            matches!(
                change,
                Change::TablespaceCreated { .. }
                    | Change::TablespaceDropped { .. }
                    // initdb's have lower numbers.
                    | Change::DatabaseCreated { database: 16_384.., .. }
                    | Change::DatabaseMoved { .. }
                    | Change::DatabaseDropped { .. }
            )
        };
        assert_eq!(
            all.iter().filter(is_of_interest).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>()
        );
        let mut drops = Vec::new();
        read(&server, position(&server), |record| {
            if let Some(Kind::DatabaseDrop { database, .. }) = record.kind() {
                drops.push(database);
            }
        });
        assert_eq!(drops, [plain, copied], "{version}: moving isn't dropping");
    }
}

#[test]
fn transactions_and_their_subtransactions() {
    for version in VERSIONS {
        let server = builder(version).start();
        server.sql("create table t (n int)");
        let mut open = server.session();
        let xid = |session: &mut highwater_tests::Session| -> u32 {
            session.rows("select txid_current()")[0][0].as_deref().unwrap().parse().unwrap()
        };
        open.rows("begin; insert into t values (1)");
        let running = xid(&mut open);
        let mut many = server.session();
        many.rows("begin; insert into t values (1)");
        let top = xid(&mut many);
        let savepoints: String =
            (1..=100).map(|n| format!("savepoint s{n}; insert into t values ({n}); ")).collect();
        many.rows(&savepoints);
        many.rows("rollback to s91");
        server.sql("checkpoint");
        many.rows("prepare transaction 'Über''fällig'");
        many.rows("commit prepared 'Über''fällig'");
        open.rows("commit");
        let found = changes(&server);
        let prepared: Vec<_> = found.iter().filter(|(_, c)| matches!(c, Change::Prepared { .. })).collect();
        let name = "Über'fällig".to_owned();
        assert_eq!(prepared, [&(top, Change::Prepared { xid: top, name })], "{version}");
        let assigned: Vec<u32> = found
            .iter()
            .filter_map(|(_, change)| match change {
                Change::Subtransactions { top: of, xids } if *of == top => Some(xids.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(assigned, (top + 1..=top + 64).collect::<Vec<_>>(), "{version}: told early");
        let seen = found.iter().find_map(|(_, change)| match change {
            Change::Running { next, oldest, xids, overflowed } if xids.contains(&top) => {
                Some((*next, *oldest, xids.contains(&running), *overflowed))
            }
            _ => None,
        });
        assert_eq!(seen, Some((top + 101, running, true, true)), "{version}");
        let database: u32 = number(&server, "select oid from pg_database where datname = 'postgres'");
        let mut committed = None;
        read(&server, position(&server), |record| {
            if let Some(Kind::Commit(finished)) = record.kind()
                && finished.xid == top
            {
                committed = Some(finished);
            }
        });
        let committed = committed.unwrap();
        assert_eq!(committed.subtransactions, (top + 1..=top + 90).collect::<Vec<_>>(), "{version}");
        server.sql("alter table t add column m int");
        let mut databases = Vec::new();
        read(&server, position(&server), |record| {
            if let Some(Kind::Commit(finished)) = record.kind() {
                databases.extend(finished.database);
            }
        });
        assert_eq!(databases.last(), Some(&database), "{version}: of the one that changed a catalog");
    }
}

#[test]
fn files_are_made_cut_and_mapped() {
    for version in VERSIONS {
        let server = builder(version).setting("wal_level", "logical").setting("autovacuum", "off").start();
        server.sql("create table t as select generate_series(1, 10000) n");
        let file = |name: &str| RelationFile {
            tablespace: 1663,
            database: number(&server, "select oid from pg_database where datname = 'postgres'"),
            relation: number(&server, &format!("select pg_relation_filenode('{name}')")),
        };
        let first = file("t");
        server.sql("delete from t where n > 5000");
        server.session().rows("vacuum t");
        let blocks = number(&server, "select pg_relation_size('t') / 8192");
        let oid = number(&server, "select 't'::regclass::oid");
        server.sql("truncate t");
        let second = file("t");
        server.session().rows("vacuum full pg_class");
        let moved = file("pg_class");
        let found: Vec<_> = changes(&server).into_iter().map(|(_, change)| change).collect();
        for expected in [
            Change::Created { relation: first },
            Change::Cut { relation: first, blocks },
            Change::Created { relation: second },
            Change::Truncated { database: first.database, relations: vec![oid] },
            Change::Created { relation: moved },
        ] {
            assert_eq!(
                found.iter().filter(|change| **change == expected).count(),
                1,
                "{version}: {expected:?}"
            );
        }
        let maps: Vec<_> = found
            .iter()
            .filter_map(|change| match change {
                Change::RelationMap { database, tablespace: 1663, files } => Some((*database, files)),
                _ => None,
            })
            .collect();
        let (database, files) = maps.last().unwrap();
        assert_eq!(*database, first.database, "{version}");
        assert!(files.contains(&(1259, moved.relation)), "{version}: {files:?}");
    }
}
