//! Where to connect to, as whom and how: connection strings, their defaults, and what they come to.

pub(crate) mod auth_methods;
mod conninfo;
mod environment;
mod keyword;
pub(crate) mod limits;
mod parameters;
pub(crate) mod passfile;
mod password;
mod resolve;
mod server;
mod service;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod uri;

use std::path::PathBuf;

pub use auth_methods::AuthMethods;
pub use environment::Environment;
pub use limits::Limits;
pub use password::Password;
pub use server::{Host, Keepalive, Server, TargetSession};
pub use tls::{ChannelBinding, RootCertificates, SslMode, SslNegotiation, TlsSettings, TlsVersions};

use crate::Result;

/// A connection string, completed from the environment and with its defaults: all that a connection needs to know.
///
/// Its `Debug` form shows no password (R21).
#[derive(Debug, Clone)]
pub struct Config {
    /// The servers to try, in this order.
    pub servers: Vec<Server>,
    /// The role to log in as.
    pub user: String,
    /// The database for SQL connections; a replication connection has none.
    pub database: String,
    /// The password, where it was given. Otherwise it is looked up in `passfile` for each server.
    pub password: Option<Password>,
    /// `.pgpass` or what stands for it.
    pub passfile: Option<PathBuf>,
    /// Which ways to prove who one is may be used at all (`require_auth`).
    pub auth_methods: AuthMethods,
    /// Whether the password must be bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Shown by the server in `pg_stat_activity` and its log.
    pub application_name: Option<String>,
    /// Command-line options for the server process, as in `-c work_mem=64MB`.
    pub options: Option<String>,
    /// What the server must be: the first in the list that is this is taken.
    pub target_session: TargetSession,
    /// The operating system's user that the server at a Unix socket must run as.
    pub require_peer: Option<String>,
    /// Whether and how to encrypt.
    pub tls: TlsSettings,
    /// How TCP finds out that the other side is gone.
    pub keepalive: Keepalive,
    /// How long each wait may take and how large each buffer may become.
    pub limits: Limits,
}

impl Config {
    /// Reads a connection string as libpq does: `key=value` or a URI, then a service file where one is named, then the
    /// environment variables of this process (`PGHOST`, …), then the defaults.
    ///
    /// What differs from libpq: a setting that this client cannot honour is refused and not passed over; a socket
    /// folder that is not named is Debian's and then `/tmp`; a root certificate file that is named must exist; and
    /// without `connect_timeout` there is a limit too ([`Limits::connect`]).
    ///
    /// # Errors
    /// [`crate::Error::ConnectionString`], [`crate::Error::UnknownSetting`], [`crate::Error::Setting`], or
    /// [`crate::Error::File`] for a service file.
    ///
    /// ```
    /// use highwater_replication::{Config, SslMode};
    /// let config = Config::parse("host=db.example.com user=backup sslmode=verify-full")?;
    /// assert_eq!(config.servers[0].to_string(), "host \"db.example.com\" port 5432");
    /// assert_eq!(config.tls.mode, SslMode::VerifyFull);
    /// # Ok::<(), highwater_replication::Error>(())
    /// ```
    pub fn parse(connection: &str) -> Result<Config> {
        Config::in_environment(connection, &Environment::of_this_process()?)
    }

    /// The same with other surroundings than this process has.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn in_environment(connection: &str, environment: &Environment) -> Result<Config> {
        resolve::resolve(connection, environment)
    }
}
