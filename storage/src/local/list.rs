//! Listing objects in the byte order of their keys, without reading more of the tree than the page needs.
//!
//! A folder sorts as its name with a `/` behind it, since that is how its keys go on: `a-b` comes before `a/x`,
//! and that before `a0`. So the tree is walked folder by folder with the names sorted that way, passing by what
//! lies wholly before the page's beginning, and stopping when the page is full.
//!
//! The names of a large folder are remembered for the next page, see `names`.

use std::fs::{self, DirEntry, FileType};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::names::{Call, Identity, Names};
use super::{Root, failure};
use crate::error::Result;
use crate::key::Key;
use crate::store::{Entry, Listing, PAGE_LENGTH};

/// A folder at the root of every ext file system, unreadable to all but root. It is nobody's object.
const NOT_OURS: &str = "lost+found";

impl Root {
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        let after = after.unwrap_or("");
        let call = Call { prefix: prefix.to_owned(), after: after.to_owned(), folders };
        let goes_on = self.remembered.goes_on(&call);
        let mut walk = Walk { root: self, prefix, after, folders, goes_on, page: Listing::default() };
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        if folder.is_empty() || folder.trim_end_matches('/').parse::<Key>().is_ok() {
            walk.folder(folder)?;
        }
        let page = walk.page;
        if let Some(next) = &page.next {
            self.remembered.expect(Call { after: next.clone(), ..call });
        }
        Ok(page)
    }

    /// Visits the names in `folder` ("" or ending in '/') that can be parts of a key, in the folder's own order, those
    /// of folders with a '/' behind, until told to stop.
    fn visit(&self, folder: &str, mut visit: impl FnMut(String) -> ControlFlow<()>) -> Result<()> {
        let path = self.path.join(folder);
        let failed = |error| failure::from_io("list", folder, &path, error);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // Objects cannot lie below an object.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
            Err(error) => return self.gone(folder, &path, error),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(mut name) = entry.file_name().into_string() else { continue };
            let is_ours = Key::is_part(&name) && !(folder.is_empty() && name == NOT_OURS);
            if !is_ours || folder.len() + name.len() > Key::MAX_LENGTH_BYTES {
                continue;
            }
            match self.kind(&entry, entry.file_type().map_err(failed)?)? {
                Some(kind) if kind.is_dir() => name.push('/'),
                Some(kind) if kind.is_file() => {}
                _ => continue,
            }
            if visit(name).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The names in `folder`, sorted; those that this process has read before, where they still hold. `goes_on` says whether a listing
    /// that has begun earlier goes on.
    fn names(&self, folder: &str, goes_on: bool) -> Result<Arc<Names>> {
        let path = self.path.join(folder);
        let before = Identity::of(&path);
        if let Some(known) = self.remembered.get(folder, before.as_ref(), goes_on) {
            return Ok(known);
        }
        let mut names = Names::default();
        self.visit(folder, |name| {
            names.push(&name);
            ControlFlow::Continue(())
        })?;
        names.sort();
        let names = Arc::new(names);
        let after = Identity::of(&path);
        self.remembered.keep(folder, &names, before.filter(|before| after.as_ref() == Some(before)));
        Ok(names)
    }

    /// What a name is, or what it leads to where it is a link; nothing when it has just been deleted.
    fn kind(&self, entry: &DirEntry, kind: FileType) -> Result<Option<FileType>> {
        if !kind.is_symlink() {
            return Ok(Some(kind));
        }
        match fs::metadata(entry.path()) {
            Ok(found) => Ok(Some(found.file_type())),
            Err(error) => {
                let path = entry.path();
                let key = path.strip_prefix(&self.path).unwrap_or(&path).display().to_string();
                self.gone(&key, &path, error).map(|()| None)
            }
        }
    }

    /// Passes over what has been deleted since it was seen.
    fn gone(&self, key: &str, path: &Path, error: io::Error) -> Result<()> {
        if error.kind() == io::ErrorKind::NotFound {
            return self.confirm_missing("list", key, path);
        }
        Err(failure::from_io("list", key, path, error))
    }

    /// Whether any object lies below `folder`.
    fn holds_an_object(&self, folder: &str) -> Result<bool> {
        let mut holds = false;
        let mut below = Vec::new();
        self.visit(folder, |name| {
            holds = !name.ends_with('/');
            if holds {
                return ControlFlow::Break(());
            }
            below.push(name);
            ControlFlow::Continue(())
        })?;
        for name in below {
            holds = holds || self.holds_an_object(&format!("{folder}{name}"))?;
        }
        Ok(holds)
    }
}

struct Walk<'a> {
    root: &'a Root,
    prefix: &'a str,
    after: &'a str,
    folders: bool,
    /// Whether this page is the next one of a listing that has begun.
    goes_on: bool,
    page: Listing,
}

impl Walk<'_> {
    /// Lists what is below `folder`; false when the page is full and more may follow.
    fn folder(&mut self, folder: &str) -> Result<bool> {
        // Names are compared without what stands before all of them.
        let prefix = self.prefix.strip_prefix(folder).unwrap_or("");
        let after = match self.after.strip_prefix(folder) {
            Some(after) => after,
            None if folder > self.after => "",
            None => return Ok(true),
        };
        let names = self.root.names(folder, self.goes_on)?;
        for name in names.from(after, prefix) {
            if !is_wanted(name, prefix, after, self.folders) {
                continue;
            }
            let path = format!("{folder}{name}");
            let go_on = match name.ends_with('/') {
                true if self.folders && path.len() > self.prefix.len() => self.add_folder(path)?,
                true => self.folder(&path)?,
                false => self.add_object(&path)?,
            };
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add_object(&mut self, path: &str) -> Result<bool> {
        let key = path.parse::<Key>()?;
        let file = self.root.file(&key);
        let size = match fs::metadata(&file) {
            Ok(found) => found.len(),
            Err(error) => return self.root.gone(path, &file, error).map(|()| true),
        };
        if self.is_full() {
            return Ok(false);
        }
        self.page.entries.push(Entry { key, size });
        Ok(true)
    }

    fn add_folder(&mut self, path: String) -> Result<bool> {
        if !self.root.holds_an_object(&path)? {
            return Ok(true);
        }
        if self.is_full() {
            return Ok(false);
        }
        self.page.folders.push(path);
        Ok(true)
    }

    /// Whether there is no room for one more; then notes where the next page goes on.
    fn is_full(&mut self) -> bool {
        let page = &mut self.page;
        if page.entries.len() + page.folders.len() < PAGE_LENGTH {
            return false;
        }
        let object = page.entries.last().map(|entry| entry.key.to_string());
        page.next = object.max(page.folders.last().cloned());
        true
    }
}

/// Whether `path`, a key or a folder ending in '/', is or may hold what a listing looks for. All three are relative to
/// one folder, which itself lies behind `after` or holds it.
fn is_wanted(path: &str, prefix: &str, after: &str, folders: bool) -> bool {
    let is_folder = path.ends_with('/');
    let is_gathered = folders && path.len() > prefix.len();
    let lies_behind = path > after || (is_folder && !is_gathered && after.starts_with(path));
    lies_behind && (path.starts_with(prefix) || (is_folder && prefix.starts_with(path)))
}
