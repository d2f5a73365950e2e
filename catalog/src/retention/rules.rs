//! What is to be kept, as somebody has set it.

use std::time::Duration;

use highwater_wal::Timestamp;
use serde::Serialize;
use time::UtcOffset;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Rules that keep backups. A backup stays where any of them keeps it; 0 and `None` keep none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Every moment of this last stretch of time can be reached, on every timeline that reaches into it.
    pub window: Option<Duration>,
    /// So many of the newest backups stay, and every moment since the oldest of them can be reached.
    pub backups: u32,
    /// The newest backup of each of so many of the newest days that have one.
    pub daily: u32,
    /// The same of weeks, as ISO 8601 has them: from Monday.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// The same of years.
    pub yearly: u32,
    /// In which zone days, weeks, months and years begin.
    pub zone: UtcOffset,
    /// Nothing that is younger is touched.
    pub minimum_age: Duration,
    /// So long after a backup was marked it is removed; and WAL that was promised so long ago is still there, for restores that
    /// are running.
    pub grace: Duration,
    /// After so long a backup without a manifest is taken to be abandoned.
    pub abandoned_after: Duration,
}

impl Rules {
    /// The shortest grace, and the one that holds where nothing is set.
    pub const MIN_GRACE: Duration = DAY;

    /// Whether anything says what to keep. Without that nothing is removed.
    pub fn say_what_to_keep(&self) -> bool {
        let Rules { window, backups, daily, weekly, monthly, yearly, .. } = self;
        window.is_some() || [backups, daily, weekly, monthly, yearly].iter().any(|count| **count > 0)
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            window: None,
            backups: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            zone: UtcOffset::UTC,
            minimum_age: 7 * DAY,
            grace: Rules::MIN_GRACE,
            abandoned_after: 7 * DAY,
        }
    }
}

/// Calendar units of which the newest backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// All of them, with how many of each the rules keep.
    pub(super) fn all(rules: &Rules) -> [(Period, u32); 4] {
        [
            (Period::Day, rules.daily),
            (Period::Week, rules.weekly),
            (Period::Month, rules.monthly),
            (Period::Year, rules.yearly),
        ]
    }

    /// The name of the one that a moment lies in: `2026-11-20`, `2026-W47`, `2026-11`, `2026`.
    pub(super) fn of(self, moment: Timestamp, zone: UtcOffset) -> String {
        let Some(date) = moment.to_datetime(zone).map(|moment| moment.date()) else {
            // Years beyond 9999: each such moment is a period of its own.
            return moment.to_string();
        };
        let (year, month) = (date.year(), u8::from(date.month()));
        match self {
            Period::Day => format!("{year:04}-{month:02}-{:02}", date.day()),
            Period::Week => {
                let (year, week, _) = date.to_iso_week_date();
                format!("{year:04}-W{week:02}")
            }
            Period::Month => format!("{year:04}-{month:02}"),
            Period::Year => format!("{year:04}"),
        }
    }
}

/// A length of time before a moment.
pub(super) fn before(moment: Timestamp, span: Duration) -> Timestamp {
    Timestamp(moment.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
}

/// A length of time after a moment.
pub(super) fn after(moment: Timestamp, span: Duration) -> Timestamp {
    Timestamp(moment.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_in_the_zone_that_is_set() {
        let moment: Timestamp = "2027-01-03T23:30:00Z".parse().unwrap();
        let east = UtcOffset::from_hms(1, 0, 0).unwrap();
        for (period, utc, eastern) in [
            (Period::Day, "2027-01-03", "2027-01-04"),
            (Period::Week, "2026-W53", "2027-W01"),
            (Period::Month, "2027-01", "2027-01"),
            (Period::Year, "2027", "2027"),
        ] {
            assert_eq!(period.of(moment, UtcOffset::UTC), utc);
            assert_eq!(period.of(moment, east), eastern);
        }
        assert_eq!(Period::Day.of(Timestamp(i64::MAX), UtcOffset::UTC), Timestamp(i64::MAX).to_string());
    }

    #[test]
    fn without_a_rule_nothing_says_what_to_keep() {
        assert!(!Rules::default().say_what_to_keep());
        assert!(Rules { yearly: 1, ..Rules::default() }.say_what_to_keep());
        assert!(Rules { window: Some(DAY), ..Rules::default() }.say_what_to_keep());
    }
}
