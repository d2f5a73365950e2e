//! Names that become parts of keys: checked once, where they come in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use crate::{Error, Result};

/// The longest name of a cluster and the longest label, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

const NAME_HINT: &str = "use 1 to 64 of the characters a-z A-Z 0-9 . _ - and begin with a letter or a digit";

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(allowed)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<$type> {
                if is_name(text) {
                    return Ok($type(text.to_owned()));
                }
                Err(Error::Name { what: $what, text: text.to_owned(), hint: NAME_HINT })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<$type, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a cluster in the configuration and in the repository, such as `main`.
    ClusterName,
    "the name of a cluster"
);

name!(
    /// The name of a backup or snapshot: chosen by the user, or [`Label::for_time`].
    ///
    /// ```
    /// use highwater_repository::Label;
    /// assert!("before-upgrade".parse::<Label>().is_ok());
    /// assert!("../other".parse::<Label>().is_err());
    /// ```
    Label,
    "a label"
);

impl Label {
    /// The label of a backup that was begun at `time` and got no other: `20260131T235959Z`.
    pub fn for_time(time: OffsetDateTime) -> Label {
        let utc = time.to_offset(time::UtcOffset::UTC);
        Label(format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            utc.year().clamp(0, 9999),
            u8::from(utc.month()),
            utc.day(),
            utc.hour(),
            utc.minute(),
            utc.second()
        ))
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type([u8; 16]);

        impl $type {
            /// A new one: 128 random bits.
            pub fn random() -> $type {
                $type(rand::random())
            }

            /// The one with these bits.
            pub fn from_bytes(bytes: [u8; 16]) -> $type {
                $type(bytes)
            }

            /// Its bits.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<$type> {
                let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                match u128::from_str_radix(text, 16) {
                    Ok(number) if digits => Ok($type(number.to_be_bytes())),
                    _ => Err(Error::Name {
                        what: $what,
                        text: text.to_owned(),
                        hint: "it has 32 hexadecimal digits in small letters",
                    }),
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<$type, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(
    /// A pack's name.
    ///
    /// It is random and not the digest of the content: a backup that found its pack already there, left behind by an
    /// interrupted one, could see it removed by retention while it still relies on it.
    PackId,
    "the name of a pack"
);

random_id!(
    /// Tells one repository from another, whatever its URL.
    RepositoryId,
    "the identity of a repository"
);

random_id!(
    /// Tells one event, or one restore, from another.
    EventId,
    "the identity of an event"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r16_names_cannot_leave_their_folder() {
        let long = "a".repeat(65);
        for text in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\\b", "ä", "a\0", "a:b", &long] {
            assert!(text.parse::<Label>().is_err(), "{text:?}");
            let error = text.parse::<ClusterName>().unwrap_err().to_string();
            assert!(error.contains("hint: "), "{error}");
        }
        for text in ["a", "main", "Main-1.b_c", "9", "20260131T235959Z"] {
            assert_eq!(text.parse::<Label>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = PackId::random();
        assert_eq!(id.to_string().parse::<PackId>().unwrap(), id);
        assert_eq!(PackId::from_bytes(id.to_bytes()), id);
        assert_ne!(id, PackId::random());
        for text in ["", "0", "+0000000000000000000000000000000", "A0000000000000000000000000000000"] {
            assert!(text.parse::<PackId>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_of_times_sort_as_the_times_do() {
        let time = time::macros::datetime!(2026-01-02 04:04:05.5 +1);
        assert_eq!(Label::for_time(time).as_str(), "20260102T030405Z");
    }
}
