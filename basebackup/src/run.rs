//! A backup from its beginning to its end.

use std::future::{Future, pending};
use std::time::{Duration, Instant};

use highwater_replication::{BackupStart, BackupStop, BaseBackup, Client, Mode, connect};
use highwater_repository::manifest::{PostgresBackup, Tablespace, Totals};
use highwater_repository::{
    Backups, ClusterRepository, Event, Label, ManifestHead, NamesId, Outcome, Repository, Started,
};
use highwater_wal::{SystemId, TimelineId, Timestamp, WalFile};

use crate::archive;
use crate::backup_label::BackupLabel;
use crate::matching::match_files;
use crate::options::Options;
use crate::parent::{Choice, ParentIndex, choose};
use crate::pipeline::transfer;
use crate::preconditions;
use crate::progress::{Phase, Progress};
use crate::receive::Received;
use crate::relation_names::{NAMES_LIMIT, take_names};
use crate::report::Report;
use crate::server::ServerFacts;
use crate::server_manifest;
use crate::store::Stored;
use crate::wal_needed::NeededWal;
use crate::wal_proof::Expected;
use crate::{Error, Result};

/// For the note of how a backup ended, when it has failed: the store may be what failed.
const NOTE_LIMIT: Duration = Duration::from_secs(10);

/// So many seconds behind the server's time a label is looked for that nobody has.
const LABEL_TRIES: i64 = 10;
/// In a second.
const MICROSECONDS: i64 = 1_000_000;

/// Makes a base backup. It exists when this has answered with its report (R9).
///
/// Dropping the future gives it up; [`run_until`] notes that in the repository's events too.
///
/// # Errors
/// [`Error`]. The backup is not complete then, and is shown as unfinished if it had begun.
pub async fn run(options: &Options, repository: &Repository, progress: &dyn Progress) -> Result<Report> {
    run_until(options, repository, progress, pending()).await
}

/// The same until `stop` is ready: then the backup is given up.
///
/// # Errors
/// As [`run`], and [`Error::Interrupted`].
pub async fn run_until(
    options: &Options,
    repository: &Repository,
    progress: &dyn Progress,
    stop: impl Future<Output = ()>,
) -> Result<Report> {
    let mut stop = std::pin::pin!(stop);
    progress.phase(&Phase::Connecting);
    let session = tokio::select! {
        session = Session::begin(options, repository, progress) => session?,
        () = &mut stop => return Err(Error::Interrupted),
    };
    let label = session.started.label.clone();
    let outcome = tokio::select! {
        outcome = session.run() => outcome,
        () = &mut stop => Err(Error::Interrupted),
    };
    let event = match &outcome {
        Ok(report) => report.event(&options.cluster),
        Err(error) => Event::new(ACTION, Some(&options.cluster), Outcome::Failed)
            .with("label", label.as_str())
            .with("error", error.to_string()),
    };
    match tokio::time::timeout(NOTE_LIMIT, repository.note(&event)).await {
        Ok(Ok(())) => {}
        // The backup is what it is; that the audit trail has a gap must be known all the same.
        Ok(Err(error)) => progress.note(&format!("how the backup ended could not be noted: {error}")),
        Err(_) => progress.note("how the backup ended could not be noted: the store did not answer"),
    }
    outcome
}

/// What events of backups are called.
pub(crate) const ACTION: &str = "backup";

/// A backup that has its label.
struct Session<'a> {
    options: &'a Options,
    progress: &'a dyn Progress,
    client: Client,
    facts: ServerFacts,
    cluster: ClusterRepository,
    started: Started,
    begun: Instant,
}

/// What has been copied.
struct Copied {
    start: BackupStart,
    start_time: Timestamp,
    stop: BackupStop,
    stop_time: Timestamp,
    received: Received,
    stored: Stored,
    /// The connection, for what is to be asked afterwards.
    client: Client,
}

impl<'a> Session<'a> {
    /// Looks at the server and the repository, and claims the label.
    async fn begin(
        options: &'a Options,
        repository: &Repository,
        progress: &'a dyn Progress,
    ) -> Result<Session<'a>> {
        let begun = Instant::now();
        let mut client = connect(&options.connection, Mode::Replication).await?;
        client.warnings().iter().for_each(|warning| progress.note(warning));
        let identity = client.identify_system().await?;
        let facts = ServerFacts::ask(&options.connection, client.process_id()).await?;
        let cluster = repository.cluster(&options.cluster, identity.system_id);
        preconditions::check(identity.system_id, &facts, &cluster.facts().await?)?;
        for note in preconditions::notes(&facts, &cluster).await {
            progress.note(&note);
        }
        put_history(&mut client, identity.timeline, &cluster).await?;
        let started = start(&cluster.backups(), options, facts.time).await?;
        let label = started.label.as_str();
        let event = Event::new(ACTION, Some(&options.cluster), Outcome::Begun).with("label", label);
        repository.note(&event).await?;
        Ok(Session { options, progress, client, facts, cluster, started, begun })
    }

    async fn run(self) -> Result<Report> {
        let Session { options, progress, client, facts, cluster, started, begun } = self;
        let backups = cluster.backups();
        let parent = Parent::find(&backups, &started, options, progress).await?;
        let index = parent.as_ref().map(|parent| &parent.index);
        let mut copied = copy(options, progress, client, &facts, &backups, &started.label, index).await?;
        if copied.stop.timeline != copied.start.timeline {
            put_history(&mut copied.client, copied.stop.timeline, &cluster).await?;
        }
        let Copied { start, start_time, stop, stop_time, received, stored, client } = copied;
        client.close().await;
        let (names, unnamed) = names(options, &cluster, progress).await;

        progress.phase(&Phase::Matching);
        let backup_label = BackupLabel::parse(&received.backup_label)?;
        let summary = match_files(received).await?;
        compare(&start, stop, backup_label, &summary, facts.system_id)?;

        let needed = NeededWal::new(&summary.wal_ranges, facts.segment_size);
        let expected = Expected {
            system_id: facts.system_id,
            start: start.position,
            checkpoint: backup_label.checkpoint,
            stop: stop.position,
            from_standby: facts.is_standby,
        };
        let wal_was_read = archive::wait_for(&needed, expected, &cluster, options, progress).await?;

        progress.phase(&Phase::Finishing);
        let head = ManifestHead {
            version: ManifestHead::VERSION,
            label: started.label,
            host: started.host,
            program: started.program,
            begun_at: started.begun_at,
            finished_at: Timestamp::from_datetime(time::OffsetDateTime::now_utc()),
            parent: parent.map(|parent| parent.label),
            totals: Totals {
                stored_bytes: stored.packs.stored_bytes,
                packs: stored.packs.packs,
                ..Totals::default()
            },
            parts: Vec::new(),
            postgres: Some(PostgresBackup {
                system_id: facts.system_id,
                server_version: facts.version,
                segment_size: facts.segment_size,
                timeline: start.timeline,
                start_lsn: start.position,
                checkpoint_lsn: backup_label.checkpoint,
                start_time,
                stop_timeline: stop.timeline,
                stop_lsn: stop.position,
                stop_time,
                from_standby: facts.is_standby,
                tablespaces: tablespaces(&start)?,
            }),
        };
        // Retention gives a backup up that seems to be abandoned, and removes its packs some time later (R20).
        if backups.is_expired(&head.label).await? {
            return Err(Error::GivenUp { label: head.label });
        }
        let head = stored.manifest.finish(head).await?;
        Ok(Report {
            label: head.label,
            parent: head.parent,
            timeline: start.timeline,
            start_lsn: start.position,
            stop_lsn: stop.position,
            start_time,
            stop_time,
            files: head.totals.files,
            bytes: head.totals.bytes,
            stored_bytes: head.totals.stored_bytes,
            reused_bytes: stored.reused_bytes,
            zero_bytes: stored.zero_bytes,
            segments: needed.count(),
            wal_was_read,
            names,
            unnamed,
            duration: begun.elapsed(),
        })
    }
}

/// Takes the names of all relations. What fails there costs the backup nothing.
async fn names(
    options: &Options,
    cluster: &ClusterRepository,
    progress: &dyn Progress,
) -> (std::result::Result<NamesId, String>, Vec<(String, String)>) {
    progress.phase(&Phase::Names);
    match take_names(&options.connection, cluster, NAMES_LIMIT).await {
        Ok(report) => (Ok(report.id), report.unreadable),
        Err(error) => (Err(error.to_string()), Vec::new()),
    }
}

/// The backup whose extents are taken over.
struct Parent {
    label: Label,
    index: ParentIndex,
}

impl Parent {
    async fn find(
        backups: &Backups,
        started: &Started,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Option<Parent>> {
        let choice = if options.full { Choice::First } else { choose(backups).await? };
        let (label, manifest) = match choice {
            Choice::Parent(label, manifest) => (Some(label), Some(manifest)),
            Choice::First => (None, None),
            Choice::Unreadable(label, reason) => {
                progress.note(&format!(
                    "everything is stored anew, since the manifest of {label} cannot be read: {reason}"
                ));
                (None, None)
            }
        };
        progress.phase(&Phase::Begun { label: started.label.clone(), parent: label.clone() });
        let (Some(label), Some(manifest)) = (label, manifest) else { return Ok(None) };
        if !backups.build_on(&started.label, &label).await? {
            progress
                .note(&format!("everything is stored anew, since {label} was marked as expired just now"));
            return Ok(None);
        }
        match ParentIndex::build(backups, *manifest, &options.scratch).await {
            Ok((index, lacking)) => {
                lacking.note(&label).iter().for_each(|note| progress.note(note));
                Ok(Some(Parent { label, index }))
            }
            Err(Error::Repository(error)) if crate::parent::is_unreadable(&error) => {
                progress.note(&format!(
                    "everything is stored anew, since the manifest of {label} cannot be read: {error}"
                ));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Has the server send everything, and stores it.
async fn copy(
    options: &Options,
    progress: &dyn Progress,
    client: Client,
    facts: &ServerFacts,
    backups: &Backups,
    label: &Label,
    parent: Option<&ParentIndex>,
) -> Result<Copied> {
    progress.phase(&Phase::Checkpoint);
    // Right before, and again right after: every commit that is not in the backup has a later time (R10).
    let start_time = ServerFacts::ask(&options.connection, client.process_id()).await?.time;
    let command = BaseBackup {
        checkpoint: options.checkpoint,
        max_rate_kb: options.max_rate_kb,
        verify_checksums: options.verify_checksums && facts.has_checksums,
        ..BaseBackup::new(format!("highwater {label}"))
    };
    let mut stream = client.base_backup(&command).await?;
    let start = stream.start().clone();
    progress.phase(&Phase::Copying);
    let (received, stored) =
        transfer(options, progress, &mut stream, estimate(&start), backups, label, parent).await?;
    let (stop, client) = stream.finish()?;
    let stop_time = ServerFacts::ask_again(&options.connection, &client).await?.time;
    Ok(Copied { start, start_time, stop, stop_time, received, stored, client })
}

/// What the server expects to send.
fn estimate(start: &BackupStart) -> u64 {
    let tablespaces = start.tablespaces.iter().filter_map(|tablespace| tablespace.size_kb);
    let kilobytes = tablespaces.chain(start.base_size_kb).fold(0u64, u64::saturating_add);
    kilobytes.saturating_mul(1024)
}

/// Puts the history of a timeline, which may have been archived elsewhere before this repository was, or has not yet been,
/// or never will be, since archiving was off when the timeline began.
///
/// # Errors
/// Those of the server and of the repository: among them that the repository has another timeline of that number.
pub async fn put_history(
    client: &mut Client,
    timeline: TimelineId,
    cluster: &ClusterRepository,
) -> Result<()> {
    // The first timeline has none, and a server that is asked for it complains in its log.
    if timeline == TimelineId::FIRST {
        return Ok(());
    }
    if let Some(history) = client.timeline_history(timeline).await? {
        cluster.put_wal(WalFile::History(timeline), &history.content, None).await?;
    }
    Ok(())
}

/// Claims the label that was asked for; without one, that of the server's time or of one of the next seconds, should another
/// backup have begun in the same.
async fn start(backups: &Backups, options: &Options, time: Timestamp) -> Result<Started> {
    if let Some(label) = &options.label {
        return Ok(backups.start(label).await?);
    }
    let mut second = 0;
    loop {
        match backups.start(&label_for(Timestamp(time.0 + second * MICROSECONDS))?).await {
            Err(highwater_repository::Error::LabelTaken { .. }) if second < LABEL_TRIES => second += 1,
            started => return Ok(started?),
        }
    }
}

fn label_for(time: Timestamp) -> Result<Label> {
    let time = time.to_datetime(time::UtcOffset::UTC);
    let time =
        time.ok_or_else(|| Error::Contradiction { what: "that it is a year after 9999".to_owned() })?;
    Ok(Label::for_time(time))
}

fn tablespaces(start: &BackupStart) -> Result<Vec<Tablespace>> {
    let tablespace = |tablespace: &highwater_replication::Tablespace| {
        let location = tablespace.location.to_str().ok_or_else(|| Error::Unfit {
            reason: format!(
                "the folder of tablespace {} is not UTF-8: {}",
                tablespace.oid,
                tablespace.location.display()
            ),
            hint: "move the tablespace to a folder with another name",
        })?;
        Ok(Tablespace { oid: tablespace.oid, location: location.to_owned() })
    };
    start.tablespaces.iter().map(tablespace).collect()
}

/// Whether all that the server has said about where the backup starts and ends agrees.
fn compare(
    start: &BackupStart,
    stop: BackupStop,
    label: BackupLabel,
    manifest: &server_manifest::Summary,
    system_id: SystemId,
) -> Result<()> {
    let contradiction = |what| Err(Error::Contradiction { what });
    if let Some(other) = manifest.system_id.filter(|other| *other != system_id) {
        return contradiction(format!("in backup_manifest that the cluster is {other}, and is {system_id}"));
    }
    if label.start != start.position {
        return contradiction(format!(
            "in backup_label that it starts at {}, and began at {}",
            label.start, start.position
        ));
    }
    let (first, last) = match manifest.wal_ranges.as_slice() {
        [first, .., last] => (first, last),
        [only] => (only, only),
        [] => return contradiction("in backup_manifest that no WAL is needed".to_owned()),
    };
    if (first.start, first.timeline) != (start.position, start.timeline)
        || (last.end, last.timeline) != (stop.position, stop.timeline)
    {
        return contradiction(format!(
            "in backup_manifest that WAL is needed from {} to {}, and that it went from {} to {}",
            first.start, last.end, start.position, stop.position
        ));
    }
    Ok(())
}
