//! A line of the log as people read it.

use highwater_catalog::{Fate, LogLine, Rows, TableLine};

use crate::output;

/// Tables that are written out in one line; `--json` has them all.
const MAX_TABLES: usize = 20;

/// Time, LSN, timeline, transaction, and what it did.
pub fn text(line: &LogLine) -> String {
    let xid = if line.xid == 0 { String::new() } else { line.xid.to_string() };
    let (time, timeline) = (output::local_micros(line.time), line.timeline);
    format!("{time}  {:<14}  {timeline:>2}  {xid:>10}  {}", line.lsn.to_string(), what(line))
}

fn what(line: &LogLine) -> String {
    if let Some(name) = &line.restore_point {
        return format!("restore point \"{}\"", name.escape_debug());
    }
    let mut text = String::new();
    if !line.committed {
        text.push_str("ROLLED BACK ");
    }
    if let Some(database) = &line.database {
        text.push_str(&output::printable_part(database));
        text.push_str(": ");
    }
    let deeds = deeds(line);
    if !line.is_whole && (!deeds.is_empty() || line.rows_elsewhere > 0) {
        text.push_str("at least ");
    }
    match (deeds.is_empty(), line.rows_elsewhere) {
        (true, 0) if !line.is_whole => text.push_str("began in front of what could be read: rows not known"),
        (false, _) => text.push_str(&deeds.join(", ")),
        (true, 0) => text.push_str("no rows"),
        (true, _) => text.push_str("catalogs only"),
    }
    if line.prepared {
        text.push_str(" (prepared)");
    }
    text
}

fn deeds(line: &LogLine) -> Vec<String> {
    let mut deeds = Vec::new();
    let database = |database: &highwater_catalog::LoggedDatabase| match &database.name {
        Some(name) => output::printable_part(name).into_owned(),
        None => format!("with OID {} (no names were taken while it was there)", database.oid),
    };
    deeds.extend(line.databases_created.iter().map(|found| format!("created database {}", database(found))));
    deeds.extend(line.databases_dropped.iter().map(|found| format!("dropped database {}", database(found))));
    deeds.extend(line.tablespaces_dropped.iter().map(|oid| format!("dropped tablespace {oid}")));
    // What became of tables comes first: it must not be lost among many rows.
    let (fates, rows): (Vec<&TableLine>, Vec<&TableLine>) = line
        .tables
        .iter()
        .filter(|table| table.fate.is_some() || table.rows.total() > 0)
        .partition(|table| table.fate.is_some());
    let tables: Vec<&TableLine> = fates.into_iter().chain(rows).collect();
    deeds.extend(tables.iter().take(MAX_TABLES).map(|table| one(table)));
    if let Some(more) = tables.len().checked_sub(MAX_TABLES).filter(|more| *more > 0) {
        let of_them = tables[MAX_TABLES..].iter().fold(Rows::default(), |mut sum, table| {
            sum.add(table.rows);
            sum
        });
        // What has no name may be an index or a TOAST table.
        let is_named = tables[MAX_TABLES..].iter().all(|table| table.table.name.is_some());
        let what = if is_named { "more table" } else { "more file" };
        deeds.push(format!("and {}{}", output::count(more as u64, what), rows_of(of_them)));
    }
    if line.rows_left_out > 0 {
        deeds.push(format!(
            "and {} in relations beyond what is followed",
            output::count(line.rows_left_out, "row")
        ));
    }
    deeds
}

fn one(line: &TableLine) -> String {
    let fate = match line.fate {
        None => "",
        Some(Fate::Created) => "created ",
        Some(Fate::Dropped) => "DROPPED ",
        Some(Fate::CreatedAndDropped) => "created and dropped ",
        Some(Fate::Truncated) => "TRUNCATED ",
        Some(Fate::Rewritten) => "rewrote ",
        Some(Fate::Gone) => "DROPPED, TRUNCATED or rewrote ",
    };
    format!("{fate}{}{}", line.table, rows_of(line.rows))
}

fn rows_of(rows: Rows) -> String {
    let part = |sign: char, count: u64| if count == 0 { String::new() } else { format!(" {sign}{count}") };
    [part('+', rows.inserted), part('~', rows.updated), part('-', rows.deleted)].concat()
}
