//! Manifests: what a backup holds, file by file, and where its bytes lie.
//!
//! A manifest is one or several objects: the numbered parts `manifest.1`, `manifest.2`, …, each one Zstandard frame of
//! JSON lines, and, put last, `manifest`: a skippable frame with the head as JSON, then one Zstandard frame with the
//! last lines. So the head can be read by a ranged read, memory is bounded by the length of one part whatever the number
//! of files (R11), and a backup exists from the moment `manifest` does (R9).

mod entry;
mod head;
mod line;
mod path;
mod reader;
mod writer;

pub use entry::{Entry, File, Folder, Item, Link, Run};
pub use head::{ManifestHead, ManifestPart, PostgresBackup, Tablespace, Totals};
pub use line::parse_line;
pub use path::EntryPath;
pub use reader::ManifestReader;
pub use writer::ManifestWriter;

pub(crate) use reader::parse_head;

/// A part is put when it has so many compressed bytes; it may be longer by what one line adds.
pub(crate) const PART_BYTES: u64 = 8 << 20;
/// The longest object of a manifest that is read.
pub(crate) const MAX_PART_BYTES: u64 = 40 << 20;
/// The longest line in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 256 << 10;
/// The most extents in one line; a file with more is continued in the next line.
pub(crate) const MAX_LINE_EXTENTS: usize = 1024;

#[cfg(test)]
mod tests;
