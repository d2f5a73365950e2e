//! Paths within a backup.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// The path of a file within a backup: relative, of parts separated by single slashes, none of them `.` or `..`, no
/// byte 0 (R16). A path that would leave the folder it is restored into cannot be made, and none is read.
///
/// Names are bytes, as in the file system. In JSON they are text, where each byte that is no part of valid UTF-8, each
/// control character and `%` is written as `%` and two hexadecimal digits in capitals.
///
/// ```
/// use highwater_repository::EntryPath;
/// let path = EntryPath::new(b"base/5/caf\xe9 100%")?;
/// assert_eq!(path.to_string(), "base/5/caf%E9 100%25");
/// assert_eq!("base/5/caf%E9 100%25".parse::<EntryPath>()?, path);
/// assert!(EntryPath::new(b"../etc/passwd").is_err());
/// # Ok::<(), highwater_repository::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The longest path in bytes (`PATH_MAX` of Linux, without its closing zero).
    pub const MAX_BYTES: usize = 4095;
    /// The longest part of one in bytes (`NAME_MAX` of Linux).
    pub const MAX_PART_BYTES: usize = 255;

    /// The path with these bytes, unless it could leave its folder.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<EntryPath> {
        let bytes = bytes.as_ref();
        let good =
            |part: &[u8]| (1..=Self::MAX_PART_BYTES).contains(&part.len()) && part != b"." && part != b"..";
        let good_parts = bytes.split(|byte| *byte == b'/').all(good);
        if good_parts && bytes.len() <= Self::MAX_BYTES && !bytes.contains(&0) {
            return Ok(EntryPath(bytes.to_vec()));
        }
        Err(Error::Name {
            what: "a path within a backup",
            text: bytes.escape_ascii().to_string(),
            hint: "it must be relative, without empty parts, \".\" and \"..\"",
        })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a path of the file system; to be joined to the folder that is restored into.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The parts between the slashes.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The folder that it lies in; `None` at the top.
    pub fn parent(&self) -> Option<EntryPath> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(EntryPath(self.0[..slash].to_vec()))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, &self.0)
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EntryPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<EntryPath> {
        let bad = || Error::Name {
            what: "a path within a backup",
            text: text.escape_default().to_string(),
            hint: "\"%\" begins two hexadecimal digits in capitals",
        };
        let path = EntryPath::new(unescape(text).ok_or_else(bad)?)?;
        // One way to write each path only, so that the same file is not in a manifest twice unseen.
        if path.to_string() == text { Ok(path) } else { Err(bad()) }
    }
}

impl Serialize for EntryPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<EntryPath, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Writes bytes as text, with what is not readable escaped.
pub(super) fn write_escaped(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '%' {
                let mut buffer = [0; 4];
                character.encode_utf8(&mut buffer).bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
            } else {
                f.write_char(character)?;
            }
        }
        chunk.invalid().iter().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
    }
    Ok(())
}

/// The bytes of an escaped text.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let capital = |digit: &u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(digit);
        if !digits.iter().all(capital) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn r16_paths_that_leave_the_folder_are_refused() {
        let long_part = vec![b'a'; 256];
        let long_path = vec![b"abcdefg".as_slice(); 600].join(&b'/');
        for bytes in [
            &b""[..],
            b"/",
            b"/etc/passwd",
            b"..",
            b"../x",
            b"a/../b",
            b"a/..",
            b".",
            b"./a",
            b"a/./b",
            b"a/.",
            b"a//b",
            b"a/",
            b"a\0b",
            &long_part,
            &long_path,
        ] {
            assert!(EntryPath::new(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        for text in ["%2E%2E/x", "a/%2e", "%2F", "a%00", "a%", "a%4", "a%GG", "%41", "a\u{1}b", "a/%2E%2E/b"]
        {
            assert!(text.parse::<EntryPath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_are_no_text_are_escaped() {
        for (bytes, text) in [
            (&b"base/1/PG_VERSION"[..], "base/1/PG_VERSION"),
            ("größe".as_bytes(), "größe"),
            (b"\xff\xfe", "%FF%FE"),
            (b"a\nb%c", "a%0Ab%25c"),
            ("\u{85}".as_bytes(), "%C2%85"),
            (b"..a/b..", "..a/b.."),
        ] {
            let path = EntryPath::new(bytes).unwrap();
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse::<EntryPath>().unwrap().as_bytes(), bytes);
        }
    }

    proptest! {
        #[test]
        fn r16_what_is_read_is_written_the_same_and_stays_inside(text in "[a-c./%E02\\x00é]{0,20}") {
            if let Ok(path) = text.parse::<EntryPath>() {
                prop_assert_eq!(path.to_string(), text);
                let inside = Path::new("/inside").join(path.as_path());
                let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
                prop_assert!(inside.starts_with("/inside") && inside.components().all(plain));
            }
        }

        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            if let Ok(path) = EntryPath::new(&bytes) {
                prop_assert_eq!(path.to_string().parse::<EntryPath>().unwrap(), path);
            }
        }
    }
}
