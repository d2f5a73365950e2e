//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use highwater_repository::ClusterName;
use highwater_wal::{Lsn, SystemId, WalFile};
use lexopt::prelude::{Long, Short, Value};

use crate::error::Error;

/// How long everything may take where nothing is said.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(300);

/// The longest time limit that can be asked for, in seconds: a day.
const MAX_TIME_LIMIT_SECONDS: u64 = 86_400;

/// What `--help` prints.
pub const HELP: &str = "\
Fetches a file of WAL from the configured repositories. Meant for PostgreSQL's restore_command:

    restore_command = 'highwater-restore-cmd %f %p'

Usage: highwater-restore-cmd [OPTIONS] NAME PATH

NAME is the file that is wanted: a segment, a .partial segment, a .history or a .backup file. PATH is where to put it.
A relative one, as PostgreSQL's %p is, is taken from the current folder, which is then the data directory.

Options:
      --cluster NAME        the cluster, when the data directory does not tell and several are configured
      --system-id NUMBER    its system identifier, when global/pg_control does not tell
      --config FILE         the configuration; else $HIGHWATER_CONFIG, else /etc/highwater/highwater.toml
      --until LSN           recovery stops there: a segment is handed over as far as there are pieces of it, if they go further
      --time-limit SECONDS  fail when it takes longer, 300 if not given
      --worker              what the program starts by itself during a recovery: fetch what comes after NAME
  -v, --verbose             also say what was done
  -h, --help                print this
  -V, --version             print the version

Exit status: 0 the file is there, verified; 1 no repository has it or anything later of its timeline, which ends
PostgreSQL's recovery; 200 it could not be had; 201 it is damaged, or missing while later ones are there; 202 bad usage
or configuration. From 200 on PostgreSQL stops rather than open with less than was archived. A standby, which asks
again, is told 1 where waiting may help.

Examples:
    restore_command = 'highwater-restore-cmd --config /etc/highwater/main.toml %f %p'
    highwater-restore-cmd --cluster main 00000001000000000000002A /tmp/00000001000000000000002A
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Fetch a file.
    Restore(Options),
    /// Be what fetches the files behind this one before they are asked for.
    Work(Options),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// What to fetch, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The file that is wanted.
    pub file: WalFile,
    /// Where to put it.
    pub path: PathBuf,
    /// The cluster's name, where it was given.
    pub cluster: Option<ClusterName>,
    /// Its system identifier, where it was given.
    pub system_id: Option<SystemId>,
    /// The configuration's file, where it was given.
    pub config: Option<PathBuf>,
    /// Where recovery stops, where that was given.
    pub until: Option<Lsn>,
    /// How long everything may take.
    pub time_limit: Duration,
    /// Whether a success is told, too.
    pub verbose: bool,
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut file, mut path, mut cluster, mut system_id, mut config) = (None, None, None, None, None);
    let (mut until, mut time_limit) = (None, DEFAULT_TIME_LIMIT);
    let (mut verbose, mut works) = (false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) if file.is_none() => file = Some(value.to_string_lossy().parse()?),
            Value(value) if path.is_none() => path = Some(PathBuf::from(value)),
            Long("cluster") => cluster = Some(parser.value()?.to_string_lossy().parse()?),
            Long("system-id") => system_id = Some(parser.value()?.to_string_lossy().parse()?),
            Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Long("until") => until = Some(parser.value()?.to_string_lossy().parse()?),
            Long("time-limit") => time_limit = seconds(&parser.value()?)?,
            Long("worker") => works = true,
            Short('v') | Long("verbose") => verbose = true,
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            other => return Err(other.unexpected().into()),
        }
    }
    let (Some(file), Some(path)) = (file, path) else {
        return Err(Error::Usage("the file that is wanted, or where to put it, was not named".to_owned()));
    };
    let options = Options { file, path, cluster, system_id, config, until, time_limit, verbose };
    Ok(if works { Command::Work(options) } else { Command::Restore(options) })
}

fn seconds(text: &OsString) -> Result<Duration, Error> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    match number.filter(|seconds| (1..=MAX_TIME_LIMIT_SECONDS).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(Error::Usage(format!(
            "--time-limit is a number of seconds from 1 to {MAX_TIME_LIMIT_SECONDS}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_postgresql_calls_is_understood() {
        let usual = || Options {
            file: "00000002.history".parse().unwrap(),
            path: "pg_wal/RECOVERYHISTORY".into(),
            cluster: None,
            system_id: None,
            config: None,
            until: None,
            time_limit: DEFAULT_TIME_LIMIT,
            verbose: false,
        };
        assert_eq!(parsed("00000002.history pg_wal/RECOVERYHISTORY").unwrap(), Command::Restore(usual()));
        let all = Options {
            cluster: Some("main".parse().unwrap()),
            system_id: Some(SystemId(77)),
            config: Some("/x.toml".into()),
            until: Some(Lsn(0x1_0000_0028)),
            time_limit: Duration::from_secs(7),
            verbose: true,
            ..usual()
        };
        let line = "--cluster main --system-id=77 --config=/x.toml -v --time-limit=7 --until 1/28 00000002.history pg_wal/RECOVERYHISTORY";
        assert_eq!(parsed(line).unwrap(), Command::Restore(all));
        let works = parsed("--worker 00000002.history pg_wal/RECOVERYHISTORY").unwrap();
        assert_eq!(works, Command::Work(usual()));
        assert_eq!(parsed("--help").unwrap(), Command::Help);
        assert_eq!(parsed("-V").unwrap(), Command::Version);
    }

    #[test]
    fn r06_bad_usage_is_never_taken_for_the_end_of_the_archive() {
        for line in [
            "",
            "00000002.history",
            "00000002.history a b",
            "RECOVERYXLOG a",
            "000000010000000000000001 a --nonsense",
            "--cluster",
            "--cluster ../x 00000002.history a",
            "--system-id x 00000002.history a",
            "--time-limit 0 00000002.history a",
            "--time-limit x 00000002.history a",
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.to_string().contains("hint: "), "{line}: {error}");
            assert_eq!(error.exit(), crate::exit::Exit::Usage, "{line}");
        }
    }

    #[test]
    fn the_help_names_every_option_status_and_default() {
        for text in [
            "--cluster",
            "--system-id",
            "--config",
            "--until",
            "--time-limit",
            "--worker",
            "--verbose",
            "--help",
            "--version",
        ] {
            assert!(HELP.contains(text), "{text}");
        }
        for text in ["0 the", "1 no", "200 it", "201 it", "202 bad", "300 if"] {
            assert!(HELP.contains(text), "{text}");
        }
    }
}
