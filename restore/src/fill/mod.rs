//! Writing the files of a backup, extent by extent, as they come from the packs.
//!
//! The manifest is read once, in order. Its extents are gathered into ranged reads, several of which are on their way at a
//! time; each is decompressed, verified and written on a thread of its own, as many at a time as there are processors. So
//! memory is bounded by the reads in flight, whatever the number and length of files.

mod content;
mod job;
mod reads;
mod watermark;

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_repository::manifest::File;
use highwater_repository::{ExtentReader, Item, ManifestReader, Run};
use rustix::fs::FileType;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::mark::Mark;
use crate::owner::Owner;
use crate::places::{CONTROL_FILE, Place, Places};
use crate::progress::Progress;
use crate::sync::{SyncMethod, sync_all};
use crate::{Error, Result};
use content::{Content, Manner};
use reads::{Gather, Piece, Read};
use watermark::Watermark;

/// Reads that are on their way or being written: with [`reads::READ_BYTES`] each, 32 MiB, and as much again while they
/// are decrypted.
const JOBS: usize = 8;
/// Files without stored bytes that are made in one job.
const BARE_FILES: usize = 256;

/// What all jobs share.
#[derive(Debug)]
struct Shared {
    label: String,
    places: Arc<Places>,
    extents: ExtentReader,
    manner: Manner,
    watermark: Mutex<Watermark>,
    /// As many jobs compute at a time as there are processors.
    processors: Semaphore,
    /// Becomes true when it makes no sense to go on.
    stopped: watch::Sender<bool>,
}

impl Shared {
    fn watermark(&self) -> MutexGuard<'_, Watermark> {
        self.watermark.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the files are written.
#[derive(Debug)]
pub(crate) struct Filling {
    /// The folders.
    pub(crate) places: Arc<Places>,
    /// Where the bytes come from.
    pub(crate) extents: ExtentReader,
    /// The mark, with how much was done before.
    pub(crate) mark: Mark,
    /// Whether an interrupted restore is gone on with.
    pub(crate) resumed: bool,
    /// How files are made durable.
    pub(crate) sync: SyncMethod,
    /// How often the mark is brought up to date.
    pub(crate) checkpoint_interval: Duration,
}

/// Writes all files of the manifest but `global/pg_control` and those that are left out; gives the number of bytes that were not
/// there from before.
///
/// # Errors
/// [`Error::Content`] where bytes cannot be had, or are not what they should be (R7); [`Error::Manifest`]; [`Error::File`]. What
/// has been written stays, for a restore that is resumed.
pub(crate) async fn fill(
    filling: Filling,
    mut manifest: ManifestReader,
    progress: &dyn Progress,
) -> Result<u64> {
    let Filling { places, extents, mark, resumed, sync, checkpoint_interval } = filling;
    let owner: Option<Owner> = mark.owner;
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let shared = Arc::new(Shared {
        label: manifest.head().label.to_string(),
        places,
        extents,
        manner: Manner { owner, sync_each: sync == SyncMethod::EachFile, replace: resumed },
        watermark: Mutex::default(),
        processors: Semaphore::new(processors),
        stopped: watch::Sender::new(false),
    });
    let checkpoints =
        Checkpoints { mark, sync, interval: checkpoint_interval, last: Instant::now(), running: None };
    let mut filler = Filler {
        shared: Arc::clone(&shared),
        gather: Gather::default(),
        bare: Vec::new(),
        current: None,
        jobs: JoinSet::new(),
        checkpoints,
        progress,
        written: 0,
    };
    // Jobs must not go on for themselves when this is given up half-way.
    let stop = StopAtEnd(shared);
    let filled = filler.all(&mut manifest).await;
    drop(stop);
    filler.end().await;
    filled
}

/// Ends jobs that are on their way when the restore fails or is given up.
struct StopAtEnd(Arc<Shared>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stopped.send_replace(true);
    }
}

struct Filler<'p> {
    shared: Arc<Shared>,
    gather: Gather,
    /// Files that have all their bytes without a read: they are empty, or end in zeros.
    bare: Vec<Arc<Content>>,
    /// The file whose runs come next, and where in it.
    current: Option<(Arc<Content>, u64)>,
    jobs: JoinSet<Result<u64>>,
    checkpoints: Checkpoints,
    progress: &'p dyn Progress,
    written: u64,
}

impl Filler<'_> {
    /// Writes all that the manifest has; gives the number of bytes.
    async fn all(&mut self, manifest: &mut ManifestReader) -> Result<u64> {
        while let Some(item) = manifest.next().await? {
            self.take(item).await?;
        }
        self.finish().await?;
        Ok(self.written)
    }

    /// Waits for jobs that have been stopped: nobody writes into the folders any more when the restore has ended.
    async fn end(mut self) {
        while self.jobs.join_next().await.is_some() {}
        // What it says does not matter any more: after a success it has been waited for already.
        let _ = self.checkpoints.wait().await;
    }

    /// Takes the next piece of the manifest.
    async fn take(&mut self, item: Item) -> Result<()> {
        match item {
            // Tablespaces get their links from the plan of the restore, and there are no others.
            Item::Link(_) => Ok(()),
            Item::Folder(folder) => {
                let place = Place::of(&folder.path, &self.shared.places.tablespaces)?;
                match self.shared.places.locate(&place) {
                    Some((root, path)) => root.make_folder(path),
                    None => Ok(()),
                }
            }
            Item::File(file) => self.take_file(file).await,
            Item::Runs(runs) => self.take_runs(runs).await,
        }
    }

    async fn take_file(&mut self, file: File) -> Result<()> {
        let place = Place::of_file(&file.path, &self.shared.places.tablespaces)?;
        let located = self.shared.places.locate(&place);
        let left_out = located.is_none() || file.path.as_bytes() == CONTROL_FILE.as_bytes();
        let done_before = match located {
            Some((root, path)) if self.shared.watermark().next() < self.checkpoints.mark.entries_done => {
                root.look(path)? == Some((FileType::RegularFile, file.size))
            }
            _ => false,
        };
        let number = self.shared.watermark().begin(left_out || done_before);
        self.current = None;
        if done_before {
            self.progress.written(file.size);
        }
        if !left_out && !done_before {
            let content = Arc::new(Content::new(number, file, place));
            if content.is_empty() {
                return self.add_bare(content).await;
            }
            self.current = Some((content, 0));
        }
        Ok(())
    }

    async fn take_runs(&mut self, runs: Vec<Run>) -> Result<()> {
        let Some((content, mut at)) = self.current.take() else { return Ok(()) };
        for run in runs {
            let length = run.plain_bytes();
            match run {
                Run::Zeros(length) => {
                    self.written += length;
                    self.progress.written(length);
                    if content.count(length) {
                        self.add_bare(Arc::clone(&content)).await?;
                    }
                }
                Run::Extents(extents) => {
                    let mut at = at;
                    for extent in extents {
                        let piece = Piece { extent, file: Arc::clone(&content), at };
                        at += u64::from(extent.length);
                        if let Some(read) = self.gather.push(piece) {
                            // Else those files would hold up the mark.
                            self.make_bare().await?;
                            self.start(Job::Read(read)).await?;
                        }
                    }
                }
            }
            at += length;
        }
        self.current = Some((content, at));
        Ok(())
    }

    async fn add_bare(&mut self, content: Arc<Content>) -> Result<()> {
        self.bare.push(content);
        if self.bare.len() < BARE_FILES { Ok(()) } else { self.make_bare().await }
    }

    async fn make_bare(&mut self) -> Result<()> {
        let bare = std::mem::take(&mut self.bare);
        if bare.is_empty() { Ok(()) } else { self.start(Job::Bare(bare)).await }
    }

    /// Starts a job; waits for another to end while there are too many.
    async fn start(&mut self, job: Job) -> Result<()> {
        while self.jobs.len() >= JOBS {
            self.wait_for_one().await?;
        }
        let shared = Arc::clone(&self.shared);
        match job {
            Job::Read(read) => self.jobs.spawn(job::read(shared, read)),
            Job::Bare(files) => self.jobs.spawn(job::bare(shared, files)),
        };
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        if let Some(ended) = self.jobs.join_next().await {
            let bytes = ended.map_err(|error| Error::Thread(error.to_string()))??;
            self.written += bytes;
            self.progress.written(bytes);
            self.checkpoints.note(&self.shared).await?;
        }
        Ok(())
    }

    /// Does what has been gathered, and waits for all jobs.
    async fn finish(&mut self) -> Result<()> {
        while let Some(read) = self.gather.rest() {
            self.start(Job::Read(read)).await?;
        }
        self.make_bare().await?;
        while !self.jobs.is_empty() {
            self.wait_for_one().await?;
        }
        self.checkpoints.wait().await
    }
}

enum Job {
    Read(Read),
    Bare(Vec<Arc<Content>>),
}

/// Brings the mark up to date now and then, beside the writing.
struct Checkpoints {
    mark: Mark,
    sync: SyncMethod,
    interval: Duration,
    last: Instant,
    running: Option<JoinHandle<Result<()>>>,
}

impl Checkpoints {
    /// Notes how many files are finished, if it is time to: first these are made durable.
    async fn note(&mut self, shared: &Arc<Shared>) -> Result<()> {
        if self.last.elapsed() < self.interval {
            return Ok(());
        }
        let done = shared.watermark().low();
        if done <= self.mark.entries_done {
            return Ok(());
        }
        self.wait().await?;
        self.last = Instant::now();
        self.mark.entries_done = done;
        let (mark, sync, places) = (self.mark.clone(), self.sync, Arc::clone(&shared.places));
        self.running = Some(tokio::task::spawn_blocking(move || {
            sync_all(&places, sync)?;
            mark.write(&places.data)
        }));
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => running.await.map_err(|error| Error::Thread(error.to_string()))?,
            None => Ok(()),
        }
    }
}
