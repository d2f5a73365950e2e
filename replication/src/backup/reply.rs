//! The order in which the answer to `BASE_BACKUP` comes. No I/O.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-BASE-BACKUP> and, for 14, the same
//! page of its documentation.

use bytes::Bytes;

use super::{Archive, BackupEvent, BackupStart, BackupStop, Dialect, position, tablespaces};
use crate::message::{BackupMessage, DataRow, Message};
use crate::{Error, Result};

/// The most rows in a result that belongs to a base backup: one for each tablespace.
const MAX_ROWS: usize = 65_536;

/// How far the answer has come.
#[derive(Debug)]
pub(super) struct Reply {
    dialect: Dialect,
    has_manifest: bool,
    stage: Stage,
    /// The rows of the result that is under way.
    rows: Vec<DataRow>,
    start: Option<BackupStart>,
    stop: Option<BackupStop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The result with the start position.
    Start,
    /// The result with the tablespaces.
    Tablespaces,
    /// Between copies, of which so many are done.
    BeforeCopy(usize),
    /// In the copy after so many.
    Copy(usize, Inside),
    /// The result with the stop position.
    Stop,
    /// Only "ready" is to come.
    End,
    /// It has come.
    Ready,
}

/// What the bytes of a copy belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Archive,
    Base,
    Manifest,
}

impl Reply {
    pub(super) fn new(dialect: Dialect, has_manifest: bool) -> Reply {
        Reply { dialect, has_manifest, stage: Stage::Start, rows: Vec::new(), start: None, stop: None }
    }

    /// What came before the files, once it has.
    pub(super) fn start(&self) -> Option<&BackupStart> {
        self.start.as_ref().filter(|_| !matches!(self.stage, Stage::Start | Stage::Tablespaces))
    }

    /// Where it ends, once that is known.
    pub(super) fn stop(&self) -> Option<BackupStop> {
        self.stop
    }

    /// Whether all has come and the server is ready for the next command.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether all files and the manifest have come.
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.stage, Stage::Stop | Stage::End | Stage::Ready)
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, message: Message) -> Result<Option<BackupEvent>> {
        match (self.stage, message) {
            (Stage::Start | Stage::Tablespaces | Stage::Stop, Message::RowDescription(_)) => {}
            (Stage::Start | Stage::Tablespaces | Stage::Stop, Message::DataRow(row))
                if self.rows.len() < MAX_ROWS =>
            {
                self.rows.push(row);
            }
            (Stage::Start | Stage::Tablespaces | Stage::Stop, Message::CommandComplete(_)) => {
                self.end_of_rows()?
            }
            (Stage::BeforeCopy(done), Message::CopyOutResponse) => return self.begin_copy(done),
            (Stage::BeforeCopy(done), Message::RowDescription(_)) if done == self.copies() => {
                self.stage = Stage::Stop
            }
            (Stage::Copy(done, inside), Message::CopyData(bytes)) => return self.copy(done, inside, bytes),
            (Stage::Copy(done, inside), Message::CopyDone) => self.end_copy(done, inside)?,
            (Stage::End, Message::CommandComplete(_)) => {}
            (Stage::End, Message::ReadyForQuery(_)) => self.stage = Stage::Ready,
            (_, other) => return Err(misplaced(other.kind())),
        }
        Ok(None)
    }

    fn end_of_rows(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        match self.stage {
            Stage::Start => {
                let (position, timeline) = position(&rows)?;
                let (tablespaces, base_size_kb) = (Vec::new(), None);
                self.start = Some(BackupStart { position, timeline, tablespaces, base_size_kb });
                self.stage = Stage::Tablespaces;
            }
            Stage::Tablespaces => {
                let start = self.start.as_mut().ok_or_else(|| misplaced("the list of tablespaces"))?;
                (start.tablespaces, start.base_size_kb) = tablespaces(&rows)?;
                self.stage = Stage::BeforeCopy(0);
            }
            _ => {
                let (position, timeline) = position(&rows)?;
                self.stop = Some(BackupStop { position, timeline });
                self.stage = Stage::End;
            }
        }
        Ok(())
    }

    /// How many copies there are.
    fn copies(&self) -> usize {
        match self.dialect {
            Dialect::Tagged => 1,
            Dialect::ByTablespace => self.archives() + usize::from(self.has_manifest),
        }
    }

    fn archives(&self) -> usize {
        self.start.as_ref().map_or(0, |start| start.tablespaces.len()) + 1
    }

    fn begin_copy(&mut self, done: usize) -> Result<Option<BackupEvent>> {
        if done >= self.copies() {
            return Err(misplaced("one more copy"));
        }
        let tablespace = self.start.as_ref().and_then(|start| start.tablespaces.get(done));
        let (inside, event) = match (self.dialect, tablespace) {
            (Dialect::Tagged, _) => (Inside::Nothing, None),
            (_, Some(tablespace)) => {
                (Inside::Archive, Some(BackupEvent::Archive(Archive::Tablespace(tablespace.oid))))
            }
            _ if done + 1 == self.archives() => (Inside::Base, Some(BackupEvent::Archive(Archive::Base))),
            _ => (Inside::Manifest, Some(BackupEvent::Manifest)),
        };
        self.stage = Stage::Copy(done, inside);
        Ok(event)
    }

    fn copy(&mut self, done: usize, inside: Inside, bytes: Bytes) -> Result<Option<BackupEvent>> {
        let message = match self.dialect {
            Dialect::Tagged => BackupMessage::parse(bytes)?,
            Dialect::ByTablespace => BackupMessage::Data(bytes),
        };
        let (now_inside, event) = match message {
            BackupMessage::Data(_) if inside == Inside::Nothing => return Err(misplaced("data of no file")),
            // Empty pieces come and mean nothing.
            BackupMessage::Data(bytes) if bytes.is_empty() => return Ok(None),
            BackupMessage::Data(bytes) => (inside, BackupEvent::Data(bytes)),
            BackupMessage::Progress(bytes) => (inside, BackupEvent::Progress(bytes)),
            BackupMessage::NewArchive { name, location }
                if matches!(inside, Inside::Nothing | Inside::Archive) =>
            {
                let archive = self.archive(&name, &location)?;
                let inside = if archive == Archive::Base { Inside::Base } else { Inside::Archive };
                (inside, BackupEvent::Archive(archive))
            }
            BackupMessage::ManifestStart if inside == Inside::Base && self.has_manifest => {
                (Inside::Manifest, BackupEvent::Manifest)
            }
            _ => return Err(misplaced("an archive or manifest")),
        };
        self.stage = Stage::Copy(done, now_inside);
        Ok(Some(event))
    }

    fn end_copy(&mut self, done: usize, inside: Inside) -> Result<()> {
        let last = if self.has_manifest { Inside::Manifest } else { Inside::Base };
        if self.dialect == Dialect::Tagged && inside != last {
            return Err(misplaced("the end of the copy"));
        }
        self.stage = Stage::BeforeCopy(done + 1);
        Ok(())
    }

    /// Which archive a name stands for: `base.tar`, or a tablespace's number and `.tar`.
    fn archive(&self, name: &[u8], location: &[u8]) -> Result<Archive> {
        if name == b"base.tar" && location.is_empty() {
            return Ok(Archive::Base);
        }
        let oid = name.strip_suffix(b".tar").and_then(|oid| std::str::from_utf8(oid).ok()?.parse().ok());
        let known =
            |oid: &u32| self.start.iter().flat_map(|start| &start.tablespaces).any(|known| known.oid == *oid);
        match oid.filter(known) {
            Some(oid) => Ok(Archive::Tablespace(oid)),
            None => Err(misplaced("an archive of an unknown tablespace")),
        }
    }
}

fn misplaced(what: &str) -> Error {
    Error::protocol(format!("{what} is out of place in a base backup"))
}
