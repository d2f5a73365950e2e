//! Every record of segments that lie one behind the other: its checksum, also where it runs over their borders.

use crate::{Lsn, Records, Refusal, SegmentName, SegmentSize, Summary, SystemId};

/// Reads records from segment to segment.
#[derive(Debug)]
pub struct Walk {
    size: SegmentSize,
    system_id: SystemId,
    /// None at the beginning, and behind what could not be read.
    records: Option<Records<Vec<u8>>>,
}

/// What reading one segment gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Records whose checksums were compared.
    pub records: u64,
    /// What is wrong with it.
    pub wrong: Option<String>,
}

/// The records that lie whole in a segment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    records: u64,
    first: Option<Lsn>,
    last: Option<Lsn>,
}

impl Walk {
    /// Nothing was read yet.
    pub fn new(size: SegmentSize, system_id: SystemId) -> Walk {
        Walk { size, system_id, records: None }
    }

    /// Forgets what came before: the next segment is read from its beginning.
    pub fn begin_anew(&mut self) {
        self.records = None;
    }

    /// Reads the next segment, and compares with its summary.
    pub fn read(&mut self, name: SegmentName, bytes: Vec<u8>, summary: &Summary) -> Walked {
        let (size, system_id) = (self.size, self.system_id);
        let mut records = self.records.take().unwrap_or_else(|| Records::new(size, Some(system_id)));
        let mut walked = Walked::default();
        let mut tally = Tally::default();
        let refused = match records.push_segment(name, bytes) {
            Err(refusal) => Some(refusal),
            Ok(()) => tally.take(&mut records, &mut walked, name.start(size), name.end(size)),
        };
        match refused {
            // Behind the last record of a timeline that ended there may be anything.
            Some(refusal) if !summary.is_covered() && summary.end.is_none_or(|end| refusal.lsn >= end) => {}
            Some(refusal) => {
                walked.wrong = Some(refusal.clause());
                return walked;
            }
            None => self.records = Some(records),
        }
        let told = Tally { records: summary.records, first: summary.first_record, last: summary.last_record };
        if tally != told {
            walked.wrong = Some(format!(
                "its summary tells of {} records, from {} to {}, and it holds {}, from {} to {}",
                told.records,
                lsn(told.first),
                lsn(told.last),
                tally.records,
                lsn(tally.first),
                lsn(tally.last)
            ));
        }
        walked
    }
}

fn lsn(lsn: Option<Lsn>) -> String {
    lsn.map_or_else(|| "none".to_owned(), |lsn| lsn.to_string())
}

impl Tally {
    fn take(
        &mut self,
        records: &mut Records<Vec<u8>>,
        walked: &mut Walked,
        start: Lsn,
        end: Lsn,
    ) -> Option<Refusal> {
        while let Some(record) = records.next_raw() {
            let record = match record {
                Ok(record) => record,
                Err(refusal) => return Some(refusal),
            };
            walked.records += 1;
            if record.lsn >= start && record.end <= end {
                self.records += 1;
                self.first.get_or_insert(record.lsn);
                self.last = Some(record.lsn);
            }
        }
        None
    }
}
