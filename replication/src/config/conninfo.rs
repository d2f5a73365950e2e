//! Connection strings of the form `key=value key='value'`.
//!
//! The rules are those of `conninfo_parse` in `fe-connect.c` (PostgreSQL 18). Errors name a position and never the text
//! that stands there: it may be a piece of a password (R21).

use std::iter::Peekable;
use std::str::Chars;

use zeroize::Zeroizing;

use super::parameters::Pair;
use crate::{Error, Result};

const HINT: &str =
    "write settings as name=value; a value with spaces goes between '…', and \\ stands before ' and \\";

/// The settings of a connection string in order, with names as they are written.
pub(crate) fn parse(text: &str) -> Result<Vec<Pair>> {
    let mut input = Input { rest: text.chars().peekable(), position: 1 };
    let mut pairs = Vec::new();
    loop {
        input.skip_spaces();
        if input.rest.peek().is_none() {
            return Ok(pairs);
        }
        let position = input.position;
        let name = input.name()?;
        let value = input.value()?;
        pairs.push(Pair { name, value, position });
    }
}

struct Input<'a> {
    rest: Peekable<Chars<'a>>,
    /// Of the next character, from 1.
    position: usize,
}

impl Input<'_> {
    fn next(&mut self) -> Option<char> {
        self.position += 1;
        self.rest.next()
    }

    fn skip_spaces(&mut self) {
        while self.rest.next_if(|&c| is_space(c)).is_some() {
            self.position += 1;
        }
    }

    /// A name and the equals sign behind it.
    fn name(&mut self) -> Result<String> {
        let mut name = String::new();
        let start = self.position;
        while let Some(c) = self.rest.next_if(|&c| c != '=' && !is_space(c)) {
            self.position += 1;
            name.push(c);
        }
        self.skip_spaces();
        match self.next() {
            Some('=') => Ok(name),
            _ => Err(wrong(start, "an equals sign is missing behind the word that starts")),
        }
    }

    fn value(&mut self) -> Result<Zeroizing<String>> {
        self.skip_spaces();
        let start = self.position;
        let mut value = Zeroizing::new(String::new());
        let quoted = self.rest.peek() == Some(&'\'');
        if quoted {
            self.next();
        }
        loop {
            match self.rest.peek() {
                None if quoted => {
                    return Err(wrong(start, "the closing quote is missing for the value that starts"));
                }
                None => return Ok(value),
                Some('\'') if quoted => {
                    self.next();
                    return Ok(value);
                }
                Some(&c) if !quoted && is_space(c) => return Ok(value),
                Some('\\') => {
                    self.next();
                    // A backslash at the very end stands for nothing, as libpq has it.
                    value.extend(self.next());
                }
                Some(_) => value.extend(self.next()),
            }
        }
    }
}

/// What C's `isspace` takes for a space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn wrong(position: usize, reason: &'static str) -> Error {
    Error::ConnectionString { position, reason, hint: HINT }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().map(|pair| (pair.name, pair.value.to_string())).collect()
    }

    #[test]
    fn strings_are_read_as_libpq_reads_them() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("  \t\n ", &[]),
            ("host=localhost port=5432", &[("host", "localhost"), ("port", "5432")]),
            ("host = localhost\n port= 5432 ", &[("host", "localhost"), ("port", "5432")]),
            (r"password='it\'s' user=a", &[("password", "it's"), ("user", "a")]),
            (r"password=a\ b\\c\'d", &[("password", r"a b\c'd")]),
            (r"password='a\\b'", &[("password", r"a\b")]),
            ("user='' dbname=x", &[("user", ""), ("dbname", "x")]),
            ("user= dbname=x", &[("user", "dbname=x")]),
            ("host='a'port=1", &[("host", "a"), ("port", "1")]),
            ("host=a'b", &[("host", "a'b")]),
            ("options='-c geqo=off'", &[("options", "-c geqo=off")]),
            ("a=b=c", &[("a", "b=c")]),
            ("user=", &[("user", "")]),
            ("user=a\\", &[("user", "a")]),
            ("dbname=größe", &[("dbname", "größe")]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn r21_errors_say_where_and_not_what() {
        for (text, position, word) in [
            ("host=a secret", 8, "equals sign"),
            ("password=my secret", 13, "equals sign"),
            ("user=a password='secret", 17, "closing quote"),
            ("secret", 1, "equals sign"),
            ("password='it''secret'", 14, "equals sign"),
        ] {
            let error = parse(text).map(drop).unwrap_err();
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
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn any_value_can_be_written(value in ".*") {
            let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
            prop_assert_eq!(pairs(&format!("user='{quoted}'")), [("user".to_owned(), value)]);
        }
    }
}
