//! Which files two lists do not agree on.
//!
//! Neither list fits into memory, and their order says nothing. So both are summed up by buckets, into which a path's digest
//! puts it; then the files of a few buckets whose sums differ are gathered and compared.

use std::collections::BTreeMap;
use std::fmt;

use super::{Fault, FileFacts, SentFiles, Spooled, Tally};

/// Buckets: with ten million files each holds some 150.
const BUCKETS: usize = 1 << 16;
/// Buckets that are looked into.
const BUCKETS_LOOKED_INTO: usize = 16;

/// A file on which both lists do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    path: Vec<u8>,
    /// Size and checksum in the server's manifest.
    listed: Option<(u64, u32)>,
    /// Those of what was received.
    sent: Option<(u64, u32)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(&self.path);
        match (self.listed, self.sent) {
            (None, _) => write!(f, "{path} was sent and is not listed"),
            (_, None) => write!(f, "{path} is listed and was not sent"),
            (Some((listed, _)), Some((sent, _))) if listed != sent => {
                write!(f, "{path} is listed with {listed} bytes, and {sent} were sent")
            }
            (Some((_, listed)), Some((_, sent))) => {
                write!(f, "{path} is listed with CRC-32C {listed:08x}, and what was sent has {sent:08x}")
            }
        }
    }
}

/// Some of the files on which the server's manifest and what was received do not agree, in order of their paths.
pub fn differences(listed: &mut Spooled, sent: &mut SentFiles) -> Result<Vec<Difference>, Fault> {
    let mut sums = vec![(Tally::default(), Tally::default()); BUCKETS];
    listed.read(|file| sums[bucket(&file)].0.add(&file))?;
    sent.read(|file| sums[bucket(&file)].1.add(&file))?;
    let unequal = sums.iter().enumerate().filter(|(_, (listed, sent))| listed != sent);
    let chosen: Vec<usize> = unequal.map(|(bucket, _)| bucket).take(BUCKETS_LOOKED_INTO).collect();

    let mut files: BTreeMap<Vec<u8>, Entries> = BTreeMap::new();
    listed.read(|file| {
        if chosen.contains(&bucket(&file)) {
            files.entry(file.path).or_default().listed.push((file.size, file.crc32c));
        }
    })?;
    sent.read(|file| {
        if chosen.contains(&bucket(&file)) {
            files.entry(file.path).or_default().sent.push((file.size, file.crc32c));
        }
    })?;
    Ok(files.into_iter().flat_map(|(path, entries)| entries.compare(&path)).collect())
}

/// What both lists say of one path: size and checksum of each entry.
#[derive(Default)]
struct Entries {
    listed: Vec<(u64, u32)>,
    sent: Vec<(u64, u32)>,
}

impl Entries {
    /// What is left when equal entries are taken away in pairs.
    fn compare(mut self, path: &[u8]) -> Vec<Difference> {
        let mut listed = Vec::new();
        for entry in self.listed {
            match self.sent.iter().position(|other| *other == entry) {
                Some(at) => drop(self.sent.swap_remove(at)),
                None => listed.push(entry),
            }
        }
        let count = listed.len().max(self.sent.len());
        let at = |list: &[(u64, u32)], index: usize| list.get(index).copied();
        let difference = |index| Difference {
            path: path.to_vec(),
            listed: at(&listed, index),
            sent: at(&self.sent, index),
        };
        (0..count).map(difference).collect()
    }
}

fn bucket(file: &FileFacts) -> usize {
    let [low, high, ..] = *blake3::hash(&file.path).as_bytes();
    usize::from(u16::from_le_bytes([low, high]))
}

#[cfg(test)]
mod tests {
    use super::super::Spool;
    use super::*;

    fn file(path: &str, size: u64, crc32c: u32) -> FileFacts {
        FileFacts { path: path.into(), size, crc32c }
    }

    fn listed(files: &[FileFacts]) -> Spooled {
        let mut spool = Spool::new(&std::env::temp_dir(), files.len() as u64).unwrap();
        let line = |file: &FileFacts| {
            format!(
                r#"{{ "Path": "{}", "Size": {}, "Checksum-Algorithm": "CRC32C", "Checksum": "{:08x}" }}"#,
                String::from_utf8_lossy(&file.path),
                file.size,
                file.crc32c.swap_bytes()
            )
        };
        let lines: Vec<String> = files.iter().map(line).collect();
        let range = r#"{ "Timeline": 1, "Start-LSN": "0/1", "End-LSN": "0/2" }"#;
        let text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [{range}],\n\"Manifest-Checksum\": \"\"}}\n",
            lines.join(",\n")
        );
        spool.push(text.as_bytes()).unwrap();
        spool.finish().unwrap()
    }

    fn sent(files: &[FileFacts]) -> SentFiles {
        let mut list = SentFiles::new(&std::env::temp_dir()).unwrap();
        files.iter().for_each(|file| list.add(file).unwrap());
        list
    }

    #[test]
    fn r09_the_files_that_differ_are_named() {
        let mut left: Vec<FileFacts> = (0..5000).map(|n| file(&format!("base/1/{n}"), n, n as u32)).collect();
        let mut right: Vec<FileFacts> = left.iter().rev().cloned().collect();
        let none = differences(&mut listed(&left), &mut sent(&right)).unwrap();
        assert_eq!(none, []);
        left.push(file("only/listed", 1, 1));
        right.push(file("only/sent", 1, 1));
        right.push(file("base/1/7", 7, 7));
        right.retain(|file| file.path != b"base/1/9");
        right.push(file("base/1/9", 10, 9));
        right.retain(|file| file.path != b"base/1/8");
        right.push(file("base/1/8", 8, 9));
        let found = differences(&mut listed(&left), &mut sent(&right)).unwrap();
        let texts: Vec<String> = found.iter().map(Difference::to_string).collect();
        assert_eq!(
            texts,
            [
                "base/1/7 was sent and is not listed",
                "base/1/8 is listed with CRC-32C 00000008, and what was sent has 00000009",
                "base/1/9 is listed with 9 bytes, and 10 were sent",
                "only/listed is listed and was not sent",
                "only/sent was sent and is not listed",
            ]
        );
    }

    #[test]
    fn r11_of_many_differences_some_are_named() {
        let left: Vec<FileFacts> = (0..20_000).map(|n| file(&format!("base/1/{n}"), n, 0)).collect();
        let found = differences(&mut listed(&left), &mut sent(&[])).unwrap();
        assert!(found.len() >= BUCKETS_LOOKED_INTO && found.len() < 200, "{}", found.len());
    }
}
