//! Who the restored files shall belong to.
//!
//! PostgreSQL refuses a data directory that is not its own user's, and only root can give files away.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::{Error, Result};

/// The account that PostgreSQL's packages make.
const USUAL_ACCOUNT: &str = "postgres";
const OPTION: &str = "--owner";

/// A user and a group, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    /// Reads `USER` or `USER:GROUP`, by names or numbers. Without a group it is the user's own.
    ///
    /// # Errors
    /// [`Error::Option`] where there is no such user or group.
    pub fn parse(text: &str) -> Result<Owner> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let account = account("passwd", user);
        let uid = user.parse().ok().or(account.map(|(uid, _)| uid));
        let gid = match group {
            Some(group) => group.parse().ok().or_else(|| Some(self::account("group", group)?.0)),
            None => account.and_then(|(_, gid)| gid).or_else(|| own_group_of_number(user)),
        };
        match (uid, gid) {
            (Some(uid), Some(gid)) => Ok(Owner { uid, gid }),
            _ => Err(Error::Option {
                option: OPTION,
                reason: format!("\"{text}\" names no user and group of this machine"),
                hint: "name the user that PostgreSQL runs as, as USER or USER:GROUP, by names or numbers"
                    .to_owned(),
            }),
        }
    }

    /// Who the files shall belong to: who was asked for; else, run by root, the owner of the folder to restore into, of the
    /// folder it lies in, or the account `postgres`, whichever is first found and is not root, since PostgreSQL does not run as
    /// root. `None` where files simply stay with the user who runs this.
    ///
    /// # Errors
    /// [`Error::Option`] where somebody who is not root asked for another owner, or nobody was found.
    pub(crate) fn choose(asked: Option<Owner>, target: &Path) -> Result<Option<Owner>> {
        let own_uid = rustix::process::geteuid();
        if !own_uid.is_root() {
            return match asked {
                Some(owner) if owner.uid != own_uid.as_raw() => Err(Error::Option {
                    option: OPTION,
                    reason: "only root can give files to another user".to_owned(),
                    hint: "run the restore as root, or as that user without --owner".to_owned(),
                }),
                other => Ok(other),
            };
        }
        let found =
            asked.or_else(|| of_folder(target)).or_else(|| of_folder(target.parent()?)).or_else(|| {
                let (uid, gid) = account("passwd", USUAL_ACCOUNT)?;
                Some(Owner { uid, gid: gid? })
            });
        match found {
            Some(owner) if owner.uid != 0 => Ok(Some(owner)),
            Some(_) => Err(Error::Option {
                option: OPTION,
                reason: "PostgreSQL refuses to run as root".to_owned(),
                hint: "name the user it shall run as".to_owned(),
            }),
            None => Err(Error::Option {
                option: OPTION,
                reason: format!(
                    "there is no account {USUAL_ACCOUNT} on this machine, and no other was named"
                ),
                hint: "name the user that PostgreSQL shall run as: its files must belong to it".to_owned(),
            }),
        }
    }

    /// The user's name, or its number where it has none.
    pub(crate) fn user_name(self) -> String {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let number = self.uid.to_string();
        let name = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1) == Some(number.as_str())).then(|| name.to_owned())
        });
        // As `sudo -u` takes it.
        name.unwrap_or_else(|| format!("#{number}"))
    }

    /// Gives it an open file or folder.
    pub(crate) fn take(self, file: impl AsFd) -> io::Result<()> {
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
    }
}

/// Mode and owner that a finished file or folder gets.
pub(crate) fn finish(file: &File, owner: Option<Owner>, mode: u32) -> io::Result<()> {
    if let Some(owner) = owner {
        owner.take(file)?;
    }
    // After the owner: giving a file away takes some bits of its mode.
    rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode)).map_err(io::Error::from)
}

/// The owner of a folder that is there and is not root's.
fn of_folder(folder: &Path) -> Option<Owner> {
    let facts = std::fs::metadata(folder).ok()?;
    (facts.uid() != 0).then(|| Owner { uid: facts.uid(), gid: facts.gid() })
}

/// Number, and for a user that of its group, of a name in the system's accounts. Asked of the file first and then of
/// `getent`, which knows directories such as LDAP as well.
fn account(database: &str, name: &str) -> Option<(u32, Option<u32>)> {
    let file = std::fs::read_to_string(Path::new("/etc").join(database)).unwrap_or_default();
    line_of(&file, name).or_else(|| {
        let answer = Command::new("getent").args([database, "--", name]).output().ok()?;
        line_of(&String::from_utf8_lossy(&answer.stdout), name)
    })
}

/// A line `name:x:number:group:…`.
fn line_of(text: &str, name: &str) -> Option<(u32, Option<u32>)> {
    let mut lines = text.lines().map(|line| line.split(':'));
    let mut fields = lines.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    let number = fields.nth(1)?.parse().ok()?;
    Some((number, fields.next().and_then(|group| group.parse().ok())))
}

/// The group of a user given by number, where it has an account.
fn own_group_of_number(number: &str) -> Option<u32> {
    let file = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = file.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find(|fields| fields.get(2) == Some(&number))?.get(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read() {
        let file =
            "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:,,,:/var:/bin/bash\nbroken\nodd:x:y\n";
        assert_eq!(line_of(file, "postgres"), Some((101, Some(104))));
        assert_eq!(line_of("ssl-cert:x:103:postgres\n", "ssl-cert"), Some((103, None)));
        for name in ["postgre", "broken", "odd", ""] {
            assert_eq!(line_of(file, name), None, "{name}");
        }
    }

    #[test]
    fn owners_are_named_or_numbered() {
        assert_eq!(Owner::parse("root").unwrap(), Owner { uid: 0, gid: 0 });
        assert_eq!(Owner::parse("0").unwrap(), Owner { uid: 0, gid: 0 });
        assert_eq!(Owner::parse("7001:7002").unwrap(), Owner { uid: 7001, gid: 7002 });
        assert_eq!(Owner::parse("7001:root").unwrap(), Owner { uid: 7001, gid: 0 });
        for text in ["", "no-such-account", "root:no-such-group", "-1", "--help"] {
            assert!(Owner::parse(text).unwrap_err().to_string().contains("hint: "), "{text}");
        }
    }

    #[test]
    fn files_are_not_left_with_root() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::choose(None, &folder.path().join("new"));
        if rustix::process::geteuid().is_root() {
            let owner = owner.unwrap().unwrap();
            assert_ne!(owner.uid, 0);
            std::os::unix::fs::chown(folder.path(), Some(7001), Some(7002)).unwrap();
            let of_parent = Owner::choose(None, &folder.path().join("new")).unwrap();
            assert_eq!(of_parent, Some(Owner { uid: 7001, gid: 7002 }));
            let asked = Owner { uid: 7003, gid: 7004 };
            assert_eq!(Owner::choose(Some(asked), folder.path()).unwrap(), Some(asked));
            assert!(Owner::choose(Some(Owner { uid: 0, gid: 0 }), folder.path()).is_err());
        } else {
            assert_eq!(owner.unwrap(), None);
            assert!(Owner::choose(Some(Owner { uid: 0, gid: 0 }), folder.path()).is_err());
        }
    }
}
