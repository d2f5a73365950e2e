//! `CopyData` in a base backup of PostgreSQL 15 and newer: each has a kind of its own.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-BASE-BACKUP>

use bytes::{Buf, Bytes};

use crate::{Error, Result};

/// What a piece of the copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupMessage {
    /// A new archive begins ('n').
    NewArchive {
        /// The name of the file that `pg_basebackup` would write, as in `base.tar`.
        name: Bytes,
        /// The tablespace's folder on the server; empty for the data directory itself.
        location: Bytes,
    },
    /// The backup manifest begins ('m').
    ManifestStart,
    /// Bytes of the archive or of the manifest ('d').
    Data(Bytes),
    /// The bytes that the server has read so far ('p').
    Progress(u64),
}

impl BackupMessage {
    /// Reads the inside of a `CopyData`.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else.
    pub fn parse(mut body: Bytes) -> Result<BackupMessage> {
        let wrong = || Error::protocol("a CopyData that has no place in a base backup");
        let tag = body.try_get_u8().map_err(|_| wrong())?;
        let message = match tag {
            b'n' => BackupMessage::NewArchive { name: text(&mut body)?, location: text(&mut body)? },
            b'm' => BackupMessage::ManifestStart,
            b'd' => return Ok(BackupMessage::Data(body)),
            b'p' => BackupMessage::Progress(body.try_get_u64().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        match body.is_empty() {
            true => Ok(message),
            false => Err(wrong()),
        }
    }
}

/// Bytes up to a zero, which is taken off too.
fn text(body: &mut Bytes) -> Result<Bytes> {
    let end = body.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| Error::protocol("a name in a base backup that has no end"))?;
    let text = body.split_to(end);
    body.advance(1);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_is_read() {
        let bytes = Bytes::from_static;
        for (body, message) in [
            (
                &b"nbase.tar\0\0"[..],
                BackupMessage::NewArchive { name: bytes(b"base.tar"), location: bytes(b"") },
            ),
            (
                b"n1.tar\0/srv\0",
                BackupMessage::NewArchive { name: bytes(b"1.tar"), location: bytes(b"/srv") },
            ),
            (b"m", BackupMessage::ManifestStart),
            (b"d", BackupMessage::Data(bytes(b""))),
            (b"dabc", BackupMessage::Data(bytes(b"abc"))),
            (b"p\0\0\0\0\0\0\x01\0", BackupMessage::Progress(256)),
        ] {
            assert_eq!(BackupMessage::parse(body.into()).unwrap(), message);
        }
    }

    #[test]
    fn r22_anything_else_is_refused() {
        for body in
            [&b""[..], b"x", b"n", b"nbase.tar\0", b"nbase.tar\0\0x", b"mx", b"p\0", b"p\0\0\0\0\0\0\0\0\0"]
        {
            assert!(matches!(BackupMessage::parse(body.into()), Err(Error::Protocol { .. })), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in any::<Vec<u8>>()) {
            let _ = BackupMessage::parse(body.into());
        }
    }
}
