//! The file in a folder that is being restored into: it says which restore that is, and how far it has come (R13).
//!
//! It is there before anything else and goes when the data directory is whole. How far the restore has come is one
//! number, since files are finished nearly in the manifest's order: however many files there are, the mark stays small.

use std::collections::BTreeMap;
use std::path::Path;

use highwater_catalog::Plan;
use highwater_repository::marker::Kind;
use highwater_repository::{ClusterName, EntryPath, EventId, Label, RepositoryId};
use highwater_wal::{SystemId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::owner::Owner;
use crate::root::Root;
use crate::{Error, Result};

/// The file's name.
pub(crate) const FILE_NAME: &str = "highwater.restore";
/// A longer file than this is none of ours.
const MAX_BYTES: u64 = 1 << 20;
const VERSION: u32 = 1;

/// Which restore writes into a folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    version: u32,
    /// Made when the restore begins, kept when it is resumed.
    pub(crate) restore_id: EventId,
    /// What it is a restore of.
    pub(crate) subject: Subject,
    /// Who the files are given to.
    pub(crate) owner: Option<Owner>,
    /// So many entries of the manifest, from its beginning, are finished and durable.
    pub(crate) entries_done: u64,
    /// All files are there and durable but for `pg_control`: one that lies there before is somebody else's.
    #[serde(default)]
    pub(crate) is_whole: bool,
}

/// What is restored, and into what: a restore is resumed only as what it was begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// The repository, wherever it has been moved to.
    pub(crate) repository: RepositoryId,
    /// The cluster's name in it.
    pub(crate) cluster: ClusterName,
    /// Its system identifier.
    pub(crate) system_id: SystemId,
    /// The backup.
    pub(crate) backup: Label,
    /// When the backup's manifest was made: a later backup may have got the label of one that was removed.
    pub(crate) backup_finished_at: Timestamp,
    /// The moment that was asked for, as JSON. Not the record it was found to be: with `--latest`, that moves on while the
    /// restore is interrupted, and what has been written stays right.
    pub(crate) request: String,
    /// Copy, or the cluster itself.
    pub(crate) kind: Kind,
    /// Where each tablespace goes, by OID.
    pub(crate) tablespaces: BTreeMap<u32, String>,
}

impl Subject {
    /// The moment that a plan was made for.
    pub(crate) fn request_of(plan: &Plan) -> Result<String> {
        serde_json::to_string(&plan.request).map_err(|error| Error::Thread(error.to_string()))
    }

    /// What the restore that was begun differs in from this one, in words.
    fn difference(&self, begun: &Subject) -> Option<String> {
        let kind = |kind| if kind == Kind::Clone { "--clone" } else { "--takeover" };
        let table = [
            ("the repository", begun.repository.to_string(), self.repository.to_string()),
            ("the cluster", begun.cluster.to_string(), self.cluster.to_string()),
            ("the system identifier", begun.system_id.to_string(), self.system_id.to_string()),
            ("the backup", begun.backup.to_string(), self.backup.to_string()),
            ("the backup of", begun.backup_finished_at.to_string(), self.backup_finished_at.to_string()),
            ("the target", begun.request.clone(), self.request.clone()),
            ("the kind", kind(begun.kind).to_owned(), kind(self.kind).to_owned()),
            (
                "the place of each tablespace",
                format!("{:?}", begun.tablespaces),
                format!("{:?}", self.tablespaces),
            ),
        ];
        let (what, begun, now) = table.into_iter().find(|(_, begun, now)| begun != now)?;
        Some(format!("{what} was {begun} and is now {now}"))
    }
}

impl Mark {
    /// The mark of a restore that begins.
    pub(crate) fn new(subject: Subject, owner: Option<Owner>) -> Mark {
        Mark {
            version: VERSION,
            restore_id: EventId::random(),
            subject,
            owner,
            entries_done: 0,
            is_whole: false,
        }
    }

    /// The mark in a folder; `None` where there is none.
    ///
    /// # Errors
    /// A mark that cannot be understood is an error, not "no mark".
    pub(crate) fn read(root: &Root) -> Result<Option<Mark>> {
        let Some(content) = root.read_small(&file_name()?, MAX_BYTES)? else { return Ok(None) };
        let bad = |reason: String| {
            let hint = "empty the folder, and those of its tablespaces, and restore anew, or resume with the version of Highwater that began it";
            Error::target(root.path().join(FILE_NAME), format!("cannot be understood: {reason}"), hint)
        };
        let mark: Mark = serde_json::from_slice(&content).map_err(|error| bad(error.to_string()))?;
        if mark.version == VERSION { Ok(Some(mark)) } else { Err(bad(format!("version {}", mark.version))) }
    }

    /// Writes the mark, durably. One that is there is replaced.
    pub(crate) fn write(&self, root: &Root) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Error::Thread(error.to_string()))?;
        text.push(b'\n');
        root.replace(&file_name()?, &text, |_| Ok(()))?;
        root.sync()
    }

    /// Removes the mark, durably.
    pub(crate) fn remove(root: &Root) -> Result<()> {
        root.remove(&file_name()?)?;
        root.sync()
    }

    /// Whether the restore of `subject` may go on where this one was interrupted.
    ///
    /// # Errors
    /// [`Error::Target`] naming `folder` and the first thing that differs.
    pub(crate) fn check_same(&self, subject: &Subject, owner: Option<Owner>, folder: &Path) -> Result<()> {
        let owners = || format!("the owner was {:?} and is now {owner:?}", self.owner);
        match subject.difference(&self.subject).or_else(|| (self.owner != owner).then(owners)) {
            None => Ok(()),
            Some(difference) => Err(Error::target(
                folder,
                format!("holds another restore: {difference}"),
                "resume with the options it was begun with, or empty the folder, and those of its tablespaces, and restore anew",
            )),
        }
    }
}

fn file_name() -> Result<EntryPath> {
    Ok(EntryPath::new(FILE_NAME)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn subject() -> Subject {
        Subject {
            repository: "00ff00000000000000000000000000ab".parse().unwrap(),
            cluster: "main".parse().unwrap(),
            system_id: SystemId(7),
            backup: "daily".parse().unwrap(),
            backup_finished_at: Timestamp(1),
            request: "{}".to_owned(),
            kind: Kind::Clone,
            tablespaces: BTreeMap::from([(16385, "/space".to_owned())]),
        }
    }

    #[test]
    fn r13_a_mark_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        assert_eq!(Mark::read(&root).unwrap(), None);
        let mut mark = Mark::new(subject(), Some(Owner { uid: 1, gid: 2 }));
        mark.write(&root).unwrap();
        mark.entries_done = 12;
        mark.write(&root).unwrap();
        assert_eq!(Mark::read(&root).unwrap(), Some(mark));
        assert_eq!(root.entries().unwrap().len(), 1, "nothing is left aside");
        Mark::remove(&root).unwrap();
        assert_eq!(Mark::read(&root).unwrap(), None);
    }

    #[test]
    fn r13_a_mark_that_cannot_be_understood_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let newer = serde_json::to_string(&Mark { version: 2, ..Mark::new(subject(), None) }).unwrap();
        for content in ["", "{}", "\u{ff}", newer.as_str()] {
            std::fs::write(folder.path().join(FILE_NAME), content).unwrap();
            assert!(Mark::read(&root).unwrap_err().to_string().contains("hint: "), "{content}");
        }
    }

    #[test]
    fn r13_only_the_same_restore_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let mark = Mark::new(subject(), None);
        mark.check_same(&subject(), None, root.path()).unwrap();
        let table = [
            Subject { repository: RepositoryId::random(), ..subject() },
            Subject { cluster: "other".parse().unwrap(), ..subject() },
            Subject { system_id: SystemId(8), ..subject() },
            Subject { backup: "weekly".parse().unwrap(), ..subject() },
            Subject { backup_finished_at: Timestamp(2), ..subject() },
            Subject { request: "[]".to_owned(), ..subject() },
            Subject { kind: Kind::Takeover, ..subject() },
            Subject { tablespaces: BTreeMap::new(), ..subject() },
        ];
        for other in table {
            let error = mark.check_same(&other, None, root.path()).unwrap_err().to_string();
            assert!(error.contains(" was ") && error.contains("hint: "), "{error}");
        }
        assert!(mark.check_same(&subject(), Some(Owner { uid: 1, gid: 1 }), root.path()).is_err());
    }
}
