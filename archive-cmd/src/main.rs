//! `highwater-archive-cmd %p`: the program for PostgreSQL's `archive_command`.
//!
//! It takes one file of `pg_wal`, checks it (R4), and puts it into every configured repository (R1); the same file again
//! is a success, other content under its name is not (R3). It never changes or removes anything, neither in the
//! repository nor in the data directory, and it has no state of its own: whatever becomes of it, PostgreSQL keeps the
//! file and asks again until it has answered 0.
//!
//! | module | what it is |
//! | --- | --- |
//! | `arguments` | the command line |
//! | `exit` | exit statuses |
//! | `error`, `say` | why not, and how that is told |
//! | `guard` | time limit, panics |
//! | `source` | the file |
//! | `data_directory` | where it comes from (R5) |
//! | `check` | whether it is what its name says (R4) |
//! | `job` | what is looked at before, for every file anew |
//! | `archive` | into every repository (R1) |
//! | `worker` | a process beside it that keeps connections and works ahead, for remote repositories |

mod archive;
mod arguments;
mod check;
mod data_directory;
mod error;
mod exit;
mod guard;
mod job;
mod say;
mod source;
mod worker;

use std::process::ExitCode;

use highwater_repository::{Config, Stored};

use crate::archive::Answer;
use crate::arguments::{Command, Options};
use crate::error::Error;
use crate::exit::Exit;
use crate::job::Job;

fn main() -> ExitCode {
    guard::catch_panics();
    let exit = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Command::Archive(options)) => run(&options),
        Ok(Command::Work(options)) => worker::work(&options),
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

fn run(options: &Options) -> Exit {
    let shown = options.path.display();
    guard::end_after(options.time_limit, shown.to_string());
    match archive(options) {
        Ok(answers) => {
            for answer in &answers {
                tell(answer, options);
            }
            archive::decide(&answers)
        }
        Err(error) => {
            say::line(&format!("{shown}: {error}"));
            error.exit()
        }
    }
}

fn archive(options: &Options) -> Result<Vec<Answer>, Error> {
    let config = Config::load(options.config.as_deref())?;
    let cluster = config.cluster(options.cluster.as_ref())?;
    let job = Job::new(cluster, &options.path)?;
    if worker::is_of_use(&job, &config.repositories) {
        match worker::ask(&job, options, &config.repositories) {
            Ok(answers) => return Ok(answers),
            // Whatever is wrong with it or with the file, doing the work tells better.
            Err(reason) if options.verbose => {
                say::line(&format!("{}: done without the worker: {reason}", options.path.display()));
            }
            Err(_) => {}
        }
    }
    archive::archive(&job, &config.repositories)
}

fn tell(answer: &Answer, options: &Options) {
    let (path, repository) = (options.path.display(), &answer.repository);
    match &answer.result {
        Err(error) => say::line(&format!("{path}: {error}")),
        Ok(_) if !options.verbose => {}
        Ok(Stored::Created) => say::line(&format!("{path}: archived in {repository}")),
        Ok(Stored::AlreadySame) => {
            say::line(&format!("{path}: is in {repository} already, with the same content"))
        }
    }
}
