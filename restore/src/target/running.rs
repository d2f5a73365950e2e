//! Whether a PostgreSQL server runs over a data directory.

use rustix::process::{Pid, test_kill_process};

/// The processes that `postmaster.pid` names (pidfile.h, PostgreSQL 15): the postmaster in the first line, the System V
/// shared memory that all its children are attached to in the seventh.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    /// Process id of the postmaster, or of a server in single-user mode.
    pid: i32,
    /// Key and id of the shared memory.
    shared_memory: Option<(i64, i64)>,
}

impl PidFile {
    /// `None` where the text is none of PostgreSQL's.
    pub(super) fn parse(text: &str) -> Option<PidFile> {
        let mut lines = text.lines();
        // A server in single-user mode writes its id negated.
        let pid = lines.next()?.trim().parse::<i32>().ok()?.checked_abs().filter(|pid| *pid > 0)?;
        let mut words = lines.nth(5).unwrap_or_default().split_whitespace().map(|word| word.parse().ok());
        let shared_memory = words.next().flatten().zip(words.next().flatten());
        Some(PidFile { pid, shared_memory })
    }

    /// What is still there of the server, in words. As `CreateLockFile` (miscinit.c, PostgreSQL 15) decides it: the process, or
    /// children that outlived it. That a process of another user can't be signalled counts as alive: this may not be run by the
    /// server's own user.
    pub(super) fn alive(&self) -> Option<String> {
        let alive =
            Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
        if alive {
            return Some(format!("process {}", self.pid));
        }
        let (key, id) = self.shared_memory?;
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        is_attached(&segments, key, id).then(|| format!("processes left over by process {}", self.pid))
    }
}

/// Whether any process is attached to a shared memory segment, by the text of `/proc/sysvipc/shm`
/// (columns `key shmid perms size cpid lpid nattch …`).
fn is_attached(segments: &str, key: i64, id: i64) -> bool {
    segments.lines().skip(1).any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<i64>().ok());
        let found = numbers.next().flatten() == Some(key) && numbers.next().flatten() == Some(id);
        found && numbers.nth(4).flatten().is_some_and(|attached| attached > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "4711\n/data\n1700000000\n5432\n/tmp\nlocalhost\n  5432001         3\nready   \n";
    const SEGMENTS: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid\n\
                            \x20  5432001          3   600                    56  4711  4720      2   101   104\n\
                            \x20  5432001          4   600                    56  4711  4720      0   101   104\n";

    #[test]
    fn a_pid_file_is_read() {
        assert_eq!(PidFile::parse(FILE), Some(PidFile { pid: 4711, shared_memory: Some((5_432_001, 3)) }));
        assert_eq!(PidFile::parse("-12\n/data\n"), Some(PidFile { pid: 12, shared_memory: None }));
        for text in ["", "\n", "x", "0", "-2147483648", "99999999999"] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_process_that_lives_is_seen() {
        let own = PidFile { pid: std::process::id().cast_signed(), shared_memory: None };
        assert!(own.alive().unwrap().contains(&std::process::id().to_string()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let gone = PidFile { pid: child.id().cast_signed(), shared_memory: Some((1, -1)) };
        assert_eq!(gone.alive(), None);
    }

    #[test]
    fn children_that_outlive_the_postmaster_are_seen() {
        assert!(is_attached(SEGMENTS, 5_432_001, 3));
        assert!(!is_attached(SEGMENTS, 5_432_001, 4), "nobody is attached any more");
        assert!(!is_attached(SEGMENTS, 5_432_002, 3));
        assert!(!is_attached("", 5_432_001, 3));
    }
}
