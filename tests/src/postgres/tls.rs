//! A certificate authority and a server certificate, made by `openssl` for one test.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::account::give_to_server_account;
use crate::scratch::Scratch;

/// The authority's certificate, in PEM.
pub(super) const CA: &str = "ca.crt";

const EXTENSIONS: &str =
    "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";

/// Makes the files in `scratch` and answers the settings that name them.
pub(super) fn make_certificate(scratch: &Scratch) -> [(String, String); 3] {
    let folder = scratch.path();
    fs::write(folder.join("server.ext"), EXTENSIONS).expect("the scratch folder can be written");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "30", "-subj", "/CN=Highwater test authority"];
    openssl(folder, &[&authority[..], &key, &["-keyout", "ca.key", "-out", CA]].concat());
    let request = ["req", "-new", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    openssl(folder, &[&request[..], &key].concat());
    let sign = ["x509", "-req", "-in", "server.csr", "-days", "30", "-CA", CA, "-CAkey", "ca.key"];
    openssl(
        folder,
        &[&sign[..], &["-CAcreateserial", "-extfile", "server.ext", "-out", "server.crt"]].concat(),
    );
    for name in ["server.key", "server.crt", CA] {
        give_to_server_account(&folder.join(name));
    }
    let path = |name: &str| folder.join(name).display().to_string();
    [
        ("ssl".to_owned(), "on".to_owned()),
        ("ssl_cert_file".to_owned(), path("server.crt")),
        ("ssl_key_file".to_owned(), path("server.key")),
    ]
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("openssl can be started; hint: run scripts/setup");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
