//! Where the server is: LSN, timeline, clock, and that it is the same server.

use highwater_replication::{Client, Config, Mode, connect};
use highwater_wal::{Lsn, SystemId, TimelineId, Timestamp};

use crate::server::EPOCH_SECONDS;
use crate::{Error, Result};

/// Where a server is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) system_id: SystemId,
    pub(super) is_standby: bool,
    pub(super) timeline: TimelineId,
    /// The end of its WAL: written by a primary, replayed by a standby.
    pub(super) lsn: Lsn,
    /// Its clock (R10), as `ServerFacts` has it.
    pub(super) time: Timestamp,
    /// When it was started, as text: what tells one server of a cluster from another.
    pub(super) started: String,
}

const QUERY: &str = "\
SELECT (SELECT system_identifier FROM pg_control_system()), \
       pg_is_in_recovery(), \
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END, \
       CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END, \
       (extract(epoch FROM greatest(clock_timestamp(), pg_last_xact_replay_timestamp())) * 1000000)::bigint, \
       extract(epoch FROM pg_postmaster_start_time())";

/// What tells that a session is on the same server: the same text on each of its databases.
pub(super) const SAME_SERVER: &str = "\
SELECT (SELECT system_identifier FROM pg_control_system()), extract(epoch FROM pg_postmaster_start_time())";

/// A session for reading names.
pub(super) async fn open(connection: &Config) -> Result<Client, highwater_replication::Error> {
    let mut client = connect(connection, Mode::Sql).await?;
    // Nothing that somebody put into another schema is to be taken for PostgreSQL's own, and nothing is to wait longer than we do.
    let limit = client.limits_mut().query.as_millis();
    client
        .query(&format!(
            "SELECT pg_catalog.set_config('search_path', '', false), \
                    pg_catalog.set_config('statement_timeout', '{limit}', false), \
                    pg_catalog.set_config('jit', 'off', false)"
        ))
        .await?;
    Ok(client)
}

impl Place {
    pub(super) async fn ask(client: &mut Client, connection: &Config) -> Result<Place> {
        let rows = client.query(QUERY).await?;
        let row = rows.single()?;
        let is_standby = row.text(1)? == Some("t");
        let unfit = |reason: &str| Error::Unfit {
            reason: reason.to_owned(),
            hint: "try again when the server has replayed some WAL",
        };
        let lsn = row.text(2)?.and_then(|lsn| lsn.parse().ok());
        let lsn = lsn.ok_or_else(|| unfit("the standby has not replayed any WAL yet"))?;
        let timeline = match row.text(3)? {
            Some(digits) => u32::from_str_radix(digits, 16).ok().and_then(TimelineId::new),
            // A standby's SQL functions tell the timeline of its last restart point only.
            None => {
                let mut replication = connect(connection, Mode::Replication).await?;
                let identity = replication.identify_system().await?;
                replication.close().await;
                Some(identity.timeline)
            }
        };
        let time: i64 = row.parse(4)?;
        Ok(Place {
            // pg_control_system() gives a signed number.
            system_id: SystemId(row.parse::<i64>(0)?.cast_unsigned()),
            is_standby,
            timeline: timeline.ok_or_else(|| unfit("the server tells no timeline"))?,
            lsn,
            time: Timestamp(time - EPOCH_SECONDS * 1_000_000),
            started: row.text(5)?.unwrap_or_default().to_owned(),
        })
    }

    /// Whether both are of one server that was not promoted between them.
    pub(super) fn is_the_same_server(&self, after: &Place) -> bool {
        (self.system_id, self.timeline, self.is_standby, &self.started)
            == (after.system_id, after.timeline, after.is_standby, &after.started)
            && self.lsn <= after.lsn
    }
}
