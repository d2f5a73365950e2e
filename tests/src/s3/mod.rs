//! S3 servers: moto, quick and trusting, and Ceph's gateway, the real thing.

mod ceph;
mod http;
mod moto;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::scratch::Scratch;
use crate::server::Server;
use crate::tls;

/// The region that the servers answer to.
const REGION: &str = "us-east-1";

/// A running S3 server on 127.0.0.1 (path style).
#[derive(Debug)]
pub struct S3 {
    // In the order in which they are to end; all before `scratch`.
    _servers: Vec<Server>,
    address: SocketAddr,
    scheme: &'static str,
    access_key: &'static str,
    secret_key: &'static str,
    scratch: Scratch,
}

impl S3 {
    /// A new moto: in memory, starts in about a second, checks no signature and no checksum.
    pub fn moto() -> Self {
        moto::start(false)
    }

    /// The same over TLS, with a certificate for `localhost` and 127.0.0.1 from a private authority
    /// ([`S3::ca_certificate`]).
    pub fn moto_with_tls() -> Self {
        moto::start(true)
    }

    /// Ceph's S3 gateway over a storage daemon in memory (2 GiB at most). Started once per test process, about
    /// four seconds, and shared: every test takes a [`S3::new_bucket`] of its own.
    pub fn ceph() -> &'static Self {
        static CEPH: OnceLock<S3> = OnceLock::new();
        CEPH.get_or_init(ceph::start)
    }

    /// The URL without a path: `http://127.0.0.1:12345`.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The access key id of the one user.
    pub fn access_key(&self) -> &str {
        self.access_key
    }

    /// The secret key of the one user.
    pub fn secret_key(&self) -> &str {
        self.secret_key
    }

    /// The region to sign for.
    pub fn region(&self) -> &str {
        REGION
    }

    /// The certificate that the server's certificate was signed with, a PEM file; of [`S3::moto_with_tls`] only.
    pub fn ca_certificate(&self) -> PathBuf {
        self.scratch.join(tls::CA)
    }

    /// The environment variables from which AWS's own tools take keys and region.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", self.access_key),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key),
            ("AWS_REGION", REGION),
        ]
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, name: &str) {
        let (status, body) = self.request("PUT", name, None);
        assert_eq!(status, 200, "bucket {name} could not be made: {}", String::from_utf8_lossy(&body));
    }

    /// Makes a bucket that nobody else uses, and answers its name.
    pub fn new_bucket(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("bucket-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.create_bucket(&name);
        name
    }

    /// An object's bytes, when it is there.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        match self.request("GET", &format!("{bucket}/{key}"), None) {
            (200, body) => Some(body),
            (404, _) => None,
            (status, body) => panic!("GET {bucket}/{key}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    /// Writes an object, also over one that is there: how a test damages what was stored.
    pub fn overwrite(&self, bucket: &str, key: &str, content: &[u8]) {
        let (status, body) = self.request("PUT", &format!("{bucket}/{key}"), Some(content));
        assert_eq!(status, 200, "PUT {bucket}/{key}: {}", String::from_utf8_lossy(&body));
    }

    /// Removes an object.
    pub fn remove(&self, bucket: &str, key: &str) {
        let (status, body) = self.request("DELETE", &format!("{bucket}/{key}"), None);
        assert!(matches!(status, 200 | 204), "DELETE {bucket}/{key}: {}", String::from_utf8_lossy(&body));
    }

    /// One signed request through `curl`, which signs without query strings well enough for this.
    fn request(&self, method: &str, path: &str, content: Option<&[u8]>) -> (u16, Vec<u8>) {
        let answer = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let upload = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--request", method]);
        curl.args(["--write-out", "%{http_code}", "--noproxy", "*", "--output"]).arg(answer.path());
        curl.args(["--aws-sigv4", &format!("aws:amz:{REGION}:s3")]);
        curl.args(["--user", &format!("{}:{}", self.access_key, self.secret_key)]);
        curl.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        if self.scheme == "https" {
            curl.arg("--cacert").arg(self.ca_certificate());
        }
        if let Some(content) = content {
            std::fs::write(upload.path(), content).expect("a temporary file can be written");
            // Without a type curl says that it is a form, and moto takes it apart.
            curl.args(["--header", "Content-Type: application/octet-stream"]);
            curl.arg("--data-binary").arg(format!("@{}", upload.path().display()));
        }
        let output = curl.arg(format!("{}/{}", self.endpoint(), encode(path))).output();
        let output = output.expect("curl can be started; hint: run scripts/setup");
        let message = String::from_utf8_lossy(&output.stderr);
        let status = String::from_utf8_lossy(&output.stdout).parse().unwrap_or(0);
        assert!(output.status.success(), "{method} {path}: {message}");
        (status, read(answer.path()))
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("curl's answer can be read")
}

/// `path` with everything but the unreserved characters and `/` as `%XX`, the form that is signed.
fn encode(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(byte as char)
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}
