//! A process beside the command that has fetched what PostgreSQL asks for next.
//!
//! It is this same binary (`--worker`), started by a call that has handed out a segment, and ended a minute after the last
//! call, or when the recovery is over or its server has ended. A call asks it first: for what it has, the call gives that
//! its name and is done. For everything else, and whenever something is wrong with it, the call asks the repositories
//! itself. So "not there" is never its word (R6), and no failure is either.
//!
//! What it has fetched was verified as a call would (R7). It lies in files without a name in the folder that the call wants
//! it in: only a process that holds one open can give it a name, so nothing is left when the process ends in whatever way,
//! and nothing can be believed by a later restore. File systems that know no such files have no prefetch.
//!
//! | module | what it is |
//! | --- | --- |
//! | `path` | which segments come next: decided, not done |
//! | `target` | where PostgreSQL is told to stop |
//! | `fetches` | what is on its way and what is ready |

mod fetches;
mod path;
mod target;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_repository::config::{ClusterConfig, RepositoryConfig};
use highwater_repository::{ClusterName, ClusterRepository, Config, Repository};
use highwater_wal::{SegmentName, SegmentSize, SystemId, WalFile, check_first_page};
use highwater_worker::{Background, Connection, Fingerprint, Place, SILENCE, Server, State};
use serde::{Deserialize, Serialize};

use crate::ahead::fetches::Fetches;
use crate::arguments::Options;
use crate::data_directory;
use crate::destination::Content;
use crate::error::Error;
use crate::exit::Exit;
use crate::fetch::{FIRST_PAGE_BYTES, Wanted};

/// How long the process stays when nobody asks.
const IDLE: Duration = Duration::from_secs(60);
/// How PostgreSQL calls the file when it recovers (`XLogFileRead`, `xlogrecovery.c`, PostgreSQL 15). Who asks for another
/// one, as pg_rewind or a person, does not read on from there.
const RECOVERED_FILE: &str = "RECOVERYXLOG";

/// What a call says.
#[derive(Debug, Serialize, Deserialize)]
enum Call {
    /// It has been asked for this segment.
    Wanted(SegmentName),
    /// It has fetched this segment itself.
    Fetched(SegmentName),
}

/// What is answered to [`Call::Wanted`].
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// Here it is, so many bytes; the file follows.
    Ready(u64),
    /// It is not here.
    AskYourself,
}

/// What a call knows to find its helper.
#[derive(Debug)]
pub struct Ahead<'a> {
    wanted: &'a Wanted,
    options: &'a Options,
    segment: SegmentName,
    system_id: SystemId,
}

/// What the helper has for a call.
#[derive(Debug)]
pub enum Helper {
    /// The file, whole and verified, without a name.
    HasIt(File),
    /// It is there and doesn't have it.
    HasNot(Connection),
    /// It is not there.
    None,
    /// It can't be asked.
    Useless,
}

impl<'a> Ahead<'a> {
    /// `None` where nothing is fetched ahead: not for what PostgreSQL asks only once, not outside of a recovery, not
    /// where it is turned off or could disturb the server.
    pub fn of(wanted: &'a Wanted, options: &'a Options, config: &Config) -> Option<Ahead<'a>> {
        let WalFile::Segment(segment) = wanted.file else { return None };
        let is_recovery = options.path.file_name().is_some_and(|name| name == RECOVERED_FILE)
            && data_directory::is_recovering(Path::new("."))
            && !data_directory::server_inherits_orphans(Path::new("."));
        if !is_recovery || count(config, &wanted.cluster) == 0 {
            return None;
        }
        Some(Ahead { wanted, options, segment, system_id: wanted.system_id? })
    }

    /// Asks for the segment.
    pub fn ask(&self) -> Helper {
        match self.try_ask() {
            Ok(helper) => helper,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Helper::None
            }
            Err(_) => Helper::Useless,
        }
    }

    fn try_ask(&self) -> io::Result<Helper> {
        let mut connection = highwater_worker::connect(&Place::of_user()?, &self.fingerprint()?)?;
        connection.send(&Call::Wanted(self.segment))?;
        // The other half is for asking the repositories.
        match connection.receive(self.options.time_limit / 2)? {
            Reply::AskYourself => Ok(Helper::HasNot(connection)),
            Reply::Ready(length) => {
                let file = connection.receive_file()?;
                if self.is_it(&file, length) { Ok(Helper::HasIt(file)) } else { Ok(Helper::Useless) }
            }
        }
    }

    /// Whether what was handed over is a whole segment of this name, of this cluster.
    fn is_it(&self, file: &File, length: u64) -> bool {
        let is_whole = file.metadata().is_ok_and(|found| found.is_file() && found.len() == length);
        let Ok(size) = SegmentSize::new(length) else { return false };
        let Ok(file) = file.try_clone() else { return false };
        let beginning = Content::new(file, Path::new(RECOVERED_FILE)).beginning(FIRST_PAGE_BYTES);
        is_whole
            && beginning
                .is_ok_and(|bytes| check_first_page(self.segment, size, Some(self.system_id), &bytes).is_ok())
    }

    /// Has what comes behind the segment fetched, now that PostgreSQL has got it. That it can't be had is told nobody:
    /// the next call does without.
    pub fn go_on(&self, helper: Helper) {
        let _ = match helper {
            Helper::HasNot(mut connection) => connection.send(&Call::Fetched(self.segment)),
            Helper::None => self.arguments().and_then(highwater_worker::start),
            Helper::HasIt(_) | Helper::Useless => Ok(()),
        };
    }

    /// What the helper must have in common with its callers.
    fn fingerprint(&self) -> io::Result<Fingerprint> {
        let settings = match fs::read(Config::path(self.options.config.as_deref())) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let place = fs::metadata(self.folder()?)?;
        Ok(Fingerprint::of_process("restore")
            .and(&settings)
            .and_environment(std::env::vars_os())
            .and(self.wanted.cluster.as_str().as_bytes())
            .and(&self.system_id.0.to_le_bytes())
            .and(&place.dev().to_le_bytes())
            .and(&place.ino().to_le_bytes()))
    }

    /// The folder of the file that PostgreSQL wants: `pg_wal`.
    fn folder(&self) -> io::Result<PathBuf> {
        let path = std::path::absolute(&self.options.path)?;
        path.parent().map(Path::to_owned).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The helper's command line. It is told what this call has found out, since it does not start in the data directory.
    fn arguments(&self) -> io::Result<Vec<OsString>> {
        let mut arguments: Vec<OsString> = vec!["--worker".into()];
        let config = Config::path(self.options.config.as_deref());
        if self.options.config.is_some() || config.exists() {
            arguments.extend(["--config".into(), std::path::absolute(config)?.into_os_string()]);
        }
        arguments.extend(["--cluster".into(), self.wanted.cluster.as_str().into()]);
        arguments.extend(["--system-id".into(), self.system_id.to_string().into()]);
        arguments.push(self.segment.to_string().into());
        arguments.push(std::path::absolute(&self.options.path)?.into_os_string());
        Ok(arguments)
    }
}

/// How many segments are to be ready.
fn count(config: &Config, cluster: &ClusterName) -> usize {
    let configured = config.clusters.iter().find(|configured| configured.name == *cluster);
    configured.map_or(ClusterConfig::DEFAULT_RESTORE_AHEAD, |cluster| cluster.restore_ahead)
}

/// Is the process, until nobody asks any more. Nobody reads what it might say.
pub fn work(options: &Options) -> Exit {
    Server::leave_session();
    match try_work(options) {
        Ok(()) => Exit::Found,
        Err(error) => error.exit(),
    }
}

fn try_work(options: &Options) -> Result<(), Error> {
    let config = Config::load(options.config.as_deref())?;
    let (Some(cluster), Some(system_id), WalFile::Segment(segment)) =
        (options.cluster.clone(), options.system_id, options.file)
    else {
        return Err(Error::Usage("--worker needs a segment, --cluster and --system-id".to_owned()));
    };
    let wanted = Wanted { file: options.file, cluster, system_id: options.system_id, until: None };
    let ahead = Ahead { wanted: &wanted, options, segment, system_id };
    let system = Error::Worker;
    let own = ahead.fingerprint().map_err(system)?;
    // A configuration that was changed while it was read is that of neither caller.
    let again = Config::load(options.config.as_deref())?;
    let same = ahead.fingerprint().map_err(system)? == own;
    let place = Place::of_user().map_err(system)?;
    let Some(server) = Server::open(&place, &own).map_err(system)?.filter(|_| same) else { return Ok(()) };

    let pg_wal = ahead.folder().map_err(system)?;
    let data = pg_wal.parent().unwrap_or(&pg_wal).to_owned();
    let connect = |config: &RepositoryConfig| -> Result<ClusterRepository, Error> {
        Ok(Repository::connect(&config.behind())?.cluster(&wanted.cluster, system_id))
    };
    let background = Background::start().map_err(system)?;
    let repositories = {
        // The connections of a client live on the runtime that it was made in.
        let _runtime = background.handle().enter();
        again.repositories.iter().map(connect).collect::<Result<Vec<_>, Error>>()?
    };
    let fetches = Fetches::new(repositories, background, &pg_wal, &data, count(&config, &wanted.cluster))?;
    fetches.go_on(segment);
    let state = {
        let fetches = Arc::clone(&fetches);
        move || match data_directory::is_recovering(&data) {
            false => State::Over,
            true if fetches.is_busy() => State::Busy,
            true => State::Waiting,
        }
    };
    server.serve(IDLE, state, move |connection| serve(&fetches, connection)).map_err(system)
}

fn serve(fetches: &Arc<Fetches>, mut connection: Connection) {
    let Ok(Call::Wanted(segment)) = connection.receive(SILENCE) else { return };
    if let Some(file) = fetches.take(segment, || connection.send_sign_of_life().is_ok()) {
        // A caller that has gone asks the repositories when it comes again.
        let ready = Reply::Ready(fetches.segment_size().bytes());
        let _ = connection.send(&ready).and_then(|()| connection.send_file(&file));
        fetches.go_on(segment);
    } else if connection.send(&Reply::AskYourself).is_ok()
        && let Ok(Call::Fetched(fetched)) = connection.receive_after(IDLE)
        && fetched == segment
    {
        fetches.go_on(segment);
    }
}
