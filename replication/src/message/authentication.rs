//! `AuthenticationXXX`: how to prove who we are.
//!
//! <https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-START-UP>

use postgres_protocol::message::backend::Message as Raw;

use fallible_iterator::FallibleIterator;

use super::frame::broken;
use crate::{Error, Result};

/// The most SASL mechanisms a server may offer: PostgreSQL knows three.
const MAX_MECHANISMS: usize = 32;

/// What the server asks for next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing more: we are in.
    Ok,
    /// The password as it is.
    CleartextPassword,
    /// A digest of password, user and this salt.
    Md5Password {
        /// Made by the server for this connection.
        salt: [u8; 4],
    },
    /// A SASL exchange by one of these mechanisms.
    Sasl {
        /// In the server's order of preference.
        mechanisms: Vec<String>,
    },
    /// The exchange goes on.
    SaslContinue(Vec<u8>),
    /// The exchange ends, with the server's own proof.
    SaslFinal(Vec<u8>),
    /// A method that this client does not have; its name.
    Unsupported(&'static str),
}

impl Authentication {
    pub(super) fn new(message: Raw) -> Result<Authentication> {
        Ok(match message {
            Raw::AuthenticationOk => Authentication::Ok,
            Raw::AuthenticationCleartextPassword => Authentication::CleartextPassword,
            Raw::AuthenticationMd5Password(body) => Authentication::Md5Password { salt: body.salt() },
            Raw::AuthenticationSasl(body) => {
                let mechanisms = body.mechanisms().map(|name| Ok(name.to_owned())).take(MAX_MECHANISMS);
                Authentication::Sasl { mechanisms: mechanisms.collect().map_err(broken)? }
            }
            Raw::AuthenticationSaslContinue(body) => Authentication::SaslContinue(body.data().to_vec()),
            Raw::AuthenticationSaslFinal(body) => Authentication::SaslFinal(body.data().to_vec()),
            Raw::AuthenticationGss | Raw::AuthenticationGssContinue(_) => {
                Authentication::Unsupported("GSSAPI")
            }
            Raw::AuthenticationKerberosV5 => Authentication::Unsupported("Kerberos 5"),
            Raw::AuthenticationSspi => Authentication::Unsupported("SSPI"),
            Raw::AuthenticationScmCredential => Authentication::Unsupported("SCM credentials"),
            _ => return Err(Error::protocol("an authentication request of an unknown kind")),
        })
    }
}
