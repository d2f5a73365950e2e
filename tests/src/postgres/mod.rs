//! A PostgreSQL server of a test's own.

mod builder;
mod copy;
mod session;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

pub use builder::Builder;
pub use session::{Rows, Session, SqlError};

use crate::account::as_server_account;
use crate::clock::under_a_clock;
use crate::kits::server_program;
use crate::program::clean_environment;
use crate::scratch::Scratch;
use crate::server::Server;
use crate::tls;
use crate::wait::{PATIENCE, holds_within, wait_until};

/// How PostgreSQL is told to stop: `pg_ctl stop -m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client has gone.
    Smart,
    /// Rolls back, writes a checkpoint, archives what is left.
    Fast,
    /// Ends at once; recovers from its WAL at the next start.
    Immediate,
}

/// A server that did not come up, or died before it had recovered: an expected outcome in some tests.
#[derive(Debug)]
pub struct FailedStart {
    /// What the server logged during this start.
    pub log: String,
}

impl fmt::Display for FailedStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL did not start; its log:\n{}", self.log)
    }
}

impl std::error::Error for FailedStart {}

/// A PostgreSQL server on a Unix socket in a folder of its own. It ends, at once, when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    // Before `scratch`, so that the server has ended when its folder goes.
    server: Mutex<Option<Server>>,
    version: u32,
    data: PathBuf,
    port: u16,
    tcp: bool,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    has_clock: bool,
    scratch: Scratch,
}

impl Postgres {
    /// A new cluster of version 15 with the harness's usual settings.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A new cluster, to be described.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A server over a data directory that is there already: restored or copied, or left by a killed server. The
    /// directory must belong to the servers' account; it is not removed at the end.
    pub fn from_data_dir(data: impl AsRef<Path>) -> Builder {
        Builder::existing(data.as_ref())
    }

    fn launch(builder: Builder, data: PathBuf, arguments: Vec<String>) -> Result<Self, FailedStart> {
        let Builder { version, scratch, port, tcp, environment, has_clock, .. } = builder;
        let server = Mutex::new(None);
        let server = Self { server, version, data, port, tcp, arguments, environment, has_clock, scratch };
        server.start_again()?;
        Ok(server)
    }

    /// Starts the server after a stop or a kill.
    pub fn start_again(&self) -> Result<(), FailedStart> {
        let mut slot = self.server();
        assert!(slot.as_mut().is_none_or(|server| server.ended().is_some()), "the server runs already");
        let program = server_program(self.version, "postgres");
        let mut command = if self.has_clock { under_a_clock(program) } else { Command::new(program) };
        command.arg("-D").arg(&self.data).arg("-k").arg(self.scratch.path());
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--listen_addresses={}", if self.tcp { "127.0.0.1" } else { "" }));
        command.args(["--logging_collector=off", "--log_destination=stderr"]).args(&self.arguments);
        command.current_dir(self.scratch.path());
        clean_environment(&mut command);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = self.scratch.join("postgresql.log");
        let server = slot.insert(Server::spawn(as_server_account(&mut command), &log, Signal::QUIT));
        // The connection that proves the start is also what later queries do: a socket file alone proves nothing.
        let mut up = false;
        holds_within(PATIENCE, || {
            up = Session::open(&self.socket(), "postgres").is_ok();
            up || server.ended().is_some()
        });
        if up {
            return Ok(());
        }
        let log = server.log().clone();
        *slot = None;
        Err(FailedStart { log: log.text() })
    }

    /// Stops the server and waits for its end. Panics when it does not end.
    pub fn stop(&self, mode: StopMode) {
        let signal = match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        self.end_with(signal);
    }

    /// Kills the postmaster as a power cut would; its children follow. WAL that was not written is lost.
    pub fn kill9(&self) {
        self.end_with(Signal::KILL);
        // The orphans still hold the shared memory for a moment; a start would refuse it.
        let file = self.data.join("postmaster.pid");
        let lines = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(id) = lines.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            wait_until("the killed server's children have gone", PATIENCE, || !attached(id));
        }
    }

    fn end_with(&self, signal: Signal) {
        let mut slot = self.server();
        let server = slot.as_mut().expect("the server runs");
        server.signal(signal);
        assert!(server.wait_for_end(), "PostgreSQL did not stop; its log:\n{}", server.log().text());
        *slot = None;
    }

    /// A fast stop and a start.
    pub fn restart(&self) {
        self.stop(StopMode::Fast);
        self.start_again().unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Whether the server's process is alive.
    pub fn is_running(&self) -> bool {
        self.server().as_mut().is_some_and(|server| server.ended().is_none())
    }

    /// Ends a standby's recovery and waits until it takes writes.
    pub fn promote(&self) {
        assert_eq!(self.value("select pg_promote(true, 120)"), "t", "the standby could not be promoted");
    }

    /// Waits until recovery has ended and the server takes writes, or the server has died.
    pub fn wait_until_recovered(&self) -> Result<(), FailedStart> {
        let mut recovered = false;
        let answered = holds_within(PATIENCE, || {
            recovered =
                self.try_rows("select pg_is_in_recovery()").is_ok_and(|rows| first(&rows) == Some("f"));
            recovered || !self.is_running()
        });
        if recovered {
            return Ok(());
        }
        assert!(answered, "PostgreSQL is still in recovery after {PATIENCE:?}; its log:\n{}", self.log());
        Err(FailedStart { log: self.log() })
    }

    /// Runs statements in database `postgres`; several in one text are one transaction. Panics when they fail.
    pub fn sql(&self, sql: &str) {
        self.rows(sql);
    }

    /// The rows of a query.
    pub fn rows(&self, sql: &str) -> Rows {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The first column of a query's rows. Panics on NULL.
    pub fn column(&self, sql: &str) -> Vec<String> {
        let first = |row: Vec<Option<String>>| row.into_iter().next().flatten();
        self.rows(sql).into_iter().map(|row| first(row).unwrap_or_else(|| panic!("{sql}: NULL"))).collect()
    }

    /// The one value of a query with one row. Panics on NULL.
    pub fn value(&self, sql: &str) -> String {
        let mut column = self.column(sql);
        assert_eq!(column.len(), 1, "{sql}: not one row");
        column.remove(0)
    }

    /// The same with the failure as a value.
    pub fn try_rows(&self, sql: &str) -> Result<Rows, SqlError> {
        Session::open(&self.socket(), "postgres")?.try_rows(sql)
    }

    /// A connection that stays open, to database `postgres`.
    pub fn session(&self) -> Session {
        self.session_in("postgres")
    }

    /// A connection that stays open.
    pub fn session_in(&self, database: &str) -> Session {
        Session::open(&self.socket(), database).unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    /// Asks `query`, which answers one boolean, until it is true. A query that fails meanwhile counts as false.
    pub fn wait_for(&self, query: &str, limit: Duration) {
        let mut last = None;
        let holds = holds_within(limit, || {
            let answer = self.try_rows(query);
            let holds = matches!(&answer, Ok(rows) if first(rows) == Some("t"));
            last = Some(answer);
            holds
        });
        assert!(holds, "waited {limit:?} in vain for {query}; the last answer was {last:?}");
    }

    /// Changes a setting of the running server (`ALTER SYSTEM` and a reload) and waits until it holds. Not for
    /// settings that need a restart.
    pub fn configure(&self, name: &str, value: &str) {
        let before = self.value("select pg_conf_load_time()");
        self.sql(&format!("alter system set {name} = '{}'", value.replace('\'', "''")));
        self.sql("select pg_reload_conf()");
        self.wait_for(&format!("select pg_conf_load_time() > '{before}'"), PATIENCE);
    }

    /// Closes the current WAL segment and waits until the archiver has had it. Answers its name. A segment without
    /// records is given one first.
    pub fn archive_now(&self) -> String {
        let sql = "select pg_logical_emit_message(true, 'harness', 'segment'); select pg_walfile_name(pg_switch_wal())";
        let name =
            self.rows(sql).pop().and_then(|row| row.into_iter().next().flatten()).expect("a segment's name");
        self.wait_for(&format!("select last_archived_wal >= '{name}' from pg_stat_archiver"), PATIENCE);
        name
    }

    /// The server's clock, as `2026-11-20 12:00:00.123456+00`.
    pub fn now(&self) -> String {
        self.value("select clock_timestamp()")
    }

    /// Makes the tablespace `name` in a folder of this server's, and answers that folder.
    pub fn tablespace(&self, name: &str) -> PathBuf {
        let folder = self.scratch.folder(format!("tablespace-{name}"));
        self.sql(&format!("create tablespace {name} location '{}'", folder.display()));
        folder
    }

    /// What the server has logged since its last start.
    pub fn log(&self) -> String {
        self.server().as_ref().map_or_else(
            || std::fs::read_to_string(self.scratch.join("postgresql.log")).unwrap_or_default(),
            |server| server.log().text(),
        )
    }

    /// The major version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The folder that holds the Unix socket, the log and, of a new cluster, everything else.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The folder of the Unix socket and the port, as libpq takes them: user and database `postgres`.
    pub fn connection_string(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.scratch.path().display(), self.port)
    }

    /// The TCP address. Panics unless the builder was told [`Builder::tcp`].
    pub fn address(&self) -> std::net::SocketAddr {
        assert!(self.tcp, "this server listens on no TCP port; hint: Postgres::builder().tcp()");
        std::net::SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The certificate that [`Builder::tls`]'s server certificate was signed with, a PEM file.
    pub fn ca_certificate(&self) -> PathBuf {
        self.scratch.join(tls::CA)
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.server().as_ref().expect("the server runs").pid()
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join(format!(".s.PGSQL.{}", self.port))
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first(rows: &Rows) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}

/// Whether any process is attached to the System V shared memory segment `id`, which every PostgreSQL process is.
fn attached(id: &str) -> bool {
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let line = segments.lines().find(|line| line.split_whitespace().nth(1) == Some(id));
    line.and_then(|line| line.split_whitespace().nth(6)).is_some_and(|count| count != "0")
}
