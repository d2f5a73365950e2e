//! Sockets: addresses, keepalives, who is at the other end.

use std::net::{IpAddr, SocketAddr};

use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::connection::Wait;
use crate::{Config, Error, Host, Keepalive, Result, Server};

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// The path of a socket.
    Unix(String),
    Tcp(SocketAddr),
}

/// An open socket.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream, IpAddr),
}

/// The addresses of a server; at least one.
pub(super) async fn addresses(server: &Server, wait: &Wait) -> Result<Vec<Address>> {
    let name = match (&server.host, &server.address) {
        (_, Some(address)) => {
            let ip: IpAddr = address.parse().map_err(|_| Error::Unreachable {
                reason: "the address is no IP address".to_owned(),
                hint: "hostaddr takes IP addresses; names go into host",
            })?;
            return Ok(vec![Address::Tcp(SocketAddr::new(ip, server.port))]);
        }
        (Host::Socket(_), None) => return Ok(vec![Address::Unix(server.host.socket_path(server.port))]),
        (Host::Name(name), None) => name,
    };
    let unknown = |reason: String| Error::Unreachable {
        reason,
        hint: "check the name in the connection string and DNS",
    };
    let found = match wait.run(lookup_host((name.as_str(), server.port))).await {
        Ok(found) => found.take(MAX_ADDRESSES).map(Address::Tcp).collect::<Vec<_>>(),
        Err(Error::Lost { source, .. }) => return Err(unknown(format!("its name has no address: {source}"))),
        Err(error) => return Err(error),
    };
    match found.is_empty() {
        false => Ok(found),
        true => Err(unknown("its name has no address".to_owned())),
    }
}

/// Opens a socket.
pub(super) async fn open(address: &Address, config: &Config, wait: &Wait) -> Result<Socket> {
    match address {
        Address::Unix(path) => {
            // Linux's abstract sockets have a zero byte where we write an @.
            let path = path.strip_prefix('@').map_or_else(|| path.clone(), |name| format!("\0{name}"));
            let hint = "is the server running, and is its socket in this folder (unix_socket_directories)?";
            let stream = wait.run(UnixStream::connect(path)).await.map_err(|error| refused(error, hint))?;
            if let Some(user) = &config.require_peer {
                check_peer(&stream, user)?;
            }
            Ok(Socket::Unix(stream))
        }
        Address::Tcp(address) => {
            let hint = "is the server running, does it listen there (listen_addresses), does a firewall let us through?";
            let stream = wait.run(TcpStream::connect(address)).await.map_err(|error| refused(error, hint))?;
            keep_alive(&stream, &config.keepalive).map_err(|error| Error::Unreachable {
                reason: format!("the operating system refuses the keepalive settings: {error}"),
                hint: "look at keepalives… and tcp_user_timeout",
            })?;
            Ok(Socket::Tcp(stream, address.ip()))
        }
    }
}

fn refused(error: Error, hint: &'static str) -> Error {
    match error {
        Error::Lost { source, .. } => Error::Unreachable { reason: source.to_string(), hint },
        other => other,
    }
}

fn keep_alive(stream: &TcpStream, wanted: &Keepalive) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if wanted.enabled {
        sockopt::set_socket_keepalive(stream, true)?;
        if let Some(idle) = wanted.idle {
            sockopt::set_tcp_keepidle(stream, idle)?;
        }
        if let Some(interval) = wanted.interval {
            sockopt::set_tcp_keepintvl(stream, interval)?;
        }
        if let Some(count) = wanted.count {
            sockopt::set_tcp_keepcnt(stream, count)?;
        }
    }
    if let Some(timeout) = wanted.user_timeout {
        sockopt::set_tcp_user_timeout(stream, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

/// Whether the server at a Unix socket runs as this user (`requirepeer`).
fn check_peer(stream: &UnixStream, wanted: &str) -> Result<()> {
    let user = stream
        .peer_cred()
        .ok()
        .and_then(|peer| nix::unistd::User::from_uid(peer.uid().into()).ok().flatten());
    match user {
        Some(user) if user.name == wanted => Ok(()),
        found => Err(Error::Authentication {
            reason: format!(
                "the server runs as {}, and requirepeer asks for \"{wanted}\"",
                found.map_or("an unknown user".to_owned(), |user| format!("\"{}\"", user.name))
            ),
            hint: "somebody else may have put a socket there; if it is right, change requirepeer",
        }),
    }
}
