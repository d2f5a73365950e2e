//! A server that is in recovery and has nothing yet that the repository lacks: a cluster that is being restored, a standby that lags.
//!
//! Where its WAL goes on, and on which timeline, is known when it has come there or was promoted: before, there is nothing to ask it for.

use std::time::Duration;

use highwater_replication::Client;
use highwater_wal::{Lsn, TimelineId};
use tokio::time::{Instant, sleep};

use crate::engine::Place;
use crate::error::Result;
use crate::preparation::Found;
use crate::receiver::Receiver;
use crate::state::Phase;

/// The server is asked so often how far it has come.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// After so long the repository is looked at again.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

impl Receiver {
    /// Waits until the server has something to receive, and answers whether that had to be waited for: then what was found has
    /// changed.
    pub(crate) async fn wait_for_recovery(
        &mut self,
        client: &mut Client,
        found: &Found,
        place: &Place,
    ) -> Result<bool> {
        let has_nothing = |client: &Client, timeline: TimelineId, position: Lsn| {
            is_in_recovery(client) && timeline == place.timeline && position <= place.stored
        };
        if !has_nothing(client, found.timeline, found.position) {
            return Ok(false);
        }
        let line = format!(
            "the server is in recovery, and the repository has its WAL up to {}: waiting until it has come further or was promoted",
            place.stored
        );
        self.change(Phase::Waiting, None, &line);
        let begun = Instant::now();
        while begun.elapsed() < LOOK_INTERVAL {
            sleep(ASK_INTERVAL).await;
            let identity = client.identify_system().await?;
            self.tick();
            if !has_nothing(client, identity.timeline, identity.position) {
                break;
            }
        }
        Ok(true)
    }
}

/// PostgreSQL 14 and later report it, also when it changes.
fn is_in_recovery(client: &Client) -> bool {
    client.parameter("in_hot_standby") == Some("on")
}
