//! The moment just before a transaction: the one that dropped a table, or any.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use highwater_wal::{Lsn, RawRecord, Records, RelationFile, SegmentName, rmgr};

use super::log::{LogItem, LogProgress, LogQuery, LogSink};
use super::{Catalog, PlanError};
use crate::log::{Fate, LogFilter, LogLine, TableLine, TablePattern};
use crate::plan::path_for;
use crate::target::{Before, BeforeWhat, Loss};
use crate::unreachable::{holes_as_hint, list_of_holes};
use crate::{Hole, Request, Target, Unreachable};

/// Transactions that dropped the same table that are looked at.
const MAX_LOSSES: usize = 1000;

/// Segments that are read in search of the mark that `DROP DATABASE` leaves before it removes files.
const MAX_SEGMENTS_FOR_MARK: u64 = 4;

/// Opcodes in `xl_info` of heap records (`heapam_xlog.h`).
const HEAP_OPCODE_MASK: u8 = 0x70;
const HEAP_DELETE: u8 = 0x10;
const HEAP_INPLACE: u8 = 0x70;

impl Catalog {
    /// A request whose target is told by what a transaction did, with the place in the WAL that this means.
    ///
    /// # Errors
    /// [`PlanError::Unreachable`] where there is no such transaction in what can be reached, or several; those of the repository.
    pub(super) async fn settle_before(&mut self, request: &Request) -> Result<Request, PlanError> {
        let Target::Before(before) = &request.target else { return Ok(request.clone()) };
        let Before { what, found: None, .. } = before.as_ref() else { return Ok(request.clone()) };
        let drops = match what {
            BeforeWhat::Drop { table, .. } => self.drops_of(table, request).await?,
            BeforeWhat::Transaction { xid } => {
                let (losses, holes) = self.ends_of(*xid, request).await?;
                Drops { losses, holes, ..Drops::default() }
            }
        };
        let found = match (drops.losses.as_slice(), what) {
            ([], BeforeWhat::Drop { table, .. }) if !drops.nameless.is_empty() => {
                return Err(drops.doubt(table).into());
            }
            ([], _) => return Err(self.nothing_before(request, what, &drops.holes).await?.into()),
            (_, BeforeWhat::Drop { table, .. }) if drops.is_doubtful() => {
                return Err(drops.doubt(table).into());
            }
            ([one], _) => one.clone(),
            ([newest, ..], BeforeWhat::Drop { last: true, .. } | BeforeWhat::Transaction { .. }) => {
                newest.clone()
            }
            (_, BeforeWhat::Drop { table, last: false }) => {
                return Err(Unreachable::SeveralDrops { table: table.to_string(), at: drops.losses }.into());
            }
        };
        let size = self.inventory().segment_size;
        let mut holes = drops.holes;
        holes.retain(|hole| hole.begins(size) > found.lsn);
        let target = Target::Before(Box::new(Before { what: what.clone(), found: Some(found), holes }));
        Ok(Request { target, exclusive: true, ..request.clone() })
    }

    async fn nothing_before(
        &self,
        request: &Request,
        what: &BeforeWhat,
        holes: &[Hole],
    ) -> Result<Unreachable, PlanError> {
        let timeline = path_for(self.inventory(), request.timeline)?.timeline();
        let hint = match what {
            BeforeWhat::Drop { table, .. } => {
                let advice = self.names_near(table).await?.advice(table);
                let advice = advice.map(|advice| format!("{advice}; ")).unwrap_or_default();
                format!(
                    "{advice}`highwater log --drops` shows what was dropped and truncated, and by which names; a table that another \
                     timeline has lost is found with --timeline"
                )
            }
            BeforeWhat::Transaction { .. } => {
                "`highwater log` shows the transactions; subtransactions and transactions that were still open have no end of their own"
                    .to_owned()
            }
        };
        let hint = holes_as_hint(holes) + &hint;
        Ok(Unreachable::NotFound { target: request.target.clone(), timeline, hint })
    }

    /// Where the first backup that may serve is consistent: what happened before cannot be undone.
    fn earliest(&self, request: &Request) -> Option<Lsn> {
        let backups = self.inventory().backups.iter();
        let serves = |label: &str| request.backup.as_ref().is_none_or(|wanted| wanted == label);
        backups.filter(|backup| serves(&backup.label)).map(|backup| backup.stop).min()
    }

    /// The transactions that dropped or truncated a table, newest first.
    async fn drops_of(&mut self, table: &TablePattern, request: &Request) -> Result<Drops, PlanError> {
        let filter = LogFilter { drops: true, ..self.reachable(request) };
        let (lines, holes) = self.collect(filter, request, MAX_LOSSES).await?;
        let mut drops = Drops { holes, ..Drops::default() };
        let path = path_for(self.inventory(), request.timeline)?;
        let mut book = super::NameBook::open(self.cluster()).await?;
        for line in lines {
            let mut all_lost = line.tables.iter().filter(|lost| is_lost(lost.fate));
            if let Some(lost) = all_lost.clone().find(|lost| table.matches(&lost.table)) {
                drops.databases.insert(lost.table.database_oid);
                drops.losses.push(loss(&line, line.lsn, verb(lost)));
            } else if let Some((database, what)) = emptied_parent(table, &line, &mut book, &path).await? {
                drops.databases.insert(database);
                drops.losses.push(loss(&line, line.lsn, what));
            } else if let Some(name) = self.database_with(table, &line, request).await? {
                let stop = self.before_database_drop(&line, request).await?;
                drops.losses.push(loss(&line, stop, format!("dropped database {name}, which had it")));
            } else if let Some(lost) = all_lost.find(|lost| table.may_match(&lost.table)) {
                let nameless = loss(&line, line.lsn, verb(lost));
                drops.nameless.push((lost.table.database_oid, nameless));
            }
        }
        Ok(drops)
    }

    /// The end of a transaction, the newest of that number.
    async fn ends_of(&mut self, xid: u32, request: &Request) -> Result<(Vec<Loss>, Vec<Hole>), PlanError> {
        let filter = LogFilter { xid: Some(xid), aborted: true, ..self.reachable(request) };
        let mut losses = Vec::new();
        let (lines, holes) = self.collect(filter, request, 1).await?;
        for line in lines {
            let stop = match line.databases_dropped.is_empty() {
                true => line.lsn,
                false => self.before_database_drop(&line, request).await?,
            };
            let what = if line.committed { "was committed" } else { "was rolled back" };
            losses.push(loss(&line, stop, what.to_owned()));
        }
        Ok((losses, holes))
    }

    fn reachable(&self, request: &Request) -> LogFilter {
        LogFilter { from: self.earliest(request), ..LogFilter::default() }
    }

    async fn collect(
        &mut self,
        filter: LogFilter,
        request: &Request,
        most: usize,
    ) -> Result<(Vec<LogLine>, Vec<Hole>), PlanError> {
        let mut found = Collected { lines: Vec::new(), holes: Vec::new(), most, damage: None };
        let query = LogQuery { filter, timeline: request.timeline };
        self.what_happened(&query, &mut found).await?;
        match found.damage {
            // What is looked for may lie in it.
            Some((object, reason)) => Err(highwater_repository::Error::damaged(object, reason).into()),
            None => Ok((found.lines, found.holes)),
        }
    }

    /// The name of a database that was dropped by this transaction and had a table of that name, by the names that were taken.
    async fn database_with(
        &mut self,
        table: &TablePattern,
        line: &LogLine,
        request: &Request,
    ) -> Result<Option<String>, PlanError> {
        if line.databases_dropped.is_empty() {
            return Ok(None);
        }
        let path = path_for(self.inventory(), request.timeline)?;
        let mut book = super::NameBook::open(self.cluster()).await?;
        let names = book.around(&path, line.lsn).await?;
        for dropped in &line.databases_dropped {
            let Some(name) = names.database(dropped.oid, line.lsn) else { continue };
            let is_meant = table.database.as_deref().is_none_or(|wanted| wanted == name);
            let has = |known: &std::sync::Arc<crate::NamesTable>| {
                let mut found = known.find(table.schema.as_deref(), &table.name);
                found.any(|relation| relation.database == dropped.oid)
            };
            if is_meant && names.tables().iter().any(has) {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    /// The place before all that `DROP DATABASE` does: it marks the row in `pg_database` in place, which no rollback takes back, then
    /// deletes it, removes the files, and commits (`dropdb`, dbcommands.c, PostgreSQL 14.9 and later).
    async fn before_database_drop(&mut self, line: &LogLine, request: &Request) -> Result<Lsn, PlanError> {
        let first = line.first.unwrap_or(line.lsn);
        let path = path_for(self.inventory(), request.timeline)?;
        let size = self.inventory().segment_size;
        let last = line.lsn.0 / size.bytes();
        let at = first.0 / size.bytes();
        let mut from = at;
        while at - from + 1 < MAX_SEGMENTS_FOR_MARK
            && from > 0
            && self.inventory().has(path.segment(from - 1, size))
        {
            from -= 1;
        }
        let mut search = MarkSearch { xid: line.xid, upto: line.lsn, marks: Vec::new(), deleted: Vec::new() };
        let mut records = Records::new(size, Some(self.cluster().system_id()));
        for number in from..=last {
            let segment: SegmentName = path.segment(number, size);
            // The log has read another file with its beginning.
            if !self.inventory().has(segment) {
                break;
            }
            let least = Some(self.inventory().bytes_of(segment));
            let object = self.cluster().get_segment(segment, size, least).await?;
            if records.push_segment(segment, object.bytes).is_err() {
                break;
            }
            while let Some(Ok(record)) = records.next_raw() {
                search.note(&record);
            }
        }
        Ok(search.mark().map_or(first, |mark| mark.min(first)))
    }
}

/// The database of a partitioned table of that name, all of whose partitions this transaction has emptied or dropped, and what it did. The
/// WAL speaks of the partitions only: the table itself has no file.
async fn emptied_parent(
    table: &TablePattern,
    line: &LogLine,
    book: &mut super::NameBook,
    path: &crate::Path,
) -> Result<Option<(u32, String)>, PlanError> {
    let lost: BTreeSet<(u32, u32)> = line
        .tables
        .iter()
        .filter(|lost| is_lost(lost.fate))
        .filter_map(|lost| Some((lost.table.database_oid, lost.table.oid?)))
        .collect();
    if lost.is_empty() {
        return Ok(None);
    }
    let names = book.around(path, line.lsn).await?;
    for known in names.tables() {
        let is_meant = |relation: &&crate::NamedRelation| {
            let database = known.database(relation.database);
            relation.kind == crate::RelationKind::PartitionedTable
                && table.database.as_deref().is_none_or(|wanted| database == Some(wanted))
        };
        for parent in known.find(table.schema.as_deref(), &table.name).filter(is_meant) {
            let leaves = known.leaves_of(parent);
            if !leaves.is_empty() && leaves.iter().all(|leaf| lost.contains(&(leaf.database, leaf.oid))) {
                let count = match leaves.len() {
                    1 => "its only partition".to_owned(),
                    n => format!("all {n} partitions"),
                };
                let (schema, name) = (Some(parent.schema.clone()), parent.name.clone());
                let parent_name = TablePattern { database: None, schema, name };
                return Ok(Some((parent.database, format!("emptied or dropped {count} of {parent_name}"))));
            }
        }
    }
    Ok(None)
}

/// Transactions that dropped or truncated a table, or may have, the newest first.
#[derive(Debug, Default)]
struct Drops {
    losses: Vec<Loss>,
    /// Databases, by OID, in which it was.
    databases: BTreeSet<u32>,
    /// Transactions that dropped something of which nobody can say whether it was the table, with the database.
    nameless: Vec<(u32, Loss)>,
    /// Segments that are missing.
    holes: Vec<Hole>,
}

impl Drops {
    /// Those behind the newest that is known, in a database in which the table may have been.
    fn doubts(&self) -> impl Iterator<Item = &Loss> {
        let known = self.losses.first().map(|newest| newest.lsn);
        let may_be_there =
            |database: &u32| self.databases.is_empty() || *database == 0 || self.databases.contains(database);
        let doubts = self.nameless.iter().filter(move |(database, loss)| {
            may_be_there(database) && known.is_none_or(|known| loss.lsn > known)
        });
        doubts.map(|(_, loss)| loss)
    }

    fn is_doubtful(&self) -> bool {
        self.doubts().next().is_some()
    }

    fn doubt(&self, table: &TablePattern) -> Unreachable {
        Unreachable::NamelessDrops {
            table: table.to_string(),
            known: self.losses.first().cloned().map(Box::new),
            at: self.doubts().cloned().collect(),
        }
    }
}

/// What to know of a plan whose target lies just before a transaction.
pub(super) fn notes(target: &Target) -> Vec<String> {
    let Target::Before(before) = target else { return Vec::new() };
    let Some(loss) = &before.found else { return Vec::new() };
    let mut notes = Vec::new();
    if loss.prepared {
        notes.push(format!(
            "transaction {} had been prepared before it was finished: the restored cluster holds it as prepared, with its locks, until \
             ROLLBACK PREPARED (its name is in pg_prepared_xacts)",
            loss.xid
        ));
    }
    if let (BeforeWhat::Drop { table, .. }, [_, ..]) = (&before.what, before.holes.as_slice()) {
        notes.push(format!(
            "WARNING: behind transaction {} the archive has a hole: missing is {}; whether {table} was dropped or truncated again in there is \
             not known",
            loss.xid,
            list_of_holes(&before.holes)
        ));
    }
    notes
}

fn is_lost(fate: Option<Fate>) -> bool {
    matches!(fate, Some(Fate::Dropped | Fate::Truncated | Fate::Gone))
}

fn verb(line: &TableLine) -> String {
    let verb = match line.fate {
        Some(Fate::Truncated) => "truncated",
        Some(Fate::Gone) => "dropped, truncated or rewrote",
        _ => "dropped",
    };
    format!("{verb} {}", line.table)
}

fn loss(line: &LogLine, stop: Lsn, what: String) -> Loss {
    let LogLine { lsn, time, xid, timeline, prepared, .. } = *line;
    Loss { stop, lsn, time, xid, timeline, prepared, what }
}

/// Takes lines, the newest first.
struct Collected {
    lines: Vec<LogLine>,
    holes: Vec<Hole>,
    most: usize,
    damage: Option<(String, String)>,
}

impl LogSink for Collected {
    fn item(&mut self, item: LogItem) -> ControlFlow<()> {
        match item {
            LogItem::Line(line) => self.lines.push(*line),
            LogItem::Damaged { object, reason, .. } => {
                self.damage = Some((object, reason));
                return ControlFlow::Break(());
            }
            LogItem::Hole(hole) => self.holes.push(hole),
            LogItem::Written(..) => {}
        }
        if self.lines.len() >= self.most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn progress(&mut self, _progress: &LogProgress) {}
}

/// A row: the file that it is in, its block, its number on that.
type RowPlace = (RelationFile, u32, u16);

/// Looks for rows that were changed in place, and that a transaction deleted afterwards.
struct MarkSearch {
    xid: u32,
    upto: Lsn,
    marks: Vec<(Lsn, RowPlace)>,
    deleted: Vec<RowPlace>,
}

impl MarkSearch {
    fn note(&mut self, record: &RawRecord<'_>) {
        let opcode = record.header.info & HEAP_OPCODE_MASK;
        if record.header.rmgr != rmgr::HEAP || record.lsn >= self.upto {
            return;
        }
        match opcode {
            HEAP_INPLACE => self.marks.extend(place(record, 0).map(|place| (record.lsn, place))),
            // The number of the deleting transaction stands in front.
            HEAP_DELETE if record.header.xid == self.xid => self.deleted.extend(place(record, 4)),
            _ => {}
        }
    }

    /// Where the last such row was changed in place.
    fn mark(&self) -> Option<Lsn> {
        let marks = self.marks.iter().rev();
        marks.into_iter().find(|(_, place)| self.deleted.contains(place)).map(|(lsn, _)| *lsn)
    }
}

/// The row that a heap record is about, in a relation that all databases share; its number stands at `offset` in the main data.
fn place(record: &RawRecord<'_>, offset: usize) -> Option<RowPlace> {
    let parts = record.parts()?;
    let block = parts.blocks().next().filter(|block| block.relation.database == 0)?;
    let number = parts.main().get(offset..offset + 2)?;
    Some((block.relation, block.block, u16::from_le_bytes([number[0], number[1]])))
}
