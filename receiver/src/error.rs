//! Why WAL is not received, or not put.

use std::time::Duration;

use highwater_replication::SlotName;
use highwater_wal::{Lsn, Refusal, SegmentName, SystemId, TimelineId};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. The receiver tries again after most of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server, or the way to it.
    #[error("{0}")]
    Server(#[from] highwater_replication::Error),
    /// The repository, or the way to it.
    #[error("{0}")]
    Repository(#[from] highwater_repository::Error),
    /// What the server sent is no sound WAL (R4).
    #[error(
        "{0}; hint: nothing of it was stored; find out what has hurt the WAL; archive-check = \"header\" lets through what \
         is meant to be so"
    )]
    Refused(#[from] Refusal),
    /// The server's WAL is not what the repository has under the same place (R3).
    #[error(
        "the server's WAL of timeline {timeline} up to {lsn} is not what the repository has of it; hint: two servers write this \
         timeline (a copy of the machine, a failover without fencing): stop the wrong one, or give this one an archive of \
         its own with highwater adopt"
    )]
    OtherWal {
        /// The timeline.
        timeline: TimelineId,
        /// Where the piece ends that differs.
        lsn: Lsn,
    },
    /// The server no longer has the WAL that comes next.
    #[error(
        "the server has removed WAL of timeline {timeline} from {lsn} on, which the repository does not have; hint: what lies \
         behind it needs a new base backup (highwater backup); a replication slot (--slot NAME --create-slot) keeps it from \
         happening"
    )]
    Removed {
        /// The timeline.
        timeline: TimelineId,
        /// Where the WAL should have gone on.
        lsn: Lsn,
    },
    /// The slot is not there.
    #[error("the server has no replication slot {slot}; hint: make it with --create-slot")]
    NoSlot {
        /// Its name.
        slot: SlotName,
    },
    /// The slot is for logical replication.
    #[error("the replication slot {slot} is for logical replication; hint: name another one")]
    LogicalSlot {
        /// Its name.
        slot: SlotName,
    },
    /// The server is a restored clone (R5).
    #[error(
        "the server is a restored clone of {origin} and must not archive into its origin's archive; hint: run highwater adopt if \
         it is to live on"
    )]
    Clone {
        /// The name of the cluster that it was restored from.
        origin: String,
    },
    /// Nobody told whether the server is a restored clone (R5).
    #[error(
        "whether the server is a restored clone, which must not archive, cannot be told: {reason}; hint: GRANT EXECUTE ON FUNCTION \
         pg_read_file(text, bigint, bigint, boolean) TO the receiver's role, in the database that it connects to; or set \
         data-directory where the receiver runs on the server's host"
    )]
    NotToldWhetherClone {
        /// What the server said.
        reason: String,
    },
    /// What had been put of a segment is not in its place any more.
    #[error(
        "pieces of {segment} that were in the repository have gone from it; hint: somebody has removed or moved a file there, or a folder; \
         what the server still has is received once more"
    )]
    Gone {
        /// The segment.
        segment: SegmentName,
    },
    /// What a server sends does not follow what it sent before.
    #[error(
        "the server sent WAL from {found} on where {expected} comes next; hint: this is a fault, report it"
    )]
    NotNext {
        /// What should have come.
        expected: Lsn,
        /// What came.
        found: Lsn,
    },
    /// The repositories do not agree on the segments' size.
    #[error(
        "the repositories know cluster {cluster} with different segment sizes; hint: run highwater check with each"
    )]
    SegmentSizes {
        /// Its name.
        cluster: String,
    },
    /// The server is of another cluster than it was.
    #[error(
        "the server has system identifier {found}, and had {expected} before; hint: start the receiver anew if that is meant"
    )]
    OtherSystem {
        /// What it was.
        expected: SystemId,
        /// What it is now.
        found: SystemId,
    },
    /// It was told to stop while the repository did not take what had come.
    #[error(
        "WAL had come up to {received}, and the repository has it up to {durable}; hint: mend the repository and start again: the server \
         sends the rest once more, a replication slot keeps it that long"
    )]
    NotStored {
        /// Behind the last byte that had come.
        received: Lsn,
        /// Behind the last byte that is in the repository.
        durable: Lsn,
    },
    /// The repository takes so long that the server would be held up.
    #[error(
        "the repository has not taken WAL for {} s, so the server is let go until it does; hint: see whether the store answers",
        .limit.as_secs()
    )]
    StoreTooSlow {
        /// How long was waited.
        limit: Duration,
    },
    /// A write into the repository has not come back for seconds.
    #[error(
        "a write into the repository hangs, and so does what waits for it; hint: see whether its disk answers"
    )]
    StoreHangs,
    /// The program was told to stop and could not put everything in time.
    #[error("not all that was received could be put within {} s; hint: nothing is lost while the server has it", .limit.as_secs())]
    NotSettled {
        /// How long was waited.
        limit: Duration,
    },
    /// A task ended without an answer.
    #[error(
        "a part of the receiver ended without an answer; hint: this is a fault of the program: report it"
    )]
    Task,
}

impl Error {
    /// Whether trying again cannot help before somebody has changed a setting.
    pub fn is_final(&self) -> bool {
        use highwater_repository::Error as Inner;
        match self {
            Error::NoSlot { .. }
            | Error::LogicalSlot { .. }
            | Error::Clone { .. }
            | Error::NotToldWhetherClone { .. }
            | Error::SegmentSizes { .. } => true,
            Error::Repository(error) => {
                matches!(error, Inner::Config { .. } | Inner::NoRepository { .. } | Inner::NewerFormat { .. })
            }
            _ => false,
        }
    }
}
