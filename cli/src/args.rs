//! The arguments of `highwater`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use highwater_catalog::TablePattern;
use highwater_repository::{ClusterName, Label};
use highwater_wal::{Lsn, SystemId, TimelineId};

use crate::commands::expire::ExpireArgs;
use crate::commands::hold::HoldArgs;
use crate::commands::verify::VerifyArgs;

/// Keeps every commit of a PostgreSQL cluster in a folder or an object store, and brings the cluster back to any moment.
#[derive(Debug, Parser)]
#[command(
    name = "highwater",
    version,
    max_term_width = 110,
    after_help = "Examples:
  highwater init --repository file:///var/lib/highwater --cluster main --connection 'host=/run/postgresql user=postgres'
  highwater backup
  highwater window
  highwater log --drops
  highwater plan --at '2026-11-20 11:15:59'
  highwater restore --at '10 minutes ago' --to /var/lib/postgresql/15/restored

Exit status: 0 done, 1 failed, 2 bad usage or configuration, 3 the target cannot be reached,
4 something in the repository is damaged or missing."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The configuration [default: $HIGHWATER_CONFIG, else /etc/highwater/highwater.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The cluster's name in the repository; not needed where the configuration has only one
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    /// The repository: a URL, or the name of one of several in the configuration [default: the first]
    #[arg(long, global = true, value_name = "URL|NAME")]
    pub repository: Option<String>,
    /// The system identifier, where the cluster's name has had several [default: the newest]
    #[arg(long, global = true, value_name = "ID")]
    pub system_id: Option<SystemId>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress, print only the result: a restore's report and not its plan
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make or join a repository, and print the lines for postgresql.conf
    Init(InitArgs),
    /// Prove that archiving works, and tell every setting that would hurt later
    Check(CheckArgs),
    /// Take a base backup
    Backup(BackupArgs),
    /// List the backups, and what each takes
    List,
    /// Store which table a number in the WAL means, as the server tells it now
    Names(crate::commands::names::NamesArgs),
    /// Tell which moments can be reached, by timeline, and where the holes are
    Window,
    /// Tell what happened: transactions, rows changed by table, drops
    Log(crate::commands::LogArgs),
    /// Tell how a moment would be reached, or why it cannot
    Plan(PlanArgs),
    /// Bring the cluster back to a moment
    Restore(RestoreArgs),
    /// Prove what is in the repository; exit status 0 only when all is well
    Verify(VerifyArgs),
    /// Stream WAL into the repository as the server writes it, until told to stop
    Receive(crate::commands::ReceiveArgs),
    /// One screen: reachable until when, last backup, alarms
    Status,
    /// Tell what retention would remove, what stays and why; and remove it
    Expire(ExpireArgs),
    /// Keep one backup whatever the rules say
    Hold(HoldArgs),
    /// Let a restored clone that is to live on archive, or a cluster after pg_upgrade
    Adopt(AdoptArgs),
    /// Gather the summaries of archived WAL, 4 GiB of it in one object, where nobody has yet; every backup does so, too
    #[command(after_help = "Example:\n  highwater index")]
    Index,
    /// Print completions for a shell
    #[command(after_help = "Example:\n  highwater completions bash > /etc/bash_completion.d/highwater")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// What to do when it was interrupted.
    pub fn when_interrupted(&self) -> &'static str {
        match self {
            Command::Restore(_) => {
                "go on with the same command and --resume, or empty the folder, and those of its tablespaces, and restore anew"
            }
            Command::Verify(args) if args.deep => {
                "run it again; with --resume it goes on with what it had noted, after five minutes for the first time"
            }
            _ => "run it again",
        }
    }
}

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater init --repository file:///var/lib/highwater --cluster main --connection 'host=/run/postgresql user=postgres'
  highwater init --repository 's3://backups/prod?region=eu-central-1' --cluster main --new-identity /root/highwater-identity.txt")]
pub struct InitArgs {
    /// How to reach the server, as libpq takes it
    #[arg(long, value_name = "STRING")]
    pub connection: Option<String>,
    /// Make a key pair: the private key goes into this new file, which the database's host does not need; the repository is encrypted to its public key
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    pub new_identity: Option<PathBuf>,
    /// Make a key pair and keep the private key in the repository, wrapped by the passphrase in this file
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
    /// Use a store whose conditional put does not hold: two writers could then overwrite each other's objects
    #[arg(long)]
    pub allow_unsafe_store: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater check
  highwater check --timeout 5m --json")]
pub struct CheckArgs {
    /// How long to wait for the segment to arrive
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: std::time::Duration,
    /// Look at the settings only; do not switch a segment
    #[arg(long)]
    pub settings_only: bool,
}

/// Arguments of `adopt`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater adopt --cluster copy              a clone becomes a cluster of its own, [cluster.copy]
  highwater adopt --takeover                  the original is gone for good, and the clone takes its place
  highwater adopt --dry-run")]
pub struct AdoptArgs {
    /// The clone archives where its original did, which never starts again
    #[arg(long)]
    pub takeover: bool,
    /// Tell what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater backup
  highwater backup --label before-upgrade --checkpoint fast --max-rate 50M")]
pub struct BackupArgs {
    /// Its name [default: the time]
    #[arg(long)]
    pub label: Option<Label>,
    /// Whether the server's checkpoint is made at once or spread over time
    #[arg(long, value_enum, default_value_t = Checkpoint::Fast)]
    pub checkpoint: Checkpoint,
    /// The most that the server sends per second (32K to 1G)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_rate: Option<u64>,
    /// Store everything anew instead of taking over what the newest backup holds already
    #[arg(long)]
    pub full: bool,
    /// Take damaged pages as they are: the server does not verify its pages' checksums
    #[arg(long)]
    pub no_verify_checksums: bool,
    /// How long to wait at the end until the WAL that the backup needs is in the repository
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub wal_timeout: std::time::Duration,
}

/// How the checkpoint at a backup's start is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checkpoint {
    /// At once.
    Fast,
    /// Spread over `checkpoint_completion_target`, to be easy on the server.
    Spread,
}

/// The moment to come back to.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// Everything that is archived
    #[arg(long)]
    pub latest: bool,
    /// As soon as the newest backup is consistent
    #[arg(long)]
    pub immediate: bool,
    /// A time by the server's clock: '2026-11-20 11:15:59.5+01', RFC 3339, or '10 minutes ago'; without an offset this machine's zone is meant
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// A position in the WAL
    #[arg(long, value_name = "LSN")]
    pub lsn: Option<Lsn>,
    /// The end of a transaction
    #[arg(long, value_name = "XID")]
    pub xid: Option<u32>,
    /// A restore point made with pg_create_restore_point
    #[arg(long, value_name = "RESTORE-POINT")]
    pub name: Option<String>,
    /// Just before the transaction that dropped or truncated this table; as in SQL: accounts, public.accounts, '"Accounts"'
    #[arg(long, value_name = "[SCHEMA.]TABLE")]
    pub before_drop: Option<TablePattern>,
    /// Just before a transaction ended
    #[arg(long, value_name = "XID")]
    pub before_xid: Option<u32>,
}

/// What can be said about the way to the target.
#[derive(Debug, Clone, Args)]
pub struct WayArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// The timeline to follow [default: the newest]
    #[arg(long, value_name = "N")]
    pub timeline: Option<TimelineId>,
    /// Stop just before the target instead of just after it; not with --latest and --immediate, which are no record
    #[arg(long, conflicts_with_all = ["latest", "immediate", "before_drop", "before_xid"])]
    pub exclusive: bool,
    /// Where several transactions have dropped or truncated the table, the last is meant
    #[arg(long, conflicts_with_all = ["latest", "immediate", "at", "lsn", "xid", "name", "before_xid"])]
    pub last: bool,
    /// Start from this backup [default: the newest that serves]
    #[arg(long, value_name = "LABEL")]
    pub backup: Option<Label>,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater plan --latest
  highwater plan --at '2026-11-20 11:15:59' --timeline 2
  highwater plan --name before_migration --exclusive --json
  highwater plan --before-drop public.accounts")]
pub struct PlanArgs {
    #[command(flatten)]
    pub way: WayArgs,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater restore --latest --to /var/lib/postgresql/15/restored
  highwater restore --at '10 minutes ago' --to /srv/copy --tablespace /srv/fast=/srv/copy-fast
  highwater restore --latest --to /var/lib/postgresql/15/main --takeover")]
pub struct RestoreArgs {
    #[command(flatten)]
    pub way: WayArgs,
    /// The new data directory: absent or empty
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Restore a copy, which cannot archive into the original's archive (the default)
    #[arg(long, conflicts_with = "takeover")]
    pub clone: bool,
    /// Restore the cluster itself: it goes on archiving where the original did
    #[arg(long)]
    pub takeover: bool,
    /// Put a tablespace elsewhere
    #[arg(long = "tablespace", value_name = "OLD=NEW")]
    pub tablespaces: Vec<String>,
    /// What the server does at the target
    #[arg(long, value_enum, default_value_t = Action::Promote)]
    pub action: Action,
    /// Become a standby that follows the archive to its end, with --latest, instead of stopping there
    #[arg(long, conflicts_with_all = ["action", "timeline", "exclusive", "at", "lsn", "xid", "name", "immediate", "before_drop", "before_xid"])]
    pub standby: bool,
    /// Go on with a restore into this folder that was cut short
    #[arg(long)]
    pub resume: bool,
    /// Who is to own the files [default: whoever owns the folder above]
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// Prove that it can be done and tell how, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What the server does at the target (`recovery_target_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// It opens for writing, on a new timeline.
    Promote,
    /// It stays read-only until `pg_wal_replay_resume()`.
    Pause,
    /// It shuts down.
    Shutdown,
}

/// A length of time: `90`, `90s`, `5m`, `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err("hint: write it as 90s, 5m or 2h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "hint: write it as 90s, 5m or 2h".to_owned())?;
    number
        .checked_mul(seconds)
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| "that is too long".to_owned())
}

/// A number of bytes: `65536`, `64K`, `50M`, `1G`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim_end_matches(['i', 'B', 'b']) {
        "" => 1,
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err("hint: write it as 65536, 64K, 50M or 1G".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "hint: write it as 65536, 64K, 50M or 1G".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "that is too much".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_bytes() {
        assert_eq!(parse_duration("90").map(|d| d.as_secs()), Ok(90));
        assert_eq!(parse_duration("2h").map(|d| d.as_secs()), Ok(7200));
        assert_eq!(parse_bytes("50M"), Ok(50 << 20));
        assert_eq!(parse_bytes("64KiB"), Ok(64 << 10));
        for bad in ["", "x", "5 m", "-1s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_bytes("1T").is_err());
    }

    #[test]
    fn r22_a_standby_stops_at_no_target() {
        let parsed = |more: &[&str]| {
            let line = ["highwater", "restore", "--to", "/x", "--standby"].iter().chain(more);
            Cli::try_parse_from(line).is_ok()
        };
        assert!(parsed(&["--latest"]));
        for target in
            [&["--at", "now"][..], &["--lsn", "0/28"], &["--xid", "7"], &["--name", "n"], &["--immediate"]]
        {
            assert!(!parsed(target), "{target:?}");
        }
        for more in [&["--action", "pause"][..], &["--timeline", "1"], &["--exclusive"]] {
            assert!(!parsed(&[&["--latest"], more].concat()), "{more:?}");
        }
    }

    #[test]
    fn r22_a_restore_needs_one_target() {
        for args in [
            &["restore", "--to", "/x"][..],
            &["restore", "--to", "/x", "--latest", "--xid", "7"],
            &["restore", "--to", "/x", "--latest", "--exclusive"],
            &["plan", "--immediate", "--exclusive"],
        ] {
            let line = std::iter::once(&"highwater").chain(args);
            assert!(Cli::try_parse_from(line).is_err(), "{args:?}");
        }
        assert!(Cli::try_parse_from(["highwater", "plan", "--xid", "7", "--exclusive"]).is_ok());
    }
}
