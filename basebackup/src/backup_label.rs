//! `backup_label`: where recovery from a backup starts.

use highwater_wal::Lsn;

use crate::{Error, Result};

/// What is needed of it (`build_backup_content` in xlogbackup.c, PostgreSQL 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackupLabel {
    /// The redo position: WAL is needed from here.
    pub(crate) start: Lsn,
    /// The checkpoint record.
    pub(crate) checkpoint: Lsn,
}

impl BackupLabel {
    pub(crate) fn parse(content: &[u8]) -> Result<BackupLabel> {
        let text = String::from_utf8_lossy(content);
        let lsn = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let lsn = line.and_then(|rest| rest.split(' ').next()?.parse().ok());
            lsn.ok_or_else(|| Error::Contradiction { what: format!("in backup_label no {name}") })
        };
        Ok(BackupLabel { start: lsn("START WAL LOCATION")?, checkpoint: lsn("CHECKPOINT LOCATION")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
                         CHECKPOINT LOCATION: 0/2000060\n\
                         BACKUP METHOD: streamed\n\
                         BACKUP FROM: primary\n\
                         START TIME: 2026-11-20 11:16:00 UTC\n\
                         LABEL: START WAL LOCATION: x\n\
                         START TIMELINE: 1\n";

    #[test]
    fn a_label_is_read() {
        let label = BackupLabel::parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(label, BackupLabel { start: Lsn(0x200_0028), checkpoint: Lsn(0x200_0060) });
    }

    #[test]
    fn r22_a_label_without_its_positions_is_refused() {
        for (from, to) in [("START WAL", "START"), ("0/2000028", "x"), ("CHECKPOINT LOCATION", "CHECKPOINT")]
        {
            let error = BackupLabel::parse(WHOLE.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
            assert!(error.contains("hint: "), "{error}");
        }
        assert!(BackupLabel::parse(b"").is_err());
        assert!(BackupLabel::parse(b"\xff\xfe").is_err());
    }
}
