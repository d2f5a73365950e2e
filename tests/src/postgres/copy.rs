//! Copies of a running cluster made by PostgreSQL's own means, and standbys from them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Builder, Postgres};
use crate::account::{as_server_account, give_to_server_account};
use crate::kits::client_program;

impl Postgres {
    /// Runs `pg_basebackup` into `target`, with the WAL that the copy needs. For clusters without tablespaces.
    pub fn copy_to(&self, target: &Path) {
        let version = if self.version == 15 { 15 } else { 18 };
        let mut command = Command::new(client_program(version, "pg_basebackup"));
        command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--pgdata"]).arg(target);
        command.arg("--dbname").arg(self.connection_string());
        let output = as_server_account(&mut command).output().expect("pg_basebackup starts");
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A streaming standby of this server, from a copy in this server's folder. To be started; `name` tells
    /// several apart.
    pub fn standby(&self, name: &str) -> Builder {
        let data: PathBuf = self.scratch.join(format!("standby-{name}"));
        self.copy_to(&data);
        let signal = data.join("standby.signal");
        std::fs::write(&signal, "").unwrap_or_else(|error| panic!("{}: {error}", signal.display()));
        give_to_server_account(&signal);
        Self::from_data_dir(data)
            .setting("primary_conninfo", &format!("{} application_name={name}", self.connection_string()))
    }
}
