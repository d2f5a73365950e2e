//! Encrypting to recipients.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};

use age::{EncryptError, Encryptor, Recipient};
use age_core::format::{FileKey, Stanza};
use bytes::Bytes;

use super::header::PLAIN_STANZA;
use crate::codec::Pieces;
use crate::digest::Plain;

/// To whom objects are encrypted: age's public keys, `age1…`.
#[derive(Clone)]
pub(crate) struct Recipients(Vec<age::x25519::Recipient>);

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

impl Recipients {
    /// `None` when there are none. The error is the number, from 1, of the text that is no recipient; the text is not
    /// repeated, since it may be a private key (R21).
    pub(crate) fn parse(texts: &[String]) -> Result<Option<Recipients>, usize> {
        let recipients =
            texts.iter().enumerate().map(|(index, text)| text.trim().parse().map_err(|_| index + 1));
        let recipients: Vec<_> = recipients.collect::<Result<_, _>>()?;
        Ok((!recipients.is_empty()).then_some(Recipients(recipients)))
    }

    /// Their texts.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Encrypts the pieces into one age file that says `plain` in its header. Each piece is dropped when it is done.
    pub(crate) fn seal(&self, pieces: Vec<Bytes>, plain: Plain) -> io::Result<Vec<Bytes>> {
        let facts = PlainStanza(plain);
        let recipients = self.0.iter().map(|recipient| recipient as &dyn Recipient);
        let encryptor = Encryptor::with_recipients(recipients.chain([&facts as &dyn Recipient]))
            .map_err(|error| io::Error::other(error.to_string()))?;
        let mut writer = encryptor.wrap_output(Pieces::default())?;
        for piece in pieces {
            writer.write_all(&piece)?;
        }
        Ok(writer.finish()?.into_vec())
    }
}

/// A "recipient" that wraps no key and adds our stanza.
struct PlainStanza(Plain);

impl Recipient for PlainStanza {
    fn wrap_file_key(&self, _: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let args = vec![self.0.length.to_string(), self.0.digest.to_string()];
        Ok((vec![Stanza { tag: PLAIN_STANZA.to_owned(), args, body: Vec::new() }], HashSet::new()))
    }
}
