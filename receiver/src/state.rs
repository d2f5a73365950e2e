//! What the receiver says of itself, for monitors and for `highwater status`.

use std::io::Write;
use std::path::{Path, PathBuf};

use highwater_wal::{CommitPoint, Lsn, SystemId, TimelineId, Timestamp};
use serde::{Deserialize, Serialize};

/// What the receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It looks for the server and for where the repository ends.
    Connecting,
    /// WAL comes.
    Streaming,
    /// It waits before it tries again; `error` says why.
    Waiting,
    /// It has ended in order.
    Stopped,
}

/// The receiver at one moment: the content of `receive.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of these fields: 1.
    pub version: u32,
    /// The process.
    pub process: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Its system identifier, once the server has told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<SystemId>,
    /// What it does.
    pub phase: Phase,
    /// Since when, by this machine's clock.
    pub since: Timestamp,
    /// When this was written, by this machine's clock.
    pub updated_at: Timestamp,
    /// The timeline that comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineId>,
    /// How far the server's WAL went when it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_end: Option<Lsn>,
    /// Behind the last byte that was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Lsn>,
    /// Behind the last byte that is in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<Lsn>,
    /// Bytes of the server's WAL that are not in the repository, as far as the server was heard of. Absent while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// For how long the first of them has been waiting, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// The last commit that was put: a restore would get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<CommitPoint>,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What somebody has to look at: WAL that is missing, until it has come or a base backup lies behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
}

impl State {
    /// The name of the file in a folder of the user's choice.
    pub const FILE_NAME: &str = "receive.json";

    pub(crate) fn new(cluster: &str, now: Timestamp) -> State {
        State {
            version: 1,
            process: std::process::id(),
            cluster: cluster.to_owned(),
            system_id: None,
            phase: Phase::Connecting,
            since: now,
            updated_at: now,
            timeline: None,
            server_end: None,
            received: None,
            durable: None,
            lag_bytes: None,
            lag_seconds: None,
            last_commit: None,
            error: None,
            alarms: Vec::new(),
        }
    }

    /// Reads what a receiver has written.
    ///
    /// # Errors
    /// Those of reading; of kind `InvalidData` where it is something else.
    pub fn read(path: &Path) -> std::io::Result<State> {
        let text = std::fs::read(path)?;
        serde_json::from_slice(&text)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }

    /// Writes it aside and gives it its name: whoever reads it finds it whole.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut aside = PathBuf::from(path).into_os_string();
        aside.push(".new");
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(&text)?;
        std::fs::rename(&aside, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_never_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(State::FILE_NAME);
        let mut state = State::new("main", Timestamp(5));
        state.received = Some(Lsn(0x1_0000_0001));
        state.error = Some("a \"quoted\" reason".to_owned());
        state.write(&path).unwrap();
        state.phase = Phase::Streaming;
        state.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), state);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(State::read(&path).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    }
}
