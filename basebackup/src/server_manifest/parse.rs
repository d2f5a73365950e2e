//! From the manifest's text to what it says, file by file.

use std::fmt;
use std::io::Read;

use highwater_wal::{Lsn, SystemId, TimelineId};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Fault, FileFacts};

/// The versions that are known. 2 came with PostgreSQL 17: it names the system identifier.
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=2;

/// All that a manifest says but for its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The cluster, where the manifest names it.
    pub system_id: Option<SystemId>,
    /// The WAL that is needed to make the backup consistent: one range for each timeline, oldest first.
    pub wal_ranges: Vec<WalRange>,
    /// SHA-256 of the manifest up to its last line, in hexadecimal digits.
    pub checksum: String,
}

/// WAL of one timeline that a backup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct WalRange {
    /// The timeline.
    #[serde(rename = "Timeline")]
    pub timeline: TimelineId,
    /// From here,
    #[serde(rename = "Start-LSN")]
    pub start: Lsn,
    /// up to here.
    #[serde(rename = "End-LSN")]
    pub end: Lsn,
}

/// Reads a manifest and calls `file` for each file it lists, in its order.
///
/// # Errors
/// [`Fault::Syntax`] with line and column, for anything that is not a manifest of a known version with CRC-32C checksums.
pub fn read(text: impl Read, mut file: impl FnMut(FileFacts)) -> Result<Summary, Fault> {
    let mut reader = serde_json::Deserializer::from_reader(text);
    let summary = Whole(&mut file).deserialize(&mut reader)?;
    reader.end()?;
    Ok(summary)
}

/// The manifest.
struct Whole<'a, F>(&'a mut F);

#[derive(Deserialize)]
enum Field {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    Version,
    #[serde(rename = "System-Identifier")]
    SystemIdentifier,
    Files,
    #[serde(rename = "WAL-Ranges")]
    WalRanges,
    #[serde(rename = "Manifest-Checksum")]
    Checksum,
    #[serde(other)]
    Other,
}

impl<'de, F: FnMut(FileFacts)> DeserializeSeed<'de> for Whole<'_, F> {
    type Value = Summary;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Summary, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(FileFacts)> Visitor<'de> for Whole<'_, F> {
    type Value = Summary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a backup manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Summary, A::Error> {
        let (mut version, mut system_id, mut files, mut wal_ranges, mut checksum) =
            (None, None, None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Version => once(&mut version, "version", known_version(map.next_value()?)?)?,
                Field::SystemIdentifier => {
                    once(&mut system_id, "system identifier", SystemId(map.next_value()?))?
                }
                Field::Files => once(&mut files, "list of files", map.next_value_seed(Files(self.0))?)?,
                Field::WalRanges => once(&mut wal_ranges, "list of WAL", map.next_value_seed(WalRanges)?)?,
                Field::Checksum => once(&mut checksum, "checksum", map.next_value()?)?,
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = |what| A::Error::custom(format!("it has no {what}"));
        version.ok_or_else(|| missing("version"))?;
        files.ok_or_else(|| missing("list of files"))?;
        Ok(Summary {
            system_id,
            wal_ranges: wal_ranges.ok_or_else(|| missing("list of WAL"))?,
            checksum: checksum.ok_or_else(|| missing("checksum"))?,
        })
    }
}

fn once<T, E: serde::de::Error>(slot: &mut Option<T>, what: &str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom(format!("it has more than one {what}"))),
    }
}

fn known_version<E: serde::de::Error>(version: u32) -> Result<u32, E> {
    if VERSIONS.contains(&version) {
        return Ok(version);
    }
    Err(E::custom(format!("its version is {version}, and this program knows those up to {}", VERSIONS.end())))
}

/// The list of files, of which none is kept.
struct Files<'a, F>(&'a mut F);

impl<'de, F: FnMut(FileFacts)> DeserializeSeed<'de> for Files<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(FileFacts)> Visitor<'de> for Files<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(file) = seq.next_element::<File>()? {
            (self.0)(file.facts()?);
        }
        Ok(())
    }
}

/// The ranges of WAL, at most [`WalRanges::LIMIT`].
struct WalRanges;

impl WalRanges {
    /// A backup crosses a timeline when its standby follows a promotion meanwhile: that happens once, perhaps twice.
    const LIMIT: usize = 1000;
}

impl<'de> DeserializeSeed<'de> for WalRanges {
    type Value = Vec<WalRange>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<WalRange>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for WalRanges {
    type Value = Vec<WalRange>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of ranges of WAL")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<WalRange>, A::Error> {
        let mut ranges: Vec<WalRange> = Vec::new();
        while let Some(range) = seq.next_element::<WalRange>()? {
            if ranges.len() == WalRanges::LIMIT || range.start > range.end || !range.start.is_valid() {
                return Err(A::Error::custom(format!(
                    "its WAL from {} to {} makes no sense",
                    range.start, range.end
                )));
            }
            ranges.push(range);
        }
        // The server writes the newest timeline first.
        ranges.sort_by_key(|range| (range.timeline, range.start));
        match ranges.is_empty() {
            true => Err(A::Error::custom("its list of WAL is empty")),
            false => Ok(ranges),
        }
    }
}

/// A file's line.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    path: Option<String>,
    /// The path in hexadecimal digits, where it is not UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    checksum: Option<String>,
}

impl File {
    fn facts<E: serde::de::Error>(self) -> Result<FileFacts, E> {
        let path = match (self.path, self.encoded_path) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(digits)) => {
                from_hex(&digits).ok_or_else(|| E::custom("a path that is not hexadecimal"))?
            }
            _ => return Err(E::custom("a file must have one path")),
        };
        let wrong = |what| E::custom(format!("{}: {what}", String::from_utf8_lossy(&path)));
        if self.algorithm.as_deref() != Some("CRC32C") {
            return Err(wrong("its checksum is not a CRC32C"));
        }
        // The four bytes stand there as they lie in the server's memory, and servers are little-endian
        // (`pg_checksum_final` in checksum_helper.c, PostgreSQL 15): as of now no other machine's WAL is read either.
        let bytes = self.checksum.as_deref().and_then(from_hex).and_then(|bytes| bytes.try_into().ok());
        let crc32c =
            bytes.map(u32::from_le_bytes).ok_or_else(|| wrong("its checksum is not 8 hexadecimal digits"))?;
        Ok(FileFacts { path, size: self.size, crc32c })
    }
}

/// The bytes that hexadecimal digits stand for.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7427189523413468123,
"Files": [
{ "Path": "backup_label", "Size": 227, "Last-Modified": "2026-01-05 13:29:35 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "0faf9d4d" },
{ "Encoded-Path": "62fF", "Size": 0, "Last-Modified": "2026-01-05 13:29:35 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }
],
"WAL-Ranges": [
{ "Timeline": 2, "Start-LSN": "0/3000060", "End-LSN": "0/3000100" },
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/3000060" }
],
"Manifest-Checksum": "abc"}
"#;

    fn parse(text: &str) -> Result<(Summary, Vec<FileFacts>), Fault> {
        let mut files = Vec::new();
        let summary = read(text.as_bytes(), |file| files.push(file))?;
        Ok((summary, files))
    }

    #[test]
    fn a_manifest_is_read() {
        let (summary, files) = parse(WHOLE).unwrap();
        let file = |path: &[u8], size, crc32c| FileFacts { path: path.to_vec(), size, crc32c };
        assert_eq!(files, [file(b"backup_label", 227, 0x4d9d_af0f), file(b"b\xff", 0, 0)]);
        assert_eq!(summary.system_id, Some(SystemId(7_427_189_523_413_468_123)));
        assert_eq!(summary.checksum, "abc");
        let range = |timeline, start, end| WalRange {
            timeline: TimelineId::new(timeline).unwrap(),
            start: Lsn(start),
            end: Lsn(end),
        };
        assert_eq!(summary.wal_ranges, [range(1, 0x2000028, 0x3000060), range(2, 0x3000060, 0x3000100)]);
        let old = WHOLE
            .replace("\"System-Identifier\": 7427189523413468123,\n", "")
            .replace("Version\": 2", "Version\": 1");
        assert_eq!(parse(&old).unwrap().0.system_id, None);
        assert_eq!(parse(&WHOLE.replacen("\"Files\"", "\"Later\": [{}],\n\"Files\"", 1)).unwrap().1.len(), 2);
    }

    #[test]
    fn r22_what_is_no_manifest_is_refused() {
        for (from, to, reason) in [
            ("Version\": 2", "Version\": 3", "version is 3"),
            ("\"PostgreSQL-Backup-Manifest-Version\": 2,", "", "no version"),
            ("\"WAL-Ranges\"", "\"Files\": [],\n\"WAL-Ranges\"", "more than one list of files"),
            ("\"Files\"", "\"Flies\"", "no list of files"),
            ("\"WAL-Ranges\"", "\"WAL\"", "no list of WAL"),
            ("\"Manifest-Checksum\"", "\"Checksum\"", "no checksum"),
            ("0/3000100", "0/3000010", "makes no sense"),
            ("0/2000028", "0/0", "makes no sense"),
            ("\"Timeline\": 2", "\"Timeline\": 0", "nonzero"),
            ("CRC32C", "SHA256", "not a CRC32C"),
            ("0faf9d4d", "0faf9d4", "8 hexadecimal digits"),
            ("0faf9d4d", "0faf9d4x", "8 hexadecimal digits"),
            ("\"Path\": \"backup_label\", ", "", "one path"),
            ("62fF", "62f", "not hexadecimal"),
            ("\"Size\": 227", "\"Size\": -1", "invalid value"),
            ("\"abc\"}", "\"abc\"} x", "trailing"),
            ("\"abc\"}", "\"abc\"", "EOF"),
        ] {
            let error = parse(&WHOLE.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(reason), "{from} → {to}: {error}");
        }
    }
}
