//! What is to be known of the server, and its clock.
//!
//! Asked over an SQL connection beside the replication connection, which knows no functions. A connection string can name several
//! servers, so that it is made sure that both connections lead to the same one.

use std::time::Duration;

use highwater_replication::{Client, Config, DataRow, Error as ServerError, Mode, connect};
use highwater_wal::{SegmentSize, SystemId, Timestamp};

use crate::{Error, Result};

/// Tries to connect at the backup's end: by then it may have taken hours, which one refused connection should not cost.
const ATTEMPTS: u32 = 6;
/// Between two tries, times their number.
const PAUSE: Duration = Duration::from_secs(2);

/// PostgreSQL's epoch in seconds since 1970.
pub(crate) const EPOCH_SECONDS: i64 = 946_684_800;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    /// Its clock. A standby replays what was committed by the primary's clock, so there it is the later of its own and the last
    /// commit's.
    pub(crate) time: Timestamp,
    pub(crate) system_id: SystemId,
    pub(crate) segment_size: SegmentSize,
    pub(crate) version: u32,
    pub(crate) has_checksums: bool,
    pub(crate) is_standby: bool,
    pub(crate) archive_mode: String,
    /// Whether a receiver of ours streams its WAL.
    pub(crate) is_received: bool,
    pub(crate) archiver: Archiver,
}

/// What `pg_stat_archiver` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Archiver {
    pub(crate) last_archived: Option<String>,
    pub(crate) last_archived_at: Option<String>,
    pub(crate) last_failed: Option<String>,
    pub(crate) last_failed_at: Option<String>,
    /// Whether the last thing it did was to fail.
    pub(crate) is_failing: bool,
}

/// Everything in one row.
const QUERY: &str = "\
SELECT (extract(epoch FROM greatest(clock_timestamp(), pg_last_xact_replay_timestamp())) * 1000000)::bigint, \
       (SELECT system_identifier FROM pg_control_system()), \
       (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), \
       current_setting('server_version_num'), \
       current_setting('data_checksums'), \
       pg_is_in_recovery(), \
       current_setting('archive_mode'), \
       last_archived_wal, last_archived_time, last_failed_wal, last_failed_time, \
       last_failed_time > coalesce(last_archived_time, '-infinity'), \
       EXISTS (SELECT FROM pg_stat_replication WHERE application_name LIKE 'highwater%' AND state IN ('catchup', 'streaming')) \
FROM pg_stat_archiver";

impl ServerFacts {
    /// Asks the server whose process `walsender` serves the replication connection.
    pub(crate) async fn ask(config: &Config, walsender: Option<i32>) -> Result<ServerFacts> {
        let mut client = connect(config, Mode::Sql).await.map_err(explain)?;
        // Nothing that somebody put into another schema is to be taken for PostgreSQL's own.
        client.query("SELECT pg_catalog.set_config('search_path', '', false)").await?;
        if let Some(process) = walsender {
            let query = format!(
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE pid = {process} AND usename = current_user AND backend_type = 'walsender'"
            );
            let count: u64 = client.query(&query).await?.single()?.parse(0)?;
            if count == 0 {
                return Err(Error::Unfit {
                    reason: "the SQL connection and the replication connection lead to different servers"
                        .to_owned(),
                    hint: "name one server in the connection string, or set target_session_attrs",
                });
            }
        }
        let facts = parse(client.query(QUERY).await?.single()?);
        client.close().await;
        facts
    }

    /// The same at the end of a backup, with patience.
    pub(crate) async fn ask_again(config: &Config, replication: &Client) -> Result<ServerFacts> {
        let mut attempt = 1;
        loop {
            match ServerFacts::ask(config, replication.process_id()).await {
                Err(Error::Server(_)) if attempt < ATTEMPTS => tokio::time::sleep(PAUSE * attempt).await,
                other => return other,
            }
            attempt += 1;
        }
    }
}

/// A role that may only replicate is often let in for nothing else.
fn explain(error: ServerError) -> Error {
    let is_denied =
        error.sqlstate().is_some_and(|state| state.starts_with("28") || state == "3D000" || state == "42501");
    match is_denied {
        false => Error::Server(error),
        true => Error::Unfit {
            reason: format!("the server's clock cannot be read over an SQL connection: {error}"),
            hint: "let the role of the backup into a database too: a line in pg_hba.conf for database postgres (or that of dbname), and \
                   GRANT CONNECT",
        },
    }
}

fn parse(row: &DataRow) -> Result<ServerFacts> {
    let text = |column| Ok::<_, ServerError>(row.text(column)?.map(str::to_owned));
    let microseconds: i64 = row.parse(0)?;
    let segment_size =
        SegmentSize::new(row.parse(2)?).map_err(|error| Error::Contradiction { what: error.to_string() })?;
    Ok(ServerFacts {
        time: Timestamp(microseconds - EPOCH_SECONDS * 1_000_000),
        // pg_control_system() gives a signed number; identifiers with the highest bit set come after the year 2038.
        system_id: SystemId(row.parse::<i64>(1)?.cast_unsigned()),
        segment_size,
        version: row.parse(3)?,
        has_checksums: is_on(row.text(4)?),
        is_standby: is_on(row.text(5)?),
        archive_mode: text(6)?.unwrap_or_default(),
        is_received: is_on(row.text(12)?),
        archiver: Archiver {
            last_archived: text(7)?,
            last_archived_at: text(8)?,
            last_failed: text(9)?,
            last_failed_at: text(10)?,
            is_failing: is_on(row.text(11)?),
        },
    })
}

fn is_on(text: Option<&str>) -> bool {
    matches!(text, Some("t" | "on"))
}

impl std::fmt::Display for Archiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |text: &Option<String>| text.clone().unwrap_or_else(|| "never".to_owned());
        match &self.last_archived {
            None => f.write_str("its archiver has archived nothing yet")?,
            Some(name) => {
                write!(f, "its archiver has last archived {name} ({})", show(&self.last_archived_at))?
            }
        }
        match &self.last_failed {
            None => Ok(()),
            Some(name) => write!(f, " and last failed with {name} ({})", show(&self.last_failed_at)),
        }
    }
}
