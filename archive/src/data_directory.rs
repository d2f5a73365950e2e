//! The data directory that a file of WAL comes from: whether it may archive (R5), and what vouches for the file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use highwater_repository::config::ClusterConfig;
use highwater_repository::marker::Marker;
use highwater_wal::{SystemId, TimelineHistory, TimelineId, Timestamp, WalFile};

use crate::error::Error;

/// No history file is longer.
const MAX_HISTORY_BYTES: u64 = highwater_repository::MAX_SMALL_FILE_BYTES;

/// `postmaster.pid` has eight short lines and two paths.
const MAX_PID_FILE_BYTES: u64 = 64 << 10;

/// A data directory.
#[derive(Debug)]
pub struct DataDirectory(PathBuf);

impl DataDirectory {
    /// The one that `path`, a file in `pg_wal`, belongs to: the folder above `pg_wal`, wherever that may be a link to.
    /// For what PostgreSQL gives, `pg_wal/…`, it is the current folder.
    pub fn of(path: &Path) -> DataDirectory {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        DataDirectory(whole.parent().and_then(Path::parent).unwrap_or(Path::new(".")).to_owned())
    }

    /// Which folder it is, wherever links lead: device and number.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        fs::metadata(&self.0).map(|found| (found.dev(), found.ino()))
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

    /// Whether its server is the first process of its machine, as in a container: then whatever is orphaned becomes its
    /// child, and it takes the end of one by a signal for that of a backend and restarts (`CleanupBackend`,
    /// `postmaster.c`, PostgreSQL 15).
    pub fn server_inherits_orphans(&self) -> bool {
        fs::read_to_string(self.0.join("postmaster.pid")).is_ok_and(|text| text.lines().next() == Some("1"))
    }

    /// When the server that runs in it was started, by its own clock: the third line of `postmaster.pid`
    /// (`LOCK_FILE_LINE_START_TIME`, `pidfile.h`), where the process of its first line has this as its current folder.
    /// `None` where none runs: a killed server leaves the file, and whoever copies the data directory copies it.
    pub fn server_start(&self) -> Option<Timestamp> {
        let mut text = String::new();
        File::open(self.0.join("postmaster.pid"))
            .ok()?
            .take(MAX_PID_FILE_BYTES)
            .read_to_string(&mut text)
            .ok()?;
        let mut lines = text.lines().map(str::trim);
        let process: u32 = lines.next()?.parse().ok()?;
        let start = lines.nth(1)?.parse().ok().map(Timestamp::from_unix_seconds)?;
        let its_folder = fs::metadata(format!("/proc/{process}/cwd")).ok()?;
        let this = fs::metadata(&self.0).ok()?;
        ((its_folder.dev(), its_folder.ino()) == (this.dev(), this.ino())).then_some(start)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[(&str, &str)]) -> (tempfile::TempDir, DataDirectory) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["global", "pg_wal"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let directory = DataDirectory::of(&folder.path().join("pg_wal/00000002.history"));
        (folder, directory)
    }

    #[test]
    fn what_vouches_for_the_time_of_a_write() {
        let (_folder, directory) = folder_with(&[]);
        assert_eq!((directory.server_start(), directory.is_in_recovery()), (None, false));
        let (folder, directory) = folder_with(&[]);
        let mut server =
            std::process::Command::new("sleep").arg("600").current_dir(folder.path()).spawn().unwrap();
        let text = |process: u32| format!("{process}\n/data\n946684801\n5432\n");
        fs::write(folder.path().join("postmaster.pid"), text(server.id())).unwrap();
        assert_eq!(directory.server_start(), Some(Timestamp(1_000_000)));
        let (_copy, of_a_copy) = folder_with(&[("postmaster.pid", &text(server.id()))]);
        assert_eq!(of_a_copy.server_start(), None, "the file was copied, the server runs elsewhere");
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(directory.server_start(), None, "the server is gone");
        assert!(!folder_with(&[("postmaster.pid", "17\n/data\n")]).1.server_inherits_orphans());
        assert!(folder_with(&[("postmaster.pid", "1\n/data\n")]).1.server_inherits_orphans());
        for signal in ["standby.signal", "recovery.signal"] {
            assert!(folder_with(&[(signal, "")]).1.is_in_recovery(), "{signal}");
        }
        for nonsense in ["", "7\n/data\n", "7\n/data\nx\n"] {
            assert_eq!(folder_with(&[("postmaster.pid", nonsense)]).1.server_start(), None, "{nonsense:?}");
        }
    }

    #[test]
    fn the_newest_later_timeline_is_found() {
        let (folder, _) = folder_with(&[
            ("pg_wal/00000002.history", ""),
            ("pg_wal/00000010.history", "2\t0/5000000\tx\n"),
            ("pg_wal/0000000A.history", ""),
            ("pg_wal/00000011.history.tmp", ""),
            ("pg_wal/000000200000000000000001", ""),
        ]);
        let later = |name: &str| {
            let path = folder.path().join("pg_wal").join(name);
            later_timeline(&path, name.parse().unwrap()).unwrap().map(TimelineId::get)
        };
        assert_eq!(later("000000020000000000000001"), Some(16));
        assert_eq!(later("0000000F0000000000000001.partial"), Some(16));
        assert_eq!(later("000000100000000000000001"), None);
        let history = history(&folder.path().join("pg_wal/x"), TimelineId::new(16).unwrap()).unwrap();
        assert_eq!(history.left_at(TimelineId::new(2).unwrap()), Some(highwater_wal::Lsn(0x500_0000)));
    }

    #[test]
    fn the_control_file_begins_with_the_system_identifier() {
        let (_folder, directory) = folder_with(&[]);
        assert_eq!(directory.system_id().unwrap(), None);
        let (_folder, directory) = folder_with(&[("global/pg_control", "\u{1}\u{2}\0\0\0\0\0\0more")]);
        assert_eq!(directory.system_id().unwrap(), Some(SystemId(0x201)));
        let (_folder, directory) = folder_with(&[("global/pg_control", "short")]);
        assert!(directory.system_id().unwrap_err().to_string().contains("hint: "));
    }
}
