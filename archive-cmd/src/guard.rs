//! What ends the program when nothing else does: a time limit, and a way out of a panic.

use std::process;
use std::thread;
use std::time::Duration;

use crate::exit::Exit;
use crate::say;

/// From here on a panic ends in one line and [`Exit::Failed`]. Without this it would be a signal, for which PostgreSQL
/// restarts its archiver.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        say::line(&format!("{panic}; hint: this is a fault of the program: report it"));
        process::exit(Exit::Failed.status());
    }));
}

/// Ends the program with [`Exit::Failed`] when `limit` has passed. `what` is what was to be done.
///
/// It is a thread and not a time limit of the runtime, because a file system that does not answer blocks the runtime,
/// too. An archive command that hangs fills its server's disk, and nobody sees why.
pub fn end_after(limit: Duration, what: String) {
    let watch = move || {
        thread::sleep(limit);
        let seconds = limit.as_secs();
        say::line(&format!(
            "{what}: not done within {seconds} s; hint: see whether the repository answers, or raise --time-limit"
        ));
        process::exit(Exit::Failed.status());
    };
    // Where no thread can be had the work itself fails for the same reason, and says so.
    let _ = thread::Builder::new().spawn(watch);
}
