//! Encryption: the age format, version 1 (<https://age-encryption.org/v1>), for X25519 recipients.
//!
//! A host that only archives holds the recipients, public keys; who restores holds an identity, a private key. Each
//! header carries, beside the stanzas that age knows, one of ours with length and digest of the plain bytes, so that
//! R3 can be decided without an identity. `age -d` passes over it.

mod header;
mod open;
mod passphrase;
mod seal;

pub(crate) use header::{MAX_HEADER_BYTES, is_encrypted, payload_start, plain_of_header};
pub(crate) use open::{ChunkRange, Identities, Unopened, sealed_bytes, whole_chunks};
pub(crate) use passphrase::{unwrap_identity, wrap_identity};
pub(crate) use seal::Recipients;

#[cfg(test)]
mod tests;
