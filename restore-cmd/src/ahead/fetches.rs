//! What is on its way and what is ready.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::thread;

use highwater_repository::ClusterRepository;
use highwater_wal::{SegmentName, SegmentSize, WalFile};
use highwater_worker::{Background, Shared};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::ahead::{path, target};
use crate::destination::{Content, FILE_MODE};
use crate::error::Error;
use crate::fetch;

/// As many segments are on their way at once: one arrives while another is unpacked.
const AT_ONCE: usize = 3;
/// As much disk is taken at most, however large segments are; two segments always.
const MOST_BYTES: u64 = 1 << 30;
/// So many times what is to be ready must be free on the disk: PostgreSQL needs it more.
const FREE_SHARE: u64 = 4;

/// The segments behind the one that PostgreSQL was given last.
pub struct Fetches {
    repositories: Vec<ClusterRepository>,
    background: Background,
    pg_wal: PathBuf,
    data: PathBuf,
    segment_size: SegmentSize,
    count: usize,
    /// Callers wait for what is on its way.
    shared: Shared<State>,
}

impl fmt::Debug for Fetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetches({})", self.pg_wal.display())
    }
}

#[derive(Default)]
struct State {
    /// What comes next, in order.
    wanted: Vec<SegmentName>,
    segments: BTreeMap<SegmentName, Fetch>,
    running: usize,
    /// The disk is full, or knows no files without names.
    has_given_up: bool,
}

enum Fetch {
    Running,
    /// Verified.
    Ready(File),
    /// It could not be had, or is not there: which of both, a call finds out.
    Failed,
}

impl Fetches {
    /// None yet. `count` segments are to be ready, fewer where they are large.
    ///
    /// # Errors
    /// Where no repository tells how large the cluster's segments are.
    pub fn new(
        repositories: Vec<ClusterRepository>,
        background: Background,
        pg_wal: &Path,
        data: &Path,
        count: usize,
    ) -> Result<Arc<Fetches>, Error> {
        let segment_size = segment_size(&repositories, &background)?;
        let most = usize::try_from(MOST_BYTES / segment_size.bytes()).unwrap_or(usize::MAX).max(2);
        let count = count.min(most);
        let (pg_wal, data) = (pg_wal.to_owned(), data.to_owned());
        let shared = Shared::default();
        Ok(Arc::new(Fetches { repositories, background, pg_wal, data, segment_size, count, shared }))
    }

    /// The size of the cluster's segments.
    pub fn segment_size(&self) -> SegmentSize {
        self.segment_size
    }

    /// Whether anything is on its way.
    pub fn is_busy(&self) -> bool {
        self.lock().running > 0
    }

    /// The segment, if it is ready or on its way; `is_wanted` is asked every now and then.
    pub fn take(&self, segment: SegmentName, mut is_wanted: impl FnMut() -> bool) -> Option<File> {
        let mut state = self.lock();
        loop {
            match state.segments.get(&segment) {
                Some(Fetch::Running) => {}
                Some(Fetch::Ready(_)) => {
                    let Some(Fetch::Ready(file)) = state.segments.remove(&segment) else { return None };
                    state.wanted.retain(|wanted| *wanted != segment);
                    return Some(file);
                }
                Some(Fetch::Failed) | None => return None,
            }
            state = self.shared.wait(state, &mut is_wanted)?;
        }
    }

    /// PostgreSQL was given this segment: what comes behind it is fetched, and what does not is let go.
    pub fn go_on(self: &Arc<Self>, given: SegmentName) {
        let (size, count) = (self.segment_size, self.count);
        let target = target::of(&self.data);
        let history = target::history(&self.pg_wal, target);
        let has_room = self.has_room(size.bytes() * count as u64 * FREE_SHARE);
        let mut state = self.lock();
        state.wanted = match has_room {
            true => path::following(given, size, count, history.as_ref(), target.lsn),
            false => Vec::new(),
        };
        let State { wanted, segments, .. } = &mut *state;
        // What failed is tried again: it may have been archived since.
        segments.retain(|segment, fetch| match fetch {
            Fetch::Running => true,
            Fetch::Ready(_) => wanted.contains(segment),
            Fetch::Failed => false,
        });
        self.start(&mut state);
    }

    fn has_room(&self, bytes: u64) -> bool {
        rustix::fs::statvfs(&self.pg_wal)
            .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) >= bytes)
    }

    /// Begins with what is wanted and not begun with, in order, and with nothing behind what could not be had.
    fn start(self: &Arc<Self>, state: &mut State) {
        let mut next = Vec::new();
        for segment in &state.wanted {
            match state.segments.get(segment) {
                Some(Fetch::Failed) => break,
                Some(Fetch::Running | Fetch::Ready(_)) => {}
                None => next.push(*segment),
            }
        }
        for segment in next {
            if state.running >= AT_ONCE || state.has_given_up {
                return;
            }
            let this = Arc::clone(self);
            if thread::Builder::new().spawn(move || this.run(segment)).is_err() {
                return;
            }
            state.running += 1;
            state.segments.insert(segment, Fetch::Running);
        }
    }

    /// Fetches a segment, on a thread of its own.
    fn run(self: &Arc<Self>, segment: SegmentName) {
        let fetched = self.fetch(segment);
        let mut state = self.lock();
        state.running -= 1;
        let is_wanted = state.wanted.contains(&segment);
        match fetched {
            Ok(Some(file)) if is_wanted => {
                state.segments.insert(segment, Fetch::Ready(file));
            }
            Ok(None) if is_wanted => {
                state.segments.insert(segment, Fetch::Failed);
            }
            Ok(_) => {
                state.segments.remove(&segment);
            }
            // Room for PostgreSQL is worth more than anything here.
            Err(_) => {
                state.has_given_up = true;
                state.wanted.clear();
                state.segments.retain(|other, fetch| *other != segment && matches!(fetch, Fetch::Running));
            }
        }
        self.start(&mut state);
        drop(state);
        self.shared.tell_all();
    }

    /// The segment, verified, in a file without a name; `None` where no repository gives it. What fails here is the
    /// disk.
    fn fetch(&self, segment: SegmentName) -> io::Result<Option<File>> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, &self.pg_wal, flags, Mode::from_raw_mode(FILE_MODE))?);
        let content = Content::new(file.try_clone()?, &self.pg_wal);
        for repository in &self.repositories {
            let has = fetch::has(repository, WalFile::Segment(segment), &content);
            match self.background.handle().block_on(has) {
                Ok(true) => {
                    // PostgreSQL syncs a segment when it has got it, before it reads it (`KeepFileRestoredFromArchive`,
                    // `xlogarchive.c`, PostgreSQL 15). There is little left to be done then.
                    content.sync()?;
                    return Ok(Some(file));
                }
                Err(Error::Repository(highwater_repository::Error::Sink(error))) => return Err(error),
                Ok(false) | Err(_) => {}
            }
        }
        Ok(None)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

/// What the first repository says that says anything.
fn segment_size(repositories: &[ClusterRepository], background: &Background) -> Result<SegmentSize, Error> {
    let mut failed = Error::Worker(io::Error::other("there is no repository"));
    for repository in repositories {
        match background.handle().block_on(repository.facts()) {
            Ok(facts) => return Ok(facts.segment_size),
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}
