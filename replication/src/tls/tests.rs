//! Handshakes with a server in memory, over certificates made by `openssl` for each test.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;
use super::*;
use crate::config::TlsVersions;

const EC: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const RSA: &[&str] = &["-newkey", "rsa:2048", "-nodes"];
const HOST: &str = "db.example.com";

/// A folder with keys and certificates.
struct Folder(TempDir);

impl Folder {
    /// With an authority that has signed nothing yet.
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.authority("ca");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        let output = output.expect("openssl is there; hint: run scripts/setup");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn authority(&self, name: &str) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let subject = format!("/CN=authority {name}");
        let arguments =
            ["req", "-x509", "-days", "30", "-subj", &subject, "-keyout", &key, "-out", &certificate];
        self.openssl(&[&arguments[..], EC].concat());
    }

    /// A certificate signed by an authority. Without extensions it is of version 1, as PostgreSQL's documentation has it.
    fn signed(&self, name: &str, authority: &str, subject: &str, extensions: Option<&str>, days: &str) {
        let [key, request, certificate, file] =
            ["key", "csr", "crt", "ext"].map(|end| format!("{name}.{end}"));
        self.openssl(
            &[&["req", "-new", "-subj", subject, "-keyout", &key, "-out", &request][..], EC].concat(),
        );
        let [ca, ca_key] = [format!("{authority}.crt"), format!("{authority}.key")];
        let sign = ["x509", "-req", "-in", &request, "-days", days, "-CA", &ca, "-CAkey", &ca_key];
        let mut sign = [&sign[..], &["-CAcreateserial", "-out", &certificate]].concat();
        if let Some(extensions) = extensions {
            fs::write(self.path(&file), extensions).unwrap();
            sign.extend(["-extfile", &file]);
        }
        self.openssl(&sign);
    }

    fn der(&self, name: &str) -> Vec<u8> {
        self.openssl(&["x509", "-in", &format!("{name}.crt"), "-outform", "DER"])
    }
}

/// Shows one certificate, whatever it is.
#[derive(Debug)]
struct Show(Arc<CertifiedKey>);

impl ResolvesServerCert for Show {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn settings(mode: SslMode, root: Option<PathBuf>) -> TlsSettings {
    TlsSettings {
        mode,
        negotiation: SslNegotiation::Postgres,
        root: root.map_or(RootCertificates::IfThere(None), RootCertificates::File),
        revoked: None,
        certificate: None,
        certificate_is_named: false,
        key: None,
        server_name: true,
        versions: TlsVersions { v12: true, v13: true },
    }
}

/// A handshake and a byte each way.
async fn shake(
    folder: &Folder,
    server: &str,
    settings: &TlsSettings,
    host: &str,
    version: &'static SupportedProtocolVersion,
) -> Result<()> {
    let chain = certificates_in("certificate", &folder.path(&format!("{server}.crt"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path(&format!("{server}.key"))).unwrap();
    let shown = CertifiedKey::new(chain, any_supported_type(&key).unwrap());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Show(Arc::new(shown))));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (ours, theirs) = duplex(4096);
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(theirs).await.ok()?;
        let byte = stream.read_u8().await.ok()?;
        stream.write_u8(byte + 1).await.ok()
    });
    let tls = Tls::new(settings, host)?;
    let mut stream = tls.handshake(ours, IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
    stream.write_u8(41).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 42);
    server.await.unwrap();
    Ok(())
}

async fn refusal(folder: &Folder, server: &str, settings: &TlsSettings, host: &str) -> Option<String> {
    let mut refusals = Vec::new();
    for version in [&TLS12, &TLS13] {
        let error = shake(folder, server, settings, host, version).await.err().map(|error| error.to_string());
        assert!(error.as_ref().is_none_or(|error| error.contains("hint: ")), "{error:?}");
        refusals.push(error);
    }
    assert_eq!(
        refusals[0].is_some(),
        refusals[1].is_some(),
        "both versions of TLS decide alike: {refusals:?}"
    );
    refusals.pop().flatten()
}

#[tokio::test]
async fn sslmode_decides_what_must_be_proved() {
    let folder = Folder::new();
    folder.authority("stranger");
    let names = format!("subjectAltName=DNS:{HOST},IP:127.0.0.1\nextendedKeyUsage=serverAuth\n");
    folder.signed("v3", "ca", "/CN=ignored.example.com", Some(&names), "30");
    folder.signed("client-only", "ca", "/CN=x", Some(&names.replace("serverAuth", "clientAuth")), "30");
    folder.signed("v1", "ca", &format!("/CN={HOST}"), None, "30");
    folder.signed("v1-stranger", "stranger", &format!("/CN={HOST}"), None, "30");
    folder.signed("v3-stranger", "stranger", "/CN=x", Some(&names), "30");
    folder.signed("old-v1", "ca", &format!("/CN={HOST}"), None, "-1");
    // Signed by somebody whom the authority has signed, but who is no authority.
    folder.signed("upstart", "v1", &format!("/CN={HOST}"), None, "30");
    let ca = || Some(folder.path("ca.crt"));
    let plain = |mode| settings(mode, None);
    let checked = |mode| settings(mode, ca());
    use SslMode::{Prefer, Require, VerifyCa, VerifyFull};
    let table: &[(&str, TlsSettings, &str, Option<&str>)] = &[
        // Without root certificates anybody is believed, also with a certificate of version 1.
        ("v3-stranger", plain(Prefer), HOST, None),
        ("v3-stranger", plain(Require), HOST, None),
        ("v1-stranger", plain(Require), HOST, None),
        // With them the chain counts, even below verify-ca.
        ("v3", checked(Prefer), "elsewhere", None),
        ("v3", checked(Require), "elsewhere", None),
        ("v1", checked(Require), "elsewhere", None),
        ("v3-stranger", checked(Prefer), HOST, Some("UnknownIssuer")),
        ("v3-stranger", checked(Require), HOST, Some("UnknownIssuer")),
        ("v3", checked(VerifyCa), "elsewhere", None),
        ("v1", checked(VerifyCa), "elsewhere", None),
        ("v3-stranger", checked(VerifyCa), HOST, Some("UnknownIssuer")),
        ("v1-stranger", checked(VerifyCa), HOST, Some("UnknownIssuer")),
        ("upstart", checked(VerifyCa), HOST, Some("UnknownIssuer")),
        ("upstart", settings(VerifyCa, Some(folder.path("v1.crt"))), HOST, None),
        ("client-only", checked(VerifyCa), HOST, Some("extended key usage")),
        ("old-v1", checked(VerifyCa), HOST, Some("Expired")),
        // And the name, with verify-full: the alternative names, else the common name.
        ("v3", checked(VerifyFull), HOST, None),
        ("v3", checked(VerifyFull), "127.0.0.1", None),
        ("v1", checked(VerifyFull), HOST, None),
        ("v3", checked(VerifyFull), "ignored.example.com", Some("NotValidForName")),
        ("v3", checked(VerifyFull), "127.0.0.2", Some("NotValidForName")),
        ("v1", checked(VerifyFull), "elsewhere", Some("NotValidForName")),
        ("v1-stranger", checked(VerifyFull), HOST, Some("UnknownIssuer")),
    ];
    for (server, settings, host, expected) in table {
        let refusal = refusal(&folder, server, settings, host).await;
        match (expected, &refusal) {
            (None, None) => {}
            (Some(word), Some(refusal)) if refusal.contains(word) => {}
            _ => panic!("{server} {:?} {host}: {expected:?}, {refusal:?}", settings.mode),
        }
    }
}

#[tokio::test]
async fn a_servers_own_certificate_can_be_its_root() {
    let folder = Folder::new();
    let subject = format!("/CN={HOST}");
    let own = ["req", "-x509", "-days", "30", "-subj", &subject, "-keyout", "own.key", "-out", "own.crt"];
    folder.openssl(&[&own[..], RSA].concat());
    let own = |mode| settings(mode, Some(folder.path("own.crt")));
    assert_eq!(refusal(&folder, "own", &own(SslMode::VerifyFull), HOST).await, None);
    assert!(
        refusal(&folder, "own", &own(SslMode::VerifyFull), "elsewhere")
            .await
            .unwrap()
            .contains("NotValidForName")
    );
    let other = settings(SslMode::VerifyCa, Some(folder.path("ca.crt")));
    assert!(refusal(&folder, "own", &other, HOST).await.is_some());
}

#[tokio::test]
async fn a_chain_through_an_intermediate() {
    let folder = Folder::new();
    let authority = "basicConstraints=critical,CA:TRUE\n";
    folder.signed("middle", "ca", "/CN=middle", Some(authority), "30");
    folder.signed("leaf", "middle", "/CN=x", Some(&format!("subjectAltName=DNS:{HOST}\n")), "30");
    let settings = settings(SslMode::VerifyFull, Some(folder.path("ca.crt")));
    assert!(refusal(&folder, "leaf", &settings, HOST).await.unwrap().contains("UnknownIssuer"));
    let both = ["leaf.crt", "middle.crt"].map(|name| fs::read_to_string(folder.path(name)).unwrap()).concat();
    fs::write(folder.path("leaf.crt"), both).unwrap();
    assert_eq!(refusal(&folder, "leaf", &settings, HOST).await, None);
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let folder = Folder::new();
    let names = format!("subjectAltName=DNS:{HOST}\n");
    folder.signed("good", "ca", "/CN=good", Some(&names), "30");
    folder.signed("bad", "ca", "/CN=bad", Some(&names), "30");
    folder.signed("v1", "ca", "/CN=v1", None, "30");
    fs::write(folder.path("index.txt"), "").unwrap();
    let config = "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n";
    fs::write(folder.path("ca.cnf"), config).unwrap();
    let ca = ["ca", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.crt"];
    folder.openssl(&[&ca[..], &["-revoke", "bad.crt"]].concat());
    folder.openssl(&[&ca[..], &["-gencrl", "-crldays", "30", "-out", "revoked.crl"]].concat());
    let revoked = Some(folder.path("revoked.crl"));
    let settings = TlsSettings { revoked, ..settings(SslMode::VerifyFull, Some(folder.path("ca.crt"))) };
    assert_eq!(refusal(&folder, "good", &settings, HOST).await, None);
    assert!(refusal(&folder, "bad", &settings, HOST).await.unwrap().contains("Revoked"));
    // A certificate of version 1 cannot be looked up in the list by us, so it is not believed.
    assert!(refusal(&folder, "v1", &settings, HOST).await.unwrap().contains("UnknownRevocationStatus"));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let error =
        |settings: TlsSettings, host: &str| Tls::new(&settings, host).map(drop).unwrap_err().to_string();
    fs::write(folder.path("empty"), "").unwrap();
    for (settings, words) in [
        (settings(SslMode::VerifyCa, None), &["no root certificates", "sslrootcert"][..]),
        (settings(SslMode::Require, Some(folder.path("none"))), &["none", "root certificate file"]),
        (settings(SslMode::Require, Some(folder.path("empty"))), &["empty", "no certificate in PEM form"]),
        (settings(SslMode::Require, Some(folder.path("ca.key"))), &["ca.key", "no certificate in PEM form"]),
    ] {
        let error = error(settings, HOST);
        assert!(words.iter().all(|word| error.contains(word)) && error.contains("hint: "), "{error}");
    }
    let ca = || Some(folder.path("ca.crt"));
    assert!(error(settings(SslMode::VerifyFull, ca()), "").contains("needs a host name"));
    let named = |certificate: &str, key: &str| TlsSettings {
        certificate: Some(folder.path(certificate)),
        certificate_is_named: true,
        key: Some(folder.path(key)),
        ..settings(SslMode::Require, ca())
    };
    assert!(error(named("none", "ca.key"), HOST).contains("none"));
    assert!(error(named("ca.crt", "none"), HOST).contains("none"));
    set_mode(&folder.path("ca.key"), 0o644);
    assert!(error(named("ca.crt", "ca.key"), HOST).contains("0600"));
    set_mode(&folder.path("ca.key"), 0o600);
    Tls::new(&named("ca.crt", "ca.key"), HOST).map(drop).unwrap();
    folder.authority("other");
    set_mode(&folder.path("other.key"), 0o600);
    assert!(error(named("ca.crt", "other.key"), HOST).contains("not the key to"));
    folder.openssl(&["ec", "-in", "ca.key", "-aes256", "-passout", "pass:x", "-out", "locked.key"]);
    set_mode(&folder.path("locked.key"), 0o600);
    assert!(error(named("ca.crt", "locked.key"), HOST).contains("passphrase"));
    let unnamed = TlsSettings { certificate_is_named: false, ..named("none", "none") };
    Tls::new(&unnamed, HOST).map(drop).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_end_point_is_hashed_as_the_certificate_is_signed() {
    let folder = Folder::new();
    let pss = ["-sigopt", "rsa_padding_mode:pss"];
    let table: &[(&[&str], &[&str], Option<&str>)] = &[
        (EC, &["-sha256"], Some("-sha256")),
        (EC, &["-sha384"], Some("-sha384")),
        (RSA, &["-sha256"], Some("-sha256")),
        (RSA, &["-sha512"], Some("-sha512")),
        (RSA, &["-sha224"], Some("-sha224")),
        (RSA, &["-sha1"], Some("-sha256")),
        (RSA, &["-md5"], Some("-sha256")),
        (RSA, &[&["-sha384"][..], &pss].concat(), Some("-sha384")),
        (&["-newkey", "ed25519", "-nodes"], &[], None),
    ];
    for (key, signature, digest) in table {
        let make = ["req", "-x509", "-days", "30", "-subj", "/CN=x", "-keyout", "x.key", "-out", "x.crt"];
        folder.openssl(&[&make[..], key, signature].concat());
        let hash = end_point::hash(&folder.der("x"));
        match digest {
            Some(digest) => {
                let shown = folder.openssl(&["x509", "-in", "x.crt", "-noout", "-fingerprint", digest]);
                let shown = String::from_utf8(shown).unwrap();
                let shown = shown.split_once('=').unwrap().1.trim().replace(':', "");
                let hash: String = hash.unwrap().iter().map(|byte| format!("{byte:02X}")).collect();
                assert_eq!(hash, shown, "{signature:?}");
            }
            None => assert!(hash.unwrap_err().to_string().contains("channel_binding=disable")),
        }
    }
}

#[test]
fn the_names_in_a_certificate() {
    let folder = Folder::new();
    folder.signed("cn", "ca", "/O=Company/CN=first.example.com/CN=second.example.com", None, "30");
    let only_ip = "subjectAltName=IP:10.0.0.1,IP:::1,email:a@example.com\n";
    folder.signed("ip", "ca", "/CN=db.example.com", Some(only_ip), "30");
    folder.signed("wild", "ca", "/CN=10.0.0.9", Some("subjectAltName=DNS:*.example.com\n"), "30");
    for (name, host, expected) in [
        ("cn", "first.example.com", true),
        ("cn", "second.example.com", false),
        ("ip", "10.0.0.1", true),
        ("ip", "::1", true),
        ("ip", "10.0.0.2", false),
        ("ip", "db.example.com", true),
        ("wild", "db.example.com", true),
        ("wild", "a.db.example.com", false),
        ("wild", "10.0.0.9", true),
    ] {
        let der = folder.der(name);
        assert_eq!(
            names::matches(&Certificate::parse(&der).unwrap(), host).unwrap(),
            expected,
            "{name} {host}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_certificate_or_none(bytes in any::<Vec<u8>>()) {
        let _ = Certificate::parse(&bytes);
        let _ = end_point::hash(&bytes);
    }
}

#[test]
fn a_certificate_with_any_byte_changed_does_no_harm() {
    let folder = Folder::new();
    folder.signed(
        "v3",
        "ca",
        "/CN=x",
        Some("subjectAltName=DNS:a,IP:10.0.0.1\nbasicConstraints=CA:FALSE\n"),
        "30",
    );
    let der = folder.der("v3");
    for place in 0..der.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[place] ^= change;
            if let Ok(certificate) = Certificate::parse(&changed) {
                let _ = certificate.is_authority();
                let _ = names::matches(&certificate, "10.0.0.1");
            }
            let _ = end_point::hash(&changed);
        }
    }
}
