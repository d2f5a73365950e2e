//! How the program ends, and what PostgreSQL makes of it.

use std::process::ExitCode;

use highwater_archive::{Answer, Error};

/// The program's exit statuses.
///
/// PostgreSQL removes the file after 0 and tries again after anything else. None is above 125: PostgreSQL takes that
/// for a signal or a missing program and restarts its archiver (`pgarch.c`, `pgarch_archiveXlog`, PostgreSQL 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// The file is durable in every repository (R1).
    Archived = 0,
    /// It is not, or that isn't known.
    Failed = 1,
    /// Arguments, configuration, or the place where the program was started are wrong.
    Usage = 2,
    /// What a repository holds under the file's name is damaged.
    Damaged = 4,
}

impl Exit {
    /// All of them.
    #[cfg(test)]
    const ALL: [Exit; 4] = [Exit::Archived, Exit::Failed, Exit::Usage, Exit::Damaged];

    /// As the operating system takes it.
    pub fn status(self) -> i32 {
        self as i32
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Exit {
        match error {
            Error::OtherFolder { .. } | Error::NoSystemId(_) => Exit::Usage,
            Error::Repository(error) if error.is_damaged() => Exit::Damaged,
            Error::Repository(error) if error.is_config() => Exit::Usage,
            Error::Repository(highwater_repository::Error::Name { .. }) => Exit::Usage,
            Error::Repository(_)
            | Error::Wal(_)
            | Error::Different { .. }
            | Error::Refused(_)
            | Error::CutHistory(_)
            | Error::BackupLabel(_)
            | Error::Thread(_)
            | Error::Worker(_)
            | Error::NotItsTurn
            | Error::File { .. }
            | Error::Clone { .. }
            | Error::SegmentSize { .. } => Exit::Failed,
        }
    }
}

/// How the program ends: well only when every repository has the file (R1).
pub fn decide(answers: &[Answer]) -> Exit {
    let exit = |answer: &Answer| answer.result.as_ref().map_or_else(Exit::from, |_| Exit::Archived);
    let exits = || answers.iter().map(exit);
    // What has to be mended by hand is told before what may pass.
    exits().find(|exit| *exit == Exit::Damaged).or_else(|| exits().max()).unwrap_or(Exit::Failed)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_repository::Stored;

    fn answer(result: Result<Stored, Error>) -> Answer {
        Answer { repository: "one".to_owned(), result }
    }

    fn damaged() -> Error {
        highwater_repository::Error::Damaged { key: "k".to_owned(), reason: "r".to_owned() }.into()
    }

    #[test]
    fn r01_every_repository_must_have_it() {
        let usage = || Err(Error::NoSystemId("p".into()));
        let failed = || Err(Error::Thread(std::io::ErrorKind::WouldBlock.into()));
        for (results, expected) in [
            (vec![], Exit::Failed),
            (vec![Ok(Stored::Created)], Exit::Archived),
            (vec![Ok(Stored::AlreadySame)], Exit::Archived),
            (vec![Ok(Stored::Created), Ok(Stored::AlreadySame)], Exit::Archived),
            (vec![Ok(Stored::Created), failed()], Exit::Failed),
            (vec![failed(), Ok(Stored::Created)], Exit::Failed),
            (vec![usage()], Exit::Usage),
            (vec![failed(), usage(), Ok(Stored::Created)], Exit::Usage),
            (vec![Err(damaged()), usage(), failed()], Exit::Damaged),
        ] {
            let answers: Vec<Answer> = results.into_iter().map(answer).collect();
            assert_eq!(decide(&answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn the_table_is_the_documented_one() {
        let document = include_str!("../../docs/EXIT-CODES.md");
        let section = document.split("\n## ").find(|section| section.starts_with("`highwater-archive-cmd`"));
        let rows = section.expect("the program has a section").lines();
        let statuses: Vec<i32> =
            rows.filter_map(|row| row.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
        assert_eq!(statuses, Exit::ALL.map(Exit::status));
        assert_eq!(ExitCode::SUCCESS, ExitCode::from(Exit::Archived));
    }

    #[test]
    fn no_status_restarts_the_archiver() {
        assert!(Exit::ALL.iter().all(|exit| (0..=125).contains(&exit.status())));
    }
}
