//! Whole sessions with a server in memory that says what it is told to.

mod backups;
mod fake;
mod sessions;
mod streams;
