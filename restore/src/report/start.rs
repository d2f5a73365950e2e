//! The command that starts a restored server.

use std::path::{Path, PathBuf};

use crate::owner::Owner;
use crate::settings::shell_word;

/// Where packages put PostgreSQL's programs, by major version.
const FOLDERS: [&str; 4] =
    ["/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/usr/lib/postgresql{}/bin", "/usr/local/pgsql/bin"];
/// Where Debian keeps the configuration of its clusters.
const DEBIAN: &str = "/etc/postgresql";

/// What this machine has to start a server with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// `pg_ctl` of the backup's major version.
    pub(crate) pg_ctl: Option<PathBuf>,
    /// The user to start it as, where that is not the one who restores.
    pub(crate) user: Option<String>,
    /// Where `postgresql.conf` lies, when not in the data directory.
    pub(crate) main_conf: Option<PathBuf>,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(major: u32, owner: Option<Owner>, has_main_conf: bool) -> Machine {
        let packaged = FOLDERS.iter().map(|folder| PathBuf::from(folder.replace("{}", &major.to_string())));
        let pg_ctl = packaged.map(|folder| folder.join("pg_ctl")).find(|program| program.is_file());
        let own_uid = rustix::process::geteuid().as_raw();
        let user = owner.filter(|owner| owner.uid != own_uid).map(Owner::user_name);
        let main_conf = (!has_main_conf).then(|| debian_conf(major));
        Machine { pg_ctl, user, main_conf }
    }
}

/// The configuration of Debian's clusters of this version: the only one that is there, else the one that Debian makes.
fn debian_conf(major: u32) -> PathBuf {
    let folder = Path::new(DEBIAN).join(major.to_string());
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path().join("postgresql.conf")).filter(|file| file.is_file()).collect();
    match found.len() {
        1 => found.remove(0),
        _ => folder.join("main/postgresql.conf"),
    }
}

/// The command line.
///
/// A configuration outside the data directory names the data directory of the original, which has to be overruled: else
/// that very server would be started.
pub(crate) fn start_command(machine: &Machine, target: &Path) -> String {
    let word = |path: &Path| shell_word(&path.to_string_lossy());
    let mut words = Vec::new();
    if let Some(user) = &machine.user {
        words.push(format!("sudo -u {}", shell_word(user)));
    }
    words.push(machine.pg_ctl.as_deref().map_or_else(|| "pg_ctl".to_owned(), word));
    words.push(format!("start -D {}", word(target)));
    if let Some(conf) = &machine.main_conf {
        let options = format!("-c config_file={} -c data_directory={}", word(conf), word(target));
        words.push(format!("-o {}", shell_word(&options)));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let plain = Machine::default();
        assert_eq!(start_command(&plain, Path::new("/data")), "pg_ctl start -D /data");
        let debian = Machine {
            pg_ctl: Some("/usr/lib/postgresql/15/bin/pg_ctl".into()),
            user: Some("postgres".to_owned()),
            main_conf: Some("/etc/postgresql/15/main/postgresql.conf".into()),
        };
        assert_eq!(
            start_command(&debian, Path::new("/my data")),
            r"sudo -u postgres /usr/lib/postgresql/15/bin/pg_ctl start -D '/my data' -o '-c config_file=/etc/postgresql/15/main/postgresql.conf -c data_directory='\''/my data'\'''"
        );
    }

    #[test]
    fn a_configuration_elsewhere_is_looked_for_only_when_it_is_needed() {
        assert_eq!(Machine::look(15, None, true).main_conf, None);
        let conf = Machine::look(3, None, false).main_conf.unwrap();
        assert_eq!(conf, Path::new("/etc/postgresql/3/main/postgresql.conf"));
        let own = Owner { uid: rustix::process::geteuid().as_raw(), gid: 0 };
        assert_eq!(Machine::look(15, Some(own), true).user, None);
    }
}
