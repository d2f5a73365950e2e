//! The arguments of `log`.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use highwater_catalog::{Chart, ChartUnit, LogFilter, LogQuery, TablePattern, parse_time};
use highwater_wal::{Lsn, TimelineId, Timestamp};
use time::{OffsetDateTime, UtcOffset};

use crate::error::Error;
use crate::output;

/// Arguments of `log`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater log --since '1 hour ago'
  highwater log --drops
  highwater log --table public.accounts --min-rows 1000
  highwater log --since '2 days ago' --summary hour
  highwater log --xid 745 --json

The newest comes first. A line has the time of the commit, its LSN, timeline and transaction, and what it did to each
table: rows inserted (+), updated (~), deleted (-), or what became of the table.")]
pub struct LogArgs {
    /// From this time on: '2026-11-20 11:15:59+01', '1 hour ago'
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only what changed this table; as in SQL: accounts, public.accounts, '"Accounts"', mydb.public.accounts
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TablePattern>,
    /// Only this transaction (not a subtransaction)
    #[arg(long, value_name = "XID")]
    pub xid: Option<u32>,
    /// Only what dropped or truncated tables, databases or tablespaces
    #[arg(long)]
    pub drops: bool,
    /// Only what changed at least so many rows; with --table, of that table
    #[arg(long, value_name = "N")]
    pub min_rows: Option<u64>,
    /// From one position in the WAL up to another, which itself does not count; one of them may be left out
    #[arg(long, value_name = "A..B")]
    pub lsn: Option<LsnRange>,
    /// The timeline whose path is followed [default: the newest]
    #[arg(long, value_name = "N")]
    pub timeline: Option<TimelineId>,
    /// Count commits, rows and WAL by the minute, hour or day instead of telling each transaction
    #[arg(long, value_name = "UNIT", value_enum, num_args = 0..=1, default_missing_value = "hour")]
    pub summary: Option<Unit>,
    /// So many lines at most
    #[arg(long, value_name = "N", conflicts_with = "summary", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// What was rolled back, too; a savepoint that was rolled back looks like a transaction
    #[arg(long)]
    pub aborted: bool,
    /// Toast tables, indexes and catalogs, too
    #[arg(long)]
    pub all_relations: bool,
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// By the minute.
    Minute,
    /// By the hour.
    Hour,
    /// By the day.
    Day,
}

/// Two positions in the WAL, each of which may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LsnRange {
    from: Option<Lsn>,
    to: Option<Lsn>,
}

impl FromStr for LsnRange {
    type Err = String;

    fn from_str(text: &str) -> Result<LsnRange, String> {
        let bad = || {
            format!("\"{text}\" is no range; hint: write it as 0/3000028..0/5000000, or leave one side out")
        };
        let (from, to) = text.split_once("..").ok_or_else(bad)?;
        let side = |text: &str| match text.trim() {
            "" => Ok(None),
            lsn => lsn.parse().map(Some).map_err(|_| bad()),
        };
        let range = LsnRange { from: side(from)?, to: side(to)? };
        if range.from.zip(range.to).is_some_and(|(from, to)| from >= to) {
            return Err(format!("\"{text}\" is empty; hint: write the smaller position first"));
        }
        Ok(range)
    }
}

impl LogArgs {
    /// What is asked for.
    pub fn query(&self) -> Result<LogQuery, Error> {
        let (since, until) = (moment(self.since.as_deref())?, moment(self.until.as_deref())?);
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            return Err(Error::usage(
                "--since is later than --until; hint: write the earlier time behind --since",
            ));
        }
        let filter = LogFilter {
            since,
            until,
            from: self.lsn.and_then(|range| range.from),
            to: self.lsn.and_then(|range| range.to),
            xid: self.xid,
            table: self.table.clone(),
            drops: self.drops,
            min_rows: self.min_rows,
            aborted: self.aborted,
            all_relations: self.all_relations,
        };
        Ok(LogQuery { filter, timeline: self.timeline })
    }

    /// What transactions are counted in, if that was asked for.
    pub fn chart(&self) -> Option<Chart> {
        let unit = match self.summary? {
            Unit::Minute => ChartUnit::Minute,
            Unit::Hour => ChartUnit::Hour,
            Unit::Day => ChartUnit::Day,
        };
        Some(Chart::new(unit, ahead_of_utc))
    }
}

fn moment(text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    let parsed = text.map(|text| parse_time(text, OffsetDateTime::now_utc(), output::offset_at));
    Ok(parsed.transpose()?.map(|parsed| parsed.time))
}

/// Microseconds that this machine's zone is ahead of UTC at a moment.
fn ahead_of_utc(time: Timestamp) -> i64 {
    let offset = time.to_datetime(UtcOffset::UTC).map(output::offset_at);
    offset.map_or(0, |offset| i64::from(offset.whole_seconds()) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_lsns() {
        let range = |from, to| Ok(LsnRange { from, to });
        assert_eq!("0/10..0/20".parse(), range(Some(Lsn(16)), Some(Lsn(32))));
        assert_eq!("..1/0".parse(), range(None, Some(Lsn(1 << 32))));
        assert_eq!("1/0 ..".parse(), range(Some(Lsn(1 << 32)), None));
        for bad in ["", "0/10", "0/20..0/10", "0/10..0/10", "x..", "0/10..0/20..0/30"] {
            assert!(bad.parse::<LsnRange>().unwrap_err().contains("hint:"), "{bad}");
        }
    }
}
