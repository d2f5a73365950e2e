#![no_main]

#[path = "../bodies/wal.rs"]
#[allow(dead_code, reason = "a target runs one of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::catalogs(input));
