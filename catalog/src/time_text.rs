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
    /// A time that no server's clock has shown.
    #[error(
        "\"{0}\" is not between 0001-01-02 and 9999-12-30; hint: write a time near that of the commits you are after"
    )]
    TooFar(String),
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

/// A time that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedTime {
    /// The moment, cut to the microseconds that PostgreSQL's times have.
    pub time: Timestamp,
    /// Whether more than that was cut off: the moment that was meant is later than `time`, and earlier than the next microsecond.
    pub is_cut: bool,
}

/// Reads a time: RFC 3339, or PostgreSQL's own form with an offset (`2026-11-20 11:16:00.123456+01`), a
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
) -> Result<ParsedTime, TimeError> {
    let bad = || TimeError::NotATime(text.to_owned());
    let trimmed = text.trim();
    if let Some(amount) = trimmed.strip_suffix("ago") {
        let moment = ago(amount, now).ok_or_else(bad)?;
        return Ok(ParsedTime { time: near(text, moment)?, is_cut: false });
    }
    let (date, rest) = split_date(trimmed).ok_or_else(bad)?;
    let (clock, offset) = split_offset(rest);
    let (clock, is_cut) = parse_clock(clock).ok_or_else(bad)?;
    let local = PrimitiveDateTime::new(date, clock);
    let moment = match offset {
        Some(offset) => local.assume_offset(parse_offset(offset).ok_or_else(bad)?),
        None => in_zone(trimmed, local, offset_at)?,
    };
    Ok(ParsedTime { time: near(text, moment)?, is_cut })
}

/// A moment whose date can be written in every zone.
fn near(text: &str, moment: OffsetDateTime) -> Result<Timestamp, TimeError> {
    let too_far = || TimeError::TooFar(text.to_owned());
    let utc = moment.checked_to_offset(UtcOffset::UTC).ok_or_else(too_far)?;
    let is_near = |at: Option<OffsetDateTime>| at.is_some_and(|at| (1..=9999).contains(&at.year()));
    // No zone is further from UTC than a day.
    match is_near(utc.checked_sub(Duration::DAY)) && is_near(utc.checked_add(Duration::DAY)) {
        true => Ok(Timestamp::from_datetime(utc)),
        false => Err(too_far()),
    }
}

/// The one moment at which the zone's clocks showed `local`.
fn in_zone(
    text: &str,
    local: PrimitiveDateTime,
    offset_at: impl Fn(OffsetDateTime) -> UtcOffset,
) -> Result<OffsetDateTime, TimeError> {
    let too_far = || TimeError::TooFar(text.to_owned());
    // No zone changes its offset twice within two days, so these are all the offsets that can be meant.
    let mut near = [UtcOffset::UTC; 3];
    for (offset, far) in near.iter_mut().zip([Duration::DAY, Duration::ZERO, -Duration::DAY]) {
        *offset = offset_at(local.assume_utc().checked_sub(far).ok_or_else(too_far)?);
    }
    let mut moments: Vec<OffsetDateTime> = near.iter().map(|offset| local.assume_offset(*offset)).collect();
    moments.retain(|moment| offset_at(*moment) == moment.offset());
    moments.sort();
    moments.dedup();
    let why = match moments.as_slice() {
        [moment] => return Ok(*moment),
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

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.ffffff`; nothing is midnight. And whether more than microseconds were cut off.
fn parse_clock(text: &str) -> Option<(Time, bool)> {
    if text.is_empty() {
        return Some((Time::MIDNIGHT, false));
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
    let digits = match fraction {
        None => "0",
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => digits,
        Some(_) => return None,
    };
    let (micros, finer) = digits.split_at(digits.len().min(6));
    let micros = format!("{micros:0<6}").parse().ok()?;
    let is_cut = finer.bytes().any(|digit| digit != b'0');
    Some((Time::from_hms_micro(hour, minute, second, micros).ok()?, is_cut))
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
fn ago(amount: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
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
    now.checked_sub(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
            ("2026-11-20T10:16:00.123456000Z", same),
            ("2026-11-20 04:46:00.123456-05:30", same),
            ("2026-11-20 11:16", datetime!(2026-11-20 10:16 UTC)),
            ("2026-11-20 11:16:00.5", datetime!(2026-11-20 10:16:00.5 UTC)),
            ("2026-07-01", datetime!(2026-06-30 22:00 UTC)),
            ("10 minutes ago", datetime!(2026-11-20 11:50 UTC)),
            ("1 hour, 30 min ago", datetime!(2026-11-20 10:30 UTC)),
            ("2 days ago", datetime!(2026-11-18 12:00 UTC)),
        ] {
            let time = Timestamp::from_datetime(meant);
            assert_eq!(parse_time(text, NOW, berlin), Ok(ParsedTime { time, is_cut: false }), "{text}");
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
    fn what_is_finer_than_microseconds_is_cut() {
        let time = Timestamp::from_datetime(datetime!(2026-11-20 10:16:00.123456 UTC));
        let cut = Ok(ParsedTime { time, is_cut: true });
        assert_eq!(parse_time("2026-11-20T10:16:00.1234567Z", NOW, berlin), cut);
        assert_eq!(parse_time("2026-11-20 11:16:00.123456999999999999999", NOW, berlin), cut);
    }

    #[test]
    fn r22_what_is_too_far_away() {
        for text in [
            "9999-12-31 23:59:59",
            "9999-12-31 23:59:59Z",
            "9999-12-31 23:59:59-12",
            "0000-01-01 00:00",
            "0000-01-01 00:00+10",
            "0001-01-01",
            "200000 weeks ago",
        ] {
            assert_eq!(parse_time(text, NOW, berlin), Err(TimeError::TooFar(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn r22_no_text_makes_it_panic(
            any in any::<String>(),
            like in "[ +-]?[0-9]{4}-[01][0-9]-[0-3][0-9][ T]?[0-9:.]{0,20} ?(Z|[+-][0-9:]{1,8}|ago)?",
            amounts in "([0-9]{1,12} (sec|minutes|hours|days|weeks),? ){1,3}ago",
            edge in "(0000-01-01|0001-01-0[12]|9999-12-3[01])[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,12})?)?([+-][0-9]{2}(:?[0-9]{2})?)?",
            far in -90_000_i32..90_000,
        ) {
            let offset = UtcOffset::from_whole_seconds(far).unwrap();
            for text in [any, like, amounts, edge] {
                if let Ok(parsed) = parse_time(&text, NOW, |_| offset) {
                    // What was understood can be shown, in any zone.
                    prop_assert!(parsed.time.to_datetime(offset).is_some(), "{text}");
                    prop_assert!(!parsed.time.to_string().contains("since"), "{text}");
                }
            }
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
