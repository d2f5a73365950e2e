//! What every store promises, tried on folders, on real S3 servers, and on servers that answer wrongly.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the right answer, in its helpers too")]

mod again;
mod answers;
mod common;
mod credentials;
mod faults;
mod folder;
mod growing;
mod memory;
mod retries;
mod s3;
mod settings;
mod unsafe_stores;
