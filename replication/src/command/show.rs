//! `SHOW`: one of the server's settings, on either kind of connection.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-SHOW>

use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::Wait;
use crate::{Client, Result, quote};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A setting as the server writes it, with its unit: `wal_segment_size` gives `16MB`.
    ///
    /// # Errors
    /// [`crate::Error::Server`] with SQLSTATE 42704 for a setting that does not exist, and as for [`Client::query`].
    pub async fn show(&mut self, setting: &str) -> Result<String> {
        let command = format!("SHOW {}", quote::setting_name(setting)?);
        let wait = Wait::for_query(&self.connection.limits, "reading a setting");
        self.rows_of(&command, &wait).await?.single()?.parse(0)
    }
}
