//! The chart of `log --summary`.

use highwater_catalog::{Bucket, Chart, ChartUnit};
use highwater_wal::Timestamp;
use serde::Serialize;

use crate::error::Error;
use crate::output::{self, Align, Table};

/// The longest bar, in characters.
const BAR_WIDTH: u64 = 40;

#[derive(Serialize)]
#[serde(tag = "type", rename = "bucket")]
struct JsonBucket<'a> {
    from: Timestamp,
    unit: &'static str,
    #[serde(flatten)]
    bucket: &'a Bucket,
}

/// One object a line, oldest first.
pub fn json(chart: &Chart) -> Result<Vec<String>, Error> {
    let unit = unit(chart.unit());
    let line = |(from, bucket)| {
        let failed =
            |error: serde_json::Error| Error::Io { what: "print JSON".to_owned(), source: error.into() };
        serde_json::to_string(&JsonBucket { from, unit, bucket }).map_err(failed)
    };
    chart.buckets().map(line).collect()
}

fn unit(unit: ChartUnit) -> &'static str {
    match unit {
        ChartUnit::Minute => "minute",
        ChartUnit::Hour => "hour",
        ChartUnit::Day => "day",
    }
}

/// A table, with a bar of WAL bytes in each line on a terminal.
pub fn text(chart: &Chart, with_bars: bool) -> Vec<String> {
    let right = |name| (name, Align::Right);
    let mut columns = vec![
        ("FROM", Align::Left),
        right("COMMITS"),
        right("INSERTED"),
        right("UPDATED"),
        right("DELETED"),
        right("DROPS"),
        right("WAL"),
    ];
    if with_bars {
        columns.push(("", Align::Left));
    }
    let most = chart.buckets().map(|(_, bucket)| bucket.wal_bytes).max().unwrap_or(0).max(1);
    let mut table = Table::new(&columns);
    for (from, bucket) in chart.buckets() {
        // Some of them did more than is known.
        let rows = |count: u64| if bucket.is_partial { format!("≥{count}") } else { count.to_string() };
        let mut cells = vec![
            output::local(from),
            bucket.commits.to_string(),
            rows(bucket.rows.inserted),
            rows(bucket.rows.updated),
            rows(bucket.rows.deleted),
            bucket.drops.to_string(),
            output::bytes(bucket.wal_bytes),
        ];
        if with_bars {
            let width = u128::from(bucket.wal_bytes) * u128::from(BAR_WIDTH) / u128::from(most);
            cells.push("█".repeat(width as usize));
        }
        table.row(cells);
    }
    table.to_string().lines().map(str::to_owned).collect()
}
