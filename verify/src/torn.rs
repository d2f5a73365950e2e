//! Whether recovery writes a page anew whose checksum is wrong in a backup.
//!
//! A server that is being backed up goes on writing, so a page can be sent half old and half new. Every such page is in the WAL
//! between the backup's start and its stop: while a backup runs, the first record that changes a page holds all of it
//! (`full_page_writes`) or makes it anew. What no record there touches was sent as it lay on the disk.

use std::collections::{HashMap, HashSet};

use highwater_wal::{Kind, Records, RelationFile, SegmentName, WalFile, rmgr};

use crate::backups::Whole;
use crate::blame::PageOf;
use crate::error::Result;
use crate::run::Run;
use crate::verdict::verdict;

/// Pages that are looked for in the WAL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Whether each is written anew.
    pages: HashMap<(RelationFile, u8, u32), bool>,
    relations: HashSet<RelationFile>,
    /// Relations that vanish, or are cut to nothing.
    dropped: HashSet<RelationFile>,
    /// Whether whole databases were made or dropped meanwhile: what is in them is not looked into.
    is_unclear: bool,
}

impl Wanted {
    pub(crate) fn of(pages: &[PageOf]) -> Wanted {
        let place = |page: &PageOf| (page.part.file, page.part.fork, page.block);
        Wanted {
            pages: pages.iter().map(|page| (place(page), false)).collect(),
            relations: pages.iter().map(|page| page.part.file).collect(),
            ..Wanted::default()
        }
    }

    pub(crate) fn is_repaired(&self, page: &PageOf) -> bool {
        self.dropped.contains(&page.part.file)
            || self.pages.get(&(page.part.file, page.part.fork, page.block)).is_some_and(|repaired| *repaired)
    }

    /// Takes note of a record.
    fn look(&mut self, record: &highwater_wal::RawRecord<'_>) {
        if record.header.rmgr == rmgr::DATABASE {
            self.is_unclear = true;
        }
        if let Some(parts) = record.parts() {
            for block in parts.blocks().filter(|block| self.relations.contains(&block.relation)) {
                if let Some(repaired) = self.pages.get_mut(&(block.relation, block.fork, block.block)) {
                    *repaired = true;
                }
            }
        }
        match record.kind() {
            Some(Kind::Commit(finished) | Kind::Abort(finished)) => self.dropped.extend(finished.dropped),
            Some(Kind::StorageTruncate { relation, blocks: 0, .. }) => drop(self.dropped.insert(relation)),
            _ => {}
        }
    }
}

impl Run<'_> {
    /// Reads the WAL from a backup's start to its stop. `false` where it could not be read to its end, or does not tell.
    pub(crate) async fn replayed(&mut self, backup: &Whole, wanted: &mut Wanted) -> Result<bool> {
        let size = self.there.inventory.segment_size;
        let Some(path) = self.there.inventory.path(backup.facts.timeline) else { return Ok(false) };
        let last = SegmentName::ending_at(backup.facts.timeline, backup.facts.stop, size).number(size);
        let mut records = Records::new(size, Some(self.cluster.system_id()));
        for number in backup.start.0 / size.bytes()..=last {
            let name = path.segment(number, size);
            let object = match self.cluster.get_wal(WalFile::Segment(name)).await {
                Ok(object) => object,
                Err(error) => {
                    verdict(error)?;
                    return Ok(false);
                }
            };
            if records.push_segment(name, object.bytes).is_err() {
                return Ok(false);
            }
            while let Some(record) = records.next_raw() {
                let Ok(record) = record else { return Ok(false) };
                if record.lsn >= backup.start && record.lsn < backup.facts.stop {
                    wanted.look(&record);
                }
            }
        }
        Ok(!wanted.is_unclear)
    }
}
