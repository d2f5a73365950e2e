//! What a server answers to `BASE_BACKUP`: the same events from every version.

mod reply;
mod stream;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bytes::Bytes;
use highwater_wal::{Lsn, TimelineId};

pub use stream::BackupStream;

use crate::message::DataRow;
use crate::{Error, Result};

/// How a server frames a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// PostgreSQL 15 and newer: one copy, in which each message has a kind.
    Tagged,
    /// PostgreSQL 13 and 14: a copy for each tablespace, then one for the manifest.
    ByTablespace,
}

/// What the server says before it sends files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStart {
    /// The redo position: WAL is needed from here.
    pub position: Lsn,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// The tablespaces beside the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// An estimate of the data directory's size in KiB, when progress was asked for.
    pub base_size_kb: Option<u64>,
}

/// A tablespace of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Its number: the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Its folder on the server.
    pub location: PathBuf,
    /// An estimate of its size in KiB, when progress was asked for.
    pub size_kb: Option<u64>,
}

/// Where a base backup ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupStop {
    /// WAL is needed up to here.
    pub position: Lsn,
    /// The timeline it is on.
    pub timeline: TimelineId,
}

/// What comes next in a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupEvent {
    /// An archive begins; the bytes that follow are tar. It ends where the next begins or the manifest does, and it may lack the
    /// two blocks of zeros that close a tar archive.
    Archive(Archive),
    /// The backup manifest begins; the bytes that follow are JSON.
    Manifest,
    /// Bytes of what began last; never empty. They are a slice of the read buffer: whoever keeps a small one long should
    /// copy it.
    Data(Bytes),
    /// The bytes that the server has sent so far, in all archives. Only from PostgreSQL 15 on.
    Progress(u64),
}

/// Which archive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// That of the tablespace with this number.
    Tablespace(u32),
    /// That of the data directory. It is the last.
    Base,
}

/// A position and the timeline it is on, as the first and the last result have them.
fn position(rows: &[DataRow]) -> Result<(Lsn, TimelineId)> {
    match rows {
        [row] => Ok((row.parse(0)?, row.parse(1)?)),
        rows => Err(Error::protocol(format!("{} rows for a position in a base backup", rows.len()))),
    }
}

/// The result with the tablespaces: those, and the size of the data directory, whose row has no number.
fn tablespaces(rows: &[DataRow]) -> Result<(Vec<Tablespace>, Option<u64>)> {
    let mut tablespaces = Vec::new();
    let mut base = None;
    for row in rows {
        let size_kb = match row.bytes(2)? {
            Some(_) => Some(row.parse(2)?),
            None => None,
        };
        match (row.bytes(0)?, row.bytes(1)?) {
            (Some(_), Some(location)) => tablespaces.push(Tablespace {
                oid: row.parse(0)?,
                location: PathBuf::from(OsString::from_vec(location.to_vec())),
                size_kb,
            }),
            (None, _) if base.is_none() => base = Some(size_kb),
            _ => return Err(Error::protocol("a row about tablespaces that makes no sense")),
        }
    }
    match base {
        Some(size_kb) => Ok((tablespaces, size_kb)),
        None => Err(Error::protocol("a base backup without the data directory")),
    }
}
