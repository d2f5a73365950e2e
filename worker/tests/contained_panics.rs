//! A panic of a helper stops that thread alone. This is a program of its own, since what is done when a thread panics holds for a whole
//! process.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use highwater_worker::{HELPER_THREAD, contain_panics, has_panicked};

fn panicking(name: &str, of: &'static str) -> io::Result<JoinHandle<()>> {
    let work = move || assert!(of.is_empty(), "a panic {of}, as it should be");
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn main() -> io::Result<()> {
    contain_panics();
    contain_panics();
    assert!(panicking("other", "of another thread")?.join().is_err(), "it ends as ever");
    assert!(!has_panicked());
    let helper = panicking(HELPER_THREAD, "of a helper")?;
    let begun = Instant::now();
    while !has_panicked() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was not noticed");
        thread::sleep(Duration::from_millis(1));
    }
    // Unwinding would end it, and with `panic = "abort"` the process.
    assert!(!helper.is_finished());
    Ok(())
}
