//! `SSLRequest`: asking the server whether it speaks TLS.
//!
//! <https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-SSL>

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::connection::Wait;
use crate::{Error, Result};

/// What the server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The TLS handshake can begin.
    Yes,
    /// It does not speak TLS, and waits for our first message.
    No,
}

/// Asks. Exactly the one byte of the answer is read: what somebody may have put behind it in the clear goes into the
/// TLS handshake, which fails of it, and never counts as the server's (CVE-2021-23222).
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, wait: &Wait) -> Result<Answer> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let answer = wait.run(async {
        stream.write_all(&request).await?;
        stream.read_u8().await
    });
    match answer.await? {
        b'S' => Ok(Answer::Yes),
        b'N' => Ok(Answer::No),
        // Its text comes from nobody we know, so it is not shown (CVE-2024-10977).
        b'E' => Err(Error::Unreachable {
            reason: "the server answered with an error when it was asked for TLS".to_owned(),
            hint: "look at the server's log; it may be out of processes or memory",
        }),
        _ => Err(Error::protocol("an answer to SSLRequest that is none")),
    }
}

/// The server does not speak TLS, and it must.
pub(super) fn refused() -> Error {
    Error::Tls {
        reason: "the server does not speak TLS, and sslmode asks for it".to_owned(),
        hint: "set ssl = on at the server, or use sslmode=prefer here",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::duplex;

    use super::*;

    async fn answered(bytes: &[u8]) -> Result<Answer> {
        let (mut ours, mut theirs) = duplex(64);
        theirs.write_all(bytes).await.unwrap();
        let wait = Wait::new(Duration::from_secs(1), "connecting", "");
        let answer = ask(&mut ours, &wait).await;
        let mut request = [0; 8];
        theirs.read_exact(&mut request).await.unwrap();
        assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
        drop(theirs);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, bytes.get(1..).unwrap_or_default(), "only one byte is taken");
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn answers() {
        assert_eq!(answered(b"S").await.unwrap(), Answer::Yes);
        assert_eq!(answered(b"N").await.unwrap(), Answer::No);
        assert_eq!(answered(b"Sinjected").await.unwrap(), Answer::Yes);
        let error = answered(b"E\0\0\0\x20SFATAL\0Mlies\0\0").await.unwrap_err();
        assert!(
            matches!(&error, Error::Unreachable { .. }) && !error.to_string().contains("lies"),
            "{error}"
        );
        assert!(matches!(answered(b"?").await, Err(Error::Protocol { .. })));
        assert!(matches!(answered(b"").await, Err(Error::TimedOut { .. })));
    }
}
