//! What is said between a command and its worker: messages in JSON, each behind its length; an empty one is a sign of
//! life. A file can be handed over.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How often a worker that is at work says so.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Who says nothing for so long is taken for dead: a worker that hangs or was stopped must not hold up a command.
pub const SILENCE: Duration = Duration::from_secs(5);
/// The longest message.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A connection between processes of the same user.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl Connection {
    /// Takes a stream when the process at its other end runs as this user.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Connection> {
        let peer = sockopt::socket_peercred(&stream)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other end is another user's"));
        }
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Connection(stream))
    }

    /// Says something.
    ///
    /// # Errors
    /// When the other end is gone or does not take it.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut whole = vec![0; 4];
        serde_json::to_writer(&mut whole, message)?;
        let length = u32::try_from(whole.len() - 4).map_err(|_| io::ErrorKind::InvalidInput)?;
        whole[..4].copy_from_slice(&length.to_le_bytes());
        self.0.write_all(&whole)
    }

    /// Says that this end is at work.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send_sign_of_life(&mut self) -> io::Result<()> {
        self.0.write_all(&0_u32.to_le_bytes())
    }

    /// What the other end says, when it says it within `limit` and is never silent for [`SILENCE`].
    ///
    /// # Errors
    /// When it does not, is gone, or says something else.
    pub fn receive<T: DeserializeOwned>(&mut self, limit: Duration) -> io::Result<T> {
        let until = Instant::now() + limit;
        loop {
            let mut length = [0; 4];
            self.read(&mut length, until)?;
            let length = u32::from_le_bytes(length) as usize;
            if length > 0 {
                return self.message(length, until);
            }
        }
    }

    /// The same from a caller, who gives no sign of life while it is at work itself.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn receive_after<T: DeserializeOwned>(&mut self, work: Duration) -> io::Result<T> {
        self.0.set_read_timeout(Some(work))?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        self.message(u32::from_le_bytes(length) as usize, Instant::now() + SILENCE)
    }

    fn message<T: DeserializeOwned>(&mut self, length: usize, until: Instant) -> io::Result<T> {
        if length > MAX_MESSAGE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; length];
        self.read(&mut message, until)?;
        Ok(serde_json::from_slice(&message)?)
    }

    fn read(&mut self, buffer: &mut [u8], until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now()).min(SILENCE);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.set_read_timeout(Some(left))?;
        self.0.read_exact(buffer)
    }

    /// Hands an open file over, behind what was said.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send_file(&mut self, file: &File) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut buffer = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        if !buffer.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(&self.0, &[IoSlice::new(&[1])], &mut buffer, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The file that the other end hands over.
    ///
    /// # Errors
    /// When it does not, or this process can have no more files.
    pub fn receive_file(&mut self) -> io::Result<File> {
        self.0.set_read_timeout(Some(SILENCE))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut buffer = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut buffer, RecvFlags::CMSG_CLOEXEC)?;
        let mut files = buffer.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let file = files.next().and_then(|mut files| files.next());
        file.map(File::from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
