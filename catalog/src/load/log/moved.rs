//! Where `pg_class` and `pg_namespace` lie. `VACUUM FULL` and `CLUSTER` move them, and then rows with names are in a file that nothing but
//! the relation map tells, which is in the WAL just once. Names that were taken know the file, too.
//!
//! A file's number is given once, so what was found anywhere on a path is told for all of it.

use std::collections::BTreeSet;

use highwater_repository::Error;
use highwater_wal::{CatalogPlace, Lsn, RelationFile, Summary};

use super::Search;
use super::skim::HEADS_AT_ONCE;
use crate::NamesAt;
use crate::log::End;

/// Summaries that are looked through in one search of the log for moves.
const MAX_SUMMARIES: u64 = 200_000;

/// Segments that are read in one search of the log for moves.
const MAX_SEGMENTS: u64 = 512;

/// Numbers below are those of relations that `initdb` made (`FirstNormalObjectId`, transam.h).
const FIRST_NORMAL_OID: u32 = 16384;

/// Where catalogs were found to lie, and where that was looked for.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub known: BTreeSet<CatalogPlace>,
    /// The first and last number of each stretch whose summaries were looked through.
    searched: Vec<(u64, u64)>,
    /// The names that were asked.
    asked: BTreeSet<NamesAt>,
    summaries: u64,
    segments: u64,
}

impl Moved {
    /// Takes over what was found; answers whether that is news.
    pub fn learn(&mut self, places: impl IntoIterator<Item = CatalogPlace>) -> bool {
        let before = self.known.len();
        self.known.extend(places);
        self.known.len() > before
    }

    /// Whether a catalog may have moved in a segment: with the file that it leaves, its old one is dropped.
    fn may_move_in(&self, summary: &Summary, next: Option<&Summary>) -> bool {
        let is_catalogs = |database: u32, file: u32| {
            CatalogPlace::is_initial(file)
                || self.known.iter().any(|place| (place.database, place.file) == (database, file))
        };
        summary.left_out > 0
            || summary
                .dropped
                .iter()
                .any(|dropped| !dropped.truncated && is_catalogs(dropped.database, dropped.relation))
            || next.is_some_and(|next| summary.hides_files(next))
    }
}

impl Search<'_> {
    /// Asks the names that were taken next to the place of the search where catalogs lie.
    pub(super) fn ask_names_for_catalogs(&mut self) {
        let mut found = Vec::new();
        for table in self.names.tables() {
            if self.moved.asked.insert(table.at) {
                found.extend(table.catalog_places());
            }
        }
        self.moved.learn(found);
    }

    /// Whether a transaction made or dropped files and nothing that it wrote into `pg_class` was seen, although it must have.
    pub(super) fn is_unfollowed(end: &End) -> bool {
        let of_users = |file: &RelationFile| file.relation >= FIRST_NORMAL_OID && file.database != 0;
        end.committed
            && !end.deeds.has_class_rows
            && end.deeds.databases_created.is_empty()
            && end.deeds.databases_dropped.is_empty()
            && end.deeds.created.iter().chain(&end.dropped).any(of_users)
    }

    /// Looks for moves of catalogs between the names that were taken before a place and that place; answers whether it found any that
    /// were not known.
    pub(super) async fn find_moves(&mut self, at: Lsn) -> Result<bool, Error> {
        let size = self.size();
        let last = at.0 / size;
        let is_known = |&(from, to): &(u64, u64)| (from..=to).contains(&last);
        let Some(run) = self.stock.runs.iter().find(|run| run.contains(&last)).cloned() else {
            return Ok(false);
        };
        if self.moved.searched.iter().any(is_known) {
            return Ok(false);
        }
        let taken_before = self.names.taken_before(at).map_or(0, |lsn| lsn.0 / size);
        let first = taken_before.max(*run.start());
        self.moved.searched.push((first, last));
        let mut is_news = false;
        // Forwards: each move tells the file that the next one drops.
        let mut from = first;
        while from <= last && self.moved.summaries < MAX_SUMMARIES {
            let upto = last.min(from + HEADS_AT_ONCE - 1);
            let heads = self.heads_between(from, (upto + 1).min(*run.end())).await?;
            let summary = |number: u64| heads.get(&number)?.as_ref()?.summary.as_ref();
            for number in from..=upto {
                self.moved.summaries += 1;
                let Some(here) = summary(number) else { continue };
                if self.moved.segments < MAX_SEGMENTS && self.moved.may_move_in(here, summary(number + 1)) {
                    is_news |= self.read_moves(number, *run.start(), *run.end()).await?;
                }
            }
            from = upto + 1;
        }
        Ok(is_news)
    }

    /// Reads a segment in which a catalog may have moved. The relation map is written right before the commit, perhaps in the segment
    /// before.
    async fn read_moves(&mut self, number: u64, run_start: u64, run_end: u64) -> Result<bool, Error> {
        let read = self.reader().classes(number.saturating_sub(1).max(run_start), number, run_end).await?;
        self.moved.segments += 3;
        Ok(self.has_read(read.bytes, &read.places, &read.mapped))
    }
}
