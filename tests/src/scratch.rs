//! A temporary folder for one test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::account::give_to_server_account;
use crate::guardian::{self, Task};

/// Set to anything, this environment variable keeps the folders of the tests for a look afterwards.
pub const KEEP: &str = "HIGHWATER_TEST_KEEP";

/// A temporary folder that belongs to the servers' account (`postgres` when the tests run as root). It is removed
/// at the end, also when the test process is killed; `HIGHWATER_TEST_KEEP=1` keeps it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    task: Option<Task>,
}

impl Scratch {
    /// A new, empty folder. Its path is short, so that it has room for a Unix socket's name (107 bytes).
    pub fn new() -> Self {
        let path =
            tempfile::Builder::new().prefix("hw-").tempdir().expect("a temporary folder can be made").keep();
        give_to_server_account(&path);
        let keep = std::env::var_os(KEEP).is_some();
        let task = (!keep)
            .then(|| Task::new(&format!("rm -rf {}", guardian::quote(path.to_str().expect("it is UTF-8")))));
        if keep {
            eprintln!("harness: keeping {}", path.display());
        }
        Self { path, task }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` inside; nothing is made.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder `name` inside, mode 0700, owned by the servers' account.
    pub fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        make_folder(&path);
        path
    }

    /// Writes the file `name` inside, owned by the servers' account, and answers its path.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
        give_to_server_account(&path);
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.task.take().is_some() {
            // What cannot be removed (a test made it so) is no reason to fail a test that passed.
            if let Err(error) = fs::remove_dir_all(&self.path) {
                eprintln!("harness: {} is left behind: {error}", self.path.display());
            }
        }
    }
}

/// Makes one folder, mode 0700 as PostgreSQL wants it, owned by the servers' account.
pub(crate) fn make_folder(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .unwrap_or_else(|error| panic!("{} cannot be made: {error}", path.display()));
    give_to_server_account(path);
}
