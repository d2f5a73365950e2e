//! Which entry of a manifest goes where, and what is left out (R16).

use std::collections::BTreeMap;

use highwater_repository::{EntryPath, marker};

use crate::mark;
use crate::root::Root;
use crate::{Error, Result};

/// PostgreSQL will not start without this file, so it is written last (R14).
pub(crate) const CONTROL_FILE: &str = "global/pg_control";
/// What makes PostgreSQL begin recovery where the backup began.
pub(crate) const BACKUP_LABEL: &str = "backup_label";
/// The major version.
pub(crate) const VERSION_FILE: &str = "PG_VERSION";
/// What `ALTER SYSTEM` writes, and we.
pub(crate) const AUTO_CONF: &str = "postgresql.auto.conf";
/// The configuration, where it lies in the data directory.
pub(crate) const MAIN_CONF: &str = "postgresql.conf";
/// They tell PostgreSQL to recover, and to stay a standby.
pub(crate) const RECOVERY_SIGNAL: &str = "recovery.signal";
pub(crate) const STANDBY_SIGNAL: &str = "standby.signal";

const TABLESPACES: &[u8] = b"pg_tblspc/";
/// Its files come from the archive, each verified: one that came with the backup could stand in for one that cannot be
/// fetched.
const WAL: &[u8] = b"pg_wal/";

/// Files that are not restored: they belong to the server that was backed up, not to the one that will run here, or
/// are made anew. `tablespace_map` would let PostgreSQL make the links of the tablespaces by their old places
/// (`read_tablespace_map`, xlogrecovery.c, PostgreSQL 15); the links are made here.
const LEFT_OUT: [&str; 8] = [
    "postmaster.pid",
    "postmaster.opts",
    "recovery.conf",
    RECOVERY_SIGNAL,
    STANDBY_SIGNAL,
    "tablespace_map",
    marker::FILE_NAME,
    mark::FILE_NAME,
];

/// Where an entry goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Into the data directory.
    Data(EntryPath),
    /// Into a tablespace, by its OID.
    Tablespace(u32, EntryPath),
    /// It is the folder of a tablespace itself, or the link to it.
    TablespaceFolder(u32),
    /// Nowhere.
    LeftOut,
}

impl Place {
    /// Where a file goes, with the tablespaces of these OIDs outside the data directory.
    pub(crate) fn of_file<T>(path: &EntryPath, outside: &BTreeMap<u32, T>) -> Result<Place> {
        let bytes = path.as_bytes();
        let left_out = bytes.starts_with(WAL) || LEFT_OUT.iter().any(|name| bytes == name.as_bytes());
        if left_out { Ok(Place::LeftOut) } else { Place::of(path, outside) }
    }

    /// Where a folder or a link goes.
    pub(crate) fn of<T>(path: &EntryPath, outside: &BTreeMap<u32, T>) -> Result<Place> {
        let bytes = path.as_bytes();
        if let Some(rest) = bytes.strip_prefix(TABLESPACES) {
            let (oid, below) = match rest.iter().position(|byte| *byte == b'/') {
                Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
                None => (rest, None),
            };
            if let Some(oid) = parse_oid(oid).filter(|oid| outside.contains_key(oid)) {
                return Ok(match below {
                    Some(below) => Place::Tablespace(oid, EntryPath::new(below)?),
                    None => Place::TablespaceFolder(oid),
                });
            }
        }
        Ok(Place::Data(path.clone()))
    }
}

/// An OID as PostgreSQL writes it: decimal, no leading zeros.
fn parse_oid(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<u32>().ok().filter(|oid| oid.to_string() == text)
}

/// The open folders of a restore.
#[derive(Debug)]
pub(crate) struct Places {
    /// The data directory.
    pub(crate) data: Root,
    /// The tablespaces outside it, by OID.
    pub(crate) tablespaces: BTreeMap<u32, Root>,
}

impl Places {
    /// The folder that a place lies below, and its path there; `None` for what is not written.
    pub(crate) fn locate<'a>(&'a self, place: &'a Place) -> Option<(&'a Root, &'a EntryPath)> {
        match place {
            Place::Data(path) => Some((&self.data, path)),
            Place::Tablespace(oid, path) => Some((self.tablespaces.get(oid)?, path)),
            Place::TablespaceFolder(_) | Place::LeftOut => None,
        }
    }

    /// All folders, the data directory last.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Root> {
        self.tablespaces.values().chain([&self.data])
    }

    /// Makes the link to each tablespace.
    pub(crate) fn link_tablespaces(&self) -> Result<()> {
        for (oid, root) in &self.tablespaces {
            self.data.link(&known(&format!("pg_tblspc/{oid}"))?, root.path())?;
        }
        Ok(())
    }
}

/// A path that this program names itself.
pub(crate) fn known(path: &str) -> Result<EntryPath> {
    EntryPath::new(path).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn entries_go_where_they_belong() {
        let outside = BTreeMap::from([(16385, ())]);
        let data = |text: &str| Place::Data(path(text));
        let table = [
            ("base/5/1259", data("base/5/1259")),
            ("pg_tblspc", data("pg_tblspc")),
            ("pg_tblspc/16385", Place::TablespaceFolder(16385)),
            ("pg_tblspc/16385/PG_15_202209061/5/1", Place::Tablespace(16385, path("PG_15_202209061/5/1"))),
            ("pg_tblspc/16390/PG_15_202209061", data("pg_tblspc/16390/PG_15_202209061")),
            ("pg_tblspc/016385/x", data("pg_tblspc/016385/x")),
            ("pg_tblspc/+16385/x", data("pg_tblspc/+16385/x")),
            ("pg_wal/000000010000000000000001", Place::LeftOut),
            ("pg_wal/archive_status/000000010000000000000001.done", Place::LeftOut),
            ("postmaster.pid", Place::LeftOut),
            ("standby.signal", Place::LeftOut),
            ("highwater.clone", Place::LeftOut),
            ("highwater.restore", Place::LeftOut),
            ("tablespace_map", Place::LeftOut),
            ("base/postmaster.pid", data("base/postmaster.pid")),
        ];
        for (text, place) in table {
            assert_eq!(Place::of_file(&path(text), &outside).unwrap(), place, "{text}");
        }
        for text in ["pg_wal/archive_status", "pg_wal"] {
            assert_eq!(Place::of(&path(text), &outside).unwrap(), data(text), "folders of WAL are made");
        }
    }

    proptest! {
        /// Whatever a manifest says, what is made lies in the data directory or in the tablespace that the path names.
        #[test]
        fn r16_no_path_leads_elsewhere(parts in prop::collection::vec("pg_tblspc|[a.]{1,2}|16385|16390|\\.\\.", 1..6)) {
            let scratch = tempfile::tempdir().unwrap();
            let roots = ["data", "space"].map(|name| scratch.path().join(name));
            for root in &roots {
                std::fs::create_dir(root).unwrap();
            }
            std::fs::create_dir(scratch.path().join("outside")).unwrap();
            std::os::unix::fs::symlink("../outside", roots[0].join("a")).unwrap();
            let open = |path| Root::open(path).unwrap();
            let places = Places { data: open(&roots[0]), tablespaces: BTreeMap::from([(16385, open(&roots[1]))]) };
            let Ok(path) = EntryPath::new(parts.join("/")) else { return Ok(()) };
            let place = Place::of_file(&path, &places.tablespaces).unwrap();
            let Some((root, below)) = places.locate(&place) else { return Ok(()) };
            let made = root.create_file(below).is_ok();
            prop_assert_eq!(std::fs::read_dir(scratch.path().join("outside")).unwrap().count(), 0);
            prop_assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 3);
            let in_space = parts.len() > 2 && parts[..2] == ["pg_tblspc", "16385"];
            prop_assert_eq!(std::fs::read_dir(&roots[1]).unwrap().count(), usize::from(made && in_space));
        }
    }
}
