//! `START_REPLICATION … PHYSICAL`: WAL as the server writes it.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION>

use highwater_wal::{Lsn, TimelineId};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::command::slot::SlotName;
use crate::connection::Wait;
use crate::message::Message;
use crate::stream::{NextTimeline, WalStream, end_of_timeline};
use crate::{Client, Error, Result};

/// What is asked of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartReplication {
    /// The slot that keeps the WAL and hears of our progress.
    pub slot: Option<SlotName>,
    /// Where to begin. On a timeline that has begun inside a segment this may be the segment's start: the server has a copy.
    pub start: Lsn,
    /// Whose WAL.
    pub timeline: TimelineId,
}

/// The server's answer.
#[derive(Debug)]
pub enum Started<S = crate::Transport> {
    /// WAL will come.
    Streaming(WalStream<S>),
    /// The timeline ended at the very place that was asked for.
    Over {
        /// How the server's WAL goes on.
        next: NextTimeline,
        /// The connection, for the next command.
        client: Client<S>,
    },
}

impl StartReplication {
    fn command(&self) -> String {
        let slot = self.slot.as_ref().map(|slot| format!("SLOT {slot} ")).unwrap_or_default();
        format!("START_REPLICATION {slot}PHYSICAL {} TIMELINE {}", self.start, self.timeline)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Starts a stream of WAL. Only on a replication connection, which the stream takes for itself, and
    /// after [`Client::identify_system`], without which PostgreSQL 14 may refuse.
    ///
    /// That the server has removed the WAL shows only when the first of it should come ([`Error::is_wal_removed`]).
    ///
    /// # Errors
    /// [`Error::Server`] when the server refuses: no such slot, a slot in use, a timeline that it does not know; and as for
    /// [`Client::query`].
    pub async fn start_replication(mut self, options: &StartReplication) -> Result<Started<S>> {
        let wait = Wait::for_query(&self.connection.limits, "starting replication");
        self.send_command(&options.command(), &wait).await?;
        match self.connection.receive(&wait).await? {
            Message::CopyBothResponse => Ok(Started::Streaming(WalStream::new(self))),
            Message::ErrorResponse(error) => Err(self.connection.recover(error, &wait).await),
            first => match end_of_timeline(&mut self, first, &wait).await? {
                Some(next) => Ok(Started::Over { next, client: self }),
                None => Err(Error::protocol("no WAL came, and no next timeline")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_slot_place_and_timeline() {
        let mut options = StartReplication {
            slot: None,
            start: Lsn(0x16_B374_0000),
            timeline: TimelineId::new(3).unwrap(),
        };
        assert_eq!(options.command(), "START_REPLICATION PHYSICAL 16/B3740000 TIMELINE 3");
        options.slot = Some("highwater".parse().unwrap());
        assert_eq!(options.command(), "START_REPLICATION SLOT highwater PHYSICAL 16/B3740000 TIMELINE 3");
    }
}
