//! `highwater status`: one screen.

use highwater_basebackup::advice::{self, Archiver, ServerSettings, Severity};
use highwater_catalog::{Branch, Catalog, Inventory, ToldHole, Window, told_holes};
use highwater_replication::{Client, Mode};
use highwater_repository::Event;
use highwater_verify::Record;
use highwater_wal::{Lsn, SegmentName, TimelineId, Timestamp, WalFile};
use serde::Serialize;
use time::OffsetDateTime;

use crate::context::Context;
use crate::error::Error;
use crate::output;

/// A backup older than this is worth a word.
const OLD_BACKUP: time::Duration = time::Duration::days(8);

/// A cluster whose last verification is longer ago is worth an alarm: what is kept is read by nobody else until it is needed.
const OLD_VERIFICATION: time::Duration = time::Duration::days(35);

#[derive(Serialize)]
struct Status<'a> {
    cluster: &'a str,
    system_id: String,
    repository: String,
    /// Whether what the repository holds can be read here: not without the identity, where it is encrypted.
    is_readable: bool,
    /// The window that reaches the latest moment on the newest timeline.
    window: Option<&'a Window>,
    last_backup: Option<&'a str>,
    unfinished: Vec<&'a str>,
    verified: Option<Verified>,
    archiver: Option<&'a Archiver>,
    /// WAL of the server that is not in the repository, in bytes.
    lag_bytes: Option<u64>,
    /// How long ago the latest moment is that can be reached, where there is such WAL, in seconds.
    lag_seconds: Option<f64>,
    alarms: Vec<String>,
    /// What is worth knowing and no reason to act.
    notes: Vec<String>,
}

/// What the last verification has done.
#[derive(Serialize)]
struct Verified {
    time: Timestamp,
    deep: bool,
    /// What was looked at: `everything`, `new`, `sample`, `part`.
    scope: String,
    /// How much of packs and segments was read, in percent, where it was a sample.
    sample: Option<f64>,
    damage: u64,
    damaged: Vec<String>,
    /// When it was cut short; it may still run.
    is_unfinished: bool,
    /// When all that is kept was last read; what is newer was read since.
    all_read: Option<Timestamp>,
}

impl Verified {
    fn of((event, record): (Event, Record)) -> Verified {
        Verified {
            time: event.time,
            deep: record.deep,
            scope: record.scope,
            sample: record.sample,
            damage: record.damage,
            damaged: record.damaged,
            is_unfinished: event.outcome == highwater_repository::Outcome::Begun,
            all_read: record
                .read
                .filter(|_| event.outcome != highwater_repository::Outcome::Begun)
                .and_then(|read| read.since),
        }
    }

    fn text(&self, now: Timestamp) -> String {
        let how = if self.deep { "read whole" } else { "looked for, not read" };
        let what = match (self.scope.as_str(), self.sample) {
            (_, Some(percent)) => format!("a sample of {percent} %"),
            ("new", _) => "what was new".to_owned(),
            ("part", _) => "a part".to_owned(),
            _ => "everything".to_owned(),
        };
        let found = match (self.is_unfinished, self.damage) {
            (true, _) => "not at its end".to_owned(),
            (_, 0) => "nothing damaged".to_owned(),
            (_, damage) => format!("{} FOUND", output::count(damage, "DAMAGE")),
        };
        let all = match self.all_read {
            Some(time) => format!("; all was last read {} ago", age(time, now)),
            None => "; not all was ever read (highwater verify --deep)".to_owned(),
        };
        format!("{} ({} ago): {what}, {how}, {found}{all}", output::local(self.time), age(self.time, now))
    }
}

/// What there is to say of verifications that somebody should look at.
fn alarm_of_verification(
    verified: Option<&Verified>,
    inventory: &Inventory,
    now: Timestamp,
) -> Option<String> {
    match verified {
        Some(verified) if verified.damage > 0 => Some(format!(
            "the last verification found {}: {}; run highwater verify",
            output::count(verified.damage, "damage"),
            verified.damaged.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
        )),
        Some(verified) if older(verified.time, now, OLD_VERIFICATION) => Some(format!(
            "the last verification was {} ago; run highwater verify --deep",
            age(verified.time, now)
        )),
        None if inventory
            .backups
            .first()
            .is_some_and(|backup| older(backup.stop_time, now, OLD_VERIFICATION)) =>
        {
            Some("nothing was ever verified; run highwater verify --deep".to_owned())
        }
        _ => None,
    }
}

/// What a server says of itself.
struct Server {
    settings: ServerSettings,
    /// The timeline that it writes; `None` for a standby.
    timeline: Option<TimelineId>,
    /// Up to where its WAL is safe on its own disk.
    flushed: Option<Lsn>,
}

pub async fn run(context: &Context) -> Result<(), Error> {
    // Before the repository is listed: what the server says it has archived by now has to be there then.
    let server = ask(context).await;
    let looked = async {
        let mut catalog = context.catalog().await?;
        let branches = catalog.windows().await?.branches;
        Ok::<_, Error>((catalog, branches))
    };
    let (catalog, branches) = match looked.await {
        Err(Error::Repository(error @ highwater_repository::Error::Locked { .. })) => {
            return locked(context, server.as_ref(), &error).await;
        }
        looked => looked?,
    };
    let end = catalog.newest_end();
    let now = Timestamp::from_datetime(OffsetDateTime::now_utc());
    let inventory = catalog.inventory();
    let cluster = catalog.cluster();
    let verified =
        highwater_verify::last_record(cluster.repository(), cluster.system_id()).await?.map(Verified::of);
    let window = newest_window(&branches);
    let mut alarms = alarms(&catalog, &branches, server.as_ref(), now);
    alarms.extend(alarm_of_verification(verified.as_ref(), inventory, now));
    let lag_bytes = lag(server.as_ref(), end);
    let lag_seconds = lag_bytes.zip(window).map(|(bytes, window)| match bytes {
        0 => 0.0,
        _ => now.0.saturating_sub(window.until_time.0).max(0) as f64 / 1e6,
    });
    let status = Status {
        cluster: &inventory.cluster,
        system_id: inventory.system_id.to_string(),
        repository: catalog.cluster().repository().url(),
        is_readable: true,
        window,
        last_backup: inventory.backups.last().map(|backup| backup.label.as_str()),
        unfinished: inventory.unfinished.iter().map(|backup| backup.label.as_str()).collect(),
        archiver: server
            .as_ref()
            .and_then(|server| server.as_ref().ok())
            .map(|server| &server.settings.archiver),
        verified,
        lag_bytes,
        lag_seconds,
        alarms,
        notes: notes(&catalog, &branches),
    };
    if context.common.json { output::json(&status) } else { output::print(&text(&status, inventory, now)) }
}

/// What is known where only the public key is at hand: what the server says.
async fn locked(
    context: &Context,
    server: Option<&Result<Server, Error>>,
    error: &highwater_repository::Error,
) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let size = cluster.facts().await?.segment_size;
    let mut inventory = Inventory::empty(cluster.name().as_str(), cluster.system_id(), size);
    if let Some(segment) = server.and_then(|server| server.as_ref().ok()).and_then(last_archived)
        && cluster.has_wal(WalFile::Segment(segment)).await?
    {
        inventory.add_segment(segment);
    }
    let status = Status {
        cluster: &inventory.cluster,
        system_id: inventory.system_id.to_string(),
        repository: cluster.repository().url(),
        is_readable: false,
        window: None,
        last_backup: None,
        unfinished: Vec::new(),
        verified: None,
        archiver: server.and_then(|server| server.as_ref().ok()).map(|server| &server.settings.archiver),
        lag_bytes: None,
        lag_seconds: None,
        alarms: alarms_of_server(server, &inventory),
        notes: vec![format!("what can be restored is not told here: {error}")],
    };
    let now = Timestamp::from_datetime(OffsetDateTime::now_utc());
    if context.common.json { output::json(&status) } else { output::print(&text(&status, &inventory, now)) }
}

/// What the server says, where one is configured.
async fn ask(context: &Context) -> Option<Result<Server, Error>> {
    let is_configured = context.cluster_config().is_ok_and(|cluster| cluster.connection.is_some());
    if !is_configured {
        return None;
    }
    let asked = async {
        let mut client = context.connect(Mode::Sql).await?;
        let settings = ServerSettings::ask(&mut client).await?;
        let timeline = timeline(&mut client, &settings).await?;
        let flushed = match timeline {
            Some(_) => Some(client.query(FLUSHED).await?.single()?.parse(0)?),
            None => None,
        };
        client.close().await;
        Ok(Server { settings, timeline, flushed })
    };
    Some(asked.await)
}

/// How much of the server's WAL is not in the repository; `None` where that cannot be told.
fn lag(server: Option<&Result<Server, Error>>, end: Option<(TimelineId, Lsn)>) -> Option<u64> {
    let (server, (timeline, end)) = (server?.as_ref().ok()?, end?);
    let flushed = server.flushed.filter(|_| server.timeline == Some(timeline))?;
    Some(if flushed > end { flushed.bytes_since(end) } else { 0 })
}

const FLUSHED: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()";

/// The timeline of the segment that the server writes. `pg_control` tells it only from the next checkpoint on.
async fn timeline(client: &mut Client, settings: &ServerSettings) -> Result<Option<TimelineId>, Error> {
    if settings.is_standby {
        return Ok(None);
    }
    const QUERY: &str = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn())";
    let reply = client.query(QUERY).await?;
    let file = reply.single()?.text(0)?.and_then(|name| name.parse().ok());
    Ok(match file {
        Some(WalFile::Segment(segment)) => Some(segment.timeline),
        _ => None,
    })
}

fn newest_window(branches: &[Branch]) -> Option<&Window> {
    branches.last().and_then(|branch| branch.windows.last())
}

/// Everything that somebody should look at.
fn alarms(
    catalog: &Catalog,
    branches: &[Branch],
    server: Option<&Result<Server, Error>>,
    now: Timestamp,
) -> Vec<String> {
    let inventory = catalog.inventory();
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
    let damaged = catalog.damaged_segments().values();
    alarms.extend(damaged.map(|reason| format!("a segment is damaged and counts as missing: {reason}")));
    alarms.extend(inventory.troubles());
    let holes = told_holes(inventory, branches);
    alarms.extend(holes.iter().filter(|told| !told.is_answered).map(text_of_hole));
    for branch in branches {
        alarms.extend(branch.broken.iter().map(|broken| broken.reason.clone()));
    }
    // An older timeline that was never reached is given up; `highwater window` tells of it.
    alarms.extend(branches.last().and_then(|branch| branch.unreached.as_ref()).map(ToString::to_string));
    alarms.extend(alarms_of_server(server, inventory));
    alarms
}

fn alarms_of_server(server: Option<&Result<Server, Error>>, inventory: &Inventory) -> Vec<String> {
    match server {
        None => Vec::new(),
        Some(Err(error)) => vec![format!("the server does not answer: {error}")],
        Some(Ok(server)) => alarms_of(server, inventory),
    }
}

/// The last segment that the server has had archived.
fn last_archived(server: &Server) -> Option<SegmentName> {
    match server.settings.archiver.last_archived.as_ref()?.parse().ok()? {
        WalFile::Segment(segment) => Some(segment),
        _ => None,
    }
}

/// What is wrong with the server, and between it and the repository.
fn alarms_of(server: &Server, inventory: &Inventory) -> Vec<String> {
    let Server { settings, timeline, flushed: _ } = server;
    let advice = advice::advise(settings).into_iter().filter(|advice| advice.severity == Severity::Wrong);
    let mut alarms: Vec<String> =
        advice.map(|advice| format!("{}; mend it: {}", advice.what, advice.mend)).collect();
    let archiver = &settings.archiver;
    if archiver.is_failing {
        alarms.push(format!("ARCHIVING FAILS and the server's disk fills up: {archiver}"));
    }
    if settings.system_id != inventory.system_id {
        alarms.push(format!(
            "the server has system identifier {}, not {}: run highwater init for it",
            settings.system_id, inventory.system_id
        ));
        return alarms;
    }
    if let Some(segment) = last_archived(server)
        && !inventory.has(segment)
    {
        alarms.push(format!(
            "the server says that {segment} was archived, and it is not in the repository: something else archives, or it was \
             removed; run highwater check, then highwater backup"
        ));
    }
    if let (Some(timeline), Some(newest)) = (*timeline, inventory.newest_timeline())
        && timeline < newest
    {
        alarms.push(format!(
            "the server is on timeline {timeline}, and the archive has a newer one, {newest}, that --latest would follow: \
             restore with --timeline {timeline}, and find out who archives timeline {newest}"
        ));
    }
    alarms
}

fn text_of_hole(told: &ToldHole<'_>) -> String {
    format!("WAL is missing on timeline {}: {}", told.timeline, told.hole)
}

/// What is worth knowing and no reason to act.
fn notes(catalog: &Catalog, branches: &[Branch]) -> Vec<String> {
    let left_out = branches.iter().filter_map(|branch| Some((branch.timeline, branch.left_out.as_ref()?)));
    let mut notes: Vec<String> = left_out
        .map(|(timeline, left_out)| {
            let time = output::local(left_out.last_commit.time);
            format!(
                "--latest leaves out the commits of timeline {timeline} behind {}, up to {time}",
                left_out.from
            )
        })
        .collect();
    let holes = told_holes(catalog.inventory(), branches);
    notes.extend(holes.iter().filter(|told| told.is_answered).map(|told| {
        format!(
            "{}; a base backup lies behind it, and the moments between cannot be reached",
            text_of_hole(told)
        )
    }));
    notes.extend(catalog.index_notes().iter().cloned());
    notes.extend(catalog.inventory().remarks());
    notes
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
        None if !status.is_readable => lines.push(("Reachable", "not told without the identity".to_owned())),
        None => lines.push(("Reachable", "nothing".to_owned())),
    }
    if let Some(bytes) = status.lag_bytes {
        let lag = format!("{} of the server's WAL are not in the repository", output::bytes(bytes));
        lines.push(("Lag", if bytes == 0 { "none".to_owned() } else { lag }));
    }
    if let Some(backup) = inventory.backups.last() {
        lines.push(("Last backup", format!("{} ({} ago)", backup.label, age(backup.stop_time, now))));
    }
    if status.is_readable {
        let verified = status.verified.as_ref().map(|verified| verified.text(now));
        lines.push(("Last verified", verified.unwrap_or_else(|| "never (highwater verify)".to_owned())));
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
    for note in &status.notes {
        lines.push(("Note", note.clone()));
    }
    lines.iter().map(|(name, value)| format!("{name:<16} {value}\n")).collect()
}
