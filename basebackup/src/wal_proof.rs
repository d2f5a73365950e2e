//! Whether the WAL in the archive is this backup's, from its checkpoint to its end.
//!
//! That a segment of the right name is there is not enough: where two servers write one timeline, the archive may hold the
//! other's. So every record is read from the start of the backup to its stop, its checkpoint record must be where
//! `backup_label` says, and, on a primary, the record that ends this very backup where the server said.

use highwater_wal::{Kind, Lsn, RawRecord, Records, Refusal, SegmentName, SegmentSize, SystemId};

/// What must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) system_id: SystemId,
    /// The redo position.
    pub(crate) start: Lsn,
    /// The checkpoint record.
    pub(crate) checkpoint: Lsn,
    /// Where the backup ends.
    pub(crate) stop: Lsn,
    /// A standby writes no WAL: its backups end where the primary's WAL was replayed to.
    pub(crate) from_standby: bool,
}

/// Reads WAL segment by segment and looks for what must be found.
#[derive(Debug)]
pub(crate) struct Proof {
    records: Records<Vec<u8>>,
    expected: Expected,
    found_checkpoint: bool,
    found_end: bool,
}

/// Why WAL is not that of the backup.
#[derive(Debug)]
pub(crate) enum Doubt {
    /// It cannot be read.
    Refused(Box<Refusal>),
    /// It is another's.
    Other(String),
}

impl Proof {
    pub(crate) fn new(size: SegmentSize, expected: Expected) -> Proof {
        let records = Records::new(size, Some(expected.system_id));
        Proof { records, expected, found_checkpoint: false, found_end: false }
    }

    /// Takes the next piece of a segment, which begins at `start`.
    pub(crate) fn push(&mut self, segment: SegmentName, start: Lsn, bytes: Vec<u8>) -> Result<(), Doubt> {
        // Behind the stop there may be anything, such as what a crash left.
        if self.reached() {
            return Ok(());
        }
        let refused = |refusal| Doubt::Refused(Box::new(refusal));
        self.records.push(segment.timeline, start, bytes).map_err(refused)?;
        while let Some(record) = self.records.next_raw() {
            let record = record.map_err(refused)?;
            self.found_checkpoint |= self.expected.is_checkpoint(&record)?;
            self.found_end |= self.expected.is_end(&record);
            if record.end >= self.expected.stop {
                break;
            }
        }
        Ok(())
    }

    /// Whether the stop has been reached.
    pub(crate) fn reached(&self) -> bool {
        self.records.end().is_some_and(|end| end >= self.expected.stop)
    }

    /// Says that there is no more: where the WAL ends, if it ends too early.
    pub(crate) fn finish(self) -> Result<Result<(), Lsn>, Doubt> {
        if !self.reached() {
            return Ok(Err(self.records.end().unwrap_or_default()));
        }
        if !self.found_checkpoint {
            return Err(Doubt::Other(format!("there is no checkpoint at {}", self.expected.checkpoint)));
        }
        if !self.found_end && !self.expected.from_standby {
            return Err(Doubt::Other(format!("no record at {} ends this backup", self.expected.stop)));
        }
        Ok(Ok(()))
    }
}

impl Expected {
    /// Whether this is the backup's checkpoint; an error if another record stands in its place.
    fn is_checkpoint(&self, record: &RawRecord<'_>) -> Result<bool, Doubt> {
        if record.lsn != self.checkpoint {
            return Ok(false);
        }
        match record.kind() {
            Some(Kind::Checkpoint(checkpoint)) if checkpoint.redo == self.start => Ok(true),
            _ => Err(Doubt::Other(format!("the record at {} is not the backup's checkpoint", record.lsn))),
        }
    }

    /// Whether this is the record that a primary writes at a backup's end.
    fn is_end(&self, record: &RawRecord<'_>) -> bool {
        let at_stop = record.lsn < self.stop && record.end >= self.stop;
        at_stop && matches!(record.kind(), Some(Kind::BackupEnd { start }) if start == self.start)
    }
}
