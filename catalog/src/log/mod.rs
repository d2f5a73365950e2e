//! The log of what happened: transactions put together from WAL records, without I/O.
//!
//! Whoever reads the WAL feeds an [`Assembler`] one stretch of it at a time, oldest record first, and hands what it has found to
//! [`Backwards`], newest stretch first: that joins transactions which began in an older stretch than they ended in, and
//! lets them go, newest first, when nothing is missing any more. [`describe()`] then says what a transaction did to which
//! table, by name.
//!
//! - `deeds`: what one transaction did
//! - `assembler`: records → transactions, within one stretch
//! - `backwards`: stretches joined, newest first
//! - `describe`: file numbers → tables, and what became of them
//! - `line`: what is told of a transaction
//! - `filter`: what was asked for, and which segments can hold it
//! - `chart`: transactions counted by the minute, hour or day

mod assembler;
mod backwards;
mod chart;
mod deeds;
mod describe;
mod filter;
mod line;

pub use assembler::{Assembler, End, Stretch};
pub use backwards::Backwards;
pub use chart::{Bucket, Chart, Unit};
pub use deeds::{ClassChange, Deeds, RowFate, Rows};
pub use describe::describe;
pub use filter::{LogFilter, TablePattern};
pub use line::{Database, Fate, LogLine, Named, Namer, Table, TableLine};

#[cfg(test)]
mod tests;
