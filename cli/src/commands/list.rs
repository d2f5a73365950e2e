//! `highwater list`: the backups, and what each takes.

use highwater_catalog::{Backup, DamagedBackup, ExpiredBackup, Inventory, Unfinished};
use highwater_wal::SegmentName;
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Align, Table};

#[derive(Serialize)]
struct Listing<'a> {
    cluster: &'a str,
    system_id: String,
    backups: Vec<Listed<'a>>,
    expired: &'a [ExpiredBackup],
    unfinished: &'a [Unfinished],
    damaged: &'a [DamagedBackup],
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    backup: &'a Backup,
    first_segment: SegmentName,
    last_segment: SegmentName,
}

pub async fn run(context: &Context) -> Result<(), Error> {
    let catalog = context.catalog().await?;
    let inventory = catalog.inventory();
    if context.common.json {
        return output::json(&listing(inventory));
    }
    output::print(&text(inventory))
}

fn listing(inventory: &Inventory) -> Listing<'_> {
    let backups = inventory.backups.iter().map(|backup| {
        let (first_segment, last_segment) = needed(inventory, backup);
        Listed { backup, first_segment, last_segment }
    });
    Listing {
        cluster: &inventory.cluster,
        system_id: inventory.system_id.to_string(),
        backups: backups.collect(),
        expired: &inventory.expired,
        unfinished: &inventory.unfinished,
        damaged: &inventory.damaged_backups,
        notes: inventory.notes(),
    }
}

/// The segments that a backup cannot do without.
fn needed(inventory: &Inventory, backup: &Backup) -> (SegmentName, SegmentName) {
    let size = inventory.segment_size;
    let first = SegmentName::containing(backup.timeline, backup.start, size);
    (first, SegmentName::ending_at(backup.timeline, backup.stop, size))
}

fn text(inventory: &Inventory) -> String {
    let mut table = Table::new(&[
        ("BACKUP", Align::Left),
        ("ENDED", Align::Left),
        ("TLI", Align::Right),
        ("SIZE", Align::Right),
        ("STORED", Align::Right),
        ("UNCHANGED FROM", Align::Left),
        ("NEEDS WAL FROM", Align::Left),
        ("TO", Align::Left),
    ]);
    for backup in &inventory.backups {
        let (first, last) = needed(inventory, backup);
        table.row([
            backup.label.clone(),
            output::local(backup.stop_time),
            backup.timeline.to_string(),
            output::bytes(backup.size_bytes),
            output::bytes(backup.stored_bytes),
            backup.parent.clone().unwrap_or_else(|| "-".to_owned()),
            first.to_string(),
            last.to_string(),
        ]);
    }
    let mut text = match inventory.backups.is_empty() {
        true => format!("No complete backup of {}. Take one with `highwater backup`.\n", inventory.cluster),
        false => table.to_string(),
    };
    for expired in &inventory.expired {
        let marked = output::local(expired.marked_at);
        text.push_str(&format!("Expired: {}, marked {marked}, to be removed\n", expired.backup.label));
    }
    for unfinished in &inventory.unfinished {
        let started = output::local(unfinished.started);
        text.push_str(&format!("Unfinished: {}, begun {started} on {}\n", unfinished.label, unfinished.host));
    }
    for damaged in &inventory.damaged_backups {
        text.push_str(&format!("DAMAGED: {}, {}\n", damaged.label, damaged.reason));
    }
    for remark in inventory.remarks() {
        text.push_str(&format!("Note: {remark}\n"));
    }
    text
}
