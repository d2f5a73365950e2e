//! What becomes of tables, from the rows of `pg_class` and the files that went.

use highwater_wal::{Lsn, TimelineId, Timestamp};

use super::*;
use crate::log::Deeds;
use crate::log::line::PG_CLASS;

const DATABASE: u32 = 5;

fn file(relation: u32) -> RelationFile {
    RelationFile { tablespace: 1663, database: DATABASE, relation }
}

/// Knows tables by file and OID: `t100` has OID and file 100 and so on; 300 and above it does not know.
struct Known;

fn known(number: u32, kind: char, schema: &str) -> Table {
    Table {
        database: Some("app".to_owned()),
        schema: Some(schema.to_owned()),
        name: Some(format!("t{number}")),
        oid: Some(number),
        kind: Some(kind),
        tablespace: 1663,
        database_oid: DATABASE,
        file: number,
        unknown: None,
    }
}

impl Namer for Known {
    fn file(&self, file: RelationFile, lsn: Lsn) -> Named {
        match self.relation(file.database, file.relation, lsn) {
            Some(table) => Named::Table(table),
            None => Named::Unknown("nobody has looked".to_owned()),
        }
    }

    fn relation(&self, _database: u32, oid: u32, _lsn: Lsn) -> Option<Table> {
        match oid {
            100..200 => Some(known(oid, 'r', "public")),
            200..250 => Some(known(oid, 't', "pg_toast")),
            250..300 => Some(known(oid, 'i', "public")),
            PG_CLASS => Some(known(oid, 'r', "pg_catalog")),
            _ => None,
        }
    }

    fn schema(&self, _database: u32, oid: u32, _lsn: Lsn) -> Option<String> {
        (oid == 2200).then(|| "public".to_owned())
    }

    fn database(&self, oid: u32, _lsn: Lsn) -> Option<String> {
        (oid == DATABASE).then(|| "app".to_owned())
    }
}

fn class(fate: RowFate, oid: u32, of_file: u32) -> ClassChange {
    ClassChange {
        lsn: Lsn(1),
        fate,
        database: DATABASE,
        oid,
        file: Some(file(of_file)),
        was: None,
        name: format!("t{oid}"),
        namespace: 2200,
        kind: 'r',
        rewrites: 0,
    }
}

fn copy(fate: RowFate, oid: u32, of_file: u32, rewrites: u32) -> ClassChange {
    ClassChange { rewrites, name: format!("pg_temp_{rewrites}"), ..class(fate, oid, of_file) }
}

/// What a rewrite leaves in `pg_class`: the table and the copy, whose number is that of its file, change files.
fn rewrite(oid: u32, had: u32, to: u32) -> Vec<ClassChange> {
    vec![
        copy(RowFate::Inserted, to, to, oid),
        class(RowFate::Updated, oid, to),
        copy(RowFate::Updated, to, had, oid),
        copy(RowFate::Deleted, to, had, oid),
    ]
}

/// A table that has its file in another tablespace now.
fn elsewhere(oid: u32, of_file: u32) -> ClassChange {
    let moved = RelationFile { tablespace: 20_000, ..file(of_file) };
    ClassChange { file: Some(moved), ..class(RowFate::Updated, oid, of_file) }
}

fn end(classes: Vec<ClassChange>, dropped: &[u32]) -> End {
    let mut deeds = Deeds::default();
    deeds.classes = classes;
    End {
        lsn: Lsn(1000),
        end: Lsn(1100),
        time: Timestamp(7),
        timeline: TimelineId::FIRST,
        xid: 700,
        committed: true,
        prepared: false,
        restore_point: None,
        dropped: dropped.iter().map(|relation| file(*relation)).collect(),
        database: Some(DATABASE),
        subtransactions: Vec::new(),
        deeds,
        is_whole: true,
    }
}

#[test]
fn a_file_that_vacuum_has_cut_to_nothing_is_not_truncated() {
    let mut vacuum = end(Vec::new(), &[]);
    vacuum.deeds.emptied = vec![file(100)];
    assert_eq!(told(&vacuum), [""; 0]);
    let mut truncated = vacuum.clone();
    truncated.deeds.created = vec![file(100)];
    assert_eq!(told(&truncated), ["public.t100 Truncated"]);
}

fn told(end: &End) -> Vec<String> {
    let line = describe(end, &Known, false);
    let mut told: Vec<String> = line
        .tables
        .iter()
        .map(|line| {
            let fate = line.fate.map_or(String::new(), |fate| format!(" {fate:?}"));
            let Rows { inserted, updated, deleted } = line.rows;
            let rows = if line.rows.total() == 0 {
                String::new()
            } else {
                format!(" {inserted}/{updated}/{deleted}")
            };
            let copied = if line.copied == 0 { String::new() } else { format!(" copied {}", line.copied) };
            format!("{}{fate}{rows}{copied}", line.table)
        })
        .collect();
    told.sort();
    told
}

#[test]
fn what_became_of_tables() {
    use RowFate::{Deleted, Inserted, Updated};
    let drop = class(Deleted, 100, 100);
    for (what, end, expected) in [
        ("created", end(vec![class(Inserted, 300, 300)], &[]), &["public.t300 Created"][..]),
        (
            "dropped, with its toast table and index",
            end(vec![drop.clone()], &[100, 200, 250]),
            &["public.t100 Dropped"],
        ),
        (
            "made and dropped",
            end(vec![class(Inserted, 300, 300), class(Deleted, 300, 300)], &[300]),
            &["public.t300 CreatedAndDropped"],
        ),
        ("truncated", end(vec![class(Updated, 100, 301)], &[100]), &["public.t100 Truncated"]),
        (
            "truncated, with a file that nobody knows but the row that was updated",
            end(vec![ClassChange { was: Some(file(350)), ..class(Updated, 300, 351) }], &[350]),
            &["public.t300 Truncated"],
        ),
        (
            "truncated twice",
            end(vec![class(Updated, 100, 301), class(Updated, 100, 302)], &[100, 301]),
            &["public.t100 Truncated"],
        ),
        (
            "made and truncated",
            end(vec![class(Inserted, 300, 300), class(Updated, 300, 301)], &[300]),
            &["public.t300 Created"],
        ),
        (
            "rewritten",
            end(
                vec![
                    copy(Inserted, 310, 310, 100),
                    class(Updated, 100, 310),
                    copy(Updated, 310, 100, 100),
                    copy(Deleted, 310, 100, 100),
                ],
                &[100],
            ),
            &["public.t100 Rewritten"],
        ),
        (
            "rewritten, of which only the beginning could be read: it may have been emptied before, or afterwards",
            end(vec![copy(Inserted, 310, 310, 100)], &[100]),
            &["public.t100 Gone"],
        ),
        (
            "rewritten twice",
            end([rewrite(100, 100, 310), rewrite(100, 310, 320)].concat(), &[310, 100]),
            &["public.t100 Rewritten"],
        ),
        (
            "truncated and rewritten",
            end([vec![class(Updated, 100, 301)], rewrite(100, 301, 310)].concat(), &[100, 301]),
            &["public.t100 Truncated"],
        ),
        (
            "the same, its files told in the other order",
            end([vec![class(Updated, 100, 301)], rewrite(100, 301, 310)].concat(), &[301, 100]),
            &["public.t100 Truncated"],
        ),
        (
            "the same, where the row with the file in between could not be read",
            end(rewrite(100, 301, 310), &[100, 301]),
            &["public.t100 Gone"],
        ),
        (
            "rewritten and truncated",
            end([rewrite(100, 100, 310), vec![class(Updated, 100, 301)]].concat(), &[100, 310]),
            &["public.t100 Truncated"],
        ),
        (
            "rewritten, and the copy's file truncated by a later subtransaction after other updates of its row",
            end(
                vec![
                    copy(Inserted, 310, 310, 100),
                    copy(Updated, 310, 310, 100),
                    class(Updated, 100, 310),
                    copy(Deleted, 310, 100, 100),
                    class(Updated, 100, 301),
                ],
                &[100, 310],
            ),
            &["public.t100 Truncated"],
        ),
        (
            "carried over into another tablespace",
            end(vec![elsewhere(100, 301)], &[100]),
            &["public.t100 Rewritten"],
        ),
        (
            "truncated and carried over",
            end(vec![class(Updated, 100, 302), elsewhere(100, 301)], &[100, 302]),
            &["public.t100 Truncated"],
        ),
        (
            "renamed and dropped",
            end(vec![ClassChange { name: "Late".to_owned(), ..drop.clone() }], &[100]),
            &["public.\"Late\" Dropped"],
        ),
        ("a file that nobody knows", end(vec![], &[20_000]), &["file 1663/5/20000 Gone"]),
    ] {
        assert_eq!(told(&end), expected, "{what}");
    }
}

#[test]
fn a_table_that_was_rewritten_and_cut_to_nothing_in_place_is_truncated() {
    let mut end = end(rewrite(100, 100, 310), &[100]);
    end.deeds.created = vec![file(310)];
    assert_eq!(told(&end), ["public.t100 Rewritten"]);
    let mut cut = end.clone();
    cut.deeds.emptied = vec![file(310)];
    assert_eq!(told(&cut), ["public.t100 Truncated"]);
    end.deeds.truncated = vec![(DATABASE, 100)];
    assert_eq!(told(&end), ["public.t100 Truncated"]);
}

#[test]
fn where_rows_of_pg_class_cannot_be_read_their_number_tells() {
    let of_class = |updated, deleted| {
        let mut end = end(vec![], &[100]);
        end.deeds.add_rows(file(PG_CLASS), Rows { inserted: 0, updated, deleted });
        end
    };
    assert_eq!(told(&of_class(0, 2)), ["public.t100 Dropped"]);
    assert_eq!(told(&of_class(2, 0)), ["public.t100 Truncated"]);
    assert_eq!(told(&of_class(1, 1)), ["public.t100 Gone"]);
    assert_eq!(
        told(&End { is_whole: false, ..of_class(0, 2) }),
        ["public.t100 Gone"],
        "there may have been more"
    );
}

#[test]
fn rows_go_to_tables_and_copies_are_told_apart() {
    let mut end = end(
        vec![
            copy(RowFate::Inserted, 310, 310, 100),
            class(RowFate::Updated, 100, 310),
            copy(RowFate::Deleted, 310, 100, 100),
        ],
        &[100],
    );
    end.deeds.add_rows(file(100), Rows { inserted: 1, ..Rows::default() });
    end.deeds.add_rows(file(310), Rows { inserted: 50, updated: 2, deleted: 1 });
    end.deeds.add_rows(file(200), Rows { inserted: 9, ..Rows::default() });
    end.deeds.add_rows(file(PG_CLASS), Rows { updated: 3, ..Rows::default() });
    assert_eq!(told(&end), ["public.t100 Rewritten 1/2/1 copied 50"]);
    let line = describe(&end, &Known, false);
    assert_eq!((line.rows_elsewhere, line.database.as_deref()), (12, Some("app")));
    assert_eq!(describe(&end, &Known, true).tables.len(), 3);
}

#[test]
fn what_was_rolled_back_did_nothing_to_tables() {
    let mut end = end(vec![class(RowFate::Deleted, 100, 100), class(RowFate::Inserted, 300, 300)], &[300]);
    end.committed = false;
    end.deeds.add_rows(file(300), Rows { inserted: 4, ..Rows::default() });
    assert_eq!(told(&end), ["public.t300 4/0/0"]);
}
