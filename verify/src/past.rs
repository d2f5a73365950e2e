//! What earlier verifications have left behind.

use futures_util::stream::{self, StreamExt};
use highwater_repository::{Event, Repository, keys};
use highwater_storage::Key;
use highwater_wal::SystemId;

use crate::error::{Error, Result};
use crate::record::Record;

/// As many events are read at most to find the last verification: it is looked for from the newest on.
const MOST_EVENTS: usize = 2000;
/// As many at once.
const READS_AT_ONCE: usize = 16;
/// Pages of the listing of events at most.
const MAX_PAGES: usize = 100_000;

/// The newest verification of a cluster that an event tells of, among the newest 2,000 events; a damaged event is passed over.
///
/// # Errors
/// Those of the repository.
pub async fn last_record(repository: &Repository, system_id: SystemId) -> Result<Option<(Event, Record)>> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let (page, next) = repository.event_names(after.as_deref()).await?;
        names.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    Ok(Past::read(repository, system_id, &names).await?.last)
}

/// What the newest events tell.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The last verification.
    pub(crate) last: Option<(Event, Record)>,
    /// Events since then, newest first.
    pub(crate) since: Vec<Event>,
}

impl Past {
    /// Reads the newest events until the last verification. `names` are in order.
    pub(crate) async fn read(repository: &Repository, system_id: SystemId, names: &[Key]) -> Result<Past> {
        let system_id = system_id.to_string();
        let newest =
            names.iter().rev().filter(|name| name.as_str().starts_with(keys::EVENTS)).take(MOST_EVENTS);
        let mut events = stream::iter(newest)
            .map(|name| async move { repository.event(name).await })
            .buffered(READS_AT_ONCE);
        let mut past = Past::default();
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) if error.is_damaged() || error.is_not_found() => continue,
                Err(highwater_repository::Error::Locked { .. }) => continue,
                Err(error) => return Err(Error::Repository(error)),
            };
            match Record::of_event(&event) {
                Some(record) if record.system_id == system_id => {
                    past.last = Some((event, record));
                    return Ok(past);
                }
                _ => past.since.push(event),
            }
        }
        Ok(past)
    }

    /// Whether retention has removed something since the last verification: then what is gone may be gone rightly.
    pub(crate) fn has_expired(&self) -> bool {
        self.since.iter().any(|event| event.action == "expire")
    }
}
