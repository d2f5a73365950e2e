//! The files that PostgreSQL archives, told apart by name (`xlog_internal.h`, PostgreSQL 15).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, SegmentName, TimelineId};

/// A file of `pg_wal` that is archived: what `%f` in `archive_command` and `restore_command` can be.
///
/// ```
/// use highwater_wal::WalFile;
/// let file: WalFile = "000000010000000000000003.00000028.backup".parse()?;
/// assert!(matches!(file, WalFile::BackupLabel { offset: 0x28, .. }));
/// assert_eq!(file.to_string(), "000000010000000000000003.00000028.backup");
/// assert!("RECOVERYXLOG".parse::<WalFile>().is_err());
/// # Ok::<(), highwater_wal::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// A completed segment, as in `00000001000000000000002A`.
    Segment(SegmentName),
    /// The last, unfinished segment of a timeline that a promotion ended, as in `00000001000000000000002A.partial`.
    Partial(SegmentName),
    /// The history of a timeline, as in `00000002.history`.
    History(TimelineId),
    /// The label of a base backup that ended, as in `000000010000000000000003.00000028.backup`.
    BackupLabel {
        /// The segment in which the backup starts.
        segment: SegmentName,
        /// The offset of the backup's start within that segment, in bytes.
        offset: u32,
    },
}

impl WalFile {
    /// The timeline in the file's name.
    pub fn timeline(self) -> TimelineId {
        match self {
            WalFile::Segment(segment) | WalFile::Partial(segment) => segment.timeline,
            WalFile::BackupLabel { segment, .. } => segment.timeline,
            WalFile::History(timeline) => timeline,
        }
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalFile::Segment(segment) => write!(f, "{segment}"),
            WalFile::Partial(segment) => write!(f, "{segment}.partial"),
            WalFile::History(timeline) => f.write_str(&timeline.history_name()),
            WalFile::BackupLabel { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<WalFile, Error> {
        let bad = || Error::WalFile(text.to_owned());
        let Some((stem, rest)) = text.split_once('.') else {
            return text.parse().map(WalFile::Segment).map_err(|_| bad());
        };
        if rest == "history" {
            return hex8(stem).and_then(TimelineId::new).map(WalFile::History).ok_or_else(bad);
        }
        let segment = stem.parse().map_err(|_| bad())?;
        if rest == "partial" {
            return Ok(WalFile::Partial(segment));
        }
        let offset = rest.strip_suffix(".backup").and_then(hex8).ok_or_else(bad)?;
        Ok(WalFile::BackupLabel { segment, offset })
    }
}

/// Eight hexadecimal digits in capitals, as PostgreSQL writes each part of a name.
fn hex8(digits: &str) -> Option<u32> {
    let plain = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

impl Serialize for WalFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WalFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WalFile, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_pg_wal() {
        for name in [
            "000000010000000000000001",
            "FFFFFFFFFFFFFFFFFFFFFFFF",
            "00000001000000000000002A.partial",
            "00000002.history",
            "000000010000000000000003.00000028.backup",
        ] {
            let file: WalFile = name.parse().unwrap();
            assert_eq!(file.to_string(), name);
            assert_eq!(
                serde_json::from_str::<WalFile>(&serde_json::to_string(&file).unwrap()).unwrap(),
                file
            );
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for name in [
            "",
            ".",
            ".history",
            ".partial",
            "00000000.history",
            "0000000a.history",
            "0000002.history",
            "000000020.history",
            "00000002.history.partial",
            "000000000000000000000001",
            "00000001000000000000000a",
            "00000001000000000000001",
            "0000000100000000000000001",
            "000000010000000000000001.",
            "000000010000000000000001.Partial",
            "000000010000000000000001.partial.",
            "000000010000000000000001.backup",
            "000000010000000000000001.0000002.backup",
            "000000010000000000000001.000000280.backup",
            "000000010000000000000001.0000002g.backup",
            "000000010000000000000001.00000028.backup.gz",
            "00000001000000000000000é",
            "+00000010000000000000001",
            "RECOVERYHISTORY",
            "xlogtemp.123",
        ] {
            let error = name.parse::<WalFile>().unwrap_err();
            assert!(error.to_string().contains("hint: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_is_written_the_same(text in "[0-9A-Fa-f.xé]{0,42}") {
            if let Ok(file) = text.parse::<WalFile>() {
                prop_assert_eq!(file.to_string(), text);
            }
        }

        #[test]
        fn written_names_parse(timeline in 1u32.., log: u32, segment: u32, offset: u32, kind in 0..4) {
            let timeline = TimelineId::new(timeline).unwrap();
            let segment = SegmentName { timeline, log, segment };
            let file = match kind {
                0 => WalFile::Segment(segment),
                1 => WalFile::Partial(segment),
                2 => WalFile::History(timeline),
                _ => WalFile::BackupLabel { segment, offset },
            };
            prop_assert_eq!(file.to_string().parse::<WalFile>().unwrap(), file);
            prop_assert_eq!(file.timeline(), timeline);
        }
    }
}
