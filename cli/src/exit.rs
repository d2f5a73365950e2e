//! How `highwater` ends. The exit status is part of its interface: scripts and monitors go by it.

use std::process::ExitCode;

/// An exit status. docs/EXIT-CODES.md tells them to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed: the message says why.
    Failed = 1,
    /// The arguments or the configuration are wrong; nothing was begun.
    Usage = 2,
    /// The target cannot be reached; nothing was begun.
    Unreachable = 3,
    /// Something in the repository is damaged or missing.
    Damaged = 4,
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
    fn r22_the_statuses_are_the_documented_ones() {
        let document = include_str!("../../docs/EXIT-CODES.md");
        let table = [
            (Exit::Done, "done"),
            (Exit::Failed, "failed"),
            (Exit::Usage, "bad usage or configuration"),
            (Exit::Unreachable, "the target cannot be reached"),
            (Exit::Damaged, "something in the repository is damaged or missing"),
        ];
        for (exit, meaning) in table {
            let row = format!("| {} | {meaning}", exit as u8);
            assert!(document.contains(&row), "docs/EXIT-CODES.md has no row {row:?}");
        }
    }
}
