//! The fuzz targets' kept corpus, as it is and mutated, on the ordinary compiler.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer")]

#[path = "../../fuzz/bodies/replication.rs"]
mod bodies;
#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn messages() {
    replay("replication_messages", bodies::messages);
}

#[test]
fn connection_strings() {
    replay("replication_connection_strings", bodies::connection_strings);
}
