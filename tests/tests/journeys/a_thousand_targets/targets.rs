//! Targets by chance, around what has happened.

use highwater_wal::Timestamp;

use super::branch::TABLES;
use super::history::History;
use super::model::{Request, Target, Why};
use super::random::Random;
use super::wal::{self, Micros, What};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Latest,
    Immediate,
    Time,
    Lsn,
    Xid,
    Name,
    BeforeXid,
    BeforeDrop,
}

const KINDS: [(u64, Kind); 8] = [
    (1, Kind::Latest),
    (1, Kind::Immediate),
    (9, Kind::Time),
    (5, Kind::Lsn),
    (5, Kind::Xid),
    (3, Kind::Name),
    (3, Kind::BeforeXid),
    (4, Kind::BeforeDrop),
];

/// The name of a target's kind.
pub fn kind(target: &Target) -> &'static str {
    match target {
        Target::Latest => "latest",
        Target::Immediate => "immediate",
        Target::Time(_) => "time",
        Target::Lsn(_) => "lsn",
        Target::Xid(_) => "xid",
        Target::Name(_) => "name",
        Target::BeforeXid(_) => "before-xid",
        Target::BeforeDrop { .. } => "before-drop",
    }
}

/// A request: most of them for something that can be reached.
pub fn choose(history: &History, random: &mut Random) -> Request {
    // Of the few for which the model has no answer each is followed by others.
    loop {
        let request = any(history, random);
        if history.model.answer(&request) != Err(Why::Unsure) {
            return request;
        }
    }
}

fn any(history: &History, random: &mut Random) -> Request {
    let model = &history.model;
    let asked = [1, 2, 3][random.below(3) as usize];
    let timeline = (!random.one_in(4)).then_some(asked);
    let followed = timeline.unwrap_or(model.newest());
    let target = target(history, followed, random);
    let has_exclusive = matches!(target, Target::Time(_) | Target::Lsn(_) | Target::Xid(_) | Target::Name(_));
    let backups = model.backups_on(followed);
    let backup = random.pick(&backups).filter(|_| random.one_in(8)).map(|backup| backup.label.clone());
    Request { target, timeline, exclusive: has_exclusive && random.one_in(3), backup }
}

fn target(history: &History, timeline: u32, random: &mut Random) -> Target {
    let (wal, known) = (history.model.path(timeline), history.known(timeline));
    // Behind the first backup, but for a few.
    let from = wal.before(history.model.backups[0].stop).saturating_sub(20);
    let records = &wal.records[from..];
    match random.weighted(&KINDS) {
        Kind::Latest => Target::Latest,
        Kind::Immediate => Target::Immediate,
        Kind::Time => Target::Time(time(records, random)),
        Kind::Lsn => {
            let record = random.pick(records).expect("there are records");
            Target::Lsn(record.lsn + [0, 0, 1, 8][random.below(4) as usize])
        }
        kind @ (Kind::Xid | Kind::BeforeXid) => {
            let ended: Vec<u32> = records.iter().filter_map(ended).collect();
            // Subtransactions that were released and transactions that are open have no end.
            let from = if random.one_in(6) { &known.xids } else { &ended };
            let xid = *random.pick(from).expect("there are transactions");
            if matches!(kind, Kind::Xid) { Target::Xid(xid) } else { Target::BeforeXid(xid) }
        }
        Kind::Name => {
            let found = random.pick(&known.points).cloned();
            Target::Name(found.unwrap_or_else(|| "nowhere".to_owned()))
        }
        Kind::BeforeDrop => {
            let table = random.pick(&TABLES).expect("there are tables");
            Target::BeforeDrop { table: (*table).to_owned(), last: !random.one_in(4) }
        }
    }
}

fn ended(record: &wal::Record) -> Option<u32> {
    match record.what {
        What::End { xid, .. } => Some(xid),
        _ => None,
    }
}

/// The time at which some transaction ended, a microsecond beside it, or any between the first and the last.
fn time(records: &[wal::Record], random: &mut Random) -> Micros {
    let times = records.iter().filter_map(|record| match record.what {
        What::End { time, .. } => Some(time),
        _ => None,
    });
    let times: Vec<Micros> = times.collect();
    match random.below(4) {
        0 => {
            let (low, high) = (times.iter().min(), times.iter().max());
            let margin = 2_000_000;
            random.between(low.expect("there are ends") - margin, high.expect("there are ends") + margin)
        }
        _ => random.pick(&times).expect("there are ends") + random.between(-1, 1),
    }
}

/// As it stands on the command line of `plan` and `restore`.
pub fn arguments(request: &Request) -> Vec<String> {
    let mut arguments = match &request.target {
        Target::Latest => vec!["--latest".to_owned()],
        Target::Immediate => vec!["--immediate".to_owned()],
        Target::Time(time) => vec!["--at".to_owned(), show_time(*time)],
        Target::Lsn(lsn) => vec!["--lsn".to_owned(), wal::show(*lsn)],
        Target::Xid(xid) => vec!["--xid".to_owned(), xid.to_string()],
        Target::Name(name) => vec!["--name".to_owned(), name.clone()],
        Target::BeforeXid(xid) => vec!["--before-xid".to_owned(), xid.to_string()],
        Target::BeforeDrop { table, last } => {
            let mut arguments = vec!["--before-drop".to_owned(), table.clone()];
            arguments.extend(last.then(|| "--last".to_owned()));
            arguments
        }
    };
    if let Some(timeline) = request.timeline {
        arguments.extend(["--timeline".to_owned(), timeline.to_string()]);
    }
    if let Some(label) = &request.backup {
        arguments.extend(["--backup".to_owned(), label.clone()]);
    }
    arguments.extend(request.exclusive.then(|| "--exclusive".to_owned()));
    arguments
}

/// As Highwater writes times.
pub fn show_time(time: Micros) -> String {
    Timestamp(time).to_string()
}
