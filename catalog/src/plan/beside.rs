//! Timelines that go on beside the path: what was written on them is in no answer along it.
//!
//! The timeline with the highest number is the one that was begun last, and not always the one that is lived on: somebody
//! takes over elsewhere while the cluster goes on, or an old primary comes back. Which one is meant only the person who
//! asks can say. So a time that several timelines reach with different commits is no answer but a question, and every
//! other plan says what it leaves out.

use highwater_wal::{Lsn, Timestamp};

use super::way::{Way, has_commits, runs_over};
use super::{Plan, Stop, Unsettled, along};
use crate::facts::{Crossing, Known, LogFacts, Transaction};
use crate::unreachable::OnTimeline;
use crate::{Inventory, Path, Request, Target, Unreachable};

/// A path that parts from another one, and has archived WAL of its own behind that point.
struct Beside {
    path: Path,
    from: Lsn,
}

/// What the path to the newest timeline was found to give, weighed against the timelines that go on beside it.
pub(super) fn weigh(
    inventory: &Inventory,
    path: &Path,
    request: &Request,
    known: &Known,
    found: Result<Plan, Unsettled>,
) -> Result<Plan, Unsettled> {
    match (found, &request.target) {
        (Ok(plan), Target::Time(time)) => weigh_time(inventory, path, request, known, plan, *time),
        (Ok(plan), _) => with_notes(inventory, path, known, plan),
        (Err(Unsettled::Unreachable(reason)), Target::Time(_)) => {
            Err(elsewhere(inventory, path, request, known, reason)?.into())
        }
        (Err(unsettled), _) => Err(unsettled),
    }
}

/// A time: the answers of the other timelines are compared by what is in them.
fn weigh_time(
    inventory: &Inventory,
    path: &Path,
    request: &Request,
    known: &Known,
    mut plan: Plan,
    time: Timestamp,
) -> Result<Plan, Unsettled> {
    let mut rivals = Vec::new();
    let mut left_out = Vec::new();
    for other in beside(inventory, path) {
        let way = Way { inventory, path: &other.path, request, known };
        match along(inventory, &other.path, request, known) {
            Ok(answer) => {
                if is_unseen(&way, other.from, &answer) || has_commit(&way, other.from, border(&answer))? {
                    rivals.push(on_timeline(&answer));
                }
            }
            Err(Unsettled::Unreachable(_)) => {
                let in_time = |at: Timestamp| if request.exclusive { at < time } else { at <= time };
                left_out.extend(last_commit(&way, other.from, in_time)?.map(|commit| (other, commit)));
            }
            Err(need) => return Err(need),
        }
    }
    if !rivals.is_empty() {
        let mut at = vec![on_timeline(&plan)];
        at.extend(rivals);
        return Err(Unreachable::SeveralTimelines { target: request.target.clone(), at }.into());
    }
    plan.notes.extend(notes(inventory, left_out));
    Ok(plan)
}

/// Any other target: what is behind the fork on another timeline is left out when the stop lies behind it, too. What is asked for as
/// the latest is meant to lie behind everything.
fn with_notes(inventory: &Inventory, path: &Path, known: &Known, mut plan: Plan) -> Result<Plan, Unsettled> {
    let mut left_out = Vec::new();
    let counts = |other: &Beside| plan.request.target == Target::Latest || other.from < border(&plan);
    for other in beside(inventory, path).into_iter().filter(counts) {
        let way = Way { inventory, path: &other.path, request: &plan.request, known };
        left_out.extend(last_commit(&way, other.from, |_| true)?.map(|commit| (other, commit)));
    }
    plan.notes.extend(notes(inventory, left_out));
    Ok(plan)
}

/// A time that the newest timeline does not reach, and another one may.
fn elsewhere(
    inventory: &Inventory,
    path: &Path,
    request: &Request,
    known: &Known,
    reason: Unreachable,
) -> Result<Unreachable, Unsettled> {
    let mut others = Vec::new();
    for other in beside(inventory, path) {
        match along(inventory, &other.path, request, known) {
            Ok(answer) => others.push(on_timeline(&answer)),
            Err(Unsettled::Unreachable(_)) => {}
            Err(need) => return Err(need),
        }
    }
    if others.is_empty() {
        return Ok(reason);
    }
    Ok(Unreachable::OnOtherTimeline { target: request.target.clone(), timeline: path.timeline(), others })
}

/// Where a timeline parts from a path, and the last commit on it that the path does not hold; `None` where there is none.
pub(crate) fn left_out_of(
    inventory: &Inventory,
    path: &Path,
    other: &Path,
    known: &Known,
) -> Result<Option<(Lsn, Transaction)>, Unsettled> {
    let Some(other) = parted(inventory, path, other.clone()) else { return Ok(None) };
    let request = Request::new(Target::Latest);
    let way = Way { inventory, path: &other.path, request: &request, known };
    Ok(last_commit(&way, other.from, |_| true)?.map(|commit| (other.from, commit)))
}

fn beside(inventory: &Inventory, path: &Path) -> Vec<Beside> {
    let others = inventory.timelines().into_iter().filter_map(|timeline| inventory.path(timeline));
    others.filter_map(|other| parted(inventory, path, other)).collect()
}

fn parted(inventory: &Inventory, path: &Path, other: Path) -> Option<Beside> {
    if other.timeline() == path.timeline() {
        return None;
    }
    let size = inventory.segment_size;
    let from = path.parts_from(&other);
    let first = other.next_from(inventory, from.0 / size.bytes())?;
    // A segment that both take holds nothing that only one of them has.
    (other.segment(first, size) != path.segment(first, size)).then_some(Beside { path: other, from })
}

/// The first LSN that a plan does not apply.
fn border(plan: &Plan) -> Lsn {
    match plan.stop {
        Stop::Consistent => plan.backup.stop,
        Stop::Record { lsn, inclusive } => lsn + u64::from(inclusive),
    }
}

/// Whether WAL between the fork and the backup of an answer is gone: nobody can say then that nothing was committed in it. Behind the
/// backup a plan has all.
fn is_unseen(way: &Way<'_>, from: Lsn, answer: &Plan) -> bool {
    let begins = way.first_number(&answer.backup);
    let fork = way.number(from);
    fork < begins && way.path.run_from(way.inventory, fork).is_none_or(|end| end + 1 < begins)
}

fn on_timeline(plan: &Plan) -> OnTimeline {
    OnTimeline { timeline: plan.timeline, last_commit: plan.last_before.map(|commit| commit.time) }
}

/// Whether any commit begins at or after `from` and before `border`, in what is archived.
fn has_commit(way: &Way<'_>, from: Lsn, border: Lsn) -> Result<bool, Unsettled> {
    if border <= from {
        return Ok(false);
    }
    let size = way.inventory.segment_size;
    for (first, last) in runs(way, way.number(from), way.number(Lsn(border.0 - 1))) {
        let mut next = way.skip(first, last, has_commits, runs_over)?;
        while next <= last {
            let number = next;
            let facts = way.facts(number, last)?;
            if facts.last_commit.is_none() && facts.crossing == Crossing::None {
                next = way.skip(number + 1, last, has_commits, runs_over)?;
                continue;
            }
            let segment = way.name(number);
            let is_inside = segment.start(size) >= from && segment.end(size) <= border;
            if is_inside && facts.last_commit.is_some() {
                return Ok(true);
            }
            let mut records = way.records(number)?.transactions.iter();
            if records.any(|t| t.committed && t.lsn >= from && t.lsn < border) {
                return Ok(true);
            }
            next = way.skip(number + 1, last, has_commits, runs_over)?;
        }
    }
    Ok(false)
}

/// The last commit, in WAL order, at or after `from` whose time counts.
fn last_commit(
    way: &Way<'_>,
    from: Lsn,
    counts: impl Fn(Timestamp) -> bool,
) -> Result<Option<Transaction>, Unsettled> {
    let mut runs = runs(way, way.number(from), u64::MAX);
    runs.reverse();
    let over = |crossing: Crossing, _| match crossing {
        Crossing::None => false,
        Crossing::Time(at) => counts(at),
        Crossing::Unknown => true,
    };
    let in_log = |log: &LogFacts| log.has_commits && log.times.is_none_or(|(earliest, _)| counts(earliest));
    for (first, last) in runs {
        let mut next = Some(last);
        while let Some(number) = next {
            let Some(number) = way.skip_back(number, first, in_log, over)? else { break };
            let facts = way.facts(number, first)?;
            let inside =
                facts.last_commit.is_some() && facts.times.is_none_or(|(earliest, _)| counts(earliest));
            if inside || over(facts.crossing, None) {
                let found = way.records(number)?.transactions.iter().rev();
                let counts = |t: &Transaction| t.committed && t.lsn >= from && counts(t.time);
                if let Some(commit) = found.copied().find(counts) {
                    return Ok(Some(commit));
                }
            }
            next = number.checked_sub(1).filter(|number| *number >= first);
        }
    }
    Ok(None)
}

/// The unbroken runs of archived segments between two numbers.
fn runs(way: &Way<'_>, first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut at = first;
    while let Some(begin) = way.path.next_from(way.inventory, at).filter(|begin| *begin <= last) {
        let end = way.path.run_from(way.inventory, begin).unwrap_or(begin);
        runs.push((begin, end.min(last)));
        at = end + 1;
    }
    runs
}

/// One note for each timeline; none for one whose commits another of them has as well.
fn notes(inventory: &Inventory, left_out: Vec<(Beside, Transaction)>) -> Vec<String> {
    let goes_further = |one: &Beside, commit: &Transaction| {
        left_out.iter().any(|(other, _)| {
            other.path.timeline() > one.path.timeline() && one.path.parts_from(&other.path) > commit.lsn
        })
    };
    let kept = left_out.iter().filter(|(other, commit)| !goes_further(other, commit));
    kept.map(|(other, commit)| note(inventory, other, commit)).collect()
}

fn note(inventory: &Inventory, other: &Beside, commit: &Transaction) -> String {
    let timeline = other.path.timeline();
    let way_there = match inventory.backups.iter().any(|b| other.path.covers(b.timeline, b.stop)) {
        true => format!("--timeline {timeline} has them"),
        false => "no backup leads to them".to_owned(),
    };
    format!(
        "timeline {timeline} goes on beside this one from {}: its commits up to {} are left out; {way_there}",
        other.from, commit.time
    )
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::super::tests::{Kind, Rec, World, size, tli};
    use super::*;
    use crate::Backup;

    /// Timeline 2 leaves 1 in segment 2; an old primary goes on, and has a backup in segment 5. `commit` is the segment of its one
    /// commit behind the fork.
    fn world(commit: Option<u64>, missing: &[u64]) -> World {
        let at = |number: u64| number * size().bytes();
        let other =
            |number: u64| Rec { lsn: Lsn(at(number) + 40), end: Lsn(at(number + 1)), kind: Kind::Other };
        let end = |number: u64, time: i64| Rec {
            kind: Kind::End { time, xid: 5, committed: true },
            ..other(number)
        };
        let shared = || vec![end(1, 10)];
        let rolled_back = Rec { kind: Kind::End { time: 60, xid: 9, committed: false }, ..other(7) };
        let old = (2..8).map(|number| match number {
            7 => rolled_back.clone(),
            _ if commit == Some(number) => end(number, 20),
            _ => other(number),
        });
        let new = (2..8).map(|number| if number == 7 { end(number, 90) } else { other(number) });
        let backup = |label: &str, timeline: u32, number: u64, time: i64| Backup {
            label: label.to_owned(),
            timeline: tli(timeline),
            start: Lsn(at(number) + 40),
            stop: Lsn(at(number + 1)),
            start_time: Timestamp(time),
            stop_time: Timestamp(time),
            size_bytes: 1,
            stored_bytes: 1,
            parent: None,
            id: String::new(),
        };
        World {
            records: vec![
                (tli(1), shared().into_iter().chain(old).collect()),
                (tli(2), shared().into_iter().chain(new).collect()),
            ],
            fork: Some(Lsn(at(2) + 40)),
            backups: vec![backup("shared", 1, 1, 10), backup("old", 1, 5, 40)],
            missing: missing
                .iter()
                .map(|number| highwater_wal::SegmentName::from_number(tli(1), *number, size()))
                .collect(),
            monotone: true,
        }
    }

    #[test]
    fn a_time_is_a_question_also_where_the_other_branch_has_lost_the_wal_behind_the_fork() {
        let ask = |world: &World| {
            let (inventory, mut known) = (world.inventory(), Known::default());
            for _ in 0..100 {
                match plan(&inventory, &Request::new(Target::Time(Timestamp(50))), &known) {
                    Err(Unsettled::Need(need)) => world.answer(&need, &inventory, &mut known),
                    Err(Unsettled::Unreachable(reason)) => return Err(reason),
                    Ok(plan) => return Ok(plan.timeline),
                }
            }
            panic!("it does not settle");
        };
        let timelines = |reason: Unreachable| match reason {
            Unreachable::SeveralTimelines { at, .. } => {
                at.iter().map(|on| on.timeline.get()).collect::<Vec<u32>>()
            }
            other => panic!("{other}"),
        };
        assert_eq!(ask(&world(None, &[])), Ok(tli(2)), "nothing was committed on the other");
        assert_eq!(timelines(ask(&world(Some(4), &[])).unwrap_err()), [2, 1]);
        assert_eq!(timelines(ask(&world(Some(3), &[3, 4])).unwrap_err()), [2, 1]);
        assert_eq!(
            timelines(ask(&world(None, &[2])).unwrap_err()),
            [2, 1],
            "nobody can say that there was none"
        );
        assert_eq!(
            ask(&world(None, &[6])),
            Ok(tli(2)),
            "behind the backup nothing is gone that its plan needs"
        );
    }
}
