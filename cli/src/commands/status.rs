//! `highwater status`: one screen.

use highwater_basebackup::advice::{Archiver, ServerSettings};
use highwater_catalog::{Branch, Inventory, Window};
use highwater_replication::Mode;
use highwater_wal::Timestamp;
use serde::Serialize;
use time::OffsetDateTime;

use crate::context::Context;
use crate::error::Error;
use crate::output;

/// A backup older than this is worth a word.
const OLD_BACKUP: time::Duration = time::Duration::days(8);

#[derive(Serialize)]
struct Status<'a> {
    cluster: &'a str,
    system_id: String,
    repository: String,
    /// The window that reaches the latest moment on the newest timeline.
    window: Option<&'a Window>,
    last_backup: Option<&'a str>,
    unfinished: Vec<&'a str>,
    archiver: Option<&'a Archiver>,
    alarms: Vec<String>,
}

pub async fn run(context: &Context) -> Result<(), Error> {
    let mut catalog = context.catalog().await?;
    let branches = catalog.windows().await?;
    let server = ask(context).await;
    let now = Timestamp::from_datetime(OffsetDateTime::now_utc());
    let inventory = catalog.inventory();
    let window = newest_window(&branches);
    let status = Status {
        cluster: &inventory.cluster,
        system_id: inventory.system_id.to_string(),
        repository: catalog.cluster().repository().url(),
        window,
        last_backup: inventory.backups.last().map(|backup| backup.label.as_str()),
        unfinished: inventory.unfinished.iter().map(|backup| backup.label.as_str()).collect(),
        archiver: server.as_ref().and_then(|server| server.as_ref().ok()).map(|server| &server.archiver),
        alarms: alarms(inventory, &branches, server.as_ref(), now),
    };
    if context.common.json { output::json(&status) } else { output::print(&text(&status, inventory, now)) }
}

/// What the server says, where one is configured.
async fn ask(context: &Context) -> Option<Result<ServerSettings, Error>> {
    let is_configured = context.cluster_config().is_ok_and(|cluster| cluster.connection.is_some());
    if !is_configured {
        return None;
    }
    let asked = async {
        let mut client = context.connect(Mode::Sql).await?;
        let settings = ServerSettings::ask(&mut client).await?;
        client.close().await;
        Ok(settings)
    };
    Some(asked.await)
}

fn newest_window(branches: &[Branch]) -> Option<&Window> {
    branches.last().and_then(|branch| branch.windows.last())
}

/// Everything that somebody should look at.
fn alarms(
    inventory: &Inventory,
    branches: &[Branch],
    server: Option<&Result<ServerSettings, Error>>,
    now: Timestamp,
) -> Vec<String> {
    let mut alarms = Vec::new();
    match inventory.backups.last() {
        None => alarms
            .push("there is no complete backup: nothing can be restored; run highwater backup".to_owned()),
        Some(backup) if older(backup.stop_time, now, OLD_BACKUP) => {
            alarms
                .push(format!("the last backup is {} old; run highwater backup", age(backup.stop_time, now)));
        }
        Some(_) => {}
    }
    for branch in branches {
        for hole in branch.windows.iter().filter_map(|window| window.hole_after.as_ref()) {
            alarms.push(format!("WAL is missing on timeline {}: {hole}", branch.timeline));
        }
        alarms.extend(branch.broken.iter().map(|broken| broken.reason.clone()));
    }
    match server {
        None => {}
        Some(Err(error)) => alarms.push(format!("the server does not answer: {error}")),
        Some(Ok(server)) => {
            if server.system_id != inventory.system_id {
                alarms.push(format!(
                    "the server has system identifier {}, not {}: run highwater init for it",
                    server.system_id, inventory.system_id
                ));
            }
            if server.archiver.is_failing {
                alarms.push(format!("ARCHIVING FAILS and the server's disk fills up: {}", server.archiver));
            }
        }
    }
    alarms
}

fn older(time: Timestamp, now: Timestamp, limit: time::Duration) -> bool {
    i128::from(now.0) - i128::from(time.0) > limit.whole_microseconds()
}

fn age(time: Timestamp, now: Timestamp) -> String {
    let micros = u64::try_from(now.0.saturating_sub(time.0)).unwrap_or(0);
    output::duration(std::time::Duration::from_micros(micros))
}

fn text(status: &Status<'_>, inventory: &Inventory, now: Timestamp) -> String {
    let mut lines = vec![
        ("Cluster", format!("{} (system identifier {})", status.cluster, status.system_id)),
        ("Repository", status.repository.clone()),
    ];
    match status.window {
        Some(window) => {
            lines.push(("Reachable from", output::local(window.from_time)));
            let until = format!("{} ({} ago)", output::local(window.until_time), age(window.until_time, now));
            lines.push(("Reachable until", until));
            let last = window.last_commit.map(|commit| output::local(commit.time));
            lines.push(("Last commit", last.unwrap_or_else(|| "none since the backup".to_owned())));
        }
        None => lines.push(("Reachable", "nothing".to_owned())),
    }
    if let Some(backup) = inventory.backups.last() {
        lines.push(("Last backup", format!("{} ({} ago)", backup.label, age(backup.stop_time, now))));
    }
    for label in &status.unfinished {
        lines.push(("Unfinished", (*label).to_owned()));
    }
    if let Some(archiver) = status.archiver {
        lines.push(("Archiver", archiver.to_string()));
    }
    for alarm in &status.alarms {
        lines.push(("ALARM", alarm.clone()));
    }
    lines.iter().map(|(name, value)| format!("{name:<16} {value}\n")).collect()
}
