//! Channel binding `tls-server-end-point`: a hash of the server's certificate.
//!
//! <https://www.rfc-editor.org/rfc/rfc5929#section-4>

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, SliceReader};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::certificate::{Certificate, pss_hash};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// The hash of a certificate by the hash algorithm it is signed with; SHA-256 for those signed with MD5 or SHA-1.
pub(crate) fn hash(certificate: &[u8]) -> Result<Vec<u8>> {
    let algorithm = Certificate::parse(certificate).and_then(|parsed| algorithm(parsed.signature_algorithm));
    match algorithm {
        Ok(Some(Hash::Sha224)) => Ok(Sha224::digest(certificate).to_vec()),
        Ok(Some(Hash::Sha256)) => Ok(Sha256::digest(certificate).to_vec()),
        Ok(Some(Hash::Sha384)) => Ok(Sha384::digest(certificate).to_vec()),
        Ok(Some(Hash::Sha512)) => Ok(Sha512::digest(certificate).to_vec()),
        Ok(None) | Err(_) => Err(Error::Authentication {
            reason: "the server's certificate is signed in a way that has no hash to bind the password to"
                .to_owned(),
            hint: "give the server a certificate signed with RSA or ECDSA, or use channel_binding=disable",
        }),
    }
}

/// The hash in a signature algorithm, given as the inside of an `AlgorithmIdentifier`.
fn algorithm(identifier: &[u8]) -> der::Result<Option<Hash>> {
    let mut reader = SliceReader::new(identifier)?;
    let mut kind = ObjectIdentifier::decode(&mut reader)?;
    // RSASSA-PSS names its hash in the parameters; none means SHA-1.
    if kind == ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10") {
        kind = pss_hash(AnyRef::decode(&mut reader)?)?.unwrap_or(SHA_1);
    }
    Ok(HASHES.iter().find(|(known, _)| *known == kind).map(|(_, hash)| *hash))
}

const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

const HASHES: &[(ObjectIdentifier, Hash)] = {
    use Hash::{Sha224, Sha256, Sha384, Sha512};
    const fn oid(text: &str) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(text)
    }
    &[
        // RSA with MD5, SHA-1 and the SHA-2 family.
        (oid("1.2.840.113549.1.1.4"), Sha256),
        (oid("1.2.840.113549.1.1.5"), Sha256),
        (oid("1.2.840.113549.1.1.14"), Sha224),
        (oid("1.2.840.113549.1.1.11"), Sha256),
        (oid("1.2.840.113549.1.1.12"), Sha384),
        (oid("1.2.840.113549.1.1.13"), Sha512),
        // ECDSA with SHA-1 and the SHA-2 family.
        (oid("1.2.840.10045.4.1"), Sha256),
        (oid("1.2.840.10045.4.3.1"), Sha224),
        (oid("1.2.840.10045.4.3.2"), Sha256),
        (oid("1.2.840.10045.4.3.3"), Sha384),
        (oid("1.2.840.10045.4.3.4"), Sha512),
        // The hashes themselves, as RSASSA-PSS names them.
        (SHA_1, Sha256),
        (oid("2.16.840.1.101.3.4.2.4"), Sha224),
        (oid("2.16.840.1.101.3.4.2.1"), Sha256),
        (oid("2.16.840.1.101.3.4.2.2"), Sha384),
        (oid("2.16.840.1.101.3.4.2.3"), Sha512),
    ]
};
