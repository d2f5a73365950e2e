//! Times in the machine's time zone, always with their offset.

use highwater_wal::Timestamp;
use time::{OffsetDateTime, UtcOffset};

/// The offset of the machine's zone at a moment; UTC where the machine does not say.
pub fn offset_at(moment: OffsetDateTime) -> UtcOffset {
    UtcOffset::local_offset_at(moment).unwrap_or(UtcOffset::UTC)
}

/// A time in the machine's zone, to the microsecond where it has any: `2026-11-20 11:16:00.123456 +01:00`.
pub fn local(time: Timestamp) -> String {
    let in_zone = time.to_datetime(UtcOffset::UTC).and_then(|utc| time.to_datetime(offset_at(utc)));
    in_zone.map_or_else(|| time.to_string(), shown)
}

/// The same with all six digits of the microseconds, so that lines below one another line up.
pub fn local_micros(time: Timestamp) -> String {
    let in_zone = time.to_datetime(UtcOffset::UTC).and_then(|utc| time.to_datetime(offset_at(utc)));
    in_zone.map_or_else(|| time.to_string(), |date| with_micros(date, &format!(".{:06}", date.microsecond())))
}

fn shown(date: OffsetDateTime) -> String {
    match date.microsecond() {
        0 => with_micros(date, ""),
        micros => with_micros(date, &format!(".{micros:06}")),
    }
}

fn with_micros(date: OffsetDateTime, micros: &str) -> String {
    let offset = date.offset();
    let (hours, minutes, _) = offset.as_hms();
    let sign = if offset.is_negative() { '-' } else { '+' };
    let clock = format!("{:02}:{:02}:{:02}{micros}", date.hour(), date.minute(), date.second());
    format!("{} {clock} {sign}{:02}:{:02}", date.date(), hours.abs(), minutes.abs())
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, offset};

    use super::*;

    #[test]
    fn the_offset_is_always_there() {
        let moment = datetime!(2026-11-20 10:16:00.000120 UTC);
        assert_eq!(shown(moment.to_offset(offset!(-5:30))), "2026-11-20 04:46:00.000120 -05:30");
        assert_eq!(shown(datetime!(2026-11-20 10:16 UTC)), "2026-11-20 10:16:00 +00:00");
    }
}
