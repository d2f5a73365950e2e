use highwater_wal::{Ancestor, TimelineHistory};

use super::*;

const FILE: RelationFile = RelationFile { tablespace: 1663, database: 5, relation: 16390 };

fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn at(timeline: u32, lsn: u64) -> NamesAt {
    NamesAt { timeline: tli(timeline), lsn: Lsn(lsn), taken_at: Timestamp(lsn as i64) }
}

/// Timeline 2 left 1 at 1000, 3 left 2 at 2000; 4 left 1 at 500.
fn path(to: u32) -> Path {
    let ancestors: &[(u32, u64)] = match to {
        1 => &[],
        2 => &[(1, 1000)],
        3 => &[(1, 1000), (2, 2000)],
        _ => &[(1, 500)],
    };
    let ancestors = ancestors.iter().map(|(timeline, lsn)| Ancestor {
        timeline: tli(*timeline),
        switch_point: Lsn(*lsn),
        reason: String::new(),
    });
    Path::from_history(&TimelineHistory { timeline: tli(to), ancestors: ancestors.collect() })
}

fn relation(file: u32, oid: u32, name: &str) -> NamedRelation {
    NamedRelation {
        database: 5,
        oid,
        file: Some(RelationFile { relation: file, ..FILE }),
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: RelationKind::Table,
        is_logged: true,
        table: None,
        partition_of: None,
    }
}

fn table(at: NamesAt, relations: &[(u32, &str)]) -> Arc<NamesTable> {
    let mut table = NamesTable::new(at);
    table.add_database(5, "app".to_owned(), None);
    table.add_database(6, "closed".to_owned(), Some("it takes no connections".to_owned()));
    for (file, name) in relations {
        table.add(relation(*file, 100 + file, name));
    }
    Arc::new(table)
}

fn told(names: &Names, lsn: u64) -> (&str, NamesAt) {
    match names.of(FILE, Lsn(lsn)) {
        Named::Relation { relation, told_by, .. } => (&relation.name, told_by),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_before_tells_then_the_first_behind() {
    let names = Names::new(
        &path(1),
        [
            table(at(1, 300), &[(16390, "renamed")]),
            table(at(1, 100), &[(16390, "t")]),
            table(at(1, 500), &[]),
        ],
    );
    assert_eq!(told(&names, 50), ("t", at(1, 100)), "made before any names were taken");
    assert_eq!(told(&names, 100), ("t", at(1, 100)));
    assert_eq!(told(&names, 299), ("t", at(1, 100)));
    assert_eq!(told(&names, 300), ("renamed", at(1, 300)));
    assert_eq!(told(&names, 600), ("renamed", at(1, 300)), "it is gone from the newest, and is still known");
}

#[test]
fn names_of_other_timelines_do_not_count() {
    let tables = [
        table(at(1, 400), &[(16390, "common")]),
        table(at(1, 900), &[(16390, "one")]),
        table(at(2, 1500), &[(16390, "two")]),
        table(at(1, 1600), &[(16390, "old primary")]),
        table(at(3, 2500), &[(16390, "three")]),
        table(at(4, 700), &[(16390, "four")]),
    ];
    for (to, lsn, expected) in [
        (1, 1700, ("old primary", at(1, 1600))),
        (2, 1700, ("two", at(2, 1500))),
        (2, 950, ("one", at(1, 900))),
        (3, 2600, ("three", at(3, 2500))),
        (3, 2400, ("two", at(2, 1500))),
        (4, 950, ("four", at(4, 700))),
        (4, 600, ("common", at(1, 400))),
        (4, 300, ("common", at(1, 400))),
    ] {
        assert_eq!(told(&Names::new(&path(to), tables.clone()), lsn), expected, "path {to}, {lsn}");
    }
}

#[test]
fn what_is_not_known_has_a_reason() {
    let names = Names::new(&path(1), [table(at(1, 100), &[]), table(at(1, 200), &[])]);
    let reason = |file, lsn| match names.of(file, Lsn(lsn)) {
        Named::Unknown(reason) => reason,
        other => panic!("{other:?}"),
    };
    let between = |before, after| Unknown::Between(Around { before, after });
    assert_eq!(reason(FILE, 50), between(None, Some(at(1, 100))));
    assert_eq!(reason(FILE, 150), between(Some(at(1, 100)), Some(at(1, 200))));
    assert_eq!(reason(FILE, 250), between(Some(at(1, 200)), None));
    assert_eq!(
        reason(RelationFile { database: 6, ..FILE }, 150),
        Unknown::Unreadable { database: "closed", reason: "it takes no connections" }
    );
    assert_eq!(Names::default().of(FILE, Lsn(1)), Named::Unknown(Unknown::NothingTaken));
    for unknown in [reason(FILE, 50), reason(FILE, 150), reason(FILE, 250), Unknown::NothingTaken] {
        assert!(unknown.to_string().contains("taken"), "{unknown}");
    }
}

#[test]
fn an_index_tells_its_table_and_a_relation_is_found_by_its_oid() {
    let mut table = NamesTable::new(at(1, 100));
    table.add_database(5, "app".to_owned(), None);
    table.add(relation(20, 20, "orders"));
    table.add(NamedRelation {
        kind: RelationKind::Index,
        table: Some(20),
        ..relation(16390, 21, "orders_pkey")
    });
    let names = Names::new(&path(1), [Arc::new(table)]);
    let Named::Relation { relation, table, database, .. } = names.of(FILE, Lsn(100)) else { panic!() };
    assert_eq!((relation.name.as_str(), table.unwrap().name.as_str()), ("orders_pkey", "orders"));
    assert_eq!(database, Some("app"));
    assert_eq!(names.relation(5, 20, Lsn(1)).unwrap().name, "orders");
    assert_eq!(names.relation(5, 22, Lsn(1)), None);
    assert_eq!(names.tables()[0].find(None, "orders").count(), 1);
    assert_eq!(names.tables()[0].find(Some("other"), "orders").count(), 0);
}

#[test]
fn the_ones_to_read_are_those_next_to_the_lsn_on_the_path() {
    let taken = [at(1, 100), at(1, 900), at(2, 1500), at(1, 1600), at(4, 700)];
    let around = |to, lsn| {
        let Around { before, after } = names_around(&path(to), taken, |one| one, Lsn(lsn));
        (before.map(|at| at.lsn.0), after.map(|at| at.lsn.0))
    };
    assert_eq!(around(1, 50), (None, Some(100)));
    assert_eq!(around(1, 1000), (Some(900), Some(1600)));
    assert_eq!(around(2, 1000), (Some(900), Some(1500)));
    assert_eq!(around(2, 1500), (Some(1500), None));
    assert_eq!(around(4, 650), (Some(100), Some(700)));
}
