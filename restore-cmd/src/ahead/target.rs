//! Where PostgreSQL is told to stop, as far as its data directory tells: so that nothing behind that is fetched.
//!
//! It is read from `postgresql.auto.conf`, where `highwater restore` writes it. A target that is set elsewhere, or
//! one that is no LSN, is not known here: then up to as many segments are fetched in vain as are ready at a time.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use highwater_wal::{Lsn, TimelineHistory, TimelineId, WalFile};

/// As much of a configuration is read.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;
/// PostgreSQL keeps no longer history.
const MAX_HISTORY_BYTES: u64 = highwater_repository::MAX_SMALL_FILE_BYTES;

/// The target of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The record at which it stops.
    pub lsn: Option<Lsn>,
    /// The timeline that it ends on, where that is named by its number.
    pub timeline: Option<TimelineId>,
}

/// The target by the settings in a data directory.
pub fn of(data: &Path) -> Target {
    parse(&read(&data.join("postgresql.auto.conf"), MAX_SETTINGS_BYTES).unwrap_or_default())
}

/// The last assignment of each setting counts.
fn parse(text: &str) -> Target {
    let mut target = Target::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim().trim_matches('\'');
        match name.trim() {
            "recovery_target_lsn" => target.lsn = value.parse().ok(),
            "recovery_target_timeline" => target.timeline = value.parse().ok().and_then(TimelineId::new),
            _ => {}
        }
    }
    target
}

/// The history that PostgreSQL follows: of the target's timeline, else the newest that lies in `pg_wal`, where it puts
/// those of the path that it has chosen (`restoreTimeLineHistoryFiles`, `timeline.c`, PostgreSQL 15). `None` where
/// there is none.
pub fn history(pg_wal: &Path, target: Target) -> Option<TimelineHistory> {
    let timeline = match target.timeline {
        Some(timeline) => timeline,
        None => newest_history(pg_wal)?,
    };
    let text = read(&pg_wal.join(timeline.history_name()), MAX_HISTORY_BYTES)?;
    TimelineHistory::parse(timeline, text).ok()
}

fn newest_history(pg_wal: &Path) -> Option<TimelineId> {
    let names =
        std::fs::read_dir(pg_wal).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let timelines = names.filter_map(|name| match name.parse() {
        Ok(WalFile::History(timeline)) => Some(timeline),
        _ => None,
    });
    timelines.max()
}

fn read(path: &Path, limit: u64) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(limit).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_last_setting_counts() {
        let timeline = TimelineId::new(3);
        for (text, expected) in [
            ("", Target::default()),
            ("recovery_target_lsn = '1/2000028'\n", Target { lsn: Some(Lsn(0x1_0200_0028)), timeline: None }),
            ("recovery_target_lsn = '1/2'\nrecovery_target_lsn = ''\n", Target::default()),
            ("# recovery_target_lsn = '1/2'\nnonsense\n", Target::default()),
            (
                "recovery_target_timeline='latest'\nrecovery_target_timeline='3'",
                Target { lsn: None, timeline },
            ),
            ("recovery_target_timeline = '3'\nrecovery_target_timeline = 'latest'", Target::default()),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_history_is_that_of_the_target_or_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let (path, second, third) = (folder.path(), TimelineId::new(2), TimelineId::new(3));
        assert_eq!(history(path, Target::default()), None);
        fs::write(path.join("00000002.history"), "1\t0/5000028\tx\n").unwrap();
        fs::write(path.join("00000003.history"), "1\t0/5000028\tx\n2\t0/6000028\ty\n").unwrap();
        fs::write(path.join("000000040000000000000004"), "").unwrap();
        let found = |target| history(path, target).map(|history| history.timeline);
        assert_eq!(found(Target::default()), third);
        assert_eq!(found(Target { lsn: None, timeline: second }), second);
        assert_eq!(found(Target { lsn: None, timeline: TimelineId::new(4) }), None);
    }
}
