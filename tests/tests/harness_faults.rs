//! The harness itself: the proxy's faults, the small disk, the load's bookkeeping.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use highwater_tests::{Fault, History, Load, PATIENCE, Postgres, Proxy, SmallDisk, StopMode, wait_until};

/// Answers each byte with the same byte, on one connection after another.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends ten bytes and tells how many came back, and how it ended.
fn ten_bytes(proxy: &Proxy) -> (usize, Option<ErrorKind>) {
    let mut stream = connect(proxy);
    stream.write_all(b"0123456789").unwrap();
    let mut count = 0;
    let mut buffer = [0; 10];
    while count < 10 {
        match stream.read(&mut buffer[count..]) {
            Ok(0) => return (count, None),
            Ok(more) => count += more,
            Err(error) => return (count, Some(error.kind())),
        }
    }
    (count, None)
}

#[test]
fn the_proxy_passes_resets_cuts_and_comes_back() {
    let proxy = Proxy::to(echo());
    assert_eq!(ten_bytes(&proxy), (10, None));
    proxy.set(Fault::ResetAfterAnswer(0));
    assert_eq!(ten_bytes(&proxy), (0, Some(ErrorKind::ConnectionReset)));
    proxy.set(Fault::ResetAfterRequest(4));
    assert_eq!(ten_bytes(&proxy).1, Some(ErrorKind::ConnectionReset));
    proxy.set(Fault::CloseAfterAnswer(4));
    assert_eq!(ten_bytes(&proxy), (4, None));
    assert_eq!(proxy.connections(), 4);

    let open = connect(&proxy);
    proxy.set(Fault::Down);
    assert!(matches!((&open).read(&mut [0; 1]), Ok(0) | Err(_)));
    wait_until("nobody listens", PATIENCE, || TcpStream::connect(proxy.address()).is_err());
    proxy.set(Fault::None);
    wait_until("the proxy listens again", PATIENCE, || TcpStream::connect(proxy.address()).is_ok());
    assert_eq!(ten_bytes(&proxy), (10, None));
}

#[test]
fn the_proxy_stalls_and_delays() {
    let proxy = Proxy::to(echo());
    proxy.set(Fault::Stall);
    let mut stalled = connect(&proxy);
    stalled.write_all(b"x").unwrap();
    stalled.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(stalled.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.set(Fault::None);
    stalled.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stalled.read(&mut [0; 1]).unwrap(), 1);

    let delay = Duration::from_millis(50);
    proxy.set(Fault::Delay(delay));
    let start = Instant::now();
    assert_eq!(ten_bytes(&proxy), (10, None));
    assert!(start.elapsed() >= delay);
}

#[test]
fn a_small_disk_runs_full() {
    let disk = SmallDisk::of_megabytes(1);
    disk.fill();
    let error = std::fs::write(disk.path().join("more"), [0; 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.make_room();
    std::fs::write(disk.path().join("more"), [0; 4096]).unwrap();
}

#[test]
fn a_load_knows_what_was_committed_when() {
    let server = Postgres::start();
    let load = Load::start(&server);
    load.wait_for_commits(50);
    let moment = server.now();
    let copy = server.folder().join("copy");
    load.wait_for_commits(50);
    load.stop();
    let history = History::of(&server);
    history.assert_holds_all(&server);
    assert!(history.count_at(&moment) > 0 && history.count_at(&moment) < history.count_at(history.span().1));
    assert!(history.commit_times().len() >= 100);

    server.copy_to(&copy);
    server.stop(StopMode::Fast);
    let other = Postgres::from_data_dir(&copy).start();
    history.assert_holds_all(&other);
    other.sql("delete from load_rows where id = (select max(id) from load_rows)");
    let incomplete =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.assert_holds_all(&other)));
    assert!(incomplete.is_err());
}

#[test]
fn a_load_outlives_the_death_of_its_server() {
    let server = Postgres::start();
    let load = Load::start(&server);
    load.wait_for_commits(20);
    server.kill9();
    let commits = load.commits();
    load.stop();
    server.start_again().unwrap();
    highwater_tests::assert_load_is_whole(&server);
    assert!(History::of(&server).commit_times().len() as u64 >= commits);
}
