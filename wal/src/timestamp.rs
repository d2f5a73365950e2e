//! PostgreSQL's time: microseconds since 2000-01-01 00:00 UTC (`timestamp.h`).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime, UtcOffset};

const EPOCH: OffsetDateTime = datetime!(2000-01-01 00:00 UTC);

/// A moment by the server's clock, in microseconds since 2000-01-01 00:00 UTC (PostgreSQL's `TimestampTz`).
///
/// It is written as RFC 3339 in UTC with microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From `pg_time_t`: seconds since 1970, as checkpoint records hold them.
    pub fn from_unix_seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_sub(EPOCH.unix_timestamp()).saturating_mul(1_000_000))
    }

    /// As a date with its offset from UTC; `None` outside the years that `time` knows (±9999).
    pub fn to_datetime(self, offset: UtcOffset) -> Option<OffsetDateTime> {
        EPOCH.checked_add(Duration::microseconds(self.0)).map(|utc| utc.to_offset(offset))
    }

    /// The moment of a date, cut to whole microseconds.
    pub fn from_datetime(date: OffsetDateTime) -> Timestamp {
        let micros = (date - EPOCH).whole_microseconds();
        Timestamp(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(date) = self.to_datetime(UtcOffset::UTC) else { return write!(f, "{} µs", self.0) };
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

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map(Timestamp::from_datetime).map_err(serde::de::Error::custom)
    }
}
