//! The audit trail: what was done, by whom, with what result. One object for each event.

use futures_util::stream::{self, BoxStream, StreamExt};
use highwater_storage::Key;
use highwater_wal::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::facts::{PROGRAM, host_name, now};
use crate::names::{ClusterName, EventId};
use crate::{Repository, Result, keys};

/// Pages of the listing of events at most.
const MAX_PAGES: usize = 100_000;
/// Events that are read side by side.
const READS_AT_ONCE: usize = 16;

/// Something that was done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Version of these fields: 1.
    pub version: u32,
    /// Which event this is.
    pub id: EventId,
    /// When it was noted, by the clock of `host`.
    pub time: Timestamp,
    /// The machine.
    pub host: String,
    /// The program.
    pub program: String,
    /// What was done: `init`, `backup`, `restore`, ….
    pub action: String,
    /// The cluster that it was done with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// How it ended.
    pub outcome: Outcome,
    /// More about it, such as the label or the target; no secrets (R21).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

/// How something ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was begun.
    Begun,
    /// It was done.
    Done,
    /// It failed; `details` says why.
    Failed,
}

impl Event {
    /// An event of this moment and this machine.
    pub fn new(action: &str, cluster: Option<&ClusterName>, outcome: Outcome) -> Event {
        Event {
            version: 1,
            id: EventId::random(),
            time: now(),
            host: host_name(),
            program: PROGRAM.to_owned(),
            action: action.to_owned(),
            cluster: cluster.cloned(),
            outcome,
            details: Map::new(),
        }
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Event {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The name of its object, which tells its time and its id.
    pub fn name(&self) -> Key {
        // 2026-01-31T23:59:59.123456Z without what separates: shorter, and the same order.
        let time: String =
            self.time.to_string().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        keys::event(&time, self.id)
    }
}

impl Repository {
    /// Notes an event.
    pub async fn note(&self, event: &Event) -> Result<()> {
        self.put_own(&event.name(), &self.small_object(event)?).await
    }

    /// The names of the events from `after` on, oldest first, a page at a time; and where the next page begins.
    pub async fn event_names(&self, after: Option<&str>) -> Result<(Vec<Key>, Option<String>)> {
        let page = self.store().list(keys::EVENTS, after, false).await?;
        Ok((page.entries.into_iter().map(|entry| entry.key).collect(), page.next))
    }

    /// The names of the newest events, at most `most` of those from `after` on, oldest first.
    ///
    /// # Errors
    /// Those of the store, and a listing that does not end.
    pub async fn newest_event_names(&self, after: Option<&str>, most: usize) -> Result<Vec<Key>> {
        let (mut names, mut after) = (Vec::new(), after.map(str::to_owned));
        for _ in 0..MAX_PAGES {
            let (page, next) = self.event_names(after.as_deref()).await?;
            names.extend(page);
            names.drain(..names.len().saturating_sub(most));
            after = next;
            if after.is_none() {
                return Ok(names);
            }
        }
        Err(self.endless(keys::EVENTS))
    }

    /// Reads events, the newest of `names` first, several at once.
    pub fn read_events<'a>(
        &'a self,
        names: impl DoubleEndedIterator<Item = &'a Key> + Send + 'a,
    ) -> BoxStream<'a, (&'a Key, Result<Event>)> {
        let reads = stream::iter(names.rev()).map(move |name| async move { (name, self.event(name).await) });
        reads.buffered(READS_AT_ONCE).boxed()
    }

    /// Reads an event.
    pub async fn event(&self, name: &Key) -> Result<Event> {
        self.read_small(name).await
    }
}
