//! Which folders need no sync, because the way through them is durable already.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::folders;

/// A folder whose content has not changed for this long was made before that, and the kernel has written it since
/// (it keeps nothing back for more than about 35 s).
const SETTLED: Duration = Duration::from_secs(600);

/// As many folders are remembered: those on the way to the ones that are written to, of which there are few at a time.
const MOST_REMEMBERED: usize = 256;

/// A folder, as the system tells it from any other that may get its name and its number later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    born: SystemTime,
}

impl Identity {
    /// `None` where the file system does not tell when it was made.
    fn of(found: &Metadata) -> Option<Identity> {
        Some(Identity { device: found.dev(), inode: found.ino(), born: found.created().ok()? })
    }
}

/// The folders whose entry in the one above this process has made durable.
#[derive(Debug, Default)]
pub(super) struct Synced(Mutex<HashMap<PathBuf, Identity>>);

impl Synced {
    /// Makes the way from `root` to `folder`, both included, durable.
    ///
    /// The folder itself is always synced. Those above hold the entries on the way, which somebody, perhaps another process that was
    /// killed before it could sync, made some time ago: they are synced unless their last change is long past, or this process
    /// has synced that entry. Other entries are the business of those who rely on them.
    pub(super) fn sync_up_to(&self, root: &Path, folder: &Path) -> io::Result<()> {
        folders::sync(folder)?;
        let mut below = folder;
        for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
            self.sync_entry(above, below)?;
            below = above;
        }
        Ok(())
    }

    /// Makes the entry of `below` in `above` durable.
    fn sync_entry(&self, above: &Path, below: &Path) -> io::Result<()> {
        // Before the sync: an entry that is made meanwhile may not be in it.
        let identity = Identity::of(&fs::metadata(below)?);
        if identity.is_some_and(|identity| self.knows(below, identity)) {
            return Ok(());
        }
        if !is_settled(fs::metadata(above)?.modified()?, SystemTime::now()) {
            folders::sync(above)?;
        }
        if let Some(identity) = identity {
            self.remember(below, identity);
        }
        Ok(())
    }

    fn knows(&self, folder: &Path, identity: Identity) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(folder) == Some(&identity)
    }

    fn remember(&self, folder: &Path, identity: Identity) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_REMEMBERED {
            all.clear();
        }
        all.insert(folder.to_owned(), identity);
    }
}

fn is_settled(modified: SystemTime, now: SystemTime) -> bool {
    // A change in the future is a clock that was set back: nothing is known then.
    now.duration_since(modified).is_ok_and(|age| age > SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_long_past_are_settled() {
        let now = SystemTime::now();
        for (modified, settled) in [
            (now, false),
            (now - Duration::from_secs(600), false),
            (now - Duration::from_secs(601), true),
            (now + Duration::from_secs(3600), false),
        ] {
            assert_eq!(is_settled(modified, now), settled);
        }
    }

    #[test]
    fn r01_a_folder_that_was_made_again_is_another_one() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, synced) = (scratch.path(), Synced::default());
        let folder = root.join("tail/00000001");
        fs::create_dir_all(&folder).unwrap();
        let knows = |folder: &Path| {
            let identity = Identity::of(&fs::metadata(folder).unwrap());
            identity.is_some_and(|identity| synced.knows(folder, identity))
        };
        assert!(!knows(&folder));
        synced.sync_up_to(root, &folder).unwrap();
        assert!(knows(&folder) && knows(&root.join("tail")), "the file system tells when folders were made");
        // Other entries do not make it another one.
        fs::create_dir(root.join("tail/00000002")).unwrap();
        assert!(knows(&folder) && knows(&root.join("tail")));
        for _ in 0..20 {
            fs::remove_dir(&folder).unwrap();
            fs::create_dir(&folder).unwrap();
            assert!(!knows(&folder), "it may have the number of the one before");
            synced.sync_up_to(root, &folder).unwrap();
            assert!(knows(&folder));
        }
        let moved = root.join("elsewhere");
        fs::rename(root.join("tail"), &moved).unwrap();
        assert!(synced.sync_up_to(root, &folder).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let synced = Synced::default();
        let identity = Identity { device: 1, inode: 1, born: SystemTime::UNIX_EPOCH };
        for number in 0..MOST_REMEMBERED + 10 {
            synced.remember(Path::new(&number.to_string()), identity);
        }
        assert!(synced.knows(Path::new(&(MOST_REMEMBERED + 9).to_string()), identity));
        assert!(synced.0.lock().unwrap().len() <= MOST_REMEMBERED);
    }
}
