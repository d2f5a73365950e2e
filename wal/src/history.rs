//! Timeline history files: which timelines a timeline came from, and where it left each of them
//! (`timeline.c`, PostgreSQL 15).

use std::fmt;

use crate::{Error, Lsn, TimelineId};

/// What a timeline's history file says: its ancestors, oldest first.
///
/// Read as PostgreSQL reads it (`readTimeLineHistory`): blank lines and lines that begin with `#` are passed over, the
/// rest of a line is free text, timelines increase and are smaller than the file's own. Anything else is refused, since
/// PostgreSQL would refuse it too and recovery would end there.
///
/// Switch points need not increase: recovery that stops *before* the point at which its target timeline branched off
/// writes a history whose last line lies before the one above it. [`TimelineHistory::path`] resolves such lines the
/// way `tliOfPointInHistory` does: the newest timeline that had begun by then has the WAL.
///
/// ```
/// use highwater_wal::{Lsn, TimelineHistory, TimelineId};
/// let third = TimelineId::new(3).unwrap();
/// let history = TimelineHistory::parse(third, "1\t0/5000000\tbefore 2024-01-01\n\n2\t0/9000000\tno recovery target specified\n")?;
/// assert_eq!(history.ancestors[0].switch_point, Lsn(0x500_0000));
/// assert_eq!(history.timeline_at(Lsn(0x600_0000)).get(), 2);
/// # Ok::<(), highwater_wal::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    /// The timeline that this is the history of.
    pub timeline: TimelineId,
    /// The timelines it came from, oldest first; none for timeline 1, which has no file.
    pub ancestors: Vec<Ancestor>,
}

/// One line of a history file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The timeline that was left.
    pub timeline: TimelineId,
    /// Where it was left: WAL from here on is another timeline's.
    pub switch_point: Lsn,
    /// Why, in PostgreSQL's words; free text for people.
    pub reason: String,
}

/// A stretch of a path of timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStretch {
    /// The timeline that has the WAL of this stretch.
    pub timeline: TimelineId,
    /// Its first byte.
    pub begin: Lsn,
    /// The byte behind its last; `None` for the newest timeline, which has no end yet.
    pub end: Option<Lsn>,
}

impl TimelineHistory {
    /// The history of a timeline that `initdb` made: no ancestors, no file.
    pub fn first() -> TimelineHistory {
        TimelineHistory { timeline: TimelineId::FIRST, ancestors: Vec::new() }
    }

    /// Reads the content of `timeline`'s history file. Text that isn't UTF-8 in a reason is replaced, not refused:
    /// names of restore points are in the server's encoding.
    ///
    /// # Errors
    /// [`Error::History`] with the line that PostgreSQL would refuse.
    pub fn parse(timeline: TimelineId, content: impl AsRef<[u8]>) -> Result<TimelineHistory, Error> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        for (number, line) in content.as_ref().split(|byte| *byte == b'\n').enumerate() {
            let text = String::from_utf8_lossy(line);
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let refuse =
                |expected| Error::History { timeline, line: number + 1, text: text.to_owned(), expected };
            let ancestor = parse_line(text).map_err(refuse)?;
            if ancestors.last().is_some_and(|last| ancestor.timeline <= last.timeline) {
                return Err(refuse("timelines must increase from line to line"));
            }
            if ancestor.timeline >= timeline {
                return Err(refuse("an ancestor's number is smaller than the timeline's own"));
            }
            ancestors.push(ancestor);
        }
        Ok(TimelineHistory { timeline, ancestors })
    }

    /// The timeline that has the WAL at `lsn` (`tliOfPointInHistory`).
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        let begun = |line: usize| self.ancestors[line].switch_point <= lsn;
        let newest = (0..self.ancestors.len()).rev().find(|&line| begun(line));
        match newest {
            None => self.ancestors.first().map_or(self.timeline, |oldest| oldest.timeline),
            Some(line) => self.ancestors.get(line + 1).map_or(self.timeline, |next| next.timeline),
        }
    }

    /// Whether `timeline` is this one or one that it came from.
    pub fn contains(&self, timeline: TimelineId) -> bool {
        timeline == self.timeline || self.ancestors.iter().any(|ancestor| ancestor.timeline == timeline)
    }

    /// Where this path leaves `timeline`: `None` if it never does, or was never on it.
    pub fn left_at(&self, timeline: TimelineId) -> Option<Lsn> {
        let stretch = self.path().into_iter().find(|stretch| stretch.timeline == timeline);
        stretch.and_then(|stretch| stretch.end)
    }

    /// The whole way from the first byte of WAL: stretches without gap or overlap, oldest first, none of them empty.
    pub fn path(&self) -> Vec<PathStretch> {
        let mut path = Vec::with_capacity(self.ancestors.len() + 1);
        let mut end = None;
        let mut timeline = self.timeline;
        for ancestor in self.ancestors.iter().rev() {
            let begin = ancestor.switch_point;
            // A timeline that begins at or behind the point at which the path leaves it has no WAL on the path.
            if end.is_none_or(|end| begin < end) {
                path.push(PathStretch { timeline, begin, end });
                end = Some(begin);
            }
            timeline = ancestor.timeline;
        }
        if end.is_none_or(|end| Lsn(0) < end) {
            path.push(PathStretch { timeline, begin: Lsn(0), end });
        }
        path.reverse();
        path
    }
}

/// `1<TAB>0/5000000<TAB>reason`: any white space does between the fields, as in `sscanf`'s `"%u\t%X/%X"`.
fn parse_line(text: &str) -> Result<Ancestor, &'static str> {
    const NO_TIMELINE: &str = "a numeric timeline comes first";
    const NO_SWITCH_POINT: &str = "the LSN of the switch point comes second";
    let (timeline, rest) = digits(text, 10).ok_or(NO_TIMELINE)?;
    let timeline = TimelineId::new(timeline).ok_or(NO_TIMELINE)?;
    let (high, rest) = digits(rest.trim_start(), 16).ok_or(NO_SWITCH_POINT)?;
    let (low, rest) =
        rest.strip_prefix('/').and_then(|rest| digits(rest.trim_start(), 16)).ok_or(NO_SWITCH_POINT)?;
    let switch_point = Lsn(u64::from(high) << 32 | u64::from(low));
    Ok(Ancestor { timeline, switch_point, reason: rest.trim().to_owned() })
}

/// The number at the beginning of `text`, and what follows it.
fn digits(text: &str, radix: u32) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((u32::from_str_radix(number, radix).ok()?, rest))
}

/// The content of the history file, as `writeTimeLineHistory` would write it.
impl fmt::Display for TimelineHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Ancestor { timeline, switch_point, reason } in &self.ancestors {
            writeln!(f, "{timeline}\t{switch_point}\t{reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn stretch(timeline: u32, begin: u64, end: Option<u64>) -> PathStretch {
        PathStretch { timeline: tli(timeline), begin: Lsn(begin), end: end.map(Lsn) }
    }

    #[test]
    fn tolerant_where_postgresql_is() {
        for content in [
            "1\t0/5000028\tno recovery target specified\n",
            "\n\n  \t\n# made by hand\n   # another\n1\t0/5000028\tno recovery target specified\n\n",
            "   1   0/5000028   no recovery target specified",
            "1\t0/05000028 no recovery target specified\r\n",
            "1\t0/ 5000028\tno recovery target specified",
        ] {
            let history = TimelineHistory::parse(tli(2), content).unwrap();
            let reason = "no recovery target specified".to_owned();
            let ancestor = Ancestor { timeline: tli(1), switch_point: Lsn(0x500_0028), reason };
            assert_eq!(history.ancestors, [ancestor], "{content:?}");
        }
        assert_eq!(TimelineHistory::parse(tli(7), "").unwrap().ancestors, []);
        assert_eq!(TimelineHistory::parse(tli(2), "1 a/B").unwrap().ancestors[0].reason, "");
        let latin1 = TimelineHistory::parse(tli(2), b"1\t0/1\tat restore point \"\xE9t\xE9\"\n").unwrap();
        assert!(latin1.ancestors[0].reason.ends_with("t\u{FFFD}\""));
    }

    #[test]
    fn strict_where_postgresql_is() {
        for (content, expected) in [
            ("x\t0/1\t", "numeric timeline"),
            ("0\t0/1\t", "numeric timeline"),
            ("99999999999\t0/1", "numeric timeline"),
            ("1", "switch point"),
            ("1\t", "switch point"),
            ("1\tno recovery target", "switch point"),
            ("1\t0", "switch point"),
            ("1\t0/", "switch point"),
            ("1\t/1", "switch point"),
            ("1\t123456789/1", "switch point"),
            ("2\t0/1\n1\t0/2", "increase"),
            ("1\t0/1\n1\t0/2", "increase"),
            ("3\t0/1", "smaller"),
            ("4\t0/1", "smaller"),
        ] {
            let error = TimelineHistory::parse(tli(3), content).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("hint: "), "{content:?}: {error}");
        }
    }

    #[test]
    fn a_path_has_no_gap_and_no_overlap() {
        let history = TimelineHistory::parse(tli(5), "1\t0/50\ta\n3\t0/90\tb\n").unwrap();
        assert_eq!(
            history.path(),
            [stretch(1, 0, Some(0x50)), stretch(3, 0x50, Some(0x90)), stretch(5, 0x90, None)]
        );
        assert_eq!(history.left_at(tli(1)), Some(Lsn(0x50)));
        assert_eq!(history.left_at(tli(5)), None);
        assert!(history.contains(tli(3)) && !history.contains(tli(2)));
        assert_eq!(TimelineHistory::first().path(), [stretch(1, 0, None)]);
    }

    #[test]
    fn a_target_before_the_last_switch_point_leaves_a_timeline_without_wal() {
        let history = TimelineHistory::parse(tli(3), "1\t0/50\ta\n2\t0/40\tb\n").unwrap();
        assert_eq!(history.path(), [stretch(1, 0, Some(0x40)), stretch(3, 0x40, None)]);
        assert_eq!(history.timeline_at(Lsn(0x3F)), tli(1));
        assert_eq!(history.timeline_at(Lsn(0x40)), tli(3));
        let same = TimelineHistory::parse(tli(3), "1\t0/50\ta\n2\t0/50\tb\n").unwrap();
        assert_eq!(same.path(), [stretch(1, 0, Some(0x50)), stretch(3, 0x50, None)]);
    }

    prop_compose! {
        fn histories()(lines in proptest::collection::vec((1u32..50, 0u64..60, "[a-z/# ]{0,12}"), 0..6)) -> TimelineHistory {
            let mut last = 0;
            let ancestor = |(step, lsn, reason): (u32, u64, String)| {
                last += step;
                Ancestor { timeline: tli(last), switch_point: Lsn(lsn), reason: reason.trim().to_owned() }
            };
            let ancestors: Vec<_> = lines.into_iter().map(ancestor).collect();
            TimelineHistory { timeline: tli(last + 1), ancestors }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(history in histories()) {
            let read = TimelineHistory::parse(history.timeline, history.to_string()).unwrap();
            prop_assert_eq!(read, history);
        }

        #[test]
        fn any_bytes_are_read_or_refused(timeline in 1u32.., content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = TimelineHistory::parse(tli(timeline), content);
        }

        #[test]
        fn the_path_agrees_with_postgresqls_own_search(history in histories(), lsn in 0u64..70) {
            // tliOfPointInHistory: the first entry, newest first, with begin <= lsn < end.
            let mut entries = vec![];
            let mut begin = 0;
            for ancestor in &history.ancestors {
                entries.push((ancestor.timeline, begin, ancestor.switch_point.0));
                begin = ancestor.switch_point.0;
            }
            entries.push((history.timeline, begin, u64::MAX));
            let model = entries.iter().rev().find(|(_, begin, end)| *begin <= lsn && lsn < *end).unwrap().0;
            prop_assert_eq!(history.timeline_at(Lsn(lsn)), model);
            let path = history.path();
            let on_path = path.iter().filter(|s| s.begin.0 <= lsn && s.end.is_none_or(|end| lsn < end.0));
            prop_assert_eq!(on_path.map(|s| s.timeline).collect::<Vec<_>>(), vec![model]);
            prop_assert!(path.windows(2).all(|pair| pair[0].end == Some(pair[1].begin)));
        }
    }
}
