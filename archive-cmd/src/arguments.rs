//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use highwater_archive::Call;
use highwater_repository::ClusterName;
use lexopt::prelude::{Long, Short, Value};

use crate::error::Error;

/// How long everything may take where nothing is said.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(300);

/// The longest time limit that can be asked for, in seconds: a day.
const MAX_TIME_LIMIT_SECONDS: u64 = 86_400;

/// What `--help` prints.
pub const HELP: &str = "\
Puts a file of WAL into every configured repository. Meant for PostgreSQL's archive_command:

    archive_mode = on
    archive_command = 'highwater-archive-cmd %p'

Usage: highwater-archive-cmd [OPTIONS] PATH

PATH is a segment, a .partial segment, a .history or a .backup file in pg_wal. A relative one, as PostgreSQL's %p is, is
taken from the current folder, which is then the data directory.

Options:
      --cluster NAME        the cluster, when several are configured
      --config FILE         the configuration; else $HIGHWATER_CONFIG, else /etc/highwater/highwater.toml
      --time-limit SECONDS  fail when it takes longer, 300 if not given; PostgreSQL then tries again
      --worker              what the program starts by itself for a remote repository where no highwater receive
                            runs beside it with the same configuration: keep connections, upload ahead
  -v, --verbose             also say what was done, and by whom
  -h, --help                print this
  -V, --version             print the version

Exit status: 0 the file is durable in every repository; 1 it is not; 2 bad usage or configuration; 4 what a repository has
under this name is damaged. PostgreSQL keeps the file and tries again unless it is 0.

Examples:
    archive_command = 'highwater-archive-cmd --cluster main %p'
    archive_command = 'highwater-archive-cmd --config /etc/highwater/main.toml --time-limit 60 %p'
    cd /var/lib/postgresql/15/main && highwater-archive-cmd --verbose pg_wal/00000001000000000000002A
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Archive a file.
    Archive {
        /// Which one, and how.
        call: Call,
        /// Whether a success is told, too.
        is_verbose: bool,
    },
    /// Be the worker for the calls that archive the files beside this one.
    Work(Call),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut path, mut cluster, mut config) = (None, None, None);
    let (mut time_limit, mut is_verbose, mut works) = (DEFAULT_TIME_LIMIT, false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) if path.is_none() => path = Some(PathBuf::from(value)),
            Long("cluster") => cluster = Some(cluster_name(parser.value()?)?),
            Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Long("time-limit") => time_limit = seconds(&parser.value()?)?,
            Long("worker") => works = true,
            Short('v') | Long("verbose") => is_verbose = true,
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            other => return Err(other.unexpected().into()),
        }
    }
    let path = path.ok_or_else(|| Error::Usage("no file was named".to_owned()))?;
    let call = Call { path, cluster, config, time_limit };
    Ok(if works { Command::Work(call) } else { Command::Archive { call, is_verbose } })
}

fn cluster_name(text: OsString) -> Result<ClusterName, Error> {
    Ok(text.to_string_lossy().parse()?)
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
        let call = |path: &str| Call {
            path: path.into(),
            cluster: None,
            config: None,
            time_limit: DEFAULT_TIME_LIMIT,
        };
        let quietly = Command::Archive { call: call("pg_wal/1"), is_verbose: false };
        assert_eq!(parsed("pg_wal/1").unwrap(), quietly);
        let all = Call {
            cluster: Some("main".parse().unwrap()),
            config: Some("/x.toml".into()),
            time_limit: Duration::from_secs(7),
            ..call("p")
        };
        assert_eq!(
            parsed("--cluster main --config=/x.toml -v --time-limit=7 p").unwrap(),
            Command::Archive { call: all, is_verbose: true }
        );
        assert_eq!(parsed("--worker p").unwrap(), Command::Work(call("p")));
        assert_eq!(parsed("--help").unwrap(), Command::Help);
        assert_eq!(parsed("-V p").unwrap(), Command::Version);
    }

    #[test]
    fn r22_bad_usage_is_told_with_what_to_do() {
        for line in [
            "",
            "a b",
            "--nonsense",
            "--cluster",
            "--cluster ../x p",
            "--time-limit 0 p",
            "--time-limit -1 p",
            "--time-limit 1e9 p",
            "--time-limit 86401 p",
            "--verbose=yes p",
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.to_string().contains("hint: "), "{line}: {error}");
            assert_eq!(error.exit(), crate::exit::Exit::Usage, "{line}");
        }
    }

    #[test]
    fn the_help_names_every_option_and_the_default() {
        for text in ["--cluster", "--config", "--time-limit", "--worker", "--verbose", "--help", "--version"]
        {
            assert!(HELP.contains(text), "{text}");
        }
        assert!(HELP.contains(&DEFAULT_TIME_LIMIT.as_secs().to_string()));
    }
}
