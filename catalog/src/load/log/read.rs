//! Reads a stretch of segments, the next one being fetched while one is taken apart.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt};
use highwater_repository::{ClusterRepository, Error, MemorySink};
use highwater_wal::{
    CatalogPlace, CatalogRows, Lsn, MappedFile, Records, Refusal, SegmentName, SegmentSize, WalFile,
};

use super::buffers::{Buffers, WalBytes};
use super::feed::{Feed, Seen};
use super::stock::{Part, Stock};
use crate::Path;
use crate::log::{Assembler, ClassChange, Stretch};

/// Segments that are fetched ahead of the one that is being read.
const READ_AHEAD: usize = 2;

/// Bytes of a segment that are kept for the record that runs into it from the one before. One that runs further is read again.
const KEPT_BYTES: usize = 64 << 10;

/// Changes of rows of `pg_class` that are kept of one reading.
const MAX_CLASSES: usize = 200_000;

/// Segments that a record can run over: a record has at most 1 GiB, a segment at least 1 MiB.
const MAX_RUN_OVER: u64 = 1025;

/// The beginning of a segment that was read.
pub(super) struct Beginning {
    number: u64,
    bytes: WalBytes,
}

/// What came out of reading segments.
pub(super) struct ReadStretch {
    pub stretch: Stretch,
    /// The beginning of its first segment, for the stretch in front of it.
    pub beginning: Option<Beginning>,
    /// Where reading had to end early, and why.
    pub broken: Option<Broken>,
    /// Names that the WAL tells by the way.
    pub seen: Seen,
    /// Where catalogs were found to lie.
    pub places: Vec<CatalogPlace>,
    /// What relation maps said.
    pub mapped: Vec<MappedFile>,
    /// Bytes that were read.
    pub bytes: u64,
}

/// What was written into `pg_class`.
pub(super) struct ReadClasses {
    /// What happened to rows, with the transaction or subtransaction that did it, in order.
    pub classes: Vec<(u32, ClassChange)>,
    /// Names that the WAL tells by the way.
    pub seen: Seen,
    /// Where catalogs were found to lie.
    pub places: Vec<CatalogPlace>,
    /// What relation maps said.
    pub mapped: Vec<MappedFile>,
    /// Bytes that were read.
    pub bytes: u64,
}

/// A segment that could not be read, or not to its end.
pub(super) struct Broken {
    pub number: u64,
    pub segment: SegmentName,
    /// What was read of it.
    pub object: String,
    pub reason: String,
    /// It is not there at all, although an index object or a listing says so.
    pub is_missing: bool,
}

/// What is read, and along which path.
pub(super) struct Reader<'a> {
    pub cluster: &'a ClusterRepository,
    pub path: &'a Path,
    pub size: SegmentSize,
    pub feed: Feed<'a>,
    pub buffers: &'a Buffers,
    /// Where catalogs are known to lie.
    pub places: &'a BTreeSet<CatalogPlace>,
    /// What there is.
    pub stock: &'a Stock,
}

impl Reader<'_> {
    fn catalogs(&self) -> CatalogRows {
        let mut catalogs = CatalogRows::default();
        self.places.iter().for_each(|place| catalogs.know(place));
        catalogs
    }

    fn name(&self, number: u64) -> SegmentName {
        self.stock
            .parts
            .get(&number)
            .map_or_else(|| self.path.segment(number, self.size), |part| part.segment)
    }

    /// Reads the records that begin in the segments from `first` to `last`. `behind` is the beginning of the segment after the last,
    /// where it was read already; `run_end` the last segment of the unbroken run.
    ///
    /// Damage ends the stretch early; what was read in front of it stands.
    ///
    /// # Errors
    /// Those of the repository, but for damage.
    pub async fn stretch(
        &self,
        first: u64,
        last: u64,
        behind: Option<Beginning>,
        run_end: u64,
    ) -> Result<ReadStretch, Error> {
        let start = self.name(first).start(self.size);
        let end = self.name(last).end(self.size);
        let mut read = Reading {
            feed: &self.feed,
            records: Records::new(self.size, Some(self.cluster.system_id())),
            catalogs: self.catalogs(),
            assembler: Assembler::new(start),
            seen: Seen::default(),
            end,
        };
        let mut found = ReadStretch {
            stretch: Stretch::default(),
            beginning: None,
            broken: None,
            seen: Seen::default(),
            places: Vec::new(),
            mapped: Vec::new(),
            bytes: 0,
        };
        let fetched = stream::iter(first..=last).map(|number| self.fetch(number)).buffered(READ_AHEAD);
        futures_util::pin_mut!(fetched);
        let mut upto = start;
        while let Some((number, object)) = fetched.next().await {
            let segment = self.name(number);
            let is_missing = object.as_ref().is_err_and(Error::is_not_found);
            let bytes = match sound(object)? {
                Ok(bytes) => bytes,
                Err(reason) => {
                    found.broken = Some(self.broken(number, reason, is_missing));
                    break;
                }
            };
            found.bytes += bytes.len() as u64;
            if number == first {
                let kept = bytes.as_ref()[..bytes.len().min(KEPT_BYTES)].to_vec();
                found.beginning = Some(Beginning { number, bytes: kept.into() });
            }
            let end = segment.start(self.size) + bytes.len() as u64;
            if let Err(refusal) = read.segment(segment, bytes) {
                // Behind the end of a part lies what the file held before: it is no WAL of this timeline.
                if self.stock.parts.contains_key(&number) {
                    upto = read.records.end().unwrap_or(upto);
                    break;
                }
                upto = read.records.end().unwrap_or(upto);
                let reason = refusal.clause();
                found.broken = Some(self.broken(number, reason, false));
                break;
            }
            upto = end;
        }
        if found.broken.is_none() {
            found.bytes += self.run_over(&mut read, last, behind, run_end).await?;
        }
        found.seen = read.seen;
        found.places = read.catalogs.places().collect();
        found.mapped = read.catalogs.mapped().collect();
        found.stretch = read.assembler.finish(upto);
        Ok(found)
    }

    /// Reads what is written into `pg_class` by the records that lie in these segments. It ends early at what cannot be read.
    ///
    /// # Errors
    /// Those of the repository, but for damage.
    pub async fn classes(&self, first: u64, last: u64, run_end: u64) -> Result<ReadClasses, Error> {
        let mut records = Records::new(self.size, Some(self.cluster.system_id()));
        let mut catalogs = self.catalogs();
        let mut read = ReadClasses {
            classes: Vec::new(),
            seen: Seen::default(),
            places: Vec::new(),
            mapped: Vec::new(),
            bytes: 0,
        };
        // The last record may run into the next segment.
        let last = (last + 1).min(run_end);
        let fetched = stream::iter(first..=last).map(|number| self.fetch(number)).buffered(READ_AHEAD);
        futures_util::pin_mut!(fetched);
        while let Some((number, object)) = fetched.next().await {
            let Ok(bytes) = sound(object)? else { break };
            read.bytes += bytes.len() as u64;
            if records.push_segment(self.name(number), bytes).is_err() {
                break;
            }
            while let Some(Ok(record)) = records.next_raw() {
                let classes = &mut read.classes;
                self.feed.names(&record, &mut catalogs, &mut read.seen, |xid, class| {
                    if let Some(class) = class.filter(|_| classes.len() < MAX_CLASSES) {
                        classes.push((xid, class));
                    }
                });
            }
        }
        read.places = catalogs.places().collect();
        read.mapped = catalogs.mapped().collect();
        Ok(read)
    }

    fn broken(&self, number: u64, reason: String, is_missing: bool) -> Broken {
        let segment = self.name(number);
        let file = self.stock.parts.get(&number).map_or(WalFile::Segment(segment), |part| part.file);
        Broken { number, segment, object: self.cluster.section().wal(file).to_string(), reason, is_missing }
    }

    async fn fetch(&self, number: u64) -> (u64, Result<WalBytes, Error>) {
        let cluster = self.cluster.clone();
        let (name, size) = (self.name(number), self.size);
        if let Some(part) = self.stock.parts.get(&number) {
            return (number, self.part(part).await);
        }
        let file = WalFile::Segment(name);
        let damaged = {
            let key = self.cluster.section().wal(file);
            move |reason: String| Error::damaged(&key, reason)
        };
        let length = size.bytes();
        let mut bytes = self.buffers.lend(length as usize);
        let least = self.stock.in_pieces.get(&number).copied();
        // On a task of its own: unpacking one segment and reading another keep two cores busy.
        let task = tokio::spawn(async move {
            match cluster.get_wal_into(file, &MemorySink::new(bytes.as_mut())).await {
                Ok(head) => Ok((head.plain.length, bytes)),
                // There are pieces of it.
                Err(error) if error.is_not_found() => {
                    let mut object = cluster.get_segment(name, size, least).await?;
                    let found = object.bytes.len() as u64;
                    // What lies behind the last piece of a segment is no WAL.
                    let received = object.head.received.map(|end| end.bytes_since(name.start(size)));
                    object.bytes.truncate(received.map_or(usize::MAX, |length| length as usize));
                    Ok((found, object.bytes.into()))
                }
                Err(error) => Err(error),
            }
        });
        let fetched = match task.await {
            // Behind a shorter one would come what the buffer held before.
            Ok(Ok((found, _))) if found != length => {
                Err(damaged(format!("it has {found} bytes, not {length}")))
            }
            Ok(Err(Error::Sink(error))) => Err(damaged(format!("it has more than {length} bytes ({error})"))),
            Ok(fetched) => fetched.map(|(_, bytes)| bytes),
            Err(error) => Err(damaged(format!("it could not be unpacked: {error}"))),
        };
        (number, fetched)
    }

    /// What a part of a segment holds of the path.
    async fn part(&self, part: &Part) -> Result<WalBytes, Error> {
        let mut object = self.cluster.get_wal(part.file).await?;
        let end = object.head.summary.as_ref().and_then(|summary| summary.end);
        let until = end.unwrap_or(part.until).min(part.until);
        object.bytes.truncate(until.bytes_since(part.segment.start(self.size)) as usize);
        Ok(object.bytes.into())
    }

    /// Completes the record that runs over the end of the last segment. What cannot be read behind that end is no damage here: whoever
    /// reads that segment finds it.
    async fn run_over(
        &self,
        read: &mut Reading<'_, '_>,
        last: u64,
        behind: Option<Beginning>,
        run_end: u64,
    ) -> Result<u64, Error> {
        let mut bytes = 0;
        let mut pushed = 0;
        let mut next = last + 1;
        if let Some(beginning) = behind.filter(|beginning| beginning.number == next && read.runs_over()) {
            pushed = beginning.bytes.len();
            if read.piece(self.name(next), self.name(next).start(self.size), beginning.bytes).is_err() {
                return Ok(bytes);
            }
        }
        while read.runs_over() && next <= run_end && next - last <= MAX_RUN_OVER {
            let Ok(mut segment) = sound(self.fetch(next).await.1)? else { return Ok(bytes) };
            bytes += segment.len() as u64;
            let from = self.name(next).start(self.size) + pushed as u64;
            segment.skip(pushed);
            if read.piece(self.name(next), from, segment).is_err() {
                return Ok(bytes);
            }
            (pushed, next) = (0, next + 1);
        }
        Ok(bytes)
    }
}

/// Damage told apart from what may pass.
fn sound(object: Result<WalBytes, Error>) -> Result<Result<WalBytes, String>, Error> {
    match object {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(Error::Damaged { reason, .. }) => Ok(Err(reason)),
        Err(error) if error.is_not_found() => Ok(Err(format!("{error}"))),
        Err(error) => Err(error),
    }
}

struct Reading<'a, 'b> {
    feed: &'a Feed<'b>,
    records: Records<WalBytes>,
    catalogs: CatalogRows,
    assembler: Assembler,
    seen: Seen,
    /// Records that begin from here on belong to another stretch.
    end: Lsn,
}

impl Reading<'_, '_> {
    fn segment(&mut self, name: SegmentName, bytes: WalBytes) -> Result<(), Refusal> {
        self.records.push_segment(name, bytes)?;
        self.read()
    }

    fn piece(&mut self, name: SegmentName, start: Lsn, bytes: WalBytes) -> Result<(), Refusal> {
        self.records.push(name.timeline, start, bytes)?;
        self.read()
    }

    fn read(&mut self) -> Result<(), Refusal> {
        while let Some(record) = self.records.next_raw() {
            let record = record?;
            if record.lsn >= self.end {
                return Ok(());
            }
            let Reading { feed, catalogs, seen, assembler, .. } = self;
            feed.names(&record, catalogs, seen, |xid, class| assembler.class(record.lsn, xid, class));
            // A record that is whole and says what nobody knows, as of an extension, does nothing that could be told.
            _ = self.feed.record(&record, &mut self.assembler);
        }
        Ok(())
    }

    /// Whether a record of this stretch is still to be completed.
    fn runs_over(&self) -> bool {
        let unfinished = self.records.unfinished();
        unfinished.is_some_and(|unfinished| unfinished.lsn.is_some_and(|lsn| lsn < self.end))
    }
}
