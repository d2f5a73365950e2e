//! Literals and names in the replication grammar (`repl_scanner.l`, PostgreSQL 14 to 18).
//!
//! It is not SQL: a backslash stands for itself, and there is no other escape than a doubled quote.

use crate::{Error, Result};

/// A text between single quotes.
pub(crate) fn literal(what: &'static str, text: &str) -> Result<String> {
    quoted(what, text, '\'')
}

/// A setting's name, part by part: `a.b` is `"a"."b"`.
pub(crate) fn setting_name(name: &str) -> Result<String> {
    let parts: Result<Vec<String>> =
        name.split('.').map(|part| quoted("the name of a setting", part, '"')).collect();
    Ok(parts?.join("."))
}

fn quoted(what: &'static str, text: &str, quote: char) -> Result<String> {
    // A line break in a label would add a line to the server's backup_label file.
    if text.chars().any(char::is_control) {
        let reason = "it holds a control character";
        return Err(Error::Unsendable { what, reason, hint: "take out line breaks, tabs and the like" });
    }
    let doubled = text.replace(quote, &format!("{quote}{quote}"));
    Ok(format!("{quote}{doubled}{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_nothing_else_is_touched() {
        assert_eq!(literal("it", r"it's \n ü").unwrap(), r"'it''s \n ü'");
        assert_eq!(setting_name("wal_segment_size").unwrap(), r#""wal_segment_size""#);
        assert_eq!(setting_name(r#"my.o"dd"#).unwrap(), r#""my"."o""dd""#);
        for text in ["a\0", "a\nb", "a\tb"] {
            assert!(matches!(literal("it", text), Err(Error::Unsendable { .. })));
        }
    }
}
