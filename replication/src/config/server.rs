//! Which servers to connect to.

use std::fmt;
use std::time::Duration;

/// One place where a server may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The name it goes by: what the certificate and the password file are matched with.
    pub host: Host,
    /// The IP address to connect to instead of looking up the name (`hostaddr`).
    pub address: Option<String>,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.address) {
            (Host::Socket(_), None) => write!(f, "socket \"{}\"", self.host.socket_path(self.port)),
            (Host::Name(name), Some(address)) if !name.is_empty() => {
                write!(f, "host \"{name}\" ({address}) port {}", self.port)
            }
            (_, Some(address)) => write!(f, "address {address} port {}", self.port),
            (Host::Name(name), None) => write!(f, "host \"{name}\" port {}", self.port),
        }
    }
}

/// A server's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The folder of a Unix socket; one that starts with `@` is in Linux's abstract namespace.
    Socket(String),
    /// A name or IP address for TCP; empty where only [`Server::address`] was given.
    Name(String),
}

impl Host {
    /// The folders of the server's socket that are tried when no host is given: Debian's, then PostgreSQL's own.
    pub const DEFAULT_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

    /// A host as a connection string has it: a folder starts with `/` or `@` (`is_unixsock_path` in libpq).
    pub(crate) fn new(text: &str) -> Host {
        match text.starts_with(['/', '@']) {
            true => Host::Socket(text.to_owned()),
            false => Host::Name(text.to_owned()),
        }
    }

    /// The path of the socket for a port; for a TCP host its name.
    pub(crate) fn socket_path(&self, port: u16) -> String {
        match self {
            Host::Socket(folder) => format!("{}/.s.PGSQL.{port}", folder.trim_end_matches('/')),
            Host::Name(name) => name.clone(),
        }
    }
}

/// What kind of server is wanted (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetSession {
    /// Any that lets us in.
    #[default]
    Any,
    /// One whose sessions can write.
    ReadWrite,
    /// One whose sessions cannot write.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One in recovery.
    Standby,
    /// One in recovery, or any if there is none.
    PreferStandby,
}

/// TCP keepalives. What is `None` is left to the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether to send them (`keepalives`).
    pub enabled: bool,
    /// Silence before the first one.
    pub idle: Option<Duration>,
    /// Time between two.
    pub interval: Option<Duration>,
    /// How many may go unanswered.
    pub count: Option<u32>,
    /// How long sent data may stay unacknowledged (`tcp_user_timeout`).
    pub user_timeout: Option<Duration>,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { enabled: true, idle: None, interval: None, count: None, user_timeout: None }
    }
}
