//! What a restore is asked to be.

use std::path::PathBuf;
use std::time::Duration;

use highwater_repository::marker::Kind;

use crate::owner::Owner;
use crate::settings::RestoreCommand;
use crate::tablespaces::TablespaceMapping;

/// What is asked of a restore, beside the plan.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder to restore into: absent or empty, or with what an interrupted restore has left.
    pub target: PathBuf,
    /// Tablespaces that go to another place than they lay at.
    pub tablespaces: Vec<TablespaceMapping>,
    /// A copy that cannot archive, or the cluster itself (R5).
    pub kind: Kind,
    /// What the server does when it has reached the stop.
    pub action: Action,
    /// Whether the server opens after recovery or stays a standby.
    pub role: Role,
    /// Whether to go on with an interrupted restore.
    pub resume: bool,
    /// Who the files shall belong to; only root can give them away. See [`Owner`] for what happens without it.
    pub owner: Option<Owner>,
    /// How the restored server fetches WAL.
    pub restore_command: RestoreCommand,
    /// What was asked for, as on the command line (`--at 2026-01-31 23:59:59+00`); for the marker and the audit trail.
    pub asked: String,
    /// What the report is to tell at its end beside its own notes.
    pub notes: Vec<String>,
    /// How often the mark notes how far the restore has come.
    pub checkpoint_interval: Duration,
}

impl Options {
    /// How often the mark notes how far the restore has come, when nothing else is said: as much work is done again at most
    /// when it is resumed.
    pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

    /// A restore as a copy that opens for writing at its stop.
    pub fn new(target: impl Into<PathBuf>, restore_command: RestoreCommand) -> Options {
        Options {
            target: target.into(),
            tablespaces: Vec::new(),
            kind: Kind::Clone,
            action: Action::Promote,
            role: Role::Primary,
            resume: false,
            owner: None,
            restore_command,
            asked: String::new(),
            notes: Vec::new(),
            checkpoint_interval: Options::CHECKPOINT_INTERVAL,
        }
    }
}

/// What the server does when it has reached the stop (`recovery_target_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It opens for writing, on a new timeline.
    #[default]
    Promote,
    /// It waits and can be read; `SELECT pg_wal_replay_resume()` lets it open.
    Pause,
    /// It shuts down.
    Shutdown,
}

impl Action {
    /// PostgreSQL's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Promote => "promote",
            Action::Pause => "pause",
            Action::Shutdown => "shutdown",
        }
    }
}

/// What the restored server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It recovers once (`recovery.signal`).
    #[default]
    Primary,
    /// It goes on applying WAL (`standby.signal`).
    Standby,
}

#[cfg(test)]
pub(crate) mod tests {
    use highwater_catalog::{Backup, Plan, Replay, Request, Stop, Target};
    use highwater_wal::{Lsn, TimelineId, Timestamp};

    use super::*;

    pub(crate) fn options() -> Options {
        let none: [&str; 0] = [];
        Options::new("/target", RestoreCommand::new("/bin/highwater-restore-cmd", none).unwrap())
    }

    pub(crate) fn plan(target: Target) -> Plan {
        let timeline = TimelineId::new(3).unwrap();
        Plan {
            request: Request::new(target),
            timeline,
            path: Vec::new(),
            steps: Vec::new(),
            backup: Backup {
                label: "daily".to_owned(),
                timeline,
                start: Lsn(0x0200_0028),
                stop: Lsn(0x0200_0100),
                start_time: Timestamp(1),
                stop_time: Timestamp(2),
                size_bytes: 3,
                stored_bytes: 4,
                parent: None,
                id: String::new(),
            },
            wal: Vec::new(),
            segments: 1,
            wal_bytes: 1 << 24,
            replay: Replay { from: Lsn(0), to: Lsn(0), bytes: 0 },
            stop: Stop::Record { lsn: Lsn(0x0300_0028), inclusive: true },
            last_before: None,
            first_after: None,
            clock: None,
            in_pieces: None,
            hole_behind: None,
            notes: Vec::new(),
        }
    }
}
