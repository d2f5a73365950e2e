//! A certificate authority and a server certificate, made by `openssl` for one test.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::account::give_to_server_account;

/// The authority's certificate, in PEM.
pub(crate) const CA: &str = "ca.crt";

const EXTENSIONS: &str =
    "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";

/// The server's certificate and its key, in PEM.
pub(crate) const CERTIFICATE: &str = "server.crt";
pub(crate) const KEY: &str = "server.key";

/// Makes the three files in `folder`, readable by the servers' account, for `localhost` and 127.0.0.1.
pub(crate) fn make_certificate(folder: &Path) {
    fs::write(folder.join("server.ext"), EXTENSIONS).expect("the scratch folder can be written");
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "30", "-subj", "/CN=Highwater test authority"];
    openssl(folder, &[&authority[..], &new_key, &["-keyout", "ca.key", "-out", CA]].concat());
    let request = ["req", "-new", "-subj", "/CN=localhost", "-keyout", KEY, "-out", "server.csr"];
    openssl(folder, &[&request[..], &new_key].concat());
    let sign = ["x509", "-req", "-in", "server.csr", "-days", "30", "-CA", CA, "-CAkey", "ca.key"];
    openssl(
        folder,
        &[&sign[..], &["-CAcreateserial", "-extfile", "server.ext", "-out", CERTIFICATE]].concat(),
    );
    for name in [KEY, CERTIFICATE, CA] {
        give_to_server_account(&folder.join(name));
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("openssl can be started; hint: run scripts/setup");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
