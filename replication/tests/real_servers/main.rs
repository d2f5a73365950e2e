//! The client against real servers of every version that the harness can start.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the right answer")]

mod authentication;
mod base_backups;
mod commands;
mod common;
mod encryption;
mod servers;
mod streaming;
