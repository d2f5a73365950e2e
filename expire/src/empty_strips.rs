//! Strips in which nothing lies, of segments that nothing needs: whoever made them was killed before the first piece.
//!
//! A strip does not tell its age, and a receiver that has just made one is about to put its first piece into it. That takes it half
//! a minute at most: then it gives the strip up. So a run notes which strips it has seen empty, and one that comes a grace later removes
//! those that still are (R20).

use std::collections::BTreeMap;

use futures_util::StreamExt;
use highwater_repository::{ClusterRepository, Event, Outcome, Tail};
use highwater_wal::Timestamp;

use crate::expiry::ACTION;
use crate::{Options, Result};

/// The detail of a run's event that says since when strips have been known to be empty, by their names.
const DETAIL: &str = "empty_strips";
/// As many events are looked through for the last run, the newest.
const MOST_EVENTS: usize = 500;
/// As many strips are remembered.
const MOST_STRIPS: usize = 1000;

/// The empty strips that were seen, and since when they have been known.
#[derive(Debug, Default)]
pub(crate) struct EmptyStrips {
    known: BTreeMap<String, Timestamp>,
    seen: BTreeMap<String, Timestamp>,
}

impl EmptyStrips {
    /// Those that the last run has noted.
    pub(crate) async fn of_last_run(cluster: &ClusterRepository) -> Result<EmptyStrips> {
        let repository = cluster.repository();
        let names = repository.newest_event_names(None, MOST_EVENTS).await?;
        let system_id = cluster.system_id().to_string();
        let mut events = repository.read_events(names.iter());
        while let Some((_, event)) = events.next().await {
            match event {
                Ok(event) if is_run(&event, &system_id) => {
                    let known = event.details.get(DETAIL).cloned().map(serde_json::from_value);
                    // What cannot be read is seen anew.
                    let known = known.and_then(std::result::Result::ok).unwrap_or_default();
                    return Ok(EmptyStrips { known, seen: BTreeMap::new() });
                }
                Ok(_) => {}
                Err(error) if error.is_damaged() || error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(EmptyStrips::default())
    }

    /// Sees that nothing lies in these strips. Answers those that have been known for so long that they may go.
    pub(crate) fn see<K: AsRef<str>>(&mut self, strips: Vec<K>, options: &Options) -> Vec<K> {
        let grace = i64::try_from(options.rules.grace.as_micros()).unwrap_or(i64::MAX);
        let mut old = Vec::new();
        for key in strips {
            let since = self.known.get(key.as_ref()).copied().unwrap_or(options.clock.to_note());
            if options.clock.now().0.saturating_sub(since.0) >= grace {
                old.push(key);
            } else if self.seen.len() < MOST_STRIPS {
                self.seen.insert(key.as_ref().to_owned(), since);
            }
        }
        old
    }

    /// Leaves for the next run what this one has seen.
    pub(crate) fn note(&self, event: Event) -> Event {
        match self.seen.is_empty() {
            true => event,
            false => event.with(DETAIL, serde_json::json!(self.seen)),
        }
    }
}

/// Whether nothing lies in what there is of a segment that could be read, or was ever acknowledged.
pub(crate) fn is_empty(tail: &Tail) -> bool {
    tail.pieces().is_empty() && tail.damage().next().is_none()
}

/// Whether an event tells of a run that came to its end.
fn is_run(event: &Event, system_id: &str) -> bool {
    event.action == ACTION
        && event.outcome == Outcome::Done
        && event.details.get("system_id").and_then(|value| value.as_str()) == Some(system_id)
}
