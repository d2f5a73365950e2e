//! Proving to the server who we are, and having it prove that it knows our password.
//!
//! A plain state machine: it is given what the server asks and says what to answer. The rules are those of `fe-auth.c`
//! (PostgreSQL 18).

mod scram;
#[cfg(test)]
mod tests;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;

use self::scram::Scram;
use crate::config::auth_methods::{AuthMethods, Method};
use crate::config::{ChannelBinding, Password};
use crate::message::Authentication;
use crate::{Error, Result};

/// What the proof is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a Password>,
    /// Why a password file was passed over, where one was.
    pub(crate) passed_over: Option<&'a str>,
    pub(crate) methods: AuthMethods,
    pub(crate) channel_binding: ChannelBinding,
    /// The server's certificate (DER), on a TLS connection.
    pub(crate) certificate: Option<&'a [u8]>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Send this message.
    Send(BytesMut),
    /// Send nothing; the server goes on.
    Wait,
    /// We are in.
    Done,
}

/// Where the exchange stands.
pub(crate) struct Authenticator<'a> {
    credentials: Credentials<'a>,
    state: State,
}

enum State {
    /// Nothing was asked yet.
    Start,
    /// Our password went out, in this way.
    Answered,
    /// A SCRAM exchange is under way.
    Scram(Box<Scram>),
    /// The server has proved that it knows our password.
    Proved,
    /// It has not.
    Failed,
}

impl<'a> Authenticator<'a> {
    pub(crate) fn new(credentials: Credentials<'a>) -> Authenticator<'a> {
        Authenticator { credentials, state: State::Start }
    }

    /// Takes what the server asks and gives the answer.
    pub(crate) fn answer(&mut self, request: Authentication) -> Result<Reply> {
        let mut message = BytesMut::new();
        match request {
            Authentication::Ok => return self.accept().map(|()| Reply::Done),
            Authentication::CleartextPassword => {
                self.start(Method::Password)?;
                password_message(self.password()?.bytes(), &mut message)?;
                self.state = State::Answered;
            }
            Authentication::Md5Password { salt } => {
                self.start(Method::Md5)?;
                let hash = md5_hash(self.credentials.user.as_bytes(), self.password()?.bytes(), salt);
                password_message(hash.as_bytes(), &mut message)?;
                self.state = State::Answered;
            }
            Authentication::Sasl { mechanisms } => {
                self.start(Method::Scram)?;
                let scram = Scram::start(&mechanisms, self.password()?, &self.credentials, &mut message)?;
                self.state = State::Scram(Box::new(scram));
            }
            Authentication::SaslContinue(data) => match &mut self.state {
                State::Scram(scram) => scram.go_on(&data, &mut message)?,
                _ => return Err(out_of_turn()),
            },
            Authentication::SaslFinal(data) => match std::mem::replace(&mut self.state, State::Failed) {
                State::Scram(scram) => {
                    scram.finish(&data)?;
                    self.state = State::Proved;
                }
                _ => return Err(out_of_turn()),
            },
            Authentication::Unsupported(name) => {
                let reason = format!("the server asks for {name}, which is not supported");
                let hint = "let pg_hba.conf on the server ask this user for scram-sha-256";
                return Err(Error::Authentication { reason, hint });
            }
        }
        Ok(match message.is_empty() {
            true => Reply::Wait,
            false => Reply::Send(message),
        })
    }

    /// Whether this way to ask is allowed, now and at all.
    fn start(&self, method: Method) -> Result<()> {
        if !matches!(self.state, State::Start) {
            return Err(out_of_turn());
        }
        self.allow(method)?;
        if self.credentials.channel_binding == ChannelBinding::Require && method != Method::Scram {
            return Err(unbound());
        }
        Ok(())
    }

    fn allow(&self, method: Method) -> Result<()> {
        match self.credentials.methods.allow(method) {
            true => Ok(()),
            false => Err(Error::Authentication {
                reason: format!(
                    "the server asks for \"{}\", which require_auth does not allow",
                    method.name()
                ),
                hint: "change require_auth, or the method in pg_hba.conf on the server",
            }),
        }
    }

    /// Whether the server may let us in at this point.
    fn accept(&self) -> Result<()> {
        match &self.state {
            State::Start if self.credentials.channel_binding == ChannelBinding::Require => Err(unbound()),
            State::Start => self.allow(Method::None),
            State::Answered | State::Proved => Ok(()),
            State::Scram(_) | State::Failed => Err(Error::Authentication {
                reason: "the server let us in before it proved that it knows the password".to_owned(),
                hint: "this is not the server that it pretends to be",
            }),
        }
    }

    fn password(&self) -> Result<&'a Password> {
        self.credentials.password.filter(|password| !password.bytes().is_empty()).ok_or_else(|| {
            let mut reason = "the server asks for a password, and none is known".to_owned();
            if let Some(passed_over) = self.credentials.passed_over {
                reason = format!("{reason} ({passed_over})");
            }
            let hint = "give it by ~/.pgpass (host:port:database:user:password, chmod 0600; database \"replication\" \
                        for backups), PGPASSWORD or a password file";
            Error::Authentication { reason, hint }
        })
    }
}

fn password_message(password: &[u8], message: &mut BytesMut) -> Result<()> {
    frontend::password_message(password, message).map_err(|_| Error::Unsendable {
        what: "the password",
        reason: "it holds a zero byte",
        hint: "look at the file it comes from",
    })
}

fn unbound() -> Error {
    Error::Authentication {
        reason: "channel binding is required, and the server lets us in without".to_owned(),
        hint: "the server needs TLS and scram-sha-256; otherwise use channel_binding=prefer",
    }
}

fn out_of_turn() -> Error {
    Error::protocol("an authentication request that is out of turn")
}
