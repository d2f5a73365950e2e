//! Packs: what is listed beside what manifests name, both in order of names; and each extent, read once.

use std::collections::VecDeque;
use std::io;

use futures_util::stream::{self, StreamExt};
use highwater_repository::{Digest, ExtentRef, PackId, StoredPack, WholePack};
use highwater_storage::Key;
use highwater_wal::Lsn;

use crate::blame::{BadPage, Trouble};
use crate::error::{Error, Result};
use crate::finding::Finding;
use crate::named::{Gathered, NO_PAGES, Named, Reach};
use crate::page::{self, PAGE_BYTES, PageState};
use crate::run::{self, Run};
use crate::spool::{Record, Sorted};
use crate::verdict::{Bad, verdict};

/// Pages of the listing of packs at most.
const MAX_PAGES: usize = 1_000_000;
/// As many packs that nothing names are told one by one.
const MOST_STRAYS: u64 = 20;
/// As many pages with wrong checksums are looked into.
const MOST_BAD_PAGES: usize = 10_000;
/// As many headers of encrypted packs are read side by side.
const HEADERS_AT_ONCE: usize = 16;

/// Something in a pack, in order.
pub(crate) trait InPack: Record {
    fn pack(&self) -> PackId;
}

impl InPack for Named {
    fn pack(&self) -> PackId {
        self.pack
    }
}

impl InPack for Reach {
    fn pack(&self) -> PackId {
        self.pack
    }
}

/// A pack as it is listed and as it is named.
#[derive(Debug)]
struct Job<R> {
    id: PackId,
    stored: Option<StoredPack>,
    named: Vec<R>,
}

/// Packs in order of their names: those that are listed and those that are named.
struct Jobs<'a, R> {
    run: &'a Lister<'a>,
    listed: VecDeque<StoredPack>,
    after: Option<String>,
    ended: bool,
    strays: Vec<Key>,
    pages: usize,
    sorted: Sorted<R>,
    next: Option<R>,
}

struct Lister<'a> {
    cluster: &'a highwater_repository::ClusterRepository,
}

impl<'a, R: InPack> Jobs<'a, R> {
    fn new(run: &'a Lister<'a>, mut sorted: Sorted<R>) -> io::Result<Jobs<'a, R>> {
        let next = sorted.next().transpose()?;
        Ok(Jobs {
            run,
            listed: VecDeque::new(),
            after: None,
            ended: false,
            strays: Vec::new(),
            pages: 0,
            sorted,
            next,
        })
    }

    async fn list_more(&mut self) -> Result<()> {
        while self.listed.is_empty() && !self.ended {
            self.pages += 1;
            if self.pages > MAX_PAGES {
                return Err(Error::Internal("the listing of packs does not end".to_owned()));
            }
            let section = self.run.cluster.section();
            let store = self.run.cluster.repository().store();
            let page = store.list(&section.packs(), self.after.as_deref(), false).await;
            let page = page.map_err(highwater_repository::Error::from)?;
            for entry in page.entries {
                match entry.key.name().parse().ok().filter(|id| section.pack(*id) == entry.key) {
                    Some(id) => self.listed.push_back(StoredPack { id, stored_bytes: entry.size }),
                    None => self.strays.push(entry.key),
                }
            }
            self.after = page.next;
            self.ended = self.after.is_none();
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<io::Result<Option<Job<R>>>> {
        self.list_more().await?;
        let listed = self.listed.front().map(|pack| pack.id);
        let named = self.next.as_ref().map(InPack::pack);
        let id = match (listed, named) {
            (None, None) => return Ok(Ok(None)),
            (Some(listed), Some(named)) => listed.min(named),
            (Some(id), None) | (None, Some(id)) => id,
        };
        let stored = self.listed.pop_front_if(|pack| pack.id == id);
        let mut of_pack = Vec::new();
        while let Some(record) = self.next.take_if(|record| record.pack() == id) {
            of_pack.push(record);
            match self.sorted.next().transpose() {
                Ok(next) => self.next = next,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(Some(Job { id, stored, named: of_pack })))
    }
}

/// What reading a pack gave.
#[derive(Debug, Default)]
struct Proof {
    troubles: Vec<Trouble>,
    bad_pages: Vec<BadPage>,
    extents: u64,
    pages: u64,
    bytes: u64,
}

impl Run<'_> {
    /// Packs, by what manifests name.
    pub(crate) async fn packs(&mut self, gathered: Gathered) -> Result<()> {
        match gathered {
            Gathered::Reaches(spool) => {
                let sorted = spool.sorted().map_err(|source| self.scratch(source))?;
                self.packs_reach(sorted).await
            }
            Gathered::Extents(spool) => {
                let sorted = spool.sorted().map_err(|source| self.scratch(source))?;
                self.packs_hold(sorted).await
            }
        }
    }

    /// Whether each pack is there and reaches as far as manifests name extents in it.
    async fn packs_reach(&mut self, sorted: Sorted<Reach>) -> Result<()> {
        let lister = Lister { cluster: self.cluster };
        let mut jobs = Jobs::new(&lister, sorted).map_err(|source| self.scratch(source))?;
        loop {
            let mut batch = Vec::new();
            while batch.len() < HEADERS_AT_ONCE
                && let Some(job) = jobs.next().await?.map_err(|source| self.scratch(source))?
            {
                batch.push(job);
            }
            if batch.is_empty() {
                break;
            }
            let backups = self.cluster.backups();
            let reaches = stream::iter(batch).map(|job| {
                let backups = backups.clone();
                async move {
                    let reach = match job.stored {
                        Some(stored) if !job.named.is_empty() => Some(backups.readable_bytes(stored).await),
                        _ => None,
                    };
                    (job, reach)
                }
            });
            let reaches: Vec<_> = reaches.buffered(HEADERS_AT_ONCE).collect().await;
            for (job, reach) in reaches {
                self.count_pack(job.stored);
                let wanted = job.named.iter().map(|reach| reach.end).max();
                match (wanted, reach) {
                    (None, _) => self.stray_pack(job.id, job.stored),
                    (Some(_), None) => self.troubles.push(Trouble::missing(job.id)),
                    (Some(wanted), Some(reach)) => match reach {
                        Ok(reach) if reach >= wanted => {}
                        Ok(reach) => self.troubles.push(Trouble::of(
                            job.id,
                            None,
                            format!(
                                "it ends at byte {reach}, and manifests name extents up to byte {wanted}"
                            ),
                        )),
                        Err(error) => self.bad_pack(job.id, error)?,
                    },
                }
            }
            self.tick("packs", None);
        }
        self.stray_keys(jobs.strays);
        Ok(())
    }

    /// Reads each pack and proves what is in it.
    async fn packs_hold(&mut self, sorted: Sorted<Named>) -> Result<()> {
        let lister = Lister { cluster: self.cluster };
        let mut jobs = Jobs::new(&lister, sorted).map_err(|source| self.scratch(source))?;
        let mut running = VecDeque::new();
        loop {
            while running.len() < self.options.reads {
                let Some(job) = jobs.next().await?.map_err(|source| self.scratch(source))? else { break };
                self.count_pack(job.stored);
                if let Some(job) = self.wanted(job) {
                    let backups = self.cluster.backups();
                    let id = job.id;
                    running.push_back((id, tokio::spawn(prove(backups, job))));
                }
            }
            let Some((id, done)) = running.pop_front() else { break };
            match done.await? {
                Ok(proof) => self.take_proof(proof),
                Err(Failed::Bad(error)) => self.bad_pack(id, error)?,
                Err(Failed::Stray(stored, reason)) => {
                    let what = format!("{reason}; no manifest names it ({} bytes)", stored.stored_bytes);
                    self.findings.push(Finding::note(self.cluster.section().pack(id), what));
                }
                Err(Failed::Error(error)) => return Err(error),
            }
            self.looked.packs_read += 1;
            self.packs_until = Some(id);
            self.tick("packs", None);
            self.checkpoint().await?;
        }
        self.packs_until = None;
        self.stray_keys(jobs.strays);
        Ok(())
    }

    /// What of a pack is to be read; tells of those that are missing, and of those that nothing names.
    fn wanted(&mut self, job: Job<Named>) -> Option<Job<Named>> {
        if job.named.is_empty() {
            self.stray_pack(job.id, job.stored);
            // Whoever wants only what is new, or a part, need not read what nobody names.
            let reads_all = self.base.is_none() && !self.options.is_narrow();
            return Some(job).filter(|job| reads_all && self.options.samples(&job.id.to_string()));
        }
        if job.stored.is_none() {
            self.troubles.push(Trouble::missing(job.id));
            return None;
        }
        let until = self.base.as_ref().and_then(|base| base.packs_until.as_deref());
        let in_begun = until.is_some_and(|until| *job.id.to_string() <= *until);
        let is_known = |extent: &Named| extent.known & 1 != 0 || (extent.known & 2 != 0 && in_begun);
        if job.named.iter().all(is_known) || !self.options.samples(&job.id.to_string()) {
            return None;
        }
        Some(job)
    }

    fn count_pack(&mut self, stored: Option<StoredPack>) {
        if let Some(stored) = stored {
            self.looked.packs += 1;
            self.looked.stored_bytes += stored.stored_bytes;
        }
    }

    /// A pack that no manifest names: a backup that runs put it, or one that was cut off, or retention has not come to it yet.
    fn stray_pack(&mut self, id: PackId, stored: Option<StoredPack>) {
        // What older backups name was not asked for then.
        if self.options.is_narrow() || (self.base.is_some() && !self.options.deep) {
            return;
        }
        self.stray_packs += 1;
        let bytes = stored.map_or(0, |stored| stored.stored_bytes);
        self.stray_bytes += bytes;
        if self.stray_packs <= MOST_STRAYS {
            let what = format!(
                "no manifest names this pack of {bytes} bytes: a backup that runs or was cut off has put it, or expire will remove it"
            );
            self.findings.push(Finding::note(self.cluster.section().pack(id), what));
        }
    }

    fn stray_keys(&mut self, keys: Vec<Key>) {
        keys.into_iter().for_each(|key| self.there.stray(key));
    }

    fn bad_pack(&mut self, id: PackId, error: highwater_repository::Error) -> Result<()> {
        let trouble = match verdict(error)? {
            Bad::Damaged(reason) => Trouble::of(id, None, reason),
            Bad::Missing => Trouble::missing(id),
        };
        self.troubles.push(trouble);
        Ok(())
    }

    fn take_proof(&mut self, proof: Proof) {
        self.troubles.extend(proof.troubles);
        self.looked.extents += proof.extents;
        self.looked.pages += proof.pages;
        self.looked.bytes += proof.bytes;
        for page in proof.bad_pages {
            if self.bad_pages.len() < MOST_BAD_PAGES {
                self.bad_pages.push(page);
            } else {
                self.more_bad_pages += 1;
            }
        }
    }

    pub(crate) fn scratch(&self, source: io::Error) -> Error {
        Error::Scratch { folder: self.options.scratch.clone(), source }
    }
}

/// Why a pack was not proven.
enum Failed {
    /// It is bad, perhaps.
    Bad(highwater_repository::Error),
    /// It is bad, and nothing names it.
    Stray(StoredPack, String),
    /// The verification cannot go on.
    Error(Error),
}

async fn prove(backups: highwater_repository::Backups, job: Job<Named>) -> Result<Proof, Failed> {
    let stray = job.stored.filter(|_| job.named.is_empty());
    let failed = |error: highwater_repository::Error| match stray {
        None => Failed::Bad(error),
        Some(stored) => match verdict(error) {
            // Retention, or the end of a backup, has dealt with it meanwhile.
            Ok(Bad::Missing) => Failed::Stray(stored, "it is gone meanwhile".to_owned()),
            Ok(Bad::Damaged(reason)) => Failed::Stray(stored, reason),
            Err(error) => Failed::Error(error),
        },
    };
    let pack = backups.whole_pack(job.id).await.map_err(failed)?;
    let named = job.named;
    let proof = run::compute(move || proof(&pack, &named)).await.map_err(Failed::Error)?;
    match (stray, proof.troubles.first()) {
        (Some(stored), Some(trouble)) => Err(Failed::Stray(stored, trouble.what.clone())),
        _ => Ok(proof),
    }
}

/// Proves extents in their order, and that there is nothing between them but whole frames.
fn proof(pack: &WholePack, named: &[Named]) -> Proof {
    let mut troubles = Vec::new();
    let id = pack.key().name().parse();
    let mut trouble = |offset: u64, error: highwater_repository::Error| {
        let reason = match verdict(error) {
            Ok(bad) => bad.reason(),
            Err(error) => error.to_string(),
        };
        if let Ok(id) = id {
            troubles.push(Trouble::of(id, Some(offset), reason));
        }
    };
    let mut buffer = Vec::new();
    let (mut at, mut last): (u64, Option<(&Named, bool)>) = (0, None);
    let (mut extents, mut pages, mut bytes, mut bad_pages) = (0, 0, 0, Vec::new());
    for extent in named {
        let is_right = match last {
            Some((before, is_right)) if before.is_same_extent(extent) => is_right,
            _ => {
                if extent.offset > at
                    && let Err(error) = pack.prove_frames(at..extent.offset)
                {
                    trouble(at, error);
                }
                extents += 1;
                match pack.prove(&extent_ref(extent), &mut buffer) {
                    Ok(()) => {
                        bytes += buffer.len() as u64;
                        true
                    }
                    Err(error) => {
                        trouble(extent.offset, error);
                        false
                    }
                }
            }
        };
        at = at.max(extent.end());
        last = Some((extent, is_right));
        if is_right && extent.block != NO_PAGES {
            pages += look_at_pages(extent, &buffer, &mut bad_pages);
        }
    }
    if at < pack.len()
        && let Err(error) = pack.prove_frames(at..pack.len())
    {
        trouble(at, error);
    }
    Proof { troubles, bad_pages, extents, pages, bytes }
}

fn extent_ref(named: &Named) -> ExtentRef {
    let Named { pack, offset, stored, length, digest, .. } = *named;
    ExtentRef { pack, offset, stored, length, digest: Digest(digest) }
}

/// Looks at an extent's whole pages, and answers how many there are.
fn look_at_pages(extent: &Named, bytes: &[u8], bad: &mut Vec<BadPage>) -> u64 {
    let mut count = 0;
    for (number, page) in bytes.chunks_exact(PAGE_BYTES).enumerate() {
        count += 1;
        let number = number as u32;
        if let PageState::Wrong { lsn } = page::look(page, extent.block.saturating_add(number))
            && lsn < Lsn(extent.start)
        {
            bad.push(BadPage {
                pack: extent.pack,
                offset: extent.offset,
                first_block: extent.block,
                number,
                lsn,
            });
        }
    }
    count
}
