//! A clock of a server's own, which a test moves while the server runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::account::give_to_server_account;
use crate::kits::existing;
use crate::scratch::Scratch;

/// Debian's libfaketime, on the only architecture that `scripts/setup` provides for.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// What starts programs, and can be told of a library.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// What servers under this clock take for the time. It begins as the machine's. Only what they ask of the time of day is
/// changed: neither how long they wait nor the times of files.
#[derive(Debug)]
pub struct Clock {
    scratch: Scratch,
}

impl Clock {
    /// The machine's time, until it is told otherwise.
    pub fn new() -> Self {
        let clock = Self { scratch: Scratch::new() };
        clock.off_by(0);
        clock
    }

    /// From now on so many seconds ahead of the machine's clock, or behind it.
    pub fn off_by(&self, seconds: i64) {
        self.set(&format!("{seconds:+}"));
    }

    /// From now on always this time, `2026-11-20 12:00:00` in UTC.
    pub fn stand_still_at(&self, time: &str) {
        self.set(time);
    }

    fn set(&self, text: &str) {
        // Servers read it whenever they ask for the time, so it must never be seen half-written.
        let new = self.scratch.file("new", format!("{text}\n"));
        give_to_server_account(&new);
        fs::rename(&new, self.scratch.join("clock")).expect("a file in the scratch folder can be renamed");
    }

    /// What a server's environment needs, for [`Builder::env`](crate::postgres::Builder::env).
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let file = self.scratch.join("clock").display().to_string();
        let pairs = [
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
            ("TZ", "UTC"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}

/// `program` as it is to be started under such a clock. Not through `LD_PRELOAD`: what the server runs would have that, too, and
/// libfaketime sometimes ends a program that finds what it shares with its parent gone.
pub(crate) fn under_a_clock(program: PathBuf) -> Command {
    let mut command = Command::new(existing(LOADER.into()));
    command.arg("--preload").arg(existing(LIBRARY.into())).arg(program);
    command
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
