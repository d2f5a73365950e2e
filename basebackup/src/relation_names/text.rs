//! Names as text, whatever encoding a database has.

use std::fmt::Write;

/// A name that came from the server. In a database with the encoding `SQL_ASCII` it can be any bytes, and the names of databases
/// have the encoding of whoever made them: what is not UTF-8 stands as `\x` and two hexadecimal digits a byte.
pub(super) fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing into a String cannot fail.
            _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_can_be_read() {
        for (bytes, text) in [
            (&b"orders"[..], "orders"),
            ("größe \n\"x\" 表".as_bytes(), "größe \n\"x\" 表"),
            (b"gr\xf6\xdfe", "gr\\xf6\\xdfe"),
            (b"\xff", "\\xff"),
            (b"", ""),
        ] {
            assert_eq!(readable(bytes), text);
        }
    }
}
