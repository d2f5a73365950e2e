//! The worker on a store that fails as told, beside a PostgreSQL that is played.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_repository::Plain;
use highwater_storage::faults::{Fault, FaultStore, Operation, Rule};
use highwater_storage::{ErrorKind, gate};
use highwater_wal::{TimelineId, WalFile};

use crate::ask::{Reply, Request};
use crate::connected::Connected;
use crate::lab::{Lab, SYSTEM, is_durable, order, segment};
use crate::put;
use crate::uploads::{Received, Uploads, put_after};

/// Everything that a store can do to a call, each now and then.
fn weather() -> Vec<Rule> {
    let on = |operation, fault, probability| Rule::on(operation, fault).probability(probability);
    let slow = Fault::Slow(Duration::from_millis(3));
    vec![
        on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Unavailable), 0.02),
        on(Operation::PutIfAbsent, Fault::After(ErrorKind::TimedOut), 0.02),
        on(Operation::PutIfAbsent, Fault::Precondition, 0.02),
        on(Operation::PutIfAbsent, Fault::Conflict, 0.01),
        on(Operation::PutIfAbsent, slow, 0.05),
        on(Operation::GetRange, Fault::Before(ErrorKind::Unavailable), 0.02),
        on(Operation::GetRange, Fault::CutOff, 0.02),
        on(Operation::GetRange, Fault::WrongBytes, 0.02),
        on(Operation::GetRange, Fault::Busy, 0.02),
        on(Operation::GetRange, slow, 0.02),
    ]
}

#[test]
fn r01_r02_ten_thousand_segments_through_bad_weather() {
    const SEGMENTS: u64 = 10_000;
    /// The last of them are marked as ready before PostgreSQL gets to the first.
    const BEHIND: u64 = 12;
    let lab = Lab::new(42);
    lab.faults.set_rules(weather());
    let mut worker = lab.worker();
    let (mut written, mut by_worker, mut by_call, mut refused) = (0, 0, 0, 0);
    for number in 0..SEGMENTS {
        while written < SEGMENTS && written <= number + BEHIND {
            // Some stand alone, as on a quiet server.
            if number % 100 < 3 && written > number {
                break;
            }
            if written >= 40 && written % 2 == 0 {
                // As PostgreSQL does with segments that it needs no more: the same file under another name.
                fs::rename(lab.path(segment(written - 40)), lab.path(segment(written))).unwrap();
            }
            lab.write(written, written * 7);
            written += 1;
        }
        if number % 997 == 500 {
            // The worker was killed: what it had begun with may or may not still happen.
            worker = lab.worker();
        }
        let file = segment(number);
        let mut tries = 0;
        while {
            tries += 1;
            let done = is_durable(&lab.asked(&worker, file));
            by_worker += u32::from(done);
            let by_itself = !done && lab.done_without(file).is_ok();
            by_call += u32::from(by_itself);
            !done && !by_itself
        } {
            refused += 1;
            assert!(tries < 100, "{file} is never archived");
        }
        assert!(lab.holds(file, number), "{file} was acknowledged");
        fs::remove_file(lab.mark(file)).unwrap();
        if number >= 40 && lab.path(segment(number - 40)).exists() {
            fs::remove_file(lab.path(segment(number - 40))).unwrap();
        }
    }
    assert!(lab.faults.given() > 1000, "the weather was too fine: {}", lab.faults.given());
    assert!(by_worker > 8000 && by_call > 20 && refused > 0, "{by_worker} {by_call} {refused}");
    // None before the one before it: not at any moment, since nothing is ever removed.
    let expected: Vec<String> = (0..SEGMENTS).map(|number| segment(number).to_string()).collect();
    assert_eq!(order(&lab.memory), expected);
    // Nothing was changed: each is still what was written then.
    let clean = lab.repository(lab.memory.clone());
    for number in (0..SEGMENTS).step_by(37) {
        let object = lab.runtime.block_on(clean.get_wal(segment(number))).unwrap();
        assert_eq!(object.bytes[64..72], (number * 7).to_le_bytes());
    }
}

#[test]
fn r03_another_file_of_the_same_name_is_never_taken_for_the_one_that_was_put_ahead() {
    let lab = Lab::new(1);
    let worker = lab.worker();
    for number in 0..6 {
        lab.write(number, number);
    }
    assert!(is_durable(&lab.asked(&worker, segment(0))));
    fs::remove_file(lab.mark(segment(0))).unwrap();
    (1..6).for_each(|number| lab.wait_for(segment(number)));
    // The same content in another file is verified by its digest.
    let content = fs::read(lab.path(segment(1))).unwrap();
    fs::remove_file(lab.path(segment(1))).unwrap();
    fs::write(lab.path(segment(1)), content).unwrap();
    assert!(is_durable(&lab.asked(&worker, segment(1))));
    // Other content is put, which the repository refuses.
    lab.write(2, 99);
    assert!(!is_durable(&lab.asked(&worker, segment(2))));
    let error = lab.done_without(segment(2)).unwrap_err().to_string();
    assert!(error.contains("has other content under this name"), "{error}");
    // So is a file in its place with every time that can be set at will.
    let path = lab.path(segment(3));
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::remove_file(&path).unwrap();
    lab.write(3, 99);
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert!(!is_durable(&lab.asked(&worker, segment(3))));
    assert!(is_durable(&lab.asked(&worker, segment(4))), "the next one is not affected");
}

#[test]
fn nothing_overtakes_what_could_not_be_put() {
    let lab = Lab::new(2);
    let worker = lab.worker();
    for number in 0..8 {
        lab.write(number, number);
    }
    let fault =
        Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Denied)).keys(segment(2).to_string());
    lab.faults.set_rules([fault]);
    for number in 0..2 {
        assert!(is_durable(&lab.asked(&worker, segment(number))));
        fs::remove_file(lab.mark(segment(number))).unwrap();
    }
    for _ in 0..3 {
        assert!(!is_durable(&lab.asked(&worker, segment(2))));
    }
    assert_eq!(order(&lab.memory), [segment(0).to_string(), segment(1).to_string()]);
    lab.faults.set_rules([]);
    for number in 2..8 {
        assert!(is_durable(&lab.asked(&worker, segment(number))));
        fs::remove_file(lab.mark(segment(number))).unwrap();
    }
    assert_eq!(order(&lab.memory).len(), 8);
}

#[test]
fn r05_a_clone_is_seen_for_every_file() {
    let lab = Lab::new(3);
    let worker = lab.worker();
    for number in 0..2 {
        lab.write(number, number);
    }
    fs::write(lab.folder.path().join("global/pg_control"), 5_u64.to_le_bytes()).unwrap();
    let file = segment(0);
    let request = lab.request(file);
    let Reply::DoItYourself(reason) = worker.make_durable(&request, || true) else { panic!() };
    assert!(reason.contains("another cluster's"), "{reason}");
    assert_eq!(order(&lab.memory), [""; 0]);
}

#[test]
fn a_caller_that_has_gone_is_not_waited_for_and_its_file_is_put() {
    let lab = Lab::new(4);
    let worker = lab.worker();
    let file = lab.write(0, 0);
    let slow = Rule::on(Operation::PutIfAbsent, Fault::Slow(Duration::from_secs(2))).times(1);
    lab.faults.set_rules([slow]);
    let request = lab.request(file);
    assert!(!is_durable(&worker.make_durable(&request, || false)));
    assert!(worker.is_busy());
    lab.wait_for(file);
    assert!(is_durable(&lab.asked(&worker, file)));
}

#[test]
fn several_callers_are_answered_and_other_folders_are_not() {
    let lab = Lab::new(5);
    let worker = lab.worker();
    let files: Vec<WalFile> = (0..8).map(|number| lab.write(number, number)).collect();
    let requests = files.iter().map(|file| lab.request(*file));
    std::thread::scope(|scope| {
        let asked: Vec<_> = requests
            .map(|request| {
                let worker = &worker;
                scope.spawn(move || worker.make_durable(&request, || true))
            })
            .collect();
        for reply in asked {
            let reply = reply.join().unwrap();
            assert!(is_durable(&reply), "{reply:?}");
        }
    });
    let request = Request { folder: "/elsewhere".into(), ..lab.request(files[0]) };
    assert!(!is_durable(&worker.make_durable(&request, || true)));
}

#[test]
fn a_put_behind_a_gate_that_is_lost_does_not_happen() {
    let lab = Lab::new(6);
    let file = lab.write(0, 0);
    let job = lab.job(file);
    let connected = Connected::new("one".to_owned(), lab.repository(Arc::clone(&lab.faults) as _));
    let prepared = put::prepare(&job, &[connected.repository().clone()]).unwrap().remove(0);
    let (keeper, gate) = gate();
    drop(keeper);
    let result = lab.runtime.block_on(put_after(&connected, prepared, Some(gate)));
    assert!(matches!(result, Err(crate::Error::NotItsTurn)));
    assert_eq!(order(&lab.memory), [""; 0]);
}

#[test]
fn r01_nothing_is_durable_that_one_repository_does_not_have() {
    let lab = Lab::new(7);
    let other = Arc::new(lab.memory.copy());
    let second = Arc::new(FaultStore::new(Arc::clone(&other) as _, 8, []));
    let worker = lab.worker_for(vec![Arc::clone(&lab.faults), Arc::clone(&second)]);
    for number in 0..8 {
        lab.write(number, number);
    }
    second.set_rules([
        Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Denied)).keys(segment(1).to_string())
    ]);
    assert!(is_durable(&lab.asked(&worker, segment(0))));
    fs::remove_file(lab.mark(segment(0))).unwrap();
    for _ in 0..3 {
        assert!(!is_durable(&lab.asked(&worker, segment(1))));
    }
    assert_eq!(order(&other), [segment(0).to_string()], "nothing comes behind a hole");
    second.set_rules([]);
    for number in 1..8 {
        let Reply::Durable(stored) = lab.asked(&worker, segment(number)) else { panic!("segment {number}") };
        assert_eq!(stored.len(), 2);
        fs::remove_file(lab.mark(segment(number))).unwrap();
        assert_eq!(order(&other)[number as usize], segment(number).to_string());
    }
    assert_eq!(order(&lab.memory), order(&other));
}

#[test]
fn so_many_segments_are_on_their_way_at_once_and_no_more() {
    let lab = Lab::new(9);
    let worker = lab.worker();
    for number in 0..20 {
        lab.write(number, number);
    }
    let slow = Rule::on(Operation::PutIfAbsent, Fault::Slow(Duration::from_secs(1)));
    lab.faults.set_rules([slow.keys(segment(0).to_string())]);
    let most = lab.cluster.archive_ahead as u64;
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| lab.asked(&worker, segment(0)));
        let mut seen = 0;
        while order(&lab.memory).is_empty() {
            let begun = lab.faults.calls(Operation::PutIfAbsent, "");
            if order(&lab.memory).is_empty() {
                seen = seen.max(begun);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(seen, most, "while the first one was on its way");
        assert!(is_durable(&asked.join().unwrap()));
    });
}

#[test]
fn a_long_backlog_is_worked_off_though_it_is_looked_at_now_and_then() {
    let lab = Lab::new(10);
    let worker = lab.worker();
    let most: u64 = 150;
    for number in 0..most {
        lab.write(number, number);
    }
    for number in 0..most {
        assert!(is_durable(&lab.asked(&worker, segment(number))), "segment {number}");
        fs::remove_file(lab.mark(segment(number))).unwrap();
        fs::remove_file(lab.path(segment(number))).unwrap();
        if number == 100 {
            // What comes first of all, though it is marked behind what was seen.
            let history = WalFile::History(TimelineId::new(2).unwrap());
            fs::write(lab.path(history), "1\t0/90000000\tx\n").unwrap();
            fs::write(lab.mark(history), "").unwrap();
            assert!(is_durable(&lab.asked(&worker, history)));
            fs::remove_file(lab.mark(history)).unwrap();
        }
    }
    let expected: Vec<String> = (0..most).map(|number| segment(number).to_string()).collect();
    let segments: Vec<String> =
        order(&lab.memory).into_iter().filter(|name| !name.ends_with(".history")).collect();
    assert_eq!(segments, expected);
}

/// A worker beside which segments are received: it is told of those that lie in `pg_wal` as long as `is_known`.
fn worker_beside_a_receiver(lab: &Lab, is_known: &Arc<AtomicBool>) -> Arc<Uploads> {
    let (folder, is_known) = (lab.pg_wal(), Arc::clone(is_known));
    let received: Received = Arc::new(move |system_id, name| {
        assert_eq!(system_id, SYSTEM);
        let content = || Plain::of(&fs::read(folder.join(name.to_string())).unwrap());
        is_known.load(Ordering::Relaxed).then(content)
    });
    Uploads::new(lab.work(lab.connect(vec![Arc::clone(&lab.faults)]), Some(received))).unwrap()
}

#[test]
fn what_was_received_is_not_put_again() {
    let lab = Lab::new(11);
    let is_known = Arc::new(AtomicBool::new(true));
    let worker = worker_beside_a_receiver(&lab, &is_known);
    for number in 0..3 {
        let file = lab.write(number, number);
        assert!(is_durable(&lab.asked(&worker, file)));
        fs::remove_file(lab.mark(file)).unwrap();
    }
    assert_eq!(lab.faults.calls(Operation::PutIfAbsent, ""), 0);
    // What is not known is put, and so is a history, which is never received as a file.
    is_known.store(false, Ordering::Relaxed);
    let file = lab.write(3, 3);
    assert!(is_durable(&lab.asked(&worker, file)));
    is_known.store(true, Ordering::Relaxed);
    let history = WalFile::History(TimelineId::new(2).unwrap());
    fs::write(lab.path(history), "1\t0/480000\tx\n").unwrap();
    assert!(is_durable(&lab.asked(&worker, history)));
    // The receiver has not checked a segment as one that ends with its timeline.
    let last = lab.write(4, 4);
    assert!(is_durable(&lab.asked(&worker, last)));
    assert_eq!(order(&lab.memory), [file, history, last].map(|file| file.to_string()));
}

#[test]
fn r03_what_differs_from_what_was_received_is_refused_by_the_repository() {
    let lab = Lab::new(12);
    let file = lab.write(0, 1);
    assert!(lab.done_without(file).is_ok());
    let first = Plain::of(&fs::read(lab.path(file)).unwrap());
    let received: Received = Arc::new(move |_, _| Some(first));
    let worker = Uploads::new(lab.work(lab.connect(vec![Arc::clone(&lab.faults)]), Some(received))).unwrap();
    assert!(is_durable(&lab.asked(&worker, file)));
    lab.write(0, 2);
    let Reply::DoItYourself(reason) = lab.asked(&worker, file) else { panic!("it is another file") };
    assert!(reason.contains("has other content under this name"), "{reason}");
}

#[test]
fn what_was_received_keeps_its_place_behind_what_is_put() {
    let lab = Lab::new(13);
    let files: Vec<WalFile> = (0..3).map(|number| lab.write(number, number)).collect();
    let (second, content) = (files[1], Plain::of(&fs::read(lab.path(files[1])).unwrap()));
    let received: Received = Arc::new(move |_, name| (WalFile::Segment(name) == second).then_some(content));
    let worker = Uploads::new(lab.work(lab.connect(vec![Arc::clone(&lab.faults)]), Some(received))).unwrap();
    let denied = Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Denied));
    lab.faults.set_rules([denied.keys(files[0].to_string())]);
    for _ in 0..3 {
        assert!(!is_durable(&lab.asked(&worker, files[0])));
    }
    assert_eq!(order(&lab.memory), [""; 0], "the third one waits for the first, though the second is there");
    lab.faults.set_rules([]);
    for file in files {
        assert!(is_durable(&lab.asked(&worker, file)), "{file}");
        fs::remove_file(lab.mark(file)).unwrap();
    }
}

#[test]
fn r01_r03_beside_a_receiver_through_bad_weather() {
    const SEGMENTS: u64 = 400;
    let lab = Lab::new(43);
    lab.faults.set_rules(weather());
    let put = Arc::new(Mutex::new(BTreeMap::new()));
    let known = Arc::clone(&put);
    let received: Received = Arc::new(move |_, name| known.lock().unwrap().get(&name).copied());
    let worker = Uploads::new(lab.work(lab.connect(vec![Arc::clone(&lab.faults)]), Some(received))).unwrap();
    let mut refused = 0;
    for number in 0..SEGMENTS {
        let file = lab.write(number, number * 7);
        let WalFile::Segment(name) = file else { unreachable!("it is one") };
        let content = Plain::of(&fs::read(lab.path(file)).unwrap());
        // The receiver is in front of the archiver, behind it, or away; what it could not put it does not know.
        let receive =
            || lab.done_without(file).is_ok() && put.lock().unwrap().insert(name, content).is_none();
        let is_in_front = number % 4 != 0 && receive();
        if is_in_front && number % 9 == 0 {
            // Another server's, under the same name: what was received stays.
            lab.write(number, number * 7 + 1);
            assert!(!is_durable(&lab.asked(&worker, file)));
            lab.write(number, number * 7);
        }
        let mut tries = 0;
        while !is_durable(&lab.asked(&worker, file)) && lab.done_without(file).is_err() {
            (tries, refused) = (tries + 1, refused + 1);
            assert!(tries < 100, "{file} is never archived");
        }
        assert!(lab.is_durable(file), "{file} was acknowledged");
        fs::remove_file(lab.mark(file)).unwrap();
        if number % 4 == 0 {
            receive();
        }
    }
    let known = put.lock().unwrap().len() as u64;
    assert!((SEGMENTS / 2..SEGMENTS).contains(&known) && lab.faults.given() > 50 && refused > 0);
}
