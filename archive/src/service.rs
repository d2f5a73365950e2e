//! Answers the archive command's calls within a program that runs anyway and keeps connections: `highwater receive`.
//!
//! It does what the worker does, on threads of its own, and is asked before one. The program's own work comes first: one file is
//! compressed at a time, as many are on their way as the settings say, a store that hangs holds up nobody but callers, and
//! those wait no longer than they would for a worker. Neither a panic here nor the end of the program leaves a call
//! without an answer or a closed connection: it does its work itself then.

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use highwater_repository::Config;
use highwater_repository::config::ClusterConfig;
use highwater_wal::SystemId;
use highwater_worker::{
    Connection, Fingerprint, HELPER_THREAD, Place, SILENCE, Server, Shared, State, contain_panics,
    has_panicked,
};

use crate::ask::{self, Reply, Request};
use crate::connected;
use crate::uploads::{Connect, IDLE, Received, Uploads, Work};

/// Where calls could not be served, it is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// So long calls that wait are waited for at the end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Calls of `archive_command` are answered for as long as this lives.
pub struct Service {
    desk: Arc<Desk>,
    listener: Thread,
}

/// What a service is made of.
struct Desk {
    cluster: ClusterConfig,
    connect: Box<dyn Fn(SystemId) -> Connect + Send + Sync>,
    received: Option<Received>,
    place: Box<dyn Fn() -> io::Result<Place> + Send + Sync>,
    fingerprint: Fingerprint,
    tell: Box<dyn Fn(&str) + Send + Sync>,
    told: Mutex<String>,
    is_over: AtomicBool,
    /// What waits for its end: calls, and who listens for more.
    busy: Shared<Busy>,
    archiving: Mutex<Option<Archiving>>,
}

#[derive(Default)]
struct Busy {
    calls: usize,
    is_listening: bool,
}

/// One server's `pg_wal`.
struct Archiving {
    from: Origin,
    uploads: Arc<Uploads>,
    asked: Instant,
}

/// Where files come from.
#[derive(PartialEq, Eq)]
struct Origin {
    folder: PathBuf,
    directory: (u64, u64),
    system_id: SystemId,
}

impl Archiving {
    fn is_idle(&self) -> bool {
        self.asked.elapsed() >= IDLE && !self.uploads.is_busy()
    }
}

impl Service {
    /// Answers the calls that have the same configuration, from now on: `received` knows of segments that need not be put
    /// again, and each change of what is done is a line to `tell`. `None` where no call would ask.
    pub fn start(
        config: &Config,
        cluster: &ClusterConfig,
        received: Received,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> Option<Service> {
        if !ask::is_of_use(cluster, &config.repositories) {
            return None;
        }
        contain_panics();
        let (repositories, name) = (config.repositories.clone(), cluster.name.clone());
        let desk = Desk {
            cluster: cluster.clone(),
            connect: Box::new(move |system_id| connected::all(repositories.clone(), name.clone(), system_id)),
            received: Some(received),
            place: Box::new(Place::of_user),
            fingerprint: ask::of_service(config, cluster),
            tell: Box::new(tell),
            told: Mutex::default(),
            is_over: AtomicBool::new(false),
            busy: Shared::default(),
            archiving: Mutex::default(),
        };
        Service::of(desk)
    }

    fn of(desk: Desk) -> Option<Service> {
        let desk = Arc::new(desk);
        desk.busy.lock().is_listening = true;
        let listening = Arc::clone(&desk);
        let listen = move || {
            listening.listen();
            listening.busy.lock().is_listening = false;
            listening.busy.tell_all();
        };
        match thread::Builder::new().name(HELPER_THREAD.to_owned()).spawn(listen) {
            Ok(thread) => Some(Service { desk, listener: thread.thread().clone() }),
            Err(error) => {
                desk.say_not_answered(&error);
                None
            }
        }
    }

    /// From now on no call is taken any more. Those that wait go on.
    pub fn stop(&self) {
        if self.desk.is_over.swap(true, Ordering::AcqRel) {
            return;
        }
        // Whichever it waits for: its next try, or a call.
        self.listener.unpark();
        if let Ok(place) = (self.desk.place)() {
            let _ = highwater_worker::connect(&place, &self.desk.fingerprint);
        }
    }

    /// Stops, and waits a moment for calls that wait. They find their connection closed when the process has ended, at the latest.
    pub fn end(self) {
        self.stop();
        let begun = Instant::now();
        let mut busy = self.desk.busy.lock();
        while (busy.calls > 0 || busy.is_listening) && begun.elapsed() < END_LIMIT {
            match self.desk.busy.wait(busy, &mut || begun.elapsed() < END_LIMIT) {
                Some(again) => busy = again,
                None => return,
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Desk {
    fn listen(self: &Arc<Self>) {
        while !self.is_over() {
            match self.serve() {
                // Its socket was tidied away.
                Ok(()) => {}
                Err(error) => self.say_not_answered(&error),
            }
            if !self.is_over() {
                thread::park_timeout(AGAIN);
            }
        }
        if has_panicked() {
            self.say_not_answered(&io::Error::other("a fault of the program: report it"));
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire) || has_panicked()
    }

    fn serve(self: &Arc<Self>) -> io::Result<()> {
        let place = (self.place)()?;
        let Some(server) = Server::open(&place, &self.fingerprint)? else {
            return Err(io::Error::other("another receiver answers them"));
        };
        let (state, answer) = (Arc::clone(self), Arc::clone(self));
        server.serve(Duration::MAX, move || state.state(), move |connection| answer.answer(connection))
    }

    /// It waits for nothing, so that nothing that hangs keeps it from its end.
    fn state(&self) -> State {
        if self.is_over() {
            return State::Over;
        }
        if let Ok(mut archiving) = self.archiving.try_lock()
            && archiving.as_ref().is_some_and(Archiving::is_idle)
        {
            *archiving = None;
        }
        State::Busy
    }

    fn answer(self: &Arc<Self>, mut connection: Connection) {
        let _call = InCall::begin(self);
        let Ok(request) = connection.receive::<Request>(SILENCE) else { return };
        let uploads = match self.uploads(&request) {
            Ok(uploads) => uploads,
            Err(reason) => {
                let _ = connection.send(&Reply::NotMine(reason));
                return;
            }
        };
        let is_wanted = || !has_panicked() && connection.send_sign_of_life().is_ok();
        let reply = uploads.make_durable(&request, is_wanted);
        // A caller that has gone asks again.
        let _ = connection.send(&reply);
        if !self.is_over() {
            uploads.go_ahead();
        }
    }

    /// What archives the files of one data directory at a time: what is on its way has a bound.
    fn uploads(&self, request: &Request) -> Result<Arc<Uploads>, String> {
        let from = Origin {
            folder: request.folder.clone(),
            directory: request.directory,
            system_id: request.system_id,
        };
        let mut archiving = self.archiving();
        if let Some(current) = archiving.as_mut() {
            if current.from == from {
                current.asked = Instant::now();
                return Ok(Arc::clone(&current.uploads));
            }
            if !current.is_idle() {
                return Err("it archives from another data directory".to_owned());
            }
        }
        let uploads = Uploads::new(Work {
            cluster: self.cluster.clone(),
            folder: from.folder.clone(),
            system_id: from.system_id,
            connect: (self.connect)(from.system_id),
            received: self.received.clone(),
            encoders: 1,
        });
        let uploads = uploads.map_err(|error| error.to_string())?;
        *archiving = Some(Archiving { from, uploads: Arc::clone(&uploads), asked: Instant::now() });
        drop(archiving);
        self.say("archives for archive_command, too");
        Ok(uploads)
    }

    fn archiving(&self) -> MutexGuard<'_, Option<Archiving>> {
        self.archiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_not_answered(&self, error: &io::Error) {
        self.say(&format!("does not archive for archive_command, which does without: {error}"));
    }

    /// Tells what has changed.
    fn say(&self, line: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != line {
            line.clone_into(&mut told);
            (self.tell)(line);
        }
    }
}

/// A call that is answered.
struct InCall(Arc<Desk>);

impl InCall {
    fn begin(desk: &Arc<Desk>) -> InCall {
        desk.busy.lock().calls += 1;
        InCall(Arc::clone(desk))
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        self.0.busy.lock().calls -= 1;
        self.0.busy.tell_all();
    }
}
