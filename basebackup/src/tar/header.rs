//! The 512 bytes in front of each member.
//!
//! PostgreSQL writes the `ustar` format of POSIX 1988 and one extension of GNU's, sizes in base 256 for what is
//! larger than 8 GiB (`tarCreateHeader` in `src/port/tar.c`, PostgreSQL 15). There are no other kinds of members:
//! a name that doesn't fit its field makes the server give up.

use super::Fault;

/// Length of a header, and what members are padded to.
pub(super) const BLOCK: usize = 512;

/// The largest file that is believed: what `off_t` can count.
const MAX_SIZE: u64 = i64::MAX as u64;

/// What a member of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A folder.
    Folder,
    /// A symbolic link.
    Link {
        /// What it leads to.
        target: Vec<u8>,
    },
}

/// What a header says. Owners are passed over: a restored cluster belongs to whoever runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name, without the `/` that follows those of folders and links.
    pub name: Vec<u8>,
    /// Permissions: the lower twelve bits of `st_mode`.
    pub mode: u32,
    /// When it was last changed, in seconds since 1970.
    pub modified_unix: i64,
    /// File, folder or link.
    pub kind: Kind,
}

impl Member {
    /// Reads a header; nothing for a block of zeros, which ends an archive.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Member>, Fault> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        check_sum(block)?;
        let name = name(block);
        let size = number(&block[124..136]).filter(|size| *size <= MAX_SIZE);
        let size = size.ok_or_else(|| Fault::header(&name, "its size is no number"))?;
        let kind = match block[156] {
            b'0' | 0 => Kind::File { size },
            b'5' => Kind::Folder,
            b'2' => Kind::Link { target: text(&block[157..257]).to_vec() },
            other => return Err(Fault::header(&name, format!("it is of the unknown kind 0x{other:02x}"))),
        };
        if size != 0 && !matches!(kind, Kind::File { .. }) {
            return Err(Fault::header(&name, "it is a folder or link and has content"));
        }
        let mode = number(&block[100..108]).ok_or_else(|| Fault::header(&name, "its mode is no number"))?;
        let modified = number(&block[136..148]).and_then(|seconds| i64::try_from(seconds).ok());
        let modified_unix = modified.ok_or_else(|| Fault::header(&name, "its time is no number"))?;
        Ok(Some(Member { name, mode: (mode & 0o7777) as u32, modified_unix, kind }))
    }
}

/// The sum of all bytes, those of the sum itself taken as blanks.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), Fault> {
    let bytes = |range: &[u8]| range.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let sum = bytes(&block[..148]) + 8 * u64::from(b' ') + bytes(&block[156..]);
    match number(&block[148..156]) {
        Some(written) if written == sum => Ok(()),
        _ => Err(Fault::header(&name(block), "its check sum is wrong")),
    }
}

/// Prefix and name, without slashes at the end.
fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    let mut whole = Vec::new();
    // GNU's format, "ustar" followed by blanks, keeps other things where the prefix would be.
    if &block[257..263] == b"ustar\0" {
        whole.extend_from_slice(text(&block[345..500]));
        if !whole.is_empty() {
            whole.push(b'/');
        }
    }
    whole.extend_from_slice(text(&block[..100]));
    while whole.last() == Some(&b'/') {
        whole.pop();
    }
    whole
}

/// Bytes up to a zero or the field's end.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in base 256 where the first bit is set (`print_tar_number`).
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let add = |value: u64, byte: &u8| value.checked_mul(256).map(|value| value | u64::from(*byte));
        // Negative numbers begin with 0xff and come to more than fits.
        return rest.iter().try_fold(u64::from(first & 0x7f), add);
    }
    let is_padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| *byte != b' ')?;
    let digits = &field[start..];
    let end = digits.iter().position(is_padding).unwrap_or(digits.len());
    let (digits, after) = digits.split_at(end);
    if digits.is_empty() || !after.iter().all(is_padding) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_postgresql_and_others_write_them() {
        for (field, value) in [
            (&b"00000001750\0"[..], Some(1000)),
            (b"    1750    ", Some(1000)),
            (b"000000017500", Some(8000)),
            (b"0\0\0\0\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(8 << 30)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"            ", None),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", None),
            (b"00000001 50\0", None),
            (b"00000001x50\0", None),
            (b"-0000001750\0", None),
            (b"", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}
