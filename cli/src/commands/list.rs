//! `highwater list`: the backups, and what each takes.

use std::collections::BTreeMap;

use highwater_catalog::{Backup, Catalog, DamagedBackup, ExpiredBackup, Inventory, Unfinished};
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
    /// What a verification has found damaged of it, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    found_damaged: Option<&'a str>,
}

/// What verifications have found.
struct Found {
    /// Of backups, in words, by label.
    backups: BTreeMap<String, String>,
    /// What else to say. Sentences.
    notes: Vec<String>,
}

impl Found {
    async fn ask(catalog: &mut Catalog) -> Found {
        let backups = catalog.found_damaged().await.clone();
        let segments = catalog.found_damaged_segments().await;
        let mut notes = catalog.verification_notes().to_vec();
        if segments > 0 {
            notes.push(format!(
                "the last verification found {} of WAL damaged: `highwater window` reads what is there now and tells what that cuts off",
                output::count(segments, "segment")
            ));
        }
        Found { backups, notes }
    }
}

pub async fn run(context: &Context) -> Result<(), Error> {
    let mut catalog = context.catalog().await?;
    let found = Found::ask(&mut catalog).await;
    let inventory = catalog.inventory();
    if context.common.json {
        return output::json(&listing(inventory, &found));
    }
    output::print(&text(inventory, &found))
}

fn listing<'a>(inventory: &'a Inventory, found: &'a Found) -> Listing<'a> {
    let backups = inventory.backups.iter().map(|backup| {
        let (first_segment, last_segment) = needed(inventory, backup);
        let found_damaged = found.backups.get(&backup.label).map(String::as_str);
        Listed { backup, first_segment, last_segment, found_damaged }
    });
    let mut notes = inventory.notes();
    notes.extend(found.notes.iter().cloned());
    Listing {
        cluster: &inventory.cluster,
        system_id: inventory.system_id.to_string(),
        backups: backups.collect(),
        expired: &inventory.expired,
        unfinished: &inventory.unfinished,
        damaged: &inventory.damaged_backups,
        notes,
    }
}

/// The segments that a backup cannot do without.
fn needed(inventory: &Inventory, backup: &Backup) -> (SegmentName, SegmentName) {
    let size = inventory.segment_size;
    let first = SegmentName::containing(backup.timeline, backup.start, size);
    (first, SegmentName::ending_at(backup.timeline, backup.stop, size))
}

fn text(inventory: &Inventory, found: &Found) -> String {
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
    for (label, damage) in &found.backups {
        text.push_str(&format!("DAMAGED: {label}, {damage}\n"));
    }
    for remark in inventory.remarks().iter().chain(&found.notes) {
        text.push_str(&format!("Note: {remark}\n"));
    }
    text
}
