//! Runs one test of this program again, in a process of its own: for what belongs to a whole process, such as its
//! environment, its umask or its death.

use std::path::Path;
use std::process::Command;

/// Tells the second process what to do.
const ROLE: &str = "HIGHWATER_STORAGE_TEST_ROLE";

/// What this process was started to do; nothing in the first.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// A command that runs `test` (its whole path) again with this role; `before` are words put before the program,
/// such as `sh -c 'umask 0; exec "$@"' sh`.
pub fn command(before: &[&str], test: &str, role: &str) -> Command {
    command_of(before, &std::env::current_exe().unwrap(), test, role)
}

/// The same with a copy of this program.
pub fn command_of(before: &[&str], program: &Path, test: &str, role: &str) -> Command {
    let program = program.to_str().unwrap();
    let words: Vec<&str> = before.iter().copied().chain([program, test, "--exact", "--nocapture"]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(ROLE, role).env("RUST_BACKTRACE", "0");
    command
}

/// Runs it and fails with what it printed when it fails.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let printed =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}:\n{printed}");
    assert!(printed.contains("1 passed"), "no test of that name was run:\n{printed}");
}
