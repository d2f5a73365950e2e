//! What there is of an unfinished segment: pieces, alone and in strips, and how each is read.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_storage::{Entry, Key};
use highwater_wal::{SegmentName, SegmentSize};

use super::frames::{self, STRIP_BYTES, Scan, StripId};
use super::{TailHead, TailPiece, TailPlace, belongs, parse_head};
use crate::cluster::ClusterRepository;
use crate::codec::{MemorySink, decode, read_skippable};
use crate::crypt::{is_encrypted, plain_of_header};
use crate::digest::Plain;
use crate::envelope::MAX_HEAD_BYTES;
use crate::keys::{self, TailObject};
use crate::repository::MAX_PAGES;
use crate::{Error, Result};

/// The longest piece: PostgreSQL's largest segment.
const MAX_PIECE_BYTES: u64 = 1 << 30;
/// How often a strip is read in which something seems to be damaged that may only just have been written.
const STRIP_READS: usize = 5;

/// What there is of a segment that is not there whole, as it was when it was listed. The strips are in memory; objects are read when
/// they are asked for.
#[derive(Clone, Debug)]
pub struct Tail {
    cluster: ClusterRepository,
    segment: SegmentName,
    pieces: Vec<TailPiece>,
    strips: BTreeMap<StripId, ReadStrip>,
}

/// A strip that was read.
#[derive(Clone, Debug)]
struct ReadStrip {
    key: Key,
    /// How long it is; of one that is longer than it should be the rest is not in memory.
    length: u64,
    bytes: Bytes,
    scan: Scan,
}

/// What is wrong with a strip in which there is no sound frame at `at`.
fn other_frame(at: usize) -> String {
    format!("the frame at byte {at} is not the one that was written")
}

impl ReadStrip {
    /// What is wrong where nobody can tell how much it held behind what can be read of it: a strip has its full length before the
    /// first frame.
    fn open_end(&self) -> Option<String> {
        match self.length {
            STRIP_BYTES => self.scan.spoilt_end.map(other_frame),
            length => Some(format!("it is {length} bytes long and should be {STRIP_BYTES}")),
        }
    }

    fn damaged(&self, at: usize) -> Error {
        Error::damaged(&self.key, other_frame(at))
    }

    /// Its pieces, and where one is damaged, what that can have held.
    fn pieces(&self, segment: SegmentName, id: StripId) -> impl Iterator<Item = TailPiece> {
        // A strip is much shorter than 4 GiB.
        let piece = move |from, to, at: usize| {
            let place = TailPlace::Strip { id, at: at as u32 };
            TailPiece { segment, from, to, place }
        };
        let sound = self.scan.pieces.iter().map(move |found| piece(found.from, found.to, found.object.start));
        let damaged = self.scan.damage.iter().filter(|damage| damage.from < damage.to);
        sound.chain(damaged.map(move |damage| piece(damage.from, damage.to, damage.at)))
    }

    /// The object of the piece that lies at `at`.
    fn object(&self, at: u32) -> Result<Bytes> {
        let at = at as usize;
        let found = self.scan.pieces.binary_search_by_key(&at, |found| found.object.start);
        let found = found.ok().and_then(|number| self.scan.pieces.get(number));
        found.map(|found| self.bytes.slice(found.object.clone())).ok_or_else(|| self.damaged(at))
    }
}

impl ClusterRepository {
    /// What there is of a segment, beside the whole.
    pub async fn tail(&self, segment: SegmentName) -> Result<Tail> {
        let mut tail = Tail { cluster: self.clone(), segment, pieces: Vec::new(), strips: BTreeMap::new() };
        for entry in self.tail_objects(segment).await? {
            match keys::tail_object_of(segment, entry.key.name()) {
                Some(TailObject::Piece(piece)) => tail.pieces.push(piece),
                Some(TailObject::Strip(id)) => match self.read_strip(&entry).await {
                    Ok(strip) => {
                        tail.pieces.extend(strip.pieces(segment, id));
                        tail.strips.insert(id, strip);
                    }
                    // It was removed since it was listed, as a piece may have been before.
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                },
                None => {}
            }
        }
        tail.pieces.sort();
        Ok(tail)
    }

    /// All objects that hold pieces of a segment, in the order of their names.
    pub(super) async fn tail_objects(&self, segment: SegmentName) -> Result<Vec<Entry>> {
        let prefix = self.section().tail_of_segment(segment);
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self.repository().store().list(&prefix, after.as_deref(), false).await?;
            let is_one = |entry: &Entry| keys::tail_object_of(segment, entry.key.name()).is_some();
            found.extend(page.entries.into_iter().filter(is_one));
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
        Err(self.repository().endless(&prefix))
    }

    /// Reads a strip. What seems to be damaged may have been on its way: then it is there when it is read again, since what lies
    /// behind it was written later.
    async fn read_strip(&self, entry: &Entry) -> Result<ReadStrip> {
        let mut doubted: Vec<usize> = Vec::new();
        let mut reads = 0;
        loop {
            let bytes = match self.repository().fetch_range(&entry.key, 0, STRIP_BYTES).await {
                // It has no bytes.
                Err(error) if error.is_damaged() => Bytes::new(),
                read => read?,
            };
            let length = match bytes.len() as u64 {
                STRIP_BYTES => entry.size.max(STRIP_BYTES),
                shorter => shorter,
            };
            let scan = frames::scan(&bytes);
            let doubts: Vec<usize> =
                scan.damage.iter().map(|damage| damage.at).chain(scan.spoilt_end).collect();
            reads += 1;
            if doubts.iter().all(|at| doubted.contains(at)) || reads == STRIP_READS {
                return Ok(ReadStrip { key: entry.key.clone(), length, bytes, scan });
            }
            doubted = doubts;
        }
    }
}

impl Tail {
    /// The segment.
    pub fn segment(&self) -> SegmentName {
        self.segment
    }

    /// The pieces, in order of where they begin; also those that are damaged.
    pub fn pieces(&self) -> &[TailPiece] {
        &self.pieces
    }

    /// How many bytes of the segment the pieces have from its start on without a gap.
    pub fn reach(&self) -> u64 {
        TailPiece::reach(&self.pieces)
    }

    /// How many bytes of the segment there were: as many as the last piece says, and where nobody can tell how much a damaged
    /// strip held, one more.
    pub fn known(&self, size: SegmentSize) -> u64 {
        let told = self.pieces.iter().map(|piece| u64::from(piece.to)).max().unwrap_or_default();
        let more = u64::from(self.open_end().is_some());
        told.max((told + more).min(size.bytes()))
    }

    /// What is wrong with the first strip of which nobody can tell how much it held.
    pub(super) fn open_end(&self) -> Option<Error> {
        self.strips.values().find_map(|strip| Some(Error::damaged(&strip.key, strip.open_end()?)))
    }

    /// What is wrong with the pieces all in all.
    pub(super) fn damaged(&self, reason: String) -> Error {
        Error::damaged(self.cluster.section().tail_of_segment(self.segment), reason)
    }

    /// The object that holds a piece.
    pub fn key_of(&self, piece: TailPiece) -> Key {
        match piece.place {
            TailPlace::Object => self.cluster.section().tail_piece(piece.segment, piece.from, piece.to),
            TailPlace::Strip { id, .. } => self.cluster.section().strip(piece.segment, id),
        }
    }

    /// The objects, that of the last piece first, and strips without any piece before all.
    pub fn objects(&self) -> Vec<Key> {
        let mut begins: BTreeMap<Key, Option<u32>> =
            self.strips.values().map(|strip| (strip.key.clone(), None)).collect();
        for piece in self.pieces.iter().rev() {
            begins.insert(self.key_of(*piece), Some(piece.from));
        }
        let mut objects: Vec<(Key, Option<u32>)> = begins.into_iter().collect();
        objects.sort_by_key(|(_, from)| Reverse(from.unwrap_or(u32::MAX)));
        objects.into_iter().map(|(key, _)| key).collect()
    }

    /// What is damaged in strips and belongs to no piece that is missing for it: the strip, and what is wrong with it.
    pub fn damage(&self) -> impl Iterator<Item = (&Key, String)> {
        self.strips.values().flat_map(|strip| {
            let without_bytes = strip.scan.damage.iter().filter(|damage| damage.from == damage.to);
            let inside = without_bytes.map(|damage| other_frame(damage.at));
            inside.chain(strip.open_end()).map(|what| (&strip.key, what))
        })
    }

    /// The strips at whose end something lies that is not whole and was never acknowledged, and from which byte on.
    pub fn torn(&self) -> impl Iterator<Item = (&Key, u64)> {
        let whole = self.strips.values().filter(|strip| strip.open_end().is_none());
        whole.filter_map(|strip| Some((&strip.key, strip.scan.torn? as u64)))
    }

    /// Length and digest of a piece's bytes, as its object says; also where no identity is at hand.
    ///
    /// # Errors
    /// A store error of kind not-found where it is not there any more; [`Error::Damaged`].
    pub async fn plain(&self, piece: TailPiece) -> Result<Plain> {
        self.cluster.told_of_piece(&self.key_of(piece), self.in_strip(piece)?).await
    }

    /// What stands in front of a piece. Errors as for [`Tail::plain`].
    pub async fn head(&self, piece: TailPiece) -> Result<TailHead> {
        let (key, repository) = (self.key_of(piece), self.cluster.repository());
        let head = match self.in_strip(piece)? {
            Some(object) => {
                let content = repository.unseal(&key, object).await?;
                let (json, _) = read_skippable(&content, MAX_HEAD_BYTES).map_err(|fault| fault.of(&key))?;
                parse_head(&key, json)?
            }
            None => {
                let beginning = repository.fetch_beginning(&key).await?;
                parse_head(&key, &repository.read_head(&key, beginning).await?)?
            }
        };
        belongs(&key, piece, &head)?;
        Ok(head)
    }

    /// A piece, verified (R7). Errors as for [`Tail::plain`].
    pub async fn get(&self, piece: TailPiece) -> Result<(TailHead, Vec<u8>)> {
        let (key, repository) = (self.key_of(piece), self.cluster.repository());
        let object = match self.in_strip(piece)? {
            Some(object) => object,
            None => {
                let limit = piece.length() + piece.length() / 64 + MAX_HEAD_BYTES as u64 + (1 << 20);
                repository.fetch(&key, limit.min(2 * MAX_PIECE_BYTES)).await?
            }
        };
        let content = repository.unseal(&key, object).await?;
        let (json, frame) = read_skippable(&content, MAX_HEAD_BYTES).map_err(|fault| fault.of(&key))?;
        let head = parse_head(&key, json)?;
        belongs(&key, piece, &head)?;
        let mut bytes = vec![0; piece.length() as usize];
        let threads = repository.compression().threads;
        let digest = decode(frame, head.plain.length, threads, &MemorySink::new(&mut bytes))
            .map_err(|fault| fault.of(&key))?;
        if digest != head.plain.digest {
            let reason = format!("its content has digest {digest}, not {}", head.plain.digest);
            return Err(Error::damaged(&key, reason));
        }
        Ok((head, bytes))
    }

    /// The object of a piece that lies in a strip.
    fn in_strip(&self, piece: TailPiece) -> Result<Option<Bytes>> {
        let TailPlace::Strip { id, at } = piece.place else { return Ok(None) };
        let strip = self.strips.get(&id);
        strip.map(|strip| strip.object(at)).transpose()
    }
}

impl ClusterRepository {
    /// What a piece's object tells of its bytes; `object` is all of it where that is at hand.
    pub(super) async fn told_of_piece(&self, key: &Key, object: Option<Bytes>) -> Result<Plain> {
        let repository = self.repository();
        let beginning = match &object {
            Some(object) => object.clone(),
            None => repository.fetch_beginning(key).await?,
        };
        if is_encrypted(&beginning) {
            let header = match object {
                Some(object) => object,
                None => repository.with_header(key, &beginning).await?,
            };
            return plain_of_header(&header).map_err(|fault| fault.of(key));
        }
        let json = match &object {
            Some(object) => {
                let (json, _) = read_skippable(object, MAX_HEAD_BYTES).map_err(|fault| fault.of(key))?;
                object.slice_ref(json)
            }
            None => repository.read_head(key, beginning).await?,
        };
        Ok(parse_head(key, &json)?.plain)
    }
}
