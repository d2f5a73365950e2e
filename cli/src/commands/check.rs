//! `highwater check`: one real round trip, and every setting that would hurt later.

use std::path::Path;
use std::time::{Duration, Instant};

use highwater_basebackup::advice::{self, Advice, ServerSettings, Severity};
use highwater_replication::{Client, Mode};
use highwater_repository::{ClusterRepository, Config, Plain, Repository};
use highwater_wal::{Check, Lsn, SegmentKind, SegmentName, TimelineId, WalFile, check_segment};
use serde::Serialize;

use crate::archive_command;
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
    /// The least that was proven of it in any of the repositories.
    proof: Proof,
}

/// What is known of a segment in a repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Proof {
    /// It is there.
    There,
    /// It is there, and by its header has the digest of the server's own segment.
    Digest,
    /// It was read back.
    Read,
}

pub async fn run(context: &Context, args: &CheckArgs) -> Result<(), Error> {
    let mut checked = Checked { repositories: Vec::new(), advice: Vec::new(), round_trip: None };
    let repositories = open_all(context, &mut checked).await?;
    let mut client = context.connect(Mode::Sql).await?;
    let server = ServerSettings::ask(&mut client).await?;
    let replication = replication_works(context, &mut checked).await;
    let config = Config::path(context.common.config.as_deref());
    let line = archive_command::line(&config, &context.cluster_name()?);
    checked.advice.extend(advice::advise_with(&server, &line));
    let clusters = clusters_of(context, &repositories, &server).await?;
    let timeline = match replication {
        Some((timeline, client)) if !args.settings_only => {
            put_history(client, timeline, &clusters, &mut checked).await;
            Some(timeline)
        }
        _ => None,
    };
    let broken = checked.advice.iter().any(|advice| advice.severity == Severity::Wrong);
    match timeline {
        Some(timeline) if !broken && !server.is_standby => {
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

/// Sees that the history of the server's timeline is in every repository: an archive that was begun after a promotion would
/// lack it, since the server archives it but once.
async fn put_history(
    mut client: Client,
    timeline: TimelineId,
    clusters: &[ClusterRepository],
    checked: &mut Checked,
) {
    for cluster in clusters {
        if let Err(error) = highwater_basebackup::put_history(&mut client, timeline, cluster).await {
            checked.advice.push(Advice::wrong(
                format!(
                    "the history of timeline {timeline} is not in {}: {error}",
                    cluster.repository().url()
                ),
                "without it no restore can follow this timeline: mend that, and run this again",
            ));
        }
    }
    client.close().await;
}

/// Opens a replication connection, as a backup will; gives the server's timeline, and the connection.
async fn replication_works(context: &Context, checked: &mut Checked) -> Option<(TimelineId, Client)> {
    let asked = async {
        let mut client = context.connect(Mode::Replication).await?;
        let identity = client.identify_system().await?;
        Ok::<_, Error>((identity.timeline, client))
    };
    match asked.await {
        Ok(works) => Some(works),
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
    let mut proof = Proof::Read;
    for cluster in clusters {
        let left = timeout.saturating_sub(begun.elapsed());
        proof = proof.min(arrives(cluster, segment, server, left).await?);
    }
    Ok(RoundTrip { segment, seconds: begun.elapsed().as_secs_f64(), proof })
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
) -> Result<Proof, Advice> {
    let deadline = Instant::now() + timeout;
    let url = cluster.repository().url();
    let there = loop {
        // Not its head: a host that only archives could not read that.
        match cluster.wal_plain(WalFile::Segment(segment)).await {
            Ok(plain) => break plain,
            Err(error) if error.is_not_found() && Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(error) if error.is_not_found() => {
                return Err(Advice::wrong(
                    format!("{segment} did not arrive in {url} within {}", output::duration(timeout)),
                    "the server's log has the messages of archive_command; `highwater status` shows what the archiver last did",
                ));
            }
            Err(error) => return Err(unreadable(segment, &url, &error.to_string())),
        }
    };
    match cluster.get_wal(WalFile::Segment(segment)).await {
        Ok(object) => check_segment(
            segment,
            server.segment_size,
            Some(server.system_id),
            &object.bytes,
            Check::Header,
            SegmentKind::Complete,
        )
        .map(|_| Proof::Read)
        .map_err(|refusal| unreadable(segment, &url, &refusal.to_string())),
        // A host that only archives holds the public key alone; what it cannot read is read where the restore will be.
        Err(highwater_repository::Error::Locked { .. }) => {
            let own = Path::new(&server.data_directory).join("pg_wal").join(segment.to_string());
            match std::fs::read(own).map(|bytes| Plain::of(&bytes)) {
                Ok(here) if here == there => Ok(Proof::Digest),
                Ok(here) => Err(unreadable(
                    segment,
                    &url,
                    &format!("by its header it has {there}, and the server's own segment has {here}"),
                )),
                // Another host, another user, or the server has reused the file.
                Err(_) => Ok(Proof::There),
            }
        }
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
            let what = match trip.proof {
                Proof::Read => "and read back",
                Proof::Digest => {
                    "with the server's digest; this host has no key to read it back, as is meant"
                }
                Proof::There => "and is there; this host has no key to read it back, as is meant",
            };
            text += &format!("ok     {} was archived {what}, {time} after the switch\n", trip.segment);
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
