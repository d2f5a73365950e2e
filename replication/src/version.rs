//! Which PostgreSQL the server is.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A server's version, as a number like `server_version_num` has it: 150006 is 15.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// The major version: 15 for 15.6. Before PostgreSQL 10 it was two numbers, of which this is the first.
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.0 % 10_000)
    }
}

impl FromStr for ServerVersion {
    type Err = Error;

    /// Reads what the server reports as `server_version`: `15.6 (Debian 15.6-0+deb12u1)`, `18beta1`, `9.6.24`.
    fn from_str(text: &str) -> Result<ServerVersion, Error> {
        let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("");
        let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().ok().filter(|n| *n < 1000));
        let wrong = || Error::protocol("a server_version that is none");
        let major = numbers.next().flatten().ok_or_else(wrong)?;
        let mut next = || numbers.next().flatten().unwrap_or(0);
        let minor = next();
        Ok(ServerVersion(match major {
            0..10 => major * 10_000 + minor % 100 * 100 + next() % 100,
            _ => major * 10_000 + minor,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_libpq_reads_them() {
        for (text, number) in [
            ("15.6 (Debian 15.6-0+deb12u1)", 150_006),
            ("18beta1", 180_000),
            ("14.23", 140_023),
            ("17devel", 170_000),
            ("9.6.24", 90_624),
            ("10", 100_000),
        ] {
            assert_eq!(text.parse::<ServerVersion>().unwrap(), ServerVersion(number));
        }
        assert_eq!(ServerVersion(150_006).to_string(), "15.6");
        for text in ["", "x", ".5", "99999999999"] {
            assert!(text.parse::<ServerVersion>().is_err(), "{text}");
        }
    }
}
