//! The certificate authorities to trust: one file, read once.
//!
//! Reading the machine's folder of certificates instead means opening some 150 files in each short-lived process.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::settings::Environment;

/// Where distributions keep all authorities in one file: Debian and Alpine, Red Hat, SUSE, BSD.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

const END: &str = "-----END CERTIFICATE-----";

/// The text of the authorities that can be used, as PEM. The error says what to do.
///
/// `ca_file` counts before `SSL_CERT_FILE` and the machine's bundle.
pub(super) fn load(ca_file: Option<&Path>, environment: Environment<'_>) -> Result<String, String> {
    let path = match ca_file {
        Some(path) => path.to_owned(),
        None => machine_bundle(environment)?,
    };
    let text = std::fs::read(&path).map_err(|error| {
        format!(
            "{}: {error}. hint: set ca-file to a readable PEM file of certificate authorities",
            path.display()
        )
    })?;
    let usable = usable(&String::from_utf8_lossy(&text));
    if usable.is_empty() {
        return Err(format!(
            "{} holds no certificate in PEM. hint: set ca-file to one that does",
            path.display()
        ));
    }
    Ok(usable)
}

fn machine_bundle(environment: Environment<'_>) -> Result<PathBuf, String> {
    let named = environment("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file())).ok_or_else(|| {
        "no certificate authorities were found. hint: install ca-certificates, or set ca-file or SSL_CERT_FILE".to_owned()
    })
}

/// The certificates of `text` that the TLS library can use as authorities. It stops the whole process at others,
/// and real bundles hold a few.
fn usable(text: &str) -> String {
    let is_usable = |pem: &&str| {
        CertificateDer::from_pem_slice(pem.as_bytes())
            .is_ok_and(|certificate| RootCertStore::empty().add(certificate).is_ok())
    };
    text.split_inclusive(END).filter(is_usable).flat_map(|pem| [pem, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn what_cannot_be_used_is_left_out() {
        let machine = load(None, &nothing).unwrap();
        let first = machine.split_inclusive(END).next().unwrap();
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n";
        let mixed = file(&format!("# a comment\n{bad}{first}\n{broken}{bad}and more"));
        let found = load(Some(mixed.path()), &nothing).unwrap();
        assert_eq!(found.trim(), first.trim());
        for useless in ["", bad, broken, "words"] {
            assert!(load(Some(file(useless).path()), &nothing).unwrap_err().contains("hint: "), "{useless}");
        }
    }

    #[test]
    fn the_setting_counts_before_the_environment_and_that_before_the_machine() {
        let missing = |name: &str| (name == "SSL_CERT_FILE").then(|| "/no/such/file".to_owned());
        assert!(load(None, &missing).unwrap_err().contains("/no/such/file"));
        let own = file(load(None, &nothing).unwrap().split_inclusive(END).next().unwrap());
        assert_eq!(load(Some(own.path()), &missing).unwrap().matches(END).count(), 1);
    }
}
