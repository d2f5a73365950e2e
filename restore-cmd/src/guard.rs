//! What ends the program when nothing else does: a time limit, and a way out of a panic.

use std::process;
use std::thread;
use std::time::Duration;

use crate::exit::Exit;
use crate::say;

/// From here on a panic ends in one line and [`Exit::Failed`]. Without this it would end, in a build that unwinds, in
/// status 101, which PostgreSQL takes for the end of the archive.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        say::line(&format!("{panic}; hint: this is a fault of the program: report it"));
        process::exit(Exit::Failed.status());
    }));
}

/// Ends the program with `exit` when `limit` has passed. `what` is what was to be done.
///
/// It is a thread and not a time limit of the runtime, because a file system that does not answer blocks the runtime,
/// too.
pub fn end_after(limit: Duration, what: String, exit: Exit) {
    let watch = move || {
        thread::sleep(limit);
        let seconds = limit.as_secs();
        say::line(&format!(
            "{what}: not done within {seconds} s; hint: see whether the repository answers, or raise --time-limit"
        ));
        process::exit(exit.status());
    };
    // Where no thread can be had the work itself fails for the same reason, and says so.
    let _ = thread::Builder::new().spawn(watch);
}
