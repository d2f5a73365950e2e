//! What an object of names is called.

use std::fmt;
use std::str::FromStr;

use highwater_wal::{Lsn, TimelineId, Timestamp};

use crate::{Error, Result};

/// Where names belong, and a mark of what they are: the last part of an object's key.
///
/// ```
/// use highwater_repository::NamesId;
/// let id: NamesId = "20260131T235959.123456Z-0000000A-00000001000000A8-0123456789abcdef".parse()?;
/// assert_eq!(id.lsn.to_string(), "1/A8");
/// assert_eq!(id.to_string(), "20260131T235959.123456Z-0000000A-00000001000000A8-0123456789abcdef");
/// # Ok::<(), highwater_repository::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NamesId {
    /// When they were taken, by the server's clock.
    pub taken_at: Timestamp,
    /// The timeline that the server was on.
    pub timeline: TimelineId,
    /// The end of the WAL before the first was read.
    pub lsn: Lsn,
    /// The first eight bytes of the digest of the content.
    pub content: u64,
}

impl NamesId {
    /// Whether a later object with this name would tell nothing that `self` does not: it is on the same timeline, not
    /// before it, and holds the same.
    pub fn tells_all_of(&self, later: &NamesId) -> bool {
        self.timeline == later.timeline && self.lsn <= later.lsn && self.content == later.content
    }
}

/// `20260131T235959.123456Z`: as short as it gets, and in the order of time.
fn compact(time: Timestamp) -> String {
    time.to_string().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect()
}

fn from_compact(text: &str) -> Option<Timestamp> {
    let at = |range: std::ops::Range<usize>| text.get(range);
    let (year, month, day) = (at(0..4)?, at(4..6)?, at(6..8)?);
    let (hour, minute, rest) = (at(9..11)?, at(11..13)?, text.get(13..)?);
    let time: Timestamp = format!("{year}-{month}-{day}T{hour}:{minute}:{rest}").parse().ok()?;
    (compact(time) == text).then_some(time)
}

fn hex<const DIGITS: usize>(text: &str) -> Option<u64> {
    let is_hex = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for NamesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NamesId { taken_at, timeline, lsn, content } = self;
        write!(f, "{}-{}-{:016X}-{content:016x}", compact(*taken_at), timeline.hex(), lsn.0)
    }
}

impl FromStr for NamesId {
    type Err = Error;

    fn from_str(text: &str) -> Result<NamesId> {
        let read = || {
            let mut parts = text.split('-');
            let id = NamesId {
                taken_at: from_compact(parts.next()?)?,
                timeline: TimelineId::new(hex::<8>(parts.next()?)?.try_into().ok()?)?,
                lsn: Lsn(hex::<16>(parts.next()?)?),
                content: hex::<16>(parts.next()?)?,
            };
            (parts.next().is_none() && id.to_string() == text).then_some(id)
        };
        read().ok_or_else(|| Error::Name {
            what: "the name of an object of relation names",
            text: text.to_owned(),
            hint: "it is made of time, timeline, LSN and digest: 20260131T235959.123456Z-00000001-0000000003000028-0123456789abcdef",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> NamesId {
        NamesId {
            taken_at: "2026-01-31T23:59:59.123456Z".parse().unwrap(),
            timeline: TimelineId::FIRST,
            lsn: Lsn(0x2_0300_0028),
            content: 7,
        }
    }

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is_one() {
        let text = "20260131T235959.123456Z-00000001-0000000203000028-0000000000000007";
        assert_eq!(id().to_string(), text);
        assert_eq!(text.parse::<NamesId>().unwrap(), id());
        for other in [
            "",
            "x",
            &text[1..],
            &format!("{text}-1"),
            &text.replace('Z', ""),
            &text.replace("00000001-", "00000000-"),
            &text.replace("00000001-", "+0000001-"),
            &text.to_lowercase(),
            "20261331T235959.123456Z-00000001-0000000203000028-0000000000000007",
            "2026é131T235959.123456Z-00000001-0000000203000028-0000000000000007",
        ] {
            assert!(other.parse::<NamesId>().is_err(), "{other}");
        }
    }

    #[test]
    fn names_sort_as_the_times_do() {
        let later = NamesId { taken_at: Timestamp(id().taken_at.0 + 1), lsn: Lsn(1), ..id() };
        assert!(id() < later && id().to_string() < later.to_string());
    }

    #[test]
    fn the_same_content_on_another_timeline_or_behind_tells_something_else() {
        let table = [
            (NamesId { lsn: id().lsn + 1, ..id() }, true),
            (NamesId { lsn: Lsn(1), ..id() }, false),
            (NamesId { content: 8, ..id() }, false),
            (NamesId { timeline: TimelineId::new(2).unwrap(), ..id() }, false),
        ];
        for (later, expected) in table {
            assert_eq!(id().tells_all_of(&later), expected, "{later:?}");
        }
    }
}
