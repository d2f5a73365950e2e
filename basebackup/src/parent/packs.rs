//! Which of the packs that a parent's manifest names are still there: nothing is taken over from one that is gone (R9).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use highwater_repository::{Backups, ExtentRef, Label, PackId};

use crate::{Error, Result};

/// A pack's name, and how many bytes of it can be read.
const RECORD_BYTES: usize = 16 + 8;
/// How many packs are looked at at the same time, where looking takes a request.
const AT_A_TIME: usize = 16;
/// Pages of the listing that are read at most.
const MAX_PAGES: usize = 100_000;
/// How many packs that lack something are remembered by name.
const NAMED: usize = 100;

/// The packs of a section as they are listed, in a temporary file: however many there are, memory stays small (R11).
pub(super) struct Packs {
    /// In the order of the names, as stores list them.
    records: File,
    count: u64,
    /// What was found last: extents of one file lie side by side.
    last: Option<(PackId, Option<u64>)>,
    lacking: Lacking,
}

/// What of the parent cannot be taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// The packs, the first of them.
    pub(crate) packs: BTreeSet<PackId>,
    /// Bytes of files that lie in them.
    pub(crate) bytes: u64,
}

impl Packs {
    /// Lists the packs of the section. The list lies, without a name, below `folder`.
    pub(super) async fn list(backups: &Backups, folder: &Path) -> Result<Packs> {
        let mut records = BufWriter::new(tempfile::tempfile_in(folder)?);
        let (mut count, mut after) = (0, None);
        for _ in 0..MAX_PAGES {
            let page = backups.packs(after.as_deref()).await?;
            let looks = stream::iter(page.packs)
                .map(|pack| async move { Ok::<_, Error>((pack.id, backups.readable_bytes(pack).await?)) })
                .buffered(AT_A_TIME);
            let mut looks = std::pin::pin!(looks);
            while let Some((id, readable)) = looks.try_next().await? {
                records.write_all(&id.to_bytes())?;
                records.write_all(&readable.to_le_bytes())?;
                count += 1;
            }
            after = page.next;
            if after.is_none() {
                let records = records.into_inner().map_err(|error| error.into_error())?;
                return Ok(Packs { records, count, last: None, lacking: Lacking::default() });
            }
        }
        Err(backups.endless_packs().into())
    }

    /// Whether the extent's pack is there and long enough.
    pub(super) fn hold(&mut self, extent: &ExtentRef) -> io::Result<bool> {
        let readable = match self.last {
            Some((id, readable)) if id == extent.pack => readable,
            _ => {
                let readable = self.find(extent.pack)?;
                self.last = Some((extent.pack, readable));
                readable
            }
        };
        let end = extent.offset.saturating_add(u64::from(extent.stored));
        let holds = readable.is_some_and(|readable| end <= readable);
        if !holds {
            self.lacking.bytes += u64::from(extent.length);
            if self.lacking.packs.len() < NAMED {
                self.lacking.packs.insert(extent.pack);
            }
        }
        Ok(holds)
    }

    pub(super) fn into_lacking(self) -> Lacking {
        self.lacking
    }

    /// Searches the list. In a store that does not list in order something may not be found, and is stored anew.
    fn find(&self, id: PackId) -> io::Result<Option<u64>> {
        let (mut from, mut to) = (0, self.count);
        while from < to {
            let middle = from + (to - from) / 2;
            let (found, readable) = self.read(middle)?;
            match found.cmp(&id) {
                std::cmp::Ordering::Equal => return Ok(Some(readable)),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(None)
    }

    fn read(&self, number: u64) -> io::Result<(PackId, u64)> {
        let (mut id, mut bytes) = ([0; 16], [0; 8]);
        let place = number * RECORD_BYTES as u64;
        self.records.read_exact_at(&mut id, place)?;
        self.records.read_exact_at(&mut bytes, place + id.len() as u64)?;
        Ok((PackId::from_bytes(id), u64::from_le_bytes(bytes)))
    }
}

/// How many packs a note names.
const TOLD: usize = 5;

impl Lacking {
    /// What the user should know, where anything is lacking.
    pub(crate) fn note(&self, parent: &Label) -> Option<String> {
        if self.packs.is_empty() {
            return None;
        }
        let names: Vec<String> = self.packs.iter().take(TOLD).map(ToString::to_string).collect();
        let more = match self.packs.len() {
            NAMED.. => " and many more".to_owned(),
            count if count > TOLD => format!(" and {} more", count - TOLD),
            _ => String::new(),
        };
        Some(format!(
            "packs that backup {parent} relies on are missing or cut short, so that neither it nor any other backup that names \
             them can be restored whole: {}{more}; the {} MiB that they held are stored anew",
            names.join(", "),
            self.bytes.div_ceil(1 << 20)
        ))
    }
}
