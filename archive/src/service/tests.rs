//! The service on a store that fails as told, asked over its socket.

use std::fs;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use highwater_storage::ErrorKind;
use highwater_storage::faults::{Fault, Operation, Rule};
use highwater_worker::{Connection, Fingerprint, Place, Server, Shared, connect};

use super::{Desk, Service};
use crate::ask::{Reply, Request};
use crate::lab::{Lab, is_durable, order, segment};

/// Longer than anything takes here.
const LIMIT: Duration = Duration::from_secs(30);

/// A service for a lab's cluster, in a place of its own.
struct Served {
    service: Service,
    place: Place,
    fingerprint: Fingerprint,
    told: Arc<Mutex<Vec<String>>>,
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of_release("a service's test")
}

fn serve(lab: &Lab) -> Served {
    let place = Place::below(lab.folder.path()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let (own, lines, stores) = (place.clone(), Arc::clone(&told), vec![Arc::clone(&lab.faults)]);
    let cluster = lab.cluster.clone();
    let desk = Desk {
        cluster: lab.cluster.clone(),
        connect: Box::new(move |_| crate::lab::connect(&cluster, stores.clone())),
        received: None,
        place: Box::new(move || Ok(own.clone())),
        fingerprint: fingerprint(),
        tell: Box::new(move |line| lines.lock().unwrap().push(line.to_owned())),
        told: Mutex::default(),
        is_over: AtomicBool::new(false),
        busy: Shared::default(),
        archiving: Mutex::default(),
    };
    Served { service: Service::of(desk).unwrap(), place, fingerprint: fingerprint(), told }
}

impl Served {
    fn connection(&self) -> Connection {
        let begun = Instant::now();
        loop {
            match connect(&self.place, &self.fingerprint) {
                Ok(connection) => return connection,
                Err(error) => assert!(begun.elapsed() < LIMIT, "{error}"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn asked(&self, request: &Request) -> io::Result<Reply> {
        let mut connection = self.connection();
        connection.send(request)?;
        connection.receive(LIMIT)
    }

    fn says(&self, part: &str) -> bool {
        self.told.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

#[test]
fn calls_are_answered_until_it_ends() {
    let lab = Lab::new(1);
    let served = serve(&lab);
    let files: Vec<_> = (0..4).map(|number| lab.write(number, number)).collect();
    for file in &files {
        assert!(is_durable(&served.asked(&lab.request(*file)).unwrap()));
        fs::remove_file(lab.mark(*file)).unwrap();
    }
    assert!(served.says("archives for archive_command"));
    let names: Vec<String> = files.iter().map(ToString::to_string).collect();
    assert_eq!(order(&lab.memory), names);
    let (place, fingerprint) = (served.place.clone(), served.fingerprint);
    let begun = Instant::now();
    served.service.end();
    assert!(begun.elapsed() < Duration::from_secs(1), "nothing is waited for: {:?}", begun.elapsed());
    assert_eq!(connect(&place, &fingerprint).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_call_is_waited_for_at_the_end_and_not_for_ever() {
    for (slow, is_answered) in [(Duration::from_millis(300), true), (Duration::from_secs(20), false)] {
        let lab = Lab::new(2);
        let served = serve(&lab);
        let file = lab.write(0, 0);
        lab.faults.set_rules([Rule::on(Operation::PutIfAbsent, Fault::Slow(slow)).times(1)]);
        let mut connection = served.connection();
        connection.send(&lab.request(file)).unwrap();
        while lab.faults.calls(Operation::PutIfAbsent, "") == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        served.service.end();
        assert!(begun.elapsed() < slow.max(Duration::from_secs(6)), "{:?}", begun.elapsed());
        if is_answered {
            assert!(is_durable(&connection.receive(LIMIT).unwrap()));
        } else {
            assert!(order(&lab.memory).is_empty());
        }
    }
}

#[test]
fn one_data_directory_is_archived_at_a_time() {
    let (lab, other) = (Lab::new(3), Lab::new(4));
    let served = serve(&lab);
    assert!(is_durable(&served.asked(&lab.request(lab.write(0, 0))).unwrap()));
    let elsewhere = other.write(1, 1);
    let replaced = Request { directory: (0, 0), ..lab.request(lab.write(1, 1)) };
    for request in [other.request(elsewhere), replaced] {
        let reply = served.asked(&request).unwrap();
        assert!(matches!(reply, Reply::NotMine(_)), "{reply:?}");
    }
    assert!(is_durable(&served.asked(&lab.request(segment(1))).unwrap()));
}

#[test]
fn what_fails_is_done_by_the_call() {
    let lab = Lab::new(5);
    let served = serve(&lab);
    let file = lab.write(0, 0);
    lab.faults.set_rules([Rule::on(Operation::PutIfAbsent, Fault::Before(ErrorKind::Denied))]);
    let reply = served.asked(&lab.request(file)).unwrap();
    assert!(matches!(reply, Reply::DoItYourself(_)), "{reply:?}");
    assert!(connect(&served.place, &served.fingerprint.and(b"other settings")).is_err());
}

#[test]
fn a_second_receiver_leaves_the_calls_to_the_first() {
    let lab = Lab::new(6);
    let place = Place::below(lab.folder.path()).unwrap();
    let first = Server::open(&place, &fingerprint()).unwrap().unwrap();
    let served = serve(&lab);
    let begun = Instant::now();
    while !served.says("another receiver") {
        assert!(begun.elapsed() < LIMIT);
        thread::sleep(Duration::from_millis(1));
    }
    drop(first);
    // It need not wait for its next try to end.
    served.service.end();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
