//! A stream of WAL as it comes in, and what is said back.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::{BufMut, BytesMut};
use highwater_wal::{Lsn, TimelineId, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::connection::Wait;
use crate::message::{Message, StandbyStatus, StreamMessage};
use crate::{Client, Cut, Error, Result};

/// The tag of `CopyData`.
const COPY_DATA: u8 = b'd';
/// `CopyDone`, whole.
const COPY_DONE: [u8; 5] = [b'c', 0, 0, 0, 4];

/// How the server's WAL goes on where a timeline has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTimeline {
    /// The timeline that follows.
    pub timeline: TimelineId,
    /// Where it begins.
    pub switch_point: Lsn,
}

/// What comes in a stream of WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalEvent {
    /// WAL, or a sign of life.
    Message(StreamMessage),
    /// The timeline has ended, and all of its WAL has come: go on with [`WalStream::finish`].
    TimelineEnd,
    /// The server is shut down in good order, and all of its WAL has come and was acknowledged.
    Shutdown,
}

/// A stream of WAL. Dropping it ends the connection.
#[derive(Debug)]
pub struct WalStream<S = crate::Transport> {
    client: Client<S>,
    /// When the server was last heard.
    heard: Instant,
    /// That the server has sent its last WAL.
    is_over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WalStream<S> {
    pub(crate) fn new(client: Client<S>) -> WalStream<S> {
        WalStream { client, heard: Instant::now(), is_over: false }
    }

    /// The next event. Its future can be dropped and asked for again.
    ///
    /// # Errors
    /// [`Error::Server`] when the server breaks off, [`Error::TimedOut`] when nothing was heard of it for
    /// [`crate::Limits::idle`], however often this was asked, [`Error::Lost`], [`Error::Protocol`].
    pub async fn next(&mut self) -> Result<WalEvent> {
        loop {
            let limit = self.client.connection.limits.idle;
            let wait = Wait::since(
                self.heard,
                limit,
                "receiving WAL",
                "look at the server and the network: a server answers when it is asked for a sign of life",
            );
            let message = self.client.connection.receive_any(&wait).await?;
            self.heard = Instant::now();
            match message {
                None => {}
                Some(Message::CopyData(bytes)) => {
                    return StreamMessage::parse(bytes)
                        .map(WalEvent::Message)
                        .inspect_err(|_| self.client.connection.close("the server broke the protocol"));
                }
                Some(Message::CopyDone) => {
                    self.is_over = true;
                    return Ok(WalEvent::TimelineEnd);
                }
                Some(Message::CommandComplete(_)) => {
                    self.client.connection.close("the server has been shut down");
                    return Ok(WalEvent::Shutdown);
                }
                Some(Message::ErrorResponse(error)) => {
                    self.client.connection.close("the server ended it");
                    return Err(Error::Server(error));
                }
                Some(other) => return Err(self.client.connection.unexpected(&other, "in a stream of WAL")),
            }
        }
    }

    /// The next event, where it has come already.
    ///
    /// # Errors
    /// As for [`WalStream::next`].
    pub async fn next_now(&mut self) -> Result<Option<WalEvent>> {
        let mut next = pin!(self.next());
        poll_fn(|context| match next.as_mut().poll(context) {
            Poll::Ready(event) => Poll::Ready(event.map(Some)),
            Poll::Pending => Poll::Ready(Ok(None)),
        })
        .await
    }

    /// Tells the server how far we are. That it has gone meanwhile is no failure here: [`WalStream::next`] gives what it said
    /// before, which may be that it was shut down, and then that it has gone.
    ///
    /// # Errors
    /// [`Error::TimedOut`]. A future that is dropped half-way leaves a stream that is of no more use.
    pub async fn report(&mut self, status: &StandbyStatus, now: Timestamp) -> Result<()> {
        let body = status.encode(now);
        let mut message = BytesMut::with_capacity(5 + body.len());
        message.put_u8(COPY_DATA);
        message.put_u32(4 + body.len() as u32);
        message.extend_from_slice(&body);
        let wait = Wait::for_query(&self.client.connection.limits, "telling the server of our progress");
        match self.client.connection.write(&wait, &message).await {
            Err(Error::Lost { .. }) => Ok(()),
            result => {
                result.inspect_err(|_| self.client.connection.close("it does not take what it is told"))
            }
        }
    }

    /// Ends the stream, after [`WalEvent::TimelineEnd`] or in the middle of it; what was on the way is passed over. Gives how
    /// the server's WAL goes on, where the timeline has ended, and the connection back.
    ///
    /// # Errors
    /// As for [`WalStream::next`].
    pub async fn finish(mut self) -> Result<(Option<NextTimeline>, Client<S>)> {
        let wait = Wait::for_query(&self.client.connection.limits, "ending a stream of WAL");
        self.client.connection.send(&wait, &COPY_DONE).await?;
        while !self.is_over {
            match self.client.connection.receive(&wait).await? {
                Message::CopyData(_) => {}
                Message::CopyDone => self.is_over = true,
                Message::ErrorResponse(error) => {
                    return Err(self.client.connection.recover(error, &wait).await);
                }
                other => {
                    return Err(self.client.connection.unexpected(&other, "at the end of a stream of WAL"));
                }
            }
        }
        let first = loop {
            match self.client.connection.receive(&wait).await? {
                // A server that was asked for a sign of life gives it also behind its end (`ProcessStandbyReplyMessage`,
                // `walsender.c`, PostgreSQL 15).
                Message::CopyData(_) => {}
                other => break other,
            }
        };
        let next = end_of_timeline(&mut self.client, first, &wait).await?;
        Ok((next, self.client))
    }
}

impl WalStream {
    /// Lets what comes lie, in memory of the operating system, until the next call of any method: nobody is woken for it. To be
    /// called when [`WalStream::next_now`] gives nothing.
    ///
    /// # Errors
    /// [`Error::Lost`]
    pub fn rest(&mut self) -> Result<()> {
        self.client.connection.rest("receiving WAL")
    }

    /// What ends the connection from beside, while something else holds up whoever has the stream.
    ///
    /// # Errors
    /// [`Error::Lost`]
    pub fn cut(&self) -> Result<Cut> {
        self.client.connection.cut("receiving WAL")
    }
}

/// Reads what follows a copy up to "ready": the next timeline where this one has ended, and one or two tags.
pub(crate) async fn end_of_timeline<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    first: Message,
    wait: &Wait,
) -> Result<Option<NextTimeline>> {
    let mut next = None;
    let mut message = first;
    loop {
        match message {
            Message::RowDescription(_) | Message::CommandComplete(_) => {}
            Message::DataRow(row) if next.is_none() => {
                next = Some(NextTimeline { timeline: row.parse(0)?, switch_point: row.parse(1)? });
            }
            Message::ReadyForQuery(_) => {
                client.connection.ready();
                return Ok(next);
            }
            Message::ErrorResponse(error) => return Err(client.connection.recover(error, wait).await),
            other => return Err(client.connection.unexpected(&other, "at the end of a timeline")),
        }
        message = client.connection.receive(wait).await?;
    }
}
