//! How the program ends, and what PostgreSQL makes of it.

use std::process::ExitCode;

/// The program's exit statuses.
///
/// PostgreSQL takes every status from 1 to 125 for "this file does not exist", ends recovery there, and opens the
/// database with what it has; 126 and more, and signals, end the server instead (`xlogarchive.c`, `RestoreArchivedFile`,
/// PostgreSQL 15). So 1 is said only where it is certain (R6), and every failure is far above. 126 and 127 are left out
/// because PostgreSQL's log calls them "command not executable" and "command not found", and 128 to 192 because shells
/// mean signals by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The file is there, verified and complete.
    Found = 0,
    /// No repository has the file or anything later of its timeline; or, on a standby, asking again may help.
    NotThere = 1,
    /// The file may be there and could not be had.
    Failed = 200,
    /// The file is damaged, or it is missing and later ones are there.
    Damaged = 201,
    /// Arguments or configuration are wrong.
    Usage = 202,
}

impl Exit {
    /// All of them.
    #[cfg(test)]
    const ALL: [Exit; 5] = [Exit::Found, Exit::NotThere, Exit::Failed, Exit::Damaged, Exit::Usage];

    /// As the operating system takes it.
    pub fn status(self) -> i32 {
        self as i32
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_documented_one() {
        let document = include_str!("../../docs/EXIT-CODES.md");
        let section = document.split("\n## ").find(|section| section.starts_with("`highwater-restore-cmd`"));
        let rows = section.expect("the program has a section").lines();
        let statuses: Vec<i32> =
            rows.filter_map(|row| row.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
        assert_eq!(statuses, Exit::ALL.map(Exit::status));
        assert_eq!(ExitCode::SUCCESS, ExitCode::from(Exit::Found));
    }

    #[test]
    fn r06_no_failure_is_taken_for_the_end_of_the_archive() {
        for exit in [Exit::Failed, Exit::Damaged, Exit::Usage] {
            assert!((193..=255).contains(&exit.status()), "{exit:?}");
        }
    }
}
