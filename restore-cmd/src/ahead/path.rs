//! Which segments PostgreSQL asks for next, decided from what it was given last.

use highwater_wal::{Lsn, SegmentName, SegmentSize, TimelineHistory};

/// The `count` segments behind `given`, as far as recovery goes that stops at `until`, on the path of timelines of `history`.
///
/// PostgreSQL asks for each segment on the newest timeline of its path that had begun by its end, and on those before only
/// where that has none (`XLogFileReadAnyTLI`, `xlogrecovery.c`, PostgreSQL 15). Where `given` is not on the path, it
/// is its own timeline that is followed.
pub fn following(
    given: SegmentName,
    size: SegmentSize,
    count: usize,
    history: Option<&TimelineHistory>,
    until: Option<Lsn>,
) -> Vec<SegmentName> {
    let history = history.filter(|history| history.contains(given.timeline));
    let mut names = Vec::with_capacity(count);
    let mut name = given;
    for _ in 0..count {
        name = name.next(size);
        if until.is_some_and(|until| name.start(size) > until) {
            break;
        }
        let last_byte = Lsn(name.end(size).0 - 1);
        names.push(history.map_or(name, |history| name.on(history.timeline_at(last_byte))));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_wal::TimelineId;

    fn following_of(given: &str, count: usize, history: Option<&str>, until: Option<u64>) -> Vec<String> {
        let third = TimelineId::new(3).unwrap();
        let history = history.map(|text| TimelineHistory::parse(third, text).unwrap());
        let size = SegmentSize::DEFAULT;
        let names = following(given.parse().unwrap(), size, count, history.as_ref(), until.map(Lsn));
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn they_are_followed_over_logs_up_to_the_target() {
        let given = "0000000100000001000000FE";
        assert_eq!(
            following_of(given, 2, None, None),
            ["0000000100000001000000FF", "000000010000000200000000"]
        );
        assert_eq!(following_of(given, 2, None, Some(0x1_FF00_0000)), ["0000000100000001000000FF"]);
        assert_eq!(following_of(given, 2, None, Some(0x1_FEFF_FFFF)), [""; 0]);
        assert_eq!(following_of(given, 0, None, None), [""; 0]);
    }

    #[test]
    fn forks_are_followed_where_postgresql_takes_them() {
        // Timeline 2 begins within segment 5, timeline 3 exactly with segment 8.
        let history = Some("1\t0/5000028\tx\n2\t0/8000000\ty\n");
        let expected = [
            "000000010000000000000004",
            "000000020000000000000005",
            "000000020000000000000006",
            "000000020000000000000007",
            "000000030000000000000008",
        ];
        assert_eq!(following_of("000000010000000000000003", 5, history, None), expected);
        assert_eq!(following_of("000000010000000000000005", 1, history, None), ["000000020000000000000006"]);
        assert_eq!(following_of("000000040000000000000003", 1, history, None), ["000000040000000000000004"]);
    }
}
