//! Files in a data directory that the interrupted restore in it has not written (R13): a segment in `pg_wal` or a file of
//! settings of somebody else's could change what the restored server becomes.
//!
//! What lies below `base` and in tablespaces is not looked at: there may be millions of files, and PostgreSQL passes over
//! those that its catalogs do not know.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use highwater_repository::marker;
use rustix::fs::FileType;

use crate::places::{AUTO_CONF, RECOVERY_SIGNAL, STANDBY_SIGNAL};
use crate::root::{ASIDE, Root};
use crate::{Error, Result, mark};

/// As many paths are remembered: all that PostgreSQL has outside `base`, but for a hoard of files of another program.
const MAX_FILES: usize = 200_000;
/// Folders within each other that are looked into.
const MAX_DEPTH: usize = 64;
/// As many foreign files stand in the message.
const NAMED: usize = 3;
/// What the restore writes by itself.
const OWN: [&str; 5] = [mark::FILE_NAME, marker::FILE_NAME, AUTO_CONF, RECOVERY_SIGNAL, STANDBY_SIGNAL];
const NOT_LOOKED_AT: [&str; 2] = ["base", "pg_tblspc"];
const WAL: &str = "pg_wal";

/// The files of a manifest that lie in the data directory and are looked for.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    files: HashSet<Box<[u8]>>,
    is_cut: bool,
}

impl Expected {
    /// Notes a file that is to be restored.
    pub(crate) fn add(&mut self, path: &[u8]) {
        let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        if NOT_LOOKED_AT.iter().any(|name| name.as_bytes() == first) {
            return;
        }
        self.is_cut |= self.files.len() >= MAX_FILES;
        if !self.is_cut {
            self.files.insert(path.into());
        }
    }

    /// Sees that nothing else lies in the data directory.
    ///
    /// # Errors
    /// [`Error::Target`] naming what does. Nothing was changed.
    pub(crate) fn check(&self, data: &Root) -> Result<()> {
        let mut foreign = Vec::new();
        self.walk(data, Path::new(""), MAX_DEPTH, &mut foreign)?;
        if foreign.is_empty() {
            return Ok(());
        }
        let reason = format!("holds what the interrupted restore has not written: {}", foreign.join(", "));
        Err(Error::target(
            data.path(),
            reason,
            "move that away and resume, or empty the folder and restore anew",
        ))
    }

    fn walk(&self, folder: &Root, at: &Path, depth: usize, foreign: &mut Vec<String>) -> Result<()> {
        for (name, kind) in folder.entries()? {
            let path = at.join(&name);
            let is_top = at.as_os_str().is_empty();
            let skipped = is_top && NOT_LOOKED_AT.iter().any(|skipped| name == *skipped);
            if skipped || foreign.len() == NAMED {
                continue;
            }
            match kind {
                FileType::Directory if depth > 0 => {
                    self.walk(&folder.child(&name)?, &path, depth - 1, foreign)?
                }
                FileType::RegularFile if self.knows(&path, &name, is_top) => {}
                _ => foreign.push(path.display().to_string()),
            }
        }
        Ok(())
    }

    fn knows(&self, path: &Path, name: &OsStr, is_top: bool) -> bool {
        if path.starts_with(WAL) {
            return false;
        }
        let is_own = is_top && OWN.iter().any(|own| name == *own);
        let is_aside = name.as_bytes().ends_with(ASIDE.as_bytes());
        self.is_cut || is_own || is_aside || self.files.contains(path.as_os_str().as_bytes())
    }
}
