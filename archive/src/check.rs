//! Whether a file is what its name says, decided from its content alone (R4).

use highwater_wal::{
    Check, Lsn, PageHeader, SegmentCheck, SegmentKind, SegmentName, SegmentSize, Summary, SystemId,
    TimelineHistory, WalFile,
};

use crate::error::Error;

/// What is known of a file beside its content.
#[derive(Debug)]
pub struct Known {
    /// The cluster's system identifier, where the data directory tells it.
    pub system_id: Option<SystemId>,
    /// Where the file's timeline ended, by the history of the newest timeline of this server; `None` while it goes on.
    pub timeline_ended: Option<Lsn>,
    /// How closely segments are looked at.
    pub level: Check,
}

/// A check that goes on while the file is read.
#[derive(Debug)]
pub enum Checking {
    /// Of a segment, which is not kept in memory.
    Segment(Box<SegmentCheck>),
    /// Of a short file, which is.
    Short(WalFile, Vec<u8>),
}

impl Checking {
    /// Begins with the file's name, its length and its first bytes.
    pub fn begin(file: WalFile, length: u64, beginning: &[u8], known: &Known) -> Result<Checking, Error> {
        let (segment, kind) = match file {
            WalFile::Segment(segment) => {
                (segment, known.timeline_ended.map_or(SegmentKind::Complete, SegmentKind::Ended))
            }
            WalFile::Partial(segment) => (segment, SegmentKind::Partial),
            WalFile::History(_) | WalFile::BackupLabel { .. } => {
                return Ok(Checking::Short(file, Vec::new()));
            }
        };
        let size = segment_size(beginning, length)?;
        let check = SegmentCheck::new(segment, size, known.system_id, length, known.level, kind)?;
        Ok(Checking::Segment(Box::new(check)))
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, block: &[u8]) {
        match self {
            Checking::Segment(check) => check.push(block),
            Checking::Short(_, content) => content.extend_from_slice(block),
        }
    }

    /// Whether the file, which has come whole, is what its name says; gives the summary of a segment.
    pub fn finish(self) -> Result<Option<Summary>, Error> {
        match self {
            Checking::Segment(check) => Ok(Some(check.finish()?)),
            Checking::Short(WalFile::History(timeline), content) => {
                // PostgreSQL writes a line for each timeline before, each with its end (`writeTimeLineHistory`, timeline.c).
                let is_whole = content.ends_with(b"\n");
                let history = TimelineHistory::parse(timeline, content)?;
                if !is_whole || history.ancestors.is_empty() {
                    return Err(Error::CutHistory(timeline));
                }
                Ok(None)
            }
            Checking::Short(WalFile::BackupLabel { segment, .. }, content)
                if !starts_in(&content, segment) =>
            {
                Err(Error::BackupLabel(segment))
            }
            Checking::Short(..) => Ok(None),
        }
    }
}

/// The size of the cluster's segments as the segment itself tells it, else that of the file. Where the two differ the
/// check says what is wrong.
fn segment_size(beginning: &[u8], length: u64) -> Result<SegmentSize, Error> {
    let told = PageHeader::parse(beginning).and_then(|header| header.long);
    let told = told.and_then(|long| SegmentSize::new(long.segment_size.into()).ok());
    Ok(told.map_or_else(|| SegmentSize::new(length), Ok)?)
}

/// The system identifier in a segment's own header. Other files have none.
pub fn system_id(file: WalFile, beginning: &[u8]) -> Option<SystemId> {
    match file {
        WalFile::Segment(_) | WalFile::Partial(_) => Some(PageHeader::parse(beginning)?.long?.system_id),
        WalFile::History(_) | WalFile::BackupLabel { .. } => None,
    }
}

/// Whether a backup label speaks of `segment`: its first line is `START WAL LOCATION: 0/2000028 (file
/// 000000010000000000000002)` (`xlogbackup.c`).
fn starts_in(label: &[u8], segment: SegmentName) -> bool {
    let line = label.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.starts_with("START WAL LOCATION: ") && line.trim_end().ends_with(&format!("(file {segment})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(level: Check) -> Known {
        Known { system_id: Some(SystemId(7)), timeline_ended: None, level }
    }

    fn check(file: WalFile, bytes: &[u8], known: &Known) -> Result<Option<Summary>, Error> {
        let mut check = Checking::begin(file, bytes.len() as u64, &bytes[..bytes.len().min(64)], known)?;
        bytes.chunks(1 << 20).for_each(|block| check.push(block));
        check.finish()
    }

    fn checked(name: &str, bytes: &[u8]) -> Result<Option<Summary>, Error> {
        check(name.parse().unwrap(), bytes, &known(Check::Full))
    }

    #[test]
    fn r04_histories_are_taken_only_in_their_form() {
        assert_eq!(
            checked("00000002.history", b"1\t0/5000000\tno recovery target specified\n").unwrap(),
            None
        );
        for content in ["", "1\t0/5000000", "1\t0/5000000\tcut off", "# nothing\n"] {
            let error = checked("00000002.history", content.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("hint: "), "{error}");
        }
        checked("00000001.history", b"").unwrap_err();
        for content in ["no history", "2\t0/5000000\tnot smaller", "1\tnowhere"] {
            let error = checked("00000002.history", content.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("timeline 2") && error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn r04_a_backup_label_belongs_to_its_segment() {
        let name = "000000010000000000000002.00000028.backup";
        let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTOP WAL LOCATION: …\n";
        assert_eq!(checked(name, label.as_bytes()).unwrap(), None);
        for other in [label.replace("0002)", "0003)"), label.replace("START", "STOP"), String::new()] {
            let error = checked(name, other.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("000000010000000000000002") && error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn r04_what_is_no_segment_is_refused_at_either_level() {
        for level in [Check::Full, Check::Header] {
            for length in [0, 1, 39, 8192, 1 << 20] {
                let name = "000000010000000000000001".parse().unwrap();
                let error = check(name, &vec![0; length], &known(level)).unwrap_err().to_string();
                assert!(error.contains("hint: "), "{error}");
            }
        }
    }

    proptest! {
        #[test]
        fn r22_any_content_is_taken_or_refused(
            name in proptest::sample::select(vec![
                "000000010000000000000001",
                "000000010000000000000001.partial",
                "00000002.history",
                "000000010000000000000002.00000028.backup",
            ]),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = checked(name, &bytes);
            let _ = system_id(name.parse().unwrap(), &bytes);
        }
    }
}
