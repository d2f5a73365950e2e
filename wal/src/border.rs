//! What the summaries of two neighbouring segments tell of a record that runs from one into the other.
//!
//! Such a record is in neither summary's lists. Most are of no interest, but one may end a transaction, and whether it does
//! decides where a recovery to a time stops. So each summary keeps the first bytes of what runs on behind it and of
//! what ran into it: enough for the record's header and the time in a commit or abort record.

use crate::kind::{is_end_of_its_own, is_transaction_end, may_make_or_drop_files, xlog};
use crate::page::{LONG_HEADER_LENGTH, SHORT_HEADER_LENGTH};
use crate::record::{RECORD_HEADER_LENGTH, RecordHeader, rmgr};
use crate::walker::Walker;
use crate::{Lsn, Summary, Timestamp};

/// As many bytes are kept on each side: a record's header (24), the headers of an origin (3), of a top-level
/// transaction (5) and of long main data (5), and the time (8), rounded up (`xlogrecord.h`, PostgreSQL 15).
pub(crate) const KEPT_LENGTH: usize = 48;

/// What a record that runs from one segment into the next one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// There is none, or it neither ends a transaction nor is a restore point.
    Nothing,
    /// It ends a transaction, committed or rolled back, at this time.
    Finish(Timestamp),
    /// Only the record itself tells.
    Unclear,
}

impl Summary {
    /// What the record is that begins in this segment and runs into `next`, the segment behind it on the same path of
    /// timelines.
    pub fn joined_with(&self, next: &Summary) -> Joined {
        match self.first_bytes(next) {
            FirstBytes::Of(bytes) => read(&bytes),
            FirstBytes::None => Joined::Nothing,
            FirstBytes::Unclear => Joined::Unclear,
        }
    }

    /// Whether the record that begins in this segment and runs into `next`, the segment behind it on the same path of
    /// timelines, makes or drops relation files, a database or a tablespace, or may do so. It is in neither summary's
    /// lists ([`Summary::created`], [`Summary::dropped`], [`Summary::databases_dropped`],
    /// [`Summary::tablespaces_dropped`]); read both segments to learn more.
    pub fn hides_files(&self, next: &Summary) -> bool {
        match self.first_bytes(next) {
            FirstBytes::Of(bytes) => match bytes.split_first_chunk() {
                Some((header, body)) => may_make_or_drop_files(&RecordHeader::parse(header), main_data(body)),
                None => true,
            },
            FirstBytes::None => false,
            FirstBytes::Unclear => true,
        }
    }

    /// The transaction that is ended by the record that begins in this segment and runs into `next`, where the record's header
    /// names it: `COMMIT PREPARED` and `ROLLBACK PREPARED` name theirs further behind (`xact_redo`, xact.c, PostgreSQL 15).
    pub fn xid_joined_with(&self, next: &Summary) -> Option<u32> {
        let FirstBytes::Of(bytes) = self.first_bytes(next) else { return None };
        let header = RecordHeader::parse(bytes.first_chunk()?);
        is_end_of_its_own(&header).then_some(header.xid)
    }

    /// The first bytes of the record that runs from this segment into the next one.
    fn first_bytes(&self, next: &Summary) -> FirstBytes {
        let Some(unfinished) = &self.unfinished else { return FirstBytes::None };
        if unfinished.lsn.is_none() {
            // It began in an earlier segment: that one's summary has its beginning.
            return FirstBytes::None;
        }
        if next.continued == 0 {
            // A crash cut it off, and it was overwritten.
            return FirstBytes::None;
        }
        if next.continued != unfinished.remaining {
            return FirstBytes::Unclear;
        }
        match (from_hex(&self.runs_out), from_hex(&next.runs_in)) {
            (Some(mut bytes), Some(rest)) => {
                bytes.extend(rest);
                FirstBytes::Of(bytes)
            }
            _ => FirstBytes::Unclear,
        }
    }
}

/// What is known of the record that runs from one segment into the next.
enum FirstBytes {
    /// There is none.
    None,
    /// These are its first bytes.
    Of(Vec<u8>),
    /// There is one, but the summaries don't fit together.
    Unclear,
}

/// What a record is of which these are the first bytes.
fn read(bytes: &[u8]) -> Joined {
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_LENGTH>().map(RecordHeader::parse) else {
        return Joined::Unclear;
    };
    if header.rmgr == rmgr::XLOG && header.info == xlog::RESTORE_POINT {
        return Joined::Unclear;
    }
    if !is_transaction_end(&header) {
        return Joined::Nothing;
    }
    main_data(&bytes[RECORD_HEADER_LENGTH..])
        .and_then(|main| main.first_chunk())
        .map_or(Joined::Unclear, |time| Joined::Finish(Timestamp(i64::from_le_bytes(*time))))
}

/// The beginning of the main data, behind the headers that a commit or abort record can have in front of it.
fn main_data(mut body: &[u8]) -> Option<&[u8]> {
    const DATA_SHORT: u8 = 255;
    const DATA_LONG: u8 = 254;
    const ORIGIN: u8 = 253;
    const TOPLEVEL_XID: u8 = 252;
    loop {
        let length = match *body.first()? {
            DATA_SHORT => return body.get(2..),
            DATA_LONG => return body.get(5..),
            ORIGIN => 3,
            TOPLEVEL_XID => 5,
            _ => return None,
        };
        body = body.get(length..)?;
    }
}

/// Keeps the first bytes of what ran into a segment; `beginning` is as much of its first page as there is.
pub(crate) fn keep_what_runs_in(summary: &mut Summary, beginning: &[u8]) {
    let continued = (summary.continued as usize).min(KEPT_LENGTH);
    if let Some(bytes) = beginning.get(LONG_HEADER_LENGTH..LONG_HEADER_LENGTH + continued) {
        summary.runs_in = to_hex(bytes);
    }
}

/// The first bytes of the record that is unfinished where reading a segment has come to, without page headers.
#[derive(Debug, Default)]
pub(crate) struct RunsOut {
    lsn: Option<Lsn>,
    bytes: Vec<u8>,
}

impl RunsOut {
    /// Looks at what `walker` has just read: `page`, which begins at `start`.
    pub(crate) fn look(&mut self, walker: &Walker, start: Lsn, page: &[u8]) {
        let Some(lsn) = walker.unfinished().and_then(|unfinished| unfinished.lsn) else { return };
        let rest = if self.lsn == Some(lsn) {
            page.get(SHORT_HEADER_LENGTH..)
        } else {
            self.lsn = Some(lsn);
            self.bytes.clear();
            usize::try_from(lsn.bytes_since(start)).ok().and_then(|offset| page.get(offset..))
        };
        let rest = rest.unwrap_or_default();
        let wanted = KEPT_LENGTH - self.bytes.len();
        self.bytes.extend_from_slice(&rest[..rest.len().min(wanted)]);
    }

    /// Puts them into the summary, where the record is the one that runs on behind the segment.
    pub(crate) fn keep(&self, summary: &mut Summary) {
        let lsn = summary.unfinished.and_then(|unfinished| unfinished.lsn);
        if lsn.is_some() && lsn == self.lsn {
            summary.runs_out = to_hex(&self.bytes);
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RelationFile;
    use crate::testing::{Wal, relation_file};
    use crate::{Check, SegmentKind, check_segment, rmgr};

    fn summaries(wal: &Wal) -> Vec<Summary> {
        let check = |(name, bytes)| {
            check_segment(name, wal.size, None, bytes, Check::Full, SegmentKind::Complete).unwrap()
        };
        wal.segments().into_iter().map(check).collect()
    }

    /// What is found at the border when `record` is written `room` bytes before the end of a segment.
    fn joined(room: u64, record: impl Fn(&mut Wal)) -> Joined {
        let mut wal = Wal::new();
        wal.fill_up_to(room);
        record(&mut wal);
        wal.switch();
        let both = summaries(&wal);
        assert_eq!(both.len(), 2);
        assert!(both[0].unfinished.is_some(), "the record does not run over the end");
        both[0].joined_with(&both[1])
    }

    #[test]
    fn a_commit_over_the_border_keeps_its_time_wherever_it_is_cut() {
        for room in (8..=32).step_by(8) {
            assert_eq!(joined(room, |wal| _ = wal.commit(9, -77)), Joined::Finish(Timestamp(-77)), "{room}");
            assert_eq!(joined(room, |wal| _ = wal.abort(9, 78)), Joined::Finish(Timestamp(78)), "{room}");
            let long = |wal: &mut Wal| {
                let mut main = 5_i64.to_le_bytes().to_vec();
                main.resize(20_000, 0);
                wal.record(rmgr::TRANSACTION, 0x00, 9, &main);
            };
            assert_eq!(joined(room, long), Joined::Finish(Timestamp(5)), "{room}");
            let with_origin = |wal: &mut Wal| {
                let mut body = vec![253, 1, 0, 252, 1, 2, 3, 4, 255, 8];
                body.extend(6_i64.to_le_bytes());
                wal.record_with_body(rmgr::TRANSACTION, 0x00, 9, &body);
            };
            assert_eq!(joined(room, with_origin), Joined::Finish(Timestamp(6)), "{room}");
        }
    }

    #[test]
    fn the_transaction_of_a_record_over_the_border_is_told_where_its_header_names_it() {
        let xid = |info: u8| {
            let mut wal = Wal::new();
            wal.fill_up_to(16);
            wal.record(rmgr::TRANSACTION, info, 9, &[1; 100]);
            wal.switch();
            let both = summaries(&wal);
            both[0].xid_joined_with(&both[1])
        };
        assert_eq!([0x00, 0x20, 0x80, 0xA0].map(xid), [Some(9); 4], "commits and aborts");
        assert_eq!([0x30, 0x40, 0x10].map(xid), [None; 3], "of prepared transactions, and a preparation");
    }

    #[test]
    fn what_is_of_no_interest_and_what_is_unclear() {
        for room in (8..=32).step_by(8) {
            assert_eq!(joined(room, |wal| _ = wal.filler(5000)), Joined::Nothing);
            let prepare = |wal: &mut Wal| _ = wal.record(rmgr::TRANSACTION, 0x10, 9, &[1; 200]);
            assert_eq!(joined(room, prepare), Joined::Nothing);
            let point = |wal: &mut Wal| _ = wal.record(rmgr::XLOG, xlog::RESTORE_POINT, 0, &[1; 72]);
            assert_eq!(joined(room, point), Joined::Unclear);
        }
    }

    #[test]
    fn a_record_longer_than_a_segment_belongs_to_the_one_it_begins_in() {
        let mut wal = Wal::new();
        wal.fill_up_to(16);
        let mut main = 5_i64.to_le_bytes().to_vec();
        main.resize(3 << 20, 0);
        wal.record(rmgr::TRANSACTION, 0x00, 9, &main);
        wal.switch();
        let all = summaries(&wal);
        assert_eq!(all[0].joined_with(&all[1]), Joined::Finish(Timestamp(5)));
        assert_eq!(all[1].joined_with(&all[2]), Joined::Nothing);
    }

    /// Whether [`Summary::hides_files`] says so when `record` is written `room` bytes before the end of a segment.
    fn hides(room: u64, record: impl Fn(&mut Wal)) -> bool {
        let mut wal = Wal::new();
        wal.fill_up_to(room);
        record(&mut wal);
        wal.switch();
        let both = summaries(&wal);
        let listed = |summary: &Summary| {
            let whole = summary.databases_dropped.len() + summary.tablespaces_dropped.len();
            summary.created.len() + summary.dropped.len() + whole
        };
        assert_eq!(both.iter().map(listed).sum::<usize>(), 0, "it is in one of them");
        both[0].hides_files(&both[1])
    }

    #[test]
    fn what_makes_or_drops_files_over_the_border_is_not_passed_over() {
        let file = relation_file(RelationFile { tablespace: 1663, database: 5, relation: 16_384 });
        let with = |flags: u32, more: &[u8]| [&7_i64.to_le_bytes()[..], &flags.to_le_bytes(), more].concat();
        let dropping = with(1 << 2, &[&1_u32.to_le_bytes()[..], &file].concat());
        let subtransaction = with(1 << 1, &[1, 0, 0, 0, 9, 0, 0, 0]);
        for room in (8..=32).step_by(8) {
            let create = [&file[..], &[0; 4]].concat();
            assert!(hides(room, |wal| _ = wal.record(rmgr::STORAGE, 0x10, 9, &create)), "{room}");
            let drop = [5_u32, 1, 1663].map(u32::to_le_bytes).concat();
            assert!(hides(room, |wal| _ = wal.record(rmgr::DATABASE, 0x20, 9, &drop)), "{room}");
            let tablespace = 20_000_u32.to_le_bytes();
            // It takes 32 bytes.
            if room < 32 {
                assert!(hides(room, |wal| _ = wal.record(rmgr::TABLESPACE, 0x10, 9, &tablespace)), "{room}");
            }
            assert!(!hides(room, |wal| _ = wal.record(rmgr::TABLESPACE, 0x00, 9, &tablespace)), "{room}");
            assert!(hides(room, |wal| _ = wal.record(rmgr::TRANSACTION, 0x80, 9, &dropping)), "{room}");
            assert!(
                !hides(room, |wal| _ = wal.record(rmgr::TRANSACTION, 0x80, 9, &subtransaction)),
                "{room}"
            );
            assert!(!hides(room, |wal| _ = wal.commit(9, 1)), "{room}");
            assert!(!hides(room, |wal| _ = wal.filler(5000)), "{room}");
        }
    }

    #[test]
    fn damaged_fields_are_unclear() {
        let mut wal = Wal::new();
        wal.fill_up_to(16);
        wal.commit(9, 1);
        wal.switch();
        let both = summaries(&wal);
        for text in ["x", "0", "zz", "é"] {
            let mut bad = both[0].clone();
            bad.runs_out = text.to_owned();
            assert_eq!(bad.joined_with(&both[1]), Joined::Unclear, "{text}");
            assert!(bad.hides_files(&both[1]), "{text}");
        }
        let mut other = both[1].clone();
        other.continued += 1;
        assert_eq!(both[0].joined_with(&other), Joined::Unclear);
        other.continued = 0;
        assert_eq!(both[0].joined_with(&other), Joined::Nothing, "it was overwritten");
    }
}
