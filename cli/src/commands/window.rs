//! `highwater window`: which moments can be reached.

use std::fmt::Write;

use highwater_catalog::{Branch, Catalog, Window};

use crate::context::Context;
use crate::error::Error;
use crate::output;

pub async fn run(context: &Context) -> Result<(), Error> {
    let mut catalog = context.catalog().await?;
    let branches = catalog.windows().await?;
    let notes = notes(&catalog);
    if context.common.json {
        output::notes(&notes);
        return output::json(&branches);
    }
    let mut text = text(&branches);
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
    notes.extend(catalog.inventory().notes());
    notes
}

fn text(branches: &[Branch]) -> String {
    if branches.is_empty() {
        return "Nothing is archived and there is no backup: no moment can be reached.\n".to_owned();
    }
    let mut text = String::new();
    for branch in branches {
        match &branch.parent {
            Some(fork) => {
                _ = writeln!(
                    text,
                    "Timeline {}: left timeline {} at {} ({})",
                    branch.timeline, fork.timeline, fork.lsn, fork.reason
                )
            }
            None => _ = writeln!(text, "Timeline {}", branch.timeline),
        }
        if branch.windows.is_empty() {
            text.push_str("  no backup leads here: no moment on it can be reached\n");
        }
        for window in &branch.windows {
            one(&mut text, window);
        }
        if let Some(unreached) = &branch.unreached {
            _ = writeln!(text, "  not reached: {unreached}");
        }
        if let Some(left_out) = &branch.left_out {
            _ = writeln!(
                text,
                "  beside the newest timeline from {} on: commits up to {} are left out by --latest",
                left_out.from,
                output::local(left_out.last_commit.time)
            );
        }
        for broken in &branch.broken {
            _ = writeln!(text, "  unusable: {}", broken.reason);
        }
    }
    text
}

fn one(text: &mut String, window: &Window) {
    _ = writeln!(text, "  from        {}  {}", output::local(window.from_time), window.from);
    let last = match &window.last_commit {
        Some(commit) => format!("{}  {}", output::local(commit.time), commit.lsn),
        None => "none since the backup".to_owned(),
    };
    _ = writeln!(text, "  last commit {last}");
    _ = writeln!(
        text,
        "  until       {}  {} (end of the archived WAL)",
        output::local(window.until_time),
        window.until
    );
    _ = writeln!(text, "  backups     {}", window.backups.join(", "));
    if let Some(hole) = &window.hole_after {
        _ = writeln!(text, "  then a hole: missing is {hole}");
    }
}
