//! From a [`Config`] to a [`Client`]: which server, which address, with TLS or without.
//!
//! The order of tries is that of `PQconnectPoll` in `fe-connect.c` (PostgreSQL 18).

mod cut;
mod plan;
mod resting;
mod session;
mod socket;
mod ssl_request;

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

pub use self::cut::Cut;
use self::plan::{Next, Try};
use self::resting::{Resting, Watched};
use self::socket::{Address, Socket};
use self::ssl_request::Answer;
use crate::auth::Credentials;
use crate::client::{Client, Startup};
use crate::config::passfile::{self, Found, Key};
use crate::connection::Wait;
use crate::error::Attempt;
use crate::tls::Tls;
use crate::{Config, Error, Host, Password, Result, Server, TargetSession};

/// Something to read from and write to.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {
    /// Nobody is woken for what comes, until the next reading or writing. All that has come should have been read before.
    ///
    /// # Errors
    /// What the operating system refuses; then the stream is of no more use.
    fn rest(&mut self) -> io::Result<()>;

    /// What ends the connection from beside.
    ///
    /// # Errors
    /// What the operating system refuses.
    fn cut(&self) -> io::Result<Cut>;
}

impl<T: Watched> Stream for Resting<T> {
    fn rest(&mut self) -> io::Result<()> {
        Resting::rest(self)
    }

    fn cut(&self) -> io::Result<Cut> {
        Resting::cut(self)
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    fn rest(&mut self) -> io::Result<()> {
        self.get_mut().0.rest()
    }

    fn cut(&self) -> io::Result<Cut> {
        self.get_ref().0.cut()
    }
}

/// A socket, with TLS or without.
pub type Transport = Box<dyn Stream>;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// SQL, in [`Config::database`].
    Sql,
    /// Commands of the replication protocol, for the cluster as a whole. The role needs the attribute `REPLICATION`, and
    /// `pg_hba.conf` a line for the database `replication`.
    Replication,
}

/// Connects to the first server that will have us.
///
/// # Errors
/// [`Error::Connect`] with each try; [`Error::File`], [`Error::Setting`] or [`Error::Tls`] for certificates that cannot be
/// used.
///
/// ```no_run
/// # async fn example() -> Result<(), highwater_replication::Error> {
/// use highwater_replication::{Config, Mode, connect};
/// let config = Config::parse("host=/var/run/postgresql user=backup")?;
/// let mut client = connect(&config, Mode::Replication).await?;
/// println!("{:?}", client.identify_system().await?);
/// # Ok(())
/// # }
/// ```
pub async fn connect(config: &Config, mode: Mode) -> Result<Client> {
    let mut attempts = Vec::new();
    let passes = match config.target_session {
        TargetSession::PreferStandby => vec![TargetSession::Standby, TargetSession::Any],
        target => vec![target],
    };
    for target in passes {
        for server in &config.servers {
            let attempt = ServerAttempt { config, server, mode, target };
            match attempt.run(&mut attempts).await? {
                Ended::Connected(client) => return Ok(*client),
                Ended::NextServer => {}
                Ended::Stop => return Err(Error::Connect { attempts }),
            }
        }
    }
    Err(Error::Connect { attempts })
}

enum Ended {
    Connected(Box<Client>),
    NextServer,
    Stop,
}

/// The tries at one server.
struct ServerAttempt<'a> {
    config: &'a Config,
    server: &'a Server,
    mode: Mode,
    target: TargetSession,
}

impl ServerAttempt<'_> {
    async fn run(&self, attempts: &mut Vec<Attempt>) -> Result<Ended> {
        let tries = plan::tries(self.config.tls.mode, self.is_local());
        let tls = match tries.contains(&Try::Plain) && tries.len() == 1 {
            true => None,
            false => Some(Tls::new(&self.config.tls, self.host_name())?),
        };
        let wait = Wait::to_connect(&self.config.limits);
        let addresses = match socket::addresses(self.server, &wait).await {
            Ok(addresses) => addresses,
            Err(error) => {
                attempts.push(Attempt { target: self.server.to_string(), error });
                return Ok(Ended::NextServer);
            }
        };
        for address in &addresses {
            for (number, with) in tries.iter().enumerate() {
                let mut with = *with;
                let error = match self.connect(address, &mut with, tls.as_ref()).await {
                    Ok(client) => return Ok(Ended::Connected(Box::new(client))),
                    Err(error) => error,
                };
                let next = plan::next(&error, with, tries.get(number + 1).copied());
                attempts.push(Attempt { target: self.describe(address, with, addresses.len()), error });
                match next {
                    Next::OtherTry => {}
                    Next::OtherServer => break,
                    Next::Stop => return Ok(Ended::Stop),
                }
            }
        }
        Ok(Ended::NextServer)
    }

    /// One try at one address, within the limit for connecting. `with` becomes what was tried in the end.
    async fn connect(&self, address: &Address, with: &mut Try, tls: Option<&Tls>) -> Result<Client> {
        let wait = Wait::to_connect(&self.config.limits);
        let opened = socket::open(address, self.config, &wait).await?;
        let (stream, certificate): (Transport, _) = match (opened, tls) {
            (Socket::Tcp(stream, ip), Some(tls)) if *with != Try::Plain => {
                let mut stream = Resting::new(stream);
                let asked =
                    if tls.asks_first() { ssl_request::ask(&mut stream, &wait).await? } else { Answer::Yes };
                match asked {
                    Answer::Yes => encrypt(stream, ip, tls, &wait).await?,
                    Answer::No if *with == Try::TlsIfOffered => {
                        *with = Try::Plain;
                        (Box::new(stream), None)
                    }
                    Answer::No => return Err(ssl_request::refused()),
                }
            }
            (Socket::Tcp(stream, _), _) => (Box::new(Resting::new(stream)), None),
            (Socket::Unix(stream), _) => (Box::new(Resting::new(stream)), None),
        };
        let (password, warning) = self.password();
        let startup = Startup {
            parameters: self.parameters(),
            credentials: Credentials {
                user: &self.config.user,
                password: password.as_ref(),
                passed_over: warning.as_deref(),
                methods: self.config.auth_methods,
                channel_binding: self.config.channel_binding,
                certificate: certificate.as_deref(),
            },
        };
        let mut client = Client::start(stream, startup, self.config.limits, &wait).await?;
        session::check(self.target, &|name| client.parameter(name))?;
        client.warnings.extend(warning);
        Ok(client)
    }

    fn parameters(&self) -> Vec<(&str, &str)> {
        let config = self.config;
        let mut parameters = vec![("user", config.user.as_str()), ("client_encoding", "UTF8")];
        match self.mode {
            Mode::Sql => parameters.push(("database", &config.database)),
            Mode::Replication => parameters.push(("replication", "true")),
        }
        parameters.extend(config.application_name.as_deref().map(|name| ("application_name", name)));
        parameters.extend(config.options.as_deref().map(|options| ("options", options)));
        parameters
    }

    /// The password for this server, and why the password file was passed over if it was.
    fn password(&self) -> (Option<Password>, Option<String>) {
        if self.config.password.is_some() {
            return (self.config.password.clone(), None);
        }
        let Some(path) = &self.config.passfile else { return (None, None) };
        let key = Key {
            host: passfile::host_name(&self.server.host, self.server.address.as_deref()),
            port: self.server.port,
            database: match self.mode {
                Mode::Sql => &self.config.database,
                Mode::Replication => "replication",
            },
            user: &self.config.user,
        };
        match passfile::read(path, key) {
            Found::Password(password) => (Some(password), None),
            Found::Nothing => (None, None),
            Found::PassedOver(warning) => (None, Some(warning)),
        }
    }

    fn is_local(&self) -> bool {
        matches!(self.server.host, Host::Socket(_)) && self.server.address.is_none()
    }

    fn host_name(&self) -> &str {
        match &self.server.host {
            Host::Name(name) => name,
            Host::Socket(_) => "",
        }
    }

    fn describe(&self, address: &Address, with: Try, addresses: usize) -> String {
        let mut text = self.server.to_string();
        if let (Address::Tcp(address), true) = (address, addresses > 1) {
            text = format!("{text} at {}", address.ip());
        }
        match with {
            Try::Plain if self.is_local() => text,
            Try::Plain => format!("{text} without TLS"),
            Try::Tls | Try::TlsIfOffered => format!("{text} with TLS"),
        }
    }
}

/// The TLS handshake; with the stream comes the server's certificate.
async fn encrypt<S: Stream + 'static>(
    stream: S,
    ip: IpAddr,
    tls: &Tls,
    wait: &Wait,
) -> Result<(Transport, Option<Vec<u8>>)> {
    let handshake = tokio::time::timeout_at(wait.deadline(), tls.handshake(stream, ip));
    let stream = handshake.await.map_err(|_| wait.timed_out())??;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|chain| chain.first()).map(|certificate| certificate.to_vec());
    Ok((Box::new(stream), certificate))
}
