//! What a server's settings say about backups and archiving: whether they can work, and what would hurt later.

use highwater_replication::{Client, DataRow, Result};
use highwater_wal::{SegmentSize, SystemId};
use serde::Serialize;

/// The settings that matter here, and the state of the archiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Which `initdb` the cluster comes from.
    pub system_id: SystemId,
    /// The size of its WAL segments.
    pub segment_size: SegmentSize,
    /// `server_version_num`, such as 150006.
    pub version: u32,
    /// `data_directory`.
    pub data_directory: String,
    /// Whether it is a standby.
    pub is_standby: bool,
    /// The role that asked.
    pub role: String,
    /// Whether that role may take backups.
    pub may_replicate: bool,
    /// `archive_mode`.
    pub archive_mode: String,
    /// Whether `highwater receive` streams its WAL.
    pub is_received: bool,
    /// `archive_command`.
    pub archive_command: String,
    /// `archive_library`; empty before PostgreSQL 15.
    pub archive_library: String,
    /// `archive_timeout` in seconds.
    pub archive_timeout_seconds: u32,
    /// `wal_level`.
    pub wal_level: String,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// WAL senders that are free.
    pub free_wal_senders: i64,
    /// `data_checksums`.
    pub data_checksums: bool,
    /// `fsync`.
    pub fsync: bool,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// Settings that say where recovery stops, `recovery_target_…`, and are set though the server has left recovery.
    pub recovery_targets: Vec<String>,
    /// What the archiver last did.
    pub archiver: Archiver,
}

/// What `pg_stat_archiver` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Archiver {
    /// The last file that was archived.
    pub last_archived: Option<String>,
    /// When, as the server writes it.
    pub last_archived_at: Option<String>,
    /// The last file that failed.
    pub last_failed: Option<String>,
    /// When, as the server writes it.
    pub last_failed_at: Option<String>,
    /// Whether the last thing it did was to fail.
    pub is_failing: bool,
}

const QUERY: &str = "\
SELECT (SELECT system_identifier FROM pg_control_system()), \
       (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), \
       current_setting('server_version_num'), current_setting('data_directory', true), pg_is_in_recovery(), current_user, \
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user), \
       current_setting('archive_mode'), current_setting('archive_command', true), \
       coalesce(current_setting('archive_library', true), ''), \
       (SELECT setting FROM pg_settings WHERE name = 'archive_timeout'), \
       current_setting('wal_level'), current_setting('max_wal_senders'), \
       current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'), \
       current_setting('data_checksums'), current_setting('fsync'), current_setting('full_page_writes'), \
       last_archived_wal, last_archived_time, last_failed_wal, last_failed_time, \
       last_failed_time > coalesce(last_archived_time, '-infinity'), \
       (SELECT string_agg(name, ' ' ORDER BY name) FROM pg_settings WHERE NOT pending_restart AND \
           (name IN ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time', 'recovery_target_xid') \
            AND setting <> '' OR name = 'recovery_target_timeline' AND setting <> 'latest')), \
       EXISTS (SELECT FROM pg_stat_replication WHERE application_name LIKE 'highwater%' AND state IN ('catchup', 'streaming')) \
FROM pg_stat_archiver";

impl ServerSettings {
    /// Asks a server over an SQL connection.
    ///
    /// # Errors
    /// Those of the server: `data_directory` takes a superuser or a member of `pg_read_all_settings`.
    pub async fn ask(client: &mut Client) -> Result<ServerSettings> {
        // Nothing that somebody put into another schema is to be taken for PostgreSQL's own.
        client.query("SELECT pg_catalog.set_config('search_path', '', false)").await?;
        read(client.query(QUERY).await?.single()?)
    }

    /// The major version, such as 15.
    pub fn major_version(&self) -> u32 {
        self.version / 10_000
    }
}

fn read(row: &DataRow) -> Result<ServerSettings> {
    let text =
        |column| Ok::<_, highwater_replication::Error>(row.text(column)?.unwrap_or_default().to_owned());
    let maybe = |column| Ok::<_, highwater_replication::Error>(row.text(column)?.map(str::to_owned));
    let is_on = |column| Ok::<_, highwater_replication::Error>(matches!(row.text(column)?, Some("t" | "on")));
    // A server has no other sizes; what this one says is taken as the default rather than doubted.
    let segment_size = SegmentSize::new(row.parse(1)?).unwrap_or(SegmentSize::DEFAULT);
    Ok(ServerSettings {
        // pg_control_system() gives a signed number.
        system_id: SystemId(row.parse::<i64>(0)?.cast_unsigned()),
        segment_size,
        version: row.parse(2)?,
        data_directory: text(3)?,
        is_standby: is_on(4)?,
        role: text(5)?,
        may_replicate: is_on(6)?,
        archive_mode: text(7)?,
        is_received: is_on(23)?,
        archive_command: text(8)?,
        archive_library: text(9)?,
        archive_timeout_seconds: row.parse(10)?,
        wal_level: text(11)?,
        max_wal_senders: row.parse(12)?,
        free_wal_senders: row.parse(13)?,
        data_checksums: is_on(14)?,
        fsync: is_on(15)?,
        full_page_writes: is_on(16)?,
        recovery_targets: text(22)?.split_whitespace().map(str::to_owned).collect(),
        archiver: Archiver {
            last_archived: maybe(17)?,
            last_archived_at: maybe(18)?,
            last_failed: maybe(19)?,
            last_failed_at: maybe(20)?,
            is_failing: is_on(21)?,
        },
    })
}

impl std::fmt::Display for Archiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.last_archived, &self.last_archived_at) {
            (Some(file), Some(time)) => write!(f, "last archived {file} at {time}")?,
            _ => f.write_str("nothing archived yet")?,
        }
        match (&self.last_failed, &self.last_failed_at) {
            (Some(file), Some(time)) if self.is_failing => write!(f, ", failing with {file} since {time}"),
            _ => Ok(()),
        }
    }
}

/// How much something hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work like this.
    Wrong,
    /// It works, and will hurt later.
    Risk,
}

/// Something about a server or a repository that should be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// How much it hurts.
    pub severity: Severity,
    /// What it is, and what comes of it.
    pub what: String,
    /// The line that mends it.
    pub mend: String,
}

impl Advice {
    /// It does not work like this.
    pub fn wrong(what: impl Into<String>, mend: impl Into<String>) -> Advice {
        Advice { severity: Severity::Wrong, what: what.into(), mend: mend.into() }
    }

    /// It works, and will hurt later.
    pub fn risk(what: impl Into<String>, mend: impl Into<String>) -> Advice {
        Advice { severity: Severity::Risk, what: what.into(), mend: mend.into() }
    }
}

/// Everything in a server's settings that would hurt, the worst first.
pub fn advise(server: &ServerSettings) -> Vec<Advice> {
    advise_with(server, "archive_command = 'highwater-archive-cmd %p'")
}

/// The same, where `archive_command` is the line for postgresql.conf that archives by this machine's configuration.
pub fn advise_with(server: &ServerSettings, archive_command: &str) -> Vec<Advice> {
    let mut found = archiving(server, archive_command);
    found.extend(recovery(server));
    found.extend(backups(server));
    found.extend(durability(server));
    found.sort_by_key(|advice| advice.severity != Severity::Wrong);
    found
}

fn archiving(server: &ServerSettings, archive_command: &str) -> Vec<Advice> {
    let mut found = Vec::new();
    let archives = match server.archive_mode.as_str() {
        "on" => !server.is_standby,
        "always" => true,
        _ => false,
    };
    if server.is_received {
        // It brings all WAL; an archive_command may do as well what else is wanted.
        return found;
    }
    if server.archive_mode == "off" {
        found.push(Advice::wrong(
            "archive_mode is off and no highwater receive streams: no WAL is archived",
            "archive_mode = on   # needs a restart",
        ));
    } else if !server.archive_library.is_empty() {
        let library = &server.archive_library;
        found.push(Advice::wrong(
            format!("archive_library = '{library}' archives instead of archive_command"),
            "archive_library = ''",
        ));
    } else if archives && !server.archive_command.contains("highwater-archive-cmd") {
        found.push(Advice::wrong(
            "archive_command does not run highwater-archive-cmd: nothing comes into the repository",
            archive_command,
        ));
    } else if archives && server.archiver.is_failing {
        found.push(Advice::risk(
            format!("the archiver failed lately: {}", server.archiver),
            "the server's log has the message and its hint",
        ));
    }
    if archives && server.archive_timeout_seconds == 0 {
        found.push(Advice::risk(
            format!(
                "archive_timeout is 0: commits of a quiet cluster stay on this server until {} MiB of WAL are full",
                server.segment_size.bytes() >> 20
            ),
            "archive_timeout = 60",
        ));
    }
    found
}

/// A target that recovery has reached goes on standing in the settings, and from there into every copy.
fn recovery(server: &ServerSettings) -> Vec<Advice> {
    if server.is_standby || server.recovery_targets.is_empty() {
        return Vec::new();
    }
    let resets: String =
        server.recovery_targets.iter().map(|name| format!("ALTER SYSTEM RESET {name}; ")).collect();
    vec![Advice::risk(
        format!(
            "{} is still set from an earlier recovery: a standby made from this server would stop there and not follow it",
            server.recovery_targets.join(", ")
        ),
        format!("{resets}SELECT pg_reload_conf();"),
    )]
}

fn backups(server: &ServerSettings) -> Vec<Advice> {
    let mut found = Vec::new();
    if server.wal_level == "minimal" {
        found.push(Advice::wrong(
            "wal_level is minimal: WAL does not hold what a restore needs",
            "wal_level = replica   # needs a restart",
        ));
    }
    if !server.may_replicate {
        let role = &server.role;
        found.push(Advice::wrong(
            format!("role {role} may not take backups"),
            format!("ALTER ROLE \"{role}\" REPLICATION;"),
        ));
    }
    // A backup takes one; pg_receivewal and standbys take one each.
    if server.max_wal_senders == 0 {
        found.push(Advice::wrong(
            "max_wal_senders is 0: no backup can be taken",
            "max_wal_senders = 10   # needs a restart",
        ));
    } else if server.free_wal_senders < 2 {
        let free = server.free_wal_senders.max(0);
        let what =
            format!("{free} of {} WAL senders are free: a backup may not get one", server.max_wal_senders);
        found.push(Advice::risk(
            what,
            format!("max_wal_senders = {}   # needs a restart", server.max_wal_senders + 5),
        ));
    }
    found
}

fn durability(server: &ServerSettings) -> Vec<Advice> {
    let mut found = Vec::new();
    if !server.fsync {
        found.push(Advice::risk("fsync is off: a crash of the machine destroys the cluster", "fsync = on"));
    }
    if !server.full_page_writes {
        found.push(Advice::risk(
            "full_page_writes is off: a crash can leave torn pages",
            "full_page_writes = on",
        ));
    }
    if !server.data_checksums {
        found.push(Advice::risk(
            "data_checksums are off: damaged pages are not noticed and get into backups",
            "pg_checksums --enable   # with the server stopped",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ServerSettings {
        ServerSettings {
            system_id: SystemId(1),
            segment_size: SegmentSize::DEFAULT,
            version: 150_006,
            data_directory: "/data".to_owned(),
            is_standby: false,
            role: "backup".to_owned(),
            may_replicate: true,
            archive_mode: "on".to_owned(),
            is_received: false,
            archive_command: "/usr/bin/highwater-archive-cmd %p".to_owned(),
            archive_library: String::new(),
            archive_timeout_seconds: 60,
            wal_level: "replica".to_owned(),
            max_wal_senders: 10,
            free_wal_senders: 9,
            data_checksums: true,
            fsync: true,
            full_page_writes: true,
            recovery_targets: Vec::new(),
            archiver: Archiver::default(),
        }
    }

    #[test]
    fn a_good_server_gets_no_advice() {
        assert_eq!(advise(&good()), []);
        let standby = ServerSettings { is_standby: true, archive_command: String::new(), ..good() };
        let received = ServerSettings {
            is_received: true,
            archive_mode: "off".to_owned(),
            archive_timeout_seconds: 0,
            ..good()
        };
        assert_eq!(advise(&received), [], "its WAL is streamed");
        assert_eq!(advise(&standby), [], "a standby does not archive with archive_mode = on");
    }

    #[test]
    fn each_setting_that_would_hurt_is_told_with_the_line_that_mends_it() {
        use Severity::{Risk, Wrong};
        let failing = Archiver { is_failing: true, ..Archiver::default() };
        let table = [
            (ServerSettings { archive_mode: "off".into(), ..good() }, Wrong, "archive_mode = on"),
            (ServerSettings { archive_command: "cp %p /x".into(), ..good() }, Wrong, "archive_command = "),
            (
                ServerSettings { archive_library: "basic_archive".into(), ..good() },
                Wrong,
                "archive_library = ''",
            ),
            (ServerSettings { archive_timeout_seconds: 0, ..good() }, Risk, "archive_timeout = 60"),
            (ServerSettings { archiver: failing, ..good() }, Risk, "log"),
            (
                ServerSettings { recovery_targets: vec!["recovery_target_lsn".into()], ..good() },
                Risk,
                "ALTER SYSTEM RESET recovery_target_lsn;",
            ),
            (ServerSettings { wal_level: "minimal".into(), ..good() }, Wrong, "wal_level = replica"),
            (ServerSettings { may_replicate: false, ..good() }, Wrong, "ALTER ROLE \"backup\" REPLICATION"),
            (ServerSettings { max_wal_senders: 0, ..good() }, Wrong, "max_wal_senders = 10"),
            (ServerSettings { free_wal_senders: 1, ..good() }, Risk, "max_wal_senders = 15"),
            (ServerSettings { fsync: false, ..good() }, Risk, "fsync = on"),
            (ServerSettings { full_page_writes: false, ..good() }, Risk, "full_page_writes = on"),
            (ServerSettings { data_checksums: false, ..good() }, Risk, "pg_checksums --enable"),
        ];
        let small = SegmentSize::new(1 << 20).unwrap();
        let quiet = ServerSettings { archive_timeout_seconds: 0, segment_size: small, ..good() };
        assert!(advise(&quiet)[0].what.contains("until 1 MiB of WAL"));
        for (server, severity, mend) in table {
            let advice = advise(&server);
            assert_eq!(advice.len(), 1, "{advice:?}");
            assert_eq!(advice[0].severity, severity, "{advice:?}");
            assert!(advice[0].mend.contains(mend), "{advice:?}");
        }
    }
}
