//! Golden outputs: what a listing must look like, to the letter. And made-up archives to list.

use std::collections::BTreeMap;
use std::path::Path;

use highwater_catalog::{
    Backup, Crossing, Decoded, Inventory, Known, Need, SegmentFacts, Transaction, Unsettled,
};
use highwater_wal::{Lsn, SegmentName, SegmentSize, SystemId, TimelineHistory, TimelineId, Timestamp};

/// Compares with `golden/NAME.txt` beside this file; with `HIGHWATER_GOLDEN=write` in the environment writes it.
pub fn is_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/commands/golden/{name}.txt"));
    if std::env::var_os("HIGHWATER_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} is\n{golden}\nand the text is\n{text}", path.display());
}

/// A moment as a short text that is the same in every time zone.
pub fn show(time: Timestamp) -> String {
    time.to_string().replace('T', " ").replace(".000000Z", " +00:00")
}

/// `10:MM:SS` of one day.
pub fn at(minutes: i64, seconds: i64) -> Timestamp {
    let day: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
    Timestamp(day.0 + (minutes * 60 + seconds) * 1_000_000)
}

/// A made-up archive with segments of 1 MiB: what each of them holds is told by its commits.
pub struct World {
    pub inventory: Inventory,
    commits: BTreeMap<SegmentName, Vec<Transaction>>,
}

pub fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

impl World {
    pub fn new() -> World {
        let size = SegmentSize::new(1 << 20).unwrap();
        World { inventory: Inventory::empty("main", SystemId(7), size), commits: BTreeMap::new() }
    }

    pub fn segments(mut self, timeline: u32, numbers: std::ops::RangeInclusive<u64>) -> World {
        for number in numbers {
            let size = self.inventory.segment_size;
            self.inventory.add_segment(SegmentName::from_number(tli(timeline), number, size));
        }
        self
    }

    pub fn history(mut self, timeline: u32, lines: &str) -> World {
        self.inventory.add_history(TimelineHistory::parse(tli(timeline), lines).unwrap());
        self
    }

    /// A backup from the beginning of a segment to its middle.
    pub fn backup(mut self, label: &str, timeline: u32, number: u64, time: Timestamp) -> World {
        let start = number << 20;
        self.inventory.add_backup(Backup {
            label: label.to_owned(),
            timeline: tli(timeline),
            start: Lsn(start + 40),
            stop: Lsn(start + 0x80000),
            start_time: Timestamp(time.0 - 10_000_000),
            stop_time: time,
            size_bytes: 3 << 30,
            stored_bytes: 1 << 30,
            parent: None,
            id: String::new(),
        });
        self
    }

    /// A commit in the last quarter of a segment; a second one a little behind the first.
    pub fn commit(mut self, timeline: u32, number: u64, xid: u32, time: Timestamp) -> World {
        let name = SegmentName::from_number(tli(timeline), number, self.inventory.segment_size);
        let commits = self.commits.entry(name).or_default();
        let lsn = Lsn((number << 20) + 0xC0000 + 0x1000 * commits.len() as u64);
        commits.push(Transaction { lsn, end: lsn + 0x28, time, xid, committed: true });
        self
    }

    fn facts(&self, segment: SegmentName) -> SegmentFacts {
        let size = self.inventory.segment_size;
        let commits = self.commits.get(&segment).map(Vec::as_slice).unwrap_or_default();
        let range = |values: Vec<i64>| Some((*values.iter().min()?, *values.iter().max()?));
        let times = range(commits.iter().map(|commit| commit.time.0).collect());
        let xids = range(commits.iter().map(|commit| commit.xid.into()).collect());
        SegmentFacts {
            first_record: Some(segment.start(size) + 40),
            last_record: Some(Lsn(segment.end(size).0 - 64)),
            times: times.map(|(low, high)| (Timestamp(low), Timestamp(high))),
            last_commit: commits.last().copied(),
            first_commit: commits.first().copied(),
            xids: xids.map(|(low, high)| (low as u32, high as u32)),
            restore_points: Vec::new(),
            // Written three seconds behind its last commit; a silent one by a clock of five minutes a segment.
            covers_until: Some(
                times.map_or(at(5 * segment.number(size) as i64, 0), |(_, high)| Timestamp(high + 3_000_000)),
            ),
            crossing: Crossing::None,
            crossing_xid: None,
        }
    }

    fn decoded(&self, segment: SegmentName) -> Decoded {
        let size = self.inventory.segment_size;
        let commits = self.commits.get(&segment).cloned().unwrap_or_default();
        let mut records = vec![segment.start(size) + 40];
        records.extend(commits.iter().map(|commit| commit.lsn));
        records.push(Lsn(segment.end(size).0 - 64));
        Decoded { records, transactions: commits, restore_points: Vec::new() }
    }

    /// Answers what a question needs to know until it settles.
    pub fn settle<T>(
        &self,
        ask: impl Fn(&Inventory, &Known) -> Result<T, Unsettled>,
    ) -> Result<T, highwater_catalog::Unreachable> {
        let mut known = Known::default();
        loop {
            match ask(&self.inventory, &known) {
                Ok(answer) => return Ok(answer),
                Err(Unsettled::Unreachable(reason)) => return Err(reason),
                Err(Unsettled::Need(Need::Facts(joints))) => {
                    joints.into_iter().for_each(|joint| known.add_facts(joint, self.facts(joint.segment)));
                }
                Err(Unsettled::Need(Need::Logs(_))) => panic!("no log is whole here"),
                Err(Unsettled::Need(Need::Records(joint))) => {
                    known.add_records(joint, self.decoded(joint.segment));
                }
            }
        }
    }
}
