//! WAL of real servers, of every version.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the right answer")]

mod agrees_with_pg_waldump;
mod agrees_with_the_server;
mod borders;
mod catalogs;
mod changes;
mod crashes;
mod damage;
mod rows;
mod support;
mod timelines;
mod wal_of;
