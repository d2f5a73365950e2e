//! An identity wrapped by a passphrase: an age file with the `scrypt` recipient, whose content is an identity file.

use std::io::{self, Read, Write};
use std::iter;

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor};
use highwater_storage::Secret;

use super::open::Unopened;

/// The most work, as a power of two, that a wrapped identity may ask for before it is opened: about a minute.
const MAX_WORK_FACTOR: u8 = 22;
/// The longest content; a file with one identity has about 200 bytes.
const MAX_IDENTITY_BYTES: u64 = 64 << 10;

fn secret(passphrase: &Secret) -> SecretString {
    SecretString::from(passphrase.expose().to_owned())
}

/// Wraps the text of an identity file. `work_factor` is the power of two of scrypt's work: 18 takes about a second.
pub(crate) fn wrap_identity(identity: &str, passphrase: &Secret, work_factor: u8) -> io::Result<Vec<u8>> {
    let mut recipient = age::scrypt::Recipient::new(secret(passphrase));
    recipient.set_work_factor(work_factor.clamp(1, MAX_WORK_FACTOR));
    let encryptor = Encryptor::with_recipients(iter::once(&recipient as _))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut writer = encryptor.wrap_output(Vec::new())?;
    writer.write_all(identity.as_bytes())?;
    writer.finish()
}

/// The text of a wrapped identity file. [`Unopened::NoIdentity`] means another passphrase.
pub(crate) fn unwrap_identity(wrapped: &[u8], passphrase: &Secret) -> Result<Secret, Unopened> {
    let mut identity = age::scrypt::Identity::new(secret(passphrase));
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let reader = Decryptor::new_buffered(wrapped).and_then(|file| file.decrypt(iter::once(&identity as _)));
    let reader = reader.map_err(|error| match error {
        DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed => Unopened::NoIdentity,
        other => Unopened::damaged(other),
    })?;
    let mut text = String::new();
    reader.take(MAX_IDENTITY_BYTES).read_to_string(&mut text).map_err(Unopened::damaged)?;
    Ok(Secret::new(text))
}
