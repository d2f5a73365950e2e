//! Holes that an earlier receiver told of and that nobody has answered with a base backup yet: they are told again.

use futures_util::stream::StreamExt;
use highwater_repository::{ClusterRepository, Event};
use highwater_wal::Lsn;

use crate::error::Result;

/// What events of the receiver are called.
pub(crate) const ACTION: &str = "receive";
/// The detail that says where WAL goes on behind a hole.
pub(crate) const HOLE_END: &str = "lost_to";
/// As many events are read, the newest.
const MOST_EVENTS: usize = 500;

/// An alarm, and what ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) text: String,
    /// Where WAL goes on behind the hole: a base backup that begins there answers it.
    pub(crate) until: Option<Lsn>,
}

/// The holes that the newest events tell of, oldest first.
pub(crate) async fn told(cluster: &ClusterRepository) -> Result<Vec<Alarm>> {
    let repository = cluster.repository();
    let names = repository.newest_event_names(None, MOST_EVENTS).await?;
    let system_id = cluster.system_id().to_string();
    let mut reads = repository.read_events(names.iter());
    let mut alarms = Vec::new();
    while let Some((_, read)) = reads.next().await {
        match read {
            Ok(event) => alarms.extend(alarm_of(&event, &system_id)),
            // What cannot be read here was told by whoever noted it.
            Err(error) if error.is_damaged() || error.is_not_found() => {}
            Err(highwater_repository::Error::Locked { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    alarms.reverse();
    Ok(alarms)
}

fn alarm_of(event: &Event, system_id: &str) -> Option<Alarm> {
    let detail = |name: &str| event.details.get(name).and_then(|value| value.as_str());
    let is_of_this = event.action == ACTION && detail("system_id") == Some(system_id);
    let until = detail(HOLE_END)?.parse().ok()?;
    is_of_this.then(|| detail("reason").map(|text| Alarm { text: text.to_owned(), until: Some(until) }))?
}

/// Where the newest base backup begins; `None` where there is none, or it cannot be read here.
pub(crate) async fn newest_backup(cluster: &ClusterRepository) -> Result<Option<Lsn>> {
    let backups = cluster.backups();
    let mut newest = None;
    for backup in backups.list().await?.into_iter().filter(|backup| backup.is_complete()) {
        match backups.head_of_listed(&backup.label).await {
            Ok(head) => newest = newest.max(head.postgres.map(|postgres| postgres.start_lsn)),
            Err(error) if error.is_damaged() || error.is_not_found() => {}
            Err(highwater_repository::Error::Locked { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use highwater_repository::Outcome;

    use super::*;

    #[test]
    fn a_hole_of_this_cluster_is_told_again() {
        let event = |action, system, to| {
            Event::new(action, None, Outcome::Failed)
                .with("reason", "WAL is lost")
                .with("system_id", system)
                .with(HOLE_END, to)
        };
        let alarm = Alarm { text: "WAL is lost".to_owned(), until: Some(Lsn(0x300_0000)) };
        assert_eq!(alarm_of(&event(ACTION, "7", "0/3000000"), "7"), Some(alarm));
        assert_eq!(alarm_of(&event(ACTION, "8", "0/3000000"), "7"), None);
        assert_eq!(alarm_of(&event("backup", "7", "0/3000000"), "7"), None);
        assert_eq!(alarm_of(&Event::new(ACTION, None, Outcome::Failed), "7"), None);
    }
}
