//! Names of relations and databases, as they were at one LSN: what tells which table a number in the WAL means.
//!
//! An object is a skippable frame with [`NamesHead`], and one Zstandard frame of JSON lines: a database, then its relations, then
//! the next database. Its own name says where in the WAL it belongs and what it holds ([`NamesId`]), so that a listing is
//! enough to choose one, and to see that nothing has changed.

mod id;
mod read;
mod write;

use highwater_wal::{Lsn, TimelineId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Plain};

pub use id::NamesId;
pub use read::{NamesItem, NamesReader};
pub use write::{NamesTaken, NamesWriter};

/// No object holds the names of more relations: reading them all takes some 200 bytes of memory each.
pub const MAX_RELATIONS: u64 = 2_000_000;

/// A database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatabaseNames {
    /// Its OID; 0 stands for the relations that all databases share, and has no name.
    #[serde(rename = "database")]
    pub oid: u32,
    /// Its name. A byte that is not UTF-8 stands as `\x` and two hexadecimal digits.
    pub name: String,
    /// OID of its default tablespace.
    pub tablespace: u32,
    /// Why its relations are not here, in a clause. They are all here where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A relation that has a file, or a partitioned table, which has none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelationName {
    /// Its OID.
    pub oid: u32,
    /// The number of its file (`pg_class.relfilenode`; of a mapped relation what the relation map says); 0 for a partitioned
    /// table.
    pub file: u32,
    /// OID of the tablespace that the file lies in; never 0 where there is a file.
    pub tablespace: u32,
    /// The name of its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is, as in `pg_class.relkind`: `r` table, `i` index, `S` sequence, `t` TOAST table, `m` materialized view,
    /// `p` partitioned table.
    pub kind: char,
    /// As in `pg_class.relpersistence`: `p` permanent, `u` unlogged. There are no temporary ones here.
    pub persistence: char,
    /// For a TOAST table or an index, its own too: OID of the table that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// For a partition: OID of the partitioned table right above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_of: Option<u32>,
}

/// What stands in front of the names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamesHead {
    /// Version of these fields and of the lines: 1.
    pub version: u32,
    /// When, by the server's clock.
    pub taken_at: Timestamp,
    /// The timeline that the server was on.
    pub timeline: TimelineId,
    /// The end of the WAL before the first name was read: what was committed before is in the names.
    pub lsn: Lsn,
    /// The end of the WAL after the last name was read: what was committed later is not in them, and what was committed
    /// between the two may be.
    pub until: Lsn,
    /// Whether a standby was asked.
    pub from_standby: bool,
    /// The machine that asked.
    pub host: String,
    /// The program.
    pub program: String,
    /// How many databases.
    pub databases: u64,
    /// Of how many of them the relations are not here.
    pub unreadable: u64,
    /// How many relations.
    pub relations: u64,
    /// Length and digest of the lines: what says that nothing has changed.
    pub content: Plain,
    /// Length and digest of the frame.
    pub frame: Plain,
}

impl NamesHead {
    /// Version of the fields that this program writes.
    pub const VERSION: u32 = 1;
}

/// The part of a digest that stands in an object's name.
fn short(digest: Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
