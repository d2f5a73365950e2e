//! Plans say exactly where PostgreSQL stops: a thousand targets by chance, over histories with three timelines, prepared transactions
//! and subtransactions, clocks that go forward and back, and stretches in which nothing happens.
//!
//! Every plan is held against a model of PostgreSQL's rule over the WAL as the servers have written it, and of each version's
//! twenty are restored: the cluster then holds just the rows and the prepared transactions that the plan has promised.
//!
//! The choices are the same in every run. `HIGHWATER_TARGETS_SEED=random` makes others, `HIGHWATER_TARGETS_SEED=7` those of the
//! seed 7; a run that fails prints the seed that repeats its choices.

mod branch;
mod history;
mod model;
mod random;
mod targets;
mod wal;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use highwater_tests::{FailedStart, Postgres};
use serde_json::Value;

use crate::restores::restore;
use history::History;
use model::{Request, Stop, Why};
use random::Random;
use wal::{SEGMENT, Wal, What};

/// The versions are five.
const TARGETS: usize = 200;
const RESTORES: usize = 20;

#[test]
fn r15_plans_say_where_postgresql_14_stops() {
    prove(14);
}

#[test]
fn r15_plans_say_where_postgresql_15_stops() {
    prove(15);
}

#[test]
fn r15_plans_say_where_postgresql_16_stops() {
    prove(16);
}

#[test]
fn r15_plans_say_where_postgresql_17_stops() {
    prove(17);
}

#[test]
fn r15_plans_say_where_postgresql_18_stops() {
    prove(18);
}

/// What is chosen where nothing else is asked for.
const SEED: u64 = 1;

/// Says, when the test fails, how to repeat it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the choices of this run are repeated with HIGHWATER_TARGETS_SEED={}", self.0);
        }
    }
}

impl Seed {
    fn choose() -> Self {
        let now = || std::time::UNIX_EPOCH.elapsed().expect("it is later than 1970").as_micros() as u64;
        Self(match std::env::var("HIGHWATER_TARGETS_SEED").as_deref() {
            Err(_) => SEED,
            Ok("random") => now(),
            Ok(told) => told.parse().expect("HIGHWATER_TARGETS_SEED is a number, or random"),
        })
    }
}

fn prove(version: u32) {
    let seed = Seed::choose();
    let mut random = Random::new(seed.0);
    let history = History::live(version, &mut random);
    let mut reached: BTreeMap<&str, Vec<(Request, Stop)>> = BTreeMap::new();
    let mut refused = 0;
    for _ in 0..TARGETS {
        let request = targets::choose(&history, &mut random);
        match check(&history, &request) {
            Ok(stop) => reached.entry(targets::kind(&request.target)).or_default().push((request, stop)),
            Err(_) => refused += 1,
        }
    }
    assert!(refused < TARGETS / 2, "most targets are reached: {refused} are not");
    // Of each kind in turn, so that none is left out.
    let mut restored = 0;
    while restored < RESTORES {
        assert!(reached.values().any(|found| !found.is_empty()), "only {restored} could be restored");
        for found in reached.values_mut() {
            if let Some((request, stop)) = found.pop().filter(|_| restored < RESTORES) {
                restored += usize::from(restore_and_compare(&history, &request, &stop, restored));
            }
        }
    }
}

/// Plans, and compares the plan with the model.
fn check(history: &History, request: &Request) -> Result<Stop, Why> {
    let expected = history.model.answer(request);
    let mut arguments = vec!["plan".to_owned(), "--json".to_owned()];
    arguments.extend(targets::arguments(request));
    let output = history.site.highwater(&arguments).run();
    let about = format!("{}\n{arguments:?}\nexpected: {expected:?}\n{output}", history.describe());
    match &expected {
        Err(why) => {
            assert_eq!(output.status.code(), Some(3), "{about}");
            let said = match why {
                Why::TooEarly => "is too early",
                Why::TooLate => "is too late",
                Why::NotFound => "is not in the WAL",
                Why::SeveralNames => "restore points",
                Why::SeveralDrops => "times: ",
                Why::SeveralTimelines => "is reached on several timelines",
                Why::OnOtherTimeline => "but elsewhere",
                Why::Unsure => unreachable!("nothing of the kind is asked for"),
            };
            assert!(output.stderr.contains(said), "{about}");
        }
        Ok(stop) => {
            assert_eq!(output.status.code(), Some(0), "{about}");
            compare(history, &output.json(), stop, &about);
        }
    }
    expected
}

/// The plan's stop, as PostgreSQL understands it, applies as many records as the model says; and the plan names the commits on
/// both sides of it.
fn compare(history: &History, plan: &Value, stop: &Stop, about: &str) {
    let wal = history.model.path(stop.timeline);
    assert_eq!(plan["timeline"], stop.timeline, "{about}");
    assert_eq!(plan["backup"]["label"], stop.backup.as_str(), "{about}");
    let backup =
        history.model.backups.iter().find(|backup| backup.label == stop.backup).expect("it is known");
    let at = || wal::lsn(plan["stop"]["lsn"].as_str().expect("an LSN"));
    let applied = match (plan["stop"]["at"].as_str(), plan["stop"]["inclusive"].as_bool()) {
        (Some("consistent"), _) => wal.before(backup.stop),
        (Some("record"), Some(true)) => wal.before(at()) + 1,
        (Some("record"), Some(false)) => wal.before(at()),
        other => panic!("{other:?}: {about}"),
    };
    let shown = |applied: usize| wal.records.get(applied).map(|record| wal::show(record.lsn));
    assert_eq!(applied, stop.applied, "{:?} and not {:?}: {about}", shown(applied), shown(stop.applied));
    let commit = |record: &&wal::Record| matches!(record.what, What::End { committed: true, .. });
    let from = wal.before(backup.start);
    let last = wal.records[from.min(applied)..applied].iter().rev().find(commit);
    let first = wal.records[applied..].iter().find(commit);
    for (record, told) in [(last, &plan["last_before"]), (first, &plan["first_after"])] {
        let Some(record) = record else {
            assert!(told.is_null(), "{told}: {about}");
            continue;
        };
        let What::End { xid, time, .. } = record.what else { unreachable!("it is a commit") };
        assert_eq!(told["xid"], xid, "{about}");
        assert_eq!(told["lsn"], wal::show(record.lsn), "{about}");
        assert_eq!(told["time"], targets::show_time(time), "{about}");
    }
}

/// Restores, starts, and compares what is there. False where PostgreSQL cannot be started over it.
fn restore_and_compare(history: &History, request: &Request, stop: &Stop, number: usize) -> bool {
    let wal = history.model.path(stop.timeline);
    let arguments = targets::arguments(request);
    let about = format!("{}\n{arguments:?}\nexpected: {stop:?}", history.describe());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (folder, output) = restore(&history.site, &format!("restored-{number}"), &arguments);
    output.succeeds();
    let server = recover(&folder, wal, stop).unwrap_or_else(|failure| panic!("{about}\n{failure}"));
    let Some(server) = server else {
        std::fs::remove_dir_all(&folder).expect("what was restored can be removed");
        return false;
    };
    let expected = Expected::after(history, wal, stop);
    let number = |text: String| text.parse::<i64>().expect("a number");
    let found: Vec<i64> = server.column("select n from marks order by n").into_iter().map(number).collect();
    let difference = |one: &[i64], other: &[i64]| -> Vec<i64> {
        one.iter().filter(|row| !other.contains(row)).copied().collect()
    };
    let (missing, extra) = (difference(&expected.rows, &found), difference(&found, &expected.rows));
    assert_eq!(found, expected.rows, "missing {missing:?}, too many {extra:?}: {about}");
    let prepared = server.column("select transaction::text::bigint from pg_prepared_xacts order by 1");
    let prepared: Vec<i64> = prepared.into_iter().map(number).collect();
    assert_eq!(prepared, expected.prepared, "{about}");
    drop(server);
    std::fs::remove_dir_all(&folder).expect("what was restored can be removed");
    true
}

/// Starts what was restored; `None` where PostgreSQL cannot, see [`prepared_at_a_fork`].
fn recover(folder: &Path, wal: &Wal, stop: &Stop) -> Result<Option<Postgres>, FailedStart> {
    let failure = match Postgres::from_data_dir(folder).try_recover() {
        Err(failure) if failure.log.contains("has already been removed") => failure,
        started => return started.map(Some),
    };
    match prepared_at_a_fork(wal, stop) {
        AtFork::No => Err(failure),
        AtFork::StopsBehind => {
            Postgres::from_data_dir(folder).setting("hot_standby", "off").try_recover().map(Some)
        }
        AtFork::StopsBefore => Ok(None),
    }
}

enum AtFork {
    No,
    StopsBehind,
    StopsBefore,
}

/// Whether a transaction was prepared in the very segment in which a later timeline of the path begins, and was still open there or, where
/// recovery stops before that, at the stop. PostgreSQL looks for what was prepared on the old timeline then, in `pg_wal`, where
/// the segment is that of the new one: where it replays the beginning of the new timeline, for the sake of those who may read meanwhile
/// (`xlog_redo` → `PrescanPreparedTransactions`), and at the end (`RecoverPreparedTransactions`).
fn prepared_at_a_fork(wal: &Wal, stop: &Stop) -> AtFork {
    for (_, fork) in wal.legs.iter().skip(1) {
        let (first, end) = (wal.before(fork / SEGMENT * SEGMENT), wal.before(*fork).min(stop.applied));
        let applied = wal.records.get(first..end).unwrap_or_default();
        let is_open = |wanted: u32| {
            !applied.iter().any(|record| matches!(record.what, What::End { xid, .. } if xid == wanted))
        };
        if applied.iter().any(|record| matches!(record.what, What::Prepared { xid } if is_open(xid))) {
            return if stop.applied > wal.before(*fork) { AtFork::StopsBehind } else { AtFork::StopsBefore };
        }
    }
    AtFork::No
}

/// What a cluster holds that has applied so much.
struct Expected {
    rows: Vec<i64>,
    prepared: Vec<i64>,
}

impl Expected {
    fn after(history: &History, wal: &Wal, stop: &Stop) -> Self {
        let known = history.known(stop.timeline);
        let mut prepared = BTreeMap::new();
        let mut rows = Vec::new();
        for record in &wal.records[..stop.applied] {
            match record.what {
                What::Prepared { xid } => {
                    prepared.insert(xid, ());
                }
                What::End { xid, committed, .. } => {
                    if let Entry::Occupied(entry) = prepared.entry(xid) {
                        entry.remove();
                    }
                    let brought = known.rows.get(&xid).filter(|_| committed);
                    rows.extend(brought.into_iter().flatten());
                }
                What::Point { .. } | What::Other => {}
            }
        }
        rows.sort_unstable();
        Self { rows, prepared: prepared.into_keys().map(i64::from).collect() }
    }
}
