//! A password that is never printed (R21).

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::{Error, Result};

/// The longest password file that is read, in bytes: a longer one is some other file.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Read, write or search for others than the owner and the group.
const OTHERS: u32 = 0o007;

/// A password: shown as `***` by `Debug`, wiped from memory when dropped, and never part of an error.
///
/// It is bytes and not text, since PostgreSQL's passwords may be in any encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// This password.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Password {
        Password(Zeroizing::new(bytes.into()))
    }

    /// The password that a file holds and nothing else: its one line, without the line's end.
    ///
    /// Such a file is what secret stores and service managers hand out. It may be readable by its group, as they make
    /// it, but not by everybody.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, [`Error::Setting`] where everybody can read it or it is empty.
    pub fn read(path: &Path) -> Result<Password> {
        let refuse = |reason: &str, hint| {
            let setting = format!("password file {}", path.display());
            Err(Error::Setting { setting, reason: reason.to_owned(), hint })
        };
        let what = "password file";
        let facts = fs::metadata(path).map_err(|source| Error::file(what, path, source))?;
        if facts.mode() & OTHERS != 0 {
            return refuse(
                "everybody on this machine may read it",
                "take the others' rights away (chmod o= FILE)",
            );
        }
        if facts.len() > MAX_FILE_BYTES {
            return refuse("it is too long to be a password", "the file holds the password and nothing else");
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(|source| Error::file(what, path, source))?);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return refuse("it is empty", "the file holds the password and nothing else");
        }
        Ok(Password::new(line))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn r21_a_password_is_not_shown() {
        assert_eq!(format!("{:?}", Password::new("geheim")), "***");
    }

    #[test]
    fn a_password_file_is_its_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (content, password) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\nb\n", "a\nb"), (" a", " a")] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
            assert_eq!(Password::read(&path).unwrap(), Password::new(password));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[test]
    fn r21_a_password_file_for_everybody_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "geheim\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Password::read(&path).unwrap_err().to_string();
        assert!(error.contains("everybody") && !error.contains("geheim"), "{error}");
        fs::write(&path, "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Password::read(&path).unwrap_err().to_string().contains("it is empty"));
        assert!(matches!(Password::read(&folder.path().join("none")), Err(Error::File { .. })));
    }
}
