//! A simple query: one SQL command, or one of the replication commands that answer with rows.
//!
//! <https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY>

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::Wait;
use crate::message::{DataRow, Message};
use crate::{Client, Error, Limits, Result};

/// A command's result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// The names of the columns; none where the command gives no rows.
    pub columns: Vec<String>,
    /// The rows, in PostgreSQL's text form.
    pub rows: Vec<DataRow>,
    /// What was done, as in `SELECT 1`.
    pub tag: String,
}

impl Rows {
    /// The only row.
    ///
    /// # Errors
    /// [`Error::Protocol`] where there are more or none.
    pub fn single(&self) -> Result<&DataRow> {
        match self.rows.as_slice() {
            [row] => Ok(row),
            rows => Err(Error::protocol(format!("one row is needed, and {} came", rows.len()))),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Runs one SQL command and gathers its rows, within [`Limits::query`], [`Limits::rows`] and [`Limits::result_bytes`].
    ///
    /// Values go into the text of the command by [`crate::escape_literal`] and names by [`crate::escape_identifier`].
    ///
    /// # Errors
    /// [`Error::Server`] when the command fails (the connection stays usable, unless the error is fatal),
    /// [`Error::ResultTooLarge`], [`Error::TimedOut`], [`Error::Lost`], [`Error::Protocol`]; also for more than one command, or
    /// `COPY`.
    pub async fn query(&mut self, sql: &str) -> Result<Rows> {
        let wait = Wait::for_query(&self.connection.limits, "running a query");
        self.rows_of(sql, &wait).await
    }

    /// Sends a command.
    pub(crate) async fn send_command(&mut self, command: &str, wait: &Wait) -> Result<()> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message).map_err(|_| Error::Unsendable {
            what: "the command",
            reason: "it holds a zero byte",
            hint: "PostgreSQL has no place for it in a text",
        })?;
        self.connection.begin()?;
        self.connection.send(wait, &message).await
    }

    /// Sends a command and gathers its rows.
    pub(crate) async fn rows_of(&mut self, command: &str, wait: &Wait) -> Result<Rows> {
        self.send_command(command, wait).await?;
        let mut gathering = Gathering::new(self.connection.limits);
        loop {
            let message = match self.connection.receive(wait).await? {
                Message::ErrorResponse(error) => return Err(self.connection.recover(error, wait).await),
                message => message,
            };
            match gathering.take(message) {
                Ok(None) => {}
                Ok(Some(rows)) => {
                    self.connection.ready();
                    return Ok(rows);
                }
                Err(error) => {
                    self.connection.close("the answer to a command was not read to its end");
                    return Err(error);
                }
            }
        }
    }
}

/// The rows that have come so far. No I/O.
struct Gathering {
    limits: Limits,
    rows: Rows,
    bytes: usize,
    is_complete: bool,
}

impl Gathering {
    fn new(limits: Limits) -> Gathering {
        Gathering { limits, rows: Rows::default(), bytes: 0, is_complete: false }
    }

    /// Takes the next message; gives the rows when the last has come.
    fn take(&mut self, message: Message) -> Result<Option<Rows>> {
        match message {
            Message::RowDescription(description) if !self.is_complete => {
                self.rows.columns = description.columns;
            }
            Message::DataRow(row) if !self.is_complete && row.values.len() == self.rows.columns.len() => {
                self.bytes = self.bytes.saturating_add(row.size());
                if self.bytes > self.limits.result_bytes {
                    return Err(Error::ResultTooLarge { limit: self.limits.result_bytes, unit: "bytes" });
                }
                if self.rows.rows.len() == self.limits.rows {
                    return Err(Error::ResultTooLarge { limit: self.limits.rows, unit: "rows" });
                }
                self.rows.rows.push(row);
            }
            Message::CommandComplete(tag) if !self.is_complete => {
                self.rows.tag = tag;
                self.is_complete = true;
            }
            Message::EmptyQueryResponse if !self.is_complete => self.is_complete = true,
            Message::ReadyForQuery(_) if self.is_complete => return Ok(Some(std::mem::take(&mut self.rows))),
            other => return Err(Error::protocol(format!("{} in the answer to one command", other.kind()))),
        }
        Ok(None)
    }
}
