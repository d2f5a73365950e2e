//! Restores of backups that were made for the purpose, from stores that fail, into folders that will not do.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod faults;
mod fixture;
mod folders;
mod resume;
mod servers;
mod whole;
