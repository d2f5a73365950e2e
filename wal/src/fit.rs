//! Whether what a summary says can be true of its segment's name, and whether two segments, one behind the other, fit together.

use crate::{SegmentName, SegmentSize, Summary, SystemId};

impl Summary {
    /// Whether it can be the summary of this segment of this cluster.
    ///
    /// # Errors
    /// Why not, as a clause about the segment.
    pub fn is_of(&self, name: SegmentName, size: SegmentSize, system_id: SystemId) -> Result<(), String> {
        if self.system_id != system_id {
            return Err(format!("it is of the cluster with system identifier {}", self.system_id));
        }
        if self.segment_size != size {
            return Err(format!(
                "it has {} bytes, and the cluster's segments have {}",
                self.segment_size.bytes(),
                size.bytes()
            ));
        }
        if (self.timeline, self.start) != (name.timeline, name.start(size)) {
            return Err(format!("its summary is of timeline {} at {}", self.timeline, self.start));
        }
        Ok(())
    }

    /// Whether the WAL goes on from this segment into `next`.
    ///
    /// # Errors
    /// Why not, as a clause about `next`.
    pub fn goes_on_in(&self, next: &Summary) -> Result<(), String> {
        if (self.system_id, self.segment_size) != (next.system_id, next.segment_size) {
            return Err(format!(
                "it is of another cluster than the segment before: {} instead of {}",
                next.system_id, self.system_id
            ));
        }
        if self.page_magic != next.page_magic {
            return Err("it was written by another version of PostgreSQL than the segment before".to_owned());
        }
        if self.pg_version.is_none() || !self.is_covered() {
            return Ok(());
        }
        let expected = self.unfinished.as_ref().map_or(0, |unfinished| unfinished.remaining);
        if next.continued == expected {
            return Ok(());
        }
        let overwrites = || {
            let begun = self.unfinished.as_ref().and_then(|unfinished| unfinished.lsn);
            let names = |record| begun.is_none_or(|begun| begun == record);
            next.left_out > 0 || next.overwritten.iter().any(|entry| names(entry.record))
        };
        if next.continued == 0 && overwrites() {
            return Ok(());
        }
        Err(format!(
            "it begins with {} bytes of a record of the segment before, which lacks {expected} bytes of its last record",
            next.continued
        ))
    }

    /// Whether recovery gets through the segment to its end, so that it can go on in the next one.
    ///
    /// # Errors
    /// Why not, as a clause about the segment.
    pub fn leads_on(&self) -> Result<(), String> {
        // Where no record could be read when it was archived (archive-check = "header"), nobody can say.
        match self.end {
            Some(end) if self.pg_version.is_some() && !self.is_covered() => Err(format!(
                "its WAL ends at {end}, before the segment does, and later segments of its timeline are there"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Lsn, Overwritten, PgVersion, TimelineId, Timestamp, Unfinished};

    use super::*;

    fn summary(number: u64, continued: u32, remaining: u32) -> Summary {
        let name = SegmentName::from_number(TimelineId::FIRST, number, SegmentSize::DEFAULT);
        let magic = PgVersion::V15.page_magic();
        let mut summary = Summary::new(name, SegmentSize::DEFAULT, SystemId(7), magic, continued);
        summary.end = Some(name.end(SegmentSize::DEFAULT));
        if remaining > 0 {
            summary.end = Some(Lsn(name.end(SegmentSize::DEFAULT).0 - 64));
            summary.unfinished = Some(Unfinished { lsn: summary.end, remaining });
        }
        summary
    }

    #[test]
    fn a_record_that_runs_on_must_go_on_or_be_overwritten() {
        assert_eq!(summary(1, 0, 0).goes_on_in(&summary(2, 0, 0)), Ok(()));
        assert_eq!(summary(1, 0, 900).goes_on_in(&summary(2, 900, 0)), Ok(()));
        assert!(summary(1, 0, 900).goes_on_in(&summary(2, 899, 0)).unwrap_err().contains("lacks 900 bytes"));
        assert!(summary(1, 0, 900).goes_on_in(&summary(2, 0, 0)).is_err());
        assert!(summary(1, 0, 0).goes_on_in(&summary(2, 5, 0)).is_err());
        let first = summary(1, 0, 900);
        let mut second = summary(2, 0, 0);
        let record = first.unfinished.unwrap().lsn.unwrap();
        second.overwritten.push(Overwritten { lsn: Lsn(record.0 + 100), record, time: Timestamp(1) });
        assert_eq!(first.goes_on_in(&second), Ok(()));
        second.overwritten[0].record = Lsn(8);
        assert!(first.goes_on_in(&second).is_err());
    }

    #[test]
    fn neighbours_are_of_one_cluster_and_version() {
        let mut other = summary(2, 0, 0);
        other.system_id = SystemId(8);
        assert!(summary(1, 0, 0).goes_on_in(&other).unwrap_err().contains("another cluster"));
        let mut other = summary(2, 0, 0);
        other.page_magic = PgVersion::V16.page_magic();
        assert!(summary(1, 0, 0).goes_on_in(&other).unwrap_err().contains("another version"));
    }

    #[test]
    fn a_segment_whose_wal_ends_early_leads_nowhere() {
        let mut ended = summary(1, 0, 0);
        assert_eq!(ended.leads_on(), Ok(()));
        ended.end = Some(Lsn(ended.start.0 + 4096));
        assert!(ended.leads_on().is_err());
        assert_eq!(ended.goes_on_in(&summary(2, 0, 0)), Ok(()), "that is told once");
        ended.end = None;
        assert_eq!(ended.leads_on(), Ok(()), "its records could not be read when it was archived");
    }
}
