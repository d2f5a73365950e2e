//! Text that may hold what others have written: names of tables, hosts, reasons. On a terminal control characters are commands, so they are
//! shown and not sent.

use std::borrow::Cow;

/// Control characters, and those that change the direction of what follows: both can make a line look like another one.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, kept: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    let is_bad = |c: char| is_hidden(c) && !kept(c);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) { shown.push_str(&escape(c)) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Lines of text, as they can be printed.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n', |c| c.escape_default().to_string())
}

/// Something that is part of a line, such as a name.
pub fn part(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false, |c| c.escape_default().to_string())
}

/// JSON, in whose texts the same characters can stand: what it says is not changed.
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n', |c| format!("\\u{:04x}", u32::from(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, expected) in [
            ("plain, ünd Ärger\n", "plain, ünd Ärger\n"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("\u{9b}2J\r\t", "\\u{9b}2J\\r\\t"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ] {
            assert_eq!(lines(text), expected);
        }
        assert_eq!(part("two\nlines"), "two\\nlines");
        let value = serde_json::json!({ "name": "\u{9b}\u{7f}\u{1b}\n" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&text);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
