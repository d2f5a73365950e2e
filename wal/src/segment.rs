//! WAL segments: their size, their numbers and their names (`xlog_internal.h`, PostgreSQL 15).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Lsn, TimelineId};

/// The size of a cluster's WAL segments in bytes: a power of two from 1 MiB to 1 GiB (`IsValidWalSegSize`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// What `initdb` takes when nothing is said: 16 MiB.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    /// A legal segment size, or an error that says what is legal.
    pub fn new(bytes: u64) -> Result<SegmentSize, Error> {
        let legal = bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes);
        match u32::try_from(bytes) {
            Ok(size) if legal => Ok(SegmentSize(size)),
            _ => Err(Error::SegmentSize(bytes)),
        }
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// How many segments one log (4 GiB of WAL) has.
    pub fn segments_per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }

    /// The numbers of the segments that one log can have, as [`SegmentName::number`] counts them. Segment 0 of all does not
    /// exist: the WAL of every cluster begins with segment 1 (`BootStrapXLOG`, xlog.c, PostgreSQL 15).
    pub fn numbers_of_log(self, log: u32) -> RangeInclusive<u64> {
        let first = u64::from(log) * self.segments_per_log();
        first.max(1)..=first + self.segments_per_log() - 1
    }
}

impl fmt::Debug for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}

impl<'de> Deserialize<'de> for SegmentSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SegmentSize, D::Error> {
        SegmentSize::new(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The name of a WAL segment: timeline, log and segment within the log, each as eight hexadecimal digits.
///
/// A name alone does not say which LSNs it covers; that takes the cluster's [`SegmentSize`].
///
/// ```
/// use highwater_wal::{Lsn, SegmentName, SegmentSize};
/// let name: SegmentName = "00000001000000000000002A".parse()?;
/// assert_eq!(name.start(SegmentSize::DEFAULT), Lsn(0x2A00_0000));
/// assert_eq!(name.next(SegmentSize::DEFAULT).to_string(), "00000001000000000000002B");
/// # Ok::<(), highwater_wal::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline whose WAL the segment holds.
    pub timeline: TimelineId,
    /// The upper 32 bits of its LSNs.
    pub log: u32,
    /// Which segment of that log, from 0.
    pub segment: u32,
}

impl SegmentName {
    /// The segment that holds the byte at `lsn`.
    pub fn containing(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> SegmentName {
        SegmentName::from_number(timeline, lsn.0 / size.bytes(), size)
    }

    /// The segment that holds the byte just before `lsn`: where WAL that ends at `lsn` ends (`XLByteToPrevSeg`).
    pub fn ending_at(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> SegmentName {
        SegmentName::containing(timeline, Lsn(lsn.0.saturating_sub(1)), size)
    }

    /// The segment with this number, counted from the start of the WAL.
    pub fn from_number(timeline: TimelineId, number: u64, size: SegmentSize) -> SegmentName {
        let per_log = size.segments_per_log();
        // Numbers come from 64-bit LSNs, so the log fits 32 bits; a larger one could only wrap as PostgreSQL's does.
        SegmentName { timeline, log: (number / per_log) as u32, segment: (number % per_log) as u32 }
    }

    /// Its number, counted from the start of the WAL.
    pub fn number(self, size: SegmentSize) -> u64 {
        u64::from(self.log) * size.segments_per_log() + u64::from(self.segment)
    }

    /// The LSN of its first byte.
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number(size).saturating_mul(size.bytes()))
    }

    /// The LSN behind its last byte.
    pub fn end(self, size: SegmentSize) -> Lsn {
        self.start(size) + size.bytes()
    }

    /// The segment after it on the same timeline.
    pub fn next(self, size: SegmentSize) -> SegmentName {
        SegmentName::from_number(self.timeline, self.number(size) + 1, size)
    }

    /// Whether a cluster with segments of this size can have a segment of this name.
    pub fn fits(self, size: SegmentSize) -> bool {
        u64::from(self.segment) < size.segments_per_log()
    }

    /// The same place in the WAL on another timeline.
    pub fn on(self, timeline: TimelineId) -> SegmentName {
        SegmentName { timeline, ..self }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.get(), self.log, self.segment)
    }
}

impl fmt::Debug for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SegmentName {
    type Err = Error;

    fn from_str(text: &str) -> Result<SegmentName, Error> {
        let bad = || Error::SegmentName(text.to_owned());
        // PostgreSQL writes capitals only (IsXLogFileName); "0000000a…" is another file.
        if text.len() != 24 || !text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)) {
            return Err(bad());
        }
        let part = |at: usize| u32::from_str_radix(&text[at..at + 8], 16).map_err(|_| bad());
        let timeline = TimelineId::new(part(0)?).ok_or_else(bad)?;
        Ok(SegmentName { timeline, log: part(8)?, segment: part(16)? })
    }
}

impl Serialize for SegmentName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SegmentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SegmentName, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemId;
    use proptest::prelude::*;

    #[test]
    fn segments_have_a_power_of_two_of_bytes() {
        for bytes in [0, 1, 1 << 19, (1 << 20) + 1, 3 << 20, 1 << 31, u64::MAX] {
            assert_eq!(SegmentSize::new(bytes), Err(Error::SegmentSize(bytes)));
            assert!(serde_json::from_str::<SegmentSize>(&bytes.to_string()).is_err());
        }
        for shift in 20..=30 {
            let size = SegmentSize::new(1 << shift).unwrap();
            assert_eq!(size.segments_per_log() * size.bytes(), 1 << 32);
            assert_eq!(serde_json::to_string(&size).unwrap(), (1_u64 << shift).to_string());
        }
    }

    #[test]
    fn a_log_is_four_gibibytes_and_the_first_lacks_a_segment() {
        assert_eq!(SegmentSize::DEFAULT.numbers_of_log(0), 1..=255);
        assert_eq!(SegmentSize::DEFAULT.numbers_of_log(1), 256..=511);
        let gib = SegmentSize::new(1 << 30).unwrap();
        assert_eq!((gib.numbers_of_log(0), gib.numbers_of_log(3)), (1..=3, 12..=15));
        assert_eq!(*SegmentSize::new(1 << 20).unwrap().numbers_of_log(u32::MAX).end(), (1 << 44) - 1);
    }

    #[test]
    fn the_last_byte_decides_where_wal_ends() {
        let size = SegmentSize::DEFAULT;
        let name = |lsn| SegmentName::ending_at(TimelineId::FIRST, Lsn(lsn), size).to_string();
        assert_eq!(name(0x200_0000), "000000010000000000000001");
        assert_eq!(name(0x200_0001), "000000010000000000000002");
    }

    proptest! {
        #[test]
        fn names_and_numbers_agree(shift in 20u32..=30, timeline in 1u32.., lsn: u64) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let timeline = TimelineId::new(timeline).unwrap();
            let name = SegmentName::containing(timeline, Lsn(lsn), size);
            prop_assert!(name.fits(size));
            prop_assert!(name.start(size) <= Lsn(lsn));
            prop_assert!(lsn - name.start(size).0 < size.bytes());
            prop_assert_eq!(SegmentName::from_number(timeline, name.number(size), size), name);
            prop_assert_eq!(name.to_string().parse::<SegmentName>().unwrap(), name);
            let last = name.number(size) == u64::MAX >> shift;
            prop_assert!(last || name.next(size).start(size) == name.end(size));
        }

        #[test]
        fn parsing_a_name_never_panics(text in ".{0,26}") {
            let _ = text.parse::<SegmentName>();
            let _ = text.parse::<Lsn>();
            let _ = text.parse::<TimelineId>();
            let _ = text.parse::<SystemId>();
        }

        #[test]
        fn lsns_are_read_back(lsn: u64) {
            prop_assert_eq!(Lsn(lsn).to_string().parse::<Lsn>().unwrap(), Lsn(lsn));
        }
    }
}
