//! Asking one repository for the file.

use highwater_repository::config::RepositoryConfig;
use highwater_repository::{ClusterName, ClusterRepository, Repository, WalHead};
use highwater_wal::{Lsn, SegmentSize, SystemId, TimelineHistory, TimelineId, WalFile, check_first_page};

use crate::decide::{self, Answer};
use crate::destination::Content;
use crate::error::Error;
use crate::tail;

/// How many bytes of a segment the check of its first page wants: more than its header has.
pub const FIRST_PAGE_BYTES: usize = 64;

/// What is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// The file.
    pub file: WalFile,
    /// The cluster's name in the repositories.
    pub cluster: ClusterName,
    /// Its system identifier, where the data directory or the user tells it.
    pub system_id: Option<SystemId>,
    /// Where recovery stops, where that is known.
    pub until: Option<Lsn>,
}

/// Fetches the file from the repository of these settings into `content`, verified but not published.
pub async fn fetch(config: &RepositoryConfig, wanted: &Wanted, content: &Content) -> Answer {
    match try_fetch(config, wanted, content).await {
        Ok(Found::Whole) => Answer::Found,
        Ok(Found::UpTo(end)) => Answer::Partly(end),
        Ok(Found::Nothing) => Answer::NotThere,
        Err(error) => Answer::Failed(error),
    }
}

/// What a repository has of a file.
enum Found {
    Whole,
    /// The newest segment, in pieces that end here.
    UpTo(Lsn),
    Nothing,
}

/// What the repository has of the file. It is said not to have it only when everything is as it must be for that answer:
/// the repository is one, it knows the cluster, and it has nothing later of the timeline (R6).
async fn try_fetch(config: &RepositoryConfig, wanted: &Wanted, content: &Content) -> Result<Found, Error> {
    let repository = Repository::connect(config)?;
    let system_id = match wanted.system_id {
        Some(system_id) => system_id,
        None => only_system(&repository, &wanted.cluster).await?,
    };
    let cluster = repository.cluster(&wanted.cluster, system_id);
    if has(&cluster, wanted.file, content).await? {
        return Ok(Found::Whole);
    }
    repository.facts().await?;
    let size = cluster.facts().await?.segment_size;
    if let WalFile::Segment(segment) = wanted.file
        && let Some(end) = tail::fetch(&cluster, size, segment, wanted.until, content).await?
    {
        return Ok(if end < segment.end(size) { Found::UpTo(end) } else { Found::Whole });
    }
    let Some(shown_by) = gap(&cluster, size, wanted.file).await? else { return Ok(Found::Nothing) };
    // Both may have been archived since it was asked for, in their order: then it is there now.
    if has(&cluster, wanted.file, content).await? {
        return Ok(Found::Whole);
    }
    Err(Error::Hole { repository: config.label().to_owned(), shown_by })
}

/// Writes the file into `content` and verifies it (R7). False only when the store has answered that there is no such
/// object.
pub async fn has(cluster: &ClusterRepository, file: WalFile, content: &Content) -> Result<bool, Error> {
    content.empty()?;
    let key = cluster.section().wal(file);
    match cluster.get_wal_into(file, content.file()).await {
        Ok(head) => check_header(cluster, &head, content).map(|()| true),
        // An answer about another object, such as a key that the segment is encrypted to, says nothing of this one.
        Err(highwater_repository::Error::Store(error))
            if error.is_not_found() && error.key == key.as_str() =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Sees that the segment is the one that its name says: its digest was compared with that of its own object, which may
/// lie under another's name.
pub(crate) fn check_header(
    cluster: &ClusterRepository,
    head: &WalHead,
    content: &Content,
) -> Result<(), Error> {
    let (WalFile::Segment(name) | WalFile::Partial(name)) = head.file else { return Ok(()) };
    let size = SegmentSize::new(head.plain.length)?;
    let beginning = content.beginning(FIRST_PAGE_BYTES)?;
    check_first_page(name, size, Some(cluster.system_id()), &beginning)
        .map_err(|refusal| Error::OtherSegment { repository: cluster.repository().url(), refusal })
}

/// What shows that `file`, which is not there, should be.
async fn gap(cluster: &ClusterRepository, size: SegmentSize, file: WalFile) -> Result<Option<String>, Error> {
    let timeline = file.timeline();
    let after = match file {
        WalFile::Segment(_) => Some(file),
        // Without a timeline's history PostgreSQL would take the one before it for the newest.
        WalFile::History(_) => None,
        WalFile::Partial(_) | WalFile::BackupLabel { .. } => return Ok(None),
    };
    let shows_it = |other| decide::shows_missing(file, other);
    if let Some(other) = cluster.first_wal(timeline, after, shows_it).await? {
        return Ok(Some(format!("{other} is there")));
    }
    let tails = cluster.tail_segments(timeline).await?;
    let later = tails.into_iter().find(|tail| decide::shows_missing(file, WalFile::Segment(*tail)));
    if let Some(later) = later {
        return Ok(Some(format!("a piece of {later} is there")));
    }
    if let WalFile::Segment(segment) = file
        && let Some(known) = cluster.lost_behind(timeline, segment.start(size), size).await?
    {
        return Ok(Some(format!("it was there: timeline {timeline} had come up to {known}")));
    }
    let needed = |left_at: &Lsn| match file {
        WalFile::Segment(segment) => *left_at >= segment.end(size),
        // The first timeline has no history.
        _ => timeline != TimelineId::FIRST,
    };
    for newer in cluster.timelines().await?.into_iter().rev().take_while(|newer| *newer > timeline) {
        let history = match cluster.get_wal(WalFile::History(newer)).await {
            Ok(object) => TimelineHistory::parse(newer, object.bytes)?,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(lsn) = history.left_at(timeline).filter(needed) {
            let name = newer.history_name();
            return Ok(Some(format!("{name} says that timeline {timeline} went on to {lsn}")));
        }
    }
    Ok(None)
}

/// The only system identifier of a cluster, for who asks outside of a data directory.
async fn only_system(repository: &Repository, cluster: &ClusterName) -> Result<SystemId, Error> {
    let systems = repository.systems(cluster).await?;
    match systems.as_slice() {
        [one] => Ok(*one),
        several => Err(Error::WhichSystem {
            cluster: cluster.to_string(),
            count: several.len(),
            repository: repository.url(),
        }),
    }
}
