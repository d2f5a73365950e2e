//! What the program writes: single lines to standard error, which PostgreSQL's log takes up.

use std::io::{self, Write};

use crate::exit::Exit;

/// The program's name, in front of each line.
pub const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// Writes one line, whatever a server's answer or a file's name contains.
pub fn line(message: &str) {
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // One write, so that the lines of several processes do not mix. That nobody reads it is no reason to fail, or to
    // panic as `eprintln!` would.
    let _ = io::stderr().write_all(format!("{PROGRAM}: {message}\n").as_bytes());
}

/// Prints what was asked for to standard output.
pub fn answer(text: &str) -> Exit {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Found,
        Err(_) => Exit::Failed,
    }
}
