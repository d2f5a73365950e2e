//! TLS with libpq's meanings of `sslmode`, by `rustls` and its `ring` provider.

mod certificate;
mod client_certificate;
pub(crate) mod end_point;
mod names;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::verify::{Roots, Trust, Verifier};
use crate::config::{RootCertificates, SslMode, SslNegotiation, TlsSettings};
use crate::{Error, Result};

/// The name of PostgreSQL's protocol for ALPN.
const ALPN: &[u8] = b"postgresql";

/// TLS for one server: whom to trust, and what to show of ourselves.
pub(crate) struct Tls {
    connector: TlsConnector,
    host: String,
    negotiation: SslNegotiation,
}

impl Tls {
    /// Reads the files that the settings name. `host` is the name the certificate must be for; it may be empty where
    /// only an address is known.
    pub(crate) fn new(settings: &TlsSettings, host: &str) -> Result<Tls> {
        let provider = Arc::new(ring::default_provider());
        let trust = trust(settings, host, &provider)?;
        let algorithms = provider.signature_verification_algorithms;
        let versions = [(settings.versions.v12, &TLS12), (settings.versions.v13, &TLS13)];
        let versions: Vec<_> = versions.iter().filter(|(on, _)| *on).map(|(_, version)| *version).collect();
        let identity = client_certificate::load(settings, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| refused(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, algorithms }));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = settings.server_name;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Tls { connector, host: host.to_owned(), negotiation: settings.negotiation })
    }

    /// Whether the server is to be asked first whether it speaks TLS.
    pub(crate) fn asks_first(&self) -> bool {
        self.negotiation == SslNegotiation::Postgres
    }

    /// The TLS handshake. `address` stands in for a host name that cannot be one in TLS.
    pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        address: IpAddr,
    ) -> Result<TlsStream<S>> {
        let name = ServerName::try_from(self.host.clone()).unwrap_or(ServerName::IpAddress(address.into()));
        let stream =
            self.connector.connect(name, stream).await.map_err(|error| refused(error.to_string()))?;
        if !self.asks_first() && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(Error::Tls {
                reason: "the server does not confirm that it speaks PostgreSQL's protocol".to_owned(),
                hint: "sslnegotiation=direct needs PostgreSQL 17 or newer; leave it out",
            });
        }
        Ok(stream)
    }
}

fn trust(settings: &TlsSettings, host: &str, provider: &Arc<CryptoProvider>) -> Result<Trust> {
    let must_verify = settings.mode >= SslMode::VerifyCa;
    let (certificates, named) = match &settings.root {
        RootCertificates::System => (system_certificates()?, "the system's root certificates".to_owned()),
        RootCertificates::File(path) => {
            (certificates_in("root certificate file", path)?, path.display().to_string())
        }
        RootCertificates::IfThere(Some(path)) if path.exists() => {
            (certificates_in("root certificate file", path)?, path.display().to_string())
        }
        RootCertificates::IfThere(_) if must_verify => {
            let reason = "no root certificates are known to check the server's certificate with".to_owned();
            let hint = "name their file by sslrootcert, or put it at ~/.postgresql/root.crt";
            return Err(Error::Tls { reason, hint });
        }
        RootCertificates::IfThere(_) => return Ok(Trust::Anybody),
    };
    let host = match settings.mode {
        SslMode::VerifyFull if host.is_empty() => {
            let reason = "sslmode=verify-full needs a host name, and only an address is known".to_owned();
            return Err(Error::Tls { reason, hint: "give host beside hostaddr" });
        }
        SslMode::VerifyFull => Some(host.to_owned()),
        _ => None,
    };
    let revoked = match &settings.revoked {
        Some(path) => revocation_lists_in(path)?,
        None => Vec::new(),
    };
    let roots = Roots::new(certificates, revoked, provider).map_err(|error| Error::Tls {
        reason: format!("{named}: {error}"),
        hint: "the file holds one or more certificates in PEM form",
    })?;
    Ok(Trust::Roots { roots, host })
}

/// The certificates in a PEM file; at least one.
fn certificates_in(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |reason: String| Error::file(what, path, io::Error::other(reason));
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(wrong("it holds no certificate in PEM form".to_owned()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn revocation_lists_in(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let lists = CertificateRevocationListDer::pem_file_iter(path).and_then(Iterator::collect);
    lists.map_err(|error| {
        Error::file("certificate revocation list", path, io::Error::other(error.to_string()))
    })
}

fn system_certificates() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    match found.certs.is_empty() {
        false => Ok(found.certs),
        true => Err(Error::Tls {
            reason: "the operating system has no root certificates".to_owned(),
            hint: "install them (Debian: ca-certificates), or name a file by sslrootcert",
        }),
    }
}

fn refused(reason: String) -> Error {
    Error::Tls { reason, hint: "look at the server's certificate and at sslmode, sslrootcert and host here" }
}
