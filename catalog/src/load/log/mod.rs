//! `log` for a real repository: which segments are read, in which order, and what comes out of it.

mod buffers;
mod explain;
mod feed;
mod moved;
mod names;
mod origin;
mod read;
mod skim;
mod stock;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use highwater_repository::{ClusterRepository, Error, WalHead};
use highwater_wal::{CatalogPlace, Lsn, MappedFile, SegmentName};

use super::{Catalog, PlanError};
use crate::log::{Backwards, LogFilter, describe};
use crate::plan::path_for;
use crate::{Hole, Path};
use buffers::Buffers;
use explain::Explained;
use feed::Feed;
use moved::Moved;
use names::LogNames;
use origin::Origins;
use read::{Beginning, Broken, ReadStretch, Reader};
use stock::{Stock, beside};

pub use told::{LogItem, LogProgress, LogQuery, LogReport, LogSink};

/// Segments that are read in one stretch at most. A stretch is read from its oldest segment on, so the more there are the longer the
/// newest waits; the fewer, the less is read ahead.
const MAX_STRETCH: u64 = 8;

/// Bytes of WAL that are read back at most in search of a transaction's beginning; what began before is shown as partial.
const MAX_LOOK_BACK_BYTES: u64 = 1 << 30;

impl Catalog {
    /// Tells what happened, the newest first. Memory does not grow with the range.
    ///
    /// # Errors
    /// [`PlanError::Unreachable`] where the timeline is not there, or its history; those of the repository, but for damaged segments,
    /// which are told.
    pub async fn what_happened(
        &mut self,
        query: &LogQuery,
        sink: &mut dyn LogSink,
    ) -> Result<LogReport, PlanError> {
        let path = path_for(self.inventory(), query.timeline)?;
        let stock = Stock::of(self.inventory(), &path);
        let size = self.inventory().segment_size.bytes();
        let stretch = |run: &RangeInclusive<u64>| {
            (Lsn(run.start().saturating_mul(size)), Lsn((run.end() + 1).saturating_mul(size)))
        };
        let names = LogNames::open(self.cluster(), &path, stock.runs.iter().map(stretch).collect()).await?;
        let mut report = LogReport { notes: beside(self.inventory(), &path), ..LogReport::default() };
        report.notes.extend(self.inventory().troubles());
        let mut search = Search::new(self, &path, query, names, &stock);
        let ended = search.run(sink).await;
        report.progress = search.progress;
        (report.damaged, report.holes) = (search.damaged, search.holes);
        report.notes.extend(search.names.damage());
        report.notes.extend(untold(search.untold));
        ended?;
        Ok(report)
    }
}

/// What a search for drops cannot see in segments that it has passed over.
fn untold(segments: u64) -> Option<String> {
    let of = match segments {
        0 => return None,
        1 => "1 segment that was archived by an earlier version does".to_owned(),
        n => format!("{n} segments that were archived by an earlier version do"),
    };
    Some(format!(
        "the summaries of {of} not tell whether a tablespace was dropped there (no table goes with one): `highwater log` without --drops reads them"
    ))
}

/// One search through the WAL, from its end to its beginning.
struct Search<'a> {
    catalog: &'a mut Catalog,
    cluster: ClusterRepository,
    path: &'a Path,
    filter: &'a LogFilter,
    stock: &'a Stock,
    names: LogNames,
    joined: Backwards,
    /// Heads of the segments around the place of the search; `None` for a damaged one.
    heads: BTreeMap<u64, Option<Arc<WalHead>>>,
    behind: Option<Beginning>,
    buffers: Buffers,
    /// Damaged segments: a block ends with one at most.
    walls: BTreeSet<u64>,
    /// The first and last of segments that were found gone and are not told yet.
    gone: Option<(u64, u64)>,
    /// What was read again for the sake of what was dropped.
    explained: Option<Explained>,
    explained_bytes: u64,
    origins: Origins,
    moved: Moved,
    progress: LogProgress,
    damaged: u64,
    holes: u64,
    /// Segments that were passed over although their summaries do not tell of dropped tablespaces.
    untold: u64,
}

impl<'a> Search<'a> {
    fn new(
        catalog: &'a mut Catalog,
        path: &'a Path,
        query: &'a LogQuery,
        names: LogNames,
        stock: &'a Stock,
    ) -> Search<'a> {
        Search {
            cluster: catalog.cluster().clone(),
            catalog,
            path,
            filter: &query.filter,
            stock,
            names,
            joined: Backwards::default(),
            heads: BTreeMap::new(),
            behind: None,
            buffers: Buffers::default(),
            walls: BTreeSet::new(),
            gone: None,
            explained: None,
            explained_bytes: 0,
            origins: Origins::default(),
            moved: Moved::default(),
            progress: LogProgress::default(),
            damaged: 0,
            holes: 0,
            untold: 0,
        }
    }

    fn size(&self) -> u64 {
        self.catalog.inventory().segment_size.bytes()
    }

    /// The numbers of the segments in which what was asked for can end.
    fn range(&self) -> (u64, u64) {
        let size = self.size();
        let first = self.filter.from.map_or(0, |lsn| lsn.0 / size);
        let last = self.filter.to.map_or(u64::MAX, |lsn| lsn.0.saturating_sub(1) / size);
        (first, last)
    }

    async fn run(&mut self, sink: &mut dyn LogSink) -> Result<(), Error> {
        let (lowest, highest) = self.range();
        let inside = |run: &RangeInclusive<u64>| {
            let (first, last) = ((*run.start()).max(lowest), (*run.end()).min(highest));
            (last + 1).saturating_sub(first)
        };
        self.progress.of_segments = self.stock.runs.iter().map(inside).sum();
        let runs = &self.stock.runs;
        if self.lost_end(highest, sink).is_break() {
            return Ok(());
        }
        for (index, run) in runs.iter().enumerate().rev() {
            if *run.end() < lowest {
                break;
            }
            if *run.start() > highest {
                continue;
            }
            if self.through(run, sink).await?.is_break() {
                return Ok(());
            }
            if let Some(older) = index.checked_sub(1).map(|index| &runs[index])
                && *run.start() > lowest
                && self.hole(self.stock.missing_behind(older), *run.start() - 1, sink).is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tells of what was there behind the end of the newest timeline, and is not any more.
    fn lost_end(&mut self, highest: u64, sink: &mut dyn LogSink) -> ControlFlow<()> {
        let inventory = self.catalog.inventory();
        let size = inventory.segment_size;
        let Some(lost) = inventory.lost_end(self.path.timeline()) else { return ControlFlow::Continue(()) };
        let name = |lsn: Lsn| SegmentName::containing(self.path.timeline(), lsn, size);
        let (first, last) = (name(lost.reached), name(Lsn(lost.known.0.saturating_sub(1))));
        if first.number(size) > highest {
            return ControlFlow::Continue(());
        }
        let from = (first.start(size) != lost.reached).then_some(lost.reached);
        let hole = Hole::of(first, last, last.number(size).saturating_sub(first.number(size)) + 1);
        self.holes += 1;
        sink.item(LogItem::Hole(Hole { from, was_there_until: Some(lost.known), ..hole }))
    }

    /// Tells of segments that were found gone, once it is known how many are.
    fn tell_gone(&mut self, sink: &mut dyn LogSink) -> ControlFlow<()> {
        match self.gone.take() {
            Some((first, last)) => self.hole(first, last, sink),
            None => ControlFlow::Continue(()),
        }
    }

    fn hole(&mut self, first: u64, last: u64, sink: &mut dyn LogSink) -> ControlFlow<()> {
        self.holes += 1;
        let size = self.catalog.inventory().segment_size;
        let name = |number| self.path.segment(number, size);
        let from =
            first.checked_sub(1).and_then(|before| self.catalog.inventory().unfinished_end(name(before)));
        let first = first - u64::from(from.is_some());
        let hole = Hole::of(name(first), name(last.max(first)), last.max(first) - first + 1);
        sink.item(LogItem::Hole(Hole { from, ..hole }))
    }

    /// Goes through one unbroken run.
    async fn through(
        &mut self,
        run: &RangeInclusive<u64>,
        sink: &mut dyn LogSink,
    ) -> Result<ControlFlow<()>, Error> {
        let (lowest, highest) = self.range();
        // The number behind the segment that comes next.
        let mut left = (*run.end()).min(highest) + 1;
        let mut length = 1;
        while left > *run.start() {
            let last = left - 1;
            if !self.waits() && last < lowest {
                break;
            }
            if !self.waits() && !self.may_hold(last, run).await? {
                self.note_untold(last);
                self.passed(last, 1, sink);
                (left, length) = (last, 1);
                continue;
            }
            let first = self.block_up_to(last, length, run).await?;
            let Some(read) = self.block(first, last, run).await? else { continue };
            self.progress.segments_read += last - first + 1;
            self.passed(first, last - first + 1, sink);
            if self.take(read, first >= lowest, sink).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            (left, length) = (first, (length * 2).min(MAX_STRETCH));
            let too_far = Lsn(left.saturating_mul(self.size())) + MAX_LOOK_BACK_BYTES;
            if self.let_go(too_far, sink).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        // What lies in front of the run is not there: nothing more will be known.
        self.behind = None;
        if self.let_go(Lsn::INVALID, sink).await?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        Ok(self.tell_gone(sink))
    }

    /// Counts a segment that is passed over although its summary does not tell all.
    fn note_untold(&mut self, number: u64) {
        let summary = self.heads.get(&number).and_then(|head| head.as_ref()?.summary.as_ref());
        self.untold += u64::from(summary.is_some_and(|summary| self.filter.may_miss_tablespaces(summary)));
    }

    /// Whether something waits for what lies further back.
    fn waits(&self) -> bool {
        self.joined.waiting_since().is_some()
    }

    /// The first segment of the block that ends with `last`.
    async fn block_up_to(&mut self, last: u64, length: u64, run: &RangeInclusive<u64>) -> Result<u64, Error> {
        let (lowest, _) = self.range();
        let mut first = last;
        while first > *run.start() && last - first + 1 < length && !self.walls.contains(&(first - 1)) {
            // What waits needs the next segment whatever is in it.
            let is_wanted = self.waits() || first > lowest && self.may_hold(first - 1, run).await?;
            if !is_wanted {
                break;
            }
            first -= 1;
        }
        Ok(first)
    }

    /// Reads a block of segments. `None` where there is damage inside it: then it is known where, and blocks end there.
    async fn block(
        &mut self,
        first: u64,
        last: u64,
        run: &RangeInclusive<u64>,
    ) -> Result<Option<ReadStretch>, Error> {
        let behind = self.behind.take();
        let size = self.catalog.inventory().segment_size;
        self.names.turn_to(self.path.segment(last, size).end(size)).await?;
        self.ask_names_for_catalogs();
        let read = self.reader().stretch(first, last, behind, *run.end()).await?;
        self.has_read(read.bytes, &read.places, &read.mapped);
        match &read.broken {
            // Newest first: what lies behind the damage comes before what lies in front of it.
            Some(broken) if broken.number < last => {
                self.walls.insert(broken.number);
                Ok(None)
            }
            _ => Ok(Some(read)),
        }
    }

    /// Reads with what is known by now of where the catalogs lie.
    fn reader(&self) -> Reader<'_> {
        Reader {
            cluster: &self.cluster,
            path: self.path,
            size: self.catalog.inventory().segment_size,
            feed: Feed { path: self.path, filter: self.filter },
            buffers: &self.buffers,
            places: &self.moved.known,
            stock: self.stock,
        }
    }

    /// Counts what was read, and takes what it tells of where the catalogs lie; whether that is news.
    fn has_read(&mut self, bytes: u64, places: &[CatalogPlace], mapped: &[MappedFile]) -> bool {
        self.progress.bytes_read += bytes;
        self.names.learn_mapped(mapped);
        self.moved.learn(places.iter().copied())
    }

    /// Takes what a block holds; one that is not inside the range was read for what ended in it only.
    async fn take(
        &mut self,
        read: ReadStretch,
        is_inside: bool,
        sink: &mut dyn LogSink,
    ) -> Result<ControlFlow<()>, Error> {
        let ReadStretch { mut stretch, beginning, broken, seen, .. } = read;
        self.behind = beginning;
        match broken {
            // Its index object speaks of it still.
            Some(Broken { number, is_missing: true, .. }) => {
                if self.let_go(Lsn::INVALID, sink).await?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                match &mut self.gone {
                    Some((first, _)) if *first == number + 1 => *first = number,
                    gone => {
                        if let Some((first, last)) = gone.replace((number, number))
                            && self.hole(first, last, sink).is_break()
                        {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                }
            }
            Some(Broken { segment, object, reason, .. }) => {
                self.damaged += 1;
                // What began in front of the damage and ended behind it is known by half.
                if self.let_go(Lsn::INVALID, sink).await?.is_break()
                    || self.tell_gone(sink).is_break()
                    || sink.item(LogItem::Damaged { segment, object, reason }).is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
            None if self.tell_gone(sink).is_break() => return Ok(ControlFlow::Break(())),
            None => {}
        }
        self.names.learn(&stretch.ends, seen);
        let written = LogItem::Written(std::mem::take(&mut stretch.written), stretch.written_behind);
        self.joined.add(stretch);
        Ok(if is_inside { sink.item(written) } else { ControlFlow::Continue(()) })
    }

    /// Lets go what is whole, and what lies at or behind `too_far`, whole or not.
    async fn let_go(&mut self, too_far: Lsn, sink: &mut dyn LogSink) -> Result<ControlFlow<()>, Error> {
        while let Some(mut end) = self.joined.next().or_else(|| self.joined.give_up(too_far)) {
            self.names.turn_to(end.lsn).await?;
            self.explain(&mut end).await?;
            self.find_origins(&end).await?;
            let line = describe(&end, &self.names, self.filter.all_relations);
            if self.filter.wants(&line) && sink.item(LogItem::Line(Box::new(line))).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn passed(&mut self, number: u64, count: u64, sink: &mut dyn LogSink) {
        self.progress.segments = (self.progress.segments + count).min(self.progress.of_segments);
        self.progress.at = Some(self.path.segment(number, self.catalog.inventory().segment_size));
        sink.progress(&self.progress);
    }
}
