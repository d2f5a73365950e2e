//! What is to be archived, and all that is looked at before: made anew for every file, by every call.

use std::path::Path;
use std::time::SystemTime;

use highwater_repository::config::ClusterConfig;
use highwater_wal::{SystemId, Timestamp, WalFile};

use crate::check::{self, Known};
use crate::data_directory::{self, DataDirectory};
use crate::error::Error;
use crate::put;
use crate::source::{self, Source};

/// A file that is to be archived, and what is known of it.
#[derive(Debug)]
pub struct Job<'a> {
    /// The file's name.
    pub(crate) file: WalFile,
    /// Its content.
    pub(crate) source: Source,
    /// The data directory that it lies in.
    pub(crate) directory: DataDirectory,
    /// The cluster it belongs to.
    pub(crate) cluster: &'a ClusterConfig,
    /// That cluster's system identifier.
    pub(crate) system_id: SystemId,
    /// What is known beside the content.
    pub(crate) known: Known,
    /// By when everything that the server had acknowledged lies in this segment or an earlier one; `None` where nothing
    /// vouches for that.
    pub(crate) written: Option<Timestamp>,
}

impl<'a> Job<'a> {
    /// Looks at the file and at the data directory around it: whose it is, and whether it may archive (R5).
    ///
    /// # Errors
    /// Why it may not, or cannot be archived. What is in a segment is looked at later.
    pub fn new(cluster: &'a ClusterConfig, path: &Path) -> Result<Job<'a>, Error> {
        let file = source::name(path)?;
        let directory = DataDirectory::of(path);
        directory.check_may_archive(cluster)?;
        let source = Source::open(path, file)?;

        let own = directory.system_id()?;
        let later = data_directory::later_timeline(path, file)?;
        let history = later.map(|timeline| data_directory::history(path, timeline)).transpose()?;
        let timeline_ended = history.and_then(|history| history.left_at(file.timeline()));
        let known = Known { system_id: own, timeline_ended, level: cluster.archive_check };
        let Some(system_id) = own.or_else(|| check::system_id(file, &source.beginning)) else {
            // What is wrong with a segment without a header, the check says better.
            put::check_only(file, &source, &known)?;
            return Err(Error::NoSystemId(directory.control_file()));
        };
        let is_own = later.is_none() && !directory.is_in_recovery();
        let written = written(file, &source, directory.server_start().filter(|_| is_own));
        Ok(Job { file, source, directory, cluster, system_id, known, written })
    }
}

/// By when everything that the server had acknowledged lies in this segment or an earlier one. A planner takes it as
/// proof that nothing is missing before that moment, so it must never be later than the server's last write into the file.
///
/// PostgreSQL writes WAL in order (`XLogWrite` holds `WALWriteLock`), so the time of the last write into a segment comes
/// before that of the first write into the next one. That holds for what this run of the server wrote itself, `own_since`
/// its start: `None` on a standby, and for the timelines before a promoted server's own, since the time is then that of
/// a copy, and while that was on its way the primary may have acknowledged more. What is older than the run may have
/// been copied by hand.
fn written(file: WalFile, source: &Source, own_since: Option<Timestamp>) -> Option<Timestamp> {
    let is_complete = matches!(file, WalFile::Segment(_));
    let is_own = own_since.is_some_and(|start| start <= source.modified);
    // A clock that was set back since would vouch for commits that are still to come.
    (is_complete && is_own).then(|| source.modified.min(now()))
}

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let whole = Timestamp::from_unix_seconds(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX));
    Timestamp(whole.0.saturating_add(since_1970.subsec_micros().into()))
}
