//! What a restore did, how to start the server, and what that will do.

mod start;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use highwater_catalog::{Plan, Stop, Target};
use highwater_repository::marker::Kind;
use highwater_wal::TimelineId;
use serde::Serialize;

pub(crate) use start::{Machine, start_command};

use crate::options::{Action, Role};
use crate::settings::{Setting, settings_of_a_target};

/// What a restore did. Its text is for people, its serialisation for programs.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The restored data directory.
    pub target: PathBuf,
    /// The cluster's name in the repository.
    pub cluster: String,
    /// The backup that was restored.
    pub backup: String,
    /// Copy, or the cluster itself.
    pub kind: Kind,
    /// Primary or standby.
    pub role: Role,
    /// What the server does at the stop.
    pub action: Action,
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// Where recovery stops; `None` for a standby that follows.
    pub stop: Option<Stop>,
    /// The moment that was asked for.
    pub asked: Target,
    /// When the last transaction that the restored cluster holds was committed, by the server's clock.
    pub last_commit: Option<highwater_wal::Timestamp>,
    /// Segments of WAL that the server will fetch.
    pub segments: u64,
    /// Their bytes.
    pub wal_bytes: u64,
    /// Files of the backup.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that this run wrote: fewer when it went on with an interrupted restore.
    pub written_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Tablespaces outside the data directory.
    pub tablespaces: Vec<RestoredTablespace>,
    /// The command that starts the server.
    pub start: String,
    /// What else to know before the start.
    pub notes: Vec<String>,
    /// The interrupted restore had been finished but for the removal of its mark: nothing else was done, and the settings are
    /// those that it wrote.
    pub was_complete: bool,
}

/// Where a tablespace went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredTablespace {
    /// Its OID.
    pub oid: u32,
    /// Where it lay when the backup was taken.
    pub from: String,
    /// Where it lies now.
    pub to: PathBuf,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.was_complete {
            writeln!(
                f,
                "{} had been restored already: only the mark of the interrupted run was left, and was removed.",
                self.target.display()
            )?;
        } else {
            let Report { cluster, backup, files, .. } = self;
            let (bytes, time) = (size(self.bytes), duration(Duration::from_secs_f64(self.seconds)));
            let target = self.target.display();
            writeln!(
                f,
                "Restored backup {backup} of {cluster} into {target}: {files} files, {bytes}, in {time}."
            )?;
            for tablespace in &self.tablespaces {
                writeln!(
                    f,
                    "Tablespace {} of {} lies in {}.",
                    tablespace.oid,
                    tablespace.from,
                    tablespace.to.display()
                )?;
            }
            writeln!(f, "{}", self.outlook())?;
        }
        writeln!(f, "\nStart it:\n\n    {}\n", self.start)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl Report {
    /// What the server does when it is started.
    fn outlook(&self) -> String {
        let wal = match self.segments {
            1 => "1 segment".to_owned(),
            segments => format!("{segments} segments"),
        };
        let timeline = self.timeline;
        let Some(stop) = self.stop else {
            return format!(
                "At its start it fetches {wal} ({}) and stays a standby, which goes on with what is archived later.",
                size(self.wal_bytes)
            );
        };
        let place = match stop {
            Stop::Consistent => "as soon as it is consistent".to_owned(),
            Stop::Record { lsn, inclusive: true } => format!("just after the record at {lsn}"),
            Stop::Record { lsn, inclusive: false } => format!("just before the record at {lsn}"),
        };
        let commit = match self.last_commit {
            Some(time) => format!("; its last commit is of {time}"),
            None => String::new(),
        };
        let then = match self.action {
            Action::Promote => "Then it opens for writing, on a new timeline.",
            Action::Pause => {
                "Then it waits, and can be read; SELECT pg_wal_replay_resume() opens it for writing."
            }
            Action::Shutdown => {
                "Then it shuts down; with recovery_target_action = 'promote' in postgresql.auto.conf the next start opens it for writing."
            }
        };
        format!(
            "At its start it fetches {wal} ({}) of timeline {timeline} and stops {place}: {}{commit}.\n{then}",
            size(self.wal_bytes),
            self.asked
        )
    }
}

/// What to know of the kind of a restore.
pub(crate) fn kind_note(kind: Kind, plan: &Plan) -> String {
    match kind {
        Kind::Clone => {
            "It is a clone: archive_mode is off, and highwater-archive-cmd refuses to archive for it until highwater adopt.\n\
             Beside the original on one machine it needs another port: add -o \"-p PORT\"."
                .to_owned()
        }
        Kind::Takeover => format!(
            "It takes the cluster's place: it archives as its settings say. Make sure that the old server never starts again;\n\
             on timeline {} it would archive other WAL under the same names.",
            plan.timeline
        ),
    }
}

/// What to take back once a restored server runs. Its target stands in `postgresql.auto.conf` for good otherwise, and goes
/// with every copy: a standby made by `pg_basebackup -R` would look for the end of the old timeline and not follow its primary.
pub(crate) fn target_note(settings: &[Setting], role: Role) -> Option<String> {
    let names: Vec<&str> = settings_of_a_target()
        .chain(["recovery_prefetch"])
        .filter(|name| settings.iter().any(|(known, value)| known == name && !value.is_empty()))
        .collect();
    if role == Role::Standby || names.is_empty() {
        return None;
    }
    let lines: String = names.iter().map(|name| format!("\n    ALTER SYSTEM RESET {name};")).collect();
    Some(format!(
        "Once it has opened for writing, take its target back: a standby made from it would inherit that, and not follow it.\n{lines}\n    SELECT pg_reload_conf();\n"
    ))
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = "bytes";
    let mut amount = bytes as f64;
    for larger in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{amount:.1} {unit}") }
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use highwater_wal::Lsn;

    use super::*;

    fn report() -> Report {
        Report {
            target: "/restored".into(),
            cluster: "main".to_owned(),
            backup: "daily".to_owned(),
            kind: Kind::Clone,
            role: Role::Primary,
            action: Action::Promote,
            timeline: TimelineId::FIRST,
            stop: Some(Stop::Record { lsn: Lsn(0x0300_0028), inclusive: false }),
            asked: Target::Lsn(Lsn(0x0300_0028)),
            last_commit: None,
            segments: 2,
            wal_bytes: 32 << 20,
            files: 1000,
            bytes: 1_500_000_000,
            written_bytes: 1_500_000_000,
            seconds: 12.3,
            tablespaces: vec![RestoredTablespace { oid: 16385, from: "/old".to_owned(), to: "/new".into() }],
            start: "pg_ctl start -D /restored".to_owned(),
            notes: vec!["A note.".to_owned()],
            was_complete: false,
        }
    }

    #[test]
    fn it_says_what_was_done_and_what_will_be() {
        assert_eq!(
            report().to_string(),
            "Restored backup daily of main into /restored: 1000 files, 1.4 GiB, in 12 s.\n\
             Tablespace 16385 of /old lies in /new.\n\
             At its start it fetches 2 segments (32.0 MiB) of timeline 1 and stops just before the record at 0/3000028: LSN 0/3000028.\n\
             Then it opens for writing, on a new timeline.\n\n\
             Start it:\n\n    pg_ctl start -D /restored\n\nA note.\n"
        );
        let standby = Report { stop: None, role: Role::Standby, segments: 1, ..report() }.to_string();
        assert!(standby.contains("1 segment (") && standby.contains("stays a standby"), "{standby}");
        let complete = Report { was_complete: true, ..report() }.to_string();
        assert!(complete.contains("already") && !complete.contains("fetches"), "{complete}");
    }

    #[test]
    fn a_server_that_stops_at_a_target_is_to_forget_it() {
        let setting = |name, value: &str| (name, value.to_owned());
        let settings = [
            setting("recovery_target", ""),
            setting("recovery_target_timeline", "3"),
            setting("recovery_target_lsn", "0/28"),
            setting("restore_command", "x"),
        ];
        let note = target_note(&settings, Role::Primary).unwrap();
        assert!(note.contains("ALTER SYSTEM RESET recovery_target_lsn;"), "{note}");
        assert!(note.contains("ALTER SYSTEM RESET recovery_target_timeline;"), "{note}");
        assert!(!note.contains("recovery_target;") && !note.contains("restore_command"), "{note}");
        assert_eq!(target_note(&settings, Role::Standby), None);
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        for (bytes, text) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (u64::MAX, "16384.0 PiB")]
        {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [(1.25, "1.2 s"), (10.0, "10 s"), (120.0, "2 min 0 s"), (7261.0, "2 h 1 min")]
        {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }
}
