//! `highwater log`: what happened, transaction by transaction.

mod args;
mod chart;
mod line;

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::ops::ControlFlow;

use highwater_catalog::{Chart, LogItem, LogLine, LogProgress, LogQuery, LogReport, LogSink};
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Bar};

pub use args::LogArgs;

/// Different reasons why files have no name that are told at most.
const MAX_REASONS: usize = 20;

pub async fn run(context: &Context, args: &LogArgs) -> Result<(), Error> {
    let query = args.query()?;
    let mut catalog = context.catalog().await?;
    let segment_bytes = catalog.inventory().segment_size.bytes();
    let mut screen = Screen::new(context, args, &query, segment_bytes);
    let told = catalog.what_happened(&query, &mut screen).await;
    screen.bar.clear();
    screen.end()?;
    let report = told?;
    screen.tell_report(&report);
    if let Some(table) = query.filter.table.as_ref().filter(|_| screen.found == 0) {
        output::notes(&catalog.names_near(table).await?.advice(table).into_iter().collect::<Vec<String>>());
    }
    match report.damaged {
        0 => Ok(()),
        _ => Err(Error::Told(Exit::Damaged)),
    }
}

/// One line of JSON. docs/OPERATIONS.md tells the fields.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum JsonLine<'a> {
    Transaction(&'a LogLine),
    RestorePoint(&'a LogLine),
    Hole(&'a highwater_catalog::Hole),
    Damaged { segment: String, object: &'a str, reason: &'a str },
}

/// What takes the log and prints it.
struct Screen<'a> {
    out: BufWriter<Stdout>,
    bar: Bar,
    json: bool,
    /// Each line is printed at once: somebody is looking.
    is_watched: bool,
    query: &'a LogQuery,
    limit: Option<u64>,
    printed: u64,
    /// Lines that were told, printed or counted.
    found: u64,
    chart: Option<Chart>,
    segment_bytes: u64,
    /// Why files have no name, and how many times that was so.
    unknown: BTreeMap<String, u64>,
    failed: Option<std::io::Error>,
}

impl<'a> Screen<'a> {
    fn new(context: &Context, args: &LogArgs, query: &'a LogQuery, segment_bytes: u64) -> Screen<'a> {
        let out = std::io::stdout();
        Screen {
            is_watched: out.is_terminal(),
            out: BufWriter::new(out),
            bar: Bar::new(context.common.quiet),
            json: context.common.json,
            query,
            limit: args.limit,
            printed: 0,
            found: 0,
            chart: args.chart(),
            segment_bytes,
            unknown: BTreeMap::new(),
            failed: None,
        }
    }

    fn print(&mut self, text: &str) -> ControlFlow<()> {
        let (out, is_watched) = (&mut self.out, self.is_watched);
        let text = if self.json { output::printable_json(text) } else { output::printable(text) };
        let mut written = Ok(());
        self.bar.suspend(|| {
            written = writeln!(out, "{text}");
            if is_watched {
                written = std::mem::replace(&mut written, Ok(())).and_then(|()| out.flush());
            }
        });
        self.note(written)
    }

    /// A reader that has gone away (`highwater log | head`) is no failure: it has seen enough.
    fn note(&mut self, written: std::io::Result<()>) -> ControlFlow<()> {
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error).filter(|error| error.kind() != ErrorKind::BrokenPipe);
                ControlFlow::Break(())
            }
        }
    }

    fn print_json(&mut self, line: &JsonLine<'_>) -> ControlFlow<()> {
        match serde_json::to_string(line) {
            Ok(text) => self.print(&text),
            Err(error) => self.note(Err(error.into())),
        }
    }

    fn line(&mut self, line: &LogLine) -> ControlFlow<()> {
        self.found += 1;
        if let Some(chart) = &mut self.chart {
            chart.add(line, &self.query.filter);
            return ControlFlow::Continue(());
        }
        let flow = if self.json {
            self.print_json(&match line.restore_point {
                Some(_) => JsonLine::RestorePoint(line),
                None => JsonLine::Transaction(line),
            })
        } else {
            for reason in line.tables.iter().filter_map(|table| table.table.unknown.as_ref()) {
                if self.unknown.len() < MAX_REASONS || self.unknown.contains_key(reason) {
                    *self.unknown.entry(reason.clone()).or_default() += 1;
                }
            }
            self.print(&line::text(line))
        };
        self.printed += 1;
        match self.limit {
            Some(limit) if self.printed >= limit => ControlFlow::Break(()),
            _ => flow,
        }
    }

    /// Prints what is left to print.
    fn end(&mut self) -> Result<(), Error> {
        if let Some(chart) = self.chart.take() {
            let lines = if self.json { chart::json(&chart)? } else { chart::text(&chart, self.is_watched) };
            for line in lines {
                if self.print(&line).is_break() {
                    break;
                }
            }
        }
        let flushed = self.out.flush();
        _ = self.note(flushed);
        match self.failed.take() {
            Some(source) => Err(Error::Io { what: "print".to_owned(), source }),
            None => Ok(()),
        }
    }

    fn tell_report(&self, report: &LogReport) {
        let mut notes: Vec<String> = Vec::new();
        for (reason, count) in &self.unknown {
            notes.push(format!("{} shown by number: {reason}", output::count(*count, "file")));
        }
        notes.extend(report.notes.iter().cloned());
        if report.holes > 0 {
            let holes = output::count(report.holes, "hole");
            notes.push(format!(
                "there {} in the archive: what happened there is not told",
                is_or_are(report.holes, &holes)
            ));
        }
        if report.damaged > 0 {
            let damaged = output::count(report.damaged, "segment");
            notes.push(format!(
                "{} damaged: what happened there is not told, or in part; hint: another copy of the repository may have it whole",
                is_or_are_behind(report.damaged, &damaged)
            ));
        }
        let LogProgress { of_segments, segments_read, bytes_read, .. } = report.progress;
        if self.printed == 0 && self.chart.is_none() && of_segments == 0 {
            notes.push("no WAL is archived in that range".to_owned());
        }
        if self.is_watched {
            notes.push(format!(
                "{segments_read} of {} read, {}",
                output::count(of_segments, "segment"),
                output::bytes(bytes_read)
            ));
        }
        output::notes(&notes);
    }
}

fn is_or_are(count: u64, what: &str) -> String {
    format!("{} {what}", if count == 1 { "is" } else { "are" })
}

fn is_or_are_behind(count: u64, what: &str) -> String {
    format!("{what} {}", if count == 1 { "is" } else { "are" })
}

impl LogSink for Screen<'_> {
    fn item(&mut self, item: LogItem) -> ControlFlow<()> {
        match item {
            LogItem::Line(line) => self.line(&line),
            LogItem::Written(written, behind) => {
                if let Some(chart) = &mut self.chart {
                    let filter = &self.query.filter;
                    chart.add_wal(&written, behind, |time| {
                        filter.since.is_none_or(|since| time >= since)
                            && filter.until.is_none_or(|until| time <= until)
                    });
                }
                ControlFlow::Continue(())
            }
            // Where the chart goes on, a hole is told behind it.
            LogItem::Hole(_) if self.chart.is_some() && !self.json => ControlFlow::Continue(()),
            LogItem::Hole(hole) if self.json => self.print_json(&JsonLine::Hole(&hole)),
            LogItem::Hole(hole) => self.print(&format!("-- HOLE: missing in the archive: {hole}")),
            LogItem::Damaged { segment, object, reason } if self.json => {
                self.print_json(&JsonLine::Damaged {
                    segment: segment.to_string(),
                    object: &object,
                    reason: &reason,
                })
            }
            LogItem::Damaged { object, reason, .. } => self.print(&format!("-- DAMAGED: {object}: {reason}")),
        }
    }

    fn progress(&mut self, progress: &LogProgress) {
        let at = progress.at.map(|segment| segment.to_string()).unwrap_or_default();
        let bytes = |segments: u64| segments.saturating_mul(self.segment_bytes);
        self.bar.set(&format!("searching {at}"), bytes(progress.segments), Some(bytes(progress.of_segments)));
    }
}
