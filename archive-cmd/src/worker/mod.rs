//! A process beside the command that keeps connections and uploads what PostgreSQL will ask for next.
//!
//! It is this same binary (`--worker`), started by a call and ended a minute after the last one. A call makes all its own
//! checks, then asks the worker, and does the work itself whenever the worker is not there, is of another build or of
//! other settings, is slow or fails: so it never fails in a way of its own, and every refusal is worded by the call.
//!
//! What the worker knows lies in memory alone, WAL is never copied, and it never says that a file is durable but for
//! the very file that the call has before it ([`Stamp`], else its digest).
//!
//! Segments that are on their way at the same time become objects in PostgreSQL's order: the end of each is held back
//! until the one before is durable ([`Gate`](highwater_storage::Gate)). So the archive never has a hole because of the
//! worker, also when the machine is lost: a hole would stop a standby and every restore to the end of the archive (R6).
//!
//! | module | what it is |
//! | --- | --- |
//! | `order` | what to begin with next: decided, not done |
//! | `uploads` | what is on its way and what is durable |
//! | `connected` | the repositories, kept open |

mod connected;
mod order;
#[cfg(test)]
mod tests;
mod uploads;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_repository::config::RepositoryConfig;
use highwater_repository::{Config, Repository, Stored};
use highwater_wal::{Lsn, WalFile};
use highwater_worker::{Connection, Fingerprint, Place, SILENCE, Server, State};
use serde::{Deserialize, Serialize};

use crate::archive::Answer;
use crate::arguments::Options;
use crate::error::Error;
use crate::exit::Exit;
use crate::job::Job;
use crate::source::Stamp;
use crate::worker::connected::Connected;
use crate::worker::uploads::Uploads;

/// How long the worker stays when nobody asks.
const IDLE: Duration = Duration::from_secs(60);

/// What a call asks: that this file be durable in every repository.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    file: WalFile,
    /// The folder that it lies in.
    folder: PathBuf,
    stamp: Stamp,
    /// What the check of the file depends on beside the settings.
    timeline_ended: Option<Lsn>,
}

/// What the worker answers.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// It is, in the repositories with these labels; whether each got it from this worker or had it before.
    Durable(Vec<(String, bool)>),
    /// It is not, as far as is known here.
    DoItYourself(String),
}

/// Whether a worker is of use: not where every repository is a folder, not where it was turned off, and not where its
/// end could disturb the server.
pub fn is_of_use(job: &Job<'_>, repositories: &[RepositoryConfig]) -> bool {
    let is_remote = |repository: &RepositoryConfig| !repository.store.url.to_string().starts_with("file:");
    job.cluster.archive_ahead > 0
        && repositories.iter().any(is_remote)
        && !job.directory.server_inherits_orphans()
}

/// Has the worker archive the file; starts one where there is none.
///
/// # Errors
/// Why there is no help.
pub fn ask(job: &Job<'_>, options: &Options, repositories: &[RepositoryConfig]) -> io::Result<Vec<Answer>> {
    let place = Place::of_user()?;
    let mut connection = match highwater_worker::connect(&place, &fingerprint(job, options)?) {
        Ok(connection) => connection,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            highwater_worker::start(arguments(options)?)?;
            return Err(io::Error::new(error.kind(), "there was none; it is started for the next call"));
        }
        Err(error) => return Err(error),
    };
    connection.send(&Request {
        file: job.file,
        folder: folder(&options.path)?,
        stamp: job.source.stamp,
        timeline_ended: job.known.timeline_ended,
    })?;
    // The other half is for doing it here, should the worker's connection lead nowhere.
    match connection.receive(options.time_limit / 2)? {
        Reply::Durable(durable) => answers(durable, repositories),
        Reply::DoItYourself(reason) => Err(io::Error::other(reason)),
    }
}

/// What is told of each of `repositories`, when the file is durable in every one of them (R1).
fn answers(mut durable: Vec<(String, bool)>, repositories: &[RepositoryConfig]) -> io::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for repository in repositories {
        let found = durable.iter().position(|(label, _)| *label == repository.label());
        let Some(found) = found else {
            return Err(io::Error::other(format!("it did not put the file into {}", repository.label())));
        };
        let (repository, is_new) = durable.swap_remove(found);
        answers.push(Answer {
            repository,
            result: Ok(if is_new { Stored::Created } else { Stored::AlreadySame }),
        });
    }
    Ok(answers)
}

/// What a worker must have in common with its callers.
fn fingerprint(job: &Job<'_>, options: &Options) -> io::Result<Fingerprint> {
    let settings = match fs::read(Config::path(options.config.as_deref())) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let (device, inode) = job.directory.identity()?;
    Ok(Fingerprint::of_process("archive")
        .and(&settings)
        .and_environment(std::env::vars_os())
        .and(job.cluster.name.as_str().as_bytes())
        .and(&job.system_id.0.to_le_bytes())
        .and(&device.to_le_bytes())
        .and(&inode.to_le_bytes()))
}

/// The worker's command line: what names settings and data directory, from any current folder.
fn arguments(options: &Options) -> io::Result<Vec<OsString>> {
    let mut arguments = vec!["--worker".into()];
    let config = Config::path(options.config.as_deref());
    if options.config.is_some() || config.exists() {
        arguments.extend(["--config".into(), std::path::absolute(config)?.into_os_string()]);
    }
    if let Some(cluster) = &options.cluster {
        arguments.extend(["--cluster".into(), cluster.as_str().into()]);
    }
    arguments.push(std::path::absolute(&options.path)?.into_os_string());
    Ok(arguments)
}

fn folder(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    path.parent().map(Path::to_owned).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Is the worker, until nobody asks any more. Nobody reads what it might say.
pub fn work(options: &Options) -> Exit {
    Server::leave_session();
    match try_work(options) {
        Ok(()) => Exit::Archived,
        Err(error) => error.exit(),
    }
}

fn try_work(options: &Options) -> Result<(), Error> {
    let config = Config::load(options.config.as_deref())?;
    let cluster = config.cluster(options.cluster.as_ref())?.clone();
    let job = Job::new(&cluster, &options.path)?;
    let system = Error::Worker;
    let own = fingerprint(&job, options).map_err(system)?;
    // A configuration that was changed while it was read is that of neither caller.
    let again = Config::load(options.config.as_deref())?;
    let same = fingerprint(&job, options).map_err(system)? == own;
    let place = Place::of_user().map_err(system)?;
    let Some(server) = Server::open(&place, &own).map_err(system)?.filter(|_| same) else { return Ok(()) };

    let (name, system_id) = (cluster.name.clone(), job.system_id);
    let connect = move || {
        let connected = again.repositories.iter().map(|config| {
            let repository = Repository::connect(&config.behind())?;
            Ok(Connected::new(config.label(), repository.cluster(&name, system_id)))
        });
        connected.collect()
    };
    let folder = folder(&options.path).map_err(system)?;
    drop(job);
    let uploads = Uploads::new(cluster, folder, system_id, Box::new(connect)).map_err(system)?;
    let state = {
        let uploads = Arc::clone(&uploads);
        move || if uploads.is_busy() { State::Busy } else { State::Waiting }
    };
    server.serve(IDLE, state, move |connection| serve(&uploads, connection)).map_err(system)
}

fn serve(uploads: &Arc<Uploads>, mut connection: Connection) {
    let Ok(request) = connection.receive::<Request>(SILENCE) else { return };
    let reply = uploads.make_durable(&request, || connection.send_sign_of_life().is_ok());
    // A caller that has gone asks again.
    let _ = connection.send(&reply);
    uploads.go_ahead();
}
