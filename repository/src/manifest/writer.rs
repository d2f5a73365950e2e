//! Writing a manifest while its backup is made.

use crate::backups::Backups;
use crate::codec::{LineWriter, write_skippable};
use crate::digest::Plain;
use crate::envelope::MAX_HEAD_BYTES;
use crate::manifest::head::StoredHead;
use crate::manifest::line::write_lines;
use crate::manifest::{Entry, ManifestHead, ManifestPart, PART_BYTES, Totals};
use crate::names::Label;
use crate::{Error, Result};

/// Writes a manifest line by line. Parts are put as they fill up, so that memory holds one of them (R11); they mean
/// nothing until [`ManifestWriter::finish`] puts the manifest itself.
pub struct ManifestWriter {
    backups: Backups,
    label: Label,
    lines: LineWriter,
    parts: Vec<ManifestPart>,
    totals: Totals,
    part_bytes: u64,
}

impl std::fmt::Debug for ManifestWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestWriter").field("label", &self.label).field("totals", &self.totals).finish()
    }
}

impl ManifestWriter {
    /// A writer for the manifest of a backup that was begun by [`Backups::start`].
    pub fn new(backups: &Backups, label: &Label) -> Result<ManifestWriter> {
        Ok(ManifestWriter {
            backups: backups.clone(),
            label: label.clone(),
            lines: LineWriter::new().map_err(Error::Codec)?,
            parts: Vec::new(),
            totals: Totals::default(),
            part_bytes: PART_BYTES,
        })
    }

    #[cfg(test)]
    pub(crate) fn with_part_bytes(self, part_bytes: u64) -> ManifestWriter {
        ManifestWriter { part_bytes, ..self }
    }

    /// Adds a file, folder or link. The runs of a file must have as many bytes as the file.
    pub async fn add(&mut self, entry: &Entry) -> Result<()> {
        let written = write_lines(entry, |line| self.lines.write(line).map_err(Error::Codec));
        written.map_err(|reason| Error::Refused {
            what: format!("the manifest of {}", self.label),
            reason,
            hint: "this is a fault of the program: report it",
        })??;
        match entry {
            Entry::Folder(_) => self.totals.folders += 1,
            Entry::Link(_) => self.totals.links += 1,
            Entry::File(file, _) => {
                self.totals.files += 1;
                self.totals.bytes += file.size;
            }
        }
        if self.lines.compressed_bytes() >= self.part_bytes {
            self.put_part().await?;
        }
        Ok(())
    }

    /// What has been added so far; packs are not counted here.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    async fn put_part(&mut self) -> Result<()> {
        let full = std::mem::replace(&mut self.lines, LineWriter::new().map_err(Error::Codec)?);
        let pieces = full.finish().map_err(Error::Codec)?.into_vec();
        let plain = Plain::of_pieces(&pieces);
        let number = self.parts.len() as u32 + 1;
        let repository = self.backups.repository();
        let body = repository.seal(pieces, |_| plain)?;
        repository.put_own(&self.backups.section().manifest_part(&self.label, number), &body).await?;
        self.parts.push(ManifestPart { bytes: plain.length, digest: plain.digest });
        Ok(())
    }

    /// Puts the manifest: from then on the backup exists. Every pack must be durable before (R9).
    ///
    /// Label, numbers of files, folders, links and bytes, and the parts are filled in here.
    pub async fn finish(self, head: ManifestHead) -> Result<ManifestHead> {
        let Totals { stored_bytes, packs, .. } = head.totals;
        let totals = Totals { stored_bytes, packs, ..self.totals };
        let head = ManifestHead { label: self.label.clone(), totals, parts: self.parts, ..head };
        let lines = self.lines.finish().map_err(Error::Codec)?.into_vec();
        let Plain { length: bytes, digest } = Plain::of_pieces(&lines);
        let stored = StoredHead { head, lines: ManifestPart { bytes, digest } };
        let json = serde_json::to_vec(&stored).map_err(|error| Error::Codec(error.into()))?;
        if json.len() > MAX_HEAD_BYTES / 2 {
            return Err(Error::Refused {
                what: format!("the manifest of {}", self.label),
                reason: format!("its head has {} bytes", json.len()),
                hint: "this is a fault of the program: report it",
            });
        }
        let mut pieces = vec![write_skippable(&json).into()];
        pieces.extend(lines);
        let repository = self.backups.repository();
        let body = repository.seal(pieces, Plain::of_pieces)?;
        repository.put_own(&self.backups.section().manifest(&self.label), &body).await?;
        Ok(stored.head)
    }
}
