//! A connection that is ready for commands.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::auth::{Authenticator, Credentials, Reply};
use crate::connect::Transport;
use crate::connection::{Connection, Wait};
use crate::message::Message;
use crate::{Limits, Result, ServerError, ServerVersion};

/// A connection to a server, ready for commands; they are methods, each in a file of its own.
///
/// A command whose future is dropped half-way, or that runs into a limit, leaves a connection that takes no more
/// commands ([`crate::Error::Closed`]). Dropping the client closes the connection. The server ends what it is doing
/// for it when it next sends something: at once for a base backup, at its end for a query.
#[derive(Debug)]
pub struct Client<S = Transport> {
    pub(crate) connection: Connection<S>,
    version: ServerVersion,
    process_id: Option<i32>,
    pub(crate) warnings: Vec<String>,
}

/// What the first message says.
#[derive(Debug)]
pub(crate) struct Startup<'a> {
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
    pub(crate) credentials: Credentials<'a>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Logs in over a stream that is otherwise ready.
    ///
    /// <https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-START-UP>
    pub(crate) async fn start(
        stream: S,
        startup: Startup<'_>,
        limits: Limits,
        wait: &Wait,
    ) -> Result<Client<S>> {
        let mut connection = Connection::new(stream, limits);
        let mut message = BytesMut::new();
        frontend::startup_message(startup.parameters.iter().copied(), &mut message).map_err(|_| {
            crate::Error::Unsendable {
                what: "the user, database, options or application name",
                reason: "it holds a zero byte",
                hint: "look at the connection string",
            }
        })?;
        connection.send(wait, &message).await?;
        let mut authenticator = Authenticator::new(startup.credentials);
        loop {
            match connection.receive(wait).await? {
                Message::Authentication(request) => match authenticator.answer(request)? {
                    Reply::Send(message) => connection.send(wait, &message).await?,
                    Reply::Wait => {}
                    Reply::Done => break,
                },
                Message::ErrorResponse(error) => return Err(crate::Error::Server(error)),
                other => return Err(connection.unexpected(&other, "before authentication is done")),
            }
        }
        let mut process_id = None;
        loop {
            match connection.receive(wait).await? {
                Message::BackendKeyData { process_id: id } => process_id = Some(id),
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(error) => return Err(crate::Error::Server(error)),
                other => return Err(connection.unexpected(&other, "at the start of a session")),
            }
        }
        connection.ready();
        let version = connection.parameter("server_version").unwrap_or("").parse()?;
        Ok(Client { connection, version, process_id, warnings: Vec::new() })
    }

    /// The server's version.
    pub fn server_version(&self) -> ServerVersion {
        self.version
    }

    /// What the server last reported a setting to be, of those that it reports without being asked: `server_version`,
    /// `TimeZone`, `in_hot_standby`, …
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.connection.parameter(name)
    }

    /// The number of the server process that serves this connection, as in `pg_stat_activity.pid`.
    pub fn process_id(&self) -> Option<i32> {
        self.process_id
    }

    /// What went well and yet should be known: a password file that was passed over because others can read it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The notices and warnings that the server has sent since they were last taken; of many, the latest 100.
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        self.connection.take_notices()
    }

    /// The limits of this connection, to be changed between commands.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.connection.limits
    }

    /// Ends the session in good form. Dropping the client ends it too.
    pub async fn close(self) {
        self.connection.terminate().await;
    }
}
