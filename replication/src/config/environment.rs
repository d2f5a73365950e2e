//! What stands around a connection string: environment variables, home folder, the operating system's user.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::keyword::KEYWORDS;
use crate::{Error, Result};

/// Where libpq of Debian keeps its service file, and where a source build keeps it.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/postgresql-common", "/usr/local/pgsql/etc"];

/// The surroundings that a connection string is completed from. Its `Debug` form shows the names of variables, and no
/// values: one of them may be a password (R21).
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables (`PGHOST`, …).
    pub variables: BTreeMap<String, String>,
    /// Holds `.pgpass`, `.pg_service.conf` and `.postgresql/`.
    pub home: Option<PathBuf>,
    /// The user's name when none is given.
    pub os_user: Option<String>,
    /// Folders where `pg_service.conf` is looked for.
    pub system_folders: Vec<PathBuf>,
}

impl Environment {
    /// That of this process.
    ///
    /// # Errors
    /// [`Error::Setting`] for one of libpq's variables that is not UTF-8.
    pub fn of_this_process() -> Result<Environment> {
        let mut variables = BTreeMap::new();
        for name in KEYWORDS.iter().filter_map(|keyword| keyword.variable).chain(["PGSYSCONFDIR"]) {
            match std::env::var(name) {
                Ok(value) => drop(variables.insert(name.to_owned(), value)),
                Err(std::env::VarError::NotPresent) => {}
                Err(std::env::VarError::NotUnicode(_)) => {
                    let reason = "its value is not UTF-8".to_owned();
                    let hint = "unset the variable, or write the setting into the connection string";
                    return Err(Error::Setting { setting: name.to_owned(), reason, hint });
                }
            }
        }
        // No entry for this user is no error: the name may be given, and a folder by HOME.
        let account = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let system_folders = match variables.get("PGSYSCONFDIR") {
            Some(folder) => vec![PathBuf::from(folder)],
            None => SYSTEM_FOLDERS.map(PathBuf::from).to_vec(),
        };
        Ok(Environment {
            variables,
            home: home.or_else(|| account.as_ref().map(|account| account.dir.clone())),
            os_user: account.map(|account| account.name),
            system_folders,
        })
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A path below the home folder.
    pub(crate) fn in_home(&self, path: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(path))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("home", &self.home)
            .field("os_user", &self.os_user)
            .field("system_folders", &self.system_folders)
            .finish()
    }
}
