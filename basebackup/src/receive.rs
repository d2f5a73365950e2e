//! The first half of the pipeline: from what the server sends to batches of extents.

use std::future::Future;
use std::path::Path;

use bytes::Bytes;
use highwater_replication::{Archive, BackupEvent, BackupStream};
use highwater_repository::{Entry, EntryPath, manifest};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cut::Cutter;
use crate::layout::Place;
use crate::parent::ParentIndex;
use crate::pool::Feeder;
use crate::progress::Meter;
use crate::server_manifest::{FileFacts, SentFiles, Spool, Spooled};
use crate::tar::{Kind, Member, Piece, Splitter};
use crate::{Error, Result};

/// The file that says where recovery from the backup starts.
const BACKUP_LABEL: &[u8] = b"backup_label";
/// PostgreSQL writes less than 2 KiB: eight lines, one with a label of at most 1 KiB.
const MAX_BACKUP_LABEL_BYTES: usize = 64 << 10;

/// Where the events of a base backup come from.
pub(crate) trait Events {
    /// The next event; `None` when all have come.
    fn next(&mut self) -> impl Future<Output = Result<Option<BackupEvent>>>;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Events for BackupStream<S> {
    async fn next(&mut self) -> Result<Option<BackupEvent>> {
        match BackupStream::next(self).await {
            Err(source @ highwater_replication::Error::ChecksumFailure(_)) => {
                let notices = self.take_notices();
                // The server warns of each page with SQLSTATE 01000 (verify_page_checksum, basebackup.c, PostgreSQL 15).
                let pages = notices.iter().filter(|notice| notice.severity == "WARNING");
                let pages = pages.map(|notice| format!("{}; ", notice.message)).collect();
                Err(Error::DamagedPages { pages, source })
            }
            other => Ok(other?),
        }
    }
}

/// What has been received, beside what went into the pipeline.
#[derive(Debug)]
pub(crate) struct Received {
    /// The server's manifest.
    pub(crate) server_manifest: Spooled,
    /// The files to match it with.
    pub(crate) sent: SentFiles,
    /// The content of `backup_label`.
    pub(crate) backup_label: Vec<u8>,
}

/// Receives everything and feeds it to the threads.
pub(crate) async fn receive(
    events: &mut impl Events,
    parent: Option<&ParentIndex>,
    scratch: &Path,
    feeder: Feeder,
    cutter: Cutter,
    mut meter: Meter<'_>,
) -> Result<Received> {
    let mut receiver = Receiver {
        parent,
        cutter,
        archive: None,
        manifest: None,
        sent: SentFiles::new(scratch)?,
        is_backup_label: false,
        backup_label: Vec::new(),
    };
    while let Some(event) = events.next().await? {
        match event {
            BackupEvent::Archive(archive) => receiver.begin_archive(archive)?,
            BackupEvent::Manifest => {
                receiver.end_archive()?;
                receiver.manifest = Some(Spool::new(scratch, receiver.sent.tally().files())?);
            }
            BackupEvent::Data(bytes) => {
                let length = bytes.len() as u64;
                if receiver.data(bytes)? {
                    meter.add(length);
                }
            }
            BackupEvent::Progress(_) => {}
        }
        while let Some(batch) = receiver.cutter.take_full() {
            feeder.feed(batch).await?;
        }
    }
    if let Some(batch) = receiver.cutter.take_last() {
        feeder.feed(batch).await?;
    }
    meter.finish();
    receiver.finish()
}

/// An archive that is being received.
struct OpenArchive {
    place: Place,
    splitter: Splitter,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Base => f.write_str("the data directory"),
            Place::Tablespace(oid) => write!(f, "tablespace {oid}"),
        }
    }
}

struct Receiver<'a> {
    parent: Option<&'a ParentIndex>,
    cutter: Cutter,
    archive: Option<OpenArchive>,
    manifest: Option<Spool>,
    sent: SentFiles,
    /// Whether the file under way is `backup_label`.
    is_backup_label: bool,
    backup_label: Vec<u8>,
}

impl Receiver<'_> {
    fn begin_archive(&mut self, archive: Archive) -> Result<()> {
        self.end_archive()?;
        let place = match archive {
            Archive::Base => Place::Base,
            Archive::Tablespace(oid) => Place::Tablespace(oid),
        };
        self.archive = Some(OpenArchive { place, splitter: Splitter::new() });
        Ok(())
    }

    fn end_archive(&mut self) -> Result<()> {
        let Some(OpenArchive { place, splitter }) = self.archive.take() else { return Ok(()) };
        splitter.finish().map_err(|fault| Error::Archive { place: place.to_string(), fault })
    }

    /// Takes bytes of the archive or of the manifest; says whether they were an archive's.
    fn data(&mut self, bytes: Bytes) -> Result<bool> {
        if let Some(manifest) = &mut self.manifest {
            manifest.push(&bytes)?;
            return Ok(false);
        }
        // Taken out for the time, so that pieces can go to the rest of the receiver.
        let mut archive = self.archive.take().ok_or(Error::Internal("bytes of no archive"))?;
        archive.splitter.push(bytes);
        loop {
            let next = archive.splitter.next();
            let next = next.map_err(|fault| Error::Archive { place: archive.place.to_string(), fault })?;
            match next {
                None => break,
                Some(Piece::Begin(member)) => self.begin(archive.place, member)?,
                Some(Piece::Content(bytes)) => self.content(&bytes)?,
                Some(Piece::End) => self.end()?,
            }
        }
        self.archive = Some(archive);
        Ok(true)
    }

    fn begin(&mut self, place: Place, member: Member) -> Result<()> {
        let path = EntryPath::new(place.path(&member))?;
        let mode = member.mode as u16;
        match member.kind {
            Kind::Folder => self.cutter.add(Entry::Folder(manifest::Folder { path, mode })),
            Kind::Link { target } => self.cutter.add(Entry::Link(manifest::Link { path, target })),
            Kind::File { size } => {
                self.is_backup_label = path.as_bytes() == BACKUP_LABEL;
                let parent = match self.parent {
                    Some(parent) if size > 0 => parent.file(path.as_bytes())?,
                    _ => None,
                };
                let mtime = member.modified_unix;
                self.cutter.begin(manifest::File { path, mode, size, mtime, crc32c: None }, parent);
            }
        }
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_backup_label && self.backup_label.len() + bytes.len() <= MAX_BACKUP_LABEL_BYTES {
            self.backup_label.extend_from_slice(bytes);
        }
        self.cutter.content(bytes)
    }

    fn end(&mut self) -> Result<()> {
        let file = self.cutter.end()?;
        let crc32c = file.crc32c.ok_or(Error::Internal("a file without a checksum"))?;
        self.sent.add(&FileFacts { path: file.path.as_bytes().to_vec(), size: file.size, crc32c })?;
        Ok(())
    }

    fn finish(self) -> Result<Received> {
        let missing =
            |what: &str| Error::Contradiction { what: format!("that this was all, and there was no {what}") };
        let server_manifest = self.manifest.ok_or_else(|| missing("backup_manifest"))?.finish()?;
        if self.backup_label.is_empty() {
            return Err(missing("backup_label"));
        }
        Ok(Received { server_manifest, sent: self.sent, backup_label: self.backup_label })
    }
}
