//! Where PostgreSQL stops, as slow and plain as it can be said, and what a plan should therefore answer.

use super::wal::{Micros, Wal, What};

/// What to come back to.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Latest,
    Immediate,
    Time(Micros),
    Lsn(u64),
    Xid(u32),
    Name(String),
    BeforeXid(u32),
    BeforeDrop { table: String, last: bool },
}

/// A target, and what was said about the way to it.
#[derive(Debug, Clone)]
pub struct Request {
    pub target: Target,
    pub timeline: Option<u32>,
    pub exclusive: bool,
    pub backup: Option<String>,
}

/// A base backup.
#[derive(Debug, Clone)]
pub struct Backup {
    pub label: String,
    pub timeline: u32,
    pub start: u64,
    pub stop: u64,
    pub stop_time: Micros,
}

/// Where recovery ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    pub timeline: u32,
    pub backup: String,
    /// How many records of the path are applied, with those from before the backup.
    pub applied: usize,
}

/// Why there is no way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    TooEarly,
    TooLate,
    NotFound,
    SeveralNames,
    SeveralDrops,
    SeveralTimelines,
    OnOtherTimeline,
    /// A time behind the last end of a transaction: whether the archive covers it depends on when its files were written, by the
    /// machine's clock, and so does the answer.
    Unsure,
}

/// One cluster's archive.
#[derive(Debug)]
pub struct Model {
    /// The path to each timeline, in order.
    pub paths: Vec<(u32, Wal)>,
    /// In the order of their ends.
    pub backups: Vec<Backup>,
    /// On each path: which transaction dropped or truncated which table.
    pub droppers: Vec<(u32, Vec<(String, u32)>)>,
    /// On each path: the last moment of which the archive knows that nothing of it is still to come, as `window` tells it.
    pub covered: Vec<(u32, Micros)>,
}

/// PostgreSQL's own rule: `recoveryStopsBefore` and `recoveryStopsAfter`, xlogrecovery.c. How many records are applied, from
/// `from` on; `None` where the end of WAL comes first. `consistent` is the position from which on the cluster is.
fn stops(wal: &Wal, from: usize, consistent: u64, target: &Target, inclusive: bool) -> Option<usize> {
    for (index, record) in wal.records.iter().enumerate().skip(from) {
        let before = match (target, &record.what) {
            (Target::Immediate, _) => record.lsn >= consistent,
            (Target::Lsn(lsn), _) => !inclusive && record.lsn >= *lsn,
            (Target::Xid(wanted), What::End { xid, .. }) => !inclusive && xid == wanted,
            (Target::BeforeXid(wanted), What::End { xid, .. }) => xid == wanted,
            (Target::Time(wanted), What::End { time, .. }) if inclusive => time > wanted,
            (Target::Time(wanted), What::End { time, .. }) => time >= wanted,
            // There is no such target in PostgreSQL: the position of the point stands for it.
            (Target::Name(wanted), What::Point { name }) => !inclusive && name == wanted,
            _ => false,
        };
        if before {
            return Some(index);
        }
        let after = match (target, &record.what) {
            (Target::Lsn(lsn), _) => record.lsn >= *lsn,
            (Target::Xid(wanted), What::End { xid, .. }) => xid == wanted,
            (Target::Name(wanted), What::Point { name }) => name == wanted,
            _ => false,
        };
        if after {
            return Some(index + 1);
        }
    }
    None
}

impl Model {
    pub fn path(&self, timeline: u32) -> &Wal {
        let found = self.paths.iter().find(|(known, _)| *known == timeline);
        &found.expect("the timeline is known").1
    }

    /// The backups that lie on the path to a timeline, the newest first.
    pub fn backups_on(&self, timeline: u32) -> Vec<&Backup> {
        let legs = &self.path(timeline).legs;
        let is_on = |backup: &&Backup| {
            let leg = legs.iter().position(|(of, _)| *of == backup.timeline);
            leg.is_some_and(|leg| legs.get(leg + 1).is_none_or(|(_, left)| backup.stop <= *left))
        };
        self.backups.iter().rev().filter(is_on).collect()
    }

    /// No moment behind this one is covered by any means.
    fn latest(&self, timeline: u32) -> Micros {
        let covered = self.covered.iter().find(|(known, _)| *known == timeline).map(|(_, time)| *time);
        covered
            .into_iter()
            .chain(self.backups.iter().map(|backup| backup.stop_time))
            .max()
            .unwrap_or(Micros::MAX)
    }

    pub fn newest(&self) -> u32 {
        self.paths[self.paths.len() - 1].0
    }

    /// What a plan should answer.
    pub fn answer(&self, request: &Request) -> Result<Stop, Why> {
        let timeline = request.timeline.unwrap_or(self.newest());
        let found = self.along(timeline, request);
        if request.timeline.is_some() || !matches!(request.target, Target::Time(_)) {
            return found;
        }
        let others = self.paths.iter().map(|(other, _)| *other).filter(|other| *other != timeline);
        let answers: Vec<Result<Stop, Why>> = others.map(|other| self.along(other, request)).collect();
        if answers.contains(&Err(Why::Unsure)) {
            return Err(Why::Unsure);
        }
        let answers: Vec<Stop> = answers.into_iter().flatten().collect();
        match found {
            Err(Why::Unsure) => found,
            Err(_) if !answers.is_empty() => Err(Why::OnOtherTimeline),
            Ok(_) if answers.iter().any(|other| self.has_more(timeline, other)) => Err(Why::SeveralTimelines),
            found => found,
        }
    }

    /// Whether another timeline's answer has a commit behind the place where the two part.
    fn has_more(&self, timeline: u32, other: &Stop) -> bool {
        let wal = self.path(other.timeline);
        let from = wal.before(wal.parts_from(self.path(timeline)));
        let behind = wal.records.get(from..other.applied).unwrap_or_default();
        behind.iter().any(|record| matches!(record.what, What::End { committed: true, .. }))
    }

    fn along(&self, timeline: u32, request: &Request) -> Result<Stop, Why> {
        let wal = self.path(timeline);
        let is_wanted =
            |backup: &&Backup| request.backup.as_ref().is_none_or(|wanted| *wanted == backup.label);
        let backups: Vec<&Backup> = self.backups_on(timeline).into_iter().filter(is_wanted).collect();
        let target = self.settled(timeline, request, &backups)?;
        for backup in &backups {
            // A backup that ended later, by the clock or by the WAL, is not looked at.
            let ended = match target {
                Target::Time(time) => backup.stop_time <= time,
                Target::Lsn(lsn) => backup.stop <= lsn,
                _ => true,
            };
            if !ended {
                continue;
            }
            let from = wal.before(backup.start);
            let applied = match stops(wal, from, backup.stop, &target, !request.exclusive) {
                Some(applied) => applied,
                // PostgreSQL would end with an error here; what is meant is all that is archived.
                None => match target {
                    Target::Latest | Target::Immediate => wal.records.len(),
                    Target::Time(time) if time <= wal.last_end() => wal.records.len(),
                    Target::Time(time) if time <= self.latest(timeline) => return Err(Why::Unsure),
                    Target::Time(_) | Target::Lsn(_) => return Err(Why::TooLate),
                    _ => continue,
                },
            };
            if applied >= wal.before(backup.stop) {
                return Ok(Stop { timeline, backup: backup.label.clone(), applied });
            }
        }
        Err(Why::TooEarly)
    }

    /// The target, where what it names is there just once.
    fn settled(&self, timeline: u32, request: &Request, backups: &[&Backup]) -> Result<Target, Why> {
        let wal = self.path(timeline);
        let earliest = backups.iter().map(|backup| backup.start).min().unwrap_or(u64::MAX);
        let reachable = &wal.records[wal.before(earliest)..];
        let ended = |wanted: u32, from: usize| {
            let mut records = wal.records[from..].iter();
            records.any(|record| matches!(record.what, What::End { xid, .. } if xid == wanted))
        };
        match &request.target {
            Target::Xid(xid) if !ended(*xid, wal.before(earliest)) => Err(Why::NotFound),
            Target::BeforeXid(xid) if !ended(*xid, self.restorable(wal, request)) => Err(Why::NotFound),
            Target::Name(wanted) => {
                let is_it = |what: &What| matches!(what, What::Point { name } if name == wanted);
                match reachable.iter().filter(|record| is_it(&record.what)).count() {
                    0 => Err(Why::NotFound),
                    1 => Ok(request.target.clone()),
                    _ => Err(Why::SeveralNames),
                }
            }
            Target::BeforeDrop { table, last } => {
                let from = self.restorable(wal, request);
                let (_, droppers) = self.droppers.iter().find(|(of, _)| *of == timeline).expect("known");
                let dropped = |xid: u32| droppers.iter().any(|(name, by)| name == table && *by == xid);
                let found = wal.records[from..].iter().filter_map(|record| match record.what {
                    What::End { xid, committed: true, .. } if dropped(xid) => Some(xid),
                    _ => None,
                });
                let found: Vec<u32> = found.collect();
                match found.as_slice() {
                    [] => Err(Why::NotFound),
                    [only] => Ok(Target::BeforeXid(*only)),
                    [.., newest] if *last => Ok(Target::BeforeXid(*newest)),
                    _ => Err(Why::SeveralDrops),
                }
            }
            other => Ok(other.clone()),
        }
    }

    /// What a transaction did is looked for from where the first backup that serves is consistent.
    fn restorable(&self, wal: &Wal, request: &Request) -> usize {
        let serves = |backup: &&Backup| request.backup.as_ref().is_none_or(|wanted| *wanted == backup.label);
        let from = self.backups.iter().filter(serves).map(|backup| backup.stop).min();
        wal.before(from.unwrap_or(u64::MAX))
    }
}
