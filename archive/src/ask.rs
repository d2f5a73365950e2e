//! Whom a call asks before it does its work itself: the receive service, where one runs beside it with the same
//! settings, else its own worker.
//!
//! Either makes the file durable and says so, or the call does everything itself. So neither has failures of its own, and every
//! refusal is worded by the call.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater_repository::config::{ClusterConfig, RepositoryConfig};
use highwater_repository::{ClusterName, Config, Stored};
use highwater_wal::{Lsn, SystemId, WalFile};
use highwater_worker::{Fingerprint, Place};
use serde::{Deserialize, Serialize};

use crate::job::Job;
use crate::put::Answer;
use crate::source::Stamp;

/// What is said between calls and the service, as its test has it. It changes with every change of that, and of what an
/// answer promises.
const PROTOCOL: u32 = 1;

/// Variables that may differ between the service and its callers, whose environments are made by different programs. `PATH`
/// and `HOME` decide which credentials a profile gives, not where something is put nor as what; the file that
/// `HIGHWATER_CONFIG` names counts by its text; and who has another `TMPDIR` looks elsewhere anyway.
const NOT_OF_SERVICE: [&str; 4] = ["HIGHWATER_CONFIG", "HOME", "PATH", "TMPDIR"];

/// A call of `archive_command`: what is to be archived, by which settings, and how long that may take.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The cluster's name, where it was given.
    pub cluster: Option<ClusterName>,
    /// The configuration's file, where it was given.
    pub config: Option<PathBuf>,
    /// How long everything may take.
    pub time_limit: Duration,
}

/// What a call asks: that this file be durable in every repository.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub file: WalFile,
    /// The folder that it lies in.
    pub folder: PathBuf,
    /// The data directory: device and number.
    pub directory: (u64, u64),
    pub system_id: SystemId,
    pub stamp: Stamp,
    /// What the check of the file depends on beside the settings.
    pub timeline_ended: Option<Lsn>,
}

impl Request {
    /// For a file that a call has before it.
    ///
    /// # Errors
    /// When the data directory cannot be looked at.
    pub fn new(job: &Job<'_>, path: &Path) -> io::Result<Request> {
        Ok(Request {
            file: job.file,
            folder: folder(path)?,
            directory: job.directory.identity()?,
            system_id: job.system_id,
            stamp: job.source.stamp,
            timeline_ended: job.known.timeline_ended,
        })
    }
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It is, in the repositories with these labels; whether each got it now or had it before.
    Durable(Vec<(String, bool)>),
    /// It is not, as far as is known here.
    DoItYourself(String),
    /// Somebody else has to be asked.
    NotMine(String),
}

/// Who has helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// `highwater receive`.
    Service,
    /// The process that a call has started.
    Worker,
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Helper::Service => "the receive service",
            Helper::Worker => "the worker",
        })
    }
}

impl Helper {
    /// Why it is of no help.
    fn failed(self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{self}: {error}"))
    }
}

/// Whether anybody is of use: not where every repository is a folder, and not where it was turned off.
pub fn is_of_use(cluster: &ClusterConfig, repositories: &[RepositoryConfig]) -> bool {
    let is_remote = |repository: &RepositoryConfig| !repository.store.url.to_string().starts_with("file:");
    cluster.archive_ahead > 0 && repositories.iter().any(is_remote)
}

/// Has the file archived by the receive service, or by the worker, which is started where there is none.
///
/// # Errors
/// Why there is no help.
pub fn ask(job: &Job<'_>, call: &Call, config: &Config) -> io::Result<(Helper, Vec<Answer>)> {
    let begun = Instant::now();
    let (place, request) = (Place::of_user()?, Request::new(job, &call.path)?);
    let asked = |fingerprint: &Fingerprint| -> io::Result<Option<Reply>> {
        let mut connection = match highwater_worker::connect(&place, fingerprint) {
            Err(error) if is_nobody(&error) => return Ok(None),
            connection => connection?,
        };
        connection.send(&request)?;
        // The other half is for doing it here, should the connection lead nowhere.
        let left = call.time_limit.saturating_sub(begun.elapsed());
        connection.receive(left / 2).map(Some)
    };
    let helped = |helper: Helper, reply: Reply| match reply {
        Reply::Durable(durable) => Ok((helper, answers(durable, &config.repositories)?)),
        Reply::DoItYourself(reason) | Reply::NotMine(reason) => Err(io::Error::other(reason)),
    };
    match asked(&of_service(config, job.cluster)).map_err(|error| Helper::Service.failed(&error))? {
        None | Some(Reply::NotMine(_)) => {}
        Some(reply) => {
            return helped(Helper::Service, reply).map_err(|error| Helper::Service.failed(&error));
        }
    }
    if job.directory.server_inherits_orphans() {
        return Err(io::Error::other(
            "PostgreSQL is the first process here, and would take the worker for one of its own",
        ));
    }
    let own = of_worker(config, job.cluster, &request);
    match asked(&own).map_err(|error| Helper::Worker.failed(&error))? {
        Some(reply) => helped(Helper::Worker, reply).map_err(|error| Helper::Worker.failed(&error)),
        None => {
            highwater_worker::start(arguments(call)?)?;
            Err(io::Error::other("there was no worker; one is started for the next call"))
        }
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
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

/// What the worker must have in common with its callers.
pub(crate) fn of_worker(config: &Config, cluster: &ClusterConfig, request: &Request) -> Fingerprint {
    let (device, inode) = request.directory;
    Fingerprint::of_process("archive")
        .and(&config.text.0)
        .and_environment(std::env::vars_os())
        .and(cluster.name.as_str().as_bytes())
        .and(&request.system_id.0.to_le_bytes())
        .and(&device.to_le_bytes())
        .and(&inode.to_le_bytes())
}

/// What the receive service must have in common with its callers: another binary, but the same release and the same settings.
/// Which data directory is meant, and of which system, is part of each question.
pub(crate) fn of_service(config: &Config, cluster: &ClusterConfig) -> Fingerprint {
    service_of(config, cluster, PROTOCOL, std::env::vars_os())
}

fn service_of(
    config: &Config,
    cluster: &ClusterConfig,
    protocol: u32,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Fingerprint {
    let is_counted = |(name, _): &(OsString, OsString)| NOT_OF_SERVICE.iter().all(|other| name != other);
    Fingerprint::of_release("archive for receive")
        .and(&protocol.to_le_bytes())
        .and(&config.text.0)
        .and_environment(environment.into_iter().filter(is_counted))
        .and(cluster.name.as_str().as_bytes())
}

/// The worker's command line: what names settings and data directory, from any current folder.
fn arguments(call: &Call) -> io::Result<Vec<OsString>> {
    let mut arguments = vec!["--worker".into()];
    let config = Config::path(call.config.as_deref());
    if call.config.is_some() || config.exists() {
        arguments.extend(["--config".into(), std::path::absolute(config)?.into_os_string()]);
    }
    if let Some(cluster) = &call.cluster {
        arguments.extend(["--cluster".into(), cluster.as_str().into()]);
    }
    arguments.push(std::path::absolute(&call.path)?.into_os_string());
    Ok(arguments)
}

fn folder(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    path.parent().map(Path::to_owned).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r01_an_answer_that_leaves_out_a_repository_is_none() {
        let repositories = ["s3://a", "s3://b", "s3://b"].map(RepositoryConfig::from_url);
        let told = |labels: &[&str]| {
            let durable = labels.iter().map(|label| ((*label).to_owned(), true)).collect();
            answers(durable, &repositories)
        };
        assert_eq!(told(&["s3://b", "s3://a", "s3://b"]).unwrap().len(), 3);
        for labels in [&[][..], &["s3://a", "s3://b"], &["s3://a", "s3://b", "s3://c"]] {
            assert!(told(labels).is_err(), "{labels:?}");
        }
    }

    const SETTINGS: &str = "[repository]\nurl = 's3://b'\n[cluster.main]\n[cluster.other]\n";

    fn service(settings: &str, cluster: &str, protocol: u32, environment: &[(&str, &str)]) -> Fingerprint {
        let config = Config::parse(settings, "x", []).unwrap();
        let name = cluster.parse().unwrap();
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        service_of(&config, config.cluster(Some(&name)).unwrap(), protocol, environment)
    }

    #[test]
    fn the_service_answers_those_with_its_settings_and_of_its_release_alone() {
        let environment = [("AWS_REGION", "a"), ("HOME", "/root"), ("PATH", "/bin")];
        let own = service(SETTINGS, "main", PROTOCOL, &environment);
        let by_another_program = [
            ("AWS_REGION", "a"),
            ("HIGHWATER_CONFIG", "/x.toml"),
            ("NOTIFY_SOCKET", "/run/n"),
            ("TMPDIR", "/t"),
        ];
        assert_eq!(own, service(SETTINGS, "main", PROTOCOL, &by_another_program));
        assert_ne!(own, service(SETTINGS, "main", PROTOCOL + 1, &environment));
        assert_ne!(own, service(SETTINGS, "other", PROTOCOL, &environment));
        assert_ne!(own, service(&format!("{SETTINGS}\n# changed"), "main", PROTOCOL, &environment));
        assert_ne!(own, service(SETTINGS, "main", PROTOCOL, &[("AWS_REGION", "b")]));
        let variable = ("HIGHWATER_REPOSITORY_ENDPOINT", "http://localhost");
        assert_ne!(own, service(SETTINGS, "main", PROTOCOL, &[environment[0], variable]));
    }

    /// Whoever changes these lines changes [`PROTOCOL`].
    #[test]
    fn what_is_said_is_that_of_the_protocol() {
        assert_eq!(PROTOCOL, 1);
        let request = r#"{"file":"000000010000000000000002","folder":"/data/pg_wal","directory":[1,2],"system_id":"7","stamp":{"device":1,"inode":2,"length":3,"modified":[4,5],"changed":[6,7]},"timeline_ended":"0/8"}"#;
        let said: Request = serde_json::from_str(request).unwrap();
        assert_eq!(serde_json::to_string(&said).unwrap(), request);
        for reply in [
            r#"{"Durable":[["s3://b",true]]}"#,
            r#"{"DoItYourself":"a reason"}"#,
            r#"{"NotMine":"a reason"}"#,
        ] {
            let said: Reply = serde_json::from_str(reply).unwrap();
            assert_eq!(serde_json::to_string(&said).unwrap(), reply);
        }
    }
}
