//! Files of WAL in the repository: segments with their summary, histories, backup labels.
//!
//! An object is a skippable frame with [`WalHead`] as JSON, and one frame with the file.

use bytes::Bytes;
use highwater_storage::{Body, Gate, Key, ObjectFile, Put};
use highwater_wal::{Lsn, Summary, TimelineId, Timestamp, WalFile};
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterRepository;
use crate::codec::{
    Content, Fault, FileContent, MemorySink, Nowhere, Sink, SkippableHeader, decode, decode_in_place, encode,
    read_skippable, write_skippable,
};
use crate::crypt::is_encrypted;
use crate::digest::{Digest, Plain};
use crate::envelope::{FIRST_FETCH_BYTES, MAX_HEAD_BYTES};
use crate::error::Different;
use crate::facts::{PROGRAM, host_name, now};
use crate::repository::MAX_PAGES;
use crate::{Error, Repository, Result, keys};

/// The longest history or backup label that is taken: PostgreSQL writes less than 1 KiB a timeline.
pub const MAX_SMALL_FILE_BYTES: u64 = 8 << 20;
/// The largest segment that PostgreSQL can have.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// What stands in front of a file of WAL.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WalHead {
    /// Version of these fields: 1.
    pub version: u32,
    /// The file's name.
    pub file: WalFile,
    /// Length and digest of the file.
    #[serde(flatten)]
    pub plain: Plain,
    /// Who put it there and when. It is not part of what R3 compares.
    pub archived: Archived,
    /// What the segment holds; absent for histories and backup labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Of a segment that is not there whole, and was put together from its pieces: where these end. Never stored.
    #[serde(skip)]
    pub received: Option<Lsn>,
}

/// Who put a file into the repository, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Archived {
    /// The machine's name.
    pub host: String,
    /// By that machine's clock.
    pub time: Timestamp,
    /// The program.
    pub program: String,
    /// When the server last wrote into the segment, by its own clock: everything that it had acknowledged by then lies
    /// in this segment or an earlier one of the timeline. Absent where nothing vouches for that, as on a standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Timestamp>,
}

/// How a file came to be in the repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// This call put it there.
    Created,
    /// It was there before, with the same content.
    AlreadySame,
}

/// A file of WAL that was fetched and verified.
#[derive(Clone, Debug)]
pub struct WalObject {
    /// What stands in front of it.
    pub head: WalHead,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A file of WAL, compressed and digested, on its way into one or several repositories.
#[derive(Clone, Debug)]
pub struct EncodedWal {
    plain: Plain,
    frame: Vec<Bytes>,
    gate: Option<Gate>,
}

impl EncodedWal {
    /// Length and digest of the file.
    pub fn plain(&self) -> Plain {
        self.plain
    }

    /// The frame.
    pub(crate) fn into_frame(self) -> Vec<Bytes> {
        self.frame
    }

    /// The same, whose object must not come to be before `gate` opens.
    #[must_use]
    pub fn behind(mut self, gate: Gate) -> EncodedWal {
        self.gate = Some(gate);
        self
    }

    /// Length of the compressed file in bytes.
    pub fn compressed_bytes(&self) -> u64 {
        self.frame.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// One page of a listing of WAL files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalPage {
    /// The files, in order of their names, and the length of their objects in bytes.
    pub files: Vec<(WalFile, u64)>,
    /// Where the next page begins; nothing when this was the last.
    pub next: Option<String>,
}

impl Repository {
    /// Compresses and digests a file of WAL, with as many threads as the settings say. It takes about 20 ms for 16
    /// MiB, and asks the store nothing.
    pub fn encode_wal(&self, bytes: &[u8]) -> Result<EncodedWal> {
        self.encode_wal_while(bytes, &mut |_| {}).map_err(Error::Codec)
    }

    /// The same for content that is read while it is compressed. Each block of it, of 1 MiB but for the last, is shown to
    /// `watch` in order: checking a segment takes no second look at it.
    ///
    /// # Errors
    /// Those of reading the content, and of the codec.
    pub fn encode_wal_while(
        &self,
        content: &(impl Content + ?Sized),
        watch: &mut (dyn FnMut(&[u8]) + Send),
    ) -> std::io::Result<EncodedWal> {
        let encoded = encode(content, &self.compression(), watch)?;
        let plain = Plain { length: content.length(), digest: encoded.digest };
        Ok(EncodedWal { plain, frame: encoded.frame, gate: None })
    }
}

impl ClusterRepository {
    /// Whether a file of WAL is there.
    pub async fn has_wal(&self, file: WalFile) -> Result<bool> {
        match self.repository().store().size(&self.section().wal(file)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a file of WAL: a segment or a partial one with its summary, or a history or backup label without.
    ///
    /// # Errors
    /// [`Error::Different`] where there is a file of that name with other content (R3), and nothing was changed.
    pub async fn put_wal(&self, file: WalFile, bytes: &[u8], summary: Option<Summary>) -> Result<Stored> {
        let encoded = self.repository().encode_wal(bytes)?;
        self.put_encoded_wal(file, encoded, summary, None).await
    }

    /// The same for a file that was compressed before, while it was checked. `written` is for
    /// [`Archived::written`].
    pub async fn put_encoded_wal(
        &self,
        file: WalFile,
        encoded: EncodedWal,
        mut summary: Option<Summary>,
        written: Option<Timestamp>,
    ) -> Result<Stored> {
        let plain = encoded.plain;
        check_kind(file, plain.length, summary.as_ref())?;
        if let Some(summary) = &mut summary {
            summary.digest = plain.digest.to_string();
        }
        let archived = Archived { host: host_name(), time: now(), program: PROGRAM.to_owned(), written };
        let head = WalHead { version: WalHead::VERSION, file, plain, archived, summary, received: None };
        let mut body = self.wal_body(&head, encoded.frame)?;
        if let Some(gate) = encoded.gate {
            body = body.behind(gate);
        }
        let key = self.section().wal(file);
        match self.repository().store().put_if_absent(&key, &body).await? {
            Put::Created => Ok(Stored::Created),
            Put::Exists => self.compare(file, plain).await,
        }
    }

    fn wal_body(&self, head: &WalHead, frame: Vec<Bytes>) -> Result<Body> {
        let json = serde_json::to_vec(head).map_err(|error| Error::Codec(error.into()))?;
        if json.len() > MAX_HEAD_BYTES / 2 {
            return Err(Error::Refused {
                what: head.file.to_string(),
                reason: format!("its summary has {} bytes", json.len()),
                hint: "this is a fault of the program: report it",
            });
        }
        let mut pieces = Vec::with_capacity(frame.len() + 1);
        pieces.push(Bytes::from(write_skippable(&json)));
        pieces.extend(frame);
        self.repository().seal(pieces, |_| head.plain)
    }

    /// Whether what is there has this content (R3), and is whole: PostgreSQL removes its own copy when told that it is.
    async fn compare(&self, file: WalFile, here: Plain) -> Result<Stored> {
        let key = self.section().wal(file);
        let (there, archived) = self.wal_told(&key).await?;
        if there != here {
            return Err(Error::Different(Box::new(Different {
                key: key.to_string(),
                here,
                there,
                archived,
                hint: "PostgreSQL keeps its file meanwhile; find out whether two servers write this timeline (a copy \
                       of the machine, a failover without fencing) and stop the wrong one, or give this one an archive \
                       of its own with highwater adopt",
            })));
        }
        match self.get_wal_into(file, &Nowhere).await {
            // Without the identity nobody can know more than what the object tells of itself.
            Ok(_) | Err(Error::Locked { .. }) => Ok(Stored::AlreadySame),
            Err(error) => Err(error),
        }
    }

    /// A file of WAL, verified (R7).
    ///
    /// # Errors
    /// A store error of kind not-found where it is not there; [`Error::Damaged`] where it is not what was put.
    pub async fn get_wal(&self, file: WalFile) -> Result<WalObject> {
        let (key, head, frame) = self.fetch_wal(file).await?;
        let mut bytes = vec![0; head.plain.length as usize];
        self.decode_wal(&key, &head, &frame, &MemorySink::new(&mut bytes))?;
        Ok(WalObject { head, bytes })
    }

    /// The same, written into `sink` block by block: a file, or a buffer. What was written is good only when this has
    /// answered without an error.
    pub async fn get_wal_into(&self, file: WalFile, sink: &dyn Sink) -> Result<WalHead> {
        if let Some(object) = self.repository().store().open(&self.section().wal(file)).await?
            && let Some(head) = self.decode_wal_in_place(file, object, sink)?
        {
            return Ok(head);
        }
        let (key, head, frame) = self.fetch_wal(file).await?;
        self.decode_wal(&key, &head, &frame, sink)?;
        Ok(head)
    }

    /// The same from an object that can be read block by block where it lies, so that not all of it has to be copied into
    /// memory first. `None` where it cannot: encrypted, of the other codec, or a reading has failed, which may pass: the store's own
    /// get is tried again within its budget.
    fn decode_wal_in_place(
        &self,
        file: WalFile,
        object: ObjectFile,
        sink: &dyn Sink,
    ) -> Result<Option<WalHead>> {
        let key = self.section().wal(file);
        if object.size() > max_object_bytes(file) {
            return Ok(None);
        }
        let Ok(file) = object.file().try_clone() else { return Ok(None) };
        let content = FileContent::new(file, object.size());
        let mut buffer = Vec::new();
        let length = object.size().min(FIRST_FETCH_BYTES) as usize;
        let Ok(beginning) = content.block(0, length, &mut buffer) else { return Ok(None) };
        if is_encrypted(beginning) {
            return Ok(None);
        }
        let damaged = |fault: Fault| fault.of(&key);
        let head_bytes = SkippableHeader::read(beginning, MAX_HEAD_BYTES).map_err(damaged)?.frame_bytes();
        let length = object.size().min(head_bytes as u64) as usize;
        let Ok(head) = content.block(0, length, &mut buffer) else { return Ok(None) };
        let (json, _) = read_skippable(head, MAX_HEAD_BYTES).map_err(damaged)?;
        let head = parse_head(&key, json)?;
        let frame = content.behind(head_bytes as u64);
        let threads = self.repository().compression().threads;
        match decode_in_place(&frame, head.plain.length, threads, sink) {
            Ok(None) | Err(Fault::Read(_)) => Ok(None),
            Ok(Some(digest)) => has_digest(&key, &head, digest).map(|()| Some(head)),
            Err(fault) => Err(damaged(fault)),
        }
    }

    async fn fetch_wal(&self, file: WalFile) -> Result<(Key, WalHead, Bytes)> {
        let key = self.section().wal(file);
        let object = self.repository().fetch(&key, max_object_bytes(file)).await?;
        let content = self.repository().unseal(&key, object).await?;
        let (json, frame) = read_skippable(&content, MAX_HEAD_BYTES).map_err(|fault| fault.of(&key))?;
        let head = parse_head(&key, json)?;
        let frame = content.slice_ref(frame);
        Ok((key, head, frame))
    }

    fn decode_wal(&self, key: &Key, head: &WalHead, frame: &[u8], sink: &dyn Sink) -> Result<()> {
        let threads = self.repository().compression().threads;
        let digest = decode(frame, head.plain.length, threads, sink).map_err(|fault| fault.of(key))?;
        has_digest(key, head, digest)
    }

    /// What stands in front of a file of WAL, by a ranged read.
    pub async fn wal_head(&self, file: WalFile) -> Result<WalHead> {
        let key = self.section().wal(file);
        let beginning = self.repository().fetch_beginning(&key).await?;
        read_wal_head(self.repository(), &key, beginning).await
    }

    /// The same for a file that is known to be there, from a listing: an earlier reading may be taken out of the cache. With
    /// the text that it was read from.
    pub(crate) async fn listed_wal_head(&self, file: WalFile) -> Result<(Bytes, WalHead)> {
        let key = self.section().wal(file);
        let parse = |json: &Bytes| Ok((json.clone(), parse_head(&key, json)?));
        self.repository().read_listed_head(&key, parse).await
    }

    /// What stands in front of a file of WAL that is known to be there, from a listing: an earlier reading may be taken
    /// out of the cache, so this does not tell whether it is there.
    pub async fn head_of_listed_wal(&self, file: WalFile) -> Result<WalHead> {
        Ok(self.listed_wal_head(file).await?.1)
    }

    /// What a segment holds, by a ranged read.
    pub async fn wal_summary(&self, file: WalFile) -> Result<Summary> {
        let head = self.wal_head(file).await?;
        head.summary.ok_or_else(|| Error::damaged(self.section().wal(file), "it has no summary"))
    }

    /// The timelines that have files in the repository, in order.
    pub async fn timelines(&self) -> Result<Vec<TimelineId>> {
        let folders = self.repository().folders(&self.section().wal_timelines()).await?;
        Ok(folders.iter().filter_map(|folder| keys::timeline_of_folder(folder)).collect())
    }

    /// A page of the files of a timeline, in order of their names, or of one log of it. `after` is what the page
    /// before gave as [`WalPage::next`].
    pub async fn list_wal(
        &self,
        timeline: TimelineId,
        log: Option<u32>,
        after: Option<&str>,
    ) -> Result<WalPage> {
        let prefix = match log {
            Some(log) => self.section().wal_of_log(timeline, log),
            None => self.section().wal_of(timeline),
        };
        let page = self.repository().store().list(&prefix, after, false).await?;
        let files =
            page.entries.iter().filter_map(|entry| Some((entry.key.name().parse().ok()?, entry.size)));
        Ok(WalPage { files: files.collect(), next: page.next })
    }

    /// The first file of a timeline, behind the name of `after` where one is given, that is wanted; nothing where there is
    /// none. With it, "not there" can be told from a hole (R6): PostgreSQL archives in order of names.
    pub async fn first_wal(
        &self,
        timeline: TimelineId,
        after: Option<WalFile>,
        is_wanted: impl Fn(WalFile) -> bool,
    ) -> Result<Option<WalFile>> {
        let mut after = after.map(|file| self.section().wal(file).to_string());
        for _ in 0..MAX_PAGES {
            let page = self.list_wal(timeline, None, after.as_deref()).await?;
            let found = page.files.into_iter().map(|(file, _)| file).find(|file| is_wanted(*file));
            if found.is_some() || page.next.is_none() {
                return Ok(found);
            }
            after = page.next;
        }
        Err(self.repository().endless(&self.section().wal_of(timeline)))
    }
}

impl WalHead {
    /// Version of the fields that this program writes.
    pub const VERSION: u32 = 1;
}

pub(crate) async fn read_wal_head(repository: &Repository, key: &Key, beginning: Bytes) -> Result<WalHead> {
    let json = repository.read_head(key, beginning).await?;
    parse_head(key, &json)
}

pub(crate) fn parse_head(key: &Key, json: &[u8]) -> Result<WalHead> {
    let head: WalHead =
        serde_json::from_slice(json).map_err(|error| Error::damaged(key, format!("its head: {error}")))?;
    if head.file.to_string() != key.name() {
        return Err(Error::damaged(key, format!("it says that it is {}", head.file)));
    }
    check_kind(head.file, head.plain.length, head.summary.as_ref())
        .map_err(|error| Error::damaged(key, format!("its head contradicts itself ({error})")))?;
    if head.summary.as_ref().is_some_and(|summary| summary.digest != head.plain.digest.to_string()) {
        return Err(Error::damaged(key, "its head names two digests"));
    }
    Ok(head)
}

fn has_digest(key: &Key, head: &WalHead, found: Digest) -> Result<()> {
    if found == head.plain.digest {
        return Ok(());
    }
    Err(Error::damaged(key, format!("its content has digest {found}, not {}", head.plain.digest)))
}

/// Whether a file of this kind can have this length and summary.
fn check_kind(file: WalFile, length: u64, summary: Option<&Summary>) -> Result<()> {
    let size = |summary: &Summary| summary.segment_size.bytes();
    let reason = match (file, summary) {
        (WalFile::Segment(_), Some(summary)) if length == size(summary) => None,
        (WalFile::Partial(_), Some(summary)) if length <= size(summary) => None,
        (WalFile::Segment(_) | WalFile::Partial(_), Some(summary)) => {
            Some(format!("it has {length} bytes and segments have {}", size(summary)))
        }
        (WalFile::Segment(_) | WalFile::Partial(_), None) => Some("a segment has a summary".to_owned()),
        (WalFile::History(_) | WalFile::BackupLabel { .. }, Some(_)) => {
            Some("only segments have summaries".to_owned())
        }
        (_, None) if length > MAX_SMALL_FILE_BYTES => Some(format!("it has {length} bytes")),
        (_, None) => None,
    };
    match reason {
        None => Ok(()),
        Some(reason) => Err(Error::Refused {
            what: file.to_string(),
            reason,
            hint: "see whether this is the file that PostgreSQL wrote",
        }),
    }
}

/// The longest that the object of such a file can be: content that does not compress grows by less than a hundredth.
pub(crate) fn max_object_bytes(file: WalFile) -> u64 {
    let content = match file {
        WalFile::Segment(_) | WalFile::Partial(_) => MAX_SEGMENT_BYTES,
        WalFile::History(_) | WalFile::BackupLabel { .. } => MAX_SMALL_FILE_BYTES,
    };
    content + content / 64 + MAX_HEAD_BYTES as u64 + (1 << 20)
}
