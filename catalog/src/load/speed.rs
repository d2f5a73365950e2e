//! How fast restores were, as the audit trail tells.

use futures_util::stream::StreamExt;
use highwater_repository::{ClusterRepository, Error, Event, Outcome, host_name, keys};
use highwater_wal::Timestamp;
use serde::Serialize;

/// No event before so many days ago is looked at: machines and networks change.
const LOOK_BACK_DAYS: i64 = 400;
/// Of those, so many of the latest.
const LOOKED_AT: usize = 64;
/// Of the restores among them, so many of the latest count.
const COUNTED: usize = 5;
/// What is shorter tells little: most of it is the asking.
const SHORTEST_SECONDS: f64 = 0.05;

/// How fast restores of a cluster were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreSpeed {
    /// How many of the latest restores count.
    pub restores: usize,
    /// Bytes of the backup that were written each second: the median.
    pub bytes_per_second: f64,
    /// When the latest of them ended, by the clock of its machine.
    pub latest: Timestamp,
    /// Whether they were done on this very machine; else no restore is recorded of it, and those of others count.
    pub on_this_host: bool,
}

/// What is recorded; `None` where no restore is.
pub(super) async fn read(cluster: &ClusterRepository) -> Result<Option<RestoreSpeed>, Error> {
    let repository = cluster.repository();
    let from = time::OffsetDateTime::now_utc() - time::Duration::days(LOOK_BACK_DAYS);
    let after = format!("{}{:04}{:02}{:02}", keys::EVENTS, from.year(), u8::from(from.month()), from.day());
    let names = repository.newest_event_names(Some(&after), LOOKED_AT).await?;
    // An event that cannot be read costs the estimate a number, and nothing else.
    let events = repository.read_events(names.iter()).filter_map(async |(_, event)| event.ok());
    let events: Vec<Event> = events.collect().await;
    Ok(speed(&events, |event| event.cluster.as_ref() == Some(cluster.name()), &host_name()))
}

/// From events, the latest first.
fn speed(events: &[Event], counts: impl Fn(&Event) -> bool, host: &str) -> Option<RestoreSpeed> {
    let restores: Vec<(&Event, f64)> = events
        .iter()
        .filter(|event| event.action == "restore" && event.outcome == Outcome::Done && counts(event))
        .filter_map(|event| {
            let number = |name: &str| event.details.get(name).and_then(serde_json::Value::as_f64);
            let (bytes, seconds) = (number("bytes")?, number("seconds")?);
            (bytes > 0.0 && seconds >= SHORTEST_SECONDS).then_some((event, bytes / seconds))
        })
        .collect();
    let on_this_host = restores.iter().any(|(event, _)| event.host == host);
    let mut counted: Vec<_> =
        restores.into_iter().filter(|(event, _)| !on_this_host || event.host == host).take(COUNTED).collect();
    let latest = counted.first()?.0.time;
    counted.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let bytes_per_second = counted.get(counted.len() / 2)?.1;
    Some(RestoreSpeed { restores: counted.len(), bytes_per_second, latest, on_this_host })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(host: &str, bytes: u64, seconds: f64) -> Event {
        let mut event =
            Event::new("restore", None, Outcome::Done).with("bytes", bytes).with("seconds", seconds);
        event.host = host.to_owned();
        event
    }

    #[test]
    fn the_median_of_the_latest_restores_counts_those_of_this_machine_first() {
        let failed = Event { outcome: Outcome::Failed, ..restore("here", 1, 1.0) };
        let without = Event::new("restore", None, Outcome::Done);
        let other = Event { action: "backup".to_owned(), ..restore("here", 9_000, 1.0) };
        let events = [
            failed,
            without,
            other,
            restore("there", 5_000, 1.0),
            restore("here", 100, 1.0),
            restore("here", 900, 3.0),
            restore("here", 4_000, 10.0),
            restore("here", 0, 10.0),
            restore("here", 4_000, 0.001),
        ];
        let told = speed(&events, |_| true, "here");
        assert_eq!(
            told.as_ref().map(|told| (told.restores, told.bytes_per_second, told.on_this_host)),
            Some((3, 300.0, true))
        );
        let told = speed(&events, |_| true, "elsewhere");
        assert_eq!(
            told.map(|told| (told.restores, told.bytes_per_second, told.on_this_host)),
            Some((4, 400.0, false))
        );
        assert_eq!(speed(&events[..3], |_| true, "here"), None);
        assert_eq!(speed(&events, |_| false, "here"), None);
    }
}
