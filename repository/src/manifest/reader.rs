//! Reading a manifest as a stream.

use std::io::{BufRead, Read};

use bytes::Bytes;
use highwater_storage::Key;

use crate::backups::Backups;
use crate::codec::{Fault, line_reader, read_skippable};
use crate::digest::Plain;
use crate::envelope::MAX_HEAD_BYTES;
use crate::manifest::head::StoredHead;
use crate::manifest::{Item, MAX_LINE_BYTES, MAX_PART_BYTES, ManifestHead, ManifestPart, Run, parse_line};
use crate::names::Label;
use crate::{Error, Result};

/// Reads a manifest piece by piece: memory holds one part of it (R11).
///
/// Each path was validated (R16), and each file's runs have as many bytes as the file says; a manifest for which that is
/// not so ends with [`Error::Damaged`].
pub struct ManifestReader {
    backups: Backups,
    label: Label,
    head: ManifestHead,
    /// The lines of `manifest` itself, which come last.
    last_lines: Option<Bytes>,
    next_part: usize,
    key: Key,
    lines: Option<Box<dyn BufRead + Send>>,
    line: Vec<u8>,
    /// Runs that stood in the same line as their file.
    pending: Vec<Run>,
    /// The file that is being read and how many of its bytes are still to come.
    file: Option<(String, u64)>,
    /// Whether the first lines may belong to a file whose beginning was left out.
    begins_within: bool,
}

impl std::fmt::Debug for ManifestReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestReader").field("label", &self.label).field("part", &self.next_part).finish()
    }
}

impl ManifestReader {
    /// Begins to read the manifest of a complete backup.
    ///
    /// # Errors
    /// A store error of kind not-found where the backup is not there or not complete.
    pub async fn open(backups: &Backups, label: &Label) -> Result<ManifestReader> {
        let key = backups.section().manifest(label);
        let object = backups.repository().fetch(&key, MAX_PART_BYTES).await?;
        let content = backups.repository().unseal(&key, object).await?;
        let (json, lines) = read_skippable(&content, MAX_HEAD_BYTES).map_err(|fault| fault.of(&key))?;
        let StoredHead { head, lines: part } = parse_stored_head(&key, json, label)?;
        check_part(&key, lines, &part)?;
        let last_lines = Some(content.slice_ref(lines));
        Ok(ManifestReader {
            backups: backups.clone(),
            label: label.clone(),
            head,
            last_lines,
            next_part: 0,
            key,
            lines: None,
            line: Vec::new(),
            pending: Vec::new(),
            file: None,
            begins_within: false,
        })
    }

    /// Leaves out the numbered parts, before anything was read: only the lines in `manifest` itself are handed out. What they
    /// begin with may be runs of a file that began before; those are passed over.
    #[must_use]
    pub fn only_last_lines(mut self) -> ManifestReader {
        self.next_part = self.head.parts.len();
        self.begins_within = self.next_part > 0;
        self
    }

    /// The facts of the backup.
    pub fn head(&self) -> &ManifestHead {
        &self.head
    }

    /// The next piece; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Item>> {
        if !self.pending.is_empty() {
            let runs = std::mem::take(&mut self.pending);
            self.count(&runs)?;
            return Ok(Some(Item::Runs(runs)));
        }
        while !self.read_line()? {
            if !self.next_lines().await? {
                self.end_file()?;
                return Ok(None);
            }
        }
        let (item, runs) = parse_line(&self.line).map_err(|reason| self.damaged(reason))?;
        match &item {
            Item::Runs(runs) => self.count(runs)?,
            Item::File(file) => {
                self.end_file()?;
                self.file = Some((file.path.to_string(), file.size));
            }
            Item::Folder(_) | Item::Link(_) => self.end_file()?,
        }
        self.pending = runs;
        Ok(Some(item))
    }

    fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        Error::damaged(&self.key, format!("a line of it: {reason}"))
    }

    fn count(&mut self, runs: &[Run]) -> Result<()> {
        let Some((path, left)) = &mut self.file else {
            if self.begins_within {
                return Ok(());
            }
            return Err(self.damaged("bytes of no file"));
        };
        for run in runs {
            match left.checked_sub(run.plain_bytes()) {
                Some(fewer) => *left = fewer,
                None => {
                    let reason = format!("{path} has more bytes than its length says");
                    return Err(self.damaged(reason));
                }
            }
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<()> {
        match self.file.take() {
            Some((path, left)) if left > 0 => Err(self.damaged(format!("{path} lacks {left} bytes"))),
            _ => Ok(()),
        }
    }

    /// Reads the next line of this part; `false` at its end.
    fn read_line(&mut self) -> Result<bool> {
        let Some(lines) = &mut self.lines else { return Ok(false) };
        self.line.clear();
        let mut limited = lines.take(MAX_LINE_BYTES as u64 + 1);
        limited
            .read_until(b'\n', &mut self.line)
            .map_err(|error| Error::damaged(&self.key, format!("the Zstandard frame is damaged: {error}")))?;
        match self.line.pop() {
            None => {
                self.lines = None;
                Ok(false)
            }
            Some(b'\n') => Ok(true),
            Some(_) => Err(self.damaged("it is too long, or has no end")),
        }
    }

    /// Opens the next part, or the lines behind the head; `false` when all have been read.
    async fn next_lines(&mut self) -> Result<bool> {
        let section = self.backups.section();
        let frame = match self.head.parts.get(self.next_part) {
            Some(part) => {
                let part = *part;
                self.next_part += 1;
                self.key = section.manifest_part(&self.label, self.next_part as u32);
                let object = self.backups.repository().fetch(&self.key, MAX_PART_BYTES).await;
                let object = object.map_err(|error| error.of_named(&self.key))?;
                let frame = self.backups.repository().unseal(&self.key, object).await?;
                check_part(&self.key, &frame, &part)?;
                frame
            }
            None => {
                self.key = section.manifest(&self.label);
                match self.last_lines.take() {
                    Some(frame) => frame,
                    None => return Ok(false),
                }
            }
        };
        let lines = line_reader(frame).map_err(|error| Fault::Damaged(error.to_string()).of(&self.key))?;
        self.lines = Some(Box::new(lines));
        Ok(true)
    }
}

/// Whether a frame is the one that the head names. No line is read before.
fn check_part(key: &Key, frame: &[u8], part: &ManifestPart) -> Result<()> {
    if Plain::of(frame) == (Plain { length: part.bytes, digest: part.digest }) {
        return Ok(());
    }
    Err(Error::damaged(key, "its lines do not have the digest that the manifest's head names"))
}

/// Reads the head of the manifest that lies at `key`.
pub(crate) fn parse_head(key: &Key, json: &[u8], label: &Label) -> Result<ManifestHead> {
    parse_stored_head(key, json, label).map(|stored| stored.head)
}

fn parse_stored_head(key: &Key, json: &[u8], label: &Label) -> Result<StoredHead> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let bad = |error: serde_json::Error| Error::damaged(key, format!("its head: {error}"));
    let Version { version } = serde_json::from_slice(json).map_err(bad)?;
    if version > ManifestHead::VERSION {
        return Err(Error::NewerFormat {
            url: key.to_string(),
            found: version,
            known: ManifestHead::VERSION,
        });
    }
    let stored: StoredHead = serde_json::from_slice(json).map_err(bad)?;
    if &stored.head.label != label {
        return Err(Error::damaged(key, format!("it says that it is the manifest of {}", stored.head.label)));
    }
    Ok(stored)
}
