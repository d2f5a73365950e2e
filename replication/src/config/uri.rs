//! Connection strings of the form `postgresql://user:password@host:port/dbname?setting=value`.
//!
//! The rules are those of `conninfo_uri_parse_options` in `fe-connect.c` (PostgreSQL 18), with one more: an `@` that is
//! not written as `%40` may stand only behind the credentials. Elsewhere it is most likely a piece of a password, which
//! would then be shown as a host's name (R21).

use zeroize::Zeroizing;

use super::parameters::Pair;
use crate::{Error, Result};

const HINT: &str = "the form is postgresql://user:password@host:port/dbname?setting=value, and @ : / ? % inside a part are written \
     as %40 %3A %2F %3F %25";

/// What stands behind `postgresql://` or `postgres://`, where the string is a URI at all.
pub(crate) fn body(text: &str) -> Option<&str> {
    ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// The settings of a URI, of which `body` is what [`body`] gave.
pub(crate) fn parse(text: &str, body: &str) -> Result<Vec<Pair>> {
    let uri = Uri { text };
    let mut pairs = Vec::new();
    let (body, query) = uri.split_query(body);
    let (authority, database) = body.split_once('/').unwrap_or((body, ""));
    let hosts = match authority.split_once('@') {
        Some((credentials, hosts)) => {
            uri.credentials(credentials, &mut pairs)?;
            hosts
        }
        None => authority,
    };
    uri.hosts(hosts, &mut pairs)?;
    if !database.is_empty() {
        pairs.push(uri.part("dbname", database)?);
    }
    uri.query(query, &mut pairs)?;
    Ok(pairs)
}

struct Uri<'a> {
    text: &'a str,
}

impl Uri<'_> {
    /// Cuts at the question mark in front of the settings; one inside the credentials is part of them.
    fn split_query<'b>(&self, body: &'b str) -> (&'b str, &'b str) {
        let slash = body.find('/').unwrap_or(body.len());
        let behind_credentials = body[..slash].find('@').map_or(0, |at| at + 1);
        match body[behind_credentials..].find('?').map(|mark| behind_credentials + mark) {
            Some(mark) => (&body[..mark], &body[mark + 1..]),
            None => (body, ""),
        }
    }

    fn credentials(&self, text: &str, pairs: &mut Vec<Pair>) -> Result<()> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        if !user.is_empty() {
            pairs.push(self.pair("user", user)?);
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            pairs.push(self.pair("password", password)?);
        }
        Ok(())
    }

    /// The list of hosts with their ports, as the settings `host` and `port` have it.
    fn hosts(&self, list: &str, pairs: &mut Vec<Pair>) -> Result<()> {
        let mut hosts = Vec::new();
        let mut ports = Vec::new();
        for entry in list.split(',') {
            let (host, port) = self.host(entry)?;
            hosts.push(self.part("host", host)?.value);
            ports.push(self.part("port", port)?.value);
        }
        let position = self.position(list);
        for (name, list) in [("host", hosts), ("port", ports)] {
            let list: Vec<&str> = list.iter().map(|entry| entry.as_str()).collect();
            let value = Zeroizing::new(list.join(","));
            // A lone comma counts: the default, twice.
            if !value.is_empty() {
                pairs.push(Pair { name: name.to_owned(), value, position });
            }
        }
        Ok(())
    }

    fn host<'b>(&self, entry: &'b str) -> Result<(&'b str, &'b str)> {
        let Some(address) = entry.strip_prefix('[') else {
            return Ok(entry.split_once(':').unwrap_or((entry, "")));
        };
        let wrong = |reason| Err(self.wrong(entry, reason));
        let Some((address, behind)) = address.split_once(']') else {
            return wrong("] is missing behind the IPv6 address that starts");
        };
        if address.is_empty() {
            return wrong("the IPv6 address is empty that starts");
        }
        match behind.strip_prefix(':') {
            Some(port) => Ok((address, port)),
            None if behind.is_empty() => Ok((address, "")),
            None => wrong("only a port can follow the IPv6 address that starts"),
        }
    }

    fn query(&self, query: &str, pairs: &mut Vec<Pair>) -> Result<()> {
        if query.is_empty() {
            return Ok(());
        }
        for setting in query.strip_suffix('&').unwrap_or(query).split('&') {
            let Some((name, value)) = setting.split_once('=') else {
                return Err(self.wrong(setting, "an equals sign is missing in the setting that starts"));
            };
            if value.contains('=') {
                return Err(self.wrong(setting, "there is a second equals sign in the setting that starts"));
            }
            let name = self.decode(name)?;
            let pair = self.pair(&name, value)?;
            // What JDBC calls ssl=true, and libpq takes as this.
            match (name.as_str(), pair.value.as_str()) {
                ("ssl", "true") => pairs.push(Pair {
                    name: "sslmode".to_owned(),
                    value: Zeroizing::new("require".to_owned()),
                    position: pair.position,
                }),
                _ => pairs.push(pair),
            }
        }
        Ok(())
    }

    /// A part in which an `@` must be written as `%40`.
    fn part(&self, name: &str, text: &str) -> Result<Pair> {
        if text.contains('@') {
            return Err(self.wrong(text, "there is an @ too many in the part that starts"));
        }
        self.pair(name, text)
    }

    fn pair(&self, name: &str, text: &str) -> Result<Pair> {
        Ok(Pair { name: name.to_owned(), value: self.decode(text)?, position: self.position(text) })
    }

    fn decode(&self, text: &str) -> Result<Zeroizing<String>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            match (digit(), digit()) {
                (Some(0), Some(0)) => {
                    return Err(self.wrong(text, "%00 is not allowed in the part that starts"));
                }
                // Two hexadecimal digits fit a byte.
                (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
                _ => {
                    return Err(self.wrong(
                        text,
                        "% must be followed by two hexadecimal digits in the part that starts",
                    ));
                }
            }
        }
        match std::str::from_utf8(&bytes) {
            Ok(decoded) => Ok(Zeroizing::new(decoded.to_owned())),
            Err(_) => Err(self.wrong(text, "%XX does not give UTF-8 in the part that starts")),
        }
    }

    fn wrong(&self, part: &str, reason: &'static str) -> Error {
        Error::ConnectionString { position: self.position(part), reason, hint: HINT }
    }

    /// Where a part of the text starts, in characters from 1.
    fn position(&self, part: &str) -> usize {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.text.get(..offset).map_or(0, |before| before.chars().count()) + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Pair>> {
        parse(text, body(text).unwrap())
    }

    fn written(text: &str) -> String {
        let pairs = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        pairs.iter().map(|pair| format!("{}={}", pair.name, *pair.value)).collect::<Vec<_>>().join(" ")
    }

    /// The cases of `src/interfaces/libpq/t/001_uri.pl`, told in our words.
    #[test]
    fn uris_are_read_as_libpq_reads_them() {
        for (text, expected) in [
            (
                "postgresql://uri-user:secret@host:12345/db",
                "user=uri-user password=secret host=host port=12345 dbname=db",
            ),
            ("postgresql://uri-user@host:12345/db", "user=uri-user host=host port=12345 dbname=db"),
            ("postgresql://uri-user@host/db", "user=uri-user host=host dbname=db"),
            ("postgresql://host:12345/db", "host=host port=12345 dbname=db"),
            ("postgresql://host/db", "host=host dbname=db"),
            ("postgresql://uri-user@host:12345/", "user=uri-user host=host port=12345"),
            ("postgresql://uri-user@", "user=uri-user"),
            ("postgresql://uri-user@?port=1", "user=uri-user port=1"),
            ("postgresql://host:12345", "host=host port=12345"),
            ("postgresql://host/", "host=host"),
            ("postgresql://", ""),
            ("postgres://", ""),
            ("postgresql:///", ""),
            ("postgresql:///db", "dbname=db"),
            ("postgresql://?hostaddr=127.0.0.1", "hostaddr=127.0.0.1"),
            ("postgresql://example.com?hostaddr=63.1.2.4", "host=example.com hostaddr=63.1.2.4"),
            ("postgresql://%68ost/", "host=host"),
            ("postgresql://host/db?user=uri-user", "host=host dbname=db user=uri-user"),
            (
                "postgresql://host/db?u%73er=someotheruser&port=12345",
                "host=host dbname=db user=someotheruser port=12345",
            ),
            ("postgresql://host:12345?user=uri-user", "host=host port=12345 user=uri-user"),
            ("postgresql://host?user=uri-user", "host=host user=uri-user"),
            ("postgresql://host?", "host=host"),
            ("postgresql://[::1]:12345/db", "host=::1 port=12345 dbname=db"),
            ("postgresql://[2001:db8::1234]/", "host=2001:db8::1234"),
            ("postgresql://[200z:db8::1234]/", "host=200z:db8::1234"),
            ("postgresql://[::1]", "host=::1"),
            ("postgres://?user=x&dbname=y", "user=x dbname=y"),
            ("postgres://otheruser@%2Fvar%2Frun", "user=otheruser host=/var/run"),
            ("postgresql://%2Fvar%2Flib%2Fpostgresql/dbname", "host=/var/lib/postgresql dbname=dbname"),
            ("postgresql:///dbname?host=/var/lib/postgresql", "dbname=dbname host=/var/lib/postgresql"),
            ("postgresql://a,b:2,[::3]:3/db", "host=a,b,::3 port=,2,3 dbname=db"),
            ("postgresql://a,b", "host=a,b port=,"),
            ("postgresql://,", "host=, port=,"),
            ("postgresql://a?port=1&", "host=a port=1"),
            ("postgresql://:5433", "port=5433"),
            ("postgres://host/?ssl=true", "host=host sslmode=require"),
            ("postgresql://u:p%40ss%3A%2F@host", "user=u password=p@ss:/ host=host"),
            ("postgresql://u:p:q@host", "user=u password=p:q host=host"),
            ("postgresql://u:p?q@host/db?port=1", "user=u password=p?q host=host dbname=db port=1"),
            ("postgresql://u:@host", "user=u host=host"),
            ("postgresql://host/db?options=-c%20geqo%3Doff", "host=host dbname=db options=-c geqo=off"),
            ("postgresql://host/?user=me@server", "host=host user=me@server"),
            ("postgresql://host?user=me@server", "user=host?user=me host=server"),
        ] {
            assert_eq!(written(text), expected, "{text}");
        }
        assert!(body("host=x").is_none() && body("postgresql:/x").is_none());
    }

    #[test]
    fn r21_what_is_wrong_is_placed_and_not_shown() {
        for (text, position, word) in [
            ("postgres://u:secret%zz@host", 14, "hexadecimal"),
            ("postgres://host/%00", 17, "%00"),
            ("postgres://host/%", 17, "hexadecimal"),
            ("postgres://host?%c3=x", 17, "UTF-8"),
            ("postgres://host?zzz", 17, "equals sign"),
            ("postgres://host?&port=1", 17, "equals sign"),
            ("postgres://host?uzer=a&port=1=2", 24, "second equals"),
            ("postgres://[::1", 12, "]"),
            ("postgres://[]", 12, "empty"),
            ("postgres://[::1]z", 12, "port"),
            ("postgres://u:p@secret@host", 16, "@ too many"),
            ("postgres://host/secret@host", 17, "@ too many"),
        ] {
            let error = read(text).map(drop).unwrap_err();
            assert!(
                matches!(error, Error::ConnectionString { position: at, .. } if at == position),
                "{error:?}"
            );
            let error = error.to_string();
            assert!(error.contains(word) && !error.contains("secret") && error.contains("hint: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a@:/?%=&,\\[\\]0é]*") {
            let _ = parse(&text, &text);
        }

        #[test]
        fn any_password_can_be_written(password in "[^\0]+") {
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(written(&format!("postgres://u:{encoded}@h")), format!("user=u password={password} host=h"));
        }
    }
}
