//! The extents that the parent has around one place of a file.

use highwater_repository::{Digest, ExtentRef};

/// Some extents of a file, each with its place in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(super) extents: Vec<(u64, ExtentRef)>,
}

impl Known {
    /// The extent that holds just these bytes.
    pub(crate) fn find(&self, digest: Digest, length: u32) -> Option<ExtentRef> {
        let same = |extent: &&ExtentRef| extent.digest == digest && extent.length == length;
        self.extents.iter().map(|(_, extent)| extent).find(same).copied()
    }
}
