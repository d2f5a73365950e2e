//! Our own certificate, for servers that ask for one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsSettings;
use crate::{Error, Result};

/// Rights that nobody but the key's owner may have.
const GROUP_AND_OTHERS: u32 = 0o077;
/// The same where root owns the key: its group may read it.
const GROUP_AND_OTHERS_OF_ROOTS_KEY: u32 = 0o037;

/// A certificate with what leads from it to its root, and the key to it.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificate that the settings name, or the default one where it exists.
pub(super) fn load(settings: &TlsSettings) -> Result<Option<Identity>> {
    let Some(certificate) = &settings.certificate else { return Ok(None) };
    if !settings.certificate_is_named && !certificate.exists() {
        return Ok(None);
    }
    let chain = super::certificates_in("client certificate", certificate)?;
    let Some(key) = &settings.key else {
        let reason = "there is a certificate, and no key is named".to_owned();
        return Err(Error::Setting { setting: "sslkey".to_owned(), reason, hint: "name the key's file" });
    };
    check_rights(key)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        let reason = format!("{error} (a key with a passphrase is not supported)");
        Error::file("key of the client certificate", key, io::Error::other(reason))
    })?;
    Ok(Some((chain, key)))
}

fn check_rights(path: &Path) -> Result<()> {
    let what = "key of the client certificate";
    let facts = fs::metadata(path).map_err(|error| Error::file(what, path, error))?;
    let refuse = |reason: &str| Err(Error::file(what, path, io::Error::other(reason)));
    let forbidden = if facts.uid() == 0 { GROUP_AND_OTHERS_OF_ROOTS_KEY } else { GROUP_AND_OTHERS };
    if !facts.is_file() {
        return refuse("it is not a plain file");
    }
    if facts.mode() & forbidden != 0 {
        return refuse("its group or others have rights on it (0600 is right, and 0640 where root owns it)");
    }
    Ok(())
}
