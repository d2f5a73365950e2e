//! `highwater window`: which moments can be reached.

mod graph;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use highwater_catalog::{Branch, Catalog, Doubted, Inventory, Window, Windows};
use highwater_wal::Timestamp;

use self::rows::{Row, What};
use crate::context::Context;
use crate::error::Error;
use crate::output;

pub async fn run(context: &Context) -> Result<(), Error> {
    let mut catalog = context.catalog().await?;
    let Windows { inventory, branches } = catalog.windows().await?;
    let notes = notes(&catalog);
    if context.common.json {
        output::notes(&notes);
        return output::json(&branches);
    }
    let mut text = text(&inventory, &branches, &output::local);
    for note in notes {
        // Writing into a String cannot fail; so below.
        _ = writeln!(text, "Note: {note}");
    }
    output::print(&text)
}

fn notes(catalog: &Catalog) -> Vec<String> {
    let damaged = catalog.damaged_segments().values();
    let mut notes: Vec<String> =
        damaged.map(|reason| format!("DAMAGED and counted as missing: {reason}")).collect();
    notes.extend(catalog.index_notes().iter().cloned());
    notes.extend(catalog.verification_notes().iter().cloned());
    notes.extend(catalog.inventory().notes());
    if let logs @ 1.. = catalog.unlisted_logs() {
        notes.push(format!(
            "the index alone speaks for the oldest {logs} logs of WAL (4 GiB each): the archive is too large to list in passing; \
             highwater verify lists all of it, and so does highwater plan with what it needs"
        ));
    }
    notes
}

/// How times are shown.
type Show<'a> = &'a dyn Fn(Timestamp) -> String;

fn text(inventory: &Inventory, branches: &[Branch], show: Show<'_>) -> String {
    if branches.is_empty() {
        return "Nothing is archived and there is no backup: no moment can be reached.\n".to_owned();
    }
    let mut text = drawing(&rows::rows(inventory, branches), show);
    for branch in branches {
        text.push('\n');
        path(&mut text, branch, show);
    }
    text
}

fn drawing(rows: &[Row], show: Show<'_>) -> String {
    let lines: Vec<[String; 4]> = rows
        .iter()
        .zip(graph::draw(rows))
        .map(|(row, graph)| [graph, row.lsn.to_string(), row.time.map(show).unwrap_or_default(), words(row)])
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let (lsn, time) = (width(1), width(2));
    let mut text = String::new();
    for [graph, at, when, what] in &lines {
        let line = format!("{graph}  {at:<lsn$}  {when:<time$}  {what}");
        _ = writeln!(text, "{}", line.trim_end());
    }
    _ = writeln!(text, "\n{}", graph::LEGEND);
    text
}

fn words(row: &Row) -> String {
    let timeline = row.timeline;
    match &row.what {
        What::Begin(how) => format!("timeline {timeline}, {how}"),
        What::Fork(parent, why) => format!("timeline {timeline} left timeline {parent}: {why}"),
        What::Backup(label) => format!("backup {label}"),
        What::BrokenBackup(label) => format!("backup {label}, UNUSABLE"),
        What::DoubtedBackup(label) => format!("backup {label}, found DAMAGED"),
        What::LastCommit(xid) => format!("last commit on timeline {timeline}, transaction {xid}"),
        What::Hole(hole) => format!("HOLE: missing is {hole}"),
        What::End => format!("end of the archived WAL of timeline {timeline}"),
    }
}

/// What can be reached on one path.
fn path(text: &mut String, branch: &Branch, show: Show<'_>) {
    let newest = if branch.is_newest { ", the newest" } else { "" };
    match &branch.parent {
        Some(fork) => {
            _ = writeln!(
                text,
                "Timeline {}: left timeline {} at {} ({fork}){newest}",
                branch.timeline, fork.timeline, fork.lsn
            );
            let path: Vec<String> = branch.path.iter().map(|leg| leg.timeline.to_string()).collect();
            _ = writeln!(text, "  path        {}", path.join(" → "));
        }
        None => _ = writeln!(text, "Timeline {}{newest}", branch.timeline),
    }
    if branch.windows.is_empty() {
        let sound = if branch.doubted.is_empty() { "" } else { " that is not damaged" };
        _ = writeln!(text, "  no backup{sound} leads here: no moment on it can be reached");
    }
    for window in &branch.windows {
        one(text, window, show);
    }
    if let Some(unreached) = &branch.unreached {
        _ = writeln!(text, "  not reached: {unreached}");
    }
    if let Some(left_out) = &branch.left_out {
        _ = writeln!(
            text,
            "  beside the newest timeline from {} on: commits up to {} are left out by --latest",
            left_out.from,
            show(left_out.last_commit.time)
        );
    }
    for broken in &branch.broken {
        _ = writeln!(text, "  unusable: {}", broken.reason);
    }
    for doubted in &branch.doubted {
        lost(text, doubted, show);
    }
}

/// What goes with a backup that was found damaged.
fn lost(text: &mut String, doubted: &Doubted, show: Show<'_>) {
    let Doubted { backup, reason, lost } = doubted;
    _ = writeln!(text, "  DAMAGED: backup {backup}, {reason}");
    let Some(lost) = lost else {
        text.push_str("              no moment depends on it: a backup before it leads to the same\n");
        return;
    };
    let from = format!("{}  {}", show(lost.from_time), lost.from);
    let until = format!("{}  {}", show(lost.until_time), lost.until);
    match &lost.then {
        Some(then) => {
            _ = writeln!(
                text,
                "              the window would begin at {from}, and begins at {until} with backup {then} instead"
            );
        }
        None => {
            _ = writeln!(
                text,
                "              no backup that is not damaged leads to the moments from {from} to {until}"
            );
        }
    }
}

fn one(text: &mut String, window: &Window, show: Show<'_>) {
    _ = writeln!(text, "  from        {}  {}", show(window.from_time), window.from);
    let last = match &window.last_commit {
        Some(commit) => format!("{}  {}", show(commit.time), commit.lsn),
        None => "none since the backup".to_owned(),
    };
    _ = writeln!(text, "  last commit {last}");
    _ = writeln!(
        text,
        "  until       {}  {} (end of the archived WAL)",
        show(window.until_time),
        window.until
    );
    _ = writeln!(text, "  backups     {}", window.backups.join(", "));
    let Some(hole) = &window.hole_after else { return };
    _ = writeln!(text, "  then a hole: missing is {hole}");
    let Some(cut_off) = &window.cut_off else { return };
    match (cut_off.until, cut_off.until_time) {
        (Some(until), Some(time)) => {
            _ = writeln!(text, "  cut off     every moment from {} to {until}, {}", window.until, show(time))
        }
        _ => _ = writeln!(text, "  cut off     every moment from {} on", window.until),
    }
    if !cut_off.backups.is_empty() {
        _ = writeln!(text, "              and it makes unusable: {}", cut_off.backups.join(", "));
    }
}
