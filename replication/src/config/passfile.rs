//! The password file `.pgpass`.
//!
//! <https://www.postgresql.org/docs/18/libpq-pgpass.html>; the rules are those of `passwordFromFile` in `fe-connect.c`
//! (PostgreSQL 18).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{Host, Password};

/// Any right for the group or others makes libpq pass over the file, and us.
const GROUP_AND_OTHERS: u32 = 0o077;
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Whom a password is looked up for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// What the file had to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This password.
    Password(Password),
    /// No line matches, or there is no such file.
    Nothing,
    /// The file is there and was passed over, for this reason.
    PassedOver(String),
}

/// What a host is called in the file: `localhost` for a socket in a default folder.
pub(crate) fn host_name<'a>(host: &'a Host, address: Option<&'a str>) -> &'a str {
    match host {
        Host::Socket(folder) if Host::DEFAULT_FOLDERS.contains(&folder.as_str()) => "localhost",
        Host::Socket(folder) => folder,
        Host::Name(name) if name.is_empty() => address.unwrap_or(name),
        Host::Name(name) => name,
    }
}

/// The first password in the file that matches.
pub(crate) fn read(path: &Path, key: Key<'_>) -> Found {
    let pass_over =
        |reason: &str| Found::PassedOver(format!("the password file {} {reason}", path.display()));
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return pass_over(&format!("was passed over: {error}")),
    };
    if !facts.is_file() {
        return pass_over("was passed over: it is not a plain file");
    }
    if facts.mode() & GROUP_AND_OTHERS != 0 {
        return pass_over("was passed over: its group or others have rights on it; hint: chmod 0600 it");
    }
    if facts.len() > MAX_FILE_BYTES {
        return pass_over("was passed over: it is larger than 1 MiB");
    }
    match fs::read(path) {
        Ok(content) => find(&Zeroizing::new(content), key).map_or(Found::Nothing, Found::Password),
        Err(error) => pass_over(&format!("was passed over: {error}")),
    }
}

/// The password of the first line that matches; an empty one counts as none, and ends the search.
pub(crate) fn find(content: &[u8], key: Key<'_>) -> Option<Password> {
    let port = key.port.to_string();
    content
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .find_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let rest = behind_field(line, key.host)?;
            let rest = behind_field(rest, &port)?;
            let rest = behind_field(rest, key.database)?;
            let rest = behind_field(rest, key.user)?;
            Some(unescape(rest))
        })
        .filter(|password| !password.bytes().is_empty())
}

/// What stands behind the first field and its colon, where the field is `*` or this text.
fn behind_field<'a>(line: &'a [u8], text: &str) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut line = line.iter();
    for expected in text.bytes() {
        let byte = match *line.next()? {
            b'\\' => *line.next()?,
            byte => byte,
        };
        if byte != expected {
            return None;
        }
    }
    (line.next() == Some(&b':')).then_some(line.as_slice())
}

/// The last field: up to a bare colon, with a backslash before each byte that stands for itself.
fn unescape(field: &[u8]) -> Password {
    let mut password = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b':' => break,
            b'\\' => password.push(*bytes.next().unwrap_or(&b'\\')),
            byte => password.push(byte),
        }
    }
    Password::new(password)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn lookup(content: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
        let found = find(content.as_bytes(), Key { host, port, database, user });
        found.map(|password| String::from_utf8(password.bytes().to_vec()).unwrap())
    }

    #[test]
    fn lines_match_as_they_do_for_libpq() {
        let table: &[(&str, Option<&str>)] = &[
            ("h:5432:d:u:p", Some("p")),
            ("h:5432:d:u:p\r\n", Some("p")),
            ("*:*:*:*:p", Some("p")),
            ("h:5432:d:u:first\nh:5432:d:u:second", Some("first")),
            ("x:5432:d:u:no\n*:*:d:u:yes", Some("yes")),
            ("#h:5432:d:u:no\nh:5432:d:u:yes", Some("yes")),
            (" h:5432:d:u:no", None),
            ("h:5433:d:u:p", None),
            ("h:5432:d:other:p", None),
            ("hh:5432:d:u:p", None),
            (":5432:d:u:p", None),
            ("h:5432:d:u", None),
            ("h:5432:d", None),
            ("", None),
            ("**:5432:d:u:p", None),
            (r"h:5432:d:u:a\:b\\c", Some(r"a:b\c")),
            ("h:5432:d:u:a:b", Some("a")),
            ("h:5432:d:u:a b ", Some("a b ")),
            (r"h:5432:d:u:a\", Some(r"a\")),
            (r"\h:5432:d:u:p", Some("p")),
            ("h:5432:d:u:\nh:5432:d:u:p", None),
            ("h:5432:replication:u:p", None),
        ];
        for (content, password) in table {
            assert_eq!(lookup(content, "h", 5432, "d", "u").as_deref(), *password, "{content:?}");
        }
        assert_eq!(lookup("fe80::1:1:d:u:p", "fe80::1", 1, "d", "u").as_deref(), Some("p"));
        assert_eq!(lookup(r"fe80\:\:1:1:a\\b:u:p", "fe80::1", 1, r"a\b", "u").as_deref(), Some("p"));
    }

    #[test]
    fn a_default_socket_is_called_localhost() {
        for (host, address, name) in [
            (Host::Socket("/var/run/postgresql".into()), None, "localhost"),
            (Host::Socket("/tmp".into()), None, "localhost"),
            (Host::Socket("/srv/socket".into()), None, "/srv/socket"),
            (Host::Name("db".into()), Some("10.0.0.1"), "db"),
            (Host::Name(String::new()), Some("10.0.0.1"), "10.0.0.1"),
        ] {
            assert_eq!(host_name(&host, address), name);
        }
    }

    #[test]
    fn r21_a_file_that_others_can_read_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".pgpass");
        let key = Key { host: "h", port: 1, database: "d", user: "u" };
        assert_eq!(read(&path, key), Found::Nothing);
        fs::write(&path, "*:*:*:*:geheim\n").unwrap();
        for (mode, passed_over) in
            [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o610, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match read(&path, key) {
                Found::Password(password) => {
                    assert!(!passed_over && password == Password::new("geheim"), "{mode:o}")
                }
                Found::PassedOver(why) => {
                    assert!(passed_over && why.contains(".pgpass was passed over"), "{why}")
                }
                Found::Nothing => panic!("{mode:o}"),
            }
        }
        assert!(matches!(read(folder.path(), key), Found::PassedOver(why) if why.contains("plain file")));
    }

    proptest! {
        #[test]
        fn any_file_is_read(content in any::<Vec<u8>>(), host in ".*") {
            let _ = find(&content, Key { host: &host, port: 1, database: "d", user: "u" });
        }

        #[test]
        fn any_password_can_be_written(password in "[^\n\0]+") {
            let escaped = password.replace('\\', r"\\").replace(':', r"\:");
            let escaped = if escaped.ends_with('\r') { escaped + ":" } else { escaped };
            prop_assert_eq!(lookup(&format!("h:1:d:u:{escaped}"), "h", 1, "d", "u"), Some(password));
        }
    }
}
