//! Names of tables that were made after the latest names were taken: the summaries tell in which segment a file was made, and close behind
//! that its row is written into `pg_class`.

use std::collections::BTreeSet;

use highwater_repository::Error;
use highwater_wal::{Lsn, RelationFile};

use super::Search;
use crate::log::{End, Named, Namer};

/// Numbers below are those of relations that `initdb` made, whose names are taken with the first backup (`FirstNormalObjectId`, transam.h).
const FIRST_NORMAL_OID: u32 = 16384;

/// Summaries that are looked through in one search of the log for the sake of names.
const MAX_SUMMARIES: u64 = 200_000;

/// Segments that are read in one search of the log for the sake of names.
const MAX_SEGMENTS: u64 = 512;

/// Files whose names were looked for in vain that are remembered.
const MAX_IN_VAIN: usize = 100_000;

/// What was done so far for the sake of names.
#[derive(Debug, Default)]
pub(super) struct Origins {
    summaries: u64,
    segments: u64,
    in_vain: BTreeSet<RelationFile>,
}

impl Search<'_> {
    /// Looks for the names of the relations that a transaction has changed, where they are not known.
    pub(super) async fn find_origins(&mut self, end: &End) -> Result<(), Error> {
        let mut wanted: BTreeSet<RelationFile> = end
            .deeds
            .rows()
            .iter()
            .map(|counted| counted.file)
            .filter(|file| self.is_nameless(*file, end))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let size = self.size();
        let taken_before = self.names.taken_before(end.lsn).map_or(0, |lsn| lsn.0 / size);
        let mut number = end.lsn.0 / size;
        let Some(run) = self.stock.runs.iter().find(|run| run.contains(&number)).cloned() else {
            return Ok(());
        };
        while !wanted.is_empty()
            && self.origins.summaries < MAX_SUMMARIES
            && self.origins.segments < MAX_SEGMENTS
        {
            self.origins.summaries += 1;
            if self.is_origin_in(number, &run, &wanted).await? {
                let before = wanted.len();
                self.read_origin(number, *run.end()).await?;
                wanted.retain(|file| matches!(self.names.file(*file, end.lsn), Named::Unknown(_)));
                // The row was there to be read, if it was known where.
                if wanted.len() == before && self.find_moves(Lsn(number.saturating_mul(size))).await? {
                    self.read_origin(number, *run.end()).await?;
                    wanted.retain(|file| matches!(self.names.file(*file, end.lsn), Named::Unknown(_)));
                    // It has read other heads.
                    self.heads.clear();
                }
                // A rewritten relation's row has only what changed; the rest is on its page.
                if wanted.len() == before {
                    self.read_origin_whole(Lsn(number.saturating_mul(size))).await?;
                    wanted.retain(|file| matches!(self.names.file(*file, end.lsn), Named::Unknown(_)));
                }
            }
            match number.checked_sub(1).filter(|before| *before >= taken_before && before >= run.start()) {
                Some(before) => number = before,
                None => break,
            }
        }
        if self.origins.in_vain.len() < MAX_IN_VAIN {
            self.origins.in_vain.extend(wanted);
        }
        Ok(())
    }

    fn is_nameless(&self, file: RelationFile, end: &End) -> bool {
        file.relation >= FIRST_NORMAL_OID
            && !self.origins.in_vain.contains(&file)
            && !end.deeds.classes.iter().any(|class| class.file == Some(file))
            && matches!(self.names.file(file, end.lsn), Named::Unknown(_))
    }

    /// Whether one of these files was made in a segment, by its summary.
    async fn is_origin_in(
        &mut self,
        number: u64,
        run: &std::ops::RangeInclusive<u64>,
        wanted: &BTreeSet<RelationFile>,
    ) -> Result<bool, Error> {
        self.read_heads(number, run).await?;
        let summary = |number: u64| self.heads.get(&number)?.as_ref()?.summary.as_ref();
        let Some(here) = summary(number) else { return Ok(false) };
        let is_wanted = |made: &highwater_wal::Created| {
            let (tablespace, database, relation) = (made.tablespace, made.database, made.relation);
            wanted.contains(&RelationFile { tablespace, database, relation })
        };
        let next = Some(number + 1).filter(|next| run.contains(next)).and_then(summary);
        Ok(here.created.iter().any(is_wanted) || next.is_some_and(|next| here.hides_files(next)))
    }

    /// Reads what was written into `pg_class` in a segment from the checkpoint before it on.
    async fn read_origin_whole(&mut self, start: Lsn) -> Result<(), Error> {
        let before = self.progress.bytes_read;
        let last = Lsn(start.0.saturating_add(self.size() - 1));
        let read = self.read_again(start, last).await?;
        self.origins.segments += (self.progress.bytes_read - before).div_ceil(self.size());
        for class in read.into_iter().flat_map(|read| read.by_xid.into_values()).flatten() {
            self.names.remember(class.lsn, class);
        }
        Ok(())
    }

    async fn read_origin(&mut self, number: u64, run_end: u64) -> Result<(), Error> {
        // The row in pg_class follows closely, and may lie in the next segment, which is read as well.
        let read = self.reader().classes(number, number, run_end).await?;
        self.origins.segments += 2;
        self.has_read(read.bytes, &read.places, &read.mapped);
        self.names.learn(&[], read.seen);
        for (_, class) in read.classes {
            self.names.remember(class.lsn, class);
        }
        Ok(())
    }
}

impl super::names::LogNames {
    /// Where the names were taken that lie nearest before a place.
    pub(super) fn taken_before(&self, lsn: Lsn) -> Option<Lsn> {
        self.taken().map(|at| at.lsn).filter(|at| *at <= lsn).max()
    }
}
