//! Transactions counted by the minute, hour or day.

use std::collections::BTreeMap;

use highwater_wal::Timestamp;
use serde::Serialize;

use super::deeds::Rows;
use super::filter::{LogFilter, is_loss};
use super::line::LogLine;

/// Buckets at most: two months of minutes. What does not fit is counted in the oldest.
const MAX_BUCKETS: usize = 100_000;

/// A length of time that transactions are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days.
    Day,
}

impl Unit {
    fn micros(self) -> i64 {
        match self {
            Unit::Minute => 60_000_000,
            Unit::Hour => 3_600_000_000,
            Unit::Day => 86_400_000_000,
        }
    }
}

/// What happened within one unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Bucket {
    /// Transactions committed.
    pub commits: u64,
    /// Transactions rolled back, where they were asked for.
    pub aborts: u64,
    /// Rows changed.
    #[serde(flatten)]
    pub rows: Rows,
    /// Bytes of WAL, of all that was written.
    pub wal_bytes: u64,
    /// Tables and databases dropped or truncated.
    pub drops: u64,
    /// Whether some transactions did more than is counted.
    pub is_partial: bool,
}

/// Transactions counted by time, of the zone that whoever reads it lives in.
pub struct Chart {
    unit: Unit,
    /// Microseconds that the zone is ahead of UTC at a moment.
    offset: fn(Timestamp) -> i64,
    buckets: BTreeMap<i64, Bucket>,
    /// The bucket that WAL in front of the oldest one that is known so far belongs to: that of what came after it.
    oldest: Option<i64>,
}

impl Chart {
    /// An empty one. `offset` gives the microseconds that local time is ahead of UTC.
    pub fn new(unit: Unit, offset: fn(Timestamp) -> i64) -> Chart {
        Chart { unit, offset, buckets: BTreeMap::new(), oldest: None }
    }

    fn key(&self, time: Timestamp) -> i64 {
        let ahead = (self.offset)(time);
        let micros = self.unit.micros();
        (time.0.saturating_add(ahead)).div_euclid(micros).saturating_mul(micros).saturating_sub(ahead)
    }

    fn bucket(&mut self, key: i64) -> &mut Bucket {
        let full = self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(&key);
        let first = self.buckets.keys().next().copied();
        let key = if full { first.unwrap_or(key) } else { key };
        self.buckets.entry(key).or_default()
    }

    /// Counts a transaction; of its tables those that were asked for. Restore points are none.
    pub fn add(&mut self, line: &LogLine, filter: &LogFilter) {
        if line.restore_point.is_some() {
            return;
        }
        let key = self.key(line.time);
        let bucket = self.bucket(key);
        match line.committed {
            true => bucket.commits += 1,
            false => bucket.aborts += 1,
        }
        for table in filter.tables_of(line) {
            bucket.rows.add(table.rows);
            bucket.drops += u64::from(table.fate.is_some_and(is_loss));
        }
        bucket.drops += line.databases_dropped.len() as u64;
        bucket.is_partial |= !line.is_whole || line.rows_left_out > 0;
    }

    /// Counts WAL, newest stretch first: `written` by the time of the transaction's end behind it, and what lies behind the last of
    /// those.
    pub fn add_wal(&mut self, written: &[(Timestamp, u64)], behind: u64, wanted: impl Fn(Timestamp) -> bool) {
        let first_behind = self.oldest.or_else(|| written.last().map(|(time, _)| self.key(*time)));
        if let Some(key) = first_behind.filter(|_| behind > 0) {
            self.bucket(key).wal_bytes += behind;
        }
        for (time, bytes) in written {
            if wanted(*time) {
                let key = self.key(*time);
                self.bucket(key).wal_bytes += bytes;
            }
        }
        if let Some((time, _)) = written.iter().find(|(time, _)| wanted(*time)) {
            self.oldest = Some(self.key(*time));
        }
    }

    /// What was counted, by the beginning of each unit, oldest first; units in which nothing happened are left out.
    pub fn buckets(&self) -> impl Iterator<Item = (Timestamp, &Bucket)> {
        self.buckets.iter().map(|(start, bucket)| (Timestamp(*start), bucket))
    }

    /// The unit.
    pub fn unit(&self) -> Unit {
        self.unit
    }
}
