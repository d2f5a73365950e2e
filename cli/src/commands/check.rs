//! `highwater check`: one real round trip, and every setting that would hurt later.

use std::time::{Duration, Instant};

use highwater_basebackup::advice::{self, Advice, ServerSettings, Severity};
use highwater_replication::{Client, Mode};
use highwater_repository::{ClusterRepository, Repository};
use highwater_wal::{Check, Lsn, SegmentKind, SegmentName, TimelineId, WalFile, check_segment};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output;

/// How often the repository is asked whether the segment is there.
const POLL: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Checked {
    repositories: Vec<String>,
    advice: Vec<Advice>,
    round_trip: Option<RoundTrip>,
}

/// A segment that was switched, archived and read back.
#[derive(Serialize)]
struct RoundTrip {
    segment: SegmentName,
    seconds: f64,
}

pub async fn run(context: &Context, args: &CheckArgs) -> Result<(), Error> {
    let mut checked = Checked { repositories: Vec::new(), advice: Vec::new(), round_trip: None };
    let repositories = open_all(context, &mut checked).await?;
    let mut client = context.connect(Mode::Sql).await?;
    let server = ServerSettings::ask(&mut client).await?;
    let timeline = replication_works(context, &mut checked).await;
    checked.advice.extend(advice::advise(&server));
    let clusters = clusters_of(context, &repositories, &server).await?;
    let broken = checked.advice.iter().any(|advice| advice.severity == Severity::Wrong);
    match timeline {
        Some(timeline) if !args.settings_only && !broken && !server.is_standby => {
            match round_trip(&mut client, &server, timeline, &clusters, args.timeout).await {
                Ok(trip) => checked.round_trip = Some(trip),
                Err(advice) => checked.advice.push(advice),
            }
        }
        _ => {}
    }
    client.close().await;
    if context.common.json {
        output::json(&checked)?;
    } else {
        output::print(&text(&checked, args))?;
    }
    let wrong = checked.advice.iter().any(|advice| advice.severity == Severity::Wrong);
    if wrong { Err(Error::Told(Exit::Failed)) } else { Ok(()) }
}

/// Opens every repository and asks its store whether a conditional put holds (R2) and whether "not there" can be told (R6).
async fn open_all(context: &Context, checked: &mut Checked) -> Result<Vec<Repository>, Error> {
    let configs = match (&context.common.repository, &context.config) {
        (None, Some(config)) => config.repositories.clone(),
        _ => vec![context.repository_config()?],
    };
    let mut repositories = Vec::new();
    for config in configs {
        let repository = Repository::open(&config).await?;
        if let Some(reason) = repository.prove_store().await? {
            let mend = "use a store that honours If-None-Match";
            checked.advice.push(Advice::risk(format!("{}: {reason}", repository.url()), mend));
        }
        checked.repositories.push(repository.url());
        repositories.push(repository);
    }
    Ok(repositories)
}

async fn clusters_of(
    context: &Context,
    repositories: &[Repository],
    server: &ServerSettings,
) -> Result<Vec<ClusterRepository>, Error> {
    let name = context.cluster_name()?;
    let mut clusters = Vec::new();
    for repository in repositories {
        let cluster = repository.cluster(&name, server.system_id);
        // An answer of "unknown" means that nothing could be archived; its hint says what to do.
        cluster.facts().await?;
        let absent = WalFile::History(TimelineId::new(u32::MAX).unwrap_or(TimelineId::FIRST));
        match cluster.wal_head(absent).await {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        clusters.push(cluster);
    }
    Ok(clusters)
}

/// Opens a replication connection, as a backup will; gives the server's timeline.
async fn replication_works(context: &Context, checked: &mut Checked) -> Option<TimelineId> {
    let asked = async {
        let mut client = context.connect(Mode::Replication).await?;
        let identity = client.identify_system().await?;
        client.close().await;
        Ok::<_, Error>(identity.timeline)
    };
    match asked.await {
        Ok(timeline) => Some(timeline),
        Err(error) => {
            checked.advice.push(Advice::wrong(
                format!("no backup can be taken: a replication connection fails: {error}"),
                "a line in pg_hba.conf for database replication, and ALTER ROLE … REPLICATION",
            ));
            None
        }
    }
}

/// Switches a segment, waits until it is in every repository, and reads it back.
async fn round_trip(
    client: &mut Client,
    server: &ServerSettings,
    timeline: TimelineId,
    clusters: &[ClusterRepository],
    timeout: Duration,
) -> Result<RoundTrip, Advice> {
    let begun = Instant::now();
    let switched = switch(client).await.map_err(|error| {
        Advice::risk(
            format!("no segment could be switched, so that archiving was not tried: {error}"),
            format!("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {};", server.role),
        )
    })?;
    let segment = SegmentName::ending_at(timeline, switched, server.segment_size);
    for cluster in clusters {
        arrives(cluster, segment, server, timeout.saturating_sub(begun.elapsed())).await?;
    }
    Ok(RoundTrip { segment, seconds: begun.elapsed().as_secs_f64() })
}

/// Writes something, since a segment in which nothing happened is not switched, and switches.
async fn switch(client: &mut Client) -> Result<Lsn, highwater_replication::Error> {
    client.query("SELECT pg_catalog.pg_logical_emit_message(true, 'highwater', 'check')").await?;
    client.query("SELECT pg_catalog.pg_switch_wal()").await?.single()?.parse(0)
}

async fn arrives(
    cluster: &ClusterRepository,
    segment: SegmentName,
    server: &ServerSettings,
    timeout: Duration,
) -> Result<(), Advice> {
    let deadline = Instant::now() + timeout;
    let url = cluster.repository().url();
    loop {
        match cluster.wal_head(WalFile::Segment(segment)).await {
            Ok(_) => break,
            Err(error) if error.is_not_found() && Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(error) if error.is_not_found() => {
                return Err(Advice::wrong(
                    format!("{segment} did not arrive in {url} within {}", output::duration(timeout)),
                    "the server's log has the messages of archive_command; `highwater status` shows what the archiver last did",
                ));
            }
            Err(error) => return Err(unreadable(segment, &url, &error.to_string())),
        }
    }
    match cluster.get_wal(WalFile::Segment(segment)).await {
        Ok(object) => check_segment(
            segment,
            server.segment_size,
            Some(server.system_id),
            &object.bytes,
            Check::Header,
            SegmentKind::Complete,
        )
        .map(drop)
        .map_err(|refusal| unreadable(segment, &url, &refusal.to_string())),
        // A host that only archives holds the public key alone; what it cannot read is read where the restore will be.
        Err(highwater_repository::Error::Locked { .. }) => Ok(()),
        Err(error) => Err(unreadable(segment, &url, &error.to_string())),
    }
}

fn unreadable(segment: SegmentName, url: &str, reason: &str) -> Advice {
    Advice::wrong(
        format!("{segment} arrived in {url} and cannot be read back: {reason}"),
        "do not rely on this repository until that is understood",
    )
}

fn text(checked: &Checked, args: &CheckArgs) -> String {
    let mut text = String::new();
    for url in &checked.repositories {
        text += &format!("ok     {url} answers, and never replaces an object\n");
    }
    match &checked.round_trip {
        Some(trip) => {
            let time = output::duration(Duration::from_secs_f64(trip.seconds));
            text += &format!("ok     {} was archived and read back, {time} after the switch\n", trip.segment);
        }
        None if args.settings_only => {}
        None => text += "--     no segment went to the repository and back\n",
    }
    for advice in &checked.advice {
        let word = match advice.severity {
            Severity::Wrong => "WRONG ",
            Severity::Risk => "risk  ",
        };
        text += &format!("{word} {}\n       mend it: {}\n", advice.what, advice.mend);
    }
    text
}
