//! PostgreSQL's time: microseconds since 2000-01-01 00:00 UTC (`timestamp.h`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::Error;

const EPOCH: OffsetDateTime = datetime!(2000-01-01 00:00 UTC);
const MICROSECONDS: &str = " µs since 2000";

/// A moment by the server's clock, in microseconds since 2000-01-01 00:00 UTC (PostgreSQL's `TimestampTz`).
///
/// It is written as RFC 3339 in UTC with microseconds, or, outside the years 0 to 9999 that RFC 3339 knows, as the
/// number of microseconds: whatever a record holds can be written and read back.
///
/// ```
/// use highwater_wal::Timestamp;
/// assert_eq!(Timestamp(1).to_string(), "2000-01-01T00:00:00.000001Z");
/// assert_eq!("2000-01-01T01:00:00+01:00".parse(), Ok(Timestamp(0)));
/// assert_eq!(Timestamp(i64::MIN).to_string().parse(), Ok(Timestamp(i64::MIN)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From `pg_time_t`: seconds since 1970, as checkpoint records hold them.
    pub fn from_unix_seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_sub(EPOCH.unix_timestamp()).saturating_mul(1_000_000))
    }

    /// As a date with its offset from UTC; `None` outside the years that `time` knows (±9999).
    pub fn to_datetime(self, offset: UtcOffset) -> Option<OffsetDateTime> {
        EPOCH.checked_add(Duration::microseconds(self.0)).and_then(|utc| utc.checked_to_offset(offset))
    }

    /// The moment of a date, cut to whole microseconds.
    pub fn from_datetime(date: OffsetDateTime) -> Timestamp {
        let micros = (date - EPOCH).whole_microseconds();
        Timestamp(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.to_datetime(UtcOffset::UTC).filter(|date| (0..=9999).contains(&date.year()));
        let Some(date) = date else { return write!(f, "{}{MICROSECONDS}", self.0) };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second(),
            date.microsecond()
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads what [`Timestamp`]'s `Display` writes, and RFC 3339 with any offset.
    fn from_str(text: &str) -> Result<Timestamp, Error> {
        let number = text.strip_suffix(MICROSECONDS).and_then(|number| number.parse().ok().map(Timestamp));
        let date = || OffsetDateTime::parse(text, &Rfc3339).ok().map(Timestamp::from_datetime);
        number.or_else(date).ok_or_else(|| Error::Timestamp(text.to_owned()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_of_checkpoints_are_in_seconds_since_1970() {
        assert_eq!(Timestamp::from_unix_seconds(946_684_800), Timestamp(0));
        assert_eq!(Timestamp::from_unix_seconds(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::from_unix_seconds(i64::MIN), Timestamp(i64::MIN));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "2000-01-01", "2000-01-01T00:00:00", "12", "x µs since 2000"] {
            assert!(text.parse::<Timestamp>().unwrap_err().to_string().contains("hint: "));
        }
    }

    proptest! {
        #[test]
        fn every_time_is_read_back(micros: i64, near in -100_000_000_000_000_000_i64..300_000_000_000_000_000) {
            for time in [Timestamp(micros), Timestamp(near)] {
                prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
                prop_assert!(time.to_datetime(UtcOffset::from_hms(14, 0, 0).unwrap()).is_none_or(|date| date.year() <= 9999));
                let json = serde_json::to_string(&time).unwrap();
                prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
            }
        }
    }
}
