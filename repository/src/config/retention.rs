//! What is to be kept: `[retention]` for all clusters, `[cluster.NAME.retention]` for one.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use time::UtcOffset;

/// Which backups are kept, as far as it is set. What a setting means is told in docs/OPERATIONS.md.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RetentionConfig {
    /// Every moment of so long a time can be reached.
    #[serde(default, deserialize_with = "span")]
    pub window: Option<Duration>,
    /// So many of the newest backups stay.
    pub backups: Option<u32>,
    /// The newest of so many days stays.
    pub daily: Option<u32>,
    /// The newest of so many weeks stays.
    pub weekly: Option<u32>,
    /// The newest of so many months stays.
    pub monthly: Option<u32>,
    /// The newest of so many years stays.
    pub yearly: Option<u32>,
    /// In which zone days begin, as an offset from UTC.
    #[serde(default, deserialize_with = "offset")]
    pub utc_offset: Option<UtcOffset>,
    /// What is younger is not touched.
    #[serde(default, deserialize_with = "span")]
    pub minimum_age: Option<Duration>,
    /// How long a backup is marked before it is removed.
    #[serde(default, deserialize_with = "span")]
    pub grace: Option<Duration>,
    /// After how long a backup without a manifest is given up.
    #[serde(default, deserialize_with = "span")]
    pub abandoned_after: Option<Duration>,
}

impl RetentionConfig {
    /// The names of the settings.
    pub(super) const SETTINGS: &[&str] = &[
        "window",
        "backups",
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "utc-offset",
        "minimum-age",
        "grace",
        "abandoned-after",
    ];

    /// These settings, and where one is not set that of `others`.
    #[must_use]
    pub fn or(self, others: &RetentionConfig) -> RetentionConfig {
        RetentionConfig {
            window: self.window.or(others.window),
            backups: self.backups.or(others.backups),
            daily: self.daily.or(others.daily),
            weekly: self.weekly.or(others.weekly),
            monthly: self.monthly.or(others.monthly),
            yearly: self.yearly.or(others.yearly),
            utc_offset: self.utc_offset.or(others.utc_offset),
            minimum_age: self.minimum_age.or(others.minimum_age),
            grace: self.grace.or(others.grace),
            abandoned_after: self.abandoned_after.or(others.abandoned_after),
        }
    }

    /// A length of time: `14d`, `36h`, `90min`.
    ///
    /// # Errors
    /// What would be one.
    pub fn parse_span(text: &str) -> Result<Duration, String> {
        let bad = || format!("\"{text}\" is not a length of time: write it as 14d, 36h or 90min");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u32 = text[..digits].parse().map_err(|_| bad())?;
        let seconds = match text[digits..].trim_start() {
            "d" => 24 * 3600,
            "h" => 3600,
            "min" => 60,
            "s" => 1,
            "" if number == 0 => 1,
            _ => return Err(bad()),
        };
        Ok(Duration::from_secs(u64::from(number) * seconds))
    }

    /// An offset from UTC: `+01:00`, `-05:30`, `Z`.
    ///
    /// # Errors
    /// What would be one.
    pub fn parse_offset(text: &str) -> Result<UtcOffset, String> {
        let bad = || format!("\"{text}\" is not an offset from UTC: write it as +01:00, -05:30 or Z");
        if text == "Z" {
            return Ok(UtcOffset::UTC);
        }
        let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(rest), _) => (1, rest),
            (_, Some(rest)) => (-1, rest),
            _ => return Err(bad()),
        };
        let (hours, minutes) = rest.split_once(':').ok_or_else(bad)?;
        let two = |digits: &str, most: i8| {
            let is_two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i8>().ok().filter(|number| is_two && *number <= most).ok_or_else(bad)
        };
        UtcOffset::from_hms(sign * two(hours, 15)?, sign * two(minutes, 59)?, 0).map_err(|_| bad())
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    RetentionConfig::parse_span(&text).map(Some).map_err(serde::de::Error::custom)
}

fn offset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UtcOffset>, D::Error> {
    let text = String::deserialize(deserializer)?;
    RetentionConfig::parse_offset(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_offsets() {
        let span = |text| RetentionConfig::parse_span(text).map(|span| span.as_secs());
        assert_eq!(span("14d"), Ok(14 * 86_400));
        assert_eq!(
            (span("36h"), span("90min"), span("1 s"), span("0")),
            (Ok(129_600), Ok(5400), Ok(1), Ok(0))
        );
        for bad in ["", "d", "14", "-1d", "1.5d", "14 days", "99999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        let offset = |text| RetentionConfig::parse_offset(text).map(|offset| offset.whole_minutes());
        assert_eq!((offset("Z"), offset("+01:00"), offset("-05:30")), (Ok(0), Ok(60), Ok(-330)));
        for bad in ["", "UTC", "01:00", "+1:00", "+01:60", "+99:00", "+01", "+0a:00", "+-1:00"] {
            assert!(offset(bad).is_err(), "{bad}");
        }
    }
}
