//! `BASE_BACKUP`: the whole cluster as tar archives, one for each tablespace.
//!
//! <https://www.postgresql.org/docs/18/protocol-replication.html#PROTOCOL-REPLICATION-BASE-BACKUP>

use tokio::io::{AsyncRead, AsyncWrite};

use crate::backup::{BackupStream, Dialect};
use crate::connection::Wait;
use crate::{Client, Error, Result, ServerVersion, quote};

/// The first version that can send a backup manifest.
const OLDEST: u32 = 13;
/// The first version whose options are a list in parentheses, and whose answer is one copy.
const TAGGED: u32 = 15;
/// What `MAX_RATE` may be, in kB/s.
const RATES: std::ops::RangeInclusive<u32> = 32..=1_048_576;
/// `MAXPGPATH`: the server refuses longer labels.
const MAX_LABEL_BYTES: usize = 1024;

/// What kind of checkpoint the backup starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpoint {
    /// At once, as fast as the disks can.
    Fast,
    /// Spread out over `checkpoint_completion_target`: the backup may start minutes later.
    #[default]
    Spread,
}

/// What the server's backup manifest proves its files by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManifestChecksums {
    /// CRC-32C.
    #[default]
    Crc32c,
    /// SHA-256; costs the server a good deal of time.
    Sha256,
    /// Sizes only.
    None,
}

/// What is asked of the server. A `tablespace_map` file is always part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackup {
    /// Goes into `backup_label` and the server's log. At most 1024 bytes, without control characters.
    pub label: String,
    /// What kind of checkpoint it starts with.
    pub checkpoint: Checkpoint,
    /// Whether the server looks up sizes first, for [`crate::BackupStart`].
    pub progress: bool,
    /// Whether the server waits at the end until the WAL that the backup needs is archived. It is silent meanwhile, but for a
    /// notice after one, two, four, … minutes; [`crate::Limits::idle`] must leave room.
    pub wait: bool,
    /// The most kB (1024 bytes) a second: 32 to 1,048,576.
    pub max_rate_kb: Option<u32>,
    /// Whether to send a manifest, and with which checksums.
    pub manifest: Option<ManifestChecksums>,
    /// Whether the server checks the checksums of pages; it does so only in clusters that have them.
    pub verify_checksums: bool,
}

impl BaseBackup {
    /// A backup with this label, a spread checkpoint, sizes and progress, no waiting for the archive, a manifest with
    /// CRC-32C, and pages checked.
    pub fn new(label: impl Into<String>) -> BaseBackup {
        BaseBackup {
            label: label.into(),
            checkpoint: Checkpoint::default(),
            progress: true,
            wait: false,
            max_rate_kb: None,
            manifest: Some(ManifestChecksums::default()),
            verify_checksums: true,
        }
    }

    /// The command in the words that this version understands.
    fn command(&self, version: ServerVersion) -> Result<String> {
        let unsendable = |what, reason, hint| Err(Error::Unsendable { what, reason, hint });
        if version.major() < OLDEST {
            return unsendable("BASE_BACKUP", "the server is older than PostgreSQL 13", "upgrade the server");
        }
        if self.label.len() > MAX_LABEL_BYTES {
            return unsendable("the backup's label", "it is longer than 1024 bytes", "choose a shorter one");
        }
        if self.max_rate_kb.is_some_and(|rate| !RATES.contains(&rate)) {
            return unsendable(
                "the rate limit",
                "it is out of range",
                "the server takes 32 kB/s to 1 GB/s (1048576)",
            );
        }
        let label = quote::literal("the backup's label", &self.label)?;
        Ok(match Dialect::of(version) {
            Dialect::Tagged => format!("BASE_BACKUP ({})", self.tagged(label).join(", ")),
            Dialect::ByTablespace => format!("BASE_BACKUP {}", self.by_tablespace(label).join(" ")),
        })
    }

    /// `name value` pairs of PostgreSQL 15 and newer.
    fn tagged(&self, label: String) -> Vec<String> {
        let on_off = |name: &str, on: bool| format!("{name} {}", u8::from(on));
        let mut options = vec![format!("LABEL {label}"), on_off("PROGRESS", self.progress)];
        options.push(match self.checkpoint {
            Checkpoint::Fast => "CHECKPOINT 'fast'".to_owned(),
            Checkpoint::Spread => "CHECKPOINT 'spread'".to_owned(),
        });
        options.push(on_off("WAIT", self.wait));
        options.extend(self.max_rate_kb.map(|rate| format!("MAX_RATE {rate}")));
        options.push(on_off("TABLESPACE_MAP", true));
        options.extend(self.manifest().map(|[manifest, checksums]| format!("{manifest}, {checksums}")));
        options.push(on_off("VERIFY_CHECKSUMS", self.verify_checksums));
        options
    }

    /// The words of PostgreSQL 13 and 14.
    fn by_tablespace(&self, label: String) -> Vec<String> {
        let mut options = vec![format!("LABEL {label}")];
        let mut word = |on: bool, word: &str| options.extend(on.then(|| word.to_owned()));
        word(self.progress, "PROGRESS");
        word(self.checkpoint == Checkpoint::Fast, "FAST");
        word(!self.wait, "NOWAIT");
        options.extend(self.max_rate_kb.map(|rate| format!("MAX_RATE {rate}")));
        options.push("TABLESPACE_MAP".to_owned());
        options.extend((!self.verify_checksums).then(|| "NOVERIFY_CHECKSUMS".to_owned()));
        options.extend(self.manifest().map(|words| words.join(" ")));
        options
    }

    fn manifest(&self) -> Option<[String; 2]> {
        let checksums = match self.manifest? {
            ManifestChecksums::Crc32c => "CRC32C",
            ManifestChecksums::Sha256 => "SHA256",
            ManifestChecksums::None => "NONE",
        };
        Some(["MANIFEST 'yes'".to_owned(), format!("MANIFEST_CHECKSUMS '{checksums}'")])
    }
}

impl Dialect {
    fn of(version: ServerVersion) -> Dialect {
        match version.major() < TAGGED {
            true => Dialect::ByTablespace,
            false => Dialect::Tagged,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Starts a base backup. Only on a replication connection, which the backup takes for itself;
    /// [`BackupStream::finish`] gives it back.
    ///
    /// It returns when the server has made its checkpoint, which can take a while ([`crate::Limits::checkpoint`]).
    ///
    /// # Errors
    /// [`Error::Unsendable`] for options that cannot be, [`Error::Server`] when the server refuses, and as for
    /// [`Client::query`].
    pub async fn base_backup(mut self, options: &BaseBackup) -> Result<BackupStream<S>> {
        let version = self.server_version();
        let command = options.command(version)?;
        let hint =
            "a spread checkpoint takes up to checkpoint_timeout; ask for a fast one, or raise the limit";
        let wait =
            Wait::new(self.connection.limits.checkpoint, "waiting for the checkpoint of a base backup", hint);
        self.send_command(&command, &wait).await?;
        BackupStream::begin(self, Dialect::of(version), options.manifest.is_some(), &wait).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_gets_its_own_words() {
        let plain = BaseBackup::new("it's");
        let other = BaseBackup {
            label: "b".to_owned(),
            checkpoint: Checkpoint::Fast,
            progress: false,
            wait: true,
            max_rate_kb: Some(32),
            manifest: None,
            verify_checksums: false,
        };
        for (options, version, expected) in [
            (
                &plain,
                150_006,
                "BASE_BACKUP (LABEL 'it''s', PROGRESS 1, CHECKPOINT 'spread', WAIT 0, TABLESPACE_MAP 1, \
                 MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS 1)",
            ),
            (
                &other,
                180_000,
                "BASE_BACKUP (LABEL 'b', PROGRESS 0, CHECKPOINT 'fast', WAIT 1, MAX_RATE 32, TABLESPACE_MAP 1, \
                 VERIFY_CHECKSUMS 0)",
            ),
            (
                &plain,
                140_023,
                "BASE_BACKUP LABEL 'it''s' PROGRESS NOWAIT TABLESPACE_MAP MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'",
            ),
            (&other, 130_000, "BASE_BACKUP LABEL 'b' FAST MAX_RATE 32 TABLESPACE_MAP NOVERIFY_CHECKSUMS"),
        ] {
            assert_eq!(options.command(ServerVersion(version)).unwrap(), expected);
        }
    }

    #[test]
    fn r22_what_the_server_would_refuse_is_not_sent() {
        let plain = BaseBackup::new("b");
        for (options, version) in [
            (plain.clone(), 120_000),
            (BaseBackup::new("x".repeat(1025)), 150_000),
            (BaseBackup::new("two\nlines"), 150_000),
            (BaseBackup { max_rate_kb: Some(31), ..plain.clone() }, 150_000),
            (BaseBackup { max_rate_kb: Some(1_048_577), ..plain }, 150_000),
        ] {
            let error = options.command(ServerVersion(version)).unwrap_err();
            assert!(matches!(error, Error::Unsendable { .. }), "{error}");
        }
    }
}
