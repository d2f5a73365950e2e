//! What can go wrong between us and a server.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ServerError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. No message holds a password or a piece of one (R21).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A connection string that cannot be read.
    #[error("the connection string is wrong: {reason} at character {position}; hint: {hint}")]
    ConnectionString {
        /// In characters, from 1.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
        /// How to write it.
        hint: &'static str,
    },
    /// A setting that libpq does not know either.
    #[error("{name} in the connection string is no setting; hint: the nearest that is one is \"{nearest}\"")]
    UnknownSetting {
        /// The name in quotes, or where it stands.
        name: String,
        /// The known name that is most like it.
        nearest: &'static str,
    },
    /// A setting whose value cannot be.
    #[error("{setting}: {reason}; hint: {hint}")]
    Setting {
        /// The setting, environment variable or file.
        setting: String,
        /// What is wrong with it.
        reason: String,
        /// What to write.
        hint: &'static str,
    },
    /// A file that is needed and cannot be read or used.
    #[error("the {what} {path} cannot be used: {source}; hint: check its path, its rights and its content")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// None of the servers could be connected to.
    #[error("{}", Attempts(.attempts))]
    Connect {
        /// Each try, in order. There is at least one.
        attempts: Vec<Attempt>,
    },
    /// A name that has no address, or a connection that was not accepted.
    #[error("{reason}; hint: {hint}")]
    Unreachable {
        /// What happened.
        reason: String,
        /// What to look at.
        hint: &'static str,
    },
    /// TLS could not be agreed upon.
    #[error("TLS: {reason}; hint: {hint}")]
    Tls {
        /// What happened.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The server asks for a proof that we cannot or may not give, or gives none itself.
    #[error("authentication: {reason}; hint: {hint}")]
    Authentication {
        /// What happened.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The server is not of the kind that `target_session_attrs` asks for.
    #[error(
        "the server is {found}, and target_session_attrs asks for another; hint: name other hosts, or other attributes"
    )]
    WrongSession {
        /// What it is.
        found: &'static str,
    },
    /// The server refused or broke off what was asked.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// The server found pages with wrong checksums in a base backup that was otherwise sent whole (SQLSTATE XX001).
    #[error(
        "the server found damaged pages while it sent the base backup: {0}; hint: the server's log names file and \
         block of each; pg_amcheck and pg_checksums tell more"
    )]
    ChecksumFailure(Box<ServerError>),
    /// The connection ended before its time.
    #[error(
        "the connection was lost while {doing}: {source}; hint: look at the server's log and at the network"
    )]
    Lost {
        /// What we were waiting for.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A wait took too long.
    #[error("no answer within {} while {doing}; hint: {hint}", Seconds(*.limit))]
    TimedOut {
        /// What we were waiting for.
        doing: &'static str,
        /// How long we waited.
        limit: Duration,
        /// Which setting gives more time.
        hint: &'static str,
    },
    /// The other side does not speak PostgreSQL's protocol as we know it.
    #[error(
        "the server broke the protocol: {reason}; hint: is this a PostgreSQL server of version 14 to 18, with no proxy between?"
    )]
    Protocol {
        /// What was wrong.
        reason: String,
    },
    /// A message longer than [`crate::Limits::message_bytes`].
    #[error(
        "the server announced a message of {length} bytes, and {limit} is the limit; hint: is this a PostgreSQL server?"
    )]
    MessageTooLong {
        /// Its length.
        length: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// A result larger than [`crate::Limits::rows`] or [`crate::Limits::result_bytes`].
    #[error(
        "the result of a query is too large: more than {limit} {unit}; hint: ask for fewer rows at a time"
    )]
    ResultTooLarge {
        /// How many are accepted.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
    /// A command or a piece of it that cannot be sent.
    #[error("{what} cannot be sent to the server: {reason}; hint: {hint}")]
    Unsendable {
        /// What it is.
        what: &'static str,
        /// Why.
        reason: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The connection cannot take a command: the one before was given up or ended it.
    #[error("this connection is no longer of use: {reason}; hint: connect again")]
    Closed {
        /// What happened to it.
        reason: &'static str,
    },
}

impl Error {
    pub(crate) fn file(what: &'static str, path: &Path, source: io::Error) -> Error {
        Error::File { what, path: path.to_owned(), source }
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Error {
        Error::Protocol { reason: reason.into() }
    }

    /// What the server itself said, if it said anything. Of several tries to connect, the last one's.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Error::Server(error) | Error::ChecksumFailure(error) => Some(error),
            Error::Connect { attempts } => {
                attempts.iter().rev().find_map(|attempt| attempt.error.server_error())
            }
            _ => None,
        }
    }

    /// Whether the server no longer has the WAL that was asked for (SQLSTATE 58P01, `undefined_file`).
    pub fn is_wal_removed(&self) -> bool {
        self.sqlstate() == Some("58P01")
    }

    /// The SQLSTATE that the server gave, if it said anything.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server_error().map(|error| error.sqlstate.as_str())
    }
}

/// One try to connect.
#[derive(Debug)]
pub struct Attempt {
    /// The server and whether TLS was tried.
    pub target: String,
    /// Why it failed.
    pub error: Error,
}

struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, attempt) in self.0.iter().enumerate() {
            let again = if number == 0 { "cannot connect to" } else { "; then to" };
            write!(f, "{again} {}: {}", attempt.target, attempt.error)?;
        }
        Ok(())
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f32())
    }
}
