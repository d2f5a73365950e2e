//! What of the log was asked for.

use highwater_wal::{Joined, Lsn, Summary, Timestamp};

use super::assembler::End;
use super::line::{Fate, LogLine, Table, TableLine};

/// A table as somebody names it, by PostgreSQL's rules: `accounts`, `public.accounts`, `"Accounts"`, `mydb.public.accounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    /// The database, where it was named.
    pub database: Option<String>,
    /// The schema, where it was named.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl std::str::FromStr for TablePattern {
    type Err = String;

    /// Identifiers are folded to lower case unless they stand in double quotes, in which `""` means one quote
    /// (`SplitIdentifierString`, varlena.c).
    fn from_str(text: &str) -> Result<TablePattern, String> {
        let bad = || {
            format!(
                "\"{text}\" is no table's name; hint: write it as in SQL: accounts, public.accounts, '\"Accounts\"'"
            )
        };
        let mut parts = Vec::new();
        let mut rest = text.trim();
        loop {
            let (part, behind) = identifier(rest).ok_or_else(bad)?;
            parts.push(part);
            match behind.trim_start().strip_prefix('.') {
                Some(next) => rest = next.trim_start(),
                None if behind.trim_start().is_empty() => break,
                None => return Err(bad()),
            }
        }
        let name = parts.pop().ok_or_else(bad)?;
        let (schema, database) = (parts.pop(), parts.pop());
        if parts.is_empty() { Ok(TablePattern { database, schema, name }) } else { Err(bad()) }
    }
}

/// An identifier at the beginning of a text, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == '.' || c == '"' || c.is_whitespace()).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        // PostgreSQL folds ASCII letters; others only where the encoding has one byte for each, which nobody uses it for.
        return (!name.is_empty()).then(|| (cut(name.to_ascii_lowercase()), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then(|| (cut(name), behind)),
        }
    }
}

/// PostgreSQL cuts identifiers to 63 bytes (`NAMEDATALEN` - 1), at a character's border.
fn cut(mut name: String) -> String {
    const LONGEST: usize = 63;
    name.truncate(name.floor_char_boundary(LONGEST));
    name
}

impl TablePattern {
    /// Whether this table is meant.
    pub fn matches(&self, table: &Table) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        table.name.as_deref() == Some(&self.name)
            && is(&self.schema, &table.schema)
            && is(&self.database, &table.database)
    }
}

impl TablePattern {
    /// Whether nobody can say that this table is not meant: it has no name, or its schema or database has none.
    pub fn may_match(&self, table: &Table) -> bool {
        let may_be = |wanted: &Option<String>, found: &Option<String>| {
            wanted.is_none() || found.is_none() || wanted == found
        };
        table.name.as_deref().is_none_or(|name| name == self.name)
            && may_be(&self.schema, &table.schema)
            && may_be(&self.database, &table.database)
    }
}

impl serde::Serialize for TablePattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for TablePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [self.database.as_deref(), self.schema.as_deref(), Some(self.name.as_str())];
        let parts: Vec<String> = parts.into_iter().flatten().map(quoted).collect();
        f.write_str(&parts.join("."))
    }
}

/// An identifier as SQL has it: in quotes where it needs them, but for reserved words, which do not matter to whom reads it.
pub(super) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$';
    let begins_well = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    if begins_well && name.chars().all(plain) {
        name.to_owned()
    } else {
        let mut shown = String::new();
        for c in name.chars() {
            match c {
                '"' => shown.push_str("\"\""),
                // A name with a line's end in it must not look like a line.
                c if c.is_control() => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        format!("\"{shown}\"")
    }
}

/// What was asked for. Everything, unless a field says less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Up to this time, itself included.
    pub until: Option<Timestamp>,
    /// From this position on.
    pub from: Option<Lsn>,
    /// Up to this position, itself not included.
    pub to: Option<Lsn>,
    /// Only this transaction. Subtransactions' numbers are not in summaries: name the transaction itself.
    pub xid: Option<u32>,
    /// Only what changed this table.
    pub table: Option<TablePattern>,
    /// Only what dropped or truncated something.
    pub drops: bool,
    /// Only what changed so many rows.
    pub min_rows: Option<u64>,
    /// What was rolled back, too.
    pub aborted: bool,
    /// Toast tables, indexes and catalogs, too.
    pub all_relations: bool,
}

impl LogFilter {
    /// Whether a segment that is passed over by its summary may hold the drop of a tablespace that was asked for: summaries of version 2 do
    /// not tell.
    pub fn may_miss_tablespaces(&self, summary: &Summary) -> bool {
        self.drops && self.table.is_none() && !summary.lists_tablespaces() && self.may_end_inside(summary)
    }

    /// Whether the end of a transaction may be wanted, by what its own record tells.
    pub fn may_want(&self, end: &End) -> bool {
        let in_time = self.since.is_none_or(|since| end.time >= since)
            && self.until.is_none_or(|until| end.time <= until);
        in_time
            && self.from.is_none_or(|from| end.lsn >= from)
            && self.to.is_none_or(|to| end.lsn < to)
            && self.xid.is_none_or(|xid| end.xid == xid)
            && (end.committed || self.aborted)
            && (end.restore_point.is_none() || self.wants_everything())
    }

    /// Whether nothing is asked for but a time or a place.
    fn wants_everything(&self) -> bool {
        self.xid.is_none() && self.table.is_none() && !self.drops && self.min_rows.is_none()
    }

    /// The tables in a line that were asked for.
    pub fn tables_of<'a>(&'a self, line: &'a LogLine) -> impl Iterator<Item = &'a TableLine> {
        let named = |table: &Table| self.table.as_ref().is_none_or(|wanted| wanted.matches(table));
        line.tables.iter().filter(move |table| named(&table.table))
    }

    /// Whether a line is wanted. With a table, what else the transaction did stays in the line.
    pub fn wants(&self, line: &LogLine) -> bool {
        let about_table = self.table.is_none() || self.tables_of(line).next().is_some();
        let is_lost = |table: &TableLine| table.fate.is_some_and(is_loss);
        let loses_more = || !(line.databases_dropped.is_empty() && line.tablespaces_dropped.is_empty());
        let has_drop = || self.tables_of(line).any(is_lost) || self.table.is_none() && loses_more();
        let rows = || {
            self.tables_of(line).fold(line.rows_left_out, |sum, table| sum.saturating_add(table.rows.total()))
        };
        about_table && (!self.drops || has_drop()) && self.min_rows.is_none_or(|least| rows() >= least)
    }

    /// Whether a segment can hold the end of a transaction that is wanted, by its summary and those of the segments in front of it and
    /// behind it.
    pub fn may_be_in(&self, before: Option<&Summary>, summary: &Summary, next: Option<&Summary>) -> bool {
        let joined = match next {
            Some(next) => summary.joined_with(next),
            None => Joined::Nothing,
        };
        if !summary.is_covered() || joined == Joined::Unclear {
            return true;
        }
        let over_the_end = match joined {
            Joined::Finish(time) => {
                self.is_in_time((time, time))
                    && (!self.drops || next.is_some_and(|next| summary.hides_files(next)))
            }
            Joined::Nothing | Joined::Unclear => false,
        };
        // A database and a tablespace are gone just before the commit, which can lie behind the segment's end.
        let loses = |before: &Summary| loses_more(before) || before.hides_files(summary);
        let drops = self.drops && before.is_some_and(loses);
        over_the_end || drops && self.may_end_inside(summary) || self.may_be_inside(summary)
    }

    fn may_end_inside(&self, summary: &Summary) -> bool {
        let in_time = summary.min_time.zip(summary.max_time).is_some_and(|times| self.is_in_time(times));
        let xids = summary.min_xid.zip(summary.max_xid);
        in_time && self.xid.is_none_or(|xid| xids.is_some_and(|(low, high)| (low..=high).contains(&xid)))
    }

    fn may_be_inside(&self, summary: &Summary) -> bool {
        let is_complete = summary.left_out == 0;
        let has_points = self.wants_everything()
            && (!is_complete
                || summary.restore_points.iter().any(|point| self.is_in_time((point.time, point.time))));
        let drops = || summary.dropped.iter().any(|dropped| !dropped.truncated || dropped.xid != 0);
        let has_drops = !self.drops || !is_complete || drops() || loses_more(summary);
        has_points || has_drops && self.may_end_inside(summary)
    }

    fn is_in_time(&self, (earliest, latest): (Timestamp, Timestamp)) -> bool {
        self.since.is_none_or(|since| latest >= since) && self.until.is_none_or(|until| earliest <= until)
    }
}

/// Whether a database or a tablespace was dropped in a segment, or its summary does not tell. Of tablespaces alone it is not read where the
/// summary does not tell: no relation goes with one, and all older archives would have to be read whole.
fn loses_more(summary: &Summary) -> bool {
    !summary.databases_dropped.is_empty()
        || !summary.tablespaces_dropped.is_empty()
        || !summary.lists_created()
}

/// Whether a table lost its rows this way, or may have.
pub(super) fn is_loss(fate: Fate) -> bool {
    matches!(fate, Fate::Dropped | Fate::Truncated | Fate::Gone | Fate::CreatedAndDropped)
}

#[cfg(test)]
mod tests {
    use highwater_wal::{PgVersion, SegmentSize, SystemId};

    use super::*;

    #[test]
    fn a_name_never_breaks_its_line() {
        assert_eq!(quoted("a\n12:00  DROPPED \"x\"\u{1b}[2J"), "\"a\\n12:00  DROPPED \"\"x\"\"\\u{1b}[2J\"");
    }

    #[test]
    fn tables_are_named_as_in_sql() {
        for (text, database, schema, name) in [
            ("accounts", None, None, "accounts"),
            ("Public.Accounts", None, Some("public"), "accounts"),
            ("\"Accounts\"", None, None, "Accounts"),
            ("db . \"a.b\" . \"c\"\"d\"", Some("db"), Some("a.b"), "c\"d"),
            ("Ärger", None, None, "Ärger"),
        ] {
            let pattern: TablePattern = text.parse().unwrap();
            let owned = |part: Option<&str>| part.map(str::to_owned);
            let expected =
                TablePattern { database: owned(database), schema: owned(schema), name: name.to_owned() };
            assert_eq!(pattern, expected, "{text}");
            assert_eq!(pattern.to_string().parse::<TablePattern>().unwrap(), pattern, "{text}");
        }
        for bad in ["", " ", ".", "a.", ".a", "a b", "\"", "\"\"", "\"a\"b", "a.b.c.d", "a\"b\""] {
            assert!(bad.parse::<TablePattern>().unwrap_err().contains("hint:"), "{bad}");
        }
        let long: TablePattern = format!("{}é", "x".repeat(62)).parse().unwrap();
        assert_eq!(long.name, "x".repeat(62), "names are cut at 63 bytes, as the server does it");
    }

    fn summary(change: impl FnOnce(&mut Summary)) -> Summary {
        let name = "000000010000000000000002".parse().unwrap();
        let magic = PgVersion::V17.page_magic();
        let mut summary = Summary::new(name, SegmentSize::DEFAULT, SystemId(7), magic, 0);
        summary.end = Some(Lsn(0x300_0000));
        (summary.min_time, summary.max_time) = (Some(Timestamp(100)), Some(Timestamp(200)));
        (summary.min_xid, summary.max_xid) = (Some(700), Some(710));
        change(&mut summary);
        summary
    }

    #[test]
    fn summaries_tell_which_segments_to_read() {
        let plain = summary(|_| {});
        let dropped = highwater_wal::Dropped {
            lsn: Lsn(0x200_0100),
            xid: 705,
            tablespace: 1663,
            database: 5,
            relation: 16390,
            truncated: false,
        };
        let with_drop = summary(|summary| summary.dropped = vec![dropped]);
        let vacuumed = highwater_wal::Dropped { xid: 0, truncated: true, ..dropped };
        let with_vacuum = summary(|summary| summary.dropped = vec![vacuumed]);
        let database = highwater_wal::DatabaseDropped { lsn: Lsn(0x200_0100), xid: 705, database: 5 };
        let without_database = summary(|summary| summary.databases_dropped = vec![database]);
        let tablespace =
            highwater_wal::TablespaceDropped { lsn: Lsn(0x200_0100), xid: 705, tablespace: 20_000 };
        let without_tablespace = summary(|summary| summary.tablespaces_dropped = vec![tablespace]);
        let without_list = summary(|summary| summary.version = 2);
        let too_many = summary(|summary| summary.left_out = 1);
        let old = summary(|summary| summary.version = 1);
        let cut_off = summary(|summary| summary.end = None);
        let without_commits = summary(|summary| {
            (summary.min_time, summary.max_time, summary.min_xid, summary.max_xid) = (None, None, None, None);
        });
        let all = LogFilter::default();
        let drops = LogFilter { drops: true, ..LogFilter::default() };
        let xid = |xid| LogFilter { xid: Some(xid), ..LogFilter::default() };
        let since = |time| LogFilter { since: Some(Timestamp(time)), ..LogFilter::default() };
        let until = |time| LogFilter { until: Some(Timestamp(time)), ..LogFilter::default() };
        for (what, filter, summary, expected) in [
            ("everything", &all, &plain, true),
            ("nothing ended in it", &all, &without_commits, false),
            ("it may have ended there", &all, &cut_off, true),
            ("no drop", &drops, &plain, false),
            ("a drop", &drops, &with_drop, true),
            ("cut by VACUUM", &drops, &with_vacuum, false),
            ("a database", &drops, &without_database, true),
            ("a tablespace", &drops, &without_tablespace, true),
            ("a summary that lists no tablespaces", &drops, &without_list, false),
            ("more than is listed", &drops, &too_many, true),
            ("a summary that lists no databases", &drops, &old, true),
            ("its number", &xid(705), &plain, true),
            ("another", &xid(711), &plain, false),
            ("as late", &since(200), &plain, true),
            ("later", &since(201), &plain, false),
            ("as early", &until(100), &plain, true),
            ("earlier", &until(99), &plain, false),
        ] {
            assert_eq!(filter.may_be_in(None, summary, None), expected, "{what}");
        }
        assert!(
            drops.may_be_in(Some(&without_database), &plain, None),
            "its commit may lie in the next segment"
        );
    }
}
