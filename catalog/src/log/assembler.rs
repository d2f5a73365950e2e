//! Records of one stretch of WAL, put together to transactions.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use highwater_wal::{Lsn, RelationFile, TimelineId, Timestamp};

use super::deeds::{self, ClassChange, Deeds, Rows};

/// Transactions and subtransactions that are followed at once. What more there are is not counted, and every transaction that
/// ends from there on in the stretch is marked as partial.
const MAX_OPEN: usize = 250_000;

/// The end of a transaction, or a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Where its record starts.
    pub lsn: Lsn,
    /// The LSN behind it.
    pub end: Lsn,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// The timeline that it lies on.
    pub timeline: TimelineId,
    /// The transaction; for a prepared one its own, not that of the session that finished it. 0 for a restore point.
    pub xid: u32,
    /// Committed, not rolled back.
    pub committed: bool,
    /// It had been prepared (`PREPARE TRANSACTION`).
    pub prepared: bool,
    /// The name, where it is a restore point.
    pub restore_point: Option<String>,
    /// Relation files that vanished with it.
    pub dropped: Vec<RelationFile>,
    /// The database that it ran in, where the record tells.
    pub database: Option<u32>,
    /// Its subtransactions that count.
    pub subtransactions: Vec<u32>,
    /// What it did.
    pub deeds: Deeds,
    /// Whether all of its records were read: it is known to have begun behind the beginning of what was.
    pub is_whole: bool,
}

/// What one stretch of WAL holds.
#[derive(Debug, Default)]
pub struct Stretch {
    /// What ended in it, oldest first.
    pub ends: Vec<End>,
    /// What transactions did that had not ended by its end, by xid.
    pub(super) open: Open,
    /// Transactions from this xid on began in it or later.
    pub begun_from: Option<u32>,
    /// Bytes of WAL by the time of the transaction's end behind them, each time once where they follow one another within a minute.
    pub written: Vec<(Timestamp, u64)>,
    /// Bytes of WAL behind the last end of a transaction.
    pub written_behind: u64,
    /// There were too many transactions at once: what is in `open` is not all.
    pub is_overfull: bool,
}

pub(super) type Open = HashMap<u32, Deeds, BuildHasherDefault<XidHasher>>;

/// Transactions' numbers are dense; a multiplication spreads them well enough.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct XidHasher(u64);

impl Hasher for XidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // 2⁶⁴ divided by the golden ratio.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

/// Whether transaction `a` was numbered at or after `b`: numbers wrap around (`TransactionIdFollowsOrEquals`, transam.c).
pub(super) fn is_from(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}

/// Puts transactions together from the records of one unbroken stretch of WAL, fed in their order.
#[derive(Debug)]
pub struct Assembler {
    stretch: Stretch,
    /// The end of the last record that was counted.
    counted_to: Lsn,
}

impl Assembler {
    /// For a stretch that begins at `start`.
    pub fn new(start: Lsn) -> Assembler {
        Assembler { stretch: Stretch::default(), counted_to: start }
    }

    /// What a transaction did so far. `None` where there are too many.
    fn deeds(&mut self, xid: u32, lsn: Lsn) -> Option<&mut Deeds> {
        let Stretch { open, is_overfull, .. } = &mut self.stretch;
        if xid == 0 {
            return None;
        }
        if open.len() >= MAX_OPEN && !open.contains_key(&xid) {
            *is_overfull = true;
            return None;
        }
        let deeds = open.entry(xid).or_default();
        deeds.first.get_or_insert(lsn);
        Some(deeds)
    }

    /// Rows changed.
    pub fn rows(&mut self, lsn: Lsn, xid: u32, file: RelationFile, rows: Rows) {
        if let Some(deeds) = self.deeds(xid, lsn) {
            deeds.add_rows(file, rows);
        }
    }

    /// A relation file made.
    pub fn created(&mut self, lsn: Lsn, xid: u32, file: RelationFile) {
        if let Some(Deeds { created, left_out, .. }) = self.deeds(xid, lsn) {
            deeds::push(created, file, left_out);
        }
    }

    /// A row of `pg_class` written or deleted; `None` where it cannot be told what is in it.
    pub fn class(&mut self, lsn: Lsn, xid: u32, change: Option<ClassChange>) {
        if let Some(Deeds { classes, has_class_rows, left_out, .. }) = self.deeds(xid, lsn) {
            *has_class_rows = true;
            if let Some(change) = change {
                deeds::push(classes, change, left_out);
            }
        }
    }

    /// Tables truncated, by OID.
    pub fn truncated(&mut self, lsn: Lsn, xid: u32, database: u32, oids: &[u32]) {
        if let Some(Deeds { truncated, left_out, .. }) = self.deeds(xid, lsn) {
            for oid in oids {
                deeds::push(truncated, (database, *oid), left_out);
            }
        }
    }

    /// A file cut to nothing in place.
    pub fn emptied(&mut self, lsn: Lsn, xid: u32, file: RelationFile) {
        if let Some(Deeds { emptied, left_out, .. }) = self.deeds(xid, lsn) {
            deeds::push(emptied, file, left_out);
        }
    }

    /// A database made.
    pub fn database_created(&mut self, lsn: Lsn, xid: u32, database: u32) {
        if let Some(Deeds { databases_created, left_out, .. }) = self.deeds(xid, lsn)
            && !databases_created.contains(&database)
        {
            deeds::push(databases_created, database, left_out);
        }
    }

    /// A database dropped.
    pub fn database_dropped(&mut self, lsn: Lsn, xid: u32, database: u32) {
        if let Some(Deeds { databases_dropped, left_out, .. }) = self.deeds(xid, lsn)
            && !databases_dropped.contains(&database)
        {
            deeds::push(databases_dropped, database, left_out);
        }
    }

    /// A tablespace dropped.
    pub fn tablespace_dropped(&mut self, lsn: Lsn, xid: u32, tablespace: u32) {
        if let Some(Deeds { tablespaces_dropped, left_out, .. }) = self.deeds(xid, lsn) {
            deeds::push(tablespaces_dropped, tablespace, left_out);
        }
    }

    /// The next transaction's number at this place in the WAL: those from it on begin behind it.
    pub fn next_xid(&mut self, next: u32) {
        // The first that is met is the smallest.
        self.stretch.begun_from.get_or_insert(next);
    }

    /// A transaction ended whose end nobody wants to have listed.
    pub fn passed(&mut self, end: Lsn, time: Timestamp, xid: u32, subtransactions: &[u32]) {
        self.count_wal(end, time);
        let open = &mut self.stretch.open;
        open.remove(&xid);
        for xid in subtransactions {
            open.remove(xid);
        }
    }

    /// A restore point, or the end of a transaction. `end` has what the record tells; `deeds` and `is_whole` are filled in here.
    pub fn ended(&mut self, mut end: End) {
        self.count_wal(end.end, end.time);
        let Stretch { open, begun_from, is_overfull, .. } = &mut self.stretch;
        if end.restore_point.is_none() {
            end.deeds = open.remove(&end.xid).unwrap_or_default();
            for xid in &end.subtransactions {
                if let Some(deeds) = open.remove(xid) {
                    end.deeds.join(deeds, false);
                }
            }
            end.deeds.classes.sort_by_key(|class| class.lsn);
        }
        end.is_whole = end.restore_point.is_some()
            || !*is_overfull && begun_from.is_some_and(|from| is_from(end.xid, from));
        self.stretch.ends.push(end);
    }

    fn count_wal(&mut self, end: Lsn, time: Timestamp) {
        let bytes = end.bytes_since(self.counted_to);
        self.counted_to = self.counted_to.max(end);
        match self.stretch.written.last_mut() {
            Some((last, counted)) if minute(*last) == minute(time) => *counted += bytes,
            _ => self.stretch.written.push((time, bytes)),
        }
    }

    /// The stretch is read up to `upto`.
    pub fn finish(mut self, upto: Lsn) -> Stretch {
        self.stretch.written_behind = upto.bytes_since(self.counted_to);
        self.stretch
    }
}

fn minute(time: Timestamp) -> i64 {
    time.0.div_euclid(60_000_000)
}
