//! What lies in the `CopyData` of a stream of WAL, in both directions.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION>

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_wal::{Lsn, Timestamp};

use crate::{Error, Result};

/// What the server says in a stream of WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMessage {
    /// WAL (`XLogData`, 'w').
    Wal {
        /// Where its first byte belongs.
        start: Lsn,
        /// How far the server's WAL went when it was sent.
        server_end: Lsn,
        /// When, by the server's clock.
        sent_at: Timestamp,
        /// The WAL.
        bytes: Bytes,
    },
    /// A sign of life ('k').
    Keepalive {
        /// How far the server has sent WAL.
        server_end: Lsn,
        /// When, by the server's clock.
        sent_at: Timestamp,
        /// Whether it wants to hear of our progress at once.
        wants_reply: bool,
    },
}

impl StreamMessage {
    /// Reads the inside of a `CopyData`.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else.
    pub fn parse(mut body: Bytes) -> Result<StreamMessage> {
        let wrong = |_| Error::protocol("a CopyData that has no place in a stream of WAL");
        match body.try_get_u8().map_err(wrong)? {
            b'w' => Ok(StreamMessage::Wal {
                start: Lsn(body.try_get_u64().map_err(wrong)?),
                server_end: Lsn(body.try_get_u64().map_err(wrong)?),
                sent_at: Timestamp(body.try_get_i64().map_err(wrong)?),
                bytes: body,
            }),
            b'k' if body.len() == 17 => Ok(StreamMessage::Keepalive {
                server_end: Lsn(body.try_get_u64().map_err(wrong)?),
                sent_at: Timestamp(body.try_get_i64().map_err(wrong)?),
                wants_reply: body.try_get_u8().map_err(wrong)? != 0,
            }),
            _ => Err(Error::protocol("a CopyData that has no place in a stream of WAL")),
        }
    }
}

/// How far we are ('r', "standby status update").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Behind the last byte that was received.
    pub written: Lsn,
    /// Behind the last byte that is durable (R17); [`Lsn::INVALID`] where nothing is to be said of it: the server then leaves
    /// the slot where it is.
    pub flushed: Lsn,
    /// Whether the server shall answer with a sign of life.
    pub wants_reply: bool,
}

impl StandbyStatus {
    /// The inside of the `CopyData`, at `now`.
    pub(crate) fn encode(&self, now: Timestamp) -> Bytes {
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        body.put_u64(self.written.0);
        body.put_u64(self.flushed.0);
        // Nothing is applied here; a server that waits for that (synchronous_commit = remote_apply) takes what is durable.
        body.put_u64(self.flushed.0);
        body.put_i64(now.0);
        body.put_u8(u8::from(self.wants_reply));
        body.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_kinds_are_read() {
        let number = |number: u8| [0, 0, 0, 0, 0, 0, 0, number];
        let wal = [&b"w"[..], &number(1), &number(5), &number(9), b"abcd"].concat();
        let expected = StreamMessage::Wal {
            start: Lsn(1),
            server_end: Lsn(5),
            sent_at: Timestamp(9),
            bytes: Bytes::from_static(b"abcd"),
        };
        assert_eq!(StreamMessage::parse(wal.into()).unwrap(), expected);
        for (flag, wants_reply) in [(0, false), (1, true)] {
            let keepalive = [&b"k"[..], &number(7), &number(8), &[flag]].concat();
            let expected =
                StreamMessage::Keepalive { server_end: Lsn(7), sent_at: Timestamp(8), wants_reply };
            assert_eq!(StreamMessage::parse(keepalive.into()).unwrap(), expected);
        }
    }

    #[test]
    fn r22_anything_else_is_refused() {
        for body in
            [&b""[..], b"w", b"wshort", b"k", b"k0123456701234567", b"k012345670123456701", b"x", b"d"]
        {
            let error = StreamMessage::parse(body.into()).unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{body:?}");
        }
    }

    #[test]
    fn a_status_has_the_layout_that_servers_read() {
        let status = StandbyStatus { written: Lsn(3), flushed: Lsn(2), wants_reply: true };
        let expected = [&b"r"[..], &[0, 0, 0, 0, 0, 0, 0, 3], &[0, 0, 0, 0, 0, 0, 0, 2]].concat();
        let encoded = status.encode(Timestamp(-1));
        assert_eq!(encoded[..17], expected);
        assert_eq!(encoded[17..25], [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(encoded[25..], [&[0xff; 8][..], &[1]].concat());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in any::<Vec<u8>>()) {
            let _ = StreamMessage::parse(body.into());
        }
    }
}
