//! A segment that is not there whole, put together from the pieces that were received of it.

use highwater_repository::{ClusterRepository, Sink};
use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineHistory, TimelineId, WalFile};

use crate::decide;
use crate::destination::Content;
use crate::error::Error;
use crate::fetch::check_header;

/// A receiver that is at work may have put more between two looks; a hole stays one.
const TRIES: usize = 3;

/// Writes what there is of the segment into `content`, verified (R7), behind it zeros: PostgreSQL takes them for the end of the
/// WAL. Answers where it ends; `None` where there is nothing of it.
///
/// Where the pieces end, the WAL must end (R6): what shows that it went on is a hole. Whoever stops before it does not come to it.
pub(crate) async fn fetch(
    cluster: &ClusterRepository,
    size: SegmentSize,
    segment: SegmentName,
    until: Option<Lsn>,
    content: &Content,
) -> Result<Option<Lsn>, Error> {
    let key = cluster.section().wal(WalFile::Segment(segment));
    let mut hole = None;
    // Whoever stops in front of what is missing or damaged does not come to it.
    let least = until.map(|until| until.bytes_since(segment.start(size)) + 1);
    for _ in 0..TRIES {
        let object = match cluster.get_segment(segment, size, least).await {
            Ok(object) => object,
            // An answer about another object, such as a piece's, says nothing of the segment.
            Err(highwater_repository::Error::Store(error))
                if error.is_not_found() && error.key == key.as_str() =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let end = object.head.received.unwrap_or(segment.end(size));
        let is_enough = end == segment.end(size) || until.is_some_and(|until| until < end);
        hole = if is_enough { None } else { went_on(cluster, size, segment, end).await? };
        if hole.is_none() {
            content.empty()?;
            content.file().write_at(0, &object.bytes).map_err(highwater_repository::Error::Sink)?;
            return check_header(cluster, &object.head, content).map(|()| Some(end));
        }
    }
    Err(Error::Hole { repository: cluster.repository().config().label(), shown_by: hole.unwrap_or_default() })
}

/// What shows that the timeline's WAL went on behind `end`, which lies in `segment`.
async fn went_on(
    cluster: &ClusterRepository,
    size: SegmentSize,
    segment: SegmentName,
    end: Lsn,
) -> Result<Option<String>, Error> {
    let file = WalFile::Segment(segment);
    let shows_it = |other| decide::shows_missing(file, other);
    if let Some(other) = cluster.first_wal(segment.timeline, Some(file), shows_it).await? {
        return Ok(Some(format!("{other} is there, and only a piece of {segment}")));
    }
    let later = cluster.tail_segments(segment.timeline).await?.into_iter().find(|other| *other > segment);
    if let Some(later) = later {
        return Ok(Some(format!("a piece of {later} is there, and of {segment} not all")));
    }
    if let Some(known) = cluster.lost_behind(segment.timeline, end, size).await? {
        return Ok(Some(format!("it was there up to {known}, and pieces end at {end}")));
    }
    let left_at =
        |history: TimelineHistory| history.left_at(segment.timeline).filter(|left_at| *left_at > end);
    for newer in newer_timelines(cluster, segment.timeline).await? {
        if let Some(lsn) = history(cluster, newer).await?.and_then(left_at) {
            let (name, timeline) = (newer.history_name(), segment.timeline);
            return Ok(Some(format!(
                "{name} says that timeline {timeline} went on to {lsn}, and pieces end at {end}"
            )));
        }
    }
    Ok(None)
}

async fn newer_timelines(
    cluster: &ClusterRepository,
    timeline: TimelineId,
) -> Result<Vec<TimelineId>, Error> {
    Ok(cluster.timelines().await?.into_iter().filter(|newer| *newer > timeline).collect())
}

async fn history(
    cluster: &ClusterRepository,
    timeline: TimelineId,
) -> Result<Option<TimelineHistory>, Error> {
    match cluster.get_wal(WalFile::History(timeline)).await {
        Ok(object) => Ok(Some(TimelineHistory::parse(timeline, object.bytes)?)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
