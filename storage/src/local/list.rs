//! Listing objects in the byte order of their keys, without reading more of the tree than the page needs.
//!
//! A folder sorts as its name with a `/` behind it, since that is how its keys go on: `a-b` comes before `a/x`,
//! and that before `a0`. So the tree is walked folder by folder with the names sorted that way, passing by what lies wholly before
//! the page's beginning, and stopping when the page is full.

use std::fs::{self, FileType};
use std::io;
use std::path::Path;

use super::{Root, failure};
use crate::error::Result;
use crate::key::Key;
use crate::store::{Entry, Listing, PAGE_LENGTH};

/// A folder at the root of every ext file system, unreadable to all but root. It is nobody's object.
const NOT_OURS: &str = "lost+found";

impl Root {
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Listing> {
        let mut walk =
            Walk { root: self, prefix, after: after.unwrap_or(""), folders, page: Listing::default() };
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        if folder.is_empty() || folder.trim_end_matches('/').parse::<Key>().is_ok() {
            walk.folder(folder)?;
        }
        Ok(walk.page)
    }

    /// The names in `folder` ("" or ending in '/') that can be parts of a key, sorted, folders with a '/' behind.
    fn names(&self, folder: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let path = self.path.join(folder);
        let failed = |error| failure::from_io("list", folder, &path, error);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.confirm_missing("list", folder, &path).map(|()| Vec::new());
            }
            // Objects cannot lie below an object.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(mut name) = entry.file_name().into_string() else { continue };
            if !Key::is_part(&name) || (folder.is_empty() && name == NOT_OURS) {
                continue;
            }
            let Some(kind) = self.kind(&entry.path(), entry.file_type().map_err(failed)?)? else { continue };
            if kind.is_dir() {
                name.push('/');
            } else if !kind.is_file() {
                continue;
            }
            if wanted(&name) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What a name is, or what it leads to where it is a link; nothing when it has just been deleted.
    fn kind(&self, path: &Path, kind: FileType) -> Result<Option<FileType>> {
        if !kind.is_symlink() {
            return Ok(Some(kind));
        }
        match fs::metadata(path) {
            Ok(found) => Ok(Some(found.file_type())),
            Err(error) => self.gone("list", path, error).map(|()| None),
        }
    }

    fn gone(&self, operation: &'static str, path: &Path, error: io::Error) -> Result<()> {
        let key = path.strip_prefix(&self.path).unwrap_or(path).display().to_string();
        if error.kind() == io::ErrorKind::NotFound {
            return self.confirm_missing(operation, &key, path);
        }
        Err(failure::from_io(operation, key, path, error))
    }

    /// Whether any object lies below `folder`.
    fn holds_an_object(&self, folder: &str) -> Result<bool> {
        let names = self.names(folder, |_| true)?;
        if names.iter().any(|name| !name.ends_with('/')) {
            return Ok(true);
        }
        for name in names {
            if self.holds_an_object(&format!("{folder}{name}"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Walk<'a> {
    root: &'a Root,
    prefix: &'a str,
    after: &'a str,
    folders: bool,
    page: Listing,
}

impl Walk<'_> {
    /// Lists what is below `folder`; false when the page is full and more may follow.
    fn folder(&mut self, folder: &str) -> Result<bool> {
        let (prefix, after) = (self.prefix, self.after);
        let folders = self.folders;
        let wanted = |name: &str| is_wanted(&format!("{folder}{name}"), prefix, after, folders);
        for name in self.root.names(folder, wanted)? {
            let path = format!("{folder}{name}");
            let go_on = match name.ends_with('/') {
                true if self.folders && path.len() > prefix.len() => self.add_folder(path)?,
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
        // A name longer than a key may be, made by somebody else.
        let Ok(key) = path.parse::<Key>() else { return Ok(true) };
        let file = self.root.file(&key);
        let size = match fs::metadata(&file) {
            Ok(found) => found.len(),
            Err(error) => return self.root.gone("list", &file, error).map(|()| true),
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

/// Whether `path`, a key or a folder ending in '/', is or may hold what a listing looks for.
fn is_wanted(path: &str, prefix: &str, after: &str, folders: bool) -> bool {
    let is_folder = path.ends_with('/');
    let is_gathered = folders && path.len() > prefix.len();
    let lies_behind = path > after || (is_folder && !is_gathered && after.starts_with(path));
    lies_behind && (path.starts_with(prefix) || (is_folder && prefix.starts_with(path)))
}
