//! The fuzz targets' kept corpus, as it is and mutated, on the ordinary compiler.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the right answer")]

#[path = "../../fuzz/bodies/basebackup.rs"]
mod bodies;
#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn tar() {
    replay("tar", bodies::tar);
}

#[test]
fn server_manifest() {
    replay("server_manifest", bodies::server_manifest);
}
