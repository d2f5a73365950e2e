//! `highwater-archive-cmd %p`: the program for PostgreSQL's `archive_command`. What archiving is, is in `highwater_archive`; here
//! is what makes a program of it.
//!
//! | module | what it is |
//! | --- | --- |
//! | `arguments` | the command line |
//! | `exit` | exit statuses |
//! | `error`, `say` | why not, and how that is told |
//! | `guard` | time limit, panics |

mod arguments;
mod error;
mod exit;
mod guard;
mod say;

use std::process::ExitCode;

use highwater_archive::{Answer, Call, Job, archive, ask, is_of_use, work};
use highwater_repository::{Config, Stored};

use crate::arguments::Command;
use crate::error::Error;
use crate::exit::Exit;

fn main() -> ExitCode {
    guard::catch_panics();
    let exit = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Command::Archive { call, is_verbose }) => run(&call, is_verbose),
        Ok(Command::Work(call)) => work(&call).map_or_else(|error| Exit::from(&error), |()| Exit::Archived),
        Ok(Command::Help) => say::answer(arguments::HELP),
        Ok(Command::Version) => {
            say::answer(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Err(error) => fail(&error),
    };
    exit.into()
}

fn fail(error: &Error) -> Exit {
    say::line(&error.to_string());
    error.exit()
}

fn run(call: &Call, is_verbose: bool) -> Exit {
    let shown = call.path.display();
    guard::end_after(call.time_limit, shown.to_string());
    match try_run(call, is_verbose) {
        Ok(answers) => {
            for answer in &answers {
                tell(answer, call, is_verbose);
            }
            exit::decide(&answers)
        }
        Err(error) => {
            say::line(&format!("{shown}: {error}"));
            error.exit()
        }
    }
}

fn try_run(call: &Call, is_verbose: bool) -> Result<Vec<Answer>, Error> {
    let config = Config::load(call.config.as_deref())?;
    let cluster = config.cluster(call.cluster.as_ref())?;
    let job = Job::new(cluster, &call.path)?;
    if is_of_use(cluster, &config.repositories) {
        let path = call.path.display();
        match ask(&job, call, &config) {
            Ok((helper, answers)) => {
                if is_verbose {
                    say::line(&format!("{path}: done by {helper}"));
                }
                return Ok(answers);
            }
            // Whatever is wrong with it or with the file, doing the work tells better.
            Err(reason) if is_verbose => say::line(&format!("{path}: done without help: {reason}")),
            Err(_) => {}
        }
    }
    Ok(archive(&job, &config.repositories)?)
}

fn tell(answer: &Answer, call: &Call, is_verbose: bool) {
    let (path, repository) = (call.path.display(), &answer.repository);
    match &answer.result {
        Err(error) => say::line(&format!("{path}: {error}")),
        Ok(_) if !is_verbose => {}
        Ok(Stored::Created) => say::line(&format!("{path}: archived in {repository}")),
        Ok(Stored::AlreadySame) => {
            say::line(&format!("{path}: is in {repository} already, with the same content"))
        }
    }
}
