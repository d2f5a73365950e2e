//! Whether and how to encrypt: libpq's `ssl…` settings.
//!
//! <https://www.postgresql.org/docs/18/libpq-ssl.html>

use std::path::PathBuf;

/// How much encryption and proof is asked for (`sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server does not take us without.
    Allow,
    /// TLS when the server can; without, otherwise.
    Prefer,
    /// Only TLS; the server's certificate is checked where root certificates are there.
    Require,
    /// Only TLS, with a certificate that leads to a root certificate.
    VerifyCa,
    /// The same, and the certificate is for the host we asked for.
    VerifyFull,
}

impl SslMode {
    pub(crate) const WORDS: [(&str, SslMode); 6] = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
}

/// How TLS begins (`sslnegotiation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslNegotiation {
    /// The server is asked first, in PostgreSQL's protocol.
    Postgres,
    /// At once, with ALPN; PostgreSQL 17 and newer.
    Direct,
}

/// Whether the password must be bound to the TLS connection (`channel_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// Always: a server that proves nothing about the password is refused.
    Require,
}

/// Where the root certificates are (`sslrootcert`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// `~/.postgresql/root.crt`, if it exists.
    IfThere(Option<PathBuf>),
    /// This file.
    File(PathBuf),
    /// Those the operating system trusts.
    System,
}

/// Which versions of TLS may be spoken. Those before 1.2 never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub v12: bool,
    /// TLS 1.3.
    pub v13: bool,
}

/// libpq's `ssl…` settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// How much encryption and proof is asked for. It says nothing about Unix sockets, which are never encrypted.
    pub mode: SslMode,
    /// How TLS begins.
    pub negotiation: SslNegotiation,
    /// Whom to trust.
    pub root: RootCertificates,
    /// File of revoked certificates.
    pub revoked: Option<PathBuf>,
    /// Our certificate; `None` means none is sent.
    pub certificate: Option<PathBuf>,
    /// Whether the certificate was named, so that it must exist.
    pub certificate_is_named: bool,
    /// The key to it.
    pub key: Option<PathBuf>,
    /// Whether the host's name is sent in the clear, for proxies (`sslsni`).
    pub server_name: bool,
    /// Which versions may be spoken.
    pub versions: TlsVersions,
}
