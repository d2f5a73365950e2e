//! A TCP proxy that spoils connections on demand: the network faults of the tests.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::wait::free_port;

/// What the proxy does, to connections that are open and to those that come. "Answer" is what flows from the
/// server to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Nobody listens; open connections are closed.
    Down,
    /// Connections are taken, and then no byte passes until the fault ends.
    Stall,
    /// Each connection is reset when a byte of an answer follows after this many have passed. With 0 the server
    /// gets the whole request and does what it asks, and the client never learns it.
    ResetAfterAnswer(u64),
    /// The same with an orderly close: an answer that is cut short.
    CloseAfterAnswer(u64),
    /// Each connection is reset when a byte of a request follows after this many have passed.
    ResetAfterRequest(u64),
    /// Every piece of an answer (64 KiB at most) comes this much later.
    Delay(Duration),
}

/// How often the listener looks whether it is still wanted.
const LISTENER_PAUSE: Duration = Duration::from_millis(2);
const PIECE_BYTES: usize = 64 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct State {
    fault: Fault,
    ended: bool,
    accepted: u64,
    open: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// To end with a reset: then nothing may say an orderly goodbye to the client first.
    reset: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    target: SocketAddr,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy on 127.0.0.1 in front of one server. It ends, and with it its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy that passes everything to `target` until told otherwise.
    pub fn to(target: SocketAddr) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let state = State { fault: Fault::None, ended: false, accepted: 0, open: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), target });
        let listener = listen(address);
        let listening = Arc::clone(&shared);
        thread::spawn(move || run_listener(&listening, address, Some(listener)));
        Self { address, shared }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as the endpoint of an S3 server without TLS.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this from now on.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.state();
        state.fault = fault;
        if fault == Fault::Down {
            close_all(&mut state);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// How many connections have been taken so far.
    pub fn connections(&self) -> u64 {
        self.shared.state().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        close_all(&mut state);
        drop(state);
        self.shared.changed.notify_all();
    }
}

fn close_all(state: &mut State) {
    for connection in state.open.drain(..) {
        close(&connection.client);
        close(&connection.server);
    }
}

/// An error means that the other end has closed already.
fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    listener.set_nonblocking(true).expect("a listener can be made non-blocking");
    listener
}

fn run_listener(shared: &Arc<Shared>, address: SocketAddr, mut listener: Option<TcpListener>) {
    loop {
        let (fault, ended) = {
            let state = shared.state();
            (state.fault, state.ended)
        };
        if ended {
            return;
        }
        if fault == Fault::Down {
            listener = None;
        } else if let Ok((client, _)) = listener.get_or_insert_with(|| listen(address)).accept() {
            let shared = Arc::clone(shared);
            thread::spawn(move || serve(&shared, client));
            continue;
        }
        thread::sleep(LISTENER_PAUSE);
    }
}

fn serve(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(server) = TcpStream::connect_timeout(&shared.target, CONNECT_LIMIT) else { return };
    let prepared = [&client, &server].into_iter().try_for_each(|stream| {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)
    });
    if prepared.is_err() {
        return;
    }
    let connection = Arc::new(Connection { client, server, reset: AtomicBool::new(false) });
    {
        let mut state = shared.state();
        state.accepted += 1;
        if state.ended || state.fault == Fault::Down {
            return;
        }
        state.open.push(Arc::clone(&connection));
    }
    let requests = {
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        thread::spawn(move || pass(&shared, Way::Request, &connection))
    };
    pass(shared, Way::Answer, &connection);
    // A panic of that thread has been printed; there is nothing more to do about it.
    let _ = requests.join();
    shared.state().open.retain(|open| !Arc::ptr_eq(open, &connection));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}

/// What is to be done with the next piece after `passed` bytes went that way.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Pass(usize),
    PassLate(Duration),
    Wait,
    Close,
    Reset,
}

fn step(fault: Fault, way: Way, passed: u64, piece: usize) -> Step {
    let rest = |limit: u64| usize::try_from(limit.saturating_sub(passed)).unwrap_or(usize::MAX);
    match (fault, way) {
        (Fault::Down, _) => Step::Close,
        (Fault::Stall, _) => Step::Wait,
        (Fault::Delay(delay), Way::Answer) => Step::PassLate(delay),
        (Fault::ResetAfterAnswer(limit), Way::Answer) | (Fault::ResetAfterRequest(limit), Way::Request) => {
            if rest(limit) == 0 {
                Step::Reset
            } else {
                Step::Pass(rest(limit).min(piece))
            }
        }
        (Fault::CloseAfterAnswer(limit), Way::Answer) => {
            if rest(limit) == 0 {
                Step::Close
            } else {
                Step::Pass(rest(limit).min(piece))
            }
        }
        _ => Step::Pass(piece),
    }
}

/// How one way of a connection ended.
enum End {
    /// The sender has nothing more to say; the other way may go on.
    Quiet,
    Close,
    Reset,
}

fn pass(shared: &Shared, way: Way, connection: &Connection) {
    let Connection { client, server, reset } = connection;
    // An error of a socket means that a peer has gone: the same as being told to close.
    match pass_until_end(shared, way, connection).unwrap_or(End::Close) {
        End::Quiet if way == Way::Request => _ = server.shutdown(Shutdown::Write),
        End::Quiet | End::Close if reset.load(Ordering::SeqCst) => {}
        End::Quiet => _ = client.shutdown(Shutdown::Write),
        End::Close => {
            close(client);
            close(server);
        }
        End::Reset => {
            reset.store(true, Ordering::SeqCst);
            // Without lingering the last close sends a reset. Both ways are woken up so that it comes now.
            let _ = set_socket_linger(client, Some(Duration::ZERO));
            let _ = client.shutdown(Shutdown::Read);
            close(server);
        }
    }
}

fn pass_until_end(shared: &Shared, way: Way, connection: &Connection) -> io::Result<End> {
    let (mut from, mut to) = match way {
        Way::Request => (&connection.client, &connection.server),
        Way::Answer => (&connection.server, &connection.client),
    };
    let mut buffer = vec![0; PIECE_BYTES];
    let mut passed = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(End::Quiet);
        }
        let mut piece = &buffer[..count];
        while !piece.is_empty() {
            let count = match wait_for_step(shared, way, passed, piece.len()) {
                Step::Pass(count) => count,
                Step::PassLate(delay) => {
                    thread::sleep(delay);
                    piece.len()
                }
                Step::Reset => return Ok(End::Reset),
                Step::Close | Step::Wait => return Ok(End::Close),
            };
            to.write_all(&piece[..count])?;
            piece = &piece[count..];
            passed += count as u64;
        }
    }
}

/// The next step, waiting as long as the fault is a stall.
fn wait_for_step(shared: &Shared, way: Way, passed: u64, piece: usize) -> Step {
    let mut state = shared.state();
    loop {
        if state.ended {
            return Step::Close;
        }
        match step(state.fault, way, passed, piece) {
            Step::Wait => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            step => return step,
        }
    }
}
