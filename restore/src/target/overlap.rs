//! That the folders of a restore and the repository do not lie within each other.

use std::path::PathBuf;

use crate::{Error, Result};

/// A folder and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occupied {
    /// What it is for, with its article, for messages.
    pub(crate) what: String,
    /// Its resolved path.
    pub(crate) path: PathBuf,
}

/// Sees that no folder is another or lies in it: what is written into one would appear in the other, and a folder that is
/// emptied to try again would take the other with it.
///
/// # Errors
/// [`Error::Target`] naming the inner folder.
pub(crate) fn check_apart(folders: &[Occupied]) -> Result<()> {
    for (index, one) in folders.iter().enumerate() {
        for other in &folders[index + 1..] {
            let (inner, outer) = match () {
                () if other.path.starts_with(&one.path) => (other, one),
                () if one.path.starts_with(&other.path) => (one, other),
                () => continue,
            };
            return Err(Error::target(
                &inner.path,
                format!("({}) lies within {} ({})", inner.what, outer.path.display(), outer.what),
                "choose folders apart from each other with --to and --tablespace OLD=NEW",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str]) -> Result<()> {
        let occupied = |path: &&str| Occupied { what: format!("the folder {path}"), path: path.into() };
        check_apart(&paths.iter().map(occupied).collect::<Vec<_>>())
    }

    #[test]
    fn folders_must_lie_apart() {
        for apart in [&["/a", "/b", "/c"][..], &["/a/b", "/a/bc", "/a/d"], &["/a"], &[]] {
            check(apart).unwrap();
        }
        for within in [["/a", "/b", "/a"], ["/a", "/b", "/a/x/y"], ["/a/x", "/b", "/a"], ["/b", "/", "/c"]] {
            let text = check(&within).unwrap_err().to_string();
            assert!(text.contains("lies within"), "{text}");
        }
    }
}
