//! What people read: tables, sizes, durations, times, progress. And JSON for programs.

mod printable;
mod progress;
mod table;
mod units;
mod zone;

pub use printable::{json as printable_json, lines as printable, part as printable_part};
pub use progress::Bar;
pub use table::{Align, Table};
pub use units::{bytes, count, duration};
pub use zone::{local, local_micros, offset_at};

use serde::Serialize;

use crate::error::Error;

/// Prints one JSON document.
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::Io { what: "print JSON".to_owned(), source };
    let mut text = serde_json::to_string_pretty(value).map_err(|error| failed(error.into()))?;
    text.push('\n');
    write(&printable_json(&text))
}

/// Prints what else to know, where the standard output is for something else or there is nothing to print there.
pub fn notes(notes: &[String]) {
    for note in notes {
        eprintln!("highwater: note: {}", printable(note));
    }
}

/// Prints text. A reader that has gone away (`highwater list | head`) is no failure.
pub fn print(text: &str) -> Result<(), Error> {
    write(&printable(text))
}

fn write(text: &str) -> Result<(), Error> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { what: "print".to_owned(), source })
        }
        _ => Ok(()),
    }
}
