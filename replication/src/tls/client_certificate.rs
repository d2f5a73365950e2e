//! Our own certificate, for servers that ask for one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::certificate::Certificate;
use crate::config::TlsSettings;
use crate::{Error, Result};

/// What the key's file is called in messages.
const KEY: &str = "key of the client certificate";
/// Rights that nobody but the key's owner may have.
const GROUP_AND_OTHERS: u32 = 0o077;
/// The same where root owns the key: its group may read it.
const GROUP_AND_OTHERS_OF_ROOTS_KEY: u32 = 0o037;

/// The certificate that the settings name, or the default one where it exists, and its key.
pub(super) fn load(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Option<SingleCertAndKey>> {
    let Some(certificate) = &settings.certificate else { return Ok(None) };
    if !settings.certificate_is_named && !certificate.exists() {
        return Ok(None);
    }
    let chain = super::certificates_in("client certificate", certificate)?;
    let Some(path) = &settings.key else {
        let reason = "there is a certificate, and no key is named".to_owned();
        return Err(Error::Setting { setting: "sslkey".to_owned(), reason, hint: "name the key's file" });
    };
    check_rights(path)?;
    let unusable = |reason: String| Error::file(KEY, path, io::Error::other(reason));
    let key = PrivateKeyDer::from_pem_file(path)
        .map_err(|error| unusable(format!("{error} (a key with a passphrase is not supported)")))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| unusable(error.to_string()))?;
    // Rustls would compare them too, and refuse a certificate of version 1.
    let leaf = chain.first().and_then(|leaf| Certificate::parse(leaf).ok());
    let belongs = leaf.zip(key.public_key()).is_none_or(|(leaf, key)| leaf.public_key.der == key.as_ref());
    match belongs {
        true => Ok(Some(CertifiedKey::new(chain, key).into())),
        false => Err(unusable(format!("it is not the key to {}", certificate.display()))),
    }
}

fn check_rights(path: &Path) -> Result<()> {
    let facts = fs::metadata(path).map_err(|error| Error::file(KEY, path, error))?;
    let refuse = |reason: &str| Err(Error::file(KEY, path, io::Error::other(reason)));
    let forbidden = if facts.uid() == 0 { GROUP_AND_OTHERS_OF_ROOTS_KEY } else { GROUP_AND_OTHERS };
    if !facts.is_file() {
        return refuse("it is not a plain file");
    }
    if facts.mode() & forbidden != 0 {
        return refuse("its group or others have rights on it (0600 is right, and 0640 where root owns it)");
    }
    Ok(())
}
