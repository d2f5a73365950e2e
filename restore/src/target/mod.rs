//! The folders to restore into: where they are, and whether they will do (R13).

mod overlap;
mod running;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

pub(crate) use overlap::{Occupied, check_apart};

use crate::mark::Mark;
use crate::root::{ASIDE, PRIVATE_FOLDER, Root};
use crate::{Error, Result, mark};
use running::PidFile;

const PID_FILE: &str = "postmaster.pid";
/// A longer file than this is not PostgreSQL's.
const MAX_PID_FILE_BYTES: u64 = 64 << 10;
/// What a new ext file system has at its top.
const LOST_AND_FOUND: &str = "lost+found";
/// How long a lock on the folder is waited for, and how often it is asked for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// As many names of a folder that is not empty stand in the message.
const NAMES_SHOWN: usize = 3;

/// What was found where a folder is to be restored into.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing, or an empty folder.
    Empty,
    /// What an interrupted restore has left.
    Interrupted(Box<Mark>),
}

/// Where `path` really is: links on the way are followed, so that later nothing has to be.
///
/// # Errors
/// [`Error::Target`] where it is a link to nothing, or the folder that it would be made in is not there.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(Error::file("find", path))?;
    match fs::canonicalize(&absolute) {
        Ok(real) => return Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::file("find", path)(error)),
    }
    if absolute.is_symlink() {
        return Err(Error::target(
            path,
            "is a link to nothing",
            "make the folder that it leads to, or remove the link",
        ));
    }
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Error::target(path, "is no folder", "name the folder to restore into"));
    };
    match fs::canonicalize(parent) {
        Ok(parent) if parent.is_dir() => Ok(parent.join(name)),
        Ok(parent) => Err(Error::target(parent, "is no folder", "name a folder to restore into")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reason = format!("cannot be made: there is no folder {}", parent.display());
            Err(Error::target(path, reason, "make that folder first, or name another"))
        }
        Err(error) => Err(Error::file("find", parent)(error)),
    }
}

/// Looks at a folder to restore into; `path` is a resolved one. Nothing is changed.
///
/// # Errors
/// [`Error::Target`] where a server runs over it, where it is not empty, or where it holds an interrupted restore and `resume` was
/// not asked for.
pub(crate) fn look(path: &Path, resume: bool) -> Result<Found> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Empty),
        Err(error) => return Err(Error::file("look at", path)(error)),
        Ok(facts) if facts.is_dir() => {}
        Ok(_) => {
            return Err(Error::target(
                path,
                "is there and is no folder",
                "name a folder, or remove what is there",
            ));
        }
    }
    refuse_running(path)?;
    let root = Root::open(path)?;
    let mut names: Vec<_> = root.entries()?.into_iter().map(|(name, _)| name).collect();
    // A restore that was killed while it wrote its mark has written nothing else; the next one replaces that.
    let half_a_mark = format!("{}{ASIDE}", mark::FILE_NAME);
    names.retain(|name| *name != *half_a_mark);
    if names.is_empty() {
        return Ok(Found::Empty);
    }
    if let Some(mark) = Mark::read(&root)? {
        return match resume {
            true => Ok(Found::Interrupted(Box::new(mark))),
            false => Err(Error::target(
                path,
                format!("holds a restore of backup {} that was interrupted", mark.subject.backup),
                format!("go on with it by --resume, or empty {} and restore anew", folders_of(&mark)),
            )),
        };
    }
    names.sort_unstable();
    let shown: Vec<_> = names.iter().take(NAMES_SHOWN).map(|name| name.to_string_lossy()).collect();
    let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
    let hint = match () {
        () if names == [LOST_AND_FOUND] => "it is the top of a file system: restore into a folder below it",
        () if resume => {
            "it carries no mark of a restore that could be resumed: name an empty or a new folder"
        }
        () => "name an empty or a new folder, or move this one away; nothing in it was touched",
    };
    Err(Error::target(path, format!("is not empty: it holds {}{more}", shown.join(", ")), hint))
}

/// What has to be emptied for a restore to begin anew.
fn folders_of(mark: &Mark) -> String {
    match mark.subject.tablespaces.is_empty() {
        true => "the folder".to_owned(),
        false => {
            let places: Vec<&str> = mark.subject.tablespaces.values().map(String::as_str).collect();
            format!("the data directory and the folders of its tablespaces ({})", places.join(", "))
        }
    }
}

/// # Errors
/// [`Error::Target`] where a server runs over the folder, or has left processes behind.
fn refuse_running(path: &Path) -> Result<()> {
    let file = path.join(PID_FILE);
    let text = match fs::metadata(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(facts) if facts.is_file() && facts.len() <= MAX_PID_FILE_BYTES => {
            fs::read_to_string(&file).map_err(Error::file("read", &file))?
        }
        Ok(_) => String::new(),
        Err(error) => return Err(Error::file("look at", &file)(error)),
    };
    let Some(alive) = PidFile::parse(&text).and_then(|server| server.alive()) else { return Ok(()) };
    Err(Error::target(
        path,
        format!("is in use: by {PID_FILE} in it, a PostgreSQL server runs there ({alive})"),
        "restore into another folder, or stop that server and move its folder away",
    ))
}

/// Opens a folder to restore into, made where it is not there, for this process alone, and private while it is written.
/// Gives the mark of an interrupted restore in it.
///
/// # Errors
/// [`Error::Target`] where another process restores into it, and as [`look`].
pub(crate) fn occupy(path: &Path, resume: bool) -> Result<(Root, Option<Mark>)> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(PRIVATE_FOLDER).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::file("make", path)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let root = Root::open(path)?;
    lock(&root, path)?;
    // Again, now that nobody else can begin here.
    let mark = match look(path, resume)? {
        Found::Empty => None,
        Found::Interrupted(mark) => Some(*mark),
    };
    let own_uid = rustix::process::geteuid().as_raw();
    std::os::unix::fs::fchown(root.handle(), Some(own_uid), None)
        .and_then(|()| {
            Ok(rustix::fs::fchmod(root.handle(), rustix::fs::Mode::from_raw_mode(PRIVATE_FOLDER))?)
        })
        .map_err(Error::file("take over", path))?;
    // The folder's own entry, in case it was made just now.
    if let Some(parent) = path.parent() {
        fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::file("sync", parent))?;
    }
    Ok((root, mark))
}

/// Locks the folder for this process.
fn lock(root: &Root, path: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        match flock(root.handle(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // A process that another thread is just starting holds copies of all open files for a moment.
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::target(
                    path,
                    "is being restored into by another process",
                    "wait until that restore has ended",
                ));
            }
            Err(errno) => return Err(Error::file("lock", path)(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::mark::tests::subject;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert!(error.is_usage(), "{error}");
        error.to_string()
    }

    #[test]
    fn r13_a_folder_that_is_not_empty_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("data");
        assert!(matches!(look(&folder, false), Ok(Found::Empty)));
        fs::create_dir(&folder).unwrap();
        assert!(matches!(look(&folder, true), Ok(Found::Empty)));
        for name in ["d", "c", "b", "a"] {
            fs::write(folder.join(name), "").unwrap();
        }
        for resume in [false, true] {
            let text = message(look(&folder, resume));
            assert!(text.contains("it holds a, b, c, …"), "{text}");
        }
        fs::write(scratch.path().join("file"), "").unwrap();
        assert!(message(look(&scratch.path().join("file"), true)).contains("is no folder"));
    }

    #[test]
    fn r13_an_interrupted_restore_goes_on_only_when_asked() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        Mark::new(subject(), None).write(&root).unwrap();
        assert!(message(look(scratch.path(), false)).contains("--resume"));
        assert!(matches!(look(scratch.path(), true), Ok(Found::Interrupted(_))));
    }

    #[test]
    fn r13_a_restore_killed_while_it_wrote_its_mark_has_left_an_empty_folder() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("highwater.restore.highwater-new"), "{").unwrap();
        for resume in [false, true] {
            assert!(matches!(look(scratch.path(), resume), Ok(Found::Empty)));
        }
        let (root, mark) = occupy(scratch.path(), false).unwrap();
        assert_eq!(mark, None);
        Mark::new(subject(), None).write(&root).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn r13_a_running_server_is_always_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        Mark::new(subject(), None).write(&root).unwrap();
        fs::write(scratch.path().join(PID_FILE), format!("{}\n", std::process::id())).unwrap();
        for resume in [false, true] {
            assert!(message(look(scratch.path(), resume)).contains("a PostgreSQL server runs there"));
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(scratch.path().join(PID_FILE), format!("{}\n", child.id())).unwrap();
        assert!(matches!(look(scratch.path(), true), Ok(Found::Interrupted(_))));
    }

    #[test]
    fn a_link_to_the_target_is_followed_once_and_a_broken_one_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(scratch.path()).unwrap();
        symlink(&real, scratch.path().join("link")).unwrap();
        symlink("nowhere", scratch.path().join("broken")).unwrap();
        assert_eq!(resolve(&scratch.path().join("link/new")).unwrap(), real.join("new"));
        assert_eq!(resolve(&scratch.path().join("link")).unwrap(), real);
        assert!(message(resolve(&scratch.path().join("broken"))).contains("link to nothing"));
        assert!(message(resolve(&scratch.path().join("no/such"))).contains("there is no folder"));
        assert!(resolve(&scratch.path().join("no/..")).is_err());
        fs::write(real.join("file"), "").unwrap();
        assert!(resolve(&real.join("file/new")).is_err());
    }

    #[test]
    fn a_folder_is_occupied_once_and_private() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("data");
        let (first, mark) = occupy(&path, false).unwrap();
        assert_eq!((fs::metadata(&path).unwrap().mode() & 0o7777, mark), (0o700, None));
        assert!(message(occupy(&path, true)).contains("another process"));
        Mark::new(subject(), None).write(&first).unwrap();
        drop(first);
        assert!(message(occupy(&path, false)).contains("--resume"));
        assert_eq!(occupy(&path, true).unwrap().1.unwrap().subject, subject());
    }
}
