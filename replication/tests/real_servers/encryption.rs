//! `sslmode` and the rest of TLS, against real servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::{refusal, replication, sql, value};
use highwater_replication::{Error, Result};
use highwater_tests::postgres::Builder;
use highwater_tests::{Postgres, Scratch, VERSIONS, give_to_server_account};

const IS_ENCRYPTED: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

/// Whether the connection came to be, and encrypted or not.
async fn encrypted(text: &str) -> Result<bool> {
    let mut client = sql(text).await?;
    Ok(value(&mut client, IS_ENCRYPTED).await == "t")
}

fn place(server: &Postgres, host: &str, more: &str) -> String {
    format!("host={host} port={} user=postgres dbname=postgres {more}", server.address().port())
}

fn openssl(folder: &Scratch, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output();
    let output = output.expect("openssl is there; hint: run scripts/setup");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn what_pg_hba_says_decides_for_allow_and_prefer() {
    let with_tls = Postgres::builder().tls().start();
    let without = Postgres::builder().tcp().start();
    let only_tls = Postgres::builder().tls().hba("hostssl all all 127.0.0.1/32 trust").start();
    let only_plain = Postgres::builder().tls().hba("hostnossl all all 127.0.0.1/32 trust").start();
    for (server, mode, expected) in [
        (&with_tls, "disable", Some(false)),
        (&with_tls, "allow", Some(false)),
        (&with_tls, "prefer", Some(true)),
        (&with_tls, "require", Some(true)),
        (&without, "allow", Some(false)),
        (&without, "prefer", Some(false)),
        (&without, "require", None),
        (&only_tls, "disable", None),
        (&only_tls, "allow", Some(true)),
        (&only_tls, "prefer", Some(true)),
        (&only_plain, "allow", Some(false)),
        (&only_plain, "prefer", Some(false)),
        (&only_plain, "require", None),
    ] {
        let text = place(server, "127.0.0.1", &format!("sslmode={mode}"));
        match (encrypted(&text).await, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, expected, "{mode}"),
            (Err(error), None) => assert!(error.to_string().contains("hint: "), "{error}"),
            (result, expected) => panic!("{mode}: {expected:?}, {result:?}"),
        }
    }
    // Both tries are told when neither works.
    let error = refusal(
        sql(&place(&only_plain, "127.0.0.1", "sslmode=prefer user=nobody").replace("user=postgres", ""))
            .await,
    );
    assert!(matches!(&error, Error::Connect { attempts } if attempts.len() == 2), "{error}");
    assert!(error.to_string().contains("with TLS") && error.to_string().contains("without TLS"), "{error}");
    // A Unix socket is never encrypted, whatever is asked for.
    let socket = format!(
        "host={} port={} user=postgres dbname=postgres sslmode=verify-full",
        with_tls.folder().display(),
        with_tls.address().port()
    );
    assert!(!encrypted(&socket).await.unwrap());
}

#[tokio::test]
async fn verify_ca_and_verify_full_prove_the_server() {
    let other = Postgres::builder().tls().start();
    for version in VERSIONS {
        let server = Postgres::builder().version(version).tls().start();
        let own = format!("sslrootcert={}", server.ca_certificate().display());
        let strange = format!("sslrootcert={}", other.ca_certificate().display());
        for (host, more, accepted) in [
            ("localhost", format!("sslmode=verify-full {own}"), true),
            ("127.0.0.1", format!("sslmode=verify-full {own}"), true),
            ("localhost", format!("sslmode=verify-full {own} ssl_min_protocol_version=TLSv1.3"), true),
            ("localhost", format!("sslmode=verify-full {own} ssl_max_protocol_version=TLSv1.2"), true),
            ("localhost", format!("sslmode=verify-full {own} sslsni=0"), true),
            ("elsewhere", format!("hostaddr=127.0.0.1 sslmode=verify-ca {own}"), true),
            ("elsewhere", format!("hostaddr=127.0.0.1 sslmode=verify-full {own}"), false),
            ("localhost", format!("sslmode=verify-ca {strange}"), false),
            ("localhost", format!("sslmode=verify-full {strange}"), false),
            ("localhost", format!("sslmode=require {strange}"), false),
            ("localhost", "sslmode=verify-full sslrootcert=system".to_owned(), false),
        ] {
            let text = place(&server, host, &more);
            match (encrypted(&text).await, accepted) {
                (Ok(encrypted), true) => assert!(encrypted),
                (Err(error), false) => assert!(error.to_string().contains("TLS: "), "{error}"),
                (result, _) => panic!("{version} {more}: {result:?}"),
            }
        }
        // With prefer a server that cannot prove itself is taken as one without TLS, as libpq has it.
        assert!(
            !encrypted(&place(&server, "localhost", &format!("sslmode=prefer {strange}"))).await.unwrap()
        );
        let mut client =
            replication(&place(&server, "localhost", &format!("sslmode=verify-full {own}"))).await.unwrap();
        client.identify_system().await.unwrap();
    }
}

#[tokio::test]
async fn direct_tls_from_17_on() {
    for version in VERSIONS {
        let server = Postgres::builder().version(version).tls().start();
        let more = format!(
            "sslmode=verify-full sslnegotiation=direct sslrootcert={}",
            server.ca_certificate().display()
        );
        let result = encrypted(&place(&server, "localhost", &more)).await;
        assert_eq!(result.is_ok(), version >= 17, "{version}: {result:?}");
    }
}

/// A server with the certificate in this folder.
fn with_certificate(folder: &Scratch) -> Builder {
    for name in ["server.key", "server.crt", "root.crt"] {
        give_to_server_account(&folder.join(name));
    }
    let path = |name| folder.join(name).display().to_string();
    Postgres::builder()
        .tcp()
        .setting("ssl", "on")
        .setting("ssl_cert_file", &path("server.crt"))
        .setting("ssl_key_file", &path("server.key"))
}

/// The commands of <https://www.postgresql.org/docs/15/ssl-tcp.html#SSL-CERTIFICATE-CREATION>.
#[tokio::test]
async fn certificates_made_as_postgresqls_documentation_makes_them() {
    let folder = Scratch::new();
    openssl(
        &folder,
        &[
            "req",
            "-new",
            "-nodes",
            "-text",
            "-out",
            "root.csr",
            "-keyout",
            "root.key",
            "-subj",
            "/CN=root.yourdomain.com",
        ],
    );
    openssl(
        &folder,
        &[
            "x509",
            "-req",
            "-in",
            "root.csr",
            "-text",
            "-days",
            "3650",
            "-extfile",
            "/etc/ssl/openssl.cnf",
            "-extensions",
            "v3_ca",
            "-signkey",
            "root.key",
            "-out",
            "root.crt",
        ],
    );
    openssl(
        &folder,
        &[
            "req",
            "-new",
            "-nodes",
            "-text",
            "-out",
            "server.csr",
            "-keyout",
            "server.key",
            "-subj",
            "/CN=localhost",
        ],
    );
    openssl(
        &folder,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-text",
            "-days",
            "365",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-out",
            "server.crt",
        ],
    );
    let server = with_certificate(&folder).hba("hostssl all all 127.0.0.1/32 scram-sha-256").start();
    server.sql("create role me login password 'p'");
    let root = format!("sslmode=verify-full sslrootcert={}", folder.join("root.crt").display());
    let more = format!("user=me password=p channel_binding=require {root}");
    assert!(encrypted(&place(&server, "localhost", &more)).await.unwrap());
    assert!(refusal(sql(&place(&server, "127.0.0.1", &more)).await).to_string().contains("NotValidForName"));

    // And the simplest of all: a certificate that vouches for itself.
    let folder = Scratch::new();
    openssl(
        &folder,
        &[
            "req",
            "-new",
            "-x509",
            "-days",
            "365",
            "-nodes",
            "-text",
            "-out",
            "server.crt",
            "-keyout",
            "server.key",
            "-subj",
            "/CN=localhost",
        ],
    );
    fs::copy(folder.join("server.crt"), folder.join("root.crt")).unwrap();
    let server = with_certificate(&folder).start();
    let root = format!("sslmode=verify-full sslrootcert={}", folder.join("root.crt").display());
    assert!(encrypted(&place(&server, "localhost", &root)).await.unwrap());
    assert!(encrypted(&place(&server, "localhost", "sslmode=require")).await.unwrap());
}

#[tokio::test]
async fn a_client_certificate_lets_us_in() {
    let folder = Scratch::new();
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let root =
        ["req", "-x509", "-days", "30", "-subj", "/CN=root", "-keyout", "root.key", "-out", "root.crt"];
    openssl(&folder, &[&root[..], &new_key].concat());
    for (name, subject) in [("server", "/CN=localhost"), ("client", "/CN=me")] {
        let [key, request, certificate] = ["key", "csr", "crt"].map(|end| format!("{name}.{end}"));
        openssl(
            &folder,
            &[&["req", "-new", "-subj", subject, "-keyout", &key, "-out", &request][..], &new_key].concat(),
        );
        openssl(
            &folder,
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-days",
                "30",
                "-CA",
                "root.crt",
                "-CAkey",
                "root.key",
                "-CAcreateserial",
                "-out",
                &certificate,
            ],
        );
    }
    let server = with_certificate(&folder)
        .setting("ssl_ca_file", &folder.join("root.crt").display().to_string())
        .hba("hostssl all all 127.0.0.1/32 cert")
        .start();
    server.sql("create role me login");
    fs::set_permissions(folder.join("client.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let path = |name| folder.join(name).display().to_string();
    let root = format!("user=me sslmode=verify-full sslrootcert={}", path("root.crt"));
    let certificate = format!("{root} sslcert={} sslkey={}", path("client.crt"), path("client.key"));
    assert!(encrypted(&place(&server, "localhost", &certificate)).await.unwrap());
    for more in [root, format!("{certificate} sslcertmode=disable")] {
        let error = refusal(sql(&place(&server, "localhost", &more)).await);
        assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    }
}
