//! What PostgreSQL is told (R6), decided from what the repositories answered.

use highwater_wal::{Lsn, TimelineId, WalFile};

use crate::error::Error;
use crate::exit::Exit;

/// What came of asking one repository.
#[derive(Debug)]
pub enum Answer {
    /// It had the file, which is verified and at its place.
    Found,
    /// It had the newest segment as far as it was received, which is verified and ends here. Another repository may have more.
    Partly(Lsn),
    /// It has answered that there is no such file and nothing later of its timeline.
    NotThere,
    /// Neither is known.
    Failed(Error),
}

/// The exit status. `answers` are those of all repositories that were asked: all that are configured, or those up to
/// the first that had the file.
pub fn decide(answers: &[Answer], is_standby: bool) -> Exit {
    let errors = || {
        answers.iter().filter_map(|answer| match answer {
            Answer::Failed(error) => Some(error),
            Answer::Found | Answer::Partly(_) | Answer::NotThere => None,
        })
    };
    let exits = |exit: Exit| errors().any(|error| error.exit() == exit);
    match answers {
        // Nobody was asked, so nobody has said that it is not there.
        [] => Exit::Failed,
        [.., Answer::Found] => Exit::Found,
        _ if errors().next().is_none() => Exit::NotThere,
        // It asks again by itself, and every status from 126 on would end it.
        _ if is_standby && errors().any(Error::is_passing) => Exit::NotThere,
        _ if exits(Exit::Damaged) => Exit::Damaged,
        _ if errors().all(|error| error.exit() == Exit::Usage) => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// The repository to take a segment from that none has whole: the one that has most of it. `None` while one of them has not
/// answered, since it may have more.
pub fn longest(answers: &[Answer]) -> Option<usize> {
    if answers.iter().any(|answer| matches!(answer, Answer::Found | Answer::Failed(_))) {
        return None;
    }
    let parts = answers.iter().enumerate().filter_map(|(number, answer)| match answer {
        Answer::Partly(end) => Some((*end, number)),
        _ => None,
    });
    parts.max().map(|(_, number)| number)
}

/// Whether `other`, which is there, shows that `missing` of the same timeline should be: a segment, that the timeline
/// went on behind a missing one; and any segment, that there is a history of its timeline. The missing segment itself
/// under its name with `.partial` does not: the timeline ended in it.
pub fn shows_missing(missing: WalFile, other: WalFile) -> bool {
    match other {
        WalFile::Segment(found) | WalFile::Partial(found) | WalFile::BackupLabel { segment: found, .. } => {
            match missing {
                WalFile::Segment(missing) => found.timeline == missing.timeline && found > missing,
                WalFile::History(timeline) => found.timeline == timeline && timeline != TimelineId::FIRST,
                WalFile::Partial(_) | WalFile::BackupLabel { .. } => false,
            }
        }
        WalFile::History(_) => false,
    }
}

/// How the program ends when its time is up.
pub fn when_out_of_time(is_standby: bool) -> Exit {
    if is_standby { Exit::NotThere } else { Exit::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_repository::Error as Inner;

    fn passing() -> Answer {
        failed(Inner::Store(highwater_storage::Error::new(
            highwater_storage::ErrorKind::Unavailable,
            "get",
            "k",
            "m",
        )))
    }

    #[test]
    fn r06_of_a_segment_that_is_nowhere_whole_the_longest_part_counts_and_only_when_all_have_answered() {
        let partly = |end| Answer::Partly(Lsn(end));
        for (answers, expected) in [
            (vec![], None),
            (vec![Answer::NotThere], None),
            (vec![partly(5)], Some(0)),
            (vec![partly(5), partly(9), partly(7)], Some(1)),
            (vec![partly(5), Answer::NotThere], Some(0)),
            (vec![partly(5), passing()], None),
            (vec![refused(), partly(5)], None),
            (vec![partly(5), Answer::Found], None),
        ] {
            assert_eq!(longest(&answers), expected, "{answers:?}");
        }
        for is_standby in [false, true] {
            assert_eq!(decide(&[partly(5), refused()], is_standby), decide(&[refused()], is_standby));
        }
    }

    fn refused() -> Answer {
        failed(Inner::Store(highwater_storage::Error::new(
            highwater_storage::ErrorKind::Denied,
            "get",
            "k",
            "m",
        )))
    }

    /// A repository that isn't there at all is not a file that isn't there.
    fn no_repository() -> Answer {
        failed(Inner::NoRepository { url: "file:///empty".to_owned() })
    }

    fn damaged() -> Answer {
        failed(Inner::Damaged { key: "k".to_owned(), reason: "r".to_owned() })
    }

    fn hole() -> Answer {
        let shown_by = "000000010000000000000009 is there".to_owned();
        Answer::Failed(Error::Hole { repository: "one".to_owned(), shown_by })
    }

    fn misconfigured() -> Answer {
        let (place, message, hint) = ("p".to_owned(), "m".to_owned(), "h".to_owned());
        failed(Inner::Config { place, message, hint })
    }

    fn failed(error: Inner) -> Answer {
        Answer::Failed(error.into())
    }

    #[test]
    fn r06_one_only_when_every_repository_has_answered_not_there() {
        use Answer::{Found, NotThere};
        for (answers, primary, standby) in [
            (vec![], Exit::Failed, Exit::Failed),
            (vec![Found], Exit::Found, Exit::Found),
            (vec![NotThere], Exit::NotThere, Exit::NotThere),
            (vec![passing()], Exit::Failed, Exit::NotThere),
            (vec![refused()], Exit::Failed, Exit::Failed),
            (vec![no_repository()], Exit::Failed, Exit::Failed),
            (vec![damaged()], Exit::Damaged, Exit::Damaged),
            (vec![hole()], Exit::Damaged, Exit::Damaged),
            (vec![misconfigured()], Exit::Usage, Exit::Usage),
            (vec![NotThere, NotThere], Exit::NotThere, Exit::NotThere),
            (vec![NotThere, passing()], Exit::Failed, Exit::NotThere),
            (vec![passing(), NotThere], Exit::Failed, Exit::NotThere),
            (vec![NotThere, refused()], Exit::Failed, Exit::Failed),
            (vec![NotThere, hole()], Exit::Damaged, Exit::Damaged),
            (vec![hole(), passing()], Exit::Damaged, Exit::NotThere),
            (vec![misconfigured(), NotThere], Exit::Usage, Exit::Usage),
            (vec![misconfigured(), passing()], Exit::Failed, Exit::NotThere),
            (vec![damaged(), Found], Exit::Found, Exit::Found),
            (vec![passing(), Found], Exit::Found, Exit::Found),
        ] {
            assert_eq!(decide(&answers, false), primary, "{answers:?}");
            assert_eq!(decide(&answers, true), standby, "standby: {answers:?}");
        }
        assert_eq!(when_out_of_time(false), Exit::Failed);
        assert_eq!(when_out_of_time(true), Exit::NotThere);
    }

    #[test]
    fn r06_whatever_comes_later_on_the_timeline_shows_a_hole() {
        let missing = "0000000200000001000000FE".parse().unwrap();
        let history = "00000002.history".parse().unwrap();
        let of_the_first = "00000001.history".parse().unwrap();
        for (other, expected) in [
            ("0000000200000001000000FD", false),
            ("0000000200000001000000FE", false),
            ("0000000200000001000000FE.partial", false),
            ("0000000200000001000000FE.00000028.backup", false),
            ("0000000200000001000000FF", true),
            ("0000000200000001000000FF.partial", true),
            ("000000020000000200000000", true),
            ("000000020000000200000000.00000028.backup", true),
            ("000000030000000200000000", false),
            ("00000002.history", false),
        ] {
            let other: WalFile = other.parse().unwrap();
            assert_eq!(shows_missing(missing, other), expected, "{other}");
            let is_of_timeline_2 = other.timeline() == missing.timeline() && other != history;
            assert_eq!(shows_missing(history, other), is_of_timeline_2, "{other}");
            assert!(!shows_missing(of_the_first, other), "{other}");
        }
    }
}
