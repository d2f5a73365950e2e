//! What somebody has to look at: WAL that is missing. One loss is one alarm.

use futures_util::stream::StreamExt;
use highwater_catalog::Gap;
use highwater_repository::{ClusterName, ClusterRepository, Event, Outcome};
use highwater_wal::{Lsn, TimelineId};

use crate::error::Result;

/// What events of the receiver are called.
const ACTION: &str = "receive";
/// As many events are read, the newest.
const MOST_EVENTS: usize = 500;
/// The alarms that are kept; older ones are in the repository's events.
const MOST_ALARMS: usize = 16;

/// What is known of WAL that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// It was in a repository, and the server is asked for it again.
    Gone,
    /// It is missing, and the server does not send it.
    Lost,
}

impl Kind {
    /// The details of its events that say where it begins and ends.
    fn details(self) -> (&'static str, &'static str) {
        match self {
            Kind::Gone => ("gone_from", "gone_to"),
            Kind::Lost => ("lost_from", "lost_to"),
        }
    }
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) kind: Kind,
    pub(crate) gap: Gap,
    pub(crate) text: String,
}

impl Alarm {
    /// What the repository's audit trail has of it.
    pub(crate) fn event(&self, cluster: &ClusterName, system_id: &str) -> Event {
        let (from, to) = self.kind.details();
        Event::new(ACTION, Some(cluster), Outcome::Failed)
            .with("reason", self.text.as_str())
            .with("system_id", system_id)
            .with("timeline", self.gap.timeline.get())
            .with(from, self.gap.from.to_string())
            .with(to, self.gap.to.to_string())
    }

    /// The alarm that an event tells of, where somebody has to be told again: what has gone from the end is missed anew as long as it is
    /// not there.
    fn of_event(event: &Event, system_id: &str) -> Option<Alarm> {
        let kind = Kind::Lost;
        let detail = |name: &str| event.details.get(name).and_then(|value| value.as_str());
        if event.action != ACTION || detail("system_id") != Some(system_id) {
            return None;
        }
        let timeline = event.details.get("timeline")?.as_u64().and_then(|number| u32::try_from(number).ok());
        let timeline = timeline.and_then(TimelineId::new)?;
        let lsn = |name: &str| detail(name)?.parse::<Lsn>().ok();
        let (from, to) = kind.details();
        let gap = Gap { timeline, from: lsn(from)?, to: lsn(to)? };
        Some(Alarm { kind, gap, text: detail("reason")?.to_owned() })
    }
}

/// The alarms that are not over.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Vec<Alarm>);

impl Alarms {
    /// Takes an alarm, unless one that is there tells of the same loss. It takes the place of those that knew less of it.
    pub(crate) fn raise(&mut self, alarm: Alarm) -> bool {
        if self.tell_of(&alarm) {
            return false;
        }
        let begins = |gap: &Gap| (gap.timeline, gap.from);
        self.0.retain(|other| {
            let is_same = begins(&other.gap) == begins(&alarm.gap) || alarm.gap.holds(&other.gap);
            other.kind > alarm.kind || !is_same
        });
        self.0.push(alarm);
        if self.0.len() > MOST_ALARMS {
            self.0.remove(0);
        }
        true
    }

    /// Whether one that is there tells of the same loss.
    pub(crate) fn tell_of(&self, alarm: &Alarm) -> bool {
        self.0.iter().any(|other| other.kind >= alarm.kind && other.gap.holds(&alarm.gap))
    }

    /// Whether there is one of this kind that begins where `gap` does.
    pub(crate) fn has(&self, kind: Kind, gap: &Gap) -> bool {
        let begins = |gap: &Gap| (gap.timeline, gap.from);
        self.0.iter().any(|alarm| alarm.kind == kind && begins(&alarm.gap) == begins(gap))
    }

    /// Takes out the alarm for a gap that is over.
    pub(crate) fn end(&mut self, gap: &Gap) -> bool {
        let before = self.0.len();
        self.0.retain(|alarm| alarm.gap != *gap);
        self.0.len() < before
    }

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        self.0.iter().map(|alarm| alarm.gap).collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.iter().map(|alarm| alarm.text.clone()).collect()
    }
}

/// What the newest events tell of, oldest first.
pub(crate) async fn told(cluster: &ClusterRepository) -> Result<Vec<Alarm>> {
    let repository = cluster.repository();
    let names = repository.newest_event_names(None, MOST_EVENTS).await?;
    let system_id = cluster.system_id().to_string();
    let mut reads = repository.read_events(names.iter());
    let mut alarms = Vec::new();
    while let Some((_, read)) = reads.next().await {
        match read {
            Ok(event) => alarms.extend(Alarm::of_event(&event, &system_id)),
            // What cannot be read here was told by whoever noted it.
            Err(error) if error.is_damaged() || error.is_not_found() => {}
            Err(highwater_repository::Error::Locked { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    alarms.reverse();
    Ok(alarms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(kind: Kind, from: u64, to: u64) -> Alarm {
        let gap = Gap { timeline: TimelineId::FIRST, from: Lsn(from), to: Lsn(to) };
        Alarm { kind, gap, text: format!("{kind:?} {from} {to}") }
    }

    #[test]
    fn one_loss_is_one_alarm() {
        use Kind::{Gone, Lost};
        for (told, expected, last_is_new) in [
            (vec![(Lost, 10, 20), (Lost, 10, 20)], vec!["Lost 10 20"], false),
            (vec![(Lost, 10, 20), (Lost, 12, 20)], vec!["Lost 10 20"], false),
            // It is larger than it was known to be.
            (vec![(Lost, 10, 20), (Lost, 10, 30)], vec!["Lost 10 30"], true),
            (vec![(Lost, 12, 20), (Lost, 10, 20)], vec!["Lost 10 20"], true),
            (vec![(Lost, 10, 20), (Lost, 30, 40)], vec!["Lost 10 20", "Lost 30 40"], true),
            // The server was asked again, and has it no more.
            (vec![(Gone, 10, 25), (Lost, 10, 20)], vec!["Lost 10 20"], true),
            (vec![(Gone, 10, 15), (Lost, 10, 20)], vec!["Lost 10 20"], true),
            (vec![(Lost, 10, 20), (Gone, 10, 15)], vec!["Lost 10 20"], false),
            // More has gone than was lost.
            (vec![(Lost, 10, 20), (Gone, 10, 25)], vec!["Lost 10 20", "Gone 10 25"], true),
        ] {
            let mut alarms = Alarms::default();
            let mut is_new = false;
            for (kind, from, to) in &told {
                is_new = alarms.raise(alarm(*kind, *from, *to));
            }
            assert_eq!(
                (alarms.texts(), is_new),
                (expected.iter().map(|text| text.to_string()).collect(), last_is_new),
                "{told:?}"
            );
        }
        let mut alarms = Alarms::default();
        (0..20).for_each(|number| assert!(alarms.raise(alarm(Lost, number * 10, number * 10 + 1))));
        assert_eq!((alarms.gaps().len(), alarms.texts()[0].as_str()), (MOST_ALARMS, "Lost 40 41"));
        assert!(alarms.end(&alarm(Gone, 50, 51).gap) && !alarms.end(&alarm(Lost, 50, 51).gap));
        assert!(alarms.has(Lost, &alarm(Lost, 60, 99).gap) && !alarms.has(Gone, &alarm(Lost, 60, 61).gap));
    }

    #[test]
    fn a_loss_of_this_cluster_is_told_again() {
        let lost = alarm(Kind::Lost, 0x200_0010, 0x300_0000);
        let cluster = "main".parse().unwrap();
        assert_eq!(Alarm::of_event(&lost.event(&cluster, "7"), "7"), Some(lost.clone()));
        assert_eq!(Alarm::of_event(&lost.event(&cluster, "7"), "8"), None);
        let gone = alarm(Kind::Gone, 1, 2);
        assert_eq!(Alarm::of_event(&gone.event(&cluster, "7"), "7"), None);
        let other = Event { action: "backup".to_owned(), ..lost.event(&cluster, "7") };
        assert_eq!(Alarm::of_event(&other, "7"), None);
        assert_eq!(Alarm::of_event(&Event::new(ACTION, None, Outcome::Failed), "7"), None);
    }
}
