//! `ErrorResponse` and `NoticeResponse`: what the server has to say about a command.
//!
//! <https://www.postgresql.org/docs/18/protocol-error-fields.html>

use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

use super::frame::broken;
use crate::Result;

/// An error or notice of the server. Its texts are in the server's language (`lc_messages`); decide by `sqlstate`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, `WARNING`, `NOTICE`, …: never translated.
    pub severity: String,
    /// Five characters, as in <https://www.postgresql.org/docs/18/errcodes-appendix.html>.
    pub sqlstate: String,
    /// What happened.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What the server suggests.
    pub hint: Option<String>,
}

impl ServerError {
    pub(super) fn new(mut fields: ErrorFields<'_>) -> Result<ServerError> {
        let mut error = ServerError::default();
        while let Some(field) = fields.next().map_err(broken)? {
            // Before the encoding is agreed upon, texts come in the server's own.
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                // 'S' is translated and comes first; 'V' is what PostgreSQL 9.6 and newer add.
                b'S' if error.severity.is_empty() => error.severity = value,
                b'V' => error.severity = value,
                b'C' => error.sqlstate = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                _ => {}
            }
        }
        Ok(error)
    }

    /// Whether the server ends the connection after it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity, self.message, self.sqlstate)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        write!(f, "; hint: {}", self.hint.as_deref().unwrap_or_else(|| usual_hint(&self.sqlstate)))
    }
}

/// What to do about the errors that are usual here, when the server does not say.
fn usual_hint(sqlstate: &str) -> &'static str {
    match sqlstate {
        "28000" => {
            "pg_hba.conf on the server must let this user in; a replication connection needs a line with the database \
             \"replication\", and the role the attribute REPLICATION"
        }
        "28P01" => "look at the password, in the connection string, PGPASSWORD or .pgpass",
        "42501" => "the role lacks a right; base backups need the attribute REPLICATION",
        "3D000" => "name an existing database by dbname",
        "53300" => "raise max_connections, or max_wal_senders for replication connections",
        "57P01" | "57P02" => "the server is being shut down or restarted; try again when it is up",
        "57P03" => "the server is starting, stopping or recovering; try again in a moment",
        "58P01" => "the server no longer has this file",
        _ => "the server's log has more about it",
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::{Message, decode};
    use super::*;

    fn error(fields: &[u8]) -> ServerError {
        let length = u32::try_from(fields.len() + 5).unwrap().to_be_bytes();
        let mut frame = BytesMut::from(&[&b"E"[..], &length, fields, b"\0"].concat()[..]);
        match decode(&mut frame, 1 << 20) {
            Ok(Some(Message::ErrorResponse(error))) => *error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_are_kept() {
        let translated = error(b"SFEHLER\0VERROR\0C42P01\0Mrelation fehlt\0Dmore\0Htry\0P15\0Fparse.c\0");
        assert_eq!((translated.severity.as_str(), translated.sqlstate.as_str()), ("ERROR", "42P01"));
        assert_eq!(translated.to_string(), "ERROR: relation fehlt (SQLSTATE 42P01); more; hint: try");
        assert!(!translated.is_fatal());
        let fatal = error(b"SFATAL\0C28P01\0Mno \xff\0");
        assert!(fatal.is_fatal());
        let text = fatal.to_string();
        assert!(
            text.starts_with("FATAL: no \u{fffd} (SQLSTATE 28P01); hint: look at the password"),
            "{text}"
        );
    }
}
