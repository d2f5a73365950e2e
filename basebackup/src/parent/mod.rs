//! What the backup before already holds: extents that have not changed are taken over from its manifest instead of being
//! compressed and put again.
//!
//! The manifest is as long as the backup has files and extents, so it is not held in memory (R11): it is copied into an
//! index in two temporary files, about 72 bytes for each extent (2.4 gigabytes for a terabyte of data), and of a file that
//! is being cut only the extents around the current place are looked at.
//!
//! What the manifest names and is no longer there is left out of the index, so that it is stored anew: a backup relies on
//! packs that are there (R9).

mod choose;
mod file;
mod index;
mod known;
mod packs;
mod table;

pub(crate) use choose::{Choice, choose, is_unreadable};
pub(crate) use file::ParentFile;
pub(crate) use index::ParentIndex;
pub(crate) use known::Known;
pub(crate) use packs::Lacking;
