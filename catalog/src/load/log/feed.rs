//! Records, fed to what puts transactions together.

use highwater_wal::{
    CatalogRow, CatalogRows, Change, ClassRow, Finished, Kind, Lsn, NamespaceRow, RawRecord, RowChange, rmgr,
};

use crate::Path;
use crate::log::{Assembler, ClassChange, Deeds, End, LogFilter, RowFate, Rows};

/// Rows of `pg_class` and `pg_namespace` that a stretch tells by the way at most.
const MAX_SEEN: usize = 20_000;

/// `pg_class.relpersistence` of temporary tables (`RELPERSISTENCE_TEMP`).
const TEMPORARY: char = 't';

/// What the WAL tells by the way of the names of relations and schemas.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Rows of `pg_class` on pages whose images were seen.
    pub classes: Vec<ClassChange>,
    /// Rows of `pg_namespace`.
    pub schemas: Vec<NamespaceRow>,
}

impl Seen {
    fn class(&mut self, class: ClassChange) {
        if self.classes.len() < MAX_SEEN {
            self.classes.push(class);
        }
    }

    fn schema(&mut self, row: NamespaceRow) {
        if self.schemas.len() < MAX_SEEN {
            self.schemas.push(row);
        }
    }
}

fn class_change(row: ClassRow, fate: RowFate) -> ClassChange {
    ClassChange {
        lsn: row.origin.lsn,
        fate,
        database: row.origin.database,
        oid: row.oid,
        file: row.file,
        was: row.was,
        name: row.name,
        namespace: row.namespace,
        kind: row.kind,
        rewrites: row.rewrites,
    }
}

/// What decides which ends of transactions are kept.
pub(super) struct Feed<'a> {
    pub path: &'a Path,
    pub filter: &'a LogFilter,
}

impl Feed<'_> {
    /// Tells what a record writes into the catalogs that names are made of: to `into` what its transaction did to rows of `pg_class`.
    pub fn names(
        &self,
        record: &RawRecord<'_>,
        catalogs: &mut CatalogRows,
        seen: &mut Seen,
        mut into: impl FnMut(u32, Option<ClassChange>),
    ) {
        catalogs.feed(record, |row| match row {
            CatalogRow::Class(row) => {
                let xid = row.origin.xid;
                let fate = match row.origin.change {
                    RowChange::Inserted => RowFate::Inserted,
                    RowChange::Updated | RowChange::Seen => RowFate::Updated,
                    RowChange::Deleted => RowFate::Deleted,
                };
                // What a session keeps to itself has no rows in the WAL, and is nobody's loss.
                let is_temporary = row.persistence == TEMPORARY;
                match row.origin.change {
                    RowChange::Seen if is_temporary => {}
                    RowChange::Seen => seen.class(class_change(row, fate)),
                    _ => into(xid, (!is_temporary).then(|| class_change(row, fate))),
                }
            }
            CatalogRow::Namespace(row) => seen.schema(row),
            CatalogRow::Untold(row) if row.catalog == highwater_wal::Catalog::Class => {
                into(row.origin.xid, None);
            }
            CatalogRow::Untold(_) => {}
        });
    }

    /// Tells what a record says; `None` where its body isn't laid out as its version does it.
    pub fn record(&self, record: &RawRecord<'_>, into: &mut Assembler) -> Option<()> {
        let (lsn, xid) = (record.lsn, record.header.xid);
        if matches!(record.header.rmgr, rmgr::TRANSACTION | rmgr::XLOG) {
            self.ends(record, into)?;
        }
        record.changes(|change| match change {
            Change::Rows { relation, inserted, updated, deleted } => {
                let rows =
                    Rows { inserted: inserted.into(), updated: updated.into(), deleted: deleted.into() };
                into.rows(lsn, xid, relation, rows);
            }
            Change::Created { relation } => into.created(lsn, xid, relation),
            Change::Cut { relation, blocks: 0 } => into.emptied(lsn, xid, relation),
            Change::Truncated { database, relations } => into.truncated(lsn, xid, database, &relations),
            Change::DatabaseCreated { database, .. } => into.database_created(lsn, xid, database),
            Change::DatabaseDropped { database, .. } => into.database_dropped(lsn, xid, database),
            Change::TablespaceDropped { tablespace } => into.tablespace_dropped(lsn, xid, tablespace),
            Change::Running { next, .. } => into.next_xid(next),
            // Which subtransactions count is told at the end; nothing else changes what is shown.
            Change::Cut { .. }
            | Change::DatabaseMoved { .. }
            | Change::TablespaceCreated { .. }
            | Change::Subtransactions { .. }
            | Change::Prepared { .. }
            | Change::RelationMap { .. } => {}
        })
    }

    fn ends(&self, record: &RawRecord<'_>, into: &mut Assembler) -> Option<()> {
        match record.kind()? {
            Kind::Commit(finished) => self.finished(record, finished, true, into),
            Kind::Abort(finished) => self.finished(record, finished, false, into),
            Kind::RestorePoint { time, name } => {
                let nothing = Finished {
                    xid: 0,
                    time,
                    prepared: false,
                    dropped: Vec::new(),
                    subtransactions: Vec::new(),
                    database: None,
                };
                let end = End { restore_point: Some(name), ..self.end(record, nothing) };
                if self.filter.may_want(&end) {
                    into.ended(end);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn finished(&self, record: &RawRecord<'_>, finished: Finished, committed: bool, into: &mut Assembler) {
        let end = End { committed, ..self.end(record, finished) };
        if self.filter.may_want(&end) {
            into.ended(end);
        } else {
            into.passed(end.end, end.time, end.xid, &end.subtransactions);
        }
    }

    fn end(&self, record: &RawRecord<'_>, finished: Finished) -> End {
        let Finished { xid, time, prepared, dropped, subtransactions, database } = finished;
        End {
            lsn: record.lsn,
            end: record.end,
            time,
            timeline: self.timeline(record.lsn),
            xid,
            committed: true,
            prepared,
            restore_point: None,
            dropped,
            database,
            subtransactions,
            deeds: Deeds::default(),
            is_whole: false,
        }
    }

    /// The timeline that wrote what lies at `lsn`.
    fn timeline(&self, lsn: Lsn) -> highwater_wal::TimelineId {
        let leg = self.path.legs().iter().rev().find(|leg| leg.begin <= lsn);
        leg.map_or(self.path.timeline(), |leg| leg.timeline)
    }
}
