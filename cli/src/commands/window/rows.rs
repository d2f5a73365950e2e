//! What happened on the timelines, in the order of the WAL: the lines of the drawing.

use highwater_catalog::{Branch, Hole, Inventory};
use highwater_wal::{Lsn, SegmentName, TimelineId, Timestamp};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub lsn: Lsn,
    pub timeline: TimelineId,
    pub time: Option<Timestamp>,
    pub what: What,
}

/// What happened there. In the order in which lines of one LSN stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The timeline's WAL begins, as far as it is archived; with the text.
    Begin(String),
    /// It left another one; with why.
    Fork(TimelineId, String),
    /// The end of a backup.
    Backup(String),
    /// A backup that cannot be used.
    BrokenBackup(String),
    /// A backup that a verification has found damaged.
    DoubtedBackup(String),
    /// Its last commit: the transaction.
    LastCommit(u32),
    /// Segments are missing from here.
    Hole(String),
    /// The end of its archived WAL.
    End,
}

/// All lines, in the order of the WAL.
pub fn rows(inventory: &Inventory, branches: &[Branch]) -> Vec<Row> {
    let forks = |timeline| {
        let parents = branches.iter().filter_map(|branch| branch.parent.as_ref());
        parents.filter(move |fork| fork.timeline == timeline).map(|fork| fork.lsn).max()
    };
    let of = |branch: &Branch| rows_of(inventory, branch, forks(branch.timeline));
    let mut rows: Vec<Row> = branches.iter().flat_map(of).collect();
    rows.sort_by(|one, other| {
        let key = |row: &Row| (row.lsn, row.what.clone(), row.timeline);
        key(one).cmp(&key(other))
    });
    rows
}

/// The lines of one timeline itself, without its ancestors. `left_at` is where the last of its children left it: a timeline whose WAL
/// goes no further lives on in that child, and has no end of its own.
fn rows_of(inventory: &Inventory, branch: &Branch, left_at: Option<Lsn>) -> Vec<Row> {
    let timeline = branch.timeline;
    let size = inventory.segment_size;
    let row = |lsn, time, what| Row { lsn, timeline, time, what };
    let segments = inventory.segments_on(timeline);
    let runs: Vec<_> = segments.map(|set| set.runs().collect()).unwrap_or_default();
    let at = |number: u64| SegmentName::from_number(timeline, number, size);
    let hole = |first: u64, last: u64| {
        let hole = Hole::of(at(first), at(last), last - first + 1);
        row(at(first).start(size), None, What::Hole(hole.to_string()))
    };

    let mut rows = Vec::new();
    let begin = branch.parent.as_ref().map(|fork| fork.lsn);
    match &branch.parent {
        Some(fork) => rows.push(row(fork.lsn, None, What::Fork(fork.timeline, fork.to_string()))),
        None => {
            let (lsn, text) = match runs.first() {
                Some(run) => (at(*run.start()).start(size), "archived from here"),
                None => (Lsn(0), "nothing of it is archived"),
            };
            rows.push(row(lsn, None, What::Begin(text.to_owned())));
        }
    }
    if let (Some(fork), Some(first)) = (begin, runs.first()) {
        let number = fork.0 / size.bytes();
        if number < *first.start() {
            // What is missing of the segment that it began in counts from there.
            let missing = hole(number, first.start() - 1);
            rows.push(Row { lsn: missing.lsn.max(fork), ..missing });
        }
    }
    for pair in runs.windows(2) {
        if inventory.unfinished_end(at(*pair[0].end())).is_none() {
            rows.push(hole(pair[0].end() + 1, pair[1].start() - 1));
        }
    }
    // Those that begin inside a segment, and what was there behind the last one.
    let holes = branch.windows.iter().filter_map(|window| Some((window.until, window.hole_after.as_ref()?)));
    let holes = holes.filter(|(_, hole)| hole.first.timeline == timeline);
    for (until, hole) in holes.filter(|(_, hole)| hole.from.is_some() || hole.was_there_until.is_some()) {
        rows.push(row(until, None, What::Hole(hole.to_string())));
    }
    for backup in inventory.backups.iter().filter(|backup| backup.timeline == timeline) {
        let is_broken = branch.broken.iter().any(|broken| broken.backup == backup.label);
        let is_doubted = branch.doubted.iter().any(|doubted| doubted.backup == backup.label);
        let what = match (is_broken, is_doubted) {
            (true, _) => What::BrokenBackup,
            (false, true) => What::DoubtedBackup,
            (false, false) => What::Backup,
        };
        rows.push(row(backup.stop, Some(backup.stop_time), what(backup.label.clone())));
    }
    if let (Some(archived), Some(left)) = (runs.last().map(|run| *run.end()), left_at) {
        let fork = left.0 / size.bytes();
        if archived < fork {
            rows.extend((archived + 1 < fork).then(|| hole(archived + 1, fork - 1)));
            return rows;
        }
    }
    let last = branch.windows.last();
    let own = |lsn: Lsn| begin.is_none_or(|begin| lsn >= begin);
    if let Some(commit) = last.and_then(|window| window.last_commit).filter(|commit| own(commit.lsn)) {
        rows.push(row(commit.lsn, Some(commit.time), What::LastCommit(commit.xid)));
    }
    if let Some(run) = runs.last() {
        let end = inventory.end_of(at(*run.end()));
        let time = last.filter(|window| window.until == end).map(|window| window.until_time);
        rows.push(row(end, time, What::End));
    }
    rows
}
