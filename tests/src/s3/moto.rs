//! moto: S3 in memory, in Python.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::Signal;

use super::{S3, http};
use crate::kits::cached;
use crate::scratch::Scratch;
use crate::server::Server;
use crate::tls;
use crate::wait::{PATIENCE, free_port, wait_until};

/// moto looks whether an object is there and then makes it, on several threads: as it comes, two of sixteen conditional
/// puts at once are told now and then that they made the object. One at a time they are what S3 promises.
const LAUNCH: &str = "
import threading
from moto.s3.responses import S3Response
from moto.server import main
turn, put_object = threading.Lock(), S3Response.put_object
def in_turn(self):
    with turn:
        return put_object(self)
S3Response.put_object = in_turn
main()
";

pub(super) fn start(with_tls: bool) -> S3 {
    let scratch = Scratch::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(cached("moto/bin/python3"));
    command.args(["-c", LAUNCH, "--host", "127.0.0.1", "--port", &address.port().to_string()]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    if with_tls {
        tls::make_certificate(scratch.path());
        command.arg("--ssl-cert").arg(scratch.join(tls::CERTIFICATE));
        command.arg("--ssl-key").arg(scratch.join(tls::KEY));
    }
    let mut server = Server::spawn(&mut command, &scratch.join("moto.log"), Signal::KILL);
    wait_until("moto answers", PATIENCE, || {
        assert!(server.ended().is_none(), "moto ended:\n{}", server.log().text());
        if with_tls { TcpStream::connect(address).is_ok() } else { http::answers(address) }
    });
    let scheme = if with_tls { "https" } else { "http" };
    S3 { _servers: vec![server], address, scheme, access_key: "test", secret_key: "test-secret", scratch }
}
