//! Finding a worker, and starting one.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with,
};

use crate::{Connection, Fingerprint, Place};

/// A connection to the worker of these settings. It does not wait for anything.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) or [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when there is none,
/// others when there is one that cannot be asked.
pub fn connect(place: &Place, fingerprint: &Fingerprint) -> io::Result<Connection> {
    let address = SocketAddrUnix::new(place.socket(fingerprint))?;
    // Without blocking: the queue of a worker that hangs may be full.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect_to(&socket, &address)?;
    let mut connection = Connection::new(UnixStream::from(socket))?;
    connection.send(fingerprint)?;
    Ok(connection)
}

/// Starts a worker: this very binary with these arguments. It is told apart from its starter as early as possible and
/// reports to nobody: it holds neither the log's pipe nor the data directory open.
///
/// # Errors
/// When the system gives no process.
pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> io::Result<()> {
    // By this name it is the same build even when another was installed meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Nobody waits for it: it outlives this process and becomes a child of the system's first one.
    command.spawn().map(drop)
}
