//! Whether to believe a server's certificate, by libpq's rules.
//!
//! Certificates of X.509 version 3 go through `rustls`. What it cannot take, and libpq can, is decided here, narrowly: a
//! certificate that is itself one of the root certificates, and one of version 1 that a root certificate signed directly.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::{Certificate, PublicKey, VERSION_1};
use super::names;

/// Whom to believe.
#[derive(Debug)]
pub(super) enum Trust {
    /// Anybody who has the key to the certificate shown.
    Anybody,
    /// Whom a root certificate vouches for.
    Roots {
        roots: Roots,
        /// The host that the certificate must be for, where that is asked for.
        host: Option<String>,
    },
}

/// Root certificates, for both ways to decide.
#[derive(Debug)]
pub(super) struct Roots {
    verifier: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
    /// Certificates without an issuer's list of revoked ones can't be checked against it.
    has_revocation_lists: bool,
}

impl Roots {
    pub(super) fn new(
        certificates: Vec<CertificateDer<'static>>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Roots, String> {
        let mut store = RootCertStore::empty();
        // Systems keep some that are too old to be read, beside many that are well.
        store.add_parsable_certificates(certificates.iter().cloned());
        let has_revocation_lists = !revoked.is_empty();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .with_crls(revoked)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Roots { verifier, certificates, has_revocation_lists })
    }
}

/// Decides for one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Roots { roots, host } = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let certificate = parse(end_entity)?;
        let is_root = roots.certificates.iter().any(|root| root == end_entity);
        if is_root || certificate.version == VERSION_1 {
            self.verify_directly(&certificate, is_root, roots, now)?;
        } else {
            match roots.verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ) {
                // The name is looked at last, so all else is well; libpq's rule for names is below.
                Ok(_)
                | Err(Error::InvalidCertificate(CertificateError::NotValidForName))
                | Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        match host {
            Some(host) if !names::matches(&certificate, host).map_err(|_| bad_encoding())? => {
                Err(CertificateError::NotValidForName.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(certificate)?;
        let mut schemes = self.algorithms.mapping.iter();
        let algorithms =
            schemes.find(|(scheme, _)| *scheme == signature.scheme).map_or(&[][..], |(_, list)| *list);
        match is_signed(algorithms, &certificate.public_key, None, message, signature.signature()) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(certificate)?;
        let key = SubjectPublicKeyInfoDer::from(certificate.public_key.der);
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    fn verify_directly(
        &self,
        certificate: &Certificate<'_>,
        is_root: bool,
        roots: &Roots,
        now: UnixTime,
    ) -> Result<(), Error> {
        if !certificate.is_valid_at(now) {
            return Err(CertificateError::Expired.into());
        }
        if roots.has_revocation_lists {
            return Err(CertificateError::UnknownRevocationStatus.into());
        }
        let is_vouched_for = is_root
            || roots.certificates.iter().filter_map(|root| Certificate::parse(root).ok()).any(|root| {
                root.subject == certificate.issuer
                    && root.is_authority()
                    && root.is_valid_at(now)
                    && is_signed(
                        self.algorithms.all,
                        &root.public_key,
                        Some(certificate.signature_algorithm),
                        certificate.signed,
                        certificate.signature,
                    )
            });
        match is_vouched_for {
            true => Ok(()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

/// Whether one of the algorithms fits the key (and the name of the algorithm, where there is one) and finds the
/// signature right.
fn is_signed(
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    key: &PublicKey<'_>,
    named: Option<&[u8]>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    algorithms.iter().any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key.algorithm
            && named.is_none_or(|named| algorithm.signature_alg_id().as_ref() == named)
            && algorithm.verify_signature(key.bits, message, signature).is_ok()
    })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<Certificate<'a>, Error> {
    Certificate::parse(certificate).map_err(|_| bad_encoding())
}

fn bad_encoding() -> Error {
    CertificateError::BadEncoding.into()
}
