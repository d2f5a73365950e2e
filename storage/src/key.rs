//! Names of objects.
//!
//! A key must mean the same in a folder and in a bucket, so it is narrower than either allows: what is a
//! [`Key`] can be a path below a folder and an S3 key without any quoting, and can never leave the repository
//! (R16 for keys).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The name of an object, relative to the repository: parts separated by `/`.
///
/// A part is 1 to 255 of the characters `A-Z a-z 0-9 . _ + = - :` and does not begin with a dot, which rules out
/// `.`, `..` and hidden files. The whole is at most [`Key::MAX_LENGTH_BYTES`] long.
///
/// ```
/// use highwater_storage::Key;
///
/// let key: Key = "clusters/main/wal/00000001/000000010000000000000001".parse()?;
/// assert_eq!(key.name(), "000000010000000000000001");
/// assert!("clusters/../etc/passwd".parse::<Key>().is_err());
/// # Ok::<(), highwater_storage::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The longest key, in bytes. S3 allows 1024 for the repository's prefix and the key together.
    pub const MAX_LENGTH_BYTES: usize = 768;
    /// The longest part of a key, in bytes: Linux's limit for a file name.
    pub const MAX_PART_BYTES: usize = 255;

    /// The key `self/rest`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when `rest` is not the text of a key, or the whole gets too long.
    pub fn join(&self, rest: &str) -> Result<Key> {
        format!("{}/{rest}", self.0).parse()
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether `part` may stand between two slashes of a key.
    pub(crate) fn is_part(part: &str) -> bool {
        (1..=Self::MAX_PART_BYTES).contains(&part.len())
            && !part.starts_with('.')
            && part.bytes().all(Self::is_allowed)
    }

    fn is_allowed(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"._+=-:".contains(&byte)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() <= Self::MAX_LENGTH_BYTES && text.split('/').all(Self::is_part) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(
            ErrorKind::Invalid,
            "name",
            text,
            format!(
                "this cannot be the name of an object. hint: use parts of at most {} characters A-Z a-z 0-9 . _ + = - : \
                 separated by single slashes, none beginning with a dot, {} characters in all",
                Self::MAX_PART_BYTES,
                Self::MAX_LENGTH_BYTES
            ),
        ))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_keys_keep_their_text() {
        for text in ["a", "highwater.json", "wal/00000001/00000001.history", "x/a_b+c=d-e:f.g", "a..b/c."] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_that_could_leave_the_repository_or_hide_are_refused() {
        let long_part = "a".repeat(256);
        let long_key = vec!["a".repeat(100); 8].join("/");
        for text in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/./b",
            ".tmp",
            "a/.hidden",
            "a b",
            "a\\b",
            "ä",
            "a\0",
            "a%2fb",
            "a~b",
            &long_part,
            &long_key,
        ] {
            let error = text.parse::<Key>().expect_err(text);
            assert_eq!(error.kind, ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains("hint: "), "{error}");
        }
    }

    #[test]
    fn join_and_name() {
        let folder: Key = "a/b".parse().unwrap();
        let key = folder.join("c/d").unwrap();
        assert_eq!((key.as_str(), key.name()), ("a/b/c/d", "d"));
        assert!(folder.join("").is_err());
        assert!(folder.join("../c").is_err());
    }
}
