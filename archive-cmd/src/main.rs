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
//! | `archive` | into every repository (R1) |

mod archive;
mod arguments;
mod check;
mod data_directory;
mod error;
mod exit;
mod guard;
mod say;
mod source;

use std::process::ExitCode;
use std::time::SystemTime;

use highwater_repository::{Config, Stored};
use highwater_wal::{Timestamp, WalFile};

use crate::archive::{Answer, Job};
use crate::arguments::{Command, Options};
use crate::check::Known;
use crate::data_directory::DataDirectory;
use crate::error::Error;
use crate::exit::Exit;
use crate::source::Source;

fn main() -> ExitCode {
    guard::catch_panics();
    let exit = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Command::Archive(options)) => run(&options),
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
    let path = &options.path;
    let config = Config::load(options.config.as_deref())?;
    let cluster = config.cluster(options.cluster.as_ref())?;
    let file = source::name(path)?;
    let directory = DataDirectory::of(path);
    directory.check_may_archive(cluster)?;
    let source = Source::open(path, file)?;

    let own = directory.system_id()?;
    let later = data_directory::later_timeline(path, file)?;
    let history = later.map(|timeline| data_directory::history(path, timeline)).transpose()?;
    let timeline_ended = history.and_then(|history| history.left_at(file.timeline()));
    let known = Known { system_id: own, timeline_ended, level: cluster.archive_check };
    let Some(system_id) = own.or_else(|| check::system_id(file, &source.beginning)) else {
        // What is wrong with a segment without a header, the check says better.
        archive::check_only(file, &source, &known)?;
        return Err(Error::NoSystemId(directory.control_file()));
    };
    let is_own = later.is_none() && !directory.is_in_recovery();
    let written = written(file, &source, directory.server_start().filter(|_| is_own));
    archive::archive(&Job { file, source, cluster, system_id, known, written }, &config.repositories)
}

/// By when everything that the server had acknowledged lies in this segment or an earlier one. A planner takes it as
/// proof that nothing is missing before that moment, so it must never be later than the server's last write into the file.
///
/// PostgreSQL writes WAL in order (`XLogWrite` holds `WALWriteLock`), so the time of the last write into a segment comes
/// before that of the first write into the next one. That holds for what this run of the server wrote itself, `own_since`
/// its start: `None` on a standby, and for the timelines before a promoted server's own, since the time is then that of
/// a copy, and while that was on its way the primary may have acknowledged more. What is older than the run may have
/// been copied by hand.
fn written(file: WalFile, source: &Source, own_since: Option<Timestamp>) -> Option<Timestamp> {
    let is_complete = matches!(file, WalFile::Segment(_));
    let is_own = own_since.is_some_and(|start| start <= source.modified);
    // A clock that was set back since would vouch for commits that are still to come.
    (is_complete && is_own).then(|| source.modified.min(now()))
}

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let whole = Timestamp::from_unix_seconds(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX));
    Timestamp(whole.0.saturating_add(since_1970.subsec_micros().into()))
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
