//! The harness itself: a test process that is killed leaves no server and no folder behind.

use std::path::Path;
use std::time::Duration;

use highwater_tests::{PATIENCE, Postgres, Program, S3, cache_folder, wait_until};

/// Set in the process that is to be killed.
const VICTIM: &str = "HIGHWATER_TEST_VICTIM";

#[test]
fn a_killed_test_leaves_nothing_behind() {
    if std::env::var_os(VICTIM).is_some() {
        let (server, store) = (Postgres::start(), S3::moto());
        println!("\nstarted {} {} {}", server.pid(), server.folder().display(), store.endpoint());
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let own = std::env::current_exe().unwrap();
    let name = "a_killed_test_leaves_nothing_behind";
    let victim = Program::new(own, [name, "--exact", "--nocapture"]).as_tester();
    let victim = victim.env(VICTIM, "1").env("HIGHWATER_TEST_CACHE", cache_folder()).start();
    wait_until("the victim has started its servers", PATIENCE, || victim.stdout().contains("started "));
    let output = victim.kill9();
    let line = output.stdout.lines().find(|line| line.starts_with("started ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let address = words[3].trim_start_matches("http://");
    wait_until("PostgreSQL has ended", PATIENCE, || !is_alive(words[1]));
    wait_until("its folder has gone", PATIENCE, || !Path::new(words[2]).exists());
    wait_until("moto has ended", PATIENCE, || std::net::TcpStream::connect(address).is_err());
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}
