#![no_main]

#[path = "../bodies/replication.rs"]
#[allow(dead_code, reason = "a target runs one of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::messages(input));
