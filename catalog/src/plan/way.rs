//! The way along one path of timelines: what is known of its segments, and the plan that comes out of it.

use std::ops::RangeInclusive;

use highwater_wal::{Lsn, SegmentName};

use super::{Plan, Replay, SegmentRun, Stop, TimelineStep, Unsettled, clock};
use crate::facts::{Crossing, Decoded, Joint, Known, LogFacts, LogJoint, Need, SegmentFacts, Transaction};
use crate::unreachable::{Hole, Unreached};
use crate::{Backup, Fork, Inventory, Path, Request, Target, Unreachable};

/// How many summaries are asked for in one go. They are read side by side, so too few would wait for one another and too
/// many would read what is never looked at.
const FACTS_AT_ONCE: u64 = 64;
/// The same for logs.
const LOGS_AT_ONCE: usize = 64;

/// One question, along one path.
pub(super) struct Way<'a> {
    pub inventory: &'a Inventory,
    pub path: &'a Path,
    pub request: &'a Request,
    pub known: &'a Known,
}

/// A stop that was found.
pub(super) struct Found<'a> {
    pub backup: &'a Backup,
    pub stop: Stop,
    /// The last segment number that recovery has to read.
    pub last_segment: u64,
    /// The last segment number of the unbroken run that the stop lies in.
    pub run_end: u64,
}

impl<'a> Way<'a> {
    pub fn target(&self) -> Target {
        self.request.target.clone()
    }

    /// The number of the segment that holds the byte at `lsn`.
    pub fn number(&self, lsn: Lsn) -> u64 {
        lsn.0 / self.inventory.segment_size.bytes()
    }

    pub fn name(&self, number: u64) -> SegmentName {
        self.path.segment(number, self.inventory.segment_size)
    }

    /// The number of the first segment that recovery from a backup reads.
    pub fn first_number(&self, backup: &Backup) -> u64 {
        self.number(backup.start)
    }

    /// The last number of the unbroken run that begins with the backup's own WAL.
    ///
    /// # Errors
    /// Where the run does not even reach the backup's stop.
    pub fn run(&self, backup: &Backup) -> Result<u64, Unreachable> {
        let first = self.first_number(backup);
        let needed = self.number(Lsn(backup.stop.0.saturating_sub(1)));
        match self.path.run_from(self.inventory, first) {
            Some(last) if last >= needed => Ok(last),
            reached => {
                let missing_from = reached.map_or(first, |last| last + 1);
                let next = self.path.next_from(self.inventory, missing_from).unwrap_or(needed + 1);
                let hole = self.hole(missing_from, next.min(needed + 1));
                Err(Unreachable::BackupWithoutWal { backup: backup.label.clone(), hole })
            }
        }
    }

    /// The hole behind the last segment of a run, if later segments exist on the path, or the repository is known to have had more.
    pub fn hole_after(&self, last: u64) -> Option<Hole> {
        let from = self.inventory.unfinished_end(self.name(last));
        let first = if from.is_some() { last } else { last + 1 };
        if let Some(next) = self.path.next_from(self.inventory, last + 1) {
            return Some(Hole { from, ..self.hole(first, next) });
        }
        let name = self.name(last);
        let lost =
            self.inventory.lost_end(name.timeline).filter(|_| name.timeline == self.path.timeline())?;
        let until = self.number(Lsn(lost.known.0.saturating_sub(1)));
        Some(Hole { from, was_there_until: Some(lost.known), ..self.hole(first, until + 1) })
    }

    /// The same, and what else proves that the timeline went on behind the run: a server that comes there is refused (R6).
    pub fn hole_behind(&self, last: u64) -> Option<Hole> {
        self.hole_after(last).or_else(|| self.went_on(last))
    }

    /// What is missing behind a run by what is no segment: another timeline left this one further on, or a `.partial` file lies there.
    pub fn went_on(&self, last: u64) -> Option<Hole> {
        let name = self.name(last);
        let from = self.inventory.unfinished_end(name);
        let first = if from.is_some() { last } else { last + 1 };
        let shown = self.inventory.went_on_behind(name)?;
        Some(Hole { from, ..self.hole(first, self.number(shown)) })
    }

    /// Where the WAL that is there ends in the last segment of a run.
    pub fn end_of(&self, last: u64) -> Lsn {
        self.inventory.end_of(self.name(last))
    }

    /// The segment behind another one, where it is there and nothing is missing between the two.
    fn next(&self, number: u64) -> Option<SegmentName> {
        let is_all = self.inventory.unfinished_end(self.name(number)).is_none();
        Some(self.name(number + 1)).filter(|next| is_all && self.inventory.has(*next))
    }

    /// The first fork on the path that a run does not reach, if there is one. The timeline's history proves that there was WAL up to it.
    pub fn unreached(&self, last: u64) -> Option<Unreached> {
        let reached = self.end_of(last);
        let legs = self.path.legs();
        let at = legs.iter().position(|leg| leg.begin > reached)?;
        let on_path = |partial: &SegmentName| self.path.leg(partial.timeline).is_some();
        Some(Unreached {
            timeline: legs[at].timeline,
            parent: legs[at.saturating_sub(1)].timeline,
            fork: legs[at].begin,
            reached,
            missing: self.name(last + 1),
            partial: self.inventory.partials_of(last + 1).find(on_path),
        })
    }

    fn hole(&self, first: u64, next: u64) -> Hole {
        let last = next.saturating_sub(1).max(first);
        Hole::of(self.name(first), self.name(last), last - first + 1)
    }

    fn joint(&self, number: u64) -> Joint {
        Joint { segment: self.name(number), next: self.next(number) }
    }

    /// What the summary of a segment says. Reading runs from `number` towards `towards`, so its neighbours that way are
    /// asked for with it.
    pub fn facts(&self, number: u64, towards: u64) -> Result<&'a SegmentFacts, Unsettled> {
        if let Some(facts) = self.known.facts(self.joint(number)) {
            return Ok(facts);
        }
        let (first, last) = if towards >= number {
            (number, towards.min(number + FACTS_AT_ONCE - 1))
        } else {
            (towards.max(number.saturating_sub(FACTS_AT_ONCE - 1)), number)
        };
        let joints = (first..=last).map(|n| self.joint(n));
        Err(Unsettled::Need(Need::Facts(joints.filter(|joint| self.known.facts(*joint).is_none()).collect())))
    }

    /// Where a search that runs forward has to look next: `number`, or the first number behind it, up to `last`, in a log that may
    /// hold what is wanted; `last + 1` where there is none. `inside` says whether a log may, `over` whether
    /// the record that runs over its end may be it.
    pub fn skip(
        &self,
        number: u64,
        last: u64,
        inside: impl Fn(&LogFacts) -> bool,
        over: impl Fn(Crossing, Option<u32>) -> bool,
    ) -> Result<u64, Unsettled> {
        let mut at = number;
        while at <= last {
            let Some(joint) = self.log_joint(at, at..=last) else { return Ok(at) };
            let facts = self.log_facts(joint, last)?;
            if !facts.is_clear || inside(facts) {
                return Ok(at);
            }
            let log_end = *self.inventory.segment_size.numbers_of_log(joint.log).end();
            if log_end <= last && over(facts.crossing, facts.crossing_xid) {
                return Ok(log_end);
            }
            at = log_end + 1;
        }
        Ok(last + 1)
    }

    /// The same for a search that runs backward, from `number` down to `first`; `None` where there is no such log.
    pub fn skip_back(
        &self,
        number: u64,
        first: u64,
        inside: impl Fn(&LogFacts) -> bool,
        over: impl Fn(Crossing, Option<u32>) -> bool,
    ) -> Result<Option<u64>, Unsettled> {
        let mut at = number;
        loop {
            let Some(joint) = self.log_joint(at, first..=at) else { return Ok(Some(at)) };
            let facts = self.log_facts(joint, first)?;
            let (log_begin, log_end) = self.inventory.segment_size.numbers_of_log(joint.log).into_inner();
            let is_at_end = at == log_end;
            if !facts.is_clear || inside(facts) || (is_at_end && over(facts.crossing, facts.crossing_xid)) {
                return Ok(Some(at));
            }
            if log_begin <= first {
                return Ok(None);
            }
            at = log_begin - 1;
        }
    }

    /// The log that the segment of a number lies in, where all of it is there, and the path takes what it takes of it within `range`,
    /// and the segment behind that, from one timeline.
    fn log_joint(&self, number: u64, range: RangeInclusive<u64>) -> Option<LogJoint> {
        let SegmentName { timeline, log, .. } = self.name(number);
        let (begin, end) = self.inventory.segment_size.numbers_of_log(log).into_inner();
        let from = begin.max(*range.start());
        let until = end.min(range.end().saturating_add(1));
        let is_of_one = self.name(from).timeline == timeline && self.name(until).timeline == timeline;
        if !is_of_one || !self.inventory.has_whole_log(timeline, log) {
            return None;
        }
        let next = Some(self.name(end + 1)).filter(|next| self.inventory.has(*next));
        Some(LogJoint { timeline, log, next })
    }

    /// What is known of a log. Reading runs towards the number `towards`, so those that follow are asked for with it.
    fn log_facts(&self, joint: LogJoint, towards: u64) -> Result<&'a LogFacts, Unsettled> {
        if let Some(facts) = self.known.log(joint) {
            return Ok(facts);
        }
        let mut wanted = vec![joint];
        let mut log = joint.log;
        let last = self.name(towards).log;
        while log != last && wanted.len() < LOGS_AT_ONCE {
            log = if last > log { log + 1 } else { log - 1 };
            let number = *self.inventory.segment_size.numbers_of_log(log).start();
            wanted.extend(self.log_joint(number, number..=number));
        }
        wanted.retain(|joint| self.known.log(*joint).is_none());
        Err(Unsettled::Need(Need::Logs(wanted)))
    }

    /// The records that begin in a segment.
    pub fn records(&self, number: u64) -> Result<&'a Decoded, Unsettled> {
        let joint = self.joint(number);
        self.known.records(joint).ok_or(Unsettled::Need(Need::Records(joint)))
    }

    /// The last commit that begins before `before`, looking back to the backup's start.
    pub fn commit_before(
        &self,
        backup: &Backup,
        before: Lsn,
        run_end: u64,
    ) -> Result<Option<Transaction>, Unsettled> {
        let first = self.first_number(backup);
        let mut number = self.number(before).min(run_end);
        loop {
            let found = self.skip_back(number, first, has_commits, runs_over)?;
            let Some(at) = found.filter(|at| *at >= first) else { return Ok(None) };
            number = at;
            let facts = self.facts(number, first)?;
            let whole = self.name(number).end(self.inventory.segment_size) <= before;
            // Of a segment that ends before the stop the summary tells the last commit. The records tell it inside the
            // stop's own segment and where a record that may be a commit runs over the segment's end.
            let commit = match (facts.last_commit, facts.crossing) {
                (None, Crossing::None) => None,
                (Some(last), Crossing::None) if whole => Some(last),
                _ => self
                    .records(number)?
                    .transactions
                    .iter()
                    .rev()
                    .find(|t| t.committed && t.lsn < before)
                    .copied(),
            };
            if let Some(commit) = commit {
                return Ok(Some(commit).filter(|commit| commit.lsn >= backup.start));
            }
            if number == first {
                return Ok(None);
            }
            number -= 1;
        }
    }

    /// The first commit that begins at or after `from`, up to the end of the run.
    pub fn commit_from(&self, from: Lsn, run_end: u64) -> Result<Option<Transaction>, Unsettled> {
        let mut number = self.skip(self.number(from), run_end, has_commits, runs_over)?;
        while number <= run_end {
            let facts = self.facts(number, run_end)?;
            if facts.last_commit.is_some() || facts.crossing != Crossing::None {
                let decoded = self.records(number)?;
                if let Some(commit) = decoded.transactions.iter().find(|t| t.committed && t.lsn >= from) {
                    return Ok(Some(*commit));
                }
            }
            number = self.skip(number + 1, run_end, has_commits, runs_over)?;
        }
        Ok(None)
    }

    /// The plan that leads to a stop.
    pub fn finish(&self, found: Found<'_>) -> Result<Plan, Unsettled> {
        let Found { backup, stop, last_segment, run_end } = found;
        // The first LSN that is not applied.
        let border = match stop {
            Stop::Consistent => backup.stop,
            Stop::Record { lsn, inclusive } => lsn + u64::from(inclusive),
        };
        let wal = self.runs(self.first_number(backup), last_segment);
        let segments = wal.iter().map(|run| run.segments).sum();
        let last_before = self.commit_before(backup, border, run_end)?;
        let first_after = self.commit_from(border, run_end)?;
        let clock = clock::step(self, border, run_end, last_before, first_after)?;
        let history = self.inventory.history(self.path.timeline());
        let steps = history.map(Fork::steps).unwrap_or_default();
        let to = match stop {
            Stop::Consistent => backup.stop,
            Stop::Record { lsn, .. } => lsn,
        };
        Ok(Plan {
            request: self.request.clone(),
            timeline: self.path.timeline(),
            path: self.path.legs().to_vec(),
            steps: steps.into_iter().map(|(began, fork)| TimelineStep { began, fork }).collect(),
            backup: backup.clone(),
            wal,
            segments,
            wal_bytes: segments * self.inventory.segment_size.bytes(),
            replay: Replay { from: backup.start, to, bytes: to.0.saturating_sub(backup.start.0) },
            stop,
            last_before,
            first_after,
            clock,
            in_pieces: self.inventory.unfinished_end(self.name(run_end)),
            hole_behind: self.hole_behind(run_end),
            notes: Vec::new(),
        })
    }

    /// The segments from `first` to `last`, one run for each timeline.
    fn runs(&self, first: u64, last: u64) -> Vec<SegmentRun> {
        let mut runs: Vec<SegmentRun> = Vec::new();
        for name in (first..=last).map(|number| self.name(number)) {
            match runs.last_mut() {
                Some(run) if run.last.timeline == name.timeline => {
                    run.last = name;
                    run.segments += 1;
                }
                _ => runs.push(SegmentRun { first: name, last: name, segments: 1 }),
            }
        }
        runs
    }
}

/// Whether a commit may lie in a log.
pub(super) fn has_commits(log: &LogFacts) -> bool {
    log.has_commits
}

/// Whether the record that runs over the end of a log may be one of interest.
pub(super) fn runs_over(crossing: Crossing, _: Option<u32>) -> bool {
    crossing != Crossing::None
}
