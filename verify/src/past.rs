//! What earlier verifications have left behind.

use futures_util::stream::StreamExt;
use highwater_repository::{Event, Outcome, Repository, keys};
use highwater_storage::Key;
use highwater_wal::SystemId;

use crate::error::{Error, Result};
use crate::record::Record;

/// As many events are read at most for somebody who only wants to be told of the last verification.
const FEW_EVENTS: usize = 2000;
/// What events of retention are called.
const EXPIRE: &str = "expire";

/// The newest verification of a cluster that an event tells of, among the newest 2,000 events; a damaged event is passed over.
///
/// # Errors
/// Those of the repository.
pub async fn last_record(repository: &Repository, system_id: SystemId) -> Result<Option<(Event, Record)>> {
    let names = repository.newest_event_names(None, FEW_EVENTS).await?;
    Ok(Past::read(repository, system_id, &names, FEW_EVENTS).await?.last)
}

/// What the newest events tell.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The last verification.
    pub(crate) last: Option<(Event, Record)>,
    /// Events since then, newest first.
    pub(crate) since: Vec<Event>,
    system_id: String,
}

impl Past {
    /// Reads the newest events, at most so many, until the last verification. `names` are in order.
    pub(crate) async fn read(
        repository: &Repository,
        system_id: SystemId,
        names: &[Key],
        most: usize,
    ) -> Result<Past> {
        let system_id = system_id.to_string();
        let newest = names.iter().filter(|name| name.as_str().starts_with(keys::EVENTS));
        let newest: Vec<&Key> = newest.rev().take(most).collect();
        let mut events = repository.read_events(newest.into_iter().rev());
        let mut past = Past { system_id: system_id.clone(), ..Past::default() };
        while let Some((_, event)) = events.next().await {
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

    /// Whether an event tells that retention removes, or has removed, something of this cluster. It is noted before it begins.
    pub(crate) fn is_removal(&self, event: &Event) -> bool {
        let has = |name| event.details.contains_key(name);
        let system_id = event.details.get("system_id").and_then(|id| id.as_str());
        event.action == EXPIRE
            && !has("held")
            && !has("released")
            && system_id.is_none_or(|id| id == self.system_id)
    }

    /// Whether retention may have removed something since the last verification: then what is gone may be gone rightly.
    pub(crate) fn has_expired(&self) -> bool {
        self.since.iter().any(|event| self.is_removal(event)) || self.is_expiring()
    }

    /// Whether a run of retention goes on, or was cut off: the last one that was begun has not told how it ended.
    pub(crate) fn is_expiring(&self) -> bool {
        match self.since.iter().find(|event| self.is_removal(event)) {
            Some(event) => event.outcome == Outcome::Begun,
            None => self.last.as_ref().is_some_and(|(_, record)| record.expiring),
        }
    }

    /// Whether marks and holds may have been taken back since the last verification.
    pub(crate) fn has_unmarked(&self) -> bool {
        self.since.iter().any(|event| event.action == EXPIRE) || self.is_expiring()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(outcome: Outcome) -> Event {
        Event::new(EXPIRE, None, outcome).with("system_id", "7")
    }

    fn past(since: Vec<Event>) -> Past {
        Past { last: None, since, system_id: "7".to_owned() }
    }

    #[test]
    fn r19_what_retention_does_is_told_by_its_events() {
        let told = |past: Past| (past.has_expired(), past.is_expiring(), past.has_unmarked());
        assert_eq!(told(past(Vec::new())), (false, false, false));
        assert_eq!(told(past(vec![event(Outcome::Done), event(Outcome::Begun)])), (true, false, true));
        assert_eq!(told(past(vec![event(Outcome::Begun), event(Outcome::Done)])), (true, true, true));
        let other = Event::new(EXPIRE, None, Outcome::Begun).with("system_id", "8");
        assert_eq!(told(past(vec![other])), (false, false, true), "another cluster's");
        let held = Event::new(EXPIRE, None, Outcome::Done).with("held", "a");
        assert_eq!(told(past(vec![held])), (false, false, true), "a hold removes nothing");
        // It was going on when the last verification ended, and nothing was heard of it since.
        let record = Record { expiring: true, ..Record::default() };
        let last = Some((Event::new("verify", None, Outcome::Done), record));
        let cut_off = Past { last: last.clone(), ..past(Vec::new()) };
        assert_eq!(told(cut_off), (true, true, true));
        assert_eq!(told(Past { last, ..past(vec![event(Outcome::Done)]) }), (true, false, true));
    }
}
