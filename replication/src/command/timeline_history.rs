//! `TIMELINE_HISTORY`: the history file of a timeline.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-TIMELINE-HISTORY>

use bytes::Bytes;
use highwater_wal::TimelineId;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::Wait;
use crate::{Client, Error, Result};

/// SQLSTATE `undefined_file`.
const UNDEFINED_FILE: &str = "58P01";

/// A history file as it lies in `pg_wal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    /// Its name, as in `00000002.history`.
    pub name: String,
    /// Its content, as bytes: the reasons in it can be in any encoding.
    pub content: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Fetches a timeline's history file; `None` where the server has none, as for timeline 1. Only on a replication
    /// connection.
    ///
    /// # Errors
    /// As for [`Client::query`].
    pub async fn timeline_history(&mut self, timeline: TimelineId) -> Result<Option<HistoryFile>> {
        let wait = Wait::for_query(&self.connection.limits, "fetching a timeline's history");
        let rows = match self.rows_of(&format!("TIMELINE_HISTORY {timeline}"), &wait).await {
            Err(Error::Server(error)) if error.sqlstate == UNDEFINED_FILE => return Ok(None),
            rows => rows?,
        };
        let row = rows.single()?;
        let content =
            row.bytes(1)?.cloned().ok_or_else(|| Error::protocol("a history file without content"))?;
        Ok(Some(HistoryFile { name: row.parse(0)?, content }))
    }
}
