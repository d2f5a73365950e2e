//! Messages to and from a server over any stream, within limits.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::connect::Transport;
use crate::message::{Message, decode};
use crate::{Cut, Error, Limits, Result, ServerError};

/// How much is read at a time, in bytes. Slices of a copy keep their whole buffer of this size alive.
const READ_BYTES: usize = 256 << 10;
/// When less room than this is left, in bytes, there is a new buffer: reads of a few bytes would be slow.
const MIN_READ_BYTES: usize = 32 << 10;
/// The notices that are kept until somebody takes them; older ones make room.
const MAX_NOTICES: usize = 100;
/// The settings that a server may report without being asked; PostgreSQL 18 reports fifteen.
const MAX_PARAMETERS: usize = 256;
/// For the server's last words, when it no longer listens.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    deadline: Instant,
    limit: Duration,
    doing: &'static str,
    hint: &'static str,
}

impl Wait {
    pub(crate) fn new(limit: Duration, doing: &'static str, hint: &'static str) -> Wait {
        Wait { deadline: Instant::now() + limit, limit, doing, hint }
    }

    /// As [`Wait::new`], for a wait that began at `start`.
    pub(crate) fn since(start: Instant, limit: Duration, doing: &'static str, hint: &'static str) -> Wait {
        Wait { deadline: start + limit, limit, doing, hint }
    }

    pub(crate) fn to_connect(limits: &Limits) -> Wait {
        Wait::new(
            limits.connect,
            "connecting",
            "is the server up and reachable? connect_timeout gives more time",
        )
    }

    pub(crate) fn for_query(limits: &Limits, doing: &'static str) -> Wait {
        Wait::new(limits.query, doing, "look at what the server is doing (pg_stat_activity)")
    }

    /// Runs something within the time that is left.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = io::Result<T>>) -> Result<T> {
        match timeout_at(self.deadline, future).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::Lost { doing: self.doing, source }),
            Err(_) => Err(self.timed_out()),
        }
    }

    pub(crate) fn timed_out(&self) -> Error {
        Error::TimedOut { doing: self.doing, limit: self.limit, hint: self.hint }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// Whether a command can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// A command is under way, or was given up half-way.
    Busy,
    Closed(&'static str),
}

/// A stream with messages on it.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    state: State,
    parameters: BTreeMap<String, String>,
    notices: VecDeque<ServerError>,
    pub(crate) limits: Limits,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, limits: Limits) -> Connection<S> {
        Connection {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            state: State::Busy,
            parameters: BTreeMap::new(),
            notices: VecDeque::new(),
            limits,
        }
    }

    /// Marks the connection as taken by a command. It is so until [`Connection::ready`].
    pub(crate) fn begin(&mut self) -> Result<()> {
        match self.state {
            State::Ready => self.state = State::Busy,
            State::Busy => return Err(Error::Closed { reason: "a command on it was given up half-way" }),
            State::Closed(reason) => return Err(Error::Closed { reason }),
        }
        Ok(())
    }

    pub(crate) fn ready(&mut self) {
        self.state = State::Ready;
    }

    pub(crate) fn close(&mut self, reason: &'static str) {
        self.state = State::Closed(reason);
    }

    /// What the server last reported a setting to be.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    pub(crate) fn take_notices(&mut self) -> Vec<ServerError> {
        self.notices.drain(..).collect()
    }

    /// Sends what `write` puts into the buffer.
    pub(crate) async fn send(&mut self, wait: &Wait, message: &[u8]) -> Result<()> {
        let Err(error) = self.write(wait, message).await else { return Ok(()) };
        // A server that has gone says why before it goes (57P01, …).
        let last_words = Wait::new(LAST_WORDS, "reading the server's last words", "");
        if let (Error::Lost { .. }, Ok(Message::ErrorResponse(reason))) =
            (&error, self.receive(&last_words).await)
        {
            self.close("the server ended it");
            return Err(Error::Server(reason));
        }
        self.close("it was lost");
        Err(error)
    }

    /// Writes a message. What a failure means is for the caller to find out: the server may have said why.
    pub(crate) async fn write(&mut self, wait: &Wait, message: &[u8]) -> Result<()> {
        self.output.clear();
        self.output.extend_from_slice(message);
        let (stream, output) = (&mut self.stream, &self.output);
        wait.run(async { stream.write_all(output).await.and(stream.flush().await) }).await
    }

    /// The next message that is an answer.
    pub(crate) async fn receive(&mut self, wait: &Wait) -> Result<Message> {
        loop {
            if let Some(message) = self.receive_any(wait).await? {
                return Ok(message);
            }
        }
    }

    /// The next message; `None` for one that is no answer, and is kept or passed over here. Giving up on the future
    /// loses nothing: a message that has come in part is gone on with.
    pub(crate) async fn receive_any(&mut self, wait: &Wait) -> Result<Option<Message>> {
        loop {
            match decode(&mut self.input, self.limits.message_bytes) {
                Ok(Some(message)) => return Ok(self.absorb(message)),
                Ok(None) => self.fill(wait).await?,
                Err(error) => {
                    self.close("the server broke the protocol");
                    return Err(error);
                }
            }
        }
    }

    /// Reads on after an error, until the server is ready again; what the error means for the caller.
    pub(crate) async fn recover(&mut self, error: Box<ServerError>, wait: &Wait) -> Error {
        if error.is_fatal() {
            self.close("the server ended it");
            return Error::Server(error);
        }
        loop {
            match self.receive(wait).await {
                Ok(Message::ReadyForQuery(_)) => self.ready(),
                Ok(_) => continue,
                // The connection is marked as closed; what the server said counts for more.
                Err(_) => {}
            }
            return Error::Server(error);
        }
    }

    /// An answer that has no place here.
    pub(crate) fn unexpected(&mut self, message: &Message, place: &str) -> Error {
        self.close("the server broke the protocol");
        Error::protocol(format!("{} {place}", message.kind()))
    }

    /// Says goodbye, so that the server's log has no broken connection.
    pub(crate) async fn terminate(mut self) {
        self.output.clear();
        postgres_protocol::message::frontend::terminate(&mut self.output);
        let wait = Wait::new(LAST_WORDS, "closing", "");
        let (stream, output) = (&mut self.stream, &self.output);
        // Whether it arrives makes no difference to anybody.
        let _ = wait.run(async { stream.write_all(output).await.and(stream.shutdown().await) }).await;
    }

    async fn fill(&mut self, wait: &Wait) -> Result<()> {
        if self.input.capacity() - self.input.len() < MIN_READ_BYTES {
            self.input.reserve(READ_BYTES);
        }
        let (stream, input) = (&mut self.stream, &mut self.input);
        let error = match wait.run(stream.read_buf(input)).await {
            Ok(0) => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it");
                Error::Lost { doing: wait.doing, source }
            }
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        self.close("it was lost, or no answer came in time");
        Err(error)
    }

    fn absorb(&mut self, message: Message) -> Option<Message> {
        match message {
            Message::NoticeResponse(notice) => {
                if self.notices.len() == MAX_NOTICES {
                    self.notices.pop_front();
                }
                self.notices.push_back(*notice);
            }
            Message::ParameterStatus(status) => {
                if self.parameters.len() < MAX_PARAMETERS || self.parameters.contains_key(&status.name) {
                    self.parameters.insert(status.name, status.value);
                }
            }
            Message::NotificationResponse => {}
            answer => return Some(answer),
        }
        None
    }
}

impl Connection<Transport> {
    /// Nobody is woken for what comes, until the next reading or writing.
    pub(crate) fn rest(&mut self, doing: &'static str) -> Result<()> {
        self.stream.rest().map_err(|source| {
            self.close("it was lost");
            Error::Lost { doing, source }
        })
    }

    /// What ends the connection from beside.
    pub(crate) fn cut(&self, doing: &'static str) -> Result<Cut> {
        self.stream.cut().map_err(|source| Error::Lost { doing, source })
    }
}
