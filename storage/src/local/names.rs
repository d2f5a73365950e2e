//! The names in a folder, and those of the last large one, remembered.
//!
//! A page of a listing needs a thousand names of a folder in order; to find them, all names of the folder have to be read and
//! sorted. A timeline's folder can have a million. So the names that were read last are kept for the next page. They are used
//!
//! - where a listing goes on that began when they were read or later: what was put or deleted since then may be in the
//!   further pages or not (the contract of [`Store::list`](crate::Store::list));
//! - where the folder has not changed since: the file system changes its times with each name that comes or goes. Times move in steps, so
//!   a folder that had changed just before it was read may have changed once more without showing it, and is read again.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::store::PAGE_LENGTH;

/// The longest step in which a file system moves the times of a folder (2 s, FAT), and one more second.
const SETTLED: Duration = Duration::from_secs(3);
/// Names that take more than this are not kept.
const MAX_KEPT_BYTES: usize = 128 << 20;
/// Listings that may go on at once; those that were begun longer ago read the folder again.
const LISTINGS_AT_ONCE: usize = 32;
/// A listing that goes on later than this reads the folder again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The names in a folder, those of folders with a `/` behind.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    /// Where each name begins in the text, and how long it is.
    places: Vec<(usize, u16)>,
}

impl Names {
    /// Adds a name; names of a folder have at most 255 bytes.
    pub(super) fn push(&mut self, name: &str) {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.places.push((self.text.len(), length));
        self.text.push_str(&name[..usize::from(length)]);
    }

    pub(super) fn sort(&mut self) {
        let Names { text, places } = self;
        places.sort_unstable_by_key(|place| at(text, *place));
    }

    /// The names, once sorted, from the first on that can be or hold what lies behind `after` and begins with `prefix`; and up
    /// to the last.
    pub(super) fn from<'n>(&'n self, after: &str, prefix: &'n str) -> impl Iterator<Item = &'n str> {
        // A folder that `after` or `prefix` leads into stands directly before where they would stand themselves.
        let first_behind =
            |text: &str| self.places.partition_point(|place| at(&self.text, *place) < text).saturating_sub(1);
        let places = &self.places[first_behind(after).max(first_behind(prefix))..];
        let names = places.iter().map(|place| at(&self.text, *place));
        names.take_while(move |name| *name <= prefix || name.starts_with(prefix))
    }

    fn bytes(&self) -> usize {
        self.text.len() + std::mem::size_of_val(self.places.as_slice())
    }
}

fn at(text: &str, (start, length): (usize, u16)) -> &str {
    &text[start..start + usize::from(length)]
}

/// What changes when a name comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    links: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// That of a folder which is there.
    pub(super) fn of(folder: &Path) -> Option<Identity> {
        let found = fs::metadata(folder).ok()?;
        Some(Identity {
            device: found.dev(),
            inode: found.ino(),
            links: found.nlink(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Whether a change from now on is certain to show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let seconds = self.modified.0.max(self.changed.0);
        let changed =
            u64::try_from(seconds).ok().map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s + 1));
        changed.is_some_and(|changed| now.duration_since(changed).is_ok_and(|age| age >= SETTLED))
    }
}

/// Which page of which listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) prefix: String,
    pub(super) after: String,
    pub(super) folders: bool,
}

/// The names of the folder that was read last, if it is a large one.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    /// The pages that listings go on with, which began when the names were read or later.
    next: VecDeque<(Call, Instant)>,
}

#[derive(Debug)]
struct Known {
    folder: String,
    names: Arc<Names>,
    /// What the folder was like, where a change is certain to show.
    identity: Option<Identity>,
}

impl Remembered {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this page is one that a listing goes on with; asked once for each.
    pub(super) fn goes_on(&self, call: &Call) -> bool {
        let mut state = self.state();
        let Some(found) = state.next.iter().position(|(expected, _)| expected == call) else { return false };
        state.next.remove(found).is_some_and(|(_, since)| since.elapsed() < LONGEST_PAUSE)
    }

    /// The page with which a listing may go on.
    pub(super) fn expect(&self, call: Call) {
        let mut state = self.state();
        if state.next.len() == LISTINGS_AT_ONCE {
            state.next.pop_front();
        }
        state.next.push_back((call, Instant::now()));
    }

    /// The names of `folder`, which now is `identity`, where they still hold or a listing goes on.
    pub(super) fn get(&self, folder: &str, identity: Option<&Identity>, goes_on: bool) -> Option<Arc<Names>> {
        let state = self.state();
        let known = state.known.as_ref().filter(|known| known.folder == folder)?;
        let holds = known.identity.is_some() && known.identity.as_ref() == identity;
        (holds || goes_on).then(|| Arc::clone(&known.names))
    }

    /// Keeps the names of a folder, instead of others, if they are many. `identity` is what the folder was before they were read and
    /// was still afterwards.
    pub(super) fn keep(&self, folder: &str, names: &Arc<Names>, identity: Option<Identity>) {
        if names.places.len() <= PAGE_LENGTH || names.bytes() > MAX_KEPT_BYTES {
            return;
        }
        let identity = identity.filter(|identity| identity.is_settled(SystemTime::now()));
        self.state().known = Some(Known { folder: folder.to_owned(), names: Arc::clone(names), identity });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Names {
        let mut names = Names::default();
        all.iter().for_each(|name| names.push(name));
        names.sort();
        names
    }

    #[test]
    fn names_from_a_place_on() {
        let names = names(&["b", "a/", "c", "a0", "a-b", "d/", "a"]);
        for (after, prefix, expected) in [
            ("", "", &["a", "a-b", "a/", "a0", "b", "c", "d/"][..]),
            ("a/x", "", &["a/", "a0", "b", "c", "d/"]),
            ("", "a", &["a", "a-b", "a/", "a0"]),
            ("", "d/e", &["d/"]),
            ("a0", "a", &["a/", "a0"]),
            ("zz", "", &["d/"]),
        ] {
            assert_eq!(names.from(after, prefix).collect::<Vec<_>>(), expected, "{after} {prefix}");
        }
    }

    #[test]
    fn a_folder_that_changed_a_moment_ago_is_not_settled() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::of(folder.path()).unwrap();
        let now = SystemTime::now();
        assert!(!identity.is_settled(now));
        assert!(!identity.is_settled(now + Duration::from_secs(2)));
        assert!(identity.is_settled(now + Duration::from_secs(5)));
        assert!(!identity.is_settled(now - Duration::from_secs(3600)), "a clock that went back");
        fs::write(folder.path().join("x"), "").unwrap();
        assert_ne!(Identity::of(folder.path()).unwrap(), identity);
    }

    #[test]
    fn names_are_used_again_only_where_that_is_right() {
        let remembered = Remembered::default();
        let folder = tempfile::tempdir().unwrap();
        let many: Vec<String> = (0..=PAGE_LENGTH).map(|number| number.to_string()).collect();
        let many = Arc::new(names(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        let fresh = Identity::of(folder.path()).unwrap();
        remembered.keep("a/", &many, Some(fresh.clone()));
        assert!(remembered.get("a/", Some(&fresh), false).is_none(), "it has changed a moment ago");
        assert!(remembered.get("a/", Some(&fresh), true).is_some());
        assert!(remembered.get("b/", Some(&fresh), true).is_none());

        let settled = Identity { modified: (1, 0), changed: (1, 0), ..fresh.clone() };
        remembered.keep("a/", &many, Some(settled.clone()));
        assert!(remembered.get("a/", Some(&settled), false).is_some());
        assert!(remembered.get("a/", Some(&fresh), false).is_none());
        assert!(remembered.get("a/", None, false).is_none());
        remembered.keep("b/", &Arc::new(names(&["few"])), Some(settled.clone()));
        assert!(remembered.get("b/", Some(&settled), false).is_none(), "a small folder is read again");

        let call = Call { prefix: "a/".to_owned(), after: "a/5".to_owned(), folders: false };
        assert!(!remembered.goes_on(&call));
        remembered.expect(call.clone());
        assert!(remembered.goes_on(&call));
        assert!(!remembered.goes_on(&call), "only once");
    }
}
