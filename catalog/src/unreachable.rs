//! Why a target cannot be reached.

use highwater_wal::{Lsn, SegmentName, TimelineId, Timestamp};
use serde::Serialize;

use crate::Target;

/// A stretch of segments that are not in the archive although later ones are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// The first missing segment.
    pub first: SegmentName,
    /// The last missing segment.
    pub last: SegmentName,
    /// How many are missing.
    pub segments: u64,
}

impl std::fmt::Display for Hole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.segments {
            1 => write!(f, "segment {}", self.first),
            n => write!(f, "{n} segments from {} to {}", self.first, self.last),
        }
    }
}

/// How far one can get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// The end of the unbroken WAL.
    pub lsn: Lsn,
    /// The last moment that it covers.
    pub time: Option<Timestamp>,
    /// When the last commit in it was.
    pub last_commit: Option<Timestamp>,
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.time, self.last_commit) {
            (Some(time), Some(commit)) => write!(f, "{time} (last commit {commit}, LSN {})", self.lsn),
            (Some(time), None) => write!(f, "{time} (LSN {})", self.lsn),
            (None, _) => write!(f, "LSN {}", self.lsn),
        }
    }
}

/// Why a target cannot be reached. The message says what can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Unreachable {
    /// There is no complete backup at all.
    #[error("there is no complete backup of this cluster; hint: take one with `highwater backup`")]
    NoBackup,
    /// No backup lies on the path to the timeline.
    #[error(
        "no backup leads to timeline {timeline}: the backups are on timeline {}; hint: name one of these with --timeline",
        list(.backups_on)
    )]
    NoBackupOnPath {
        /// The timeline that was named.
        timeline: TimelineId,
        /// The timelines that do have backups.
        backups_on: Vec<TimelineId>,
    },
    /// The backup that was named does not exist or does not lie on the path.
    #[error(
        "there is no complete backup \"{label}\" on the path to timeline {timeline}; hint: `highwater list` shows the backups"
    )]
    UnknownBackup {
        /// What was named.
        label: String,
        /// The timeline that the path leads to.
        timeline: TimelineId,
    },
    /// The timeline does not exist.
    #[error("there is no timeline {timeline} in the archive: there is {}; hint: `highwater window` draws them", list(.known))]
    UnknownTimeline {
        /// The timeline that was named.
        timeline: TimelineId,
        /// Those that exist.
        known: Vec<TimelineId>,
    },
    /// The history file of the timeline is missing, so its origin is unknown.
    #[error(
        "{} is not in the archive, so nobody can say where timeline {timeline} forked off; hint: \
         archive it from the pg_wal of the server that is on this timeline, or name an older timeline with --timeline",
        .timeline.history_name()
    )]
    MissingHistory {
        /// The timeline without a history.
        timeline: TimelineId,
    },
    /// The target lies before the first moment that any backup can reach.
    #[error(
        "{target} is too early: the first moment that can be reached is {earliest}, the end of backup {backup} (LSN {lsn}); hint: \
             ask for that moment or a later one"
    )]
    TooEarly {
        /// What was asked for.
        target: Target,
        /// When the first backup that leads there ended.
        earliest: Timestamp,
        /// Where it ended.
        lsn: Lsn,
        /// Its label.
        backup: String,
    },
    /// The target lies behind everything that is archived.
    #[error(
        "{target} is too late: the archive reaches until {reach} on timeline {timeline}; hint: ask for --latest, or let the server archive \
         the rest first (SELECT pg_switch_wal())"
    )]
    TooLate {
        /// What was asked for.
        target: Target,
        /// How far one can get.
        reach: Reach,
        /// On which timeline.
        timeline: TimelineId,
    },
    /// Segments are missing on the way.
    #[error(
        "{target} lies behind a hole in the archive: missing is {hole}; \
         hint: archive the missing segments if any server still has them, or ask for a moment up to {reach}"
    )]
    Hole {
        /// What was asked for.
        target: Target,
        /// What is missing.
        hole: Hole,
        /// How far one can get before the hole.
        reach: Reach,
    },
    /// Not even the backup's own WAL is complete.
    #[error(
        "backup {backup} cannot be made consistent: missing is {hole}; hint: restore from another backup (--backup LABEL)"
    )]
    BackupWithoutWal {
        /// The backup.
        backup: String,
        /// What is missing.
        hole: Hole,
    },
    /// No transaction or restore point of that name ended in what can be reached.
    #[error("{target} is not in the WAL that can be reached on timeline {timeline}; hint: {hint}")]
    NotFound {
        /// What was asked for.
        target: Target,
        /// On which timeline.
        timeline: TimelineId,
        /// What to look at.
        hint: String,
    },
    /// Several restore points have the name.
    #[error("there are {} restore points \"{name}\": {}; hint: name the one you mean by its position with --lsn", .at.len(), places(.at))]
    Ambiguous {
        /// The name.
        name: String,
        /// Where and when each was made.
        at: Vec<(Lsn, Timestamp)>,
    },
}

fn list(timelines: &[TimelineId]) -> String {
    let names: Vec<String> = timelines.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn places(at: &[(Lsn, Timestamp)]) -> String {
    let places: Vec<String> = at.iter().map(|(lsn, time)| format!("{lsn} of {time}")).collect();
    places.join(", ")
}
