//! With TLS or without, and what to do when a try fails. No I/O.

use crate::{Error, SslMode};

/// One way to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    /// Without TLS.
    Plain,
    /// With TLS, and without if the server has none.
    TlsIfOffered,
    /// With TLS.
    Tls,
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The next way to try, at the same address.
    OtherTry,
    /// The next address or server.
    OtherServer,
    /// Nothing: elsewhere it would be no better.
    Stop,
}

/// The ways to try, in this order. Unix sockets are never encrypted, whatever `sslmode` says.
pub(super) fn tries(mode: SslMode, is_local: bool) -> &'static [Try] {
    match mode {
        _ if is_local => &[Try::Plain],
        SslMode::Disable => &[Try::Plain],
        SslMode::Allow => &[Try::Plain, Try::Tls],
        SslMode::Prefer => &[Try::TlsIfOffered, Try::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Try::Tls],
    }
}

/// What to do after this failure of a connection that was made with TLS or without, where this is what is left to try.
///
/// A server that refuses us in one way may take us in another, since `pg_hba.conf` tells connections with and without TLS
/// apart. A server that is not there, cannot serve now (57P03) or is of the wrong kind leaves the others to be tried; one that
/// refuses us for good does not, so that a wrong password isn't shown around.
pub(super) fn next(error: &Error, with: Try, other: Option<Try>) -> Next {
    let may_help = match with {
        Try::TlsIfOffered => matches!(error, Error::Tls { .. } | Error::Server(_)),
        Try::Plain => matches!(error, Error::Server(_)),
        Try::Tls => false,
    };
    match error {
        _ if may_help && other.is_some_and(|other| other != with) => Next::OtherTry,
        Error::Unreachable { .. } | Error::TimedOut { .. } | Error::Lost { .. } => Next::OtherServer,
        Error::WrongSession { .. } => Next::OtherServer,
        Error::Server(error) if error.sqlstate == "57P03" => Next::OtherServer,
        _ => Next::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerError;

    fn server(sqlstate: &str) -> Error {
        Error::Server(Box::new(ServerError { sqlstate: sqlstate.to_owned(), ..ServerError::default() }))
    }

    #[test]
    fn sslmode_decides_what_is_tried() {
        use SslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
        for mode in [Disable, Allow, Prefer, Require, VerifyCa, VerifyFull] {
            assert_eq!(tries(mode, true), [Try::Plain]);
            let never_plain = mode >= Require;
            assert_eq!(tries(mode, false) == [Try::Tls], never_plain, "{mode:?}");
        }
        assert_eq!(tries(Prefer, false), [Try::TlsIfOffered, Try::Plain]);
        assert_eq!(tries(Allow, false), [Try::Plain, Try::Tls]);
        assert_eq!(tries(Disable, false), [Try::Plain]);
    }

    #[test]
    fn failures_lead_on_or_not() {
        let tls = || Error::Tls { reason: String::new(), hint: "" };
        let lost = || Error::Lost { doing: "", source: std::io::ErrorKind::UnexpectedEof.into() };
        let unreachable = || Error::Unreachable { reason: String::new(), hint: "" };
        let secret = || Error::Authentication { reason: String::new(), hint: "" };
        for (error, with, other, expected) in [
            (tls(), Try::TlsIfOffered, Some(Try::Plain), Next::OtherTry),
            (server("28000"), Try::TlsIfOffered, Some(Try::Plain), Next::OtherTry),
            (server("28000"), Try::Plain, Some(Try::Tls), Next::OtherTry),
            (server("28000"), Try::Plain, None, Next::Stop),
            (server("28000"), Try::Plain, Some(Try::Plain), Next::Stop),
            (server("28P01"), Try::Tls, None, Next::Stop),
            (server("57P03"), Try::Plain, None, Next::OtherServer),
            (server("57P03"), Try::Tls, None, Next::OtherServer),
            (tls(), Try::Tls, None, Next::Stop),
            (lost(), Try::Tls, None, Next::OtherServer),
            (unreachable(), Try::TlsIfOffered, Some(Try::Plain), Next::OtherServer),
            (secret(), Try::TlsIfOffered, Some(Try::Plain), Next::Stop),
            (Error::WrongSession { found: "" }, Try::Plain, None, Next::OtherServer),
        ] {
            assert_eq!(next(&error, with, other), expected, "{error:?} {with:?}");
        }
    }
}
