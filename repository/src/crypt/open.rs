//! Decrypting with identities, the whole of an object or a range of it.

use std::fmt;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::ops::Range;

use age::{DecryptError, Decryptor, Identity};
use bytes::Bytes;

use super::header::payload_start;
use crate::codec::Fault;

/// Plain bytes in one of age's chunks.
const CHUNK_BYTES: u64 = 64 << 10;
/// Stored bytes of a chunk: a tag of 16 bytes is added.
const STORED_CHUNK_BYTES: u64 = CHUNK_BYTES + 16;

/// Who may read: age's private keys.
#[derive(Clone, Default)]
pub(crate) struct Identities(Vec<age::x25519::Identity>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

/// Why an object could not be decrypted.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// None of the identities is one of its recipients'.
    NoIdentity,
    /// It is damaged.
    Fault(Fault),
}

impl Unopened {
    pub(super) fn damaged(reason: impl ToString) -> Unopened {
        Unopened::Fault(Fault::Damaged(format!("it cannot be decrypted: {}", reason.to_string())))
    }
}

impl From<Fault> for Unopened {
    fn from(fault: Fault) -> Unopened {
        Unopened::Fault(fault)
    }
}

impl Identities {
    /// Reads the text of an identity file: one identity a line, `#` begins a comment. The error is the number of the
    /// line that is no identity; what stands there is not repeated (R21).
    pub(crate) fn parse(text: &str) -> Result<Identities, usize> {
        let lines = text.lines().map(str::trim).enumerate();
        let identities = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        identities
            .map(|(number, line)| line.parse().map_err(|_| number + 1))
            .collect::<Result<_, _>>()
            .map(Identities)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The public keys that belong to them.
    pub(crate) fn recipients(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|identity| identity.to_public().to_string())
    }

    fn decrypt<R: BufRead>(&self, input: R) -> Result<age::stream::StreamReader<R>, Unopened> {
        let identities = self.0.iter().map(|identity| identity as &dyn Identity);
        Decryptor::new_buffered(input).and_then(|file| file.decrypt(identities)).map_err(
            |error| match error {
                DecryptError::NoMatchingKeys => Unopened::NoIdentity,
                other => Unopened::damaged(other),
            },
        )
    }

    /// The plain bytes of a whole object.
    pub(crate) fn open(&self, object: &[u8]) -> Result<Vec<u8>, Unopened> {
        let stored_bytes = object.len() - payload_start(object)?.min(object.len());
        let mut plain = Vec::with_capacity(stored_bytes);
        self.decrypt(object)?.read_to_end(&mut plain).map_err(Unopened::damaged)?;
        Ok(plain)
    }

    /// The plain bytes of a range, from the stored bytes that [`ChunkRange`] named. Less than asked for where the
    /// object ends before.
    pub(crate) fn open_range(
        &self,
        header: Bytes,
        range: &ChunkRange,
        stored: Bytes,
    ) -> Result<Vec<u8>, Unopened> {
        let payload_start = payload_start(&header)?;
        let header = header.slice(..payload_start.min(header.len()));
        let mut reader =
            self.decrypt(Sparse { header, start: range.stored.start, bytes: stored, position: 0 })?;
        // Seeking to the first byte of a chunk makes age read the object's last chunk, which isn't at hand; seeking
        // into the chunk and back does not.
        let start = range.plain.start;
        if start > 0 && start.is_multiple_of(CHUNK_BYTES) {
            reader.seek(SeekFrom::Start(start + 1)).map_err(Unopened::damaged)?;
        }
        reader.seek(SeekFrom::Start(start)).map_err(Unopened::damaged)?;
        let length = range.plain.end - start;
        let mut plain = Vec::with_capacity(length.min(range.stored.end - range.stored.start) as usize);
        reader.take(length).read_to_end(&mut plain).map_err(Unopened::damaged)?;
        Ok(plain)
    }
}

/// A range of plain bytes and that of the stored bytes which hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkRange {
    /// What is wanted.
    pub(crate) plain: Range<u64>,
    /// What has to be fetched; it may end behind the object.
    pub(crate) stored: Range<u64>,
}

impl ChunkRange {
    /// For an object whose chunks begin at `payload_start`. `plain` must not be empty.
    pub(crate) fn new(payload_start: usize, plain: Range<u64>) -> ChunkRange {
        let first = plain.start / CHUNK_BYTES;
        let behind_last = plain.end.div_ceil(CHUNK_BYTES);
        let stored_at =
            |chunk: u64| (payload_start as u64).saturating_add(chunk.saturating_mul(STORED_CHUNK_BYTES));
        ChunkRange { stored: stored_at(first)..stored_at(behind_last), plain }
    }
}

/// How long an object is whose chunks begin at `payload_start` and hold `plain` bytes.
pub(crate) fn sealed_bytes(payload_start: usize, plain: u64) -> u64 {
    let tags = plain.div_ceil(CHUNK_BYTES) * (STORED_CHUNK_BYTES - CHUNK_BYTES);
    (payload_start as u64).saturating_add(tags).saturating_add(plain)
}

/// How many plain bytes lie in the whole chunks of an object of `stored` bytes whose chunks begin at `payload_start`.
pub(crate) fn whole_chunks(payload_start: usize, stored: u64) -> u64 {
    stored.saturating_sub(payload_start as u64) / STORED_CHUNK_BYTES * CHUNK_BYTES
}

/// An object of which only the header and one range are at hand.
struct Sparse {
    header: Bytes,
    start: u64,
    bytes: Bytes,
    position: u64,
}

impl Sparse {
    /// What is at hand from the current position on.
    fn rest(&self) -> io::Result<&[u8]> {
        if let Some(rest) = usize::try_from(self.position).ok().and_then(|at| self.header.get(at..))
            && !rest.is_empty()
        {
            return Ok(rest);
        }
        let at = self.position.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).ok_or_else(|| io::Error::other("the range was not fetched"))
    }
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.rest()?;
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Sparse {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.rest()
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount as u64;
    }
}

impl Seek for Sparse {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.position = match target {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(0) => self.position,
            _ => return Err(io::Error::other("the end is not at hand")),
        };
        Ok(self.position)
    }
}
