//! SQL from a test: the simple query protocol over the Unix socket, without a runtime, so that it can be called
//! from inside an asynchronous test too.
//!
//! Protocol: <https://www.postgresql.org/docs/current/protocol-flow.html>. Never meant for anything but tests.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::wait::PATIENCE;

/// The rows of an answer; a column is `None` when it is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// Why a query or a connection failed.
#[derive(Debug, Clone)]
pub struct SqlError {
    /// PostgreSQL's SQLSTATE, or empty when the connection broke.
    pub code: String,
    /// The server's message, or the operating system's.
    pub message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<io::Error> for SqlError {
    fn from(error: io::Error) -> Self {
        Self { code: String::new(), message: error.to_string() }
    }
}

/// An open connection, for what needs more than one query: a transaction that stays open, a prepared one, a load.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<UnixStream>,
}

impl Session {
    /// Connects as user `postgres` through `socket`.
    pub(crate) fn open(socket: &Path, database: &str) -> Result<Self, SqlError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut session = Self { stream: BufReader::new(stream) };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for text in ["user", "postgres", "database", database, "application_name", "highwater-tests", ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        session.send(&[], &body)?;
        session.answer()?;
        Ok(session)
    }

    /// Runs one or more statements; several together are one transaction. Answers all rows of all of them.
    pub fn try_rows(&mut self, sql: &str) -> Result<Rows, SqlError> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b"Q", &body)?;
        self.answer()
    }

    /// The same, panicking on failure.
    pub fn rows(&mut self, sql: &str) -> Rows {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn send(&mut self, kind: &[u8], body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
        let mut message = kind.to_vec();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.get_mut().write_all(&message)
    }

    /// Reads up to ReadyForQuery. An error during start-up ends the connection without one.
    fn answer(&mut self) -> Result<Rows, SqlError> {
        let mut rows = Rows::new();
        let mut failure = None;
        loop {
            let (kind, body) = match self.message() {
                Ok(message) => message,
                Err(error) => return Err(failure.unwrap_or_else(|| error.into())),
            };
            match kind {
                b'D' => rows.push(data_row(&body)?),
                b'E' => failure = Some(error_response(&body)),
                b'R' if body != [0; 4] => {
                    return Err(io::Error::other("the server wants a password; the harness has none").into());
                }
                b'Z' => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.checked_sub(4).ok_or(io::ErrorKind::InvalidData)?];
        self.stream.read_exact(&mut body)?;
        Ok((head[0], body))
    }
}

fn data_row(body: &[u8]) -> io::Result<Vec<Option<String>>> {
    let mut rest = body;
    let count = i16::from_be_bytes(take(&mut rest)?);
    (0..count)
        .map(|_| {
            let length = i32::from_be_bytes(take(&mut rest)?);
            let Ok(length) = usize::try_from(length) else { return Ok(None) };
            let (text, after) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
            rest = after;
            Ok(Some(String::from_utf8_lossy(text).into_owned()))
        })
        .collect()
}

fn take<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (head, after) = rest.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
    *rest = after;
    Ok(*head)
}

fn error_response(body: &[u8]) -> SqlError {
    let mut error = SqlError { code: String::new(), message: String::new() };
    for field in body.split(|&byte| byte == 0).filter(|field| !field.is_empty()) {
        let text = String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' | b'H' => error.message = format!("{}\n{text}", error.message),
            _ => {}
        }
    }
    error
}
