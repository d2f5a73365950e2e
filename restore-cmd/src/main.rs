//! `highwater-restore-cmd %f %p`: the program for PostgreSQL's `restore_command`.
//!
//! It fetches one file of WAL, verifies it (R7) and puts it at its place, complete or not at all (R8). Its exit status
//! decides whether PostgreSQL goes on, ends recovery and opens the database, or stops: so "not there" is said only when
//! it is certain (R6). Ended by a signal, as PostgreSQL does at a shutdown, it dies of it, which PostgreSQL understands.
//!
//! | module | what it is |
//! | --- | --- |
//! | `arguments` | the command line |
//! | `exit` | exit statuses |
//! | `error`, `say` | why not, and how that is told |
//! | `guard` | time limit, panics |
//! | `data_directory` | which cluster, and whether it is a standby |
//! | `destination` | the place of the file (R8) |
//! | `fetch` | asking one repository (R7) |
//! | `tail` | a segment put together from its pieces |
//! | `ahead` | a process beside it that has fetched what PostgreSQL asks for next |
//! | `decide` | what PostgreSQL is told (R6) |

mod ahead;
mod arguments;
mod data_directory;
mod decide;
mod destination;
mod error;
mod exit;
mod fetch;
mod guard;
mod say;
mod tail;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use highwater_repository::Config;
use highwater_repository::config::RepositoryConfig;

use crate::ahead::{Ahead, Helper};
use crate::arguments::{Command, Options};
use crate::decide::Answer;
use crate::destination::Destination;
use crate::error::Error;
use crate::exit::Exit;
use crate::fetch::Wanted;

/// How long a standby has its repository asked again, at most: it asks again itself, and follows its primary meanwhile.
const STANDBY_RETRY_BUDGET: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    guard::catch_panics();
    let exit = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Command::Restore(options)) => run(&options),
        Ok(Command::Work(options)) => ahead::work(&options),
        Ok(Command::Help) => say::answer(arguments::HELP),
        Ok(Command::Version) => {
            say::answer(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Err(error) => {
            say::line(&error.to_string());
            error.exit()
        }
    };
    exit.into()
}

fn run(options: &Options) -> Exit {
    let is_standby = data_directory::is_standby(Path::new("."));
    guard::end_after(options.time_limit, options.file.to_string(), decide::when_out_of_time(is_standby));
    restore(options, is_standby).unwrap_or_else(|error| {
        say::line(&format!("{}: {error}", options.file));
        error.exit()
    })
}

fn restore(options: &Options, is_standby: bool) -> Result<Exit, Error> {
    let config = Config::load(options.config.as_deref())?;
    let wanted = wanted(options, &config)?;
    let ahead = Ahead::of(&wanted, options, &config);
    let mut helper = Helper::None;
    if let Some(ahead) = &ahead {
        helper = ahead.ask();
        if let Helper::HasIt(file) = &helper
            && Destination::open(&options.path)?.publish_instead(file).is_ok()
        {
            if options.verbose {
                say::line(&format!("{}: was fetched ahead", options.file));
            }
            return Ok(Exit::Found);
        }
    }
    let exit = fetch(options, &config, &wanted, is_standby)?;
    if let Some(ahead) = ahead.filter(|_| exit == Exit::Found) {
        ahead.go_on(helper);
    }
    Ok(exit)
}

/// Asks the repositories, one after the other.
fn fetch(options: &Options, config: &Config, wanted: &Wanted, is_standby: bool) -> Result<Exit, Error> {
    let destination = Destination::open(&options.path)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let ask = |repository: &RepositoryConfig| {
        let settings = if is_standby { impatient(repository) } else { repository.clone() };
        let answer = runtime.block_on(fetch::fetch(&settings, wanted, destination.content()));
        tell(&answer, repository, options);
        answer
    };
    let mut answers = Vec::new();
    for repository in &config.repositories {
        answers.push(ask(repository));
        if matches!(answers.last(), Some(Answer::Found)) {
            break;
        }
    }
    if let Some(longest) = decide::longest(&answers) {
        // What was written last is what was asked for last.
        let again = match config.repositories.get(longest) {
            Some(repository) if longest + 1 < answers.len() => ask(repository),
            _ => Answer::Found,
        };
        answers.push(if matches!(again, Answer::Partly(_)) { Answer::Found } else { again });
    }
    if matches!(answers.last(), Some(Answer::Found)) {
        destination.publish()?;
    }
    Ok(decide::decide(&answers, is_standby))
}

/// Which file of which cluster.
fn wanted(options: &Options, config: &Config) -> Result<Wanted, Error> {
    let folder = Path::new(".");
    let marker = data_directory::marker(folder)?;
    let marked = marker.as_ref().map(|marker| marker.system_id);
    let told = data_directory::agree(marked, data_directory::system_id(folder)?)?;
    let cluster = match (&options.cluster, marker) {
        (Some(name), _) => name.clone(),
        (None, Some(marker)) => marker.cluster,
        (None, None) => config.cluster(None)?.name.clone(),
    };
    Ok(Wanted { file: options.file, cluster, system_id: options.system_id.or(told), until: options.until })
}

/// The same repository, asked less often.
fn impatient(repository: &RepositoryConfig) -> RepositoryConfig {
    let mut repository = repository.clone();
    repository.store.most_retry_budget = Some(STANDBY_RETRY_BUDGET);
    repository
}

fn tell(answer: &Answer, repository: &RepositoryConfig, options: &Options) {
    let (file, repository) = (options.file, repository.label());
    match answer {
        Answer::Failed(error) => say::line(&format!("{file}: {error}")),
        Answer::Found if options.verbose => say::line(&format!("{file}: fetched from {repository}")),
        Answer::Partly(end) if options.verbose => {
            say::line(&format!("{file}: {repository} has it up to {end}"));
        }
        Answer::NotThere if options.verbose => say::line(&format!("{file}: is not in {repository}")),
        Answer::Found | Answer::Partly(_) | Answer::NotThere => {}
    }
}
