//! `IDENTIFY_SYSTEM`: which cluster this is, and where its WAL stands.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-IDENTIFY-SYSTEM>

use highwater_wal::{Lsn, SystemId, TimelineId};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::Wait;
use crate::{Client, Result};

/// A cluster's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Its system identifier.
    pub system_id: SystemId,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// Where its WAL ends: flushed on a primary, replayed on a standby.
    pub position: Lsn,
    /// The database of this connection; none on a connection for physical replication.
    pub database: Option<String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Asks which cluster this is. Only on a replication connection.
    ///
    /// # Errors
    /// As for [`Client::query`].
    pub async fn identify_system(&mut self) -> Result<SystemIdentity> {
        let wait = Wait::for_query(&self.connection.limits, "identifying the system");
        let rows = self.rows_of("IDENTIFY_SYSTEM", &wait).await?;
        let row = rows.single()?;
        Ok(SystemIdentity {
            system_id: row.parse(0)?,
            timeline: row.parse(1)?,
            position: row.parse(2)?,
            database: row.text(3)?.map(str::to_owned),
        })
    }
}
