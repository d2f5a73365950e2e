//! PostgreSQL's protocol for replication connections, and for plain queries beside them: our own small client.
//!
//! It speaks to PostgreSQL 14 to 18 over Unix sockets, TCP and TLS, takes connection strings as libpq does, and gives base backups
//! and WAL as streams of events. Every wait has a limit, every buffer a bound, and nothing that a server sends can make it panic.
//!
//! It never writes a file, never knows of the repository, never starts a thread, and never shows a password (R21).
//! Physical replication only; of SQL only simple queries with rows as text.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `config` | connection strings, service files, environment, `.pgpass`, defaults → [`Config`] |
//! | `connect` | which server, which address, with TLS or without → [`Client`] |
//! | `tls` | `sslmode`'s meanings, certificates, channel binding |
//! | `auth` | cleartext, MD5 and SCRAM-SHA-256, as a state machine |
//! | [`message`] | what a server says: one file for each kind of message |
//! | `connection` | messages to and from a server over any stream, within limits |
//! | `client` | a connection that is ready for commands |
//! | `command` | what can be asked: one file for each command |
//! | `backup` | what a server answers to `BASE_BACKUP` → [`BackupStream`] |
//! | `stream` | WAL as the server writes it, and what is said back → [`WalStream`] |
//!
//! ```no_run
//! use highwater_replication::{BackupEvent, BaseBackup, Config, Mode, connect};
//!
//! # async fn example() -> Result<(), highwater_replication::Error> {
//! let config = Config::parse("host=db.example.com user=backup sslmode=verify-full")?;
//! let mut client = connect(&config, Mode::Replication).await?;
//! let identity = client.identify_system().await?;
//! println!("cluster {} on timeline {}", identity.system_id, identity.timeline);
//!
//! let mut backup = client.base_backup(&BaseBackup::new("nightly")).await?;
//! let mut received = 0;
//! while let Some(event) = backup.next().await? {
//!     if let BackupEvent::Data(bytes) = event {
//!         received += bytes.len();
//!     }
//! }
//! let (stop, _client) = backup.finish()?;
//! println!("{received} bytes, consistent from {}", stop.position);
//! # Ok(())
//! # }
//! ```

mod auth;
mod backup;
mod client;
mod command;
mod config;
mod connect;
mod connection;
mod error;
pub mod message;
mod quote;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod version;

pub use backup::{Archive, BackupEvent, BackupStart, BackupStop, BackupStream, Tablespace};
pub use client::Client;
pub use command::base_backup::{BaseBackup, Checkpoint, ManifestChecksums};
pub use command::identify_system::SystemIdentity;
pub use command::query::Rows;
pub use command::slot::{ReplicationSlot, SlotName};
pub use command::start_replication::{StartReplication, Started};
pub use command::timeline_history::HistoryFile;
pub use config::{
    AuthMethods, ChannelBinding, Config, Environment, Host, Keepalive, Limits, Password, RootCertificates,
    Server, SslMode, SslNegotiation, TargetSession, TlsSettings, TlsVersions,
};
pub use connect::{Cut, Mode, Stream, Transport, connect};
pub use error::{Attempt, Error, Result};
pub use message::{DataRow, ServerError, StandbyStatus, StreamMessage};
pub use postgres_protocol::escape::{escape_identifier, escape_literal};
pub use stream::{NextTimeline, WalEvent, WalStream};
pub use version::ServerVersion;
