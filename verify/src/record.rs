//! What a verification leaves behind for the next one and for `highwater status`: the details of its event.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use highwater_catalog::SegmentSet;
use highwater_repository::{DamagedWal, Event, FoundDamage, VERIFY};
use highwater_wal::{SegmentSize, TimelineId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::report::Looked;

/// The action of its events.
pub const ACTION: &str = VERIFY;
/// As many damaged objects are named in an event. The report names all.
const MAX_NAMED: usize = 100;
/// As many runs of segments of a timeline are remembered. What lies in others is looked at again.
const MAX_RUNS: usize = 1000;

/// What a verification has done.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The system identifier.
    pub system_id: String,
    /// Whether everything was read.
    pub deep: bool,
    /// What was looked at: `everything`, `new` (since the last), `sample`, `part` (one backup, one timeline).
    pub scope: String,
    /// How much of packs and segments was read, in percent, where it was a sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
    /// When it began, by the clock of the machine.
    pub began: Option<Timestamp>,
    /// How long it took.
    pub seconds: f64,
    /// How many findings are damage.
    pub damage: u64,
    /// How many are notes.
    pub notes: u64,
    /// The first damaged objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    /// What is known against backups: found now, or before and not looked at again.
    #[serde(flatten)]
    pub known: FoundDamage,
    /// Segments that are known to be damaged: found now, or before and not read again.
    #[serde(skip_serializing_if = "DamagedWal::is_empty")]
    pub damaged_wal: DamagedWal,
    /// Whether a run of retention was going on when it ended, or had been cut off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expiring: bool,
    /// How much was looked at.
    pub looked: Looked,
    /// What is known to be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed: Option<Proven>,
    /// What was read and found right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Proven>,
    /// What was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// What was proven, and need not be looked at again by whoever asks only for what is new.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Proven {
    /// Since when: the last time that everything was looked at.
    pub since: Option<Timestamp>,
    /// Backups all of whose extents were proven, by [`highwater_repository::ManifestHead::id`].
    pub backups: BTreeSet<String>,
    /// Backups whose extents were proven in packs up to [`Proven::packs_until`]: of a verification that was cut short.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub begun_backups: BTreeSet<String>,
    /// See [`Proven::begun_backups`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packs_until: Option<String>,
    /// Timeline → first and last number of runs of segments.
    pub wal: BTreeMap<u32, Vec<(u64, u64)>>,
}

/// What a verification saw of the things that nothing else names: so that the next one notices when one is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Digest of `highwater.json`.
    pub repository: String,
    /// Digest of `cluster.json`.
    pub cluster: String,
    /// Timeline → runs of segments.
    pub wal: BTreeMap<u32, Vec<(u64, u64)>>,
    /// Other objects, by their names: histories, partial segments, backup labels, manifests, relation names, index objects, keys. At
    /// most [`Seen::MOST_OBJECTS`].
    pub objects: BTreeSet<String>,
    /// Events since the verification before; at most as many.
    pub events: Vec<String>,
}

impl Seen {
    /// As many names are remembered.
    pub const MOST_OBJECTS: usize = 20_000;
}

impl Record {
    /// As the details of an event.
    pub fn to_details(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        }
    }

    /// Out of an event. Nothing where it is of something else, or of another program's making.
    pub fn of_event(event: &Event) -> Option<Record> {
        if event.action != ACTION {
            return None;
        }
        serde_json::from_value(Value::Object(event.details.clone())).ok()
    }

    pub(crate) fn name_damaged<'a>(&mut self, objects: impl Iterator<Item = &'a String>) {
        let mut objects: Vec<String> = objects.cloned().collect();
        objects.dedup();
        objects.truncate(MAX_NAMED);
        self.damaged = objects;
    }
}

impl Proven {
    pub(crate) fn has(&self, timeline: TimelineId, number: u64) -> bool {
        has(&self.wal, timeline, number)
    }
}

pub(crate) fn has(wal: &BTreeMap<u32, Vec<(u64, u64)>>, timeline: TimelineId, number: u64) -> bool {
    wal.get(&timeline.get())
        .is_some_and(|runs| runs.iter().any(|(first, last)| (*first..=*last).contains(&number)))
}

/// As many runs of a set as are remembered: the newest.
pub(crate) fn runs_of(set: &SegmentSet) -> Vec<(u64, u64)> {
    let runs: Vec<RangeInclusive<u64>> = set.runs().collect();
    let skipped = runs.len().saturating_sub(MAX_RUNS);
    runs[skipped..].iter().map(|run| (*run.start(), *run.end())).collect()
}

/// The name of a segment by its number.
pub(crate) fn segment_name(
    timeline: u32,
    number: u64,
    size: SegmentSize,
) -> Option<highwater_wal::SegmentName> {
    Some(highwater_wal::SegmentName::from_number(TimelineId::new(timeline)?, number, size))
}

#[cfg(test)]
mod tests {
    use highwater_repository::Outcome;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_later_fields_are_passed_over() {
        let mut record = Record { system_id: "7".to_owned(), deep: true, seconds: 1.5, ..Record::default() };
        let mut proven = Proven { since: Some(Timestamp(5)), ..Proven::default() };
        proven.wal.insert(1, vec![(3, 9)]);
        record.read = Some(proven);
        record.damaged_wal = DamagedWal::of([(TimelineId::FIRST, 12), (TimelineId::FIRST, 13)]);
        let mut event = Event::new(ACTION, None, Outcome::Done);
        event.details = record.to_details();
        event.details.insert("later".to_owned(), true.into());
        assert_eq!(Record::of_event(&event), Some(record.clone()));
        let read = record.read.unwrap();
        assert!(read.has(TimelineId::FIRST, 3) && read.has(TimelineId::FIRST, 9));
        assert!(!read.has(TimelineId::FIRST, 10) && !read.has(TimelineId::new(2).unwrap(), 3));
        assert_eq!(Record::of_event(&Event::new("backup", None, Outcome::Done)), None);
    }
}
