//! Making an object of names.

use bytes::Bytes;
use highwater_wal::{Lsn, TimelineId, Timestamp};
use serde::Serialize;

use super::{DatabaseNames, MAX_RELATIONS, NamesHead, NamesId, RelationName, short};
use crate::cluster::ClusterRepository;
use crate::codec::{LineWriter, write_skippable};
use crate::digest::{Digest, Plain};
use crate::facts::{PROGRAM, host_name};
use crate::{Error, Result};

/// Gathers names. Memory holds them compressed.
///
/// The order counts, since what has changed is found out by comparing digests: databases and their relations are given in the order
/// of their OIDs.
pub struct NamesWriter {
    lines: LineWriter,
    hasher: blake3::Hasher,
    line: Vec<u8>,
    databases: u64,
    unreadable: u64,
    relations: u64,
}

impl std::fmt::Debug for NamesWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamesWriter").field("relations", &self.relations).finish()
    }
}

/// Names, ready to be put.
#[derive(Debug)]
pub struct NamesTaken {
    head: NamesHead,
    frame: Vec<Bytes>,
}

impl NamesWriter {
    /// A writer of nothing yet.
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn new() -> Result<NamesWriter> {
        Ok(NamesWriter {
            lines: LineWriter::new().map_err(Error::Codec)?,
            hasher: blake3::Hasher::new(),
            line: Vec::new(),
            databases: 0,
            unreadable: 0,
            relations: 0,
        })
    }

    /// Adds a database; its relations follow.
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn database(&mut self, database: &DatabaseNames) -> Result<()> {
        self.databases += u64::from(database.oid != 0);
        self.unreadable += u64::from(database.unreadable.is_some());
        self.write(database)
    }

    /// Adds a relation of the database that was added last.
    ///
    /// # Errors
    /// [`Error::Refused`] where there are more than [`MAX_RELATIONS`]; [`Error::Codec`].
    pub fn relation(&mut self, relation: &RelationName) -> Result<()> {
        if self.relations == MAX_RELATIONS {
            return Err(Error::Refused {
                what: "the names of all relations".to_owned(),
                reason: format!("there are more than {MAX_RELATIONS}"),
                hint: "leave databases out by taking CONNECT on them from the role that asks",
            });
        }
        self.relations += 1;
        self.write(relation)
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line).map_err(|error| Error::Codec(error.into()))?;
        self.line.push(b'\n');
        self.hasher.update(&self.line);
        self.lines.write(&self.line).map_err(Error::Codec)
    }

    /// The names, which were read while the end of the WAL went from `lsn` to `until`.
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn finish(
        self,
        taken_at: Timestamp,
        timeline: TimelineId,
        lsn: Lsn,
        until: Lsn,
        from_standby: bool,
    ) -> Result<NamesTaken> {
        let frame = self.lines.finish().map_err(Error::Codec)?.into_vec();
        let content =
            Plain { length: self.hasher.count(), digest: Digest(*self.hasher.finalize().as_bytes()) };
        let head = NamesHead {
            version: NamesHead::VERSION,
            taken_at,
            timeline,
            lsn,
            until,
            from_standby,
            host: host_name(),
            program: PROGRAM.to_owned(),
            databases: self.databases,
            unreadable: self.unreadable,
            relations: self.relations,
            content,
            frame: Plain::of_pieces(&frame),
        };
        Ok(NamesTaken { head, frame })
    }
}

impl NamesTaken {
    /// The facts.
    pub fn head(&self) -> &NamesHead {
        &self.head
    }

    /// What the object is called.
    pub fn id(&self) -> NamesId {
        let NamesHead { taken_at, timeline, lsn, content, .. } = self.head;
        NamesId { taken_at, timeline, lsn, content: short(content.digest) }
    }
}

impl ClusterRepository {
    /// Puts names.
    ///
    /// # Errors
    /// [`Error::Different`] where there are others of that very name, which is next to impossible; those of the store.
    pub async fn put_names(&self, names: &NamesTaken) -> Result<()> {
        let json = serde_json::to_vec(&names.head).map_err(|error| Error::Codec(error.into()))?;
        let mut pieces = vec![Bytes::from(write_skippable(&json))];
        pieces.extend(names.frame.iter().cloned());
        let body = self.repository().seal(pieces, Plain::of_pieces)?;
        self.repository().put_own(&self.section().names_at(&names.id()), &body).await
    }
}
