//! Headers of age files, as far as they can be read without an identity.

use crate::codec::Fault;
use crate::digest::Plain;

const VERSION_LINE: &[u8] = b"age-encryption.org/v1\n";
/// Longer headers are refused; one with a few recipients has less than 1 KiB.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 10;
/// The payload's nonce follows the header.
const NONCE_BYTES: usize = 16;
/// The type of our stanza; its arguments are the plain bytes' length in decimal and their digest.
pub(super) const PLAIN_STANZA: &str = "highwater-plain";

/// Whether an object that begins so is encrypted.
pub(crate) fn is_encrypted(object: &[u8]) -> bool {
    object.starts_with(VERSION_LINE)
}

/// The header at the beginning of `object`, with the line that ends it.
fn header(object: &[u8]) -> Result<&[u8], Fault> {
    let bytes = &object[..object.len().min(MAX_HEADER_BYTES)];
    let end = bytes.windows(5).position(|window| window == b"\n--- ").and_then(|last_line| {
        let from = last_line + 5;
        bytes[from..].iter().position(|byte| *byte == b'\n').map(|length| from + length + 1)
    });
    match end {
        Some(end) if is_encrypted(object) => Ok(&bytes[..end]),
        _ => Err(Fault::Damaged("it has no complete age header".to_owned())),
    }
}

/// Where the encrypted chunks begin.
pub(crate) fn payload_start(object: &[u8]) -> Result<usize, Fault> {
    header(object).map(|header| header.len() + NONCE_BYTES)
}

/// Length and digest of the plain bytes, from our stanza. Without an identity its truth cannot be checked.
pub(crate) fn plain_of_header(object: &[u8]) -> Result<Plain, Fault> {
    let missing = || Fault::Damaged(format!("its age header has no {PLAIN_STANZA} stanza that can be read"));
    let header = std::str::from_utf8(header(object)?).map_err(|_| missing())?;
    let line = header
        .lines()
        .find_map(|line| line.strip_prefix("-> ")?.strip_prefix(PLAIN_STANZA)?.strip_prefix(' '))
        .ok_or_else(missing)?;
    let (length, digest) = line.split_once(' ').ok_or_else(missing)?;
    let digest = digest.parse().map_err(|_| missing())?;
    Ok(Plain { length: length.parse().map_err(|_| missing())?, digest })
}
