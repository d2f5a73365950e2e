//! What a segment holds while it is still being received.

use crate::border;
use crate::first_page::check_first_header;
use crate::kind;
use crate::page::LONG_HEADER_LENGTH;
use crate::records::Records;
use crate::refusal::{Reason, Refusal};
use crate::{Kind, Lsn, SegmentName, SegmentSize, Summary, SystemId};

/// As much of a segment's beginning as its summary is made from: the header and what of a record runs in.
const BEGINNING_LENGTH: usize = LONG_HEADER_LENGTH + border::KEPT_LENGTH;

/// The summary of a segment that comes in pieces of any length, as far as it has come.
///
/// Only records that have come whole are in it. A record that is cut off where the bytes end may go on with the next piece
/// or never; so [`Summary::unfinished`] stays empty, and [`Summary::is_covered`] says `false`.
///
/// Memory: as [`Records`].
#[derive(Debug)]
pub struct GrowingSummary<B> {
    name: SegmentName,
    size: SegmentSize,
    system_id: Option<SystemId>,
    beginning: Vec<u8>,
    records: Records<B>,
    next: Lsn,
    summary: Option<Summary>,
    refusal: Option<Refusal>,
}

impl<B: AsRef<[u8]>> GrowingSummary<B> {
    /// Of the segment `name`, of which nothing has come yet.
    pub fn new(name: SegmentName, size: SegmentSize, system_id: Option<SystemId>) -> GrowingSummary<B> {
        GrowingSummary {
            name,
            size,
            system_id,
            beginning: Vec::new(),
            records: Records::new(size, system_id),
            next: name.start(size),
            summary: None,
            refusal: None,
        }
    }

    /// Takes the bytes behind those that have come.
    pub fn push(&mut self, bytes: B) {
        if self.refusal.is_some() {
            return;
        }
        self.begin(bytes.as_ref());
        let (start, length) = (self.next, bytes.as_ref().len() as u64);
        self.next = start + length;
        let read = self.records.push(self.name.timeline, start, bytes).and_then(|()| self.read());
        self.refusal = self.refusal.take().or(read.err());
    }

    fn begin(&mut self, bytes: &[u8]) {
        let missing = BEGINNING_LENGTH - self.beginning.len();
        if missing == 0 {
            return;
        }
        self.beginning.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        if self.beginning.len() < LONG_HEADER_LENGTH {
            return;
        }
        let (name, size) = (self.name, self.size);
        match check_first_header(name, size, self.system_id, &self.beginning) {
            Ok((header, _)) => {
                let summary = self.summary.get_or_insert_with(|| {
                    let system_id = header.long.map_or(SystemId(0), |long| long.system_id);
                    Summary::new(name, size, system_id, header.magic, header.remaining)
                });
                border::keep_what_runs_in(summary, &self.beginning);
            }
            Err(reason) => self.refusal = Some(Refusal::new(name, size, name.start(size), reason)),
        }
    }

    /// Reads the records that have come whole. Behind a switch record nothing is read.
    fn read(&mut self) -> Result<(), Refusal> {
        let Some(summary) = &mut self.summary else { return Ok(()) };
        if summary.switch.is_some() {
            return Ok(());
        }
        while let Some(record) = self.records.next_raw() {
            let record = record?;
            if kind::is_decoded(&record.header) {
                let (header, version) = (record.header, record.version);
                let layout = Reason::Layout { rmgr: header.rmgr, info: header.info, version };
                let found = record.kind();
                let found = found.ok_or_else(|| Refusal::new(self.name, self.size, record.lsn, layout))?;
                let is_switch = found == Kind::Switch;
                summary.note(record.lsn, record.end, header.xid, found);
                summary.count(record.lsn, record.end);
                if is_switch {
                    return Ok(());
                }
                continue;
            }
            summary.count(record.lsn, record.end);
        }
        Ok(())
    }

    /// What has come; `None` before the first page's header has.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// What is wrong with what has come (R4). What came before that is in the summary.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Wal;
    use crate::{Check, SegmentKind, check_segment};

    fn wal() -> Wal {
        let mut wal = Wal::new();
        for xid in 1..200 {
            // The last byte is not zero, so that a record that was cut off is not whole with zeros behind it.
            wal.commit(xid, -i64::from(xid));
            wal.filler(90 + (xid as usize * 71) % 5000);
        }
        wal.switch();
        wal
    }

    /// The summary of the segment's first `length` bytes, which come in pieces of at most `width`.
    fn grown(name: SegmentName, size: SegmentSize, bytes: &[u8], width: usize) -> Summary {
        let mut growing = GrowingSummary::new(name, size, None);
        for piece in bytes.chunks(width) {
            growing.push(piece.to_vec());
        }
        assert_eq!(growing.refusal(), None);
        growing.summary().unwrap().clone()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_pieces_give_what_the_check_of_a_partial_segment_gives(cut in 200_usize..600_000, width in 1_usize..40_000) {
            let wal = wal();
            let (name, whole) = wal.segments().remove(0);
            let mut zeros = whole[..cut.min(whole.len())].to_vec();
            let grown = grown(name, wal.size, &zeros, width.max(50));
            zeros.resize(wal.size.bytes() as usize, 0);
            let mut checked = check_segment(name, wal.size, None, &zeros, Check::Full, SegmentKind::Partial).unwrap();
            checked.unfinished = None;
            checked.runs_out.clear();
            prop_assert_eq!(grown, checked);
        }
    }

    #[test]
    fn r04_wal_that_was_hurt_on_its_way_is_refused_and_what_came_before_is_known() {
        let wal = wal();
        let (name, whole) = wal.segments().remove(0);
        let mut bytes = whole.to_vec();
        let before = grown(name, wal.size, &bytes[..90_000], 1000);
        bytes[100_000] ^= 1;
        let mut growing = GrowingSummary::new(name, wal.size, None);
        growing.push(bytes);
        assert!(growing.refusal().is_some());
        let summary = growing.summary().unwrap();
        assert!(summary.records >= before.records && summary.commits >= before.commits);
        let mut other = GrowingSummary::new(name.next(wal.size), wal.size, None);
        other.push(whole.to_vec());
        assert!(other.refusal().is_some() && other.summary().is_none(), "another segment's bytes");
    }

    #[test]
    fn nothing_is_read_behind_a_switch() {
        let mut wal = Wal::new();
        wal.commit(7, 1);
        wal.switch();
        let (name, bytes) = wal.segments().remove(0);
        let mut bytes = bytes.to_vec();
        let last = bytes.len() - 100;
        bytes[last..].fill(0xAA);
        let summary = grown(name, wal.size, &bytes, 9000);
        assert_eq!((summary.commits, summary.switch.is_some()), (1, true));
    }
}
