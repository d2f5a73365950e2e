//! How a backup is to be made.

use std::path::PathBuf;
use std::time::Duration;

use highwater_replication::{Checkpoint, Config};
use highwater_repository::{ClusterName, Label, PackLimits};
use highwater_wal::Check;

/// How a backup is to be made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server. The same settings serve for the replication connection and for an SQL connection beside it.
    pub connection: Config,
    /// The cluster's name in the repository.
    pub cluster: ClusterName,
    /// The backup's name; without one, the server's time as in `20261120T111600Z`.
    pub label: Option<Label>,
    /// The checkpoint that the backup begins with.
    pub checkpoint: Checkpoint,
    /// The most kB (1024 bytes) a second that the server sends: 32 to 1,048,576.
    pub max_rate_kb: Option<u32>,
    /// Whether every extent is stored anew, also those that an earlier backup holds.
    pub full: bool,
    /// Whether the server verifies the checksums of its pages, where it has them.
    pub verify_checksums: bool,
    /// What is read of the WAL that the backup needs: with [`Check::Full`] every record of it.
    pub archive_check: Check,
    /// How long to wait for the next segment that the backup needs to come into the archive.
    pub archive_timeout: Duration,
    /// How many threads compress, at most 16; by default one for each processor.
    pub threads: usize,
    /// How large packs get, and how many are on their way at a time.
    pub packs: PackLimits,
    /// Where temporary files go: the server's manifest (about 150 bytes a file), the list of files received (60), and the index over the
    /// parent's manifest (72 bytes for each 32 KiB).
    pub scratch: PathBuf,
}

impl Options {
    /// The default of [`Options::archive_timeout`].
    pub const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

    /// A backup of the server at `connection` with everything else as usual: label by time, spread checkpoint, as fast as
    /// it goes, unchanged extents taken over.
    pub fn new(connection: Config, cluster: ClusterName) -> Options {
        Options {
            connection,
            cluster,
            label: None,
            checkpoint: Checkpoint::default(),
            max_rate_kb: None,
            full: false,
            verify_checksums: true,
            archive_check: Check::default(),
            archive_timeout: Options::ARCHIVE_TIMEOUT,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            packs: PackLimits { target_bytes: 16 << 20, uploads: 2 },
            scratch: std::env::temp_dir(),
        }
    }
}
