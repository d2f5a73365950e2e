//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
//!
//! <https://www.postgresql.org/docs/18/sasl-authentication.html>

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;

use super::{Credentials, unbound};
use crate::config::{ChannelBinding, Password};
use crate::tls::end_point;
use crate::{Error, Result};

/// The most iterations that `postgres-protocol` goes along with: a hostile server could keep us busy for ever.
const MAX_ITERATIONS: u64 = 100_000;

/// An exchange under way.
pub(super) struct Scram {
    exchange: ScramSha256,
    /// Whether the server has sent its salt.
    salted: bool,
}

impl Scram {
    /// Chooses among the mechanisms that the server offers, and begins.
    pub(super) fn start(
        mechanisms: &[String],
        password: &Password,
        credentials: &Credentials<'_>,
        message: &mut BytesMut,
    ) -> Result<Scram> {
        let offered = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
        let wanted = credentials.channel_binding;
        let (name, binding) = match credentials.certificate {
            None if offered(SCRAM_SHA_256_PLUS) => {
                return Err(Error::protocol("SCRAM-SHA-256-PLUS is offered on a connection without TLS"));
            }
            Some(certificate) if offered(SCRAM_SHA_256_PLUS) && wanted != ChannelBinding::Disable => {
                let hash = end_point::hash(certificate)?;
                (SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash))
            }
            _ if wanted == ChannelBinding::Require => return Err(unbound()),
            // "We could have": a server that could too then knows that somebody has taken its offer away.
            Some(_) if offered(SCRAM_SHA_256) && wanted != ChannelBinding::Disable => {
                (SCRAM_SHA_256, sasl::ChannelBinding::unrequested())
            }
            _ if offered(SCRAM_SHA_256) => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
            _ => {
                return Err(Error::Authentication {
                    reason: "none of the server's SASL mechanisms is supported".to_owned(),
                    hint: "let pg_hba.conf on the server ask this user for scram-sha-256",
                });
            }
        };
        let exchange = ScramSha256::new(password.bytes(), binding);
        frontend::sasl_initial_response(name, exchange.message(), message).map_err(failed)?;
        Ok(Scram { exchange, salted: false })
    }

    /// Takes the server's salt and answers with the proof.
    pub(super) fn go_on(&mut self, data: &[u8], message: &mut BytesMut) -> Result<()> {
        if std::mem::replace(&mut self.salted, true) {
            return Err(super::out_of_turn());
        }
        if let Some(iterations) = iterations(data).filter(|count| *count > MAX_ITERATIONS) {
            return Err(Error::Authentication {
                reason: format!("the server stores this password with {iterations} SCRAM iterations"),
                hint: "at most 100,000 are supported: lower scram_iterations on the server and set the password again",
            });
        }
        self.exchange.update(data).map_err(failed)?;
        frontend::sasl_response(self.exchange.message(), message).map_err(failed)
    }

    /// Checks the server's own proof.
    pub(super) fn finish(mut self, data: &[u8]) -> Result<()> {
        match self.salted {
            true => self.exchange.finish(data).map_err(failed),
            false => Err(super::out_of_turn()),
        }
    }
}

/// The iteration count in the server's first message: `r=…,s=…,i=4096`.
fn iterations(data: &[u8]) -> Option<u64> {
    std::str::from_utf8(data).ok()?.rsplit_once(",i=")?.1.parse().ok()
}

fn failed(error: std::io::Error) -> Error {
    Error::Authentication {
        reason: format!("SCRAM failed: {error}"),
        hint: "look at the password; if it is right, this is not the server that it pretends to be",
    }
}
