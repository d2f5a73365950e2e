//! Who servers and programs run as: PostgreSQL refuses root, so a test run by root uses the account `postgres`.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

/// True when the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn account() -> Option<Account> {
    static ACCOUNT: OnceLock<Option<Account>> = OnceLock::new();
    *ACCOUNT.get_or_init(|| is_root().then(find_postgres))
}

fn find_postgres() -> Account {
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let fields: Option<Vec<&str>> = users
        .lines()
        .map(|line| line.split(':').collect())
        .find(|fields: &Vec<&str>| fields[0] == "postgres");
    let fields = fields.expect("there is an account `postgres`; hint: run scripts/setup");
    let number = |text: &str| text.parse().expect("ids in /etc/passwd are numbers");
    Account { uid: number(fields[2]), gid: number(fields[3]) }
}

/// Makes `command` run as the servers' account. Its supplementary groups are dropped with root's rights.
pub fn as_server_account(command: &mut Command) -> &mut Command {
    if let Some(account) = account() {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Gives `path` itself (nothing below it) to the servers' account.
pub fn give_to_server_account(path: &Path) {
    if let Some(account) = account() {
        chown(path, Some(account.uid), Some(account.gid))
            .unwrap_or_else(|error| panic!("{} cannot be given to postgres: {error}", path.display()));
    }
}
