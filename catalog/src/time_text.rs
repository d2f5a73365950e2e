//! Times as people write them.

use highwater_wal::Timestamp;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// A time that was not understood, or that does not say which moment it means.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not a time.
    #[error(
        "\"{0}\" is not a time; hint: write it as 2026-11-20T11:16:00+01:00, as 2026-11-20 11:16:00.123456+01, or as \"10 minutes ago\""
    )]
    NotATime(String),
    /// Clocks were set back in the machine's zone, so it comes twice, or set forward, so it never came.
    #[error(
        "\"{text}\" {why} in this machine's time zone; hint: write the offset behind it, as in {text}{example}"
    )]
    NotOneMoment {
        /// What was written.
        text: String,
        /// Comes twice, or never.
        why: &'static str,
        /// An offset that would settle it.
        example: String,
    },
}

/// Reads a time: RFC 3339, or PostgreSQL's own form with up to microseconds and an offset (`2026-11-20 11:16:00.123456+01`), a
/// date alone (its midnight), or `"10 minutes ago"`.
///
/// `now` is the moment that "ago" counts from. Without an offset the machine's zone is meant: `offset_at` gives its offset
/// from UTC at a moment.
///
/// # Errors
/// What was not understood, or a local time that comes twice or never.
pub fn parse_time(
    text: &str,
    now: OffsetDateTime,
    offset_at: impl Fn(OffsetDateTime) -> UtcOffset,
) -> Result<Timestamp, TimeError> {
    let bad = || TimeError::NotATime(text.to_owned());
    let trimmed = text.trim();
    if let Some(amount) = trimmed.strip_suffix("ago") {
        return ago(amount, now).ok_or_else(bad);
    }
    let (date, rest) = split_date(trimmed).ok_or_else(bad)?;
    let (clock, offset) = split_offset(rest);
    let local = PrimitiveDateTime::new(date, parse_clock(clock).ok_or_else(bad)?);
    match offset {
        Some(offset) => {
            let offset = parse_offset(offset).ok_or_else(bad)?;
            Ok(Timestamp::from_datetime(local.assume_offset(offset)))
        }
        None => in_zone(trimmed, local, offset_at),
    }
}

/// The one moment at which the zone's clocks showed `local`.
fn in_zone(
    text: &str,
    local: PrimitiveDateTime,
    offset_at: impl Fn(OffsetDateTime) -> UtcOffset,
) -> Result<Timestamp, TimeError> {
    // No zone changes its offset twice within two days, so these are all the offsets that can be meant.
    let near = [Duration::DAY, Duration::ZERO, -Duration::DAY].map(|far| offset_at(local.assume_utc() - far));
    let mut moments: Vec<OffsetDateTime> = near.iter().map(|offset| local.assume_offset(*offset)).collect();
    moments.retain(|moment| offset_at(*moment) == moment.offset());
    moments.sort();
    moments.dedup();
    let why = match moments.as_slice() {
        [moment] => return Ok(Timestamp::from_datetime(*moment)),
        [] => "never came",
        _ => "came twice",
    };
    let (hours, minutes, _) = near[0].as_hms();
    let sign = if near[0].is_negative() { '-' } else { '+' };
    let example = format!("{sign}{:02}:{:02}", hours.abs(), minutes.abs());
    Err(TimeError::NotOneMoment { text: text.to_owned(), why, example })
}

fn split_date(text: &str) -> Option<(Date, &str)> {
    const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
    let (date, rest) = text.split_at_checked(10)?;
    let rest = match rest.as_bytes().first() {
        None => rest,
        Some(b'T' | b't' | b' ') => rest[1..].trim_start(),
        Some(_) => return None,
    };
    Some((Date::parse(date, DATE).ok()?, rest))
}

/// The time of day, and what stands behind it.
fn split_offset(text: &str) -> (&str, Option<&str>) {
    match text.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')) {
        Some(at) => (&text[..at], Some(text[at..].trim_start())),
        None => (text, None),
    }
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.ffffff`; nothing is midnight.
fn parse_clock(text: &str) -> Option<Time> {
    if text.is_empty() {
        return Some(Time::MIDNIGHT);
    }
    let (whole, fraction) =
        text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let parts: Vec<&str> = whole.split(':').collect();
    let number = |part: &str| (part.len() == 2).then(|| part.parse::<u8>().ok()).flatten();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] if fraction.is_none() => (number(hour)?, number(minute)?, 0),
        [hour, minute, second] => (number(hour)?, number(minute)?, number(second)?),
        _ => return None,
    };
    let micros = match fraction {
        None => 0,
        Some(digits) if (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{digits:0<6}").parse().ok()?
        }
        Some(_) => return None,
    };
    Time::from_hms_micro(hour, minute, second, micros).ok()
}

/// `Z`, `UTC`, `+01`, `+0530`, `+05:30`.
fn parse_offset(text: &str) -> Option<UtcOffset> {
    if text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Some(UtcOffset::UTC);
    }
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    if !(digits.len() == 2 || digits.len() == 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hours: i8 = digits[..2].parse().ok()?;
    let minutes: i8 = if digits.len() == 4 { digits[2..].parse().ok()? } else { 0 };
    if minutes > 59 {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

/// The amount of `"10 minutes ago"` or `"1 hour 30 minutes ago"`.
fn ago(amount: &str, now: OffsetDateTime) -> Option<Timestamp> {
    let words: Vec<&str> = amount.split_whitespace().collect();
    if words.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    for pair in words.chunks(2) {
        let [number, unit] = pair else { return None };
        let number: i32 = number.parse().ok().filter(|number| *number >= 0)?;
        let unit = unit.trim_end_matches(',');
        let one = match unit.strip_suffix('s').unwrap_or(unit) {
            "second" | "sec" => Duration::SECOND,
            "minute" | "min" => Duration::MINUTE,
            "hour" => Duration::HOUR,
            "day" => Duration::DAY,
            "week" => Duration::WEEK,
            _ => return None,
        };
        total = total.checked_add(one.checked_mul(number)?)?;
    }
    now.checked_sub(total).map(Timestamp::from_datetime)
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, offset};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00:00 UTC);

    /// Berlin around the change of 2026-10-25 01:00 UTC and that of 2026-03-29 01:00 UTC.
    fn berlin(at: OffsetDateTime) -> UtcOffset {
        let summer = at >= datetime!(2026-03-29 01:00 UTC) && at < datetime!(2026-10-25 01:00 UTC);
        if summer { offset!(+2) } else { offset!(+1) }
    }

    #[test]
    fn what_people_write() {
        let same = datetime!(2026-11-20 10:16:00.123456 UTC);
        for (text, meant) in [
            ("2026-11-20T11:16:00.123456+01:00", same),
            ("2026-11-20 11:16:00.123456+01", same),
            ("2026-11-20 11:16:00.123456 +0100", same),
            ("2026-11-20T10:16:00.123456Z", same),
            ("2026-11-20 10:16:00.123456 UTC", same),
            ("2026-11-20 11:16:00.123456", same),
            ("2026-11-20 04:46:00.123456-05:30", same),
            ("2026-11-20 11:16", datetime!(2026-11-20 10:16 UTC)),
            ("2026-11-20 11:16:00.5", datetime!(2026-11-20 10:16:00.5 UTC)),
            ("2026-07-01", datetime!(2026-06-30 22:00 UTC)),
            ("10 minutes ago", datetime!(2026-11-20 11:50 UTC)),
            ("1 hour, 30 min ago", datetime!(2026-11-20 10:30 UTC)),
            ("2 days ago", datetime!(2026-11-18 12:00 UTC)),
        ] {
            assert_eq!(parse_time(text, NOW, berlin), Ok(Timestamp::from_datetime(meant)), "{text}");
        }
    }

    #[test]
    fn r22_what_is_no_time() {
        for text in [
            "",
            "now",
            "ago",
            "ten minutes ago",
            "-5 minutes ago",
            "10 ago",
            "2026-13-01",
            "2026-11-20 25:00",
            "2026-11-20 11:16:00.",
            "2026-11-20 11:16:00.1234567",
            "2026-11-20T11",
            "2026-11-20 11:16:00+1",
            "2026-11-20 11:16:00 CET",
            "20.11.2026",
            "2026-11-20x",
            "99999999999 weeks ago",
            "2026-11-20 11:16:00+01:99",
            "é026-11-20",
            "2026-11-2é",
        ] {
            assert!(matches!(parse_time(text, NOW, berlin), Err(TimeError::NotATime(_))), "{text}");
        }
    }

    #[test]
    fn a_local_time_that_is_not_one_moment_is_refused() {
        let why = |text| match parse_time(text, NOW, berlin) {
            Err(TimeError::NotOneMoment { why, .. }) => why,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(why("2026-10-25 02:30"), "came twice");
        assert_eq!(why("2026-03-29 02:30"), "never came");
        assert!(parse_time("2026-10-25 02:30+02", NOW, berlin).is_ok());
    }
}
