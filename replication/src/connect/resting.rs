//! Sockets that can be left alone for a while.
//!
//! tokio has the kernel wake it for each piece that comes, whether anybody reads or not. A stream of WAL comes in thousands of small
//! pieces a second, and waking a thread costs more than all that is done with one of them.

use std::fmt::Debug;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Cut;

/// A socket that tokio watches, and can let go of.
pub(super) trait Watched: AsyncRead + AsyncWrite + AsFd + Debug + Send + Unpin + Sized {
    /// The same socket, watched by nobody.
    type Unwatched: AsFd + Debug + Send + Unpin;

    fn unwatch(self) -> io::Result<Self::Unwatched>;
    fn watch(socket: Self::Unwatched) -> io::Result<Self>;
}

impl Watched for UnixStream {
    type Unwatched = std::os::unix::net::UnixStream;

    fn unwatch(self) -> io::Result<Self::Unwatched> {
        self.into_std()
    }

    fn watch(socket: Self::Unwatched) -> io::Result<UnixStream> {
        UnixStream::from_std(socket)
    }
}

impl Watched for TcpStream {
    type Unwatched = std::net::TcpStream;

    fn unwatch(self) -> io::Result<Self::Unwatched> {
        self.into_std()
    }

    fn watch(socket: Self::Unwatched) -> io::Result<TcpStream> {
        TcpStream::from_std(socket)
    }
}

/// A socket that is watched again as soon as somebody reads or writes.
#[derive(Debug)]
pub(super) struct Resting<T: Watched>(State<T>);

#[derive(Debug)]
enum State<T: Watched> {
    Watched(T),
    Unwatched(T::Unwatched),
    /// The kernel refused the one or the other.
    Lost,
}

impl<T: Watched> Resting<T> {
    pub(super) fn new(socket: T) -> Resting<T> {
        Resting(State::Watched(socket))
    }

    /// Nobody is woken for what comes, until the next reading or writing.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        self.0 = match std::mem::replace(&mut self.0, State::Lost) {
            State::Watched(socket) => State::Unwatched(socket.unwatch()?),
            other => other,
        };
        Ok(())
    }

    pub(super) fn cut(&self) -> io::Result<Cut> {
        match &self.0 {
            State::Watched(socket) => Cut::of(socket),
            State::Unwatched(socket) => Cut::of(socket),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn socket(&mut self) -> io::Result<Pin<&mut T>> {
        if let State::Unwatched(_) = self.0
            && let State::Unwatched(socket) = std::mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Watched(T::watch(socket)?);
        }
        match &mut self.0 {
            State::Watched(socket) => Ok(Pin::new(socket)),
            State::Unwatched(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl<T: Watched> AsyncRead for Resting<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_read(context, buffer)
    }
}

impl<T: Watched> AsyncWrite for Resting<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().socket()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    async fn talk<T: Watched>(ours: T, mut theirs: impl AsyncRead + AsyncWrite + Unpin) {
        let mut ours = Resting::new(ours);
        for _ in 0..3 {
            theirs.write_all(b"one").await.unwrap();
            let mut word = [0; 3];
            ours.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"one");
            // To rest twice is no more than to rest.
            ours.rest().unwrap();
            ours.rest().unwrap();
            theirs.write_all(b"two").await.unwrap();
            ours.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"two");
            ours.rest().unwrap();
            ours.write_all(b"six").await.unwrap();
            theirs.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"six");
            ours.rest().unwrap();
        }
        // What waits is woken by what comes after the rest.
        let (read, written) = tokio::join!(ours.read_u8(), async {
            tokio::task::yield_now().await;
            theirs.write_u8(7).await
        });
        assert!(read.is_ok_and(|byte| byte == 7) && written.is_ok());
        ours.rest().unwrap();
        drop(theirs);
        assert!(ours.read_u8().await.is_err(), "the end is heard behind a rest too");
    }

    #[tokio::test]
    async fn both_ends_see_a_cut_also_of_a_socket_at_rest() {
        for at_rest in [false, true] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut ours = Resting::new(ours);
            if at_rest {
                ours.rest().unwrap();
            }
            let cut = ours.cut().unwrap();
            cut.now();
            cut.now();
            let mut rest = Vec::new();
            assert_eq!(theirs.read_to_end(&mut rest).await.unwrap(), 0);
            assert_eq!(ours.read_to_end(&mut rest).await.unwrap(), 0);
            assert!(ours.write_all(b"more").await.is_err());
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_by_a_rest() {
        let limit = Duration::from_secs(60);
        let (ours, theirs) = UnixStream::pair().unwrap();
        timeout(limit, talk(ours, theirs)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        timeout(limit, talk(ours, theirs)).await.unwrap();
    }
}
