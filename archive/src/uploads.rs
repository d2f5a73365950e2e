//! What is on its way and what is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use highwater_repository::config::ClusterConfig;
use highwater_repository::{Content, Plain, Repository, Stored};
use highwater_storage::{Gate, GateKeeper, gate};
use highwater_wal::{Lsn, SegmentName, SystemId, WalFile};
use highwater_worker::{Background, HELPER_THREAD, Shared};

use crate::ask::{Reply, Request};
use crate::connected::Connected;
use crate::encoders::Encoders;
use crate::error::Error;
use crate::job::Job;
use crate::order::{self, Known};
use crate::put::{self, Prepared};
use crate::source::{Source, Stamp};

/// Without a call for so long, nothing is kept any longer.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// As many files are durable, or on their way, that no call has asked for yet.
const MOST_AHEAD: usize = 64;
/// As many files are remembered that calls were told of: PostgreSQL marks each as done right after.
const MOST_TOLD: usize = 256;
/// As many files are on their way, beyond the setting, because calls have asked for them.
const MOST_ASKED: usize = 4;

/// As many of the files that are ready are looked at: some more than can be durable, told or on their way.
const MOST_SEEN: usize = 2 * (MOST_AHEAD + MOST_TOLD);
/// So long it is gone by what was seen.
const SEEN_IS_GOOD_FOR: Duration = Duration::from_secs(1);
/// So often a file is begun with for one call.
const MOST_BEGINNINGS: usize = 4;

/// Connects to the repositories.
pub(crate) type Connect = Box<dyn Fn() -> Result<Vec<Connected>, Error> + Send + Sync>;

/// Length and digest of a segment that somebody else has made durable in every repository just now, after the same check; it may
/// wait for one that is on its way.
pub type Received = Arc<dyn Fn(SystemId, SegmentName) -> Option<Plain> + Send + Sync>;

/// What is archived from one `pg_wal`.
pub(crate) struct Work {
    pub cluster: ClusterConfig,
    /// `pg_wal`.
    pub folder: PathBuf,
    pub system_id: SystemId,
    pub connect: Connect,
    /// Segments that need not be put again.
    pub received: Option<Received>,
    /// How many files are checked and compressed at once.
    pub encoders: usize,
}

/// The files of one `pg_wal` on their way into the repositories.
pub(crate) struct Uploads {
    work: Work,
    background: Background,
    /// Its users wait for what is on its way.
    shared: Shared<State>,
    encoders: Encoders,
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uploads({})", self.work.folder.display())
    }
}

#[derive(Default)]
struct State {
    files: BTreeMap<WalFile, Upload>,
    told: VecDeque<WalFile>,
    seen: Seen,
    /// Given up after every failure: a new connection reads credentials anew.
    connected: Option<Arc<Vec<Connected>>>,
}

/// What was marked as ready.
#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    ready: Vec<WalFile>,
}

/// A file that was begun with.
enum Upload {
    /// It is on its way; in each repository its gate opens when it is durable there.
    Running(Vec<Gate>),
    Durable(Arc<Durable>),
    Failed(String),
}

/// A file that is durable in every repository.
struct Durable {
    stamp: Stamp,
    /// Before it was read.
    read_at: (Instant, SystemTime),
    plain: Plain,
    timeline_ended: Option<Lsn>,
    stored: Vec<(String, bool)>,
}

impl Durable {
    /// Whether this is the file of a request that came at `asked`, with the content that was put: by what the file system says
    /// of it, where that is enough or it was read only then, else by its digest.
    fn is(&self, request: &Request, asked: Instant, path: &Path) -> bool {
        if self.timeline_ended != request.timeline_ended {
            return false;
        }
        let (begun, read_at) = self.read_at;
        if self.stamp == request.stamp && (begun >= asked || self.stamp.proves_content(read_at)) {
            return true;
        }
        let content = Source::open(path, request.file).ok().filter(|source| source.stamp == request.stamp);
        let plain = content.and_then(|source| source.read(Plain::of_content(source.content())).ok());
        plain == Some(self.plain)
    }
}

impl Uploads {
    /// None yet.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(work: Work) -> io::Result<Arc<Uploads>> {
        let background = Background::start()?;
        let encoders = Encoders::new(work.encoders);
        Ok(Arc::new(Uploads { work, background, shared: Shared::default(), encoders }))
    }

    /// Whether anything is on its way. It does not wait.
    pub fn is_busy(&self) -> bool {
        self.shared.try_lock().is_none_or(|state| state.running() > 0)
    }

    /// Makes the file of a call durable, if that isn't done or on its way, and answers when it is; `is_wanted` is asked
    /// every now and then.
    pub fn make_durable(self: &Arc<Self>, request: &Request, mut is_wanted: impl FnMut() -> bool) -> Reply {
        let (asked, path) = (Instant::now(), self.work.folder.join(request.file.to_string()));
        if request.folder != self.work.folder {
            return Reply::DoItYourself("it lies in another folder".to_owned());
        }
        // Again where what was put ahead turns out to be another file, had to wait for one that failed, or was the answer to
        // another call.
        for _ in 0..MOST_BEGINNINGS {
            match self.begin(request.file) {
                Err(error) => return Reply::DoItYourself(error.to_string()),
                Ok(true) => self.go_ahead(),
                // What follows is on its way already, or waits for no more than for this answer.
                Ok(false) => {}
            }
            match self.wait(request.file, &mut is_wanted) {
                Ok(Some(durable)) if durable.is(request, asked, &path) => {
                    self.lock().tell(request.file);
                    return Reply::Durable(durable.stored.clone());
                }
                Ok(Some(_)) => self.lock().forget(request.file),
                Ok(None) => {}
                Err(reason) => return Reply::DoItYourself(reason),
            }
        }
        Reply::DoItYourself("the file is changing".to_owned())
    }

    /// Begins with a file that a call has asked for; false where it has begun before. What failed is tried again.
    fn begin(self: &Arc<Self>, file: WalFile) -> Result<bool, Error> {
        let mut state = self.lock();
        match state.files.get(&file) {
            Some(Upload::Running(_) | Upload::Durable(_)) => return Ok(false),
            Some(Upload::Failed(_)) | None => state.forget(file),
        }
        if state.running() >= self.work.cluster.archive_ahead + MOST_ASKED {
            return Err(Error::Worker(io::Error::other("too many files are on their way")));
        }
        self.start(&mut state, file, None).map(|()| true)
    }

    /// Waits until the file is durable or has failed; the reason where it has, and `None` where it has to be begun with
    /// again.
    fn wait(
        &self,
        file: WalFile,
        is_wanted: &mut impl FnMut() -> bool,
    ) -> Result<Option<Arc<Durable>>, String> {
        let mut state = self.lock();
        loop {
            match state.files.get(&file) {
                Some(Upload::Running(_)) => {}
                Some(Upload::Durable(durable)) => return Ok(Some(Arc::clone(durable))),
                Some(Upload::Failed(reason)) => return Err(reason.clone()),
                None => return Ok(None),
            }
            state = self.shared.wait(state, is_wanted).ok_or("the caller has gone")?;
        }
    }

    /// Begins with what PostgreSQL will ask for next.
    pub fn go_ahead(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.must_look() {
            drop(state);
            let Ok(ready) = self.look() else { return };
            state = self.lock();
            state.tidy(&ready);
            state.seen = Seen { at: Some(Instant::now()), ready };
        }
        let free = self.work.cluster.archive_ahead.saturating_sub(state.running());
        let steps = order::next(&state.seen.ready, |file| state.known(file), free, MOST_AHEAD);
        for step in steps {
            let after = step.after.and_then(|file| state.gates(file));
            if (step.after.is_some() && after.is_none()) || self.start(&mut state, step.file, after).is_err()
            {
                return;
            }
        }
    }

    /// The first of the files that PostgreSQL has marked as ready, in its order.
    ///
    /// It is looked twice: a listing may have missed what was marked while it was read, though it has what was marked later. The
    /// second one has everything that was marked before anything in the first, so what is in the first has nothing unseen
    /// before it.
    fn look(&self) -> io::Result<Vec<WalFile>> {
        let first = BTreeSet::from_iter(self.ready()?);
        let mut ready = self.ready()?;
        ready.extend(&first);
        order::sort(&mut ready);
        let sure = ready.iter().take_while(|file| first.contains(file)).count();
        ready.truncate(sure.min(MOST_SEEN));
        Ok(ready)
    }

    /// The files that PostgreSQL has marked as ready, in any order.
    fn ready(&self) -> io::Result<Vec<WalFile>> {
        let mut ready = Vec::new();
        for entry in fs::read_dir(self.work.folder.join("archive_status"))? {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".ready"));
            ready.extend(name.and_then(|name| name.parse::<WalFile>().ok()));
        }
        Ok(ready)
    }

    /// Begins with a file; in each repository it comes to be after the gate of `after`.
    fn start(
        self: &Arc<Self>,
        state: &mut State,
        file: WalFile,
        after: Option<Vec<Gate>>,
    ) -> Result<(), Error> {
        let connected = match &state.connected {
            Some(connected) => Arc::clone(connected),
            None => {
                // The connections of a client live on the runtime that it was made in.
                let _runtime = self.background.handle().enter();
                Arc::clone(state.connected.insert(Arc::new((self.work.connect)()?)))
            }
        };
        let (keepers, gates): (Vec<_>, Vec<_>) = connected.iter().map(|_| gate()).unzip();
        let this = Arc::clone(self);
        let work = move || {
            let result = this.put(file, &connected, keepers, after);
            let is_its_fault = !matches!(result, Err(Error::NotItsTurn));
            this.lock().end(file, result);
            this.shared.tell_all();
            // What waited for a file that failed is begun with again when that one is durable.
            if is_its_fault {
                this.go_ahead();
            }
        };
        thread::Builder::new().name(HELPER_THREAD.to_owned()).spawn(work).map_err(Error::Thread)?;
        state.files.insert(file, Upload::Running(gates));
        Ok(())
    }

    /// Checks a file as a call would, and puts it into every repository.
    fn put(
        &self,
        file: WalFile,
        connected: &Arc<Vec<Connected>>,
        keepers: Vec<GateKeeper>,
        after: Option<Vec<Gate>>,
    ) -> Result<Durable, Error> {
        let read_at = (Instant::now(), SystemTime::now());
        let job = Job::new(&self.work.cluster, &self.work.folder.join(file.to_string()))?;
        if job.system_id != self.work.system_id {
            return Err(Error::Worker(io::Error::other("the data directory is another cluster's now")));
        }
        if let Some(durable) = self.received(&job, read_at, connected)? {
            self.wait_for_turn(after)?;
            keepers.iter().for_each(GateKeeper::open);
            return Ok(durable);
        }
        let prepared = {
            let _turn = self.encoders.turn();
            let repositories: Vec<Repository> =
                connected.iter().map(|connected| connected.repository().clone()).collect();
            put::prepare(&job, &repositories)?
        };
        let nowhere = || Error::Worker(io::Error::other("there is no repository"));
        let plain = prepared.first().map(Prepared::plain).ok_or_else(nowhere)?;
        let (sender, answers) = channel();
        for (number, (prepared, keeper)) in prepared.into_iter().zip(keepers).enumerate() {
            let (connected, sender) = (Arc::clone(connected), sender.clone());
            let after = after.as_ref().and_then(|gates| gates.get(number).cloned());
            self.background.handle().spawn(async move {
                let result = put_after(&connected[number], prepared, after).await;
                if result.is_ok() {
                    keeper.open();
                }
                // Nobody has gone: the thread waits for all.
                let _ = sender.send((number, result));
            });
        }
        drop(sender);
        let mut stored = Vec::new();
        let mut failed = None;
        for (number, result) in answers {
            match result {
                Ok(how) => stored.push((connected[number].label.clone(), how == Stored::Created)),
                // Of several, that which is its own fault.
                Err(Error::NotItsTurn) if failed.is_some() => {}
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            // A task that was lost has said nothing.
            None if stored.len() < connected.len() => {
                Err(Error::Worker(io::Error::other("a request was lost")))
            }
            None => {
                let (stamp, timeline_ended) = (job.source.stamp, job.known.timeline_ended);
                Ok(Durable { stamp, read_at, plain, timeline_ended, stored })
            }
        }
    }

    /// What is known of a segment that was received and put whole, when this is the same: it was checked as this one would be. For
    /// one with other content the repository has the word (R3).
    fn received(
        &self,
        job: &Job<'_>,
        read_at: (Instant, SystemTime),
        connected: &[Connected],
    ) -> Result<Option<Durable>, Error> {
        let (Some(received), WalFile::Segment(segment), None) =
            (&self.work.received, job.file, job.known.timeline_ended)
        else {
            return Ok(None);
        };
        let Some(plain) = received(job.system_id, segment) else { return Ok(None) };
        let _turn = self.encoders.turn();
        let content = job.source.content();
        if plain.length != content.length() || plain != job.source.read(Plain::of_content(content))? {
            return Ok(None);
        }
        let stored = connected.iter().map(|connected| (connected.label.clone(), false)).collect();
        Ok(Some(Durable { stamp: job.source.stamp, read_at, plain, timeline_ended: None, stored }))
    }

    /// Waits until what has to be durable before is so.
    fn wait_for_turn(&self, after: Option<Vec<Gate>>) -> Result<(), Error> {
        self.background.handle().block_on(async {
            for gate in after.iter().flatten() {
                tokio::select! {
                    () = gate.opened() => {}
                    () = gate.lost() => return Err(Error::NotItsTurn),
                }
            }
            Ok(())
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

/// Puts a file into a repository after the one before it is durable there: not at all when that fails.
pub(crate) async fn put_after(
    connected: &Connected,
    prepared: Prepared,
    after: Option<Gate>,
) -> Result<Stored, Error> {
    let Some(gate) = after else { return connected.put(prepared).await };
    tokio::select! {
        result = connected.put(prepared.behind(gate.clone())) => result,
        () = gate.lost() => Err(Error::NotItsTurn),
    }
}

impl State {
    /// Whether what was seen last is used up, or old. A long backlog is not listed for each of its files.
    fn must_look(&self) -> bool {
        let is_old = self.seen.at.is_none_or(|at| at.elapsed() >= SEEN_IS_GOOD_FOR);
        is_old || !self.seen.ready.iter().any(|file| self.known(*file) == Known::New)
    }

    fn running(&self) -> usize {
        self.files.values().filter(|upload| matches!(upload, Upload::Running(_))).count()
    }

    fn known(&self, file: WalFile) -> Known {
        match self.files.get(&file) {
            Some(Upload::Running(_)) => Known::Running,
            Some(Upload::Durable(_)) => Known::Durable,
            Some(Upload::Failed(_)) => Known::Failed,
            None if self.told.contains(&file) => Known::Told,
            None => Known::New,
        }
    }

    fn gates(&self, file: WalFile) -> Option<Vec<Gate>> {
        match self.files.get(&file) {
            Some(Upload::Running(gates)) => Some(gates.clone()),
            _ => None,
        }
    }

    /// What became of a file.
    fn end(&mut self, file: WalFile, result: Result<Durable, Error>) {
        match result {
            Ok(durable) => {
                self.files.insert(file, Upload::Durable(Arc::new(durable)));
            }
            Err(Error::NotItsTurn) => {
                self.files.remove(&file);
            }
            Err(error) => {
                self.connected = None;
                self.files.insert(file, Upload::Failed(error.to_string()));
            }
        }
    }

    /// Forgets, when there are many, files that no call will ask for: PostgreSQL has no mark for them any more.
    fn tidy(&mut self, ready: &[WalFile]) {
        if self.files.len() > 2 * MOST_AHEAD {
            let ready: BTreeSet<&WalFile> = ready.iter().collect();
            self.files.retain(|file, upload| matches!(upload, Upload::Running(_)) || ready.contains(file));
        }
    }

    /// A call was told that the file is durable. Another call for it is another file, until that is known to be the
    /// same.
    fn tell(&mut self, file: WalFile) {
        self.forget(file);
        self.seen.ready.retain(|seen| *seen != file);
        self.told.push_back(file);
        while self.told.len() > MOST_TOLD {
            self.told.pop_front();
        }
    }

    fn forget(&mut self, file: WalFile) {
        if !matches!(self.files.get(&file), Some(Upload::Running(_))) {
            self.files.remove(&file);
        }
        self.told.retain(|told| *told != file);
    }
}
