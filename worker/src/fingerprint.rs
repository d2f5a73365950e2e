//! What a worker must have in common with its callers.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// Variables of the environment that change how a repository is reached; those of our own settings too.
const VARIABLES: [&str; 7] = ["HOME", "PATH", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "TMPDIR"];
/// The same, by the beginning of their names.
const PREFIXES: [&str; 3] = ["HIGHWATER_", "AWS_", "SSL_CERT_"];

/// A digest of everything that a worker must have in common with its callers: which build of which program, in
/// which user and namespaces, with which settings. A caller with another one does not find the worker, and is not
/// answered if it does.
///
/// Secrets may be part of it: it cannot be turned back, and it is shown to nobody but this user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of this process: its binary as it was when it was started, so that a worker that outlives an upgrade is none of
    /// the new binary's; its user; what it sees of the machine.
    pub fn of_process(kind: &str) -> Fingerprint {
        let fingerprint = Fingerprint::of_release(kind);
        let Ok(binary) = fs::metadata("/proc/self/exe") else { return fingerprint };
        let facts =
            [binary.dev(), binary.ino(), binary.size(), binary.mtime() as u64, binary.mtime_nsec() as u64];
        facts.iter().fold(fingerprint, |all, fact| all.and(&fact.to_le_bytes()))
    }

    /// The same for what several binaries of one release have in common: the release in the place of the binary. `kind` has
    /// to change with what is said between them.
    pub fn of_release(kind: &str) -> Fingerprint {
        Fingerprint::of(kind, env!("CARGO_PKG_VERSION"))
    }

    fn of(kind: &str, release: &str) -> Fingerprint {
        let mut fingerprint = Fingerprint([0; 32]).and(kind.as_bytes()).and(release.as_bytes());
        fingerprint = fingerprint.and(&rustix::process::geteuid().as_raw().to_le_bytes());
        // Paths and addresses mean the same only in the same namespaces.
        for name in ["mnt", "net"] {
            let namespace = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
            fingerprint = fingerprint.and(namespace.as_os_str().as_bytes());
        }
        fingerprint
    }

    /// This and `part`.
    #[must_use]
    pub fn and(self, part: &[u8]) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(part);
        Fingerprint(*hasher.finalize().as_bytes())
    }

    /// This and those variables of an environment that settings come from.
    #[must_use]
    pub fn and_environment(self, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Fingerprint {
        let mut counted: Vec<_> = environment.into_iter().filter(|(name, _)| counts(name)).collect();
        counted.sort();
        counted.iter().fold(self, |all, (name, value)| all.and(name.as_bytes()).and(value.as_bytes()))
    }
}

fn counts(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || VARIABLES.iter().any(|variable| name.eq_ignore_ascii_case(variable))
}

/// Short enough for a socket's name, long enough that no two meet.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..10].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_so_does_where_it_ends() {
        let one = Fingerprint::of_process("one");
        assert_eq!(one, Fingerprint::of_process("one"));
        assert_ne!(one, Fingerprint::of_process("two"));
        assert_ne!(one.and(b"ab").and(b"c"), one.and(b"a").and(b"bc"));
        assert_eq!(one.to_string().len(), 20);
    }

    #[test]
    fn another_release_is_another_one_and_so_is_another_binary() {
        let own = Fingerprint::of_release("one");
        assert_eq!(own, Fingerprint::of("one", env!("CARGO_PKG_VERSION")));
        assert_ne!(own, Fingerprint::of("one", "0.0.1"));
        assert_ne!(own, Fingerprint::of_release("two"));
        assert_ne!(own, Fingerprint::of_process("one"));
    }

    #[test]
    fn of_the_environment_only_settings_count() {
        let one = Fingerprint::of_process("one");
        let with = |name: &str, value: &str| one.and_environment([(name.into(), value.into())]);
        for name in
            ["HIGHWATER_REPOSITORY_URL", "AWS_SECRET_ACCESS_KEY", "https_proxy", "HOME", "SSL_CERT_FILE"]
        {
            assert_ne!(with(name, "a"), with(name, "b"), "{name}");
        }
        for name in ["PWD", "_", "OLDPWD", "SHLVL"] {
            assert_eq!(with(name, "a"), with(name, "b"), "{name}");
        }
        let two = |first: (&str, &str), second: (&str, &str)| {
            one.and_environment([first, second].map(|(name, value)| (name.into(), value.into())))
        };
        assert_eq!(two(("HOME", "a"), ("PATH", "b")), two(("PATH", "b"), ("HOME", "a")));
    }
}
