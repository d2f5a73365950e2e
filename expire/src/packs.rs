//! Which manifests name which packs.
//!
//! The packs are listed before the backups are: a pack in the list belongs to a backup that is in the list of backups, or was
//! there and has gone. 24 bytes of memory a pack and 8 more for each 64 backups: some 20 MiB for ten terabytes in the repository.

use highwater_repository::{Backups, Item, Label, ManifestHead, ManifestReader, PackId, Run, StoredPack};

use crate::Result;

/// Pages of the listing that are read at most.
const MAX_PAGES: usize = 100_000;
/// How many missing packs are named.
const NAMED: usize = 3;

/// The packs of a section, and who names them.
#[derive(Debug)]
pub(crate) struct Packs {
    /// In the order of their names.
    packs: Vec<StoredPack>,
    /// For each pack a bit for each backup.
    users: Vec<u64>,
    words: usize,
    /// The backups whose manifests were read: the place of each is its bit.
    labels: Vec<String>,
}

impl Packs {
    /// Lists the packs.
    pub(crate) async fn list(backups: &Backups) -> Result<Packs> {
        let mut packs = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page = backups.packs(after.as_deref()).await?;
            packs.extend(page.packs);
            after = page.next;
            if after.is_none() {
                packs.sort_unstable_by_key(|pack| pack.id);
                return Ok(Packs { packs, users: Vec::new(), words: 0, labels: Vec::new() });
            }
        }
        Err(backups.endless_packs().into())
    }

    /// Makes room for the packs that so many backups name.
    pub(crate) fn expect(&mut self, backups: usize) {
        self.words = backups.div_ceil(64);
        self.users = vec![0; self.words * self.packs.len()];
    }

    /// Reads a manifest; answers which backup it is of, and what is wrong with the packs that it names, if anything is.
    ///
    /// # Errors
    /// Those of reading it: damage among them, after which nobody can say which packs it names.
    pub(crate) async fn read(
        &mut self,
        backups: &Backups,
        label: &Label,
    ) -> Result<(ManifestHead, Option<String>)> {
        let bit = self.labels.len();
        self.labels.push(label.to_string());
        let mut manifest = ManifestReader::open(backups, label).await?;
        let mut lacking: Vec<PackId> = Vec::new();
        let mut count = 0_u64;
        let mut last: Option<(PackId, Option<usize>)> = None;
        while let Some(item) = manifest.next().await? {
            let Item::Runs(runs) = item else { continue };
            for extent in runs.iter().flat_map(|run| match run {
                Run::Extents(extents) => extents.as_slice(),
                Run::Zeros(_) => &[],
            }) {
                let place = match last {
                    Some((id, place)) if id == extent.pack => place,
                    _ => self.packs.binary_search_by_key(&extent.pack, |pack| pack.id).ok(),
                };
                last = Some((extent.pack, place));
                let end = extent.offset.saturating_add(u64::from(extent.stored));
                match place {
                    Some(place) if end <= self.packs[place].stored_bytes => {
                        self.users[place * self.words + bit / 64] |= 1 << (bit % 64);
                    }
                    _ if lacking.contains(&extent.pack) => {}
                    _ => {
                        count += 1;
                        if lacking.len() < NAMED {
                            lacking.push(extent.pack);
                        }
                    }
                }
            }
        }
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        let more = if count > NAMED as u64 { " and others" } else { "" };
        let defect = (!names.is_empty())
            .then(|| format!("packs that it names are missing or cut short: {}{more}", names.join(", ")));
        Ok((manifest.head().clone(), defect))
    }

    /// The packs that none of the backups names that stay, but for those that may belong to somebody else.
    ///
    /// `goes` says which backups are removed. A pack that nobody names is the rest of a removal that was cut off, of a backup that was
    /// given up, or of one that is being made: `with_unnamed` says whether it can be neither of the last.
    pub(crate) fn free(&self, goes: impl Fn(&str) -> bool, with_unnamed: bool) -> Vec<StoredPack> {
        let mut staying = vec![0_u64; self.words];
        for (bit, _) in self.labels.iter().enumerate().filter(|(_, label)| !goes(label)) {
            staying[bit / 64] |= 1 << (bit % 64);
        }
        let is_free = |place: usize| {
            let users = &self.users[place * self.words..][..self.words];
            let is_named = users.iter().any(|word| *word != 0);
            let stays = users.iter().zip(&staying).any(|(users, staying)| users & staying != 0);
            if is_named { !stays } else { with_unnamed }
        };
        self.packs.iter().enumerate().filter(|(place, _)| is_free(*place)).map(|(_, pack)| *pack).collect()
    }
}
