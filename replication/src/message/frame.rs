//! Where one message ends and the next begins.
//!
//! <https://www.postgresql.org/docs/18/protocol-overview.html#PROTOCOL-MESSAGE-CONCEPTS>

use std::io;

use bytes::BytesMut;
use postgres_protocol::message::backend;

use super::{Authentication, DataRow, Message, ParameterStatus, RowDescription, ServerError};
use super::{TransactionStatus, copy_both_response};
use crate::{Error, Result};

/// Takes the first message off the buffer, once it is there as a whole.
///
/// The bytes of a copy are a slice of the buffer, not a copy of it.
///
/// # Errors
/// [`Error::MessageTooLong`] as soon as a length above `limit` is announced, [`Error::Protocol`] for what is no message.
/// After an error the buffer is of no further use.
///
/// ```
/// use bytes::BytesMut;
/// use highwater_replication::message::{Message, decode};
/// let mut buffer = BytesMut::from(&b"c\0\0\0\x04d\0\0"[..]);
/// assert_eq!(decode(&mut buffer, 1 << 20)?, Some(Message::CopyDone));
/// assert_eq!(decode(&mut buffer, 1 << 20)?, None);
/// # Ok::<(), highwater_replication::Error>(())
/// ```
pub fn decode(buffer: &mut BytesMut, limit: usize) -> Result<Option<Message>> {
    let Some(header) = backend::Header::parse(buffer).map_err(broken)? else { return Ok(None) };
    // The length does not count the tag, and parse() has made sure that it is at least 4.
    let length = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
    if length > limit {
        return Err(Error::MessageTooLong { length, limit });
    }
    if buffer.len() < length {
        return Ok(None);
    }
    if header.tag() == copy_both_response::TAG {
        return copy_both_response::parse(&buffer.split_to(length)[5..]).map(Some);
    }
    let tag = char::from(header.tag());
    match backend::Message::parse(buffer) {
        Ok(Some(message)) => from_backend(message, tag).map(Some),
        Ok(None) => Err(Error::protocol(format!("a message '{tag}' of {length} bytes has no end"))),
        Err(error) => Err(broken(error)),
    }
}

fn from_backend(message: backend::Message, tag: char) -> Result<Message> {
    use backend::Message as Raw;
    Ok(match message {
        Raw::AuthenticationCleartextPassword
        | Raw::AuthenticationGss
        | Raw::AuthenticationKerberosV5
        | Raw::AuthenticationMd5Password(_)
        | Raw::AuthenticationOk
        | Raw::AuthenticationScmCredential
        | Raw::AuthenticationSspi
        | Raw::AuthenticationGssContinue(_)
        | Raw::AuthenticationSasl(_)
        | Raw::AuthenticationSaslContinue(_)
        | Raw::AuthenticationSaslFinal(_) => Message::Authentication(Authentication::new(message)?),
        Raw::BackendKeyData(body) => Message::BackendKeyData { process_id: body.process_id() },
        Raw::CommandComplete(body) => Message::CommandComplete(body.tag().map_err(broken)?.to_owned()),
        Raw::CopyData(body) => Message::CopyData(body.into_bytes()),
        Raw::CopyDone => Message::CopyDone,
        Raw::CopyInResponse(_) => Message::CopyInResponse,
        Raw::CopyOutResponse(_) => Message::CopyOutResponse,
        Raw::DataRow(body) => Message::DataRow(DataRow::new(&body)?),
        Raw::EmptyQueryResponse => Message::EmptyQueryResponse,
        Raw::ErrorResponse(body) => Message::ErrorResponse(Box::new(ServerError::new(body.fields())?)),
        Raw::NoticeResponse(body) => Message::NoticeResponse(Box::new(ServerError::new(body.fields())?)),
        Raw::NotificationResponse(_) => Message::NotificationResponse,
        Raw::ParameterStatus(body) => Message::ParameterStatus(ParameterStatus::new(&body)?),
        Raw::ReadyForQuery(body) => Message::ReadyForQuery(TransactionStatus::new(body.status())?),
        Raw::RowDescription(body) => Message::RowDescription(RowDescription::new(&body)?),
        _ => return Err(Error::protocol(format!("a message '{tag}' answers nothing that was asked"))),
    })
}

/// A message whose inside does not fit its kind.
pub(super) fn broken(error: io::Error) -> Error {
    Error::protocol(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::BackupMessage;
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    fn one(tag: u8, body: &[u8]) -> Result<Message> {
        let mut buffer = BytesMut::from(&frame(tag, body)[..]);
        let message = decode(&mut buffer, LIMIT)?.expect("a whole frame");
        assert!(buffer.is_empty());
        Ok(message)
    }

    #[test]
    fn every_kind_is_read() {
        let table: &[(u8, &[u8], &str)] = &[
            (b'R', b"\0\0\0\0", "Authentication(Ok)"),
            (b'R', b"\0\0\0\x03", "Authentication(CleartextPassword)"),
            (b'R', b"\0\0\0\x05abcd", "Authentication(Md5Password { salt: [97, 98, 99, 100] })"),
            (b'R', b"\0\0\0\x07", "Authentication(Unsupported(\"GSSAPI\"))"),
            (
                b'R',
                b"\0\0\0\x0aSCRAM-SHA-256\0\0",
                "Authentication(Sasl { mechanisms: [\"SCRAM-SHA-256\"] })",
            ),
            (b'R', b"\0\0\0\x0babc", "Authentication(SaslContinue([97, 98, 99]))"),
            (b'R', b"\0\0\0\x0cabc", "Authentication(SaslFinal([97, 98, 99]))"),
            (b'K', b"\0\0\0\x01\0\0\0\x02", "BackendKeyData { process_id: 1 }"),
            (b'C', b"SELECT 1\0", "CommandComplete(\"SELECT 1\")"),
            (b'W', b"\0\0\0", "CopyBothResponse"),
            (b'd', b"", "CopyData(b\"\")"),
            (b'c', b"", "CopyDone"),
            (b'G', b"\0\0\0", "CopyInResponse"),
            (b'H', b"\0\0\0", "CopyOutResponse"),
            (b'D', b"\0\x02\xff\xff\xff\xff\0\0\0\x01x", "DataRow(DataRow { values: [None, Some(b\"x\")] })"),
            (b'I', b"", "EmptyQueryResponse"),
            (b'A', b"\0\0\0\x01c\0m\0", "NotificationResponse"),
            (b'S', b"a\0b\0", "ParameterStatus(ParameterStatus { name: \"a\", value: \"b\" })"),
            (b'Z', b"I", "ReadyForQuery(Idle)"),
            (b'T', b"\0\0", "RowDescription(RowDescription { columns: [] })"),
        ];
        for (tag, body, expected) in table {
            let message = one(*tag, body).unwrap();
            assert_eq!(format!("{message:?}"), *expected);
            assert!(expected.starts_with(message.kind()), "{expected}");
        }
    }

    #[test]
    fn r22_what_is_no_message_is_refused() {
        for (tag, body) in [
            (b'1', &b""[..]),
            (b'?', b""),
            (b'v', b"\0\x03\0\0\0\0\0\0"),
            (b'R', b"\0\0\0\x63"),
            (b'R', b"\0\0\0\x05ab"),
            (b'R', b"\0\0\0\x0aSCRAM"),
            (b'Z', b"?"),
            (b'Z', b""),
            (b'C', b"no end"),
            (b'C', b"\xff\0"),
            (b'c', b"x"),
            (b'W', b"\0"),
            (b'W', b"\0\0\x01\0"),
            (b'D', b"\0\x01"),
            (b'D', b"\0\x01\0\0\0\x09x"),
            (b'T', b"\0\x01"),
            (b'E', b"S"),
        ] {
            let error = one(tag, body).unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{}: {error}", char::from(tag));
            assert!(error.to_string().contains("hint: "), "{error}");
        }
        let mut short = BytesMut::from(&b"c\0\0\0\x03"[..]);
        assert!(matches!(decode(&mut short, LIMIT), Err(Error::Protocol { .. })));
    }

    #[test]
    fn r22_a_length_above_the_limit_is_refused_before_the_bytes_come() {
        for length in [LIMIT, 1 << 30, i32::MAX as usize] {
            let header = [&b"d"[..], &u32::try_from(length).unwrap().to_be_bytes()].concat();
            let error = decode(&mut BytesMut::from(&header[..]), LIMIT).unwrap_err();
            assert!(matches!(error, Error::MessageTooLong { limit: LIMIT, .. }), "{error}");
        }
    }

    #[test]
    fn copied_bytes_are_not_moved() {
        let mut buffer = BytesMut::from(&frame(b'd', &[7; 1000])[..]);
        let start = buffer.as_ptr();
        let Ok(Some(Message::CopyData(bytes))) = decode(&mut buffer, LIMIT) else { panic!() };
        assert_eq!(bytes.as_ptr(), start.wrapping_add(5));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut buffer, LIMIT) {}
        }

        #[test]
        fn any_body_is_read_or_refused(tag in any::<u8>(), body in any::<Vec<u8>>()) {
            let mut buffer = BytesMut::from(&frame(tag, &body)[..]);
            if let Ok(Some(message)) = decode(&mut buffer, LIMIT) {
                prop_assert!(buffer.is_empty());
                if let Message::CopyData(bytes) = message {
                    let _ = BackupMessage::parse(bytes);
                }
            }
        }

        #[test]
        fn a_message_cut_anywhere_is_waited_for(body in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let whole = frame(b'd', &body);
            let cut = cut.index(whole.len());
            let mut buffer = BytesMut::from(&whole[..cut]);
            prop_assert_eq!(decode(&mut buffer, LIMIT).unwrap(), None);
            buffer.extend_from_slice(&whole[cut..]);
            prop_assert_eq!(decode(&mut buffer, LIMIT).unwrap(), Some(Message::CopyData(body.into())));
        }
    }
}
