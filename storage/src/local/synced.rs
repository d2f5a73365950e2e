//! Which folders need no sync, because what is in them is durable already.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::folders;

/// A folder whose content has not changed for this long was made before that, and the kernel has written it since
/// (it keeps nothing back for more than about 35 s).
const SETTLED: Duration = Duration::from_secs(600);

/// Two changes of a folder that are further apart than this have different times: the coarsest file systems count in steps of 2 s.
const CLOCK_STEP: Duration = Duration::from_secs(3);

/// As many folders are remembered: those above the ones that are written to, of which there are few at a time.
const MOST_REMEMBERED: usize = 64;

/// A folder and its content, as far as the system tells them from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Content {
    device: u64,
    inode: u64,
    /// When an entry was made or removed last.
    modified: SystemTime,
}

/// What is known of a folder.
#[derive(Clone, Copy, Debug)]
struct Known {
    content: Content,
    /// When it was seen first with this content.
    since: Instant,
    /// Whether a sync has begun when that was [`CLOCK_STEP`] ago: what came in between would show.
    is_durable: bool,
}

impl Known {
    /// What is known once the folder is found with this content, and synced then.
    fn after_sync(before: Option<Known>, content: Content, now: Instant) -> Known {
        let before = before.filter(|known| known.content == content);
        let since = before.map_or(now, |known| known.since);
        Known { content, since, is_durable: now.duration_since(since) >= CLOCK_STEP }
    }

    fn is_durable(&self, content: Content) -> bool {
        self.is_durable && self.content == content
    }
}

/// The folders that this process has synced.
#[derive(Debug, Default)]
pub(super) struct Synced(Mutex<HashMap<PathBuf, Known>>);

impl Synced {
    /// Makes the way from `root` to `folder`, both included, durable.
    ///
    /// The folder itself is always synced. Those above hold entries that somebody, perhaps another process that was
    /// killed before it could sync, made some time ago: they are synced unless their last change is long past, or this process has
    /// synced them since.
    pub(super) fn sync_up_to(&self, root: &Path, folder: &Path) -> io::Result<()> {
        folders::sync(folder)?;
        for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
            self.sync_once(above)?;
        }
        Ok(())
    }

    fn sync_once(&self, folder: &Path) -> io::Result<()> {
        let found = fs::metadata(folder)?;
        let modified = found.modified()?;
        if is_settled(modified, SystemTime::now()) {
            return Ok(());
        }
        let content = Content { device: found.dev(), inode: found.ino(), modified };
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(folder).copied();
        if before.is_some_and(|known| known.is_durable(content)) {
            return Ok(());
        }
        let known = Known::after_sync(before, content, Instant::now());
        folders::sync(folder)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_REMEMBERED {
            all.clear();
        }
        all.insert(folder.to_owned(), known);
        Ok(())
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
    fn r01_a_folder_is_synced_until_every_later_change_would_show() {
        let content = |inode, seconds| Content {
            device: 1,
            inode,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        };
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let here = content(7, 100);
        let first = Known::after_sync(None, here, at(0));
        assert!(!first.is_durable(here), "another change may have the same time");
        let soon = Known::after_sync(Some(first), here, at(2));
        assert!(!soon.is_durable(here));
        let later = Known::after_sync(Some(soon), here, at(3));
        assert!(later.is_durable(here));
        assert!(!later.is_durable(content(7, 101)), "changed since");
        assert!(!later.is_durable(content(7, 99)), "changed since, by a clock that was set back");
        assert!(!later.is_durable(content(8, 100)), "another folder of that name");
        let changed = Known::after_sync(Some(later), content(7, 101), at(60));
        assert!(!changed.is_durable(content(7, 101)));
    }
}
