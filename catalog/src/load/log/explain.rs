//! What a transaction that dropped or emptied tables did to their rows in `pg_class`.
//!
//! The record that deletes or updates such a row has only what changed. The row itself is on its page, of which there is an image
//! behind each checkpoint's redo position, with the first change of it. So reading from there on tells for certain what was dropped,
//! and what it was called just then, whatever names were taken and when.

use std::collections::HashMap;

use highwater_repository::Error;
use highwater_wal::Lsn;

use super::Search;
use crate::log::{ClassChange, End, Named, Namer};

/// Bytes of WAL that are read for one explanation at most. Where checkpoints are further apart, names that were taken have to do.
const MAX_BYTES_EACH: u64 = 4 << 30;

/// Bytes of WAL that are read for explanations in one search.
const MAX_BYTES: u64 = 64 << 30;

/// What a stretch of WAL tells of rows of `pg_class`.
#[derive(Debug)]
pub(super) struct Explained {
    /// Where the stretch begins: at or before a checkpoint's redo position.
    from: Lsn,
    to: Lsn,
    pub by_xid: HashMap<u32, Vec<ClassChange>>,
}

impl Search<'_> {
    /// Completes what is known of a transaction's doings in `pg_class`, if a file went with it that is not accounted for.
    pub(super) async fn explain(&mut self, end: &mut End) -> Result<(), Error> {
        let is_unfollowed = Search::is_unfollowed(end);
        if is_unfollowed && self.find_moves(end.lsn).await? {
            // It was read without knowing where the catalogs lie.
            self.explained = None;
        }
        let is_wanted = is_unfollowed && !self.moved.known.is_empty() || self.is_unexplained(end);
        if !end.committed || !is_wanted || self.explained_bytes >= MAX_BYTES {
            return Ok(());
        }
        let first = end.deeds.first.unwrap_or(end.lsn).min(end.lsn);
        let covers = |known: &Explained| known.from <= first && end.lsn < known.to;
        if !self.explained.as_ref().is_some_and(covers) {
            let Some(read) = self.read_again(first, end.lsn).await? else { return Ok(()) };
            self.explained = Some(read);
        }
        let Some(known) = &self.explained else { return Ok(()) };
        let mut classes: Vec<ClassChange> = std::iter::once(&end.xid)
            .chain(&end.subtransactions)
            .filter_map(|xid| known.by_xid.get(xid))
            .flatten()
            .cloned()
            .collect();
        classes.sort_by_key(|class| class.lsn);
        // As many may say more: which file a row had before.
        if classes.len() >= end.deeds.classes.len() {
            end.deeds.classes = classes;
        }
        Ok(())
    }

    /// Whether a file is gone of which no row of `pg_class` tells what became of it.
    fn is_unexplained(&self, end: &End) -> bool {
        let classes = &end.deeds.classes;
        end.dropped.iter().any(|file| {
            let is_moved = || match self.names.file(*file, end.lsn) {
                // Of what was rewritten as well each file is to be accounted for: it may have been emptied in between.
                Named::Table(table) => {
                    let mut of_table = classes.iter().filter(|class| class.database == table.database_oid);
                    of_table.clone().any(|class| Some(class.oid) == table.oid)
                        && !of_table.any(|class| Some(class.rewrites) == table.oid)
                }
                Named::Unknown(_) => false,
            };
            !classes.iter().any(|class| class.took(*file)) && !is_moved()
        })
    }

    /// Reads what was written into `pg_class` from the last redo position at or before `first` to `last`.
    pub(super) async fn read_again(&mut self, first: Lsn, last: Lsn) -> Result<Option<Explained>, Error> {
        let size = self.size();
        let Some(run) = self.stock.runs.iter().find(|run| run.contains(&(last.0 / size))).cloned() else {
            return Ok(None);
        };
        let lowest = last.0.saturating_sub(MAX_BYTES_EACH) / size;
        let mut from = None;
        // A checkpoint's record lies behind its redo position, and may lie behind the transaction.
        let mut number = last.0 / size;
        while number >= *run.start() && number >= lowest {
            self.read_heads(number, &run).await?;
            let summary = self.heads.get(&number).and_then(|head| head.as_ref()?.summary.as_ref());
            let redo = |summary: &highwater_wal::Summary| {
                summary.checkpoints.iter().map(|point| point.redo).filter(|redo| *redo <= first).max()
            };
            from = from.max(summary.and_then(redo));
            let Some(before) = number.checked_sub(1).filter(|_| from.is_none()) else { break };
            number = before;
        }
        let from = from.unwrap_or(first).0 / size;
        let from = from.max(*run.start()).max(lowest);
        let read = self.reader().classes(from, last.0 / size, *run.end()).await?;
        self.has_read(read.bytes, &read.places, &read.mapped);
        self.explained_bytes += read.bytes;
        let mut by_xid: HashMap<u32, Vec<ClassChange>> = HashMap::new();
        for (xid, class) in read.classes {
            by_xid.entry(xid).or_default().push(class);
        }
        self.names.learn(&[], read.seen);
        let to = Lsn((last.0 / size + 1).saturating_mul(size));
        Ok(Some(Explained { from: Lsn(from.saturating_mul(size)), to, by_xid }))
    }
}
