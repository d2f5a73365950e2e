//! Being a worker.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::connection::SILENCE;
use crate::{Connection, Fingerprint, HELPER_THREAD, Place};

/// As many callers are served at once. More find nobody, and do their work themselves.
const MAX_CALLERS: usize = 32;
/// How often an idle worker looks whether its time has come.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// What a worker is doing between callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for callers, though not for ever.
    Waiting,
    /// It is at work.
    Busy,
    /// Nobody will call any more.
    Over,
}

/// The one worker of its fingerprint. Its socket is removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    fingerprint: Fingerprint,
    socket: PathBuf,
    /// Which file the socket is, so that not another's is removed.
    inode: u64,
    lock: PathBuf,
    _locked: File,
}

impl Server {
    /// Leaves the session of whoever started this process: PostgreSQL ends its commands' whole groups.
    pub fn leave_session() {
        // It fails only for the leader of a group, which is nobody's child to be ended with.
        let _ = rustix::process::setsid();
    }

    /// Becomes the worker of these settings; `None` where there is one already.
    ///
    /// # Errors
    /// When the system refuses socket or file.
    pub fn open(place: &Place, fingerprint: &Fingerprint) -> io::Result<Option<Server>> {
        let (socket, lock) = (place.socket(fingerprint), place.lock(fingerprint));
        let locked = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock)?;
        match locked.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever has the lock is alone: what lies there was left by a worker that was killed.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&socket)?;
        let inode = fs::symlink_metadata(&socket)?.ino();
        Ok(Some(Server { listener, fingerprint: *fingerprint, socket, inode, lock, _locked: locked }))
    }

    /// Serves callers, each on a thread of its own, until none has come for `idle` or nothing is left to be done.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn serve(
        self,
        idle: Duration,
        state: impl Fn() -> State,
        answer: impl Fn(Connection) + Send + Sync + 'static,
    ) -> io::Result<()> {
        set_socket_timeout(&self.listener, Timeout::Recv, Some(idle.min(LONGEST_NAP)))?;
        let (answer, callers) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let mut last_called = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    last_called = Instant::now();
                    self.take(stream, &answer, &callers);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
            match state() {
                State::Over => return Ok(()),
                State::Busy => last_called = Instant::now(),
                State::Waiting if callers.load(Ordering::Relaxed) > 0 => last_called = Instant::now(),
                State::Waiting => {}
            }
            if last_called.elapsed() >= idle || !self.is_reachable() {
                return Ok(());
            }
        }
    }

    /// Whether callers can still find the socket: something may have tidied it away, and what was started since has its
    /// place.
    fn is_reachable(&self) -> bool {
        fs::symlink_metadata(&self.socket).is_ok_and(|found| found.ino() == self.inode)
    }

    fn take(
        &self,
        stream: UnixStream,
        answer: &Arc<impl Fn(Connection) + Send + Sync + 'static>,
        callers: &Arc<AtomicUsize>,
    ) {
        if callers.fetch_add(1, Ordering::Relaxed) >= MAX_CALLERS {
            callers.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let leaving = Leaving(Arc::clone(callers));
        let (answer, fingerprint) = (Arc::clone(answer), self.fingerprint);
        let work = move || {
            let _leaving = leaving;
            let Ok(mut connection) = Connection::new(stream) else { return };
            if connection.receive::<Fingerprint>(SILENCE).is_ok_and(|theirs| theirs == fingerprint) {
                answer(connection);
            }
        };
        // Without a thread the caller finds the connection closed, and helps itself.
        let _ = thread::Builder::new().name(HELPER_THREAD.to_owned()).spawn(work);
    }
}

/// Counts a caller out, whatever became of it.
struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Leftovers do no harm: the next worker removes them, and callers find nobody behind them.
        if self.is_reachable() {
            let _ = fs::remove_file(&self.socket);
            let _ = fs::remove_file(&self.lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect;
    use std::io::Write;
    use std::sync::mpsc::channel;

    fn long() -> Duration {
        Duration::from_secs(20)
    }

    fn started(
        place: &Place,
        fingerprint: &Fingerprint,
        idle: Duration,
    ) -> thread::JoinHandle<io::Result<()>> {
        let server = Server::open(place, fingerprint).unwrap().unwrap();
        thread::spawn(move || {
            server.serve(
                idle,
                || State::Waiting,
                |mut connection| {
                    while let Ok(text) = connection.receive::<String>(long()) {
                        connection.send_sign_of_life().unwrap();
                        connection.send(&text).unwrap();
                    }
                },
            )
        })
    }

    fn said(connection: &mut Connection, text: &str) -> io::Result<String> {
        connection.send(&text)?;
        connection.receive(long())
    }

    #[test]
    fn several_callers_are_served_and_a_second_worker_is_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path()).unwrap();
        let fingerprint = Fingerprint::of_process("test");
        let worker = started(&place, &fingerprint, Duration::from_millis(300));
        assert!(Server::open(&place, &fingerprint).unwrap().is_none());
        let mut callers: Vec<_> = (0..8).map(|_| connect(&place, &fingerprint).unwrap()).collect();
        for (number, caller) in callers.iter_mut().enumerate() {
            assert_eq!(said(caller, &number.to_string()).unwrap(), number.to_string());
        }
        drop(callers);
        worker.join().unwrap().unwrap();
        assert_eq!(connect(&place, &fingerprint).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_caller_with_other_settings_or_another_build_is_not_answered() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path()).unwrap();
        let fingerprint = Fingerprint::of_process("test");
        let other = fingerprint.and(b"changed");
        let worker = started(&place, &fingerprint, Duration::from_millis(300));
        assert_eq!(connect(&place, &other).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::rename(place.socket(&fingerprint), place.socket(&other)).unwrap();
        fs::hard_link(place.socket(&other), place.socket(&fingerprint)).unwrap();
        let mut connection = connect(&place, &other).unwrap();
        assert!(said(&mut connection, "hello").is_err(), "though it found the socket");
        worker.join().unwrap().unwrap();
    }

    #[test]
    fn what_a_killed_worker_left_is_replaced_and_one_that_lost_its_socket_ends() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path()).unwrap();
        let fingerprint = Fingerprint::of_process("test");
        drop(UnixListener::bind(place.socket(&fingerprint)).unwrap());
        fs::write(place.lock(&fingerprint), "").unwrap();
        assert_eq!(connect(&place, &fingerprint).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let worker = started(&place, &fingerprint, long());
        let mut connection = connect(&place, &fingerprint).unwrap();
        assert_eq!(said(&mut connection, "hello").unwrap(), "hello");
        drop(connection);
        fs::remove_file(place.socket(&fingerprint)).unwrap();
        worker.join().unwrap().unwrap();
    }

    #[test]
    fn who_says_nothing_or_nonsense_is_left() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, mut there) = (Connection::new(here).unwrap(), there);
        assert!(here.receive::<String>(Duration::from_millis(50)).is_err(), "nothing");
        there.write_all(&[255; 8]).unwrap();
        assert!(here.receive::<String>(long()).is_err(), "too long");
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"\x03\0\0\0{,}").unwrap();
        assert!(Connection::new(here).unwrap().receive::<String>(long()).is_err(), "not JSON");
    }

    #[test]
    fn a_file_is_handed_over() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, mut there) = (Connection::new(here).unwrap(), Connection::new(there).unwrap());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        here.send(&"it comes").unwrap();
        here.send_file(&file).unwrap();
        assert_eq!(there.receive::<String>(long()).unwrap(), "it comes");
        let found = there.receive_file().unwrap().metadata().unwrap();
        assert_eq!((found.ino(), found.len()), (file.metadata().unwrap().ino(), 7));
        drop(here);
        assert!(there.receive_file().is_err());
    }

    #[test]
    fn a_worker_at_work_does_not_end() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path()).unwrap();
        let fingerprint = Fingerprint::of_process("test");
        let server = Server::open(&place, &fingerprint).unwrap().unwrap();
        let (ended, has_ended) = channel();
        let busy = Arc::new(AtomicUsize::new(2));
        let is_busy = Arc::clone(&busy);
        let worker = thread::spawn(move || {
            let states = [State::Waiting, State::Over, State::Busy];
            let state = || states[is_busy.load(Ordering::Relaxed)];
            let served = server.serve(Duration::from_millis(50), state, |_| {});
            ended.send(()).unwrap();
            served
        });
        assert!(has_ended.recv_timeout(Duration::from_millis(400)).is_err());
        busy.store(0, Ordering::Relaxed);
        worker.join().unwrap().unwrap();
    }

    #[test]
    fn a_worker_that_nobody_will_call_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path()).unwrap();
        let fingerprint = Fingerprint::of_process("test");
        let server = Server::open(&place, &fingerprint).unwrap().unwrap();
        let begun = Instant::now();
        server.serve(long(), || State::Over, |_| {}).unwrap();
        assert!(begun.elapsed() < long() / 2);
    }
}
