//! `CREATE_REPLICATION_SLOT`, `READ_REPLICATION_SLOT`, `DROP_REPLICATION_SLOT`: what keeps a server's WAL until we have it.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html>

use highwater_wal::Lsn;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::Wait;
use crate::message::DataRow;
use crate::{Client, Error, Result};

/// The first version with `READ_REPLICATION_SLOT`.
const READABLE: u32 = 15;
/// SQLSTATE `duplicate_object`.
const DUPLICATE_OBJECT: &str = "42710";
/// `NAMEDATALEN` without its closing zero.
const MAX_NAME_BYTES: usize = 63;

/// The name of a replication slot: lower-case letters, digits and underscores, at most 63 of them.
///
/// ```
/// use highwater_replication::SlotName;
/// assert!("highwater_1".parse::<SlotName>().is_ok());
/// assert!("Highwater-1".parse::<SlotName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotName(String);

impl std::str::FromStr for SlotName {
    type Err = Error;

    fn from_str(text: &str) -> Result<SlotName> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_allowed) {
            return Ok(SlotName(text.to_owned()));
        }
        Err(Error::Unsendable {
            what: "the name of the replication slot",
            reason: "PostgreSQL takes no such name",
            hint: "use 1 to 63 of the characters a-z 0-9 _",
        })
    }
}

impl std::fmt::Display for SlotName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A replication slot that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationSlot {
    /// Whether it is for physical replication.
    pub is_physical: bool,
    /// From where on the server keeps WAL for it; `None` while it has never been used, and when it has lost its WAL.
    pub restart_lsn: Option<Lsn>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Whether [`Client::replication_slot`] works on a replication connection to this server; else it needs one for SQL.
    pub fn reads_slots(&self) -> bool {
        self.server_version().major() >= READABLE
    }

    /// Looks at a replication slot; `None` where there is none of this name. On a replication connection to PostgreSQL 15 and
    /// newer ([`Client::reads_slots`]).
    ///
    /// # Errors
    /// As for [`Client::query`].
    pub async fn replication_slot(&mut self, name: &SlotName) -> Result<Option<ReplicationSlot>> {
        let wait = Wait::for_query(&self.connection.limits, "reading the replication slot");
        let rows = self.rows_of(&format!("READ_REPLICATION_SLOT {name}"), &wait).await?;
        slot(rows.single()?)
    }

    /// The same on a connection for SQL, for every version.
    ///
    /// # Errors
    /// As for [`Client::query`].
    pub async fn replication_slot_by_sql(&mut self, name: &SlotName) -> Result<Option<ReplicationSlot>> {
        let query = format!(
            "SELECT slot_type, restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = '{name}'"
        );
        match self.query(&query).await?.rows.as_slice() {
            [] => Ok(None),
            [row, ..] => slot(row),
        }
    }

    /// Makes a slot for physical replication that keeps WAL from now on; `false` where there was one of this name.
    /// Only on a replication connection.
    ///
    /// # Errors
    /// As for [`Client::query`]: [`Error::Server`] where `max_replication_slots` has been reached, among others.
    pub async fn create_physical_slot(&mut self, name: &SlotName) -> Result<bool> {
        let wait = Wait::for_query(&self.connection.limits, "making the replication slot");
        let command = format!("CREATE_REPLICATION_SLOT {name} PHYSICAL RESERVE_WAL");
        match self.rows_of(&command, &wait).await {
            Ok(_) => Ok(true),
            Err(Error::Server(error)) if error.sqlstate == DUPLICATE_OBJECT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Drops a slot. Only on a replication connection.
    ///
    /// # Errors
    /// As for [`Client::query`]: [`Error::Server`] where somebody uses it, among others.
    pub async fn drop_slot(&mut self, name: &SlotName) -> Result<()> {
        let wait = Wait::for_query(&self.connection.limits, "dropping the replication slot");
        self.rows_of(&format!("DROP_REPLICATION_SLOT {name}"), &wait).await.map(drop)
    }
}

/// The columns `slot_type` and `restart_lsn`; the server gives NULLs for a slot that isn't there.
fn slot(row: &DataRow) -> Result<Option<ReplicationSlot>> {
    let Some(kind) = row.text(0)? else { return Ok(None) };
    let restart_lsn = match row.text(1)? {
        Some(_) => Some(row.parse(1)?),
        None => None,
    };
    Ok(Some(ReplicationSlot { is_physical: kind == "physical", restart_lsn }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r22_a_name_that_the_server_would_refuse_is_not_sent() {
        for text in ["a", "highwater", "x_9", &"a".repeat(63)] {
            assert_eq!(text.parse::<SlotName>().unwrap().to_string(), text);
        }
        for text in ["", "A", "a-b", "a b", "a;b", "ä", &"a".repeat(64)] {
            assert!(text.parse::<SlotName>().unwrap_err().to_string().contains("hint: "), "{text}");
        }
    }
}
