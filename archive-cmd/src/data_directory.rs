//! The data directory that a file of WAL comes from: whether it may archive (R5), and what vouches for the file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use highwater_repository::config::ClusterConfig;
use highwater_repository::marker::Marker;
use highwater_wal::{SystemId, TimelineHistory, TimelineId, WalFile};

use crate::error::Error;

/// No history file is longer.
const MAX_HISTORY_BYTES: u64 = highwater_repository::MAX_SMALL_FILE_BYTES;

/// A data directory.
#[derive(Debug)]
pub struct DataDirectory(PathBuf);

impl DataDirectory {
    /// The one that `path`, a file in `pg_wal`, belongs to: the current folder, as PostgreSQL sees to it, or for an
    /// absolute path the folder above `pg_wal`.
    pub fn of(path: &Path) -> DataDirectory {
        let above = path.is_absolute().then(|| path.parent().and_then(Path::parent)).flatten();
        DataDirectory(above.unwrap_or(Path::new(".")).to_owned())
    }

    /// Sees that it is the cluster's, where one is configured, and no clone (R5).
    pub fn check_may_archive(&self, cluster: &ClusterConfig) -> Result<(), Error> {
        if let Some(configured) = &cluster.data_directory {
            let hint = "correct data-directory in the configuration";
            let expected = fs::metadata(configured).map_err(|error| Error::file(configured, &error, hint))?;
            let found = fs::metadata(&self.0)
                .map_err(|error| Error::file(&self.0, &error, "see that it is there"))?;
            // Not the paths: there may be links on either.
            if (expected.dev(), expected.ino()) != (found.dev(), found.ino()) {
                let found = fs::canonicalize(&self.0).unwrap_or_else(|_| self.0.clone());
                let (cluster, configured) = (cluster.name.to_string(), configured.clone());
                return Err(Error::OtherFolder { cluster, configured, found });
            }
        }
        match Marker::read(&self.0)? {
            Some(marker) if marker.forbids_archiving() => {
                Err(Error::Clone { cluster: marker.cluster.to_string(), restored_at: marker.restored_at })
            }
            _ => Ok(()),
        }
    }

    /// The cluster's system identifier: the first field of `global/pg_control` (`pg_control.h`). `None` where there is
    /// no such file, as in a copy of `pg_wal` that was saved from a lost server.
    pub fn system_id(&self) -> Result<Option<SystemId>, Error> {
        let path = self.control_file();
        let mut first = [0; 8];
        match File::open(&path).and_then(|mut file| file.read_exact(&mut first)) {
            Ok(()) => Ok(Some(SystemId(u64::from_le_bytes(first)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Error::file(&path, &error, "start the program as the user that PostgreSQL runs as"))
            }
        }
    }

    /// Where `pg_control` is.
    pub fn control_file(&self) -> PathBuf {
        self.0.join("global/pg_control")
    }

    /// Whether the server follows another one, or an archive.
    pub fn is_in_recovery(&self) -> bool {
        // What cannot be looked at counts as there: nothing is vouched for then.
        ["standby.signal", "recovery.signal"]
            .iter()
            .any(|name| self.0.join(name).try_exists().unwrap_or(true))
    }
}

/// The newest timeline whose history lies beside `path` and that is later than the file's own; `None` where the file is
/// of the newest timeline. PostgreSQL keeps the history of every timeline it has ever been on in `pg_wal`.
pub fn later_timeline(path: &Path, file: WalFile) -> Result<Option<TimelineId>, Error> {
    let folder = folder(path);
    let failed = |error: io::Error| Error::file(folder, &error, "see that PostgreSQL's user can read it");
    let mut newest = None;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(Ok(WalFile::History(timeline))) = name.to_str().map(str::parse)
            && timeline > file.timeline()
        {
            newest = newest.max(Some(timeline));
        }
    }
    Ok(newest)
}

/// The history of `timeline` that lies beside `path`.
pub fn history(path: &Path, timeline: TimelineId) -> Result<TimelineHistory, Error> {
    let path = folder(path).join(timeline.history_name());
    let mut content = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_HISTORY_BYTES).read_to_end(&mut content))
        .map_err(|error| Error::file(&path, &error, "see that PostgreSQL's user can read it"))?;
    Ok(TimelineHistory::parse(timeline, content)?)
}

/// The folder that a file lies in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
