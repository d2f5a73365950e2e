//! A base backup as it comes in.

use tokio::io::{AsyncRead, AsyncWrite};

use super::reply::Reply;
use super::{BackupEvent, BackupStart, BackupStop, Dialect};
use crate::connection::Wait;
use crate::message::Message;
use crate::{Client, Error, Result, ServerError};

/// SQLSTATE `data_corrupted`.
const DATA_CORRUPTED: &str = "XX001";

/// A base backup under way. Dropping it ends the connection, and the server then ends the backup.
///
/// ```no_run
/// # async fn example(client: highwater_replication::Client) -> Result<(), highwater_replication::Error> {
/// use highwater_replication::{BackupEvent, BaseBackup};
/// let mut backup = client.base_backup(&BaseBackup::new("nightly")).await?;
/// println!("WAL is needed from {}", backup.start().position);
/// while let Some(event) = backup.next().await? {
///     match event {
///         BackupEvent::Archive(archive) => println!("{archive:?}"),
///         BackupEvent::Manifest => println!("manifest"),
///         BackupEvent::Data(bytes) => println!("{} bytes", bytes.len()),
///         BackupEvent::Progress(bytes) => println!("{bytes} bytes so far"),
///     }
/// }
/// let (stop, client) = backup.finish()?;
/// println!("WAL is needed up to {}", stop.position);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BackupStream<S = crate::Transport> {
    client: Client<S>,
    reply: Reply,
    start: BackupStart,
}

impl<S: AsyncRead + AsyncWrite + Unpin> BackupStream<S> {
    /// Reads what comes before the files.
    pub(crate) async fn begin(
        mut client: Client<S>,
        dialect: Dialect,
        has_manifest: bool,
        wait: &Wait,
    ) -> Result<BackupStream<S>> {
        let mut reply = Reply::new(dialect, has_manifest);
        loop {
            match client.connection.receive(wait).await? {
                Message::ErrorResponse(error) => return Err(Error::Server(error)),
                message => reply.take(message)?,
            };
            if let Some(start) = reply.start().cloned() {
                return Ok(BackupStream { client, reply, start });
            }
        }
    }

    /// What the server said before it began to send files.
    pub fn start(&self) -> &BackupStart {
        &self.start
    }

    /// The next event; `None` when all has come. Its future can be dropped and asked for again.
    ///
    /// # Errors
    /// [`Error::Server`] when the server breaks off, [`Error::ChecksumFailure`] when it has sent everything and found damaged
    /// pages, [`Error::TimedOut`] after [`crate::Limits::idle`] without a message, [`Error::Lost`], [`Error::Protocol`]. After an
    /// error the backup is void.
    pub async fn next(&mut self) -> Result<Option<BackupEvent>> {
        while !self.reply.is_done() {
            let hint = "look at the server's load and the network, or raise the limit";
            let wait = Wait::new(self.client.connection.limits.idle, "receiving a base backup", hint);
            let message = match self.client.connection.receive_any(&wait).await? {
                Some(Message::ErrorResponse(error)) => return Err(self.broken_off(error, &wait).await),
                Some(message) => message,
                None => continue,
            };
            match self.reply.take(message) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(error) => {
                    self.client.connection.close("the server broke the protocol");
                    return Err(error);
                }
            }
        }
        self.client.connection.ready();
        Ok(None)
    }

    /// Where the backup ends, and the connection back.
    ///
    /// # Errors
    /// [`Error::Closed`] unless [`BackupStream::next`] has given `None`.
    pub fn finish(self) -> Result<(BackupStop, Client<S>)> {
        match self.reply.stop().filter(|_| self.reply.is_done()) {
            Some(stop) => Ok((stop, self.client)),
            None => Err(Error::Closed { reason: "its base backup was not received to the end" }),
        }
    }

    /// The notices that the server has sent since they were last taken, such as which page was damaged.
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        self.client.take_notices()
    }

    async fn broken_off(&mut self, error: Box<ServerError>, wait: &Wait) -> Error {
        let is_checksum_failure = self.reply.is_sent() && error.sqlstate == DATA_CORRUPTED;
        match self.client.connection.recover(error, wait).await {
            Error::Server(error) if is_checksum_failure => Error::ChecksumFailure(error),
            other => other,
        }
    }
}
