//! Who needs what is bad: manifests are read once more, where anything was found.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use highwater_repository::{Item, ManifestReader, PackId};
use highwater_wal::Lsn;

use crate::backups::Whole;
use crate::error::Result;
use crate::finding::Finding;
use crate::named::Place;
use crate::relation::{RelationPart, relation_part};
use crate::run::Run;
use crate::torn::Wanted;
use crate::verdict::verdict;

/// As many files are named for each thing that is bad.
const MOST_FILES: usize = 3;
/// Fork number of free space maps, which PostgreSQL makes anew where they are damaged.
const FREE_SPACE_MAP: u8 = 1;

/// Something bad in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) pack: PackId,
    /// Where; nothing where all of the pack is bad.
    pub(crate) offset: Option<u64>,
    pub(crate) is_missing: bool,
    pub(crate) what: String,
}

impl Trouble {
    pub(crate) fn missing(pack: PackId) -> Trouble {
        let what = "it is missing".to_owned();
        Trouble { pack, offset: None, is_missing: true, what }
    }

    pub(crate) fn of(pack: PackId, offset: Option<u64>, what: String) -> Trouble {
        Trouble { pack, offset, is_missing: false, what }
    }
}

/// A page with a wrong checksum, in an extent that is as it was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPage {
    pub(crate) pack: PackId,
    pub(crate) offset: u64,
    /// The block that the extent's first page is.
    pub(crate) first_block: u32,
    /// Which page of the extent it is.
    pub(crate) number: u32,
    /// Where it was changed last, as it says.
    pub(crate) lsn: Lsn,
}

/// A page of a backup's file with a wrong checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageOf {
    pub(crate) path: String,
    pub(crate) part: RelationPart,
    pub(crate) block: u32,
    pub(crate) pack: PackId,
}

/// Who names something bad.
#[derive(Clone, Debug, Default)]
struct Named {
    backups: BTreeSet<String>,
    /// Backups that are about to be removed.
    expired: BTreeSet<String>,
    files: Vec<String>,
}

impl Run<'_> {
    /// Finds out who needs what is bad, and tells.
    pub(crate) async fn blame(&mut self) -> Result<()> {
        if self.troubles.is_empty() && self.bad_pages.is_empty() {
            return Ok(());
        }
        let troubles = std::mem::take(&mut self.troubles);
        let mut by_pack: HashMap<PackId, Vec<usize>> = HashMap::new();
        for (number, trouble) in troubles.iter().enumerate() {
            by_pack.entry(trouble.pack).or_default().push(number);
        }
        let mut by_place: HashMap<(PackId, u64), Vec<BadPage>> = HashMap::new();
        for page in std::mem::take(&mut self.bad_pages) {
            by_place.entry((page.pack, page.offset)).or_default().push(page);
        }
        let mut named = vec![Named::default(); troubles.len()];
        for backup in self.whole.clone() {
            if !backup.is_read {
                continue;
            }
            let expired = backup.expired || self.cluster.backups().is_expired(&backup.label).await?;
            let mut pages = Vec::new();
            let read = self.look_for(
                &backup,
                &troubles,
                &by_pack,
                &by_place,
                |number, path| {
                    let named: &mut Named = &mut named[number];
                    let set = if expired { &mut named.expired } else { &mut named.backups };
                    set.insert(backup.label.to_string());
                    let file = format!("{path} of {}", backup.label);
                    if named.files.len() < MOST_FILES && !named.files.contains(&file) {
                        named.files.push(file);
                    }
                },
                &mut pages,
            );
            match read.await {
                Ok(()) => self.bad_pages_of(&backup, pages).await?,
                // It was removed meanwhile, or is damaged, which was told already.
                Err(error) => drop(verdict(error)?),
            }
        }
        self.tell(troubles, named).await
    }

    async fn tell(&mut self, troubles: Vec<Trouble>, named: Vec<Named>) -> Result<()> {
        for (trouble, named) in troubles.into_iter().zip(named) {
            let key = self.cluster.section().pack(trouble.pack);
            let is_back = trouble.is_missing && self.is_there(&key).await?;
            if is_back {
                continue;
            }
            if named.backups.is_empty() && named.expired.is_empty() && trouble.is_missing {
                // What named it was removed meanwhile.
                continue;
            }
            let files = match named.files.is_empty() {
                true => String::new(),
                false => format!("; in it are parts of {}", named.files.join(", ")),
            };
            let what = format!("{}{files}", trouble.what);
            // A mark can be taken back.
            named.expired.iter().for_each(|label| self.findings.blame(label, key.as_str(), &what));
            let finding = match (named.backups.is_empty(), named.expired.is_empty()) {
                // An extent that nobody names, in a pack that somebody does.
                (true, true) | (false, _) => Finding::damage(key, what),
                (true, false) => Finding::note(key, format!("{what}; only backups that are expired need it")),
            };
            self.findings.push(finding.needed_by(named.backups));
        }
        Ok(())
    }

    /// Reads a manifest and tells which of the troubles it names, with the file, and its bad pages.
    async fn look_for(
        &self,
        backup: &Whole,
        troubles: &[Trouble],
        by_pack: &HashMap<PackId, Vec<usize>>,
        by_place: &HashMap<(PackId, u64), Vec<BadPage>>,
        mut found: impl FnMut(usize, &str),
        pages: &mut Vec<PageOf>,
    ) -> highwater_repository::Result<()> {
        let mut reader = ManifestReader::open(&self.cluster.backups(), &backup.label).await?;
        let (mut path, mut place) = (String::new(), Place::default());
        while let Some(item) = reader.next().await? {
            let runs = match item {
                Item::File(file) => {
                    path = file.path.to_string();
                    place = Place::of(&path, backup.pages);
                    continue;
                }
                Item::Runs(runs) => runs,
                Item::Folder(_) | Item::Link(_) => continue,
            };
            for run in &runs {
                place.pass(run, |extent, first_block| {
                    for number in by_pack.get(&extent.pack).into_iter().flatten() {
                        if troubles[*number].offset.is_none_or(|offset| offset == extent.offset) {
                            found(*number, &path);
                        }
                    }
                    let bad = by_place.get(&(extent.pack, extent.offset)).into_iter().flatten();
                    for page in bad.filter(|page| page.first_block == first_block && page.lsn < backup.start)
                    {
                        let Some(part) = relation_part(&path) else { continue };
                        let block = first_block.saturating_add(page.number);
                        pages.push(PageOf { path: path.clone(), part, block, pack: page.pack });
                    }
                });
            }
        }
        Ok(())
    }

    /// Pages of a backup with wrong checksums: those that recovery does not write anew are damaged.
    async fn bad_pages_of(&mut self, backup: &Whole, pages: Vec<PageOf>) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let mut wanted = Wanted::of(&pages);
        let is_certain = self.replayed(backup, &mut wanted).await?;
        let mut files: BTreeMap<(String, PackId, bool), Vec<u32>> = BTreeMap::new();
        for page in pages.into_iter().filter(|page| !wanted.is_repaired(page)) {
            let is_map = page.part.fork == FREE_SPACE_MAP;
            files.entry((page.path, page.pack, is_map)).or_default().push(page.block);
        }
        for ((path, pack, is_map), blocks) in files {
            let numbers: Vec<String> = blocks.iter().take(10).map(u32::to_string).collect();
            let more =
                if blocks.len() > 10 { format!(" and {} more", blocks.len() - 10) } else { String::new() };
            let place = format!("{path} of backup {}, block {}{more}", backup.label, numbers.join(", "));
            let what = format!(
                "{place}: the page has a wrong checksum, and is as the server sent it: it was damaged in the data directory \
                 before the backup"
            );
            let key = self.cluster.section().pack(pack);
            let finding = match (is_map, is_certain, backup.expired) {
                (true, _, _) => Finding::note(key, format!("{what}; PostgreSQL makes a free space map anew")),
                (_, false, _) => Finding::note(
                    key,
                    format!("{what}, unless its recovery mends it, whose WAL could not be read"),
                ),
                (_, _, true) => Finding::note(key, format!("{what}; the backup is expired")),
                _ => Finding::damage(key, what).needed_by([backup.label.to_string()]),
            };
            self.findings.push(finding);
        }
        Ok(())
    }
}
