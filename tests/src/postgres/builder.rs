//! What a PostgreSQL server is to be like, before it starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{FailedStart, Postgres};
use crate::account::{as_server_account, give_to_server_account};
use crate::clock::Clock;
use crate::kits::server_program;
use crate::scratch::Scratch;
use crate::tls;
use crate::wait::free_port;

/// Made by [`Postgres::builder`] (a new cluster) or [`Postgres::from_data_dir`] (one that is there).
#[derive(Debug)]
pub struct Builder {
    pub(super) version: u32,
    pub(super) scratch: Scratch,
    pub(super) existing: Option<PathBuf>,
    segment_size_mb: u32,
    checksums: bool,
    settings: Vec<(String, String)>,
    pub(super) environment: Vec<(String, String)>,
    hba: Vec<String>,
    pub(super) port: u16,
    pub(super) tcp: bool,
    tls: bool,
    pub(super) has_clock: bool,
}

/// Of every new cluster; a test's own settings come after these. What a test kills is the process, never the
/// machine, so nothing has to be synced.
const SETTINGS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("shared_buffers", "16MB"),
    ("max_connections", "40"),
    ("max_prepared_transactions", "10"),
    ("max_wal_size", "256MB"),
    ("track_commit_timestamp", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// The port in the name of the Unix socket, which is all that it means without TCP.
const SOCKET_PORT: u16 = 5432;

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            version: 15,
            scratch: Scratch::new(),
            existing: None,
            segment_size_mb: 16,
            checksums: true,
            settings: Vec::new(),
            environment: Vec::new(),
            hba: Vec::new(),
            port: SOCKET_PORT,
            tcp: false,
            tls: false,
            has_clock: false,
        }
    }

    pub(super) fn existing(data: &Path) -> Self {
        let file = data.join("PG_VERSION");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let version = text.trim().parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { version, existing: Some(data.to_owned()), ..Self::new() }
    }

    /// The major version, 14 to 18; without it 15.
    pub fn version(mut self, version: u32) -> Self {
        assert!(self.existing.is_none(), "a data directory has its version already");
        self.version = version;
        self
    }

    /// The size of a WAL segment, a power of two from 1 to 1024; without it 16.
    pub fn wal_segment_size_mb(mut self, size: u32) -> Self {
        self.segment_size_mb = size;
        self
    }

    /// A cluster without data checksums.
    pub fn without_checksums(mut self) -> Self {
        self.checksums = false;
        self
    }

    /// A setting: in `postgresql.conf` of a new cluster; on the command line over an existing data directory, which
    /// stays as it is.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Turns archiving on with this `archive_command`.
    pub fn archive_command(self, command: &str) -> Self {
        self.setting("archive_mode", "on").setting("archive_command", command)
    }

    /// An environment variable of the server, and so of its `archive_command` and `restore_command`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The server goes by this clock; what it runs, `archive_command` for one, by the machine's. The clock must stay until the server
    /// has ended.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.has_clock = true;
        self.environment.extend(clock.environment());
        self
    }

    /// Listens on a free port of 127.0.0.1 besides the Unix socket.
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// TCP with TLS: a certificate for `localhost` and 127.0.0.1, see [`Postgres::ca_certificate`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self.tcp()
    }

    /// A line of `pg_hba.conf`. The first takes the place of "everybody may do everything"; the harness's own
    /// line, `local all postgres trust`, always stays in front.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Starts the server. Panics with its log when it fails.
    pub fn start(self) -> Postgres {
        self.try_start().unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Starts the server and waits until it takes connections: a standby, and a recovery with `hot_standby`, as
    /// soon as it is consistent. For tests in which the start may fail.
    pub fn try_start(mut self) -> Result<Postgres, FailedStart> {
        if self.tcp {
            self.port = free_port();
        }
        let mut arguments = Vec::new();
        let data = match &self.existing {
            Some(data) => {
                arguments.extend(self.settings.iter().map(|(name, value)| format!("--{name}={value}")));
                data.clone()
            }
            None => self.initialise(),
        };
        Postgres::launch(self, data, arguments)
    }

    /// The same, and waits until recovery has ended and the server takes writes.
    pub fn try_recover(self) -> Result<Postgres, FailedStart> {
        let server = self.try_start()?;
        server.wait_until_recovered()?;
        Ok(server)
    }

    fn initialise(&self) -> PathBuf {
        let data = self.scratch.join("data");
        let mut command = Command::new(server_program(self.version, "initdb"));
        command.args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        command.arg(format!("--wal-segsize={}", self.segment_size_mb)).arg("--pgdata").arg(&data);
        if self.checksums {
            command.arg("--data-checksums");
        } else if self.version >= 18 {
            command.arg("--no-data-checksums");
        }
        command.current_dir(self.scratch.path());
        let output = as_server_account(&mut command).output();
        let output = output.unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        self.configure(&data);
        data
    }

    fn configure(&self, data: &Path) {
        let mut settings: Vec<(String, String)> =
            SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if self.tls {
            tls::make_certificate(self.scratch.path());
            let path = |name| self.scratch.join(name).display().to_string();
            settings.push(("ssl".to_owned(), "on".to_owned()));
            settings.push(("ssl_cert_file".to_owned(), path(tls::CERTIFICATE)));
            settings.push(("ssl_key_file".to_owned(), path(tls::KEY)));
        }
        settings.extend(self.settings.iter().cloned());
        let mut text = String::new();
        for (name, value) in settings {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        append(&data.join("postgresql.conf"), &text);

        let mut lines =
            vec!["local all postgres trust".to_owned(), "local replication postgres trust".to_owned()];
        if self.hba.is_empty() {
            for network in ["local", "host"] {
                let address = if network == "host" { "127.0.0.1/32" } else { "" };
                lines.push(format!("{network} all all {address} trust"));
                lines.push(format!("{network} replication all {address} trust"));
            }
        }
        lines.extend(self.hba.iter().cloned());
        let hba = data.join("pg_hba.conf");
        fs::write(&hba, lines.join("\n") + "\n").expect("pg_hba.conf can be written");
        give_to_server_account(&hba);
    }
}

fn append(file: &Path, text: &str) {
    let before = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    fs::write(file, before + text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
