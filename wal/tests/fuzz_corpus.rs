//! The fuzz targets' kept corpus, as it is and mutated, on the ordinary compiler.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the right answer")]

#[path = "../../fuzz/bodies/wal.rs"]
mod bodies;

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn records() {
    replay("wal_records", bodies::records);
}

#[test]
fn pages() {
    replay("wal_pages", bodies::pages);
}

#[test]
fn record_bodies() {
    replay("wal_record_bodies", bodies::record_bodies);
}

#[test]
fn catalogs() {
    replay("wal_catalogs", bodies::catalogs);
}

#[test]
fn history() {
    replay("wal_history", bodies::history);
}
