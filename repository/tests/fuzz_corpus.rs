//! The fuzz targets' kept corpus, as it is and mutated, on the ordinary compiler.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer")]

#[path = "../../fuzz/bodies/repository.rs"]
mod bodies;
#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn objects() {
    replay("repository_objects", bodies::objects);
}

#[test]
fn frames() {
    replay("repository_frames", bodies::frames);
}

#[test]
fn manifest_lines() {
    replay("repository_manifest_lines", bodies::manifest_lines);
}

#[test]
fn configuration() {
    replay("repository_configuration", bodies::configuration);
}
