//! Skippable frames: what both `lz4` and `zstd` pass over, and where we keep facts about the content that follows.
//!
//! Unlike the other frames they have no checksum of their own, so what we put into one is a text and the text's digest.

use super::Fault;
use crate::Digest;

/// The first of the sixteen magic numbers of skippable frames, and the one we write.
const MAGIC: u32 = 0x184D_2A50;

/// The beginning of a skippable frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SkippableHeader {
    /// Length in bytes of what is in it.
    pub(crate) content_bytes: usize,
}

impl SkippableHeader {
    /// Bytes before the content: magic number and length.
    pub(crate) const BYTES: usize = 8;

    /// Reads the header at the beginning of `bytes`; refuses content of more than `limit` bytes.
    pub(crate) fn read(bytes: &[u8], limit: usize) -> Result<SkippableHeader, Fault> {
        let Some(header) = bytes.first_chunk::<{ Self::BYTES }>() else {
            return Err(Fault::damaged("it ends within its first bytes"));
        };
        let [m0, m1, m2, m3, l0, l1, l2, l3] = *header;
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        if magic != MAGIC {
            return Err(Fault::damaged(format!(
                "0x{magic:08X} does not begin a skippable frame as Highwater writes it"
            )));
        }
        let content_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if content_bytes > limit {
            return Err(Fault::damaged(format!(
                "its first frame claims {content_bytes} bytes, more than any has"
            )));
        }
        Ok(SkippableHeader { content_bytes })
    }

    /// Length of the whole frame.
    pub(crate) fn frame_bytes(self) -> usize {
        Self::BYTES + self.content_bytes
    }
}

/// Length of a line feed and a digest in hexadecimal digits.
const CLOSING_BYTES: usize = 1 + 64;

/// A skippable frame with `text` and its digest; much shorter than 4 GiB.
pub(crate) fn write_skippable(text: &[u8]) -> Vec<u8> {
    let content_bytes = text.len() + CLOSING_BYTES;
    let mut frame = Vec::with_capacity(SkippableHeader::BYTES + content_bytes);
    frame.extend_from_slice(&MAGIC.to_le_bytes());
    frame.extend_from_slice(&(content_bytes as u32).to_le_bytes());
    frame.extend_from_slice(text);
    frame.push(b'\n');
    frame.extend_from_slice(Digest::of(text).to_string().as_bytes());
    frame
}

/// Splits `bytes` into the text of the skippable frame they begin with, and the rest.
pub(crate) fn read_skippable(bytes: &[u8], limit: usize) -> Result<(&[u8], &[u8]), Fault> {
    let header = SkippableHeader::read(bytes, limit)?;
    let Some((frame, rest)) = bytes.split_at_checked(header.frame_bytes()) else {
        return Err(Fault::damaged("it ends within its first frame"));
    };
    let content = &frame[SkippableHeader::BYTES..];
    let text = content.len().checked_sub(CLOSING_BYTES).and_then(|length| content.split_at_checked(length));
    match text {
        Some((text, [b'\n', digest @ ..])) if digest == Digest::of(text).to_string().as_bytes() => {
            Ok((text, rest))
        }
        _ => {
            Err(Fault::damaged("the text in its first frame does not have the digest that stands behind it"))
        }
    }
}
