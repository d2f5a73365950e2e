//! A first pass over the manifest, before anything is written: whether all of it can be restored, how much it is, and
//! where the few files lie that are needed beforehand (R12, R16).

use std::collections::BTreeMap;

use highwater_repository::manifest::{File, Totals};
use highwater_repository::{EntryPath, ExtentReader, Item, ManifestReader, Run};

use crate::foreign::Expected;
use crate::places::{BACKUP_LABEL, CONTROL_FILE, MAIN_CONF, Place, VERSION_FILE};
use crate::{Error, Result};

/// The most folders within each other; PostgreSQL's files lie four deep.
const MAX_DEPTH: usize = 64;
/// The longest of the files that are needed beforehand.
const MAX_HELD_BYTES: u64 = 64 << 10;
/// Group may read and enter: `initdb --allow-group-access`.
const GROUP_ACCESS: u16 = 0o050;

/// What the manifest holds.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Files that will be written.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Bytes that take room on the disk, by tablespace; `None` is the data directory.
    pub(crate) room: BTreeMap<Option<u32>, u64>,
    /// Files that are needed before the others.
    pub(crate) held: BTreeMap<&'static str, Held>,
    /// Whether `postgresql.conf` lies in the data directory.
    pub(crate) has_main_conf: bool,
    /// Whether a group may read the data directory.
    pub(crate) group_access: bool,
    /// Files in the data directory, of which each that is found there before has to be one.
    pub(crate) expected: Expected,
    /// What all of the manifest amounts to, for the comparison with its head.
    seen: Totals,
    /// Where the file that is being read takes its room, and its name where it is held.
    current: Option<(Option<u32>, Option<&'static str>)>,
}

/// A small file and where its bytes lie.
#[derive(Debug)]
pub(crate) struct Held {
    file: File,
    runs: Vec<Run>,
}

impl Survey {
    /// Reads a manifest to its end. `outside` has the tablespaces outside the data directory.
    ///
    /// # Errors
    /// [`Error::Manifest`] where something in it cannot be restored, or a file is missing without which nothing can.
    pub(crate) async fn read<T>(manifest: &mut ManifestReader, outside: &BTreeMap<u32, T>) -> Result<Survey> {
        let label = manifest.head().label.to_string();
        let totals = manifest.head().totals;
        let damaged = |reason| Error::Manifest { label: label.clone(), reason };
        let mut survey = Survey::default();
        while let Some(item) = manifest.next().await? {
            survey.take(item, outside).map_err(damaged)?;
        }
        survey.check(&totals).map_err(damaged)?;
        Ok(survey)
    }

    /// Takes the next piece. The error says why it cannot be restored.
    fn take<T>(&mut self, item: Item, outside: &BTreeMap<u32, T>) -> Result<(), String> {
        match item {
            Item::Folder(folder) => {
                place(&folder.path, outside)?;
                self.seen.folders += 1;
                self.group_access |=
                    folder.path.as_bytes() == b"global" && folder.mode & GROUP_ACCESS == GROUP_ACCESS;
            }
            Item::Link(link) => {
                self.seen.links += 1;
                if !matches!(place(&link.path, outside)?, Place::TablespaceFolder(_)) {
                    return Err(format!("{} is a link, and only tablespaces have links to them", link.path));
                }
            }
            Item::File(file) => self.take_file(file, outside)?,
            Item::Runs(runs) => self.take_runs(runs),
        }
        Ok(())
    }

    fn take_file<T>(&mut self, file: File, outside: &BTreeMap<u32, T>) -> Result<(), String> {
        self.seen.files += 1;
        self.seen.bytes += file.size;
        check_depth(&file.path)?;
        let tablespace = match Place::of_file(&file.path, outside).map_err(|error| error.to_string())? {
            Place::LeftOut => None,
            Place::Data(path) => {
                self.expected.add(path.as_bytes());
                Some(None)
            }
            Place::Tablespace(oid, _) => Some(Some(oid)),
            Place::TablespaceFolder(_) => {
                return Err(format!("{} is a file, and should be a tablespace's folder", file.path));
            }
        };
        let Some(tablespace) = tablespace else {
            self.current = None;
            return Ok(());
        };
        self.files += 1;
        self.bytes += file.size;
        self.has_main_conf |= file.path.as_bytes() == MAIN_CONF.as_bytes();
        let held = [CONTROL_FILE, BACKUP_LABEL, VERSION_FILE];
        let held = held.into_iter().find(|name| file.path.as_bytes() == name.as_bytes());
        self.current = Some((tablespace, held));
        if let Some(name) = held {
            if file.size > MAX_HELD_BYTES {
                return Err(format!("{name} has {} bytes", file.size));
            }
            if self.held.insert(name, Held { file, runs: Vec::new() }).is_some() {
                return Err(format!("{name} is in it twice"));
            }
        }
        Ok(())
    }

    fn take_runs(&mut self, runs: Vec<Run>) {
        let Some((tablespace, held)) = self.current else { return };
        let stored = |run: &Run| if matches!(run, Run::Extents(_)) { run.plain_bytes() } else { 0 };
        *self.room.entry(tablespace).or_default() += runs.iter().map(stored).sum::<u64>();
        if let Some(held) = held.and_then(|name| self.held.get_mut(name)) {
            held.runs.extend(runs);
        }
    }

    /// Whether nothing is missing at the end.
    fn check(&self, totals: &Totals) -> Result<(), String> {
        let amount = |totals: &Totals| (totals.files, totals.folders, totals.links, totals.bytes);
        if amount(&self.seen) != amount(totals) {
            return Err(format!("it lists {:?} and its head says {:?}", amount(&self.seen), amount(totals)));
        }
        for name in [CONTROL_FILE, BACKUP_LABEL, VERSION_FILE] {
            if !self.held.contains_key(name) {
                return Err(format!("{name} is not in it"));
            }
        }
        Ok(())
    }

    /// The content of one of the files that are needed beforehand.
    pub(crate) async fn content(&self, name: &'static str, extents: &ExtentReader) -> Result<Vec<u8>> {
        let Some(held) = self.held.get(name) else {
            return Err(Error::Manifest { label: String::new(), reason: format!("{name} is not in it") });
        };
        held.content(extents).await
    }

    /// The permissions of one of these files.
    pub(crate) fn mode(&self, name: &str) -> u16 {
        self.held.get(name).map_or(0o600, |held| held.file.mode)
    }
}

impl Held {
    async fn content(&self, extents: &ExtentReader) -> Result<Vec<u8>> {
        let failed = |source| Error::Content { path: self.file.path.to_string(), source: Box::new(source) };
        let mut content = Vec::new();
        for run in &self.runs {
            match run {
                Run::Zeros(length) => {
                    let length = content.len() as u64 + length;
                    content.resize(length.min(MAX_HELD_BYTES) as usize, 0);
                }
                Run::Extents(run) => {
                    let fetched = extents.fetch(run).await.map_err(failed)?;
                    let mut buffer = Vec::new();
                    let taken = fetched.each(&mut buffer, |_, bytes| {
                        content.extend_from_slice(bytes);
                        Ok::<(), highwater_repository::Error>(())
                    });
                    taken.map_err(failed)?;
                }
            }
        }
        Ok(content)
    }
}

fn place<T>(path: &EntryPath, outside: &BTreeMap<u32, T>) -> Result<Place, String> {
    check_depth(path)?;
    Place::of(path, outside).map_err(|error| error.to_string())
}

fn check_depth(path: &EntryPath) -> Result<(), String> {
    match path.parts().count() {
        0..=MAX_DEPTH => Ok(()),
        _ => Err(format!("{path} lies deeper than any file of PostgreSQL")),
    }
}

#[cfg(test)]
mod tests {
    use highwater_repository::manifest::{Folder, Link};
    use highwater_repository::{Digest, ExtentRef, PackId};

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn file(text: &str, size: u64) -> Item {
        Item::File(File { path: path(text), mode: 0o600, size, mtime: 0, crc32c: None })
    }

    fn folder(text: &str, mode: u16) -> Item {
        Item::Folder(Folder { path: path(text), mode })
    }

    fn extents(length: u32) -> Run {
        let extent =
            ExtentRef { pack: PackId::random(), offset: 0, stored: 9, length, digest: Digest::of(b"") };
        Run::Extents(vec![extent])
    }

    fn survey(items: Vec<Item>) -> Result<Survey, String> {
        let outside = BTreeMap::from([(16385, ())]);
        let mut survey = Survey::default();
        for item in items {
            survey.take(item, &outside)?;
        }
        Ok(survey)
    }

    fn whole() -> Vec<Item> {
        vec![
            folder("global", 0o750),
            file("global/pg_control", 8192),
            Item::Runs(vec![extents(296), Run::Zeros(7896)]),
            file("backup_label", 200),
            file("PG_VERSION", 3),
            file("pg_wal/000000010000000000000001", 1 << 24),
            Item::Runs(vec![extents(1 << 20)]),
            file("postmaster.pid", 10),
            Item::Runs(vec![extents(10)]),
            Item::Link(Link { path: path("pg_tblspc/16385"), target: b"/space".to_vec() }),
            file("pg_tblspc/16385/PG_15/5/1", 100),
            Item::Runs(vec![extents(100)]),
        ]
    }

    #[test]
    fn a_whole_manifest_is_summed_up() {
        let survey = survey(whole()).unwrap();
        let bytes = 8192 + 200 + 3 + (1 << 24) + 10 + 100;
        survey.check(&Totals { files: 6, folders: 1, links: 1, bytes, ..Totals::default() }).unwrap();
        assert_eq!((survey.files, survey.bytes), (4, 8192 + 200 + 3 + 100));
        assert_eq!(survey.room, BTreeMap::from([(None, 296), (Some(16385), 100)]));
        assert!(survey.group_access && !survey.has_main_conf);
        assert_eq!(survey.held[CONTROL_FILE].runs.len(), 2);
        let fewer = Totals { files: 5, folders: 1, links: 1, bytes, ..Totals::default() };
        assert!(survey.check(&fewer).is_err());
    }

    #[test]
    fn r12_a_manifest_that_cannot_become_a_cluster_is_refused() {
        for missing in [CONTROL_FILE, BACKUP_LABEL, VERSION_FILE] {
            let is_it =
                |item: &Item| matches!(item, Item::File(file) if file.path.as_bytes() == missing.as_bytes());
            let rest = survey(whole().into_iter().filter(|item| !is_it(item)).collect()).unwrap();
            let reason = rest.check(&rest.seen).unwrap_err();
            assert!(reason.contains(missing), "{reason}");
        }
        let deep = ["a"; 65].join("/");
        for item in [
            Item::Link(Link { path: path("pg_wal"), target: b"/wal".to_vec() }),
            Item::Link(Link { path: path("pg_tblspc/16390"), target: b"/space".to_vec() }),
            Item::Link(Link { path: path("base/5"), target: b"/etc".to_vec() }),
            file("pg_tblspc/16385", 1),
            file("backup_label", 1 << 20),
            file("PG_VERSION", 3),
            file(&deep, 1),
            folder(&deep, 0o700),
        ] {
            let mut items = whole();
            items.push(item.clone());
            assert!(survey(items).is_err(), "{item:?}");
        }
    }
}
