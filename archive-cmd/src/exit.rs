//! How the program ends, and what PostgreSQL makes of it.

use std::process::ExitCode;

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
