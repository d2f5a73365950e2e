//! Made-up histories, and what the repository would tell of them.

use highwater_wal::{Ancestor, SegmentName, SegmentSize, SystemId, TimelineHistory, Timestamp};
use proptest::prelude::*;

use super::super::*;
use crate::facts::{Crossing, Decoded, Joint, LogFacts, LogJoint, RestorePoint, SegmentFacts};

/// The largest segments there are: a log has four of them, so that a made-up history has several logs.
pub(crate) fn size() -> SegmentSize {
    SegmentSize::new(1 << 30).unwrap()
}

pub(crate) fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// What one record of the made-up WAL is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    End { time: i64, xid: u32, committed: bool },
    Point { time: i64, name: String },
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Rec {
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
    pub(crate) kind: Kind,
}

/// A made-up history: one timeline, or a second one that forks off it.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The records of each timeline along its own path, from the beginning.
    pub(crate) records: Vec<(TimelineId, Vec<Rec>)>,
    pub(crate) fork: Option<Lsn>,
    pub(crate) backups: Vec<Backup>,
    pub(crate) missing: Vec<SegmentName>,
    /// The clock only ever went forward.
    pub(crate) monotone: bool,
}

pub(crate) const FIRST_LSN: u64 = 1 << 30;

fn lay_out(kinds: &[(Kind, u64)], from: u64) -> Vec<Rec> {
    let mut at = from;
    let place = |(kind, length): &(Kind, u64)| {
        let rec = Rec { lsn: Lsn(at), end: Lsn(at + length), kind: kind.clone() };
        at += length;
        rec
    };
    kinds.iter().map(place).collect()
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => (0_i64..60, 1_u32..30, prop::bool::weighted(0.8))
            .prop_map(|(time, xid, committed)| Kind::End { time, xid, committed }),
        1 => (0_i64..60, 0_u8..4).prop_map(|(time, n)| Kind::Point { time, name: format!("p{n}") }),
        5 => Just(Kind::Other),
    ]
}

/// Records of 100 MiB to 1.5 GiB (lengths that no server writes) in segments of 1 GiB: many run over a segment's end, some over two.
fn kinds() -> impl Strategy<Value = Vec<(Kind, u64)>> {
    let length = (100_u64 << 20..1500 << 20).prop_map(|bytes| bytes & !7);
    prop::collection::vec((kind(), length), 4..26)
}

prop_compose! {
    pub(crate) fn world()(
        first in kinds(),
        second in kinds(),
        forked in any::<bool>(),
        fork_at in any::<prop::sample::Index>(),
        spans in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, any::<bool>(), 0_i64..60), 1..4),
        missing in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        // The promoted server is lost before any of its segments is archived.
        second_lost in prop::bool::weighted(0.15),
        // Most clocks only ever go forward.
        monotone in prop::bool::weighted(0.7),
    ) -> World {
        // Where two timelines share WAL no record lies in more than two segments: a joint of two tells where such a record goes on.
        let shorter = |kinds: Vec<(Kind, u64)>| -> Vec<(Kind, u64)> {
            kinds.into_iter().map(|(kind, length)| (kind, if forked { length.min(1 << 30) } else { length })).collect()
        };
        let (first, second) = (shorter(first), shorter(second));
        let mut old = lay_out(&first, FIRST_LSN);
        let fork_index = fork_at.index(old.len()).max(1);
        let fork = forked.then(|| old[fork_index].lsn);
        let mut records = Vec::new();
        if let Some(fork) = fork {
            let mut new = old[..fork_index].to_vec();
            new.extend(lay_out(&second, fork.0));
            if monotone {
                sort_times(&mut new);
                old[..fork_index].clone_from_slice(&new[..fork_index]);
                sort_times(&mut old[fork_index..]);
            }
            records.push((tli(1), old));
            records.push((tli(2), new));
        } else {
            if monotone {
                sort_times(&mut old);
            }
            records.push((tli(1), old));
        }
        let backups = spans.iter().enumerate().map(|(n, (at, span, on_second, stop_time))| {
            let (timeline, all) = &records[usize::from(*on_second).min(records.len() - 1)];
            let begin = at.index(all.len());
            let last = (begin + span).min(all.len() - 1);
            // The clock at the end of a backup is never before that of what ended in it.
            let seen = all[..=last].iter().filter_map(|rec| match rec.kind { Kind::End { time, .. } => Some(time), _ => None });
            let stop_time = if monotone { seen.max().unwrap_or(0) } else { *stop_time };
            let behind_fork = fork.is_none_or(|fork| all[begin].lsn >= fork);
            let timeline = if *timeline == tli(2) && !behind_fork { tli(1) } else { *timeline };
            let stop = match fork {
                Some(fork) if timeline == tli(1) && *on_second => all[last].end.min(fork),
                _ => all[last].end,
            };
            Backup {
                label: format!("b{n}"), timeline, start: all[begin].lsn, stop,
                start_time: Timestamp(0), stop_time: Timestamp(stop_time), size_bytes: 1, stored_bytes: 1, parent: None, id: String::new(),
            }
        }).collect();
        let mut world = World { records, fork, backups, missing: Vec::new(), monotone };
        let all = world.segments();
        world.missing = missing.iter().map(|index| all[index.index(all.len())]).collect();
        if second_lost {
            world.missing.extend(all.iter().filter(|segment| segment.timeline == tli(2)));
        }
        world
    }
}

fn sort_times(records: &mut [Rec]) {
    let mut latest = 0;
    for rec in records {
        if let Kind::End { time, .. } | Kind::Point { time, .. } = &mut rec.kind {
            latest = latest.max(*time);
            *time = latest;
        }
    }
}

impl World {
    pub(super) fn path(&self, timeline: TimelineId) -> Path {
        match self.fork {
            Some(fork) if timeline == tli(2) => Path::from_history(&self.history(fork)),
            _ => Path::root(timeline),
        }
    }

    fn history(&self, fork: Lsn) -> TimelineHistory {
        let ancestors =
            vec![Ancestor { timeline: tli(1), switch_point: fork, reason: "promoted".to_owned() }];
        TimelineHistory { timeline: tli(2), ancestors }
    }

    /// Every segment that the server wrote, each up to the end of its timeline's last whole segment.
    fn segments(&self) -> Vec<SegmentName> {
        let mut all = Vec::new();
        for (timeline, records) in &self.records {
            let path = self.path(*timeline);
            let last = records.last().unwrap().end.0 / size().bytes();
            for number in FIRST_LSN / size().bytes()..last.max(2) {
                let name = path.segment(number, size());
                if !all.contains(&name) {
                    all.push(name);
                }
            }
        }
        all
    }

    pub(crate) fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::empty("main", SystemId(1), size());
        for name in self.segments() {
            if !self.missing.contains(&name) {
                inventory.add_segment(name);
            }
        }
        if let Some(fork) = self.fork {
            inventory.add_history(self.history(fork));
        }
        for backup in &self.backups {
            inventory.add_backup(backup.clone());
        }
        inventory
    }

    pub(super) fn newest(&self) -> (TimelineId, &[Rec]) {
        let (timeline, records) = self.records.last().unwrap();
        (*timeline, records)
    }

    /// Answers a need the way the repository would.
    pub(crate) fn answer(&self, need: &Need, inventory: &Inventory, known: &mut Known) {
        match need {
            Need::Facts(joints) => {
                assert!(!joints.is_empty());
                for joint in joints {
                    assert!(!self.missing.contains(&joint.segment), "asked for a segment that is not there");
                    known.add_facts(*joint, self.facts(joint.segment));
                }
            }
            Need::Logs(joints) => {
                assert!(!joints.is_empty());
                for joint in joints {
                    known.add_log(*joint, self.log_facts(*joint));
                }
            }
            Need::Records(joint) => known.add_records(*joint, self.decoded(*joint, inventory)),
        }
    }

    fn of_timeline(&self, segment: SegmentName) -> &[Rec] {
        &self.records.iter().find(|(timeline, _)| *timeline == segment.timeline).unwrap().1
    }

    pub(crate) fn facts(&self, segment: SegmentName) -> SegmentFacts {
        let (start, end) = (segment.start(size()), segment.end(size()));
        let whole: Vec<&Rec> =
            self.of_timeline(segment).iter().filter(|rec| rec.lsn >= start && rec.end <= end).collect();
        let ends: Vec<Transaction> = whole.iter().filter_map(|rec| transaction(rec)).collect();
        let commits = || ends.iter().filter(|t| t.committed).copied();
        let points: Vec<RestorePoint> = whole.iter().filter_map(|rec| restore_point(rec)).collect();
        let over =
            self.of_timeline(segment).iter().find(|rec| rec.lsn >= start && rec.lsn < end && rec.end > end);
        let crossing = match over.map(|rec| (&rec.kind, rec.end.0 % 3)) {
            Some((Kind::End { time, .. }, 0)) => Crossing::Time(Timestamp(*time)),
            Some((Kind::End { .. } | Kind::Point { .. }, _)) | Some((_, 1)) => Crossing::Unknown,
            _ => Crossing::None,
        };
        let crossing_xid = match (crossing, over.map(|rec| (&rec.kind, rec.end.0 % 5))) {
            (Crossing::Time(_), Some((Kind::End { xid, .. }, 1..))) => Some(*xid),
            _ => None,
        };
        let times = || ends.iter().map(|t| t.time).chain(points.iter().map(|p| p.time));
        SegmentFacts {
            first_record: whole.first().map(|rec| rec.lsn),
            last_record: whole.last().map(|rec| rec.lsn),
            times: ends.iter().map(|t| t.time).min().zip(ends.iter().map(|t| t.time).max()),
            last_commit: commits().last(),
            first_commit: commits().next(),
            xids: ends.iter().map(|t| t.xid).min().zip(ends.iter().map(|t| t.xid).max()),
            covers_until: times().max(),
            restore_points: points,
            crossing,
            crossing_xid,
        }
    }

    /// The same of all segments of a log.
    fn log_facts(&self, joint: LogJoint) -> LogFacts {
        let names: Vec<SegmentName> = size()
            .numbers_of_log(joint.log)
            .map(|number| SegmentName::from_number(joint.timeline, number, size()))
            .collect();
        let missing = names.iter().find(|name| self.missing.contains(name));
        assert_eq!(missing, None, "asked for a log that is not whole");
        let facts: Vec<SegmentFacts> = names.iter().map(|name| self.facts(*name)).collect();
        let (last, inner) = facts.split_last().unwrap();
        let over_borders = || {
            inner.iter().filter_map(|facts| match facts.crossing {
                Crossing::Time(time) => Some((time, facts.crossing_xid)),
                _ => None,
            })
        };
        let is_clear = !inner.iter().any(|facts| facts.crossing == Crossing::Unknown)
            && over_borders().all(|(_, xid)| xid.is_some());
        let mut times: Vec<Timestamp> = over_borders().map(|(time, _)| time).collect();
        let mut xids: Vec<u32> = over_borders().filter_map(|(_, xid)| xid).collect();
        for of_segment in &facts {
            times.extend(of_segment.times.iter().flat_map(|(low, high)| [*low, *high]));
            xids.extend(of_segment.xids.iter().flat_map(|(low, high)| [*low, *high]));
        }
        let points = facts.iter().flat_map(|facts| &facts.restore_points).map(|point| point.name.clone());
        LogFacts {
            is_clear,
            has_commits: over_borders().next().is_some() || facts.iter().any(|f| f.last_commit.is_some()),
            times: times.iter().min().copied().zip(times.iter().max().copied()),
            xids: xids.iter().min().copied().zip(xids.iter().max().copied()),
            restore_points: Some(points.collect()).filter(|_| joint.log != 2),
            covers_until: facts
                .iter()
                .filter_map(|f| f.covers_until)
                .chain(over_borders().map(|o| o.0))
                .max(),
            crossing: last.crossing,
            crossing_xid: last.crossing_xid,
        }
    }

    fn decoded(&self, joint: Joint, inventory: &Inventory) -> Decoded {
        let Joint { segment, next } = joint;
        assert!(inventory.has(segment), "asked for a segment that is not there");
        let (start, end) = (segment.start(size()), segment.end(size()));
        let run = |next: SegmentName| inventory.segments_on(next.timeline)?.run_at(next.number(size()));
        let readable = next.map_or(end, |next| Lsn((run(next).unwrap() + 1) * size().bytes()));
        let here = || {
            let all = self.of_timeline(segment).iter();
            all.filter(move |rec| rec.lsn >= start && rec.lsn < end && rec.end <= readable)
        };
        Decoded {
            records: here().map(|rec| rec.lsn).collect(),
            transactions: here().filter_map(transaction).collect(),
            restore_points: here().filter_map(restore_point).collect(),
        }
    }

    pub(super) fn settle(&self, request: &Request) -> Result<Plan, Unreachable> {
        let inventory = self.inventory();
        let mut known = Known::default();
        for _ in 0..1000 {
            match plan(&inventory, request, &known) {
                Ok(plan) => return Ok(plan),
                Err(Unsettled::Unreachable(reason)) => return Err(reason),
                Err(Unsettled::Need(need)) => self.answer(&need, &inventory, &mut known),
            }
        }
        panic!("the plan does not settle");
    }

    /// The records that recovery from `backup` can read along the newest path.
    pub(super) fn readable(&self, backup: &Backup) -> Vec<&Rec> {
        let inventory = self.inventory();
        let (timeline, records) = self.newest();
        let run = self.path(timeline).run_from(&inventory, backup.start.0 / size().bytes());
        let until = Lsn(run.map_or(0, |last| last + 1) * size().bytes());
        records.iter().filter(|rec| rec.lsn >= backup.start && rec.end <= until).collect()
    }

    /// The commits (by LSN) that recovery by this plan applies, from the backup's start.
    pub(super) fn applied(&self, plan: &Plan) -> Vec<Lsn> {
        let stop = match plan.stop {
            Stop::Consistent => plan.backup.stop,
            Stop::Record { lsn, inclusive } => lsn + u64::from(inclusive),
        };
        let readable = self.readable(&plan.backup);
        if let Stop::Record { lsn, .. } = plan.stop {
            assert!(readable.iter().any(|rec| rec.lsn == lsn), "the stop is a record that recovery reads");
            assert!(stop > plan.backup.stop || lsn >= plan.backup.stop, "the stop is not before consistency");
        }
        readable.iter().filter(|rec| is_commit(rec) && rec.lsn < stop).map(|rec| rec.lsn).collect()
    }

    /// The commits that only timeline 1 has, as far as they can be read: those behind the fork.
    pub(super) fn left_behind(&self) -> Vec<&Rec> {
        let Some(fork) = self.fork else { return Vec::new() };
        let inventory = self.inventory();
        let is_archived = |rec: &&Rec| {
            let mut numbers = rec.lsn.0 / size().bytes()..=(rec.end.0 - 1) / size().bytes();
            numbers.all(|number| inventory.has(SegmentName::from_number(tli(1), number, size())))
        };
        let old = self.records[0].1.iter();
        old.filter(|rec| rec.lsn >= fork && is_commit(rec)).filter(is_archived).collect()
    }

    /// Backups that recovery could start from: on the newest path, with their own WAL.
    pub(super) fn usable(&self) -> Vec<&Backup> {
        let inventory = self.inventory();
        let path = self.path(self.newest().0);
        let mut usable: Vec<&Backup> =
            self.backups.iter().filter(|b| path.covers(b.timeline, b.stop)).collect();
        usable.retain(|b| {
            let run = path.run_from(&inventory, b.start.0 / size().bytes());
            run.is_some_and(|last| last >= (b.stop.0 - 1) / size().bytes())
        });
        usable.sort_by_key(|b| (std::cmp::Reverse(b.stop), std::cmp::Reverse(b.label.clone())));
        usable
    }
}

fn transaction(rec: &Rec) -> Option<Transaction> {
    match rec.kind {
        Kind::End { time, xid, committed } => {
            Some(Transaction { lsn: rec.lsn, end: rec.end, time: Timestamp(time), xid, committed })
        }
        _ => None,
    }
}

fn restore_point(rec: &Rec) -> Option<RestorePoint> {
    match &rec.kind {
        Kind::Point { time, name } => {
            Some(RestorePoint { lsn: rec.lsn, time: Timestamp(*time), name: name.clone() })
        }
        _ => None,
    }
}

pub(super) fn is_commit(rec: &Rec) -> bool {
    matches!(rec.kind, Kind::End { committed: true, .. })
}

pub(super) fn commits_while(records: &[&Rec], keep: impl Fn(&Rec) -> bool) -> Vec<Lsn> {
    records.iter().take_while(|rec| keep(rec)).filter(|rec| is_commit(rec)).map(|rec| rec.lsn).collect()
}
